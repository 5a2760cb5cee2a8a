//! # pmr: a process manager with cluster mode
//!
//! A thin command line talks to a daemon over a Unix socket. In the daemon one task, *God*, owns all supervision
//! state; it forks the workers, holds the listening sockets their apps share, and passes accepted connections to them.
//!
//! ```text
//!  pmr (CLI) ──tarpc over rpc.sock──►  God  ──clone/exec──►  workers
//!    │                                 ║│ ▲                   ▲
//!    │ tails log files itself          ║│ │ connections       │ fd 3: IPC channel
//!    └─◄──events (NDJSON) pub.sock─────║┘ └───────────────────┘
//!                                      ║ one table of open files
//!                                    keeper  (starts God again; parent of all; looks into them on God's word)
//! ```
//!
//! ## Deciding apart from doing
//!
//! [`supervisor`] is a value: it takes an input and the time and returns effects. It has no clock, no pids of its own,
//! no I/O and nothing to await, so tests live through many thousand random histories of it in seconds, no slow app can
//! hold up another, and its state can be written down after any input. [`daemon`] feeds it and carries the effects out.
//!
//! A supervised process is a *goal* (what the operator wants: up, down, gone) and a *state* (what is). Each life of it
//! is a [`protocol::Run`], a number never used twice; exits, readiness and samples are reported by run, so late news
//! about the dead cannot hurt the living. Verbs that span processes and time are operations, queued per app and held
//! back for the apps that it depends on, each with a ticket that answers whoever asked; who hangs up loses the answer,
//! never the operation.
//!
//! ## Sharing a port
//!
//! Node workers get connections that God accepted, by Node's own protocol. Any other program is run under a filter by
//! which its `bind` and `listen` calls wait for our answer; [`cluster`]'s *takeover* makes them on a duplicate of its
//! socket, so that it shares the address, and keeps that duplicate. Such a socket's accept queue is one of *queues*: in
//! rotation while its worker is, out of it while that drains, inherited by the next when it is dead; with nobody there, a
//! *door* of ours takes what comes. The kernel deals connections out; none passes through us. To take a program's socket
//! is to look into it, which the kernel may grant to its ancestors only: then the keeper does it for God ([`os::tracer`]).
//! A connection that we make ourselves to ask a worker how it is goes past the rotation, by its port, to that worker's
//! queue; so a worker can prove its health before it is in rotation, and one that was found unhealthy, and is passed over
//! where a healthy one serves, can prove it again.
//!
//! ## Nobody is needed alive
//!
//! The [`keeper`] is the daemon's first process. God is a copy of it that shares its table of open files, so his death
//! closes nothing; his state is in a file in memory, record by record, before he acts on it. The next God finds both and
//! goes on: the same road serves a crash, an upgrade to another program, and the death of the keeper, whose place God
//! then takes. Should both die, the journal on disk knows who lives, by pid and start time.
//!
//! ## One way through the house
//!
//! `pmr reload api`: [`cli`] parses and asks, [`daemon`]'s service puts the question to the God task, which asks the
//! [`supervisor`]: `Online` becomes `Launching` with the old run beside it, and out comes `Spawn`. The God task starts
//! the process; it asks for its port on its channel, which [`cluster`] answers; its first `listening` comes back as
//! `Ready`, and out comes `Drain` for the old run: no new connections, the last ones end with a response, then the stop
//! signal, then, when the last process of its tree is gone, the answer to the command. Should a successor fail, the
//! operation turns round: what has not taken over leaves, what has is replaced once more by the release before. A canary
//! stands in `Trial` beside the run it is to replace until it has been watched for long enough.
//!
//! ## Sockets that are given
//!
//! An app whose spec says `listen` is given its sockets as systemd would give them (`LISTEN_FDS` from descriptor 3 on).
//! [`cluster`]'s activation opens them before there is a process: each worker has a queue of its own for each address,
//! out of rotation until it is ready; a worker that dies leaves its queue to its successor. What workers say to
//! `NOTIFY_SOCKET` comes back as `Ready`, `Alive` or `Hangs`. With `idle_timeout` the same sockets tell when nobody has
//! been connected for long (`Unneeded`: processes go to rest, state `Idle`) and when somebody waits (`Wanted`: one wakes);
//! connections that we make ourselves, to check health, are known by their address and do not count.
//!
//! ## Clients who wait
//!
//! While nobody serves they wait in the kernel's queues, and where connections pass through us, with us. With a
//! `queue_timeout` they are turned away after that time: since when each has waited is written down, for those in a queue
//! by arrival in the record of it, for those with us in their slot of the region, so it goes on under the next God.
//!
//! ## Where what lives
//!
//! - [`settings`]: what `pmr set` sets, on disk.
//! - [`spec`]: what an app is; the table of keys that config files and flags are read with; selectors.
//! - [`guide`]: the pages that `pmr help` and `pmr man` show, and the JSON Schema of config files.
//! - [`protocol`]: the RPC, its data, the events. Data crosses the socket; the command line finds the words.
//! - [`supervisor`]: processes, restart policy, operations, and the simulation that tests them.
//! - [`os`]: small safe wrappers around system calls; the only place with `unsafe`.
//! - [`keeper`]: what outlives God, and who starts him again.
//! - [`cluster`]: listeners, who gets the next connection (in turn, sticky, least), and the ways it gets there: Node's
//!   cluster protocol, as its primary; pmr's own ([`protocol::channel`]): several connections in a packet, as many as
//!   the worker has granted credit for; for all other programs the takeover of binds and the queues of workers; and the
//!   sockets that workers are given. To queues the kernel deals, in turn or sticky.
//! - [`worker`]: the other end of pmr's own protocol, for servers written in Rust, and the protocol itself. A crate of its
//!   own, `pmr-worker`, so that a server that uses it builds none of the rest.
//! - [`logs`]: from pipes to files, and from files to people. Log bytes never pass through the God task; a line that makes
//!   a process ready is looked for on the way.
//! - [`daemon`]: the God task, its effects, the sockets, what is on disk: the journal and the saved list.
//! - [`cli`]: one file per command; [`cli::demo`]: `pmr demo`; [`startup`]: the unit for the system's boot;
//!   [`doctor`]: `pmr doctor`.
//!
//! ## Layers
//!
//! ```text
//! spec (pure: what an app is)  ◄─ protocol (pure: what crosses the socket)  ◄─ supervisor (pure: God's mind)
//! guide (pure: what people read) ─► spec
//! os (leaf: safe small system-call wrappers)  ◄─ keeper, logs  ◄─ cluster  ◄─ daemon (God task and shell)
//! cli ─► protocol, spec, guide, os, logs, startup, doctor, worker      never daemon, supervisor, cluster
//! worker (a crate of its own: the channel's protocol, packets, the worker's end)  ◄─ protocol, os
//! ```
//!
//! `tests/layers.rs` keeps this so, together with the house rules on purity, `unsafe` and file size.
//!
//! ## Invariants
//!
//! 1. A running app is stopped by nothing but its operator, its own exit, a limit its owner set, or shutdown.
//! 2. No request is refused, reset or left hanging by a reload or a scale; when a worker is killed, only the requests
//!    inside it fail.
//! 3. Every process we started is known or reaped, children in sessions of their own included.
//! 4. `stop` beats any restart in flight; operations on different apps never wait for each other, unless one of the apps
//!    depends on the other.
//! 5. Crash loops end in `errored`, after a resurrect, too.
//! 6. Log bytes are neither lost nor doubled; a slow disk blocks at most its own app, and never God.
//! 7. What runs comes back after a reboot. Files are written to a temporary one, synced and renamed, or appended to with
//!    checksums; a broken one is set aside. A disk that fails is told, and hurts no app.
//! 8. God may die at any instruction: no app is restarted, no request refused, no log byte lost, no second copy started.
//! 9. Only the owner and root can talk to the daemon.

pub mod cli;
pub mod cluster;
pub mod daemon;
pub mod doctor;
pub mod guide;
pub mod keeper;
pub mod logs;
pub mod os;
pub mod paths;
pub mod protocol;
pub mod settings;
pub mod spec;
pub mod startup;
pub mod supervisor;

pub use pmr_worker as worker;
