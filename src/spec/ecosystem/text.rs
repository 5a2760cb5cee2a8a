//! The text of a data file → its value.

use serde_json::Value;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, with JSON5's comments, trailing commas and bare keys.
    Json,
    /// YAML 1.2: `on` and `no` are words.
    Yaml,
    /// TOML.
    Toml,
}

/// Reads a text. The error says what is wrong, at which line and column.
pub fn read_text(format: Format, text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if is_too_deep(text) {
        return Err(format!("it is nested more than {DEEPEST} deep"));
    }
    match format {
        Format::Json => json5::from_str(text).map_err(|error| error.to_string()),
        Format::Yaml => {
            let options = serde_saphyr::options! { strict_booleans: true };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
        }
        Format::Toml => match text.parse::<toml::Table>() {
            Ok(table) => Ok(from_toml(toml::Value::Table(table))),
            Err(error) => Err(error.to_string().trim_end().to_owned()),
        },
    }
}

/// More levels of brackets than any config has, and few enough for a recursive parser's stack.
const DEEPEST: usize = 200;

/// Counts open brackets without regard to quotes: a text must hold hundreds of them unclosed to be misjudged.
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

/// Dates become text, which is all an app's environment could make of them.
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
