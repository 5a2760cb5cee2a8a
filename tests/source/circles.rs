//! Which file takes names from which, and the circles among them.
//!
//! A name counts for the file that defines it: one that a `mod.rs` only passes on counts for the file behind it. Modules
//! inside a file (`mod tests { … }`) and files of tests take no part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::Source;

/// Files that take names from each other, however long the way round.
pub type Circle = BTreeSet<PathBuf>;

/// A `use` declaration, with what it brings in.
const USE: &str = r"\buse\s+([^;]+);";

/// Every circle among these files.
pub fn circles(sources: &[Source]) -> Vec<Circle> {
    let imports = Modules::new(sources).imports();
    let reached: BTreeMap<&Path, BTreeSet<&Path>> = imports.keys().map(|file| (*file, reach(file, &imports))).collect();
    let mut found = BTreeSet::new();
    for (file, others) in &reached {
        let circle: Circle =
            others.iter().filter(|other| reached[*other].contains(file)).map(|other| other.to_path_buf()).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// All that a file takes names from, directly or by way of others.
fn reach<'a>(from: &'a Path, imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> BTreeSet<&'a Path> {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
    while let Some(file) = waiting.pop() {
        for next in imports.get(file).into_iter().flatten() {
            if seen.insert(*next) {
                waiting.push(next);
            }
        }
    }
    seen
}

/// The modules of a crate that are files, by their path from its root: `["os", "net", "diag"]`.
struct Modules<'a> {
    files: BTreeMap<Vec<String>, Module<'a>>,
}

struct Module<'a> {
    file: &'a Path,
    /// Its code without comments, strings, `use` declarations and modules inside it.
    code: String,
    /// What it brings in by `use`: the name it has here, and the path it stands for.
    uses: Vec<(String, Vec<String>)>,
}

impl<'a> Modules<'a> {
    fn new(sources: &'a [Source]) -> Modules<'a> {
        let of_program = |source: &&Source| {
            let in_test = source.path.iter().any(|part| part == "tests" || part == "tests.rs");
            source.path.starts_with("src") && !source.path.starts_with("src/worker") && !in_test
        };
        let module = |source: &'a Source| {
            let code = without_inner_modules(&source.code);
            let uses = uses(&code);
            let code = Regex::new(USE).unwrap().replace_all(&code, ";").into_owned();
            (module_path(&source.path), Module { file: &source.path, code, uses })
        };
        Modules { files: sources.iter().filter(of_program).map(module).collect() }
    }

    fn imports(&self) -> BTreeMap<&'a Path, BTreeSet<&'a Path>> {
        let written = Regex::new(r"\b(?:(?:crate|self|super)(?:::\w+)+|[a-z]\w*(?:::\w+)+)").unwrap();
        let mut imports = BTreeMap::new();
        for (at, module) in &self.files {
            let in_code = written.find_iter(&module.code).map(|path| split(path.as_str()));
            let paths = module.uses.iter().map(|(_, path)| path.clone()).chain(in_code);
            let defined_in = paths.filter_map(|path| self.file_of(&self.absolute(at, &path)?, 0));
            imports.insert(module.file, defined_in.filter(|file| *file != module.file).collect());
        }
        imports
    }

    /// The path from the root of the crate; `None` for that of another crate.
    fn absolute(&self, at: &[String], path: &[String]) -> Option<Vec<String>> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let (base, rest) = match path.first()?.as_str() {
            "crate" | "pmr" => (&[][..], &path[1..]),
            "self" => (at, &path[1..]),
            "super" => (&at[..at.len().checked_sub(ups)?], &path[ups..]),
            child if self.files.contains_key(&[at, &[child.to_owned()]].concat()) => (at, path),
            _ => return None,
        };
        Some([base, rest].concat())
    }

    /// The file that defines what has this path.
    fn file_of(&self, path: &[String], steps: u32) -> Option<&'a Path> {
        let longest = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let (at, rest) = path.split_at(longest);
        let module = &self.files[at];
        let passed_on = rest.first().and_then(|name| module.uses.iter().find(|(known, _)| known == name));
        match passed_on {
            // A name that modules re-export in a circle has no defining file.
            Some(_) if steps > 16 => None,
            Some((_, behind)) => {
                let behind = self.absolute(at, behind)?;
                self.file_of(&[&behind[..], &rest[1..]].concat(), steps + 1)
            }
            None => Some(module.file),
        }
    }
}

fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let mut parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib")) {
        parts.pop();
    }
    parts
}

fn split(path: &str) -> Vec<String> {
    path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// The code with `mod name { … }` blanked out.
fn without_inner_modules(code: &str) -> String {
    let begin = Regex::new(r"\bmod\s+\w+\s*\{").unwrap();
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(found) = begin.find_at(&code, from) {
        let mut depth = 0;
        let length = code[found.start()..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (c == '}' && depth == 0).then_some(at + 1)
        });
        let end = found.start() + length.unwrap_or(code.len() - found.start());
        code.replace_range(found.start()..end, &" ".repeat(end - found.start()));
        from = end;
    }
    code
}

/// All names that `use` declarations bring in, and what they stand for.
fn uses(code: &str) -> Vec<(String, Vec<String>)> {
    let declaration = Regex::new(USE).unwrap();
    let mut found = Vec::new();
    for tree in declaration.captures_iter(code) {
        expand(&[], &tree[1], &mut found);
    }
    found
}

fn expand(prefix: &[String], tree: &str, found: &mut Vec<(String, Vec<String>)>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let prefix = [prefix, &split(head)].concat();
        let group = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
        items(group).into_iter().for_each(|item| expand(&prefix, item, found));
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path = [prefix, &split(path)].concat();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self" || last == "*") {
        path.pop();
    }
    if let Some(last) = path.last() {
        found.push((alias.unwrap_or(last).to_owned(), path));
    }
}

/// The items of a group, split at commas outside inner groups.
fn items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            found.push(&group[start..at]);
            start = at + 1;
        }
    }
    found.push(&group[start..]);
    found.into_iter().filter(|item| !item.trim().is_empty()).collect()
}
