//! The page about security claims nothing that no test shows: each of its claims names tests, and they exist.

use std::path::Path;

/// Append the sources in this directory and below it.
fn read(directory: &Path, into: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        match path.extension() {
            _ if path.is_dir() && entry.file_name() != "target" => read(&path, into),
            Some(kind) if kind == "rs" => into.push_str(&std::fs::read_to_string(path).unwrap()),
            _ => {}
        }
    }
}

/// The sources of all members.
fn sources() -> String {
    let root = root();
    let mut all = String::new();
    for member in ["protocol", "manager", "session-worker", "tests"] {
        read(&root.join(member), &mut all);
    }
    all
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the texts between two marks.
fn between<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).step_by(2)
}

#[test]
fn each_wall_of_the_security_page_names_tests_that_are_there() {
    let page = std::fs::read_to_string(root().join("manager/docs/security.md")).unwrap();
    let mut table = String::new();
    read(&root().join("tests/tests/sandbox_matrix/table"), &mut table);
    let sources = sources();
    let walls = page.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 2);
    let mut count = 0;
    for wall in walls.filter(|line| !line.starts_with("| wall ")) {
        count += 1;
        let shown = wall.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let mut named = 0;
        for name in between(shown, "`") {
            named += 1;
            let last = name.rsplit("::").next().unwrap();
            let is_there = match last {
                // All of a module.
                "*" => {
                    let module = name.rsplit("::").nth(1).unwrap();
                    sources.contains(&format!("mod {module};"))
                        || sources.contains(&format!("mod {module} {{"))
                }
                path if path.contains('/') => root().join(path).is_file(),
                test => sources.contains(&format!("fn {test}(")),
            };
            assert!(is_there, "{name} is named and not there: {wall}");
        }
        for group in shown.split("matrix: ").skip(1).flat_map(|groups| between(groups, "*")) {
            named += 1;
            assert!(table.contains(&format!("\"{group}: ")), "no row begins with {group}: {wall}");
        }
        assert!(named > 0, "no test is named: {wall}");
    }
    assert!(count > 30, "{count} walls");
}
