//! Hints for a person whose agent fails in a sandbox: the sandbox's name, and the path to grant if the agent's own
//! words show one. The words are the agent's: the hint is a guess, and kennel decides nothing by it.

use std::path::{Path, PathBuf};

use protocol::{Sandbox, Walls};

use super::sandbox::EMPTY;

/// Words by which systems and languages report that a program may not use a file.
const REFUSED: [&str; 7] = [
    "eacces",
    "eperm",
    "erofs",
    "permission denied",
    "read-only file system",
    "operation not permitted",
    "not writable",
];
/// Words by which they report that a file does not exist, as hidden files seem not to.
const MISSING: [&str; 4] = ["enoent", "no such file", "nonexistent", "not found"];
/// Characters that end a path in a message.
const ENDS: [char; 11] = [' ', '\t', '\'', '"', '`', ')', ']', ',', ';', ':', '\u{2019}'];
/// The longest path that is repeated, in bytes.
const LONGEST: usize = 300;
/// Directories below the home directory that programs share: the state of one is a directory in them.
const SHARED: [&str; 4] = [".config", ".cache", ".local/share", ".local/state"];

/// Suffix for the reason of a failure: the sandbox's name, and what the sandbox refused if one of the `texts` shows it.
pub fn about(walls: &Walls, workdir: &str, home: Option<&str>, texts: &[&str]) -> String {
    let name = walls.sandbox.name();
    match texts.iter().find_map(|text| refused(walls, workdir, home, text)) {
        Some(hint) => format!("; its sandbox is `{name}`, which {hint}"),
        None => format!("; its sandbox is `{name}`"),
    }
}

/// Describes what the sandbox refused and how to grant it; `None` if the text shows no refusal.
pub fn refused(walls: &Walls, workdir: &str, home: Option<&str>, text: &str) -> Option<String> {
    let home = home.filter(|home| home.len() > 1).map(Path::new);
    text.lines().find_map(|line| {
        let line = &plain(line);
        let small = line.to_lowercase();
        let is_refusal = REFUSED.iter().any(|word| small.contains(word));
        let is_missing = MISSING.iter().any(|word| small.contains(word));
        if !is_refusal && !is_missing {
            return None;
        }
        // The last one: many a shell names its script first.
        let place = paths(line, home).filter(|path| match is_refusal {
            true => !is_granted(walls, workdir, path),
            false => is_hidden(walls, workdir, home, path),
        });
        let place = place.last()?;
        let shown = granted_for(&place, home);
        let line = format!("sandbox_write = [\"{shown}\"]");
        Some(format!("refuses {}: write `{line}` into its profile, and start a new session", place.display()))
    })
}

/// Removes control sequences (ECMA-48), such as colours, and replaces other control characters with spaces.
///
/// By hand: the crates for this (`vte`, `anstyle-parse`) belong to the manager, and the worker stays small. The result is a guess for
/// a person, on which nothing depends.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.as_str().starts_with('[') => {
                rest.next();
                rest.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
            }
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

/// The absolute paths in a line; `~` is the home directory.
fn paths<'a>(line: &'a str, home: Option<&'a Path>) -> impl Iterator<Item = PathBuf> + 'a {
    let begins = move |at: usize| {
        line[..at].chars().next_back().is_none_or(|c| ENDS.contains(&c) || "([=\u{2018}".contains(c))
    };
    let starts = line.char_indices().filter(move |(at, c)| matches!(c, '/' | '~') && begins(*at));
    starts.filter_map(move |(at, first)| {
        let rest = &line[at..];
        let path = rest[..rest.find(ENDS).unwrap_or(rest.len())].trim_end_matches(['.', '/']);
        let path = match first {
            '~' => home?.join(path.strip_prefix("~/")?),
            _ => PathBuf::from(path),
        };
        // A profile cannot name a path with a backslash as it stands.
        let text = path.to_string_lossy();
        let plain = path.components().count() > 1 && !text.contains("/..") && !text.contains('\\');
        (plain && path.as_os_str().len() <= LONGEST).then_some(path)
    })
}

fn is_below(path: &Path, places: &[String]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn is_granted(walls: &Walls, workdir: &str, path: &Path) -> bool {
    let kernels = ["/dev", "/proc", "/sys"].iter().any(|place| path.starts_with(place));
    let own = EMPTY.iter().any(|place| path.starts_with(place)) && !path.starts_with("/run");
    kernels || own || path.starts_with(workdir) || is_below(path, &walls.writable)
}

fn is_hidden(walls: &Walls, workdir: &str, home: Option<&Path>, path: &Path) -> bool {
    let empty = walls.sandbox == Sandbox::Strict && home.is_some_and(|home| path.starts_with(home));
    let shown =
        path.starts_with(workdir) || is_below(path, &walls.writable) || is_below(path, &walls.readable);
    (empty || is_below(path, &walls.hidden)) && !shown
}

/// The path to grant so that a program can use `path`: the state directory of that program, as a profile writes it.
fn granted_for(path: &Path, home: Option<&Path>) -> String {
    let Some(below) = home.and_then(|home| path.strip_prefix(home).ok()) else {
        // A file that is to be made needs its directory.
        let directory = path.parent().filter(|parent| parent.components().count() > 1);
        return directory.unwrap_or(path).display().to_string();
    };
    let shared = SHARED.iter().find(|shared| below.starts_with(shared));
    let depth = shared.map_or(0, |shared| Path::new(shared).components().count()) + 1;
    let state: PathBuf = below.components().take(depth).collect();
    format!("~/{}", state.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walls(sandbox: Sandbox) -> Walls {
        Walls {
            sandbox,
            writable: vec!["/home/me/.codex".into()],
            hidden: vec!["/home/me/.ssh".into()],
            ..Walls::default()
        }
    }

    fn said(sandbox: Sandbox, text: &str) -> Option<String> {
        refused(&walls(sandbox), "/home/me/work", Some("/home/me"), text)
    }

    #[test]
    fn what_an_agent_was_refused_is_named_with_what_grants_it() {
        for (text, grants) in [
            ("touch: cannot touch '/home/me/.mine/log': Read-only file system", "~/.mine"),
            ("Error: EROFS: read-only file system, mkdir '/home/me/.mine'", "~/.mine"),
            (
                "warning\nError: EACCES: permission denied, open \"/home/me/.config/mine/a.json\"",
                "~/.config/mine",
            ),
            (
                "PermissionError: [Errno 13] Permission denied: '/home/me/.local/share/mine/db'",
                "~/.local/share/mine",
            ),
            ("mkdir ~/.mine/logs: read-only file system (os error 30)", "~/.mine"),
            ("open /srv/cache/x: permission denied", "/srv/cache"),
            ("/opt/bin/a: 2: cannot create /home/me/.mine/x: Read-only file system", "~/.mine"),
            (
                "mkdir: cannot create directory \u{2018}/home/me/.mine\u{2019}: Read-only file system",
                "~/.mine",
            ),
            ("cat: /home/me/.ssh/id: No such file or directory", "~/.ssh"),
            ("\u{1b}[31m/home/me/.mine: Permission denied\u{1b}[0m", "~/.mine"),
            ("EROFS: read-only file system, mkdir /home/me/.mine\u{1b}[0m", "~/.mine"),
        ] {
            let hint = said(Sandbox::Workdir, text).unwrap_or_else(|| panic!("{text}"));
            assert!(hint.contains(&format!("sandbox_write = [\"{grants}\"]")), "{text}: {hint}");
        }
        assert_eq!(said(Sandbox::Workdir, "EROFS: mkdir /home/me/.mine\\x"), None, "no TOML");
        let hint = said(Sandbox::Strict, "ENOENT: no such file or directory, open '/home/me/.mine/a'");
        assert!(hint.is_some_and(|hint| hint.contains("~/.mine")));
    }

    #[test]
    fn what_no_sandbox_has_refused_is_not_laid_on_it() {
        for text in [
            "",
            "no such file or directory: /usr/lib/x",
            "/home/me/.codex/log: permission denied",
            "/home/me/work/a: Permission denied",
            "/tmp/x: Operation not permitted",
            "connect: permission denied",
            "401 /v1/responses",
            "EACCES /",
            "EACCES ~",
            "ENOENT /home/me/.mine",
            "\u{e4}/\u{e4} EACCES",
        ] {
            assert_eq!(said(Sandbox::Workdir, text), None, "{text}");
        }
        let long = format!("EACCES /{}", "x".repeat(10_000));
        assert_eq!(said(Sandbox::Workdir, &long), None);
        let name = about(&walls(Sandbox::Workdir), "/w", None, &["nothing"]);
        assert_eq!(name, "; its sandbox is `workdir`");
    }
}
