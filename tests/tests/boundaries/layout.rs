//! The rules of the layout. Each failure names what the rule found.

use std::collections::BTreeSet;
use std::path::Path;

use super::modules::Tree;

const MOST_LINES_OF_A_FILE: usize = 500;
const MOST_LINES_OF_A_FUNCTION: usize = 80;
const MOST_LINES_OF_AN_OPENING: usize = 10;

/// Fails if a rule finds anything, and names it with a remark for people.
fn check(rule: &str, found: &[(String, String)]) {
    let lines: Vec<String> = found.iter().map(|(what, remark)| format!("{what}{remark}")).collect();
    assert!(lines.is_empty(), "{rule}:\n{}", lines.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let tree = Tree::get();
    let long = tree.files.iter().filter(|(_, source)| source.lines > MOST_LINES_OF_A_FILE);
    let found: Vec<_> = long.map(|(file, source)| (file.clone(), format!(" ({})", source.lines))).collect();
    check(&format!("files over {MOST_LINES_OF_A_FILE} lines"), &found);
}

#[test]
fn no_function_is_too_long() {
    let tree = Tree::get();
    let mut found = Vec::new();
    for (file, source) in &tree.files {
        let long = source.functions.iter().filter(|function| function.lines > MOST_LINES_OF_A_FUNCTION);
        found.extend(
            long.map(|function| (format!("{file} {}", function.name), format!(" ({})", function.lines))),
        );
    }
    check(&format!("functions over {MOST_LINES_OF_A_FUNCTION} lines"), &found);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let tree = Tree::get();
    let imports = tree.imports();
    let mut found = Vec::new();
    for circle in tree.circles() {
        let mut remark = String::new();
        for file in &circle {
            let of_it = imports[*file].iter().filter(|other| circle.contains(*other));
            let of_it: Vec<&str> = of_it.map(|other| other.as_str()).collect();
            remark += &format!("\n    {file} imports {}", of_it.join(", "));
        }
        let files: Vec<&str> = circle.iter().map(|file| file.as_str()).collect();
        found.push((files.join(", "), remark));
    }
    check("circles of imports", &found);
}

#[test]
fn each_folder_says_what_lives_there() {
    let tree = Tree::get();
    let mut found = BTreeSet::new();
    for (file, source) in &tree.files {
        let path = Path::new(file);
        let name = path.file_name().unwrap().to_str().unwrap();
        let opens_a_folder =
            name == "mod.rs" || !tree.parents.contains_key(file) && !source.children.is_empty();
        if opens_a_folder && !(1..=MOST_LINES_OF_AN_OPENING).contains(&source.opening) {
            found.insert((file.clone(), format!(" (opens with {} lines)", source.opening)));
        }
        if let Some(parent) = tree.parents.get(file)
            && !["mod.rs", "tests.rs"].contains(&name)
            && Path::new(parent).parent() != path.parent()
        {
            let folder = path.parent().unwrap().display().to_string();
            found.insert((folder, format!(" (no mod.rs, opened by {parent})")));
        }
    }
    let found: Vec<_> = found.into_iter().collect();
    check(&format!("folders that do not open with one to {MOST_LINES_OF_AN_OPENING} lines"), &found);
}
