//! The files that an agent's program cannot run without, where its view hides all else around them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use super::{Holds, Layout, Shown};

impl Layout {
    /// Shows a program that lies where all else is hidden, and what it cannot run without: the files that symlinks lead
    /// to, the interpreter that it names, the packages beside a module of Node.js and the environment of one of Python.
    /// Nothing that lies where an agent may write is followed.
    pub(super) fn program(&mut self, program: &Path, hops: usize) {
        let mut path = program.to_owned();
        for _ in 0..hops {
            if self.holds(&path) == Holds::Written {
                return;
            }
            let Ok(found) = fs::symlink_metadata(&path) else { return };
            if !found.is_symlink() {
                break;
            }
            let Ok(target) = fs::read_link(&path) else { return };
            let next = match target.is_absolute() {
                true => plain(&target),
                false => plain(&path.parent().unwrap_or(Path::new("/")).join(&target)),
            };
            if self.holds(&path) == Holds::Empty {
                self.links.insert(path, target);
            }
            path = next;
        }
        // Directories on the way may be symlinks.
        let Ok(real) = fs::canonicalize(&path) else { return };
        if self.holds(&real) == Holds::Written || !real.is_file() {
            return;
        }
        if self.holds(&real) == Holds::Empty {
            for place in around(&real) {
                self.shown.entry(place).or_insert(Shown { written: false, held: None });
            }
        }
        if let Some(interpreter) = interpreter(&real).filter(|_| hops > 0) {
            self.program(&interpreter, hops - 1);
        }
    }
}

/// Without `.` and `..`, by the letters alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Directories that belong to a program beside its own file.
fn around(program: &Path) -> Vec<PathBuf> {
    let is_modules = |path: &&Path| path.file_name().is_some_and(|name| name == "node_modules");
    if let Some(modules) = program.ancestors().filter(is_modules).last() {
        let prefix = modules.parent().filter(|lib| lib.file_name().is_some_and(|name| name == "lib"));
        let bin = prefix.and_then(Path::parent).map(|prefix| prefix.join("bin")).filter(|bin| bin.is_dir());
        return [modules.to_owned()].into_iter().chain(bin).collect();
    }
    let environment =
        program.parent().and_then(Path::parent).filter(|above| above.join("pyvenv.cfg").is_file());
    vec![environment.unwrap_or(program).to_owned()]
}

/// The interpreter that a script names in its first line.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut line = String::new();
    BufReader::new(fs::File::open(program).ok()?.take(256)).read_line(&mut line).ok()?;
    let path = PathBuf::from(line.strip_prefix("#!")?.split_whitespace().next()?);
    path.is_absolute().then(|| plain(&path))
}
