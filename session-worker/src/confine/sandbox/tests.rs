//! The view of an agent in a sandbox, tested by the arguments for bubblewrap.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::{Granted, Sandbox, Walls};

use super::{bubblewrap, make_beneath, view};

/// A home with some things in it, and a place for work.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        // Not where a sandbox has a directory of its own: there it would show nothing of this.
        let private = |dir: &PathBuf| ["/tmp", "/var/tmp", "/run"].iter().any(|own| dir.starts_with(own));
        let places = [std::env::current_dir().ok(), std::env::var_os("HOME").map(PathBuf::from)];
        let place = places.into_iter().flatten().find(|dir| !private(dir));
        let place = place.expect("neither this checkout nor HOME is outside of /tmp, /var/tmp and /run");
        let home = Self(tempfile::tempdir_in(place).unwrap());
        for below in ["state/worktrees/one", "home/.config/agent", "home/.config/other", "home/open", "work"]
        {
            fs::create_dir_all(home.at(below)).unwrap();
        }
        for below in ["home/.netrc", "home/open/file"] {
            fs::write(home.at(below), "").unwrap();
        }
        std::os::unix::fs::symlink("open", home.at("home/link")).unwrap();
        home
    }

    fn at(&self, below: &str) -> String {
        let root = fs::canonicalize(self.0.path()).unwrap();
        root.join(below).to_str().unwrap().to_owned()
    }

    fn walls(&self) -> Walls {
        Walls {
            sandbox: Sandbox::Workdir,
            program: Some("/usr/bin/bwrap".into()),
            hidden: ["state", "home/.config/other", "home/.ssh", "home/.netrc"]
                .map(|path| self.at(path))
                .into(),
            writable: vec![self.at("home/.config/agent")],
            ..Walls::default()
        }
    }

    fn words(&self, walls: &Walls, workdir: &str) -> Vec<String> {
        let view = view(walls, &self.at(workdir), &["/bin/sh".into()], &[]).unwrap();
        bubblewrap("bwrap", walls.sandbox, &view.steps)
    }
}

fn place(words: &[String], option: &str, path: &str) -> usize {
    let last = |three: &&[String]| match option {
        "--tmpfs" | "--remount-ro" => three[0] == option && three[1] == path,
        _ => three[0] == option && three[2] == path,
    };
    let found = words.windows(3).position(|three| last(&three));
    found.unwrap_or_else(|| panic!("no {option} {path} in {words:?}"))
}

fn has(words: &[String], path: &str) -> bool {
    words.iter().any(|word| word == path)
}

#[test]
fn what_is_hidden_is_left_out_of_its_parent_whether_it_is_there_or_not() {
    let home = Home::new();
    let words = home.words(&home.walls(), "work");
    let divided = place(&words, "--tmpfs", &home.at("home"));
    assert!(divided < place(&words, "--ro-bind-try", &home.at("home/open")));
    assert!(place(&words, "--symlink", &home.at("home/link")) > divided);
    assert!(place(&words, "--remount-ro", &home.at("home")) > place(&words, "--bind", &home.at("work")));
    for hidden in ["home/.ssh", "home/.netrc", "home/.config/other", "state"] {
        assert!(!has(&words, &home.at(hidden)), "{hidden} in {words:?}");
    }
    assert!(
        place(&words, "--bind", &home.at("home/.config/agent"))
            > place(&words, "--tmpfs", &home.at("home/.config"))
    );
    assert!(!has(&words, "--unshare-net"));
}

#[test]
fn the_deeper_path_decides() {
    let home = Home::new();
    let words = home.words(&home.walls(), "state/worktrees/one");
    place(&words, "--bind", &home.at("state/worktrees/one"));
    // Where the agent may write, what is hidden is mounted over, and made if it is not there.
    let walls = Walls { writable: vec![home.at("home")], ..home.walls() };
    let words = home.words(&walls, "work");
    let written = place(&words, "--bind", &home.at("home"));
    for hidden in ["home/.ssh", "home/.config/other"] {
        assert!(place(&words, "--tmpfs", &home.at(hidden)) > written, "{hidden}");
    }
    assert!(place(&words, "--ro-bind", &home.at("home/.netrc")) > written);
    // What it is in cannot be moved away with it.
    place(&words, "--bind", &home.at("home/.config"));
    assert!(Path::new(&home.at("home/.ssh")).is_dir());
}

#[test]
fn what_is_made_to_be_hidden_is_made_beneath_what_is_granted_whatever_the_agent_puts_there() {
    let home = Home::new();
    fs::create_dir(home.at("elsewhere")).unwrap();
    std::os::unix::fs::symlink(home.at("elsewhere"), home.at("home/way")).unwrap();
    let there = home.at("home");
    assert!(make_beneath(Path::new(&there), Path::new("way/made")).is_err());
    assert!(!Path::new(&home.at("elsewhere/made")).exists());
    make_beneath(Path::new(&there), Path::new("a/b")).unwrap();
    assert!(Path::new(&home.at("home/a/b")).is_dir());
}

#[test]
fn an_empty_home_shows_what_is_granted_and_what_the_program_needs() {
    let home = Home::new();
    for directory in ["home/bin", "home/n/bin", "home/n/lib/node_modules/a", "home/venv/bin"] {
        fs::create_dir_all(home.at(directory)).unwrap();
    }
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, home.at(at)).unwrap();
    fs::write(home.at("home/n/lib/node_modules/a/cli.js"), "#!/usr/bin/env node\n").unwrap();
    fs::write(home.at("home/venv/pyvenv.cfg"), "").unwrap();
    fs::write(home.at("home/venv/bin/python"), "").unwrap();
    fs::write(home.at("home/venv/bin/tool"), format!("#!{}\n", home.at("home/venv/bin/python"))).unwrap();
    fs::write(home.at("home/bin/alone"), "").unwrap();
    link("../lib/node_modules/a/cli.js", "home/n/bin/a");
    let walls = Walls { home: Some(home.at("home")), sandbox: Sandbox::Strict, ..home.walls() };
    let shown = |program: &str| {
        let view = view(&walls, &home.at("work"), &[home.at(program)], &[]).unwrap();
        bubblewrap("bwrap", walls.sandbox, &view.steps)
    };
    let node = shown("home/n/bin/a");
    for place_of in ["home/n/bin", "home/n/lib/node_modules"] {
        place(&node, "--ro-bind-try", &home.at(place_of));
    }
    place(&shown("home/venv/bin/tool"), "--ro-bind-try", &home.at("home/venv"));
    let alone = shown("home/bin/alone");
    place(&alone, "--ro-bind-try", &home.at("home/bin/alone"));
    for hidden in ["home/open", "home/bin", "home/link"] {
        assert!(!has(&alone, &home.at(hidden)), "{hidden}");
    }
    place(&alone, "--bind", &home.at("home/.config/agent"));
}

#[test]
fn a_program_that_the_agent_can_exchange_shows_nothing_by_its_symlinks() {
    let home = Home::new();
    fs::create_dir_all(home.at("home/.ssh")).unwrap();
    fs::write(home.at("home/.ssh/key"), "").unwrap();
    std::os::unix::fs::symlink(home.at("home/.ssh/key"), home.at("work/agent")).unwrap();
    let walls = Walls { home: Some(home.at("home")), ..home.walls() };
    let view = view(&walls, &home.at("work"), &[home.at("work/agent")], &[]).unwrap();
    let words = bubblewrap("bwrap", walls.sandbox, &view.steps);
    assert!(!words.iter().any(|word| word.contains(".ssh")), "{words:?}");
}

#[test]
fn a_granted_place_that_was_exchanged_is_refused_with_the_reason() {
    let home = Home::new();
    let granted = |path: &str| Granted::of(home.at(path), &fs::metadata(home.at(path)).unwrap());
    let walls = Walls { granted: vec![granted("work"), granted("home/.config/agent")], ..home.walls() };
    let tried = || view(&walls, &home.at("work"), &["/bin/sh".into()], &[]).map(drop);
    assert_eq!(tried(), Ok(()));
    fs::rename(home.at("work"), home.at("elsewhere")).unwrap();
    std::os::unix::fs::symlink("home", home.at("work")).unwrap();
    assert!(tried().unwrap_err().contains("there is a symlink in its path now"));
    fs::remove_file(home.at("work")).unwrap();
    fs::create_dir(home.at("work")).unwrap();
    assert!(tried().unwrap_err().contains("another directory is there now"));
    fs::remove_dir(home.at("work")).unwrap();
    assert!(tried().unwrap_err().contains("cannot enter the working directory"));
    fs::rename(home.at("elsewhere"), home.at("work")).unwrap();
    // What was granted and is gone is not granted.
    fs::remove_dir(home.at("home/.config/agent")).unwrap();
    assert_eq!(tried(), Ok(()));
}
