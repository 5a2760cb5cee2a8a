//! # pmr: a process manager with cluster mode
//!
//! A thin command line talks to a daemon over a Unix socket. In the daemon one task, *God*, owns all supervision state. God
//! starts the workers, holds the listening sockets that they share, and passes accepted connections to them.
//!
//! ```text
//!  pmr (CLI) ──tarpc over rpc.sock──►  God  ──clone/exec──►  workers
//!    │                                 ║│ ▲                   ▲
//!    │ reads log files itself          ║│ │ connections       │ fd 3: IPC channel
//!    └─◄──events (NDJSON) pub.sock─────║┘ └───────────────────┘
//!                                      ║ one table of open files
//!                                    keeper  (starts the next God; parent of all processes; traces them for God)
//! ```
//!
//! ## Deciding apart from doing
//!
//! [`supervisor`] is a value: it takes an input and the time and returns effects. It has no clock, no I/O and nothing to
//! await. So tests run tens of thousands of random histories of it in seconds, no slow app can hold up another, and its state
//! can be written down after any input. [`daemon`] feeds it and carries the effects out.
//!
//! A process has a *goal*, which is what the operator wants (up, down, gone), and a *state*, which is what it does. Each time
//! it is started it gets a new [`protocol::Run`], a number that is never used again. Exits, readiness and samples are reported
//! by run, so a late report about an earlier run changes nothing. Verbs that span processes and time are *operations*: each app
//! has a queue of them, an operation waits for those on the apps that its app depends on, and a *ticket* names its answer. A
//! client that hangs up loses the answer; the operation goes on.
//!
//! ## Rooms
//!
//! Each folder is a component with one public type and its own state. It takes what happened and returns inputs or effects.
//!
//! - [`spec`]: what an app is; the table of keys that config files and flags are read with; selectors.
//! - [`protocol`]: the RPC, its data, the events. Data crosses the socket; the command line words it for people.
//! - [`supervisor`]: processes, restart policy, operations, and the simulation that tests them.
//! - [`os`]: small safe wrappers around system calls; the only place with `unsafe`.
//! - [`keeper`]: what outlives God: open files, the ledger, shared memory; starts the next God.
//! - [`logs`]: from pipes to files, and from files to people. Log bytes never pass through the God task.
//! - [`cluster`]: the listeners of an app, and how connections get to its workers: `dealt` by God over Node's cluster protocol
//!   or pmr's own ([`protocol::channel`]), or by the `kernel` from a queue for each worker.
//! - [`daemon`]: the God task and what it owns: `boot` (start and recovery), `rpc` (sockets and requests), `launch` (starting a
//!   process), `runs` (what is alive), `disk` (journal, saved list, history).
//! - [`worker`]: the other end of pmr's own protocol, for servers written in Rust. A crate of its own, `pmr-worker`, so that
//!   such a server builds nothing else of pmr.
//! - [`cli`]: one file a command, with [`cli::demo`]; [`startup`]: the unit for the system's boot; [`doctor`]: `pmr doctor`;
//!   [`settings`]: what `pmr set` sets; [`guide`]: the pages of `pmr help` and `pmr man`; [`paths`]: where files are.
//!
//! ## Layers
//!
//! ```text
//! spec (pure: what an app is)  ◄─ protocol (pure: what crosses the socket)  ◄─ supervisor (pure: what is decided)
//! guide (pure: what people read) ─► spec
//! os (leaf: safe small system-call wrappers)  ◄─ keeper, logs  ◄─ cluster  ◄─ daemon (God task and shell)
//! cli ─► protocol, spec, guide, os, logs, startup, doctor, worker      never daemon, supervisor, cluster
//! worker (a crate of its own: the channel's protocol, packets, the worker's end)  ◄─ protocol, os
//! ```
//!
//! `tests/layers.rs` keeps this so, together with the rules on circles of imports, purity, `unsafe` and file size.
//!
//! ## A reload, from the command line to the stop signal
//!
//! `pmr reload api`, an app in cluster mode:
//!
//! 1. `cli/commands/reload.rs`: `run` makes a `Rollout` of the flags, and with the target a `Revision`, which
//!    becomes an `Action::Reload`.
//! 2. `cli/client/mod.rs`: `Client::act` sends it over `rpc.sock`, as a call of the tarpc service `Daemon`.
//! 3. `daemon/rpc/service.rs`: `Service::act` sends God a `Command::Request` with the way back for the answer.
//! 4. `daemon/god.rs`: `God::request` publishes which client made it, opens a ticket, and `God::input` calls
//!    `Supervisor::handle`.
//! 5. `supervisor/operation/queue.rs`: `enqueue` puts an `Operation` into the app's queue, and `advance` begins it on
//!    `--parallel` processes at a time.
//! 6. `supervisor/process/events.rs`: `launch` makes each `Launching`, with the old run beside the new one, and returns
//!    `Effect::Spawn`. God writes the changed records to the ledger before it carries that out.
//! 7. `daemon/launch/spawn.rs`: `Launcher::start` executes the program and enters it in the table of runs and in the cluster.
//! 8. `supervisor/process/events.rs`: the worker listens, which is `Input::Ready`; `become_ready` makes it `Online`, returns
//!    `Effect::Admit` for it, and `promote` makes the old run a `StoppingRun` with `Effect::Drain`.
//! 9. `cluster/dealt/drain.rs`: `start` takes the old worker out of rotation and asks it to finish; `Notice::Drained` comes
//!    when its last connection has ended.
//! 10. `daemon/effect.rs`: the answer to that is `Effect::Terminate`; `God::terminate` sends the stop signal to the run's tree.
//!     Its end is `Input::TreeExited`; when all processes are through, `Effect::Settle` carries the answer to the client.
//!
//! Should a successor fail, the reload turns round: successors that have not taken over are stopped, and processes that were
//! replaced already are replaced again by the previous release. A canary stands beside its predecessor, in the state `Canary`,
//! until it has been observed for long enough.
//!
//! ## A connection, from the listener to the worker
//!
//! A Node app, or one that speaks pmr's own protocol:
//!
//! 1. `cluster/dealt/listeners.rs`: the first worker's request to listen made `open` bind the address; `deal` gave the
//!    `Listener` a task.
//! 2. `cluster/dealt/dispatch.rs`: that task, `accept`, waits for the socket to be readable while a worker `has_room`.
//!    Otherwise connections wait in the kernel's queue.
//! 3. `cluster/dealt/dispatch.rs`: `accept_batch` accepts what is there.
//! 4. `cluster/persist/accepted.rs`: `AcceptedSocket::new` writes the connection's slot in shared memory, without a system
//!    call. From now on the connection survives God.
//! 5. `cluster/dealt/dispatch.rs`: `connection_accepted` calls `hand_or_queue`, which asks the balancer.
//! 6. `cluster/balancer.rs`: `Balancer::next` names a worker: in turn, the client's own (sticky), or the least busy.
//! 7. `cluster/dealt/member.rs`: `Member::hand` numbers the connection, keeps it in `pending`, and queues it for the worker's
//!    transport: Node's IPC channel, or pmr's own.
//! 8. `cluster/dealt/node/outgoing.rs`: `write_line` sends the line, with whose first bytes the `Attachment` goes:
//!    `mark_handed` in the slot, then the descriptor by SCM_RIGHTS (`fdpass::send`).
//! 9. `cluster/dealt/node/session.rs`: the worker's answer reaches `handle`, which calls `answered`.
//! 10. `cluster/dealt/dispatch.rs`: `answered` removes the connection from `pending`, which closes God's copy of the socket and
//!     clears the slot. A connection that was refused, or whose worker died, goes to `dispatch` and from there to another worker.
//!
//! ## Programs that bind for themselves
//!
//! Any other program runs under a seccomp filter by which its `bind` and `listen` calls wait for an answer. The cluster's
//! *bind interceptor* makes these calls on a duplicate of the program's socket, so that the address can be shared, and keeps the
//! duplicate. The accept queue of such a socket is one *queue* of the worker: in rotation while the worker serves, out of it
//! while the worker drains, and taken over by the next worker when this one has died. While no queue is in rotation, a
//! *placeholder socket* holds the connections. The kernel deals connections out; none passes through God. Duplicating a
//! program's socket means tracing the program, which the kernel may allow only to its ancestors: then the keeper does it for
//! God ([`os::tracer`]). A health check that pmr makes itself goes past the rotation to the queue of one worker, by its port.
//!
//! ## Sockets that are given
//!
//! An app whose spec says `listen` gets its sockets as systemd would give them (`LISTEN_FDS`, from descriptor 3 on). The
//! cluster's *activation* opens them before there is a process: each worker has a queue for each address, out of rotation
//! until the worker is ready. What programs send to `NOTIFY_SOCKET` becomes `Ready`, `WatchdogPing` or `WatchdogTrigger`. With
//! an `idle_timeout` the same sockets report when no client has been connected for that long (`Idle`) and when a connection
//! waits (`Demand`). Connections that pmr makes itself are known by their address and do not count.
//!
//! ## Clients that wait
//!
//! While no worker serves, clients wait in the kernel's queues, or in the daemon where it deals connections out. With a
//! `queue_timeout` each is rejected after that time. The time it began to wait is written down, so the wait goes on under the
//! next God.
//!
//! ## No process is needed alive
//!
//! The [`keeper`] is the daemon's first process. God is a child of it that shares its table of open files, so God's death
//! closes nothing. God's state is in the *ledger*, a file in memory, record by record, before God acts on it. The next God
//! finds both and goes on. The same way serves a crash, an upgrade to another program, and the death of the keeper, whose place
//! God then takes. Should both die, the *journal* on disk names the processes that live, by pid and start time.
//!
//! ## Invariants
//!
//! 1. A running app is stopped by nothing but its operator, its own exit, a limit its owner set, or shutdown.
//! 2. No request is refused, reset or left hanging by a reload or a scale; when a worker is killed, only the requests
//!    inside it fail.
//! 3. Every process that pmr started is known or reaped, children in sessions of their own included.
//! 4. `stop` beats any restart in flight; operations on different apps never wait for each other, unless one of the apps
//!    depends on the other.
//! 5. Crash loops end in `errored`, after a resurrect, too.
//! 6. Log bytes are neither lost nor doubled; a slow disk blocks at most its own app, and never God.
//! 7. What runs comes back after a reboot. Files are written to a temporary one, synced and renamed, or appended to with
//!    checksums; a broken one is set aside. A failing disk is reported, and hurts no app.
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
