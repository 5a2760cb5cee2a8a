//! The walks of the architecture page: numbered steps, each of which opens with a file and names what happens there. A
//! name that is not in the sources any more is found.

use std::path::Path;

use super::Source;

/// What the steps on this page name and the sources do not have. A function or field must be in the file of its step, a
/// type or variant anywhere.
pub fn stale_names(page: &str, sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for step in steps(page) {
        let mut names = step.split('`').skip(1).step_by(2);
        let Some(file) = names.next() else {
            found.push(format!("no file in the step `{step}`"));
            continue;
        };
        let Some(source) = sources.iter().find(|source| source.path == Path::new("src").join(file)) else {
            found.push(format!("there is no src/{file}"));
            continue;
        };
        for name in names.filter(|name| name.chars().all(|c| c.is_alphanumeric() || "_:".contains(c))) {
            for part in name.split("::") {
                let is_there = |source: &Source| source.lines_with(part).next().is_some();
                let of_type = part.starts_with(char::is_uppercase);
                if !(if of_type { sources.iter().any(is_there) } else { is_there(source) }) {
                    found.push(format!("`{name}` is not in src/{file}"));
                }
            }
        }
    }
    found
}

/// The numbered items in the `//!` lines, each as one line.
fn steps(page: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page.lines().map_while(|line| line.strip_prefix("//!")) {
        let text = line.trim_start();
        let number = text.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        inside = number || (inside && line.starts_with("    "));
        if number {
            steps.push(text.to_owned());
        } else if let (true, Some(step)) = (inside, steps.last_mut()) {
            step.push(' ');
            step.push_str(text);
        }
    }
    steps.retain(|step| step.contains(".rs`"));
    steps
}
