//! `help`: shows pages of the guide and the help of commands.

use clap::builder::{PossibleValue, TypedValueParser};
use serde_json::json;

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::outcome::Outcome;
use super::super::pager;
use super::super::view::page;
use crate::guide::{self, Topic, key_page, schema};
use crate::spec::keys::{self, Lookup};
use crate::spec::target;

/// Show a page of the guide, or the help of a command
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr help\n  pmr help reload              the guide's page on reloads\n  \
                        pmr help keys                every key of config files\n  \
                        pmr help keys kill_timeout   one of them\n  \
                        pmr help keys --schema > pmr.schema.json\n\n\
                        A page is shown by $PAGER, or by `less`. Where a topic and a command have one name, this is the \
                        topic; `pmr COMMAND --help` is always the command.")]
pub struct Args {
    /// A topic of the guide, or a command; all topics if left out
    #[arg(value_name = "TOPIC", value_parser = TopicName, hide_possible_values = true)]
    topic: Option<String>,
    /// With the topic `keys`: only this key
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// With the topic `keys`: print the JSON Schema of config files
    #[arg(long, conflicts_with = "key")]
    schema: bool,
    /// Print the list of topics as JSON
    #[arg(long, conflicts_with_all = ["topic", "key", "schema"])]
    json: bool,
}

/// Value parser that accepts any text; completion scripts offer the topics.
#[derive(Clone, Copy, Debug)]
struct TopicName;

impl TypedValueParser for TopicName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(guide::TOPICS.iter().map(|topic| PossibleValue::new(topic.name).help(topic.title()))))
    }
}

/// Shows a page. `pmr` is the grammar of the whole command line.
pub fn run(args: &Args, pmr: clap::Command, cx: &Context) -> Result<Outcome, Failure> {
    let topic = args.topic.as_deref();
    if topic != Some("keys") && (args.schema || args.key.is_some()) {
        return Err(
            Failure::new("a key and --schema belong to the topic `keys`").hint("`pmr help keys KEY` shows a key")
        );
    }
    match topic {
        None if args.json => cx.ui.line(&format!("{:#}", list())),
        None => overview(pmr, cx),
        Some("keys") if args.schema => cx.ui.line(&format!("{:#}", schema::ecosystem())),
        Some(word) => match (&args.key, guide::find(word)) {
            (Some(key), _) => pager::show(&page::text(&key_entry(key)?, cx.ui.terminal()), cx.ui),
            (None, Some(topic)) => pager::show(&topic_page(topic, &pmr, cx), cx.ui),
            (None, None) => of_command(word, pmr, cx)?,
        },
    }
    Ok(Outcome::Done)
}

fn list() -> serde_json::Value {
    guide::TOPICS.iter().map(|topic| json!({ "name": topic.name, "title": topic.title() })).collect()
}

/// Prints the help of pmr itself and the topics.
fn overview(mut pmr: clap::Command, cx: &Context) {
    let help = pmr.render_help();
    let help = if cx.ui.terminal().color { help.ansi().to_string() } else { help.to_string() };
    cx.ui.line(&format!("{}\n\n{}", help.trim_end(), page::topics(guide::TOPICS, cx.ui.terminal())));
}

/// The page of a topic. If there is a command of the same name, the page mentions it at its end.
fn topic_page(topic: &Topic, pmr: &clap::Command, cx: &Context) -> String {
    let mut markdown = topic.text.to_owned();
    if pmr.find_subcommand(topic.name).is_some() {
        markdown.push_str(&format!("\n`pmr {} --help` shows the options of the command.\n", topic.name));
    }
    page::text(&markdown, cx.ui.terminal())
}

fn key_entry(spelling: &str) -> Result<String, Failure> {
    match keys::look_up(spelling) {
        Lookup::Known(key) => Ok(key_page::entry(key)),
        Lookup::Ignored => Ok(format!("### `{spelling}`\n\nA key of PM2 that changes nothing in pmr.\n")),
        Lookup::Unsupported => Err(Failure::new(keys::unsupported(spelling))),
        Lookup::Unknown { nearest } => {
            let failure = Failure::new(format!("there is no key `{spelling}`"));
            Err(match nearest {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint("`pmr help keys` shows all"),
            })
        }
    }
}

/// Prints what `pmr COMMAND --help` prints.
fn of_command(word: &str, mut pmr: clap::Command, cx: &Context) -> Result<(), Failure> {
    if pmr.find_subcommand(word).is_none() {
        return Err(unknown(word, &pmr));
    }
    if let Err(help) = pmr.try_get_matches_from_mut(["pmr", word, "--help"]) {
        let help = help.render();
        cx.ui.raw(if cx.ui.terminal().color { help.ansi().to_string() } else { help.to_string() }.as_bytes());
    }
    Ok(())
}

fn unknown(word: &str, pmr: &clap::Command) -> Failure {
    let topics = guide::TOPICS.iter().map(|topic| topic.name);
    let commands = pmr.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    let known: Vec<&str> = topics.chain(commands).collect();
    let failure = Failure::new(format!("there is no topic and no command `{word}`"));
    match target::similar(word, &known).into_iter().next() {
        Some(near) => failure.hint(format!("did you mean `{near}`? `pmr help` shows all")),
        None => failure.hint("`pmr help` shows all"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// Here and not beside the generator, because the generator is pure and this test writes the file.
    #[test]
    fn the_page_of_keys_is_what_the_table_generates() {
        let generated = key_page::markdown();
        if std::env::var_os("PMR_WRITE_GUIDE").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/keys.md"), &generated).unwrap();
            return;
        }
        let committed = guide::find("keys").unwrap().text;
        assert!(
            committed == generated,
            "src/guide/keys.md is not what the table of keys says now; write it again with\n\
             PMR_WRITE_GUIDE=1 cargo test --lib the_page_of_keys"
        );
    }

    #[test]
    fn a_mistyped_name_gets_the_nearest_topic_or_command_as_a_hint() {
        for (word, hint) in
            [("relod", "`reload`"), ("keyz", "`keys`"), ("sendSignl", "`sendSignal`"), ("zzz", "`pmr help`")]
        {
            let failure = unknown(word, &Cli::command());
            assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{failure:?}");
        }
    }
}
