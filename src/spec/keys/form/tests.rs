//! The documentation of the keys is correct: examples are valid, defaults change nothing, spellings are found.

use serde_json::{Value, json};

use super::*;
use crate::spec::ecosystem::{self, Options};
use crate::spec::keys::table::KEYS;
use crate::spec::keys::{Draft, Key, Lookup, Takes, look_up};

fn app(settings: &[(&str, &Value)]) -> Value {
    let mut app = json!({ "script": "app.js" });
    for (name, value) in settings {
        app[*name] = (*value).clone();
    }
    json!({ "apps": [app] })
}

fn read(settings: &[(&str, &Value)]) -> Draft {
    let file = app(settings);
    ecosystem::parse(file.clone(), &Options::default()).unwrap_or_else(|why| panic!("{file}: {why}")).remove(0)
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|why| panic!("{json}: {why}"))
}

#[test]
fn every_key_is_described_in_sentences() {
    for key in KEYS {
        let about = &key.about;
        assert!(about.does.len() > 10 && about.does.ends_with('.'), "{}: {:?}", key.name, about.does);
        assert!(!about.fallback.words().is_empty(), "{}", key.name);
        let bare = about.form.members().iter().find(|member| member.does.is_empty());
        assert!(bare.is_none(), "{}: {bare:?}", key.name);
    }
}

#[test]
fn every_example_is_valid_and_changes_the_draft() {
    for key in KEYS {
        let example = parsed(key.about.example);
        let draft = read(&[(key.name, &example)]);
        assert!(key.name == "script" || draft != read(&[]), "{}: {example} changes nothing", key.name);
    }
}

#[test]
fn a_default_in_a_draft_changes_nothing() {
    // A draft has no defaults for these keys: `cli::resolve` adds them.
    let unset = ["namespace", "args", "interpreter_args"];
    for key in KEYS.iter().filter(|key| !unset.contains(&key.name)) {
        let Some(default) = key.about.fallback.json() else { continue };
        assert_eq!(read(&[(key.name, &parsed(default))]), read(&[]), "{}: {default}", key.name);
    }
}

#[test]
fn a_default_of_a_member_changes_nothing() {
    for key in KEYS {
        let whole = if key.name == "health" { json!({ "http": "/up" }) } else { json!({}) };
        for member in key.about.form.members() {
            let Some(default) = member.fallback.json() else { continue };
            let mut object = whole.clone();
            object[member.name] = parsed(default);
            assert_eq!(read(&[(key.name, &object)]), read(&[(key.name, &whole)]), "{}.{}", key.name, member.name);
        }
    }
}

/// `null` counts as not set, so only the words are tried.
#[test]
fn every_word_of_a_choice_is_accepted_and_no_other() {
    let fits = |key: &Key, word: &str| key.set(&mut Draft::default(), &json!(word)).is_ok();
    for key in KEYS {
        let Form::Choice(words) = key.about.form else { continue };
        assert!(words.iter().all(|word| fits(key, word)), "{}", key.name);
        assert!(!fits(key, "other"), "{}", key.name);
    }
}

#[test]
fn every_spelling_is_found() {
    for key in KEYS {
        for spelling in key.spellings() {
            assert!(matches!(look_up(&spelling), Lookup::Known(found) if found.name == key.name), "{spelling}");
        }
    }
    assert_eq!(camel_case("max_memory_restart"), "maxMemoryRestart");
}

/// The table has the default once; `--help` takes it from there.
#[test]
fn no_flag_repeats_the_default() {
    for flag in KEYS.iter().filter_map(|key| key.flag.as_ref()) {
        assert!(!flag.help.contains("[default"), "--{}", flag.long);
        assert!(!matches!(flag.takes, Takes::Nothing(_)) || !flag.help.is_empty(), "--{}", flag.long);
    }
}
