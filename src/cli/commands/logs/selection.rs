//! Selects the processes whose logs `pmr logs` shows.

use super::args::ProcessLog;
use crate::cli::failure::Failure;
use crate::cli::selectors::matching;
use crate::logs::format::Stream;
use crate::paths::Home;
use crate::protocol::event::EventProcess;
use crate::protocol::{ProcessInfo, Refusal};
use crate::spec::target::{Candidate, Selector, similar};

/// The name by which the daemon's own log is selected, and its label.
const DAEMON: &str = "PMR";

/// The processes whose logs the user selected.
pub struct Selection {
    /// Includes the daemon's own log.
    pub daemon: bool,
    selectors: Vec<Selector>,
}

impl Selection {
    pub fn parse(words: &[String]) -> Result<Selection, Failure> {
        if words.is_empty() {
            return Ok(Selection { daemon: true, selectors: vec![Selector::All] });
        }
        let (daemon_log, others): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| *word == DAEMON);
        let selectors = others.into_iter().map(|word| Selector::parse(word)).collect::<Result<_, _>>()?;
        Ok(Selection { daemon: !daemon_log.is_empty(), selectors })
    }

    /// True if each selector is `all` or `PMR`, so that no selected process may be missing.
    pub fn is_all(&self) -> bool {
        self.selectors.iter().all(|selector| *selector == Selector::All)
    }

    /// Refuses a selector that matches no process: after a typing mistake the command would wait for ever.
    pub fn check(&self, processes: &[ProcessInfo]) -> Result<(), Refusal> {
        for selector in self.selectors.iter().filter(|selector| **selector != Selector::All) {
            if matching(processes, std::slice::from_ref(selector)).is_empty() {
                let names: Vec<&str> = processes.iter().map(|info| info.name.as_str()).collect();
                let word = selector.text();
                return Err(Refusal::NoMatch { similar: similar(&word, &names), selector: word });
            }
        }
        Ok(())
    }

    /// True if this process may match a selector. Ambiguous names need the whole list.
    pub fn may_match(&self, process: &EventProcess) -> bool {
        let EventProcess { id, name, namespace } = process;
        let candidate = Candidate { id: *id, name, namespace, script: None };
        self.selectors.iter().any(|selector| !selector.matches(&[candidate]).is_empty())
    }

    pub fn files(&self, processes: &[ProcessInfo], home: &Home) -> Vec<ProcessLog> {
        let daemon_log = self.daemon.then(|| ProcessLog {
            process_id: None,
            name: DAEMON.to_owned(),
            stream: Stream::Daemon,
            path: home.daemon_log(),
        });
        let selected = matching(processes, &self.selectors);
        daemon_log.into_iter().chain(selected.into_iter().flat_map(of_process)).collect()
    }
}

fn of_process(info: &ProcessInfo) -> impl Iterator<Item = ProcessLog> {
    let source = |stream, path: &Option<std::path::PathBuf>| {
        path.clone().map(|path| ProcessLog { process_id: Some(info.id), name: info.name.clone(), stream, path })
    };
    [source(Stream::Out, &info.out_log), source(Stream::Err, &info.err_log)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::sample;

    fn selection(words: &[&str]) -> Selection {
        Selection::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_files_are_those_of_the_selected_processes() {
        let (home, processes) = (Home::new("/h".into()), [sample::info()]);
        let paths = |words: &[&str]| -> Vec<String> {
            let files = selection(words).files(&processes, &home);
            files.iter().map(|file| file.path.display().to_string()).collect()
        };
        assert_eq!(paths(&[]), ["/h/pmr.log", "/h/logs/api-out-3.log", "/h/logs/api-error-3.log"]);
        assert_eq!(paths(&["3"]), ["/h/logs/api-out-3.log", "/h/logs/api-error-3.log"]);
        assert_eq!(paths(&["PMR"]), ["/h/pmr.log"]);
        assert_eq!(paths(&["PMR", "api", "3"]), paths(&[]));
    }

    #[test]
    fn a_named_process_must_exist_and_all_may_be_empty() {
        let processes = [sample::info()];
        let refusal = selection(&["all", "apj"]).check(&processes).unwrap_err();
        assert_eq!(refusal.hint().as_deref(), Some("did you mean api?"));
        assert!(selection(&["api", "/^a/", "PMR"]).check(&processes).is_ok());
        for (words, all) in [(&[][..], true), (&["all"], true), (&["PMR"], true), (&["PMR", "api"], false)] {
            assert_eq!(selection(words).is_all(), all);
            assert_eq!(selection(words).check(&[]).is_ok(), all);
        }
    }

    #[test]
    fn a_new_process_is_matched_by_each_kind_of_selector() {
        let process = EventProcess { id: 5, name: "api".into(), namespace: "web".into() };
        for (word, matched) in [("api", true), ("web", true), ("5", true), ("/^a/", true), ("all", true), ("ap", false)]
        {
            assert_eq!(selection(&[word]).may_match(&process), matched, "{word}");
        }
        assert!(selection(&[]).may_match(&process));
        assert!(!selection(&["PMR"]).may_match(&process));
    }
}
