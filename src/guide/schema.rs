//! The JSON Schema (draft 2020-12) of config files, made from the table of keys, for editors and for checks before a
//! deployment.
//!
//! It takes every file that the reader takes. What a schema can only say clumsily it leaves to the reader: two spellings
//! of one key, two apps of one name, quotes that are not closed, a regular expression that is none.

use serde_json::{Map, Value, json};

use crate::spec::dependency::Condition;
use crate::spec::keys::form::{Fallback, Form};
use crate::spec::keys::table::{IGNORED, KEYS, UNSUPPORTED};
use crate::spec::keys::{Key, Member, PROBES, form, read};
use crate::spec::value::LONGEST;

/// The schema of an ecosystem file, in any of its forms.
#[must_use]
pub fn ecosystem() -> Value {
    let has = |key: &str| json!({ "type": "object", "required": [key] });
    let apps =
        json!({ "if": { "type": "array" }, "then": { "$ref": "#/$defs/apps" }, "else": { "$ref": "#/$defs/app" } });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pmr config file",
        "description": "The apps of a pmr ecosystem file: `{ apps: [...] }`, a list of apps, or one app.",
        "if": has("apps"),
        "then": file(&apps),
        "else": {
            "if": has("pm2"),
            "then": { "properties": { "pm2": apps } },
            "else": apps,
        },
        "$defs": {
            "apps": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/app" } },
            "app": app(),
        },
    })
}

/// A file with `apps` and what may stand beside them.
fn file(apps: &Value) -> Value {
    json!({
        "properties": {
            "apps": apps,
            "deploy": { "description": "PM2's deployment settings. pmr does not use them.", "deprecated": true },
            "static": off("PM2's static file server. pmr does not have it."),
            "$schema": {},
        },
        "patternProperties": { "^x-": { "description": "Anything: the place of what YAML anchors refer to." } },
        "additionalProperties": false,
    })
}

/// One app.
fn app() -> Value {
    let mut properties = Map::new();
    for key in KEYS {
        for spelling in key.spellings() {
            properties.insert(spelling, of_key(key));
        }
    }
    let pm2 = |names: &[&'static str]| {
        names.iter().flat_map(|name| [(*name).to_owned(), form::camel_case(name)]).collect::<Vec<_>>()
    };
    for name in pm2(IGNORED) {
        let why = "A key of PM2 that changes nothing in pmr.";
        properties.entry(name).or_insert_with(|| json!({ "description": why, "deprecated": true }));
    }
    for name in pm2(UNSUPPORTED) {
        let why = "A key of PM2 that pmr does not support yet: only a value that leaves it switched off is accepted.";
        properties.entry(name).or_insert_with(|| off(why));
    }
    let script = KEYS.iter().filter(|key| key.name == "script").flat_map(Key::spellings);
    let required: Vec<Value> = script.map(|spelling| json!({ "required": [spelling] })).collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { environment_name(): environment() },
        "additionalProperties": false,
        "anyOf": required,
    })
}

/// `env_NAME`, of which keys such as `env_file` are none.
fn environment_name() -> String {
    let keys = KEYS.iter().flat_map(Key::spellings).filter_map(|key| key.strip_prefix("env_").map(str::to_owned));
    format!("^env_(?!({})$).+$", keys.collect::<Vec<_>>().join("|"))
}

/// A key that is accepted only as long as it does nothing.
fn off(description: &str) -> Value {
    json!({ "description": description, "deprecated": true, "enum": [null, false, 0, "", []] })
}

fn environment() -> Value {
    let mut schema = or_null(variables());
    schema["description"] = json!("Variables that `--env NAME` merges over `env`.");
    schema
}

fn of_key(key: &Key) -> Value {
    let about = &key.about;
    let mut schema = or_null(of_form(about.form));
    schema["description"] = json!(described(about.does, about.form, about.fallback));
    if let Some(default) = about.fallback.json().and_then(parsed) {
        schema["default"] = default;
    }
    schema["examples"] = parsed(about.example).into_iter().collect();
    schema
}

fn of_member(member: &Member) -> Value {
    let mut schema = or_null(of_form(member.form));
    schema["description"] = json!(described(member.does, member.form, member.fallback));
    if let Some(default) = member.fallback.json().and_then(parsed) {
        schema["default"] = default;
    }
    schema
}

/// The sentence, the unit of a plain number and a default that no value says.
fn described(does: &str, form: Form, fallback: Fallback) -> String {
    let unit = form.unit().map(|unit| format!(" A plain number counts {unit}.")).unwrap_or_default();
    let default = match fallback {
        Fallback::Value(_) => String::new(),
        Fallback::Zero(words) | Fallback::Words(words) => format!(" Default: {words}."),
    };
    format!("{does}{unit}{default}")
}

fn parsed(json: &str) -> Option<Value> {
    serde_json::from_str(json).ok()
}

/// The same, or `null`, which says nothing.
fn or_null(schema: Value) -> Value {
    any_of([schema, json!({ "type": "null" })])
}

fn of_form(form: Form) -> Value {
    match form {
        Form::Text | Form::Path => text(),
        Form::Name => any_of([
            json!({ "type": "string", "pattern": r"\S", "not": { "const": "all" } }),
            json!({ "type": "number" }),
        ]),
        Form::Account => any_of([text(), json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })]),
        Form::Variable => json!({ "type": "string", "pattern": r"^[^=]*[^=\s][^=]*$" }),
        Form::Boolean => json!({ "enum": [true, false, "true", "false"] }),
        Form::Count { least, zero } => count(least, zero),
        Form::Time { least } => time(least),
        Form::Size { least } => size(least),
        Form::Processors => any_of([
            json!({ "type": "number", "minimum": 0, "maximum": 10_000 }),
            pattern(r"^\s*\+?[0-9.]+([eE]-?[0-9]+)?\s*%?\s*$"),
        ]),
        Form::Instances => {
            let most = i64::from(read::MAX_INSTANCES);
            any_of([
                json!({ "type": "integer", "minimum": -most, "maximum": most }),
                json!({ "const": "max" }),
                pattern(r"^\s*[+-]?[0-9]+\s*$"),
            ])
        }
        Form::Choice(words) => choice(words),
        Form::Numbers { from, to } => numbers(from, to),
        Form::Words => any_of([json!({ "type": "string" }), list(&json!({ "type": ["string", "number", "boolean"] }))]),
        Form::Paths => any_of([text(), list(&text())]),
        Form::Variables => variables(),
        Form::Endpoints => one_or_list(&endpoint()),
        Form::Dependencies => dependencies(),
        Form::Object(members) => object(members),
        Form::Check(members) => check(members),
        Form::Port => any_of([port(), pattern(r":?[0-9]+$")]),
        Form::Command => any_of([text(), json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })]),
    }
}

fn any_of<const N: usize>(schemas: [Value; N]) -> Value {
    Value::from_iter([("anyOf", Value::Array(schemas.into()))])
}

/// Text that is not blank.
fn text() -> Value {
    pattern(r"\S")
}

fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn list(item: &Value) -> Value {
    json!({ "type": "array", "items": item })
}

fn one_or_list(item: &Value) -> Value {
    any_of([item.clone(), list(item)])
}

fn count(least: u32, zero: bool) -> Value {
    let number = json!({ "type": "integer", "minimum": least, "maximum": u32::MAX });
    let digits = pattern(r"^\s*\+?[0-9]+\s*$");
    if zero && least > 0 { any_of([number, digits, json!({ "const": 0 })]) } else { any_of([number, digits]) }
}

fn size(least: u32) -> Value {
    let number = json!({ "type": "integer", "minimum": least });
    any_of([number, pattern(r"^\s*[0-9.]+\s*([bB]|[kKmMgGtT]([iI]?[bB])?)?\s*$"), json!({ "const": 0 })])
}

/// Milliseconds, or numbers with the units of `humantime`.
fn time(least: u32) -> Value {
    const UNITS: &str = "ns|nsec|us|usec|µs|ms|msec|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|\
                         M|months?|y|yrs?|years?";
    let most = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
    let number = json!({ "type": "integer", "minimum": least, "maximum": most });
    any_of([number, pattern(&format!(r"^\s*(\+?[0-9]+|([0-9.]+\s*({UNITS})\s*)+)\s*$"))])
}

/// Words; one that is a number is taken as a number, too.
fn choice(words: &[&str]) -> Value {
    let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok()).map(Value::from);
    json!({ "enum": words.iter().map(|word| Value::from(*word)).chain(numbers).collect::<Vec<_>>() })
}

fn numbers(from: u16, to: u16) -> Value {
    let number = json!({ "type": "integer", "minimum": from, "maximum": to });
    let item = any_of([number.clone(), pattern(r"^\s*\+?[0-9]+\s*$")]);
    any_of([number, pattern(r"^\s*\+?[0-9]+\s*(,\s*\+?[0-9]+\s*)*$"), list(&item)])
}

fn port() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": u16::MAX })
}

fn variables() -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": r"^[^=]*[^=\s][^=]*$" } })
}

fn endpoint() -> Value {
    any_of([
        pattern("^([^:=]+=)?(tcp|udp|unix)://."),
        json!({
            "type": "object",
            "properties": {
                "url": { "type": "string", "pattern": "^(tcp|udp|unix)://.", "description": "Where the socket is." },
                "name": { "type": ["string", "null"], "description": "What the app knows it by (`LISTEN_FDNAMES`)." },
                "mode": { "type": ["string", "null"], "pattern": "^[0-7]+$", "description": "Permissions of a Unix path, octal.", "examples": ["0660"] },
            },
            "required": ["url"],
            "additionalProperties": false,
        }),
    ])
}

fn dependencies() -> Value {
    let conditions = Condition::ALL.map(Condition::word);
    let name = r"[^,:]*[^,:\s][^,:]*";
    let word = format!(r"(?:[^,]*[^,\s][^,]*:\s*(?:{})\s*|{name})", conditions.join("|"));
    let words = pattern(&format!("^{word}(?:,{word})*$"));
    let object = json!({
        "type": "object",
        "propertyNames": { "pattern": r"\S" },
        "additionalProperties": { "enum": conditions },
    });
    any_of([words.clone(), list(&words), object])
}

/// What a health check asks, in short or with its settings.
fn check(members: &[Member]) -> Value {
    let asks: Vec<Value> = PROBES.iter().map(|probe| json!({ "required": [probe] })).collect();
    let mut full = object(members);
    full["anyOf"] = json!(asks);
    any_of([pattern(r"^(/|http://|tcp:(//)?([^/].*:)?[0-9]+$|exec:.*\S|log:.*\S)"), full])
}

fn object(members: &[Member]) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|member| (member.name.to_owned(), of_member(member))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

#[cfg(test)]
mod tests;
