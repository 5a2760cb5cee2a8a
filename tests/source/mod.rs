//! Rust sources as text: without comments and strings, with the paths they import.

pub mod circles;
pub mod walks;

use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file.
pub struct Source {
    /// From the root of the crate.
    pub path: PathBuf,
    /// As it is.
    pub text: String,
    /// With comments and the insides of strings blanked out; the lines are the same.
    code: String,
}

/// All `.rs` files in these folders.
pub fn all_under(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source::new(path.strip_prefix(root).unwrap(), &text));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    pub fn new(path: impl AsRef<Path>, text: &str) -> Source {
        Source { path: path.as_ref().to_owned(), text: text.to_owned(), code: blank_out(text) }
    }

    /// Its top-level module; `None` for the roots and for tests of the whole.
    pub fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src").ok()?;
        let first = inside.iter().next()?.to_str()?;
        let layer = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(layer, "main" | "lib")).then_some(layer)
    }

    /// True for files that hold tests and nothing else.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests") || self.path.file_stem().is_some_and(|stem| stem == "tests")
    }

    /// The `//!` lines at the top.
    pub fn head(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }

    /// Lines of code with `wanted` standing alone: not in comments or strings, nor as a part of a longer word. A path
    /// like `std::fs` is also found in `use std::{fs, io}`.
    pub fn lines_with<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = usize> + 'a {
        let whole = words_in(&self.code, wanted).map(|at| at.start);
        let grouped =
            wanted.split_once("::").filter(|(_, last)| !last.is_empty()).into_iter().flat_map(|(root, last)| {
                self.heads_of(root).into_iter().filter(move |(_, name)| name == last).map(|(at, _)| at)
            });
        let mut places: Vec<usize> = whole.chain(grouped).collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|at| self.line_of(at))
    }

    /// The top-level modules it names through `crate::`, `pmr::` or `super::`, and the lines; `worker` for any of that
    /// crate.
    pub fn imports(&self) -> Vec<(usize, String)> {
        let lines =
            |found: Vec<(usize, String)>| found.into_iter().map(|(at, name)| (self.line_of(at), name)).collect();
        if self.path.starts_with("src/worker") {
            return lines(self.heads_of("pmr"));
        }
        let mut found: Vec<_> = ["crate", "pmr"].into_iter().flat_map(|root| self.heads_of(root)).collect();
        found.extend(words_in(&self.code, "pmr_worker").map(|place| (place.start, "worker".to_owned())));
        let up = "super::".repeat(self.depth());
        // As many steps up as lead to the root, and no more.
        let at_root = |at: usize| !self.code[..at].ends_with("super::");
        let supers = self.heads_of(up.trim_end_matches("::"));
        found.extend(supers.into_iter().filter(|(at, _)| at_root(*at)));
        lines(found)
    }

    /// The names that follow this path directly, and the lines.
    pub fn named_in(&self, path: &str) -> Vec<(usize, String)> {
        self.heads_of(path).into_iter().map(|(at, name)| (self.line_of(at), name)).collect()
    }

    /// How many modules deep it is: 1 for `src/logs/mod.rs`.
    fn depth(&self) -> usize {
        let folders = self.path.iter().count().saturating_sub(2);
        if self.path.file_name().is_some_and(|name| name == "mod.rs") { folders } else { folders + 1 }
    }

    /// The names that follow `root::` directly, grouped ones included, and where they stand.
    fn heads_of(&self, root: &str) -> Vec<(usize, String)> {
        let start = format!("{root}::");
        let mut found = Vec::new();
        for place in words_in(&self.code, &start) {
            let rest = &self.code[place.end..];
            match rest.trim_start().strip_prefix('{') {
                Some(group) => {
                    let offset = self.code.len() - group.len();
                    found.extend(heads_of_group(group).into_iter().map(|(at, name)| (offset + at, name)));
                }
                None => found.push((place.start, leading_name(rest))),
            }
        }
        found
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }
}

/// Where `wanted` stands in `code` and is no part of a longer word.
fn words_in<'a>(code: &'a str, wanted: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(wanted).map(|(at, _)| at..at + wanted.len()).filter(move |place| {
        let before = code[..place.start].chars().next_back().is_some_and(part_of_word);
        let ends_in_word = wanted.ends_with(part_of_word);
        let after = ends_in_word && code[place.end..].starts_with(part_of_word);
        !before && !after
    })
}

fn leading_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// First names of the items of a group, given what stands after its `{`.
fn heads_of_group(group: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        let ends_item = depth == 0 && matches!(c, ',' | '}');
        if ends_item {
            let item = &group[start..at];
            found.push((start + item.len() - item.trim_start().len(), leading_name(item)));
            start = at + 1;
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// Replaces comments and the insides of string and character literals by spaces; line breaks stay.
fn blank_out(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_length(rest, code.chars().next_back());
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// Length of the comment or literal at the start of `text`, 0 if there is none.
fn literal_length(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if text.starts_with('r') && !in_word {
        let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
        if text[1 + hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = 2 + hashes;
            return text[body..].find(&close).map_or(text.len(), |end| body + end + close.len());
        }
    }
    match text.as_bytes() {
        [b'"', ..] => quoted_length(text, b'"'),
        // A character, not a lifetime.
        [b'\'', b'\\', ..] => quoted_length(text, b'\''),
        [b'\'', ..] => {
            let width = text[1..].chars().next().map_or(0, char::len_utf8);
            if text[1 + width..].starts_with('\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted_length(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}
