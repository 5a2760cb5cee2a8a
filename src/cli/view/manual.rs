//! The manual pages: one for each command, made from its definition, and one for each topic of the guide.

use clap::Command;
use clap_mangen::Man;
use roff::{Roff, roman};

use crate::guide::{self, roff as page};

/// A manual page: the name of its file and its text.
pub type Page = (String, String);

/// All pages of `pmr` in the given version.
#[must_use]
pub fn pages(mut pmr: Command, version: &'static str) -> Vec<Page> {
    pmr = pmr.disable_help_subcommand(true).version(version);
    pmr.build();
    let commands: Vec<Command> = pmr.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    let see_topics: Vec<String> = guide::TOPICS.iter().map(|topic| format!("{}(7)", topic.manual())).collect();
    let mut pages = vec![of_pmr(pmr, version, &see_topics)];
    pages.extend(commands.iter().map(|command| of_command(command, version)));
    for topic in guide::TOPICS {
        let mut see = vec!["pmr(1)".to_owned()];
        see.extend(
            commands.iter().find(|command| command.get_name() == topic.name).map(|_| format!("pmr-{}(1)", topic.name)),
        );
        pages.push((format!("{}.7", topic.manual()), page::manual(topic, version, &see)));
    }
    pages
}

/// The page of `pmr` itself, with its overview instead of a list of commands.
fn of_pmr(pmr: Command, version: &str, see: &[String]) -> Page {
    let overview = pmr.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(pmr).title("PMR").source(format!("pmr {version}")).manual("pmr commands");
    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]).text([roman("Each has a page of its own, such as pmr-start(1).")]);
    page::verbatim(&mut rest, &overview);
    page::see_also(&mut rest, see);
    (man.get_filename().to_lowercase(), with_head(&man, &rest))
}

fn of_command(command: &Command, version: &str) -> Page {
    let name = format!("pmr-{}", command.get_name());
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // With dozens of options, a synopsis that names each would hide the important ones.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let man = Man::new(command.clone().override_usage(usage))
        .title(name.to_uppercase())
        .source(format!("pmr {version}"))
        .manual("pmr commands");
    let mut rest = Roff::new();
    after_help(&mut rest, &after);
    let topic = guide::find(command.get_name()).map(|topic| format!("{}(7)", topic.manual()));
    let see: Vec<String> = std::iter::once("pmr(1)".to_owned()).chain(topic).collect();
    page::see_also(&mut rest, &see);
    (format!("{name}.1"), with_head(&man, &rest))
}

/// The sections that clap renders, then `rest`. Writing to memory does not fail.
fn with_head(man: &Man, rest: &Roff) -> String {
    let mut head = Vec::new();
    let _ = man
        .render_title(&mut head)
        .and_then(|()| man.render_name_section(&mut head))
        .and_then(|()| man.render_synopsis_section(&mut head))
        .and_then(|()| man.render_description_section(&mut head))
        .and_then(|()| man.render_options_section(&mut head));
    format!("{}{}", String::from_utf8_lossy(&head), rest.render())
}

/// Renders the `after_help` of a command: indented lines stay as they are, the others are text; `Examples:` is a
/// section.
fn after_help(page: &mut Roff, text: &str) {
    for paragraph in text.split("\n\n") {
        let lines: Vec<&str> = paragraph.lines().collect();
        for run in lines.chunk_by(|one, next| is_indented(one) == is_indented(next)) {
            match run {
                ["Example:" | "Examples:"] => {
                    page.control("SH", ["EXAMPLES"]);
                }
                [first, ..] if is_indented(first) => page::verbatim(page, &unindented(run)),
                _ => {
                    page.control("PP", []).text([roman(run.join(" "))]);
                }
            }
        }
    }
}

fn is_indented(line: &str) -> bool {
    line.starts_with(' ')
}

fn unindented(lines: &[&str]) -> String {
    lines.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Page> {
        let reload =
            Command::new("reload").about("Replace processes").after_help("Words.\n\nExamples:\n  pmr reload a\n  .b");
        let secret = Command::new("secret").hide(true);
        pages(
            Command::new("pmr").about("Runs").after_help("Run apps:\n  reload   x").subcommands([reload, secret]),
            "1.0",
        )
    }

    #[test]
    fn commands_and_topics_have_a_page_each() {
        let names: Vec<String> = sample().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[..3], ["pmr.1", "pmr-reload.1", "pmr-guide-start.7"]);
        assert_eq!(names.len(), 2 + guide::TOPICS.len());
    }

    #[test]
    fn pages_refer_to_each_other_and_keep_their_examples() {
        let pages = sample();
        let text = |name: &str| pages.iter().find(|(file, _)| file == name).map(|(_, text)| text.as_str()).unwrap();
        let reload = text("pmr-reload.1");
        assert!(
            reload.contains(".PP\nWords.\n.SH EXAMPLES\n.PP\n.RS 4\n.nf\npmr reload a\n\\&.b\n.fi\n.RE\n"),
            "{reload}"
        );
        assert!(reload.ends_with("pmr(1), pmr\\-guide\\-reload(7)\n"), "{reload}");
        assert!(reload.contains("pmr\\-reload \\- Replace processes"), "{reload}");
        assert!(text("pmr-guide-reload.7").ends_with("pmr(1), pmr\\-reload(1)\n"));
        assert!(text("pmr-guide-keys.7").ends_with("SEE ALSO\"\npmr(1)\n"));
        assert!(text("pmr.1").contains("pmr\\-guide\\-keys(7)"));
    }
}
