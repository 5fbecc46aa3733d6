//! One source file as its tokens show it: lines, functions, modules, names and paths.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A path from the crate's root, or the path of a file: its parts.
pub type Parts = Vec<String>;

/// One function, wherever it stands.
pub struct Function {
    pub name: String,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

/// One `mod name;`.
pub struct Child {
    /// The inline modules around the declaration.
    pub inside: Parts,
    pub name: String,
    /// The value of `#[path]`.
    pub at: Option<String>,
    pub is_test: bool,
}

/// One path that the code names, by `use` or in place.
pub struct Named {
    /// The inline modules around the path.
    pub inside: Parts,
    pub path: Parts,
    /// The name that a `use` at module level gives to the path; `*` for a glob.
    pub binds: Option<String>,
}

/// The content of one file.
#[derive(Default)]
pub struct Source {
    pub lines: usize,
    /// Lines of `//!` at the top.
    pub opening: usize,
    pub functions: Vec<Function>,
    pub children: Vec<Child>,
    /// Paths outside of tests.
    pub named: Vec<Named>,
    /// Identifiers outside of tests.
    pub words: BTreeSet<String>,
    /// Items at module level, with the inline modules around each.
    pub items: BTreeSet<Parts>,
    /// Inline modules.
    pub inline: BTreeSet<Parts>,
}

impl Source {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut source = Self {
            lines: text.lines().count(),
            opening: text.lines().take_while(|line| line.starts_with("//!")).count(),
            ..Self::default()
        };
        source.walk(tokens, &Around::default());
        source
    }

    fn walk(&mut self, tokens: TokenStream, around: &Around) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut next = Attributes::default();
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            at += match rest {
                [TokenTree::Punct(hash), TokenTree::Group(group), ..] if hash.as_char() == '#' => {
                    next.read(group);
                    2
                }
                [TokenTree::Ident(word), ..] => self.word(&word.to_string(), rest, around, &mut next),
                [TokenTree::Group(group), ..] => {
                    self.walk(group.stream(), &around.within(&next));
                    if group.delimiter() == Delimiter::Brace {
                        next = Attributes::default();
                    }
                    1
                }
                [TokenTree::Punct(end), ..] if matches!(end.as_char(), ';' | ',') => {
                    next = Attributes::default();
                    1
                }
                _ => 1,
            };
        }
    }

    /// Read what begins with this word. Returns how many tokens that takes.
    fn word(&mut self, word: &str, rest: &[TokenTree], around: &Around, next: &mut Attributes) -> usize {
        let is_test = around.is_test || next.is_test;
        match (word, &rest[1..]) {
            ("use", [TokenTree::Ident(_), ..] | [TokenTree::Punct(_), TokenTree::Punct(_), ..]) => {
                let end = rest.iter().position(|token| is(token, ';')).map_or(rest.len(), |end| end + 1);
                if let (false, Ok(item)) = (is_test, syn::parse2(rest[..end].iter().cloned().collect())) {
                    let item: syn::ItemUse = item;
                    self.uses(&item.tree, &Parts::new(), around);
                }
                *next = Attributes::default();
                return end;
            }
            ("mod", [TokenTree::Ident(name), TokenTree::Group(body), ..]) => {
                let mut around = around.within(next);
                self.items.insert(joined(&around.inside, &name.to_string()));
                around.inside.push(name.to_string());
                around.is_module = true;
                self.inline.insert(around.inside.clone());
                self.walk(body.stream(), &around);
                *next = Attributes::default();
                return 3;
            }
            ("mod", [TokenTree::Ident(name), end, ..]) if is(end, ';') => {
                let attributes = std::mem::take(next);
                self.children.push(Child {
                    inside: around.inside.clone(),
                    name: name.to_string(),
                    at: attributes.path,
                    is_test,
                });
                return 3;
            }
            ("pub", [TokenTree::Group(group), ..]) if group.delimiter() == Delimiter::Parenthesis => {
                return 2;
            }
            ("fn", [TokenTree::Ident(name), ..]) => self.function(&name.to_string(), rest),
            _ => {}
        }
        let declares = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];
        if let (true, true, Some(TokenTree::Ident(name))) =
            (around.is_module, declares.contains(&word), rest.get(1))
        {
            self.items.insert(joined(&around.inside, &name.to_string()));
        }
        let path = path_at(rest);
        if !is_test {
            self.words.extend(path.iter().cloned());
            if path.len() > 1 {
                self.named.push(Named { inside: around.inside.clone(), path: path.clone(), binds: None });
            }
        }
        1 + 3 * (path.len() - 1)
    }

    fn function(&mut self, name: &str, rest: &[TokenTree]) {
        let body = rest.iter().take_while(|token| !is(token, ';')).find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
            _ => None,
        });
        if let Some(body) = body {
            let lines = body.span_close().end().line - rest[0].span().start().line + 1;
            self.functions.push(Function { name: name.to_owned(), lines });
        }
    }

    fn uses(&mut self, tree: &syn::UseTree, before: &Parts, around: &Around) {
        let mut name = |last: &str, binds: &str| {
            let path = if last == "self" { before.clone() } else { joined(before, last) };
            let binds =
                if binds == "self" { path.last().cloned().unwrap_or_default() } else { binds.to_owned() };
            self.words.extend(path.iter().cloned());
            let binds = around.is_module.then_some(binds);
            self.named.push(Named { inside: around.inside.clone(), path, binds });
        };
        match tree {
            syn::UseTree::Name(one) => name(&one.ident.to_string(), &one.ident.to_string()),
            syn::UseTree::Rename(one) => name(&one.ident.to_string(), &one.rename.to_string()),
            syn::UseTree::Glob(_) => name("self", "*"),
            syn::UseTree::Path(path) => {
                self.uses(&path.tree, &joined(before, &path.ident.to_string()), around);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.uses(tree, before, around);
                }
            }
        }
    }
}

/// Where a token stands.
#[derive(Clone)]
struct Around {
    inside: Parts,
    is_test: bool,
    /// Directly in a module, not in a function, an `impl` or a type.
    is_module: bool,
}

impl Default for Around {
    fn default() -> Self {
        Self { inside: Parts::new(), is_test: false, is_module: true }
    }
}

impl Around {
    fn within(&self, next: &Attributes) -> Self {
        Self { inside: self.inside.clone(), is_test: self.is_test || next.is_test, is_module: false }
    }
}

/// The attributes of the item that follows.
#[derive(Default)]
struct Attributes {
    is_test: bool,
    path: Option<String>,
}

impl Attributes {
    fn read(&mut self, group: &Group) {
        let text = group.stream().to_string();
        if text.starts_with("cfg") && text.contains("test") && !text.contains("not") {
            self.is_test = true;
        }
        if let Some(value) = text.strip_prefix("path = ") {
            self.path = Some(value.trim_matches('"').to_owned());
        }
    }
}

/// The path that begins here: one part, or more with `::` between.
fn path_at(tokens: &[TokenTree]) -> Parts {
    let mut path = Parts::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(part), after @ ..] = rest {
        path.push(part.to_string());
        match after {
            [one, two, after @ ..] if is(one, ':') && is(two, ':') => rest = after,
            _ => break,
        }
    }
    path
}

fn is(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

pub fn joined(path: &[String], last: &str) -> Parts {
    path.iter().cloned().chain([last.to_owned()]).collect()
}
