//! The commands: one file each, with its arguments, its help and its code.

pub mod completion;
pub mod delete;
pub mod demo;
pub mod describe;
pub mod doctor;
pub mod env;
pub mod explain;
pub mod flush;
pub mod get;
pub mod help;
pub mod history;
pub mod id;
pub mod jlist;
pub mod kill;
pub mod list;
pub mod logs;
pub mod man;
pub mod pid;
pub mod ping;
pub mod reload;
pub mod reload_logs;
pub mod reset;
pub mod restart;
pub mod resurrect;
pub mod save;
pub mod scale;
pub mod set;
pub mod signal;
pub mod start;
pub mod startup;
pub mod stop;
pub mod unstartup;
pub mod update;

/// The commands by purpose; a part of the help of `pmr` itself.
pub const OVERVIEW: &str = "\
First of all:
  demo         Show a cluster under load being scaled, reloaded and killed

Run apps:
  start        Start apps: a script, a program, a command line, a config file, or known ones
  restart      Stop and start processes
  reload       Replace processes one after another, without a gap
  stop         Stop processes and keep them in the list
  delete       Stop processes and remove them from the list (del)
  scale        Change how many processes an app has
  sendSignal   Send a signal to processes
  reset        Set restart counters to zero

See what runs:
  list         Show the processes (ls, l, ps, status)
  describe     Show everything about processes (show, info, desc)
  explain      Explain the state of an app: its last exits, who requested what, what comes next
  history      Show what happened to apps
  jlist        Show everything about all processes as JSON
  env          Show the environment of processes
  id, pid      Show ids, pids

Logs:
  logs         Show the last lines of log files, then new ones (log)
  flush        Empty log files
  reloadLogs   Reopen log files after a rotation

Keep and boot:
  save         Save the list of processes (dump)
  resurrect    Start the processes that ran before, or the saved list
  startup      Have the system start pmr at boot
  unstartup    Undo that

The daemon:
  ping         Check whether it runs
  set, get     Change and show settings: autosave
  update       Replace it by this version; every app runs on
  doctor       Check which features this machine supports
  kill         Stop all apps and end it

Help:
  help         Show a page of the guide, or the help of a command
  man          Write manual pages into a folder
  completion   Print a completion script for a shell

Processes are named by id, app name, namespace, `all` or /regular expression/, several at once.
`pmr COMMAND --help` shows the options of a command, with examples; `pmr help` lists the topics of the guide.
PMR_HOME is the home of the daemon (~/.pmr).";
