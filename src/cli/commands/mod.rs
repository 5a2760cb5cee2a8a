//! The commands: one file each, with its arguments, its help and what it does.

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

/// The commands by what they are for; stands in the help of `pmr` itself.
pub const OVERVIEW: &str = "\
First of all:
  demo         Show a cluster under load being scaled, reloaded and killed

Run apps:
  start        Start apps: a script, a program, a command line, a config file, or known ones
  restart      Stop and start processes
  reload       Replace processes one after another, without a gap
  stop         Stop processes and keep them in the list
  delete       Stop processes and forget them (del)
  scale        Change how many processes an app has
  sendSignal   Send a signal to processes
  reset        Set restart counters to zero

See what runs:
  list         Show the processes (ls, l, ps, status)
  describe     Show everything about processes (show, info, desc)
  explain      Tell why an app is as it is: its last ends, who asked for what, what comes next
  history      Show what happened to apps
  jlist        Show everything about all processes as JSON
  env          Show the environment of processes
  id, pid      Show ids, pids

Logs:
  logs         Show the last lines of log files, then what comes (log)
  flush        Empty log files
  reloadLogs   Open log files anew after a rotation

Keep and boot:
  save         Write down what runs (dump)
  resurrect    Start what ran before, or what was saved
  startup      Have the system start pmr at boot
  unstartup    Take that back

The daemon:
  ping         Tell whether it runs
  set, get     Change and show settings: autosave
  update       Let it go over to this version, with every app running on
  doctor       Tell what this machine lets pmr do, and what to do about the rest
  kill         Stop all apps and end it

Help:
  help         Show a page of the guide, or the help of a command
  man          Write manual pages into a folder
  completion   Print a completion script for a shell

Processes are named by id, app name, namespace, `all` or /regular expression/, several at once.
`pmr COMMAND --help` shows the options of a command, with examples; `pmr help` lists the topics of the guide.
PMR_HOME is the home of the daemon (~/.pmr).";
