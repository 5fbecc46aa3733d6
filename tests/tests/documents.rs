//! The examples of README.md and the pages work as printed. The test lists the pages' directories, so that a
//! new page is tested without a new line here.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::daemon::finish;
use harness::real::{beside, worker};
use manager::config::Config;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A text in Markdown.
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text }
    }

    /// The fenced blocks, each with its language.
    fn fenced(&self) -> Vec<(String, String)> {
        let mut blocks: Vec<(String, String)> = Vec::new();
        let mut inside = false;
        for line in self.text.lines() {
            match line.strip_prefix("```") {
                Some(language) if !inside => blocks.push((language.to_owned(), String::new())),
                Some(_) => {}
                None if inside => blocks.last_mut().unwrap().1.extend([line, "\n"]),
                None => continue,
            }
            inside = !line.starts_with("```") || !inside;
        }
        assert!(!inside, "{}: a block without an end", self.path.display());
        blocks
    }

    /// The fenced blocks in this language.
    pub fn blocks(&self, language: &str) -> Vec<String> {
        self.fenced().into_iter().filter(|(of, _)| of == language).map(|(_, block)| block).collect()
    }

    /// All lines that are in no fenced block.
    fn prose(&self) -> Vec<&str> {
        let mut inside = false;
        let lines = self.text.lines().filter(|line| {
            inside ^= line.starts_with("```");
            !inside && !line.starts_with("```")
        });
        lines.collect()
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().into_iter().filter(|line| line.starts_with('#'));
        let slug = |heading: &str| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(slug).collect()
    }

    /// Where its links lead that name no other machine.
    fn links(&self) -> Vec<String> {
        let prose = self.prose().join("\n");
        let targets = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
        targets.filter(|target| !target.contains("://")).collect()
    }
}

/// The texts in Markdown of a directory.
fn texts_in(directory: &str) -> Vec<Page> {
    let directory = root().join(directory);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    files.sort();
    files.into_iter().map(Page::read).collect()
}

/// README.md and the pages that it leads to.
pub fn pages() -> Vec<Page> {
    let readme = Page::read(root().join("README.md"));
    std::iter::once(readme).chain(texts_in("manager/docs")).collect()
}

/// These, and all other texts of the tree but generated ones.
fn all_texts() -> Vec<Page> {
    let mut all = pages();
    all.extend(["manager/docs/decisions", "manager/benches", "tests"].into_iter().flat_map(texts_in));
    all.push(Page::read(root().join("CHANGELOG.md")));
    all
}

/// The blocks of all pages in this language, each with the page's name.
fn blocks(language: &str) -> Vec<(String, String)> {
    let of_page = |page: Page| {
        let name = page.path.strip_prefix(root()).unwrap().display().to_string();
        page.blocks(language).into_iter().map(move |block| (name.clone(), block))
    };
    let all: Vec<_> = pages().into_iter().flat_map(of_page).collect();
    assert!(!all.is_empty(), "no page has a block in {language}");
    all
}

#[test]
fn the_library_example_is_a_program_that_builds_and_runs() {
    let source = std::fs::read_to_string(root().join("manager/examples/embed.rs")).unwrap();
    for (page, shown) in blocks("rust") {
        assert!(source.ends_with(&shown), "{page} and manager/examples/embed.rs differ");
    }
    let dir = tempfile::tempdir().unwrap();
    symlink(worker(), dir.path().join("session-worker")).unwrap();
    let mut embed = Command::new(beside("embed"));
    let embed =
        embed.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(embed.spawn().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "hello\n"), "{ran:?}");
}

#[test]
fn each_configuration_that_is_shown_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    };
    for (page, block) in blocks("toml") {
        load(&block).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
        load(&format!("{block}\nnobody_knows = 1\n")).expect_err("it is not looked at");
    }
}

#[test]
fn what_is_shown_as_json_is_json() {
    for (page, block) in blocks("json") {
        let _: Value =
            serde_json::from_str(&block).unwrap_or_else(|error| panic!("{page}: {error}:\n{block}"));
    }
    let editors: Vec<Value> =
        blocks("json").iter().map(|(_, block)| serde_json::from_str(block).unwrap()).collect();
    assert!(editors.iter().any(|shown| shown["agent_servers"].is_object()), "{editors:?}");
}

/// No test would run a block in another language. A command line stands in a console block.
#[test]
fn each_block_is_of_a_kind_that_is_tried() {
    for page in pages() {
        let name = page.path.display();
        for (language, block) in page.fenced() {
            let tried = ["sh", "console", "text", "toml", "json", "rust"].contains(&language.as_str());
            assert!(tried, "{name}: a block in {language:?}");
            let typed = block.lines().filter(|line| line.starts_with("$ ")).count();
            assert!(
                (typed > 0) == (language == "console"),
                "{name}: {typed} lines to type in {language}:\n{block}"
            );
        }
        assert!(!page.prose().iter().any(|line| line.starts_with("$ ")), "{name}: typed outside of a block");
    }
}

#[test]
fn each_link_leads_to_a_file_and_an_anchor_that_are_there() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in all_texts() {
        for link in page.links() {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.path.clone(),
                _ => page.path.parent().unwrap().join(file),
            };
            let there =
                target.exists() && (anchor.is_empty() || Page::read(target).anchors().contains(anchor));
            if !there {
                wrong.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(count > 60, "{count} links");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_readme_leads_to_each_page() {
    let readme = Page::read(root().join("README.md"));
    let links: BTreeSet<String> = readme.links().into_iter().collect();
    for page in texts_in("manager/docs") {
        let path = page.path.strip_prefix(root()).unwrap().display().to_string();
        assert!(links.contains(&path), "README.md has no link to {path}");
    }
}

/// Paths that are named in the texts, like `manager/src/lib.rs`.
#[test]
fn each_path_that_a_text_names_is_there() {
    let members = ["protocol/", "manager/", "session-worker/", "tests/"];
    let mut wrong = Vec::new();
    for page in all_texts().into_iter().filter(|page| !page.path.ends_with("CHANGELOG.md")) {
        let prose = page.prose().join("\n");
        let named = prose.split('`').skip(1).step_by(2).filter(|name| {
            members.iter().any(|member| name.starts_with(member))
                && !name.contains([' ', '*', '{', '('])
                && !name.contains("NNNN")
        });
        // Pages of `tests/` name what lies there from there.
        let here = page.path.parent().unwrap();
        let missing = named.filter(|name| !root().join(name).exists() && !here.join(name).exists());
        wrong.extend(missing.map(|name| format!("{}: {name}", page.path.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
