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
