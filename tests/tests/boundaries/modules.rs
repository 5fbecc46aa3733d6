//! All source files of the four members as trees of modules, with the imports between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::source::{Named, Parts, Source, joined};

/// Paths that lead through more re-exports than this are not followed.
const MOST_STEPS: usize = 16;

/// A place in a crate: the crate's root file, and the module's path below it.
type Place = (String, Parts);

/// The source files, by their paths in the repository.
pub struct Tree {
    pub files: BTreeMap<String, Source>,
    /// Each module file's place. A crate's root is there with an empty path.
    places: BTreeMap<String, Place>,
    /// The file of each module; an inline module has its parent's.
    modules: BTreeMap<Place, String>,
    /// The file that declares each module file.
    pub parents: BTreeMap<String, String>,
    /// Files that only tests use.
    tests: BTreeSet<String>,
    /// The target of each `use` at module level, by its place and the name it gives.
    bound: BTreeMap<(Place, String), Vec<Parts>>,
}

impl Tree {
    /// The tree as it stands, read once.
    pub fn get() -> &'static Self {
        static TREE: LazyLock<Tree> = LazyLock::new(Tree::read);
        &TREE
    }

    fn read() -> Self {
        let root = root();
        let mut files = BTreeMap::new();
        let mut left: Vec<PathBuf> =
            ["protocol", "manager", "session-worker", "tests"].iter().map(|at| root.join(at)).collect();
        while let Some(path) = left.pop() {
            if path.is_dir() && !path.ends_with("target") {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                files.insert(name, Source::read(&path));
            }
        }
        let mut tree = Self {
            files,
            places: BTreeMap::new(),
            modules: BTreeMap::new(),
            parents: BTreeMap::new(),
            tests: BTreeSet::new(),
            bound: BTreeMap::new(),
        };
        tree.find_parents();
        let roots: Vec<String> =
            tree.files.keys().filter(|file| !tree.parents.contains_key(*file)).cloned().collect();
        for root in &roots {
            tree.place(root, (root.clone(), Parts::new()));
        }
        tree.bind();
        tree
    }

    fn find_parents(&mut self) {
        let mut found = Vec::new();
        for (file, source) in &self.files {
            for child in &source.children {
                let at = self.child(file, &child.inside, &child.name, child.at.as_deref());
                let at = at.unwrap_or_else(|| panic!("{file} declares {}, and no file is there", child.name));
                found.push((at, file.clone(), child.is_test));
            }
        }
        for (child, parent, is_test) in found {
            if is_test {
                self.tests.insert(child.clone());
            }
            self.parents.insert(child, parent);
        }
    }

    /// The file of a module that this file declares.
    fn child(&self, file: &str, inside: &[String], name: &str, at: Option<&str>) -> Option<String> {
        let path = Path::new(file);
        let folder = path.parent().unwrap();
        if let Some(at) = at {
            return Some(folder.join(at).display().to_string());
        }
        let inside: PathBuf = inside.iter().collect();
        [folder.join(path.file_stem().unwrap()), folder.to_owned()]
            .iter()
            .flat_map(|folder| {
                let folder = folder.join(&inside);
                [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]
            })
            .map(|path| path.display().to_string())
            .find(|path| self.files.contains_key(path))
    }

    /// Give a file its place, and its children theirs.
    fn place(&mut self, file: &str, place: Place) {
        let source = &self.files[file];
        let mut children = Vec::new();
        for child in &source.children {
            let at = self.child(file, &child.inside, &child.name, child.at.as_deref()).unwrap();
            let path = [&place.1[..], &child.inside[..], std::slice::from_ref(&child.name)].concat();
            children.push((at, path));
        }
        let is_test = self.tests.contains(file);
        for inside in &source.inline {
            let path = [&place.1[..], &inside[..]].concat();
            self.modules.insert((place.0.clone(), path), file.to_owned());
        }
        self.modules.insert(place.clone(), file.to_owned());
        for (at, path) in children {
            if is_test {
                self.tests.insert(at.clone());
            }
            self.place(&at, (place.0.clone(), path));
        }
        self.places.insert(file.to_owned(), place);
    }

    fn bind(&mut self) {
        for (file, source) in &self.files {
            let (root, path) = &self.places[file];
            for named in &source.named {
                let Some(binds) = &named.binds else { continue };
                let Some(target) = self.absolute(file, named) else { continue };
                let place = (root.clone(), [&path[..], &named.inside[..]].concat());
                self.bound.entry((place, binds.clone())).or_default().push(target);
            }
        }
    }

    /// A named path from its crate's root; none if it leads to another crate.
    pub fn absolute(&self, file: &str, named: &Named) -> Option<Parts> {
        let (root, path) = &self.places[file];
        let mut at = [&path[..], &named.inside[..]].concat();
        let mut rest = &named.path[..];
        match rest.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            first => {
                let is_module = self.modules.contains_key(&(root.clone(), joined(&at, first)));
                return is_module.then(|| [&at[..], rest].concat());
            }
        }
        while rest.first().is_some_and(|first| first == "super") {
            at.pop();
            rest = &rest[1..];
        }
        Some([&at[..], rest].concat())
    }

    /// The file that defines what a path from a crate's root leads to.
    fn defines(&self, root: &str, path: &[String], steps: usize) -> Option<&String> {
        if steps > MOST_STEPS {
            return None;
        }
        let place = |length: usize| (root.to_owned(), path[..length].to_vec());
        let known = (0..=path.len()).rev().find(|length| self.modules.contains_key(&place(*length)))?;
        let file = &self.modules[&place(known)];
        let Some(name) = path.get(known) else { return Some(file) };
        let inside = path[self.places[file].1.len()..=known].to_vec();
        if self.files[file].items.contains(&inside) {
            return Some(file);
        }
        let follow = |name: &str, rest: &[String]| {
            let targets = self.bound.get(&(place(known), name.to_owned()))?;
            targets.iter().find_map(|target| self.defines(root, &[&target[..], rest].concat(), steps + 1))
        };
        follow(name, &path[known + 1..]).or_else(|| follow("*", &path[known..]))
    }

    /// Returns the files that each file imports, outside of tests. Leaves out imports of the file that declares a module.
    pub fn imports(&self) -> BTreeMap<&String, BTreeSet<&String>> {
        let mut imports: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for (file, source) in self.files.iter().filter(|(file, _)| !self.tests.contains(*file)) {
            let of_it = imports.entry(file).or_default();
            for named in &source.named {
                let Some(path) = self.absolute(file, named) else { continue };
                let Some(target) = self.defines(&self.places[file].0, &path, 0) else { continue };
                if target != file && self.parents.get(file) != Some(target) {
                    of_it.insert(target);
                }
            }
        }
        imports
    }

    /// The groups of files of which each reaches each by imports.
    pub fn circles(&self) -> Vec<Vec<&String>> {
        let imports = self.imports();
        let reach = |from: &String| {
            let mut reached: BTreeSet<&String> = BTreeSet::new();
            let mut left: Vec<&String> = imports.get(from).into_iter().flatten().copied().collect();
            while let Some(file) = left.pop() {
                if reached.insert(file) {
                    left.extend(imports.get(file).into_iter().flatten().copied());
                }
            }
            reached
        };
        let reached: BTreeMap<&String, BTreeSet<&String>> =
            imports.keys().map(|file| (*file, reach(file))).collect();
        let mut circles: Vec<Vec<&String>> = Vec::new();
        for (file, of_it) in reached.iter().filter(|(file, of_it)| of_it.contains(*file)) {
            if !circles.iter().any(|circle| circle.contains(file)) {
                circles.push(of_it.iter().copied().filter(|other| reached[other].contains(file)).collect());
            }
        }
        circles
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
