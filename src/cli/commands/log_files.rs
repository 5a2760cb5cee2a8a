//! Which files `logs` means: those of the processes named, as the daemon knows them, and of those that come later.
//! Reading them is [`logs`](super::logs).

mod news;

use std::io;

use self::news::News;
use super::super::Context;
use super::super::failure::{Doing, Failure};
use super::super::outcome::Outcome;
use super::logs::{LogSource, LogsArgs, View};
use crate::logs::format::Stream;
use crate::logs::tail::{Ends, Woken};
use crate::paths::Home;
use crate::protocol::event::EventProcess;
use crate::protocol::{ProcessInfo, Refusal};
use crate::spec::target::{Candidate, Selector, similar};

/// The name by which the daemon's own log is asked for, and shown.
const DAEMON: &str = "PMR";

/// Runs `logs`. Without a daemon its own log can still be read, and a daemon to come be waited for.
pub async fn run(args: LogsArgs, cx: &Context) -> Result<Outcome, Failure> {
    let wanted = Wanted::parse(&args.selectors)?;
    if args.nostream {
        show(&args, &wanted, cx).await?;
    } else {
        follow(&args, &wanted, cx).await?;
    }
    Ok(Outcome::Done)
}

/// What is there.
async fn show(args: &LogsArgs, wanted: &Wanted, cx: &Context) -> Result<(), Failure> {
    let processes = match cx.daemon_if_any().await? {
        Some(daemon) => daemon.list().await?,
        None if wanted.daemon && cx.home.daemon_log().exists() => Vec::new(),
        None => return Err(Failure::no_daemon(cx.home.root())),
    };
    wanted.check(&processes)?;
    let view = View::open(args, wanted.files(&processes, &cx.home), cx.ui.screen());
    if view.as_ref().is_ok_and(View::lacks_lines) {
        cx.ui.progress("nothing has been logged yet");
    }
    told(view.map(drop))
}

/// What is there, then what comes, also from processes and daemons that come.
async fn follow(args: &LogsArgs, wanted: &Wanted, cx: &Context) -> Result<(), Failure> {
    let ends = Ends::of(&cx.home.logs()).doing(|| format!("reading {}", cx.home.logs().display()))?;
    let (mut news, processes) = News::open(wanted, cx).await?;
    match &processes {
        Some(processes) => wanted.check(processes)?,
        None if wanted.is_anybody() => {
            cx.ui.progress(&format!("no daemon is running for {}: waiting for one", cx.home.root().display()));
        }
        None => return Err(Failure::no_daemon(cx.home.root())),
    }
    let followed = async {
        let files = wanted.files(processes.as_deref().unwrap_or_default(), &cx.home);
        let mut view = View::open(args, files, cx.ui.screen())?;
        if processes.is_some() && view.lacks_lines() {
            cx.ui.progress("nothing has been logged yet: waiting for what comes");
        }
        view.wake_for(&cx.home.pub_sock())?;
        // The first look is for what came to be before we were watching.
        loop {
            if let Some(processes) = news.processes().await {
                view.meet(wanted.files(&processes, &cx.home), &ends)?;
            }
            if view.turn(news.descriptor())? == Woken::HungUp {
                return Ok(());
            }
        }
    };
    told(followed.await)
}

/// That nobody reads the output any more is no failure.
fn told(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.doing(|| "reading the logs".into()),
    }
}

/// Whose logs the user asked for.
struct Wanted {
    /// The daemon's own.
    daemon: bool,
    selectors: Vec<Selector>,
}

impl Wanted {
    fn parse(words: &[String]) -> Result<Wanted, Failure> {
        if words.is_empty() {
            return Ok(Wanted { daemon: true, selectors: vec![Selector::All] });
        }
        let (own, others): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| *word == DAEMON);
        let selectors = others.into_iter().map(|word| Selector::parse(word)).collect::<Result<_, _>>()?;
        Ok(Wanted { daemon: !own.is_empty(), selectors })
    }

    /// True if nobody was named who might not exist.
    fn is_anybody(&self) -> bool {
        self.selectors.iter().all(|selector| *selector == Selector::All)
    }

    /// Refuses a selector that names no process: a typing mistake would wait for ever.
    fn check(&self, processes: &[ProcessInfo]) -> Result<(), Refusal> {
        for selector in self.selectors.iter().filter(|selector| **selector != Selector::All) {
            if super::id::matching(processes, std::slice::from_ref(selector)).is_empty() {
                let names: Vec<&str> = processes.iter().map(|info| info.name.as_str()).collect();
                let word = selector.text();
                return Err(Refusal::NoMatch { similar: similar(&word, &names), selector: word });
            }
        }
        Ok(())
    }

    /// Whether this process may be one of those named. Who else has the name cannot be seen from one alone.
    fn may_mean(&self, process: &EventProcess) -> bool {
        let EventProcess { id, name, namespace } = process;
        let candidate = Candidate { id: *id, name, namespace, script: None };
        self.selectors.iter().any(|selector| !selector.matches(&[candidate]).is_empty())
    }

    fn files(&self, processes: &[ProcessInfo], home: &Home) -> Vec<LogSource> {
        let own = self.daemon.then(|| LogSource {
            process_id: None,
            name: DAEMON.to_owned(),
            stream: Stream::Daemon,
            path: home.daemon_log(),
        });
        let named = super::id::matching(processes, &self.selectors);
        own.into_iter().chain(named.into_iter().flat_map(of_process)).collect()
    }
}

fn of_process(info: &ProcessInfo) -> impl Iterator<Item = LogSource> {
    let source = |stream, path: &Option<std::path::PathBuf>| {
        path.clone().map(|path| LogSource { process_id: Some(info.id), name: info.name.clone(), stream, path })
    };
    [source(Stream::Out, &info.out_log), source(Stream::Err, &info.err_log)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::sample;

    fn wanted(words: &[&str]) -> Wanted {
        Wanted::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_files_of_whom_is_named() {
        let (home, processes) = (Home::new("/h".into()), [sample::info()]);
        let paths = |words: &[&str]| -> Vec<String> {
            let files = wanted(words).files(&processes, &home);
            files.iter().map(|file| file.path.display().to_string()).collect()
        };
        assert_eq!(paths(&[]), ["/h/pmr.log", "/h/logs/api-out-3.log", "/h/logs/api-error-3.log"]);
        assert_eq!(paths(&["3"]), ["/h/logs/api-out-3.log", "/h/logs/api-error-3.log"]);
        assert_eq!(paths(&["PMR"]), ["/h/pmr.log"]);
        assert_eq!(paths(&["PMR", "api", "3"]), paths(&[]));
    }

    #[test]
    fn a_name_must_exist_but_all_may_be_nobody_yet() {
        let processes = [sample::info()];
        let refusal = wanted(&["all", "apj"]).check(&processes).unwrap_err();
        assert_eq!(refusal.hint().as_deref(), Some("did you mean api?"));
        assert!(wanted(&["api", "/^a/", "PMR"]).check(&processes).is_ok());
        for (words, anybody) in [(&[][..], true), (&["all"], true), (&["PMR"], true), (&["PMR", "api"], false)] {
            assert_eq!(wanted(words).is_anybody(), anybody);
            assert_eq!(wanted(words).check(&[]).is_ok(), anybody);
        }
    }

    #[test]
    fn newcomers_are_recognised_by_each_kind_of_selector() {
        let process = EventProcess { id: 5, name: "api".into(), namespace: "web".into() };
        for (word, meant) in [("api", true), ("web", true), ("5", true), ("/^a/", true), ("all", true), ("ap", false)] {
            assert_eq!(wanted(&[word]).may_mean(&process), meant, "{word}");
        }
        assert!(wanted(&[]).may_mean(&process));
        assert!(!wanted(&["PMR"]).may_mean(&process));
    }
}
