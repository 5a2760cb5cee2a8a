//! Parses the text of a data file.

use serde_json::Value;

/// The language of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, with JSON5's comments, trailing commas and bare keys.
    Json,
    /// YAML 1.2: `on` and `no` are strings.
    Yaml,
    /// TOML.
    Toml,
}

/// Parses a text. The error has the reason, line and column, and shows the line.
pub fn read_text(format: Format, text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if is_too_deep(text) {
        return Err(format!("it is nested more than {DEEPEST} deep"));
    }
    let value = match format {
        Format::Json => json5::from_str(text).map_err(|error| of_json(&error)),
        Format::Yaml => {
            let options = serde_saphyr::options! { strict_booleans: true };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| of_yaml(&error))
        }
        Format::Toml => match text.parse::<toml::Table>() {
            Ok(table) => Ok(from_toml(toml::Value::Table(table))),
            Err(error) => Err(of_toml(&error, text)),
        },
    };
    value.map_err(|mistake| mistake.show(text))
}

/// A mistake in a text. Lines and columns count from 1, columns in characters.
struct Mistake {
    what: String,
    place: Option<(usize, usize)>,
}

impl Mistake {
    /// The message, with the line and a mark below it.
    fn show(&self, text: &str) -> String {
        let Some((line, column)) = self.place else { return self.what.clone() };
        let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().replace('\t', " ");
        // A line that does not fit on a terminal is not shown.
        if shown.chars().count() > 160 || shown.chars().any(char::is_control) {
            return format!("{} at line {line} column {column}", self.what);
        }
        let number = line.to_string();
        let indent = " ".repeat(number.len() + column.saturating_sub(1));
        format!("{} at line {line} column {column}\n  {number} | {shown}\n     {indent}^", self.what)
    }
}

fn of_json(error: &json5::Error) -> Mistake {
    let words = error.to_string();
    match error.position() {
        Some(at) => {
            let what = words.strip_suffix(&format!(" at {at}")).unwrap_or(&words).to_owned();
            Mistake { what, place: Some((at.line + 1, at.column + 1)) }
        }
        None => Mistake { what: words, place: None },
    }
}

fn of_yaml(error: &serde_saphyr::Error) -> Mistake {
    let words = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match error.location().map(|at| (number(at.line()), number(at.column()))) {
        Some((line, column)) => {
            let what = words.replace(&format!(" at line {line}, column {column}"), "");
            Mistake { what, place: Some((line, column)) }
        }
        None => Mistake { what: words, place: None },
    }
}

fn of_toml(error: &toml::de::Error, text: &str) -> Mistake {
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    });
    Mistake { what: error.message().to_owned(), place }
}

/// Limit of nested brackets: more than any config has, and few enough for a recursive parser's stack.
const DEEPEST: usize = 200;

/// Counts open brackets without regard to quotes: only a text with hundreds of unclosed brackets in strings is
/// misjudged.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

/// Dates become text, because they can only be used in an app's environment.
fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(flag) => Value::Bool(flag),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, from_toml(value))).collect(),
    }
}
