//! What the kernel allows.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::finding::Finding;
use crate::os::cgroup::{self, Allowance, Hierarchy};
use crate::os::net::diag;
use crate::os::net::reuseport;
use crate::os::net::reuseport::{BACKLOG, Group, KernelBalancing};
use crate::os::process::{identity, proc};
use crate::os::seccomp::ability::{self, Obstacle};
use crate::os::tracer::Tracer;

/// Below this a daemon with a few hundred apps runs out of descriptors.
const FILES_WANTED: u64 = 4096;

const TAKEOVER: &str = "any program in cluster mode";

/// Can sockets of programs be taken over as they bind? We try it with a child: as its parent we may what the keeper may
/// with the programs of a daemon, who is above them.
pub fn takeover() -> Finding {
    let ability = match ability::ability(None, &Tracer::direct()) {
        Ok(ability) => ability,
        Err(error) => return Finding::missing(TAKEOVER, format!("it cannot be tried: {error}"), "try it again"),
    };
    match ability.obstacle() {
        None if ability.keeps_privileges => Finding::good(TAKEOVER, "unmodified programs share their ports"),
        None => Finding::good(
            TAKEOVER,
            "unmodified programs share their ports; sudo and setuid programs do not work beneath them, as the daemon is \
             not root's",
        ),
        Some(obstacle) => Finding::limited(
            TAKEOVER,
            format!("sockets cannot be taken over ({obstacle}); Node apps are not affected"),
            advice(obstacle),
        ),
    }
}

/// What to do about it.
pub fn advice(obstacle: &Obstacle) -> String {
    let allow = match obstacle.yama {
        Some(2) => "sysctl -w kernel.yama.ptrace_scope=1, or run the daemon as root",
        Some(_) => "set kernel.yama.ptrace_scope to 1, which takes a reboot",
        None => "in a container allow seccomp notification and pidfd_getfd (Docker: --cap-add SYS_PTRACE)",
    };
    format!("{allow}, or use `listen` in the config with programs that know socket activation")
}

const BALANCER: &str = "balance among them";

/// Which balancer does a shared port get?
pub fn balancer() -> Finding {
    match try_balancer() {
        Ok((KernelBalancing::RoundRobin, _)) => Finding::good(BALANCER, "in turn (eBPF)"),
        Ok((KernelBalancing::Random, why)) => Finding::limited(
            BALANCER,
            format!("by chance, even in the long run (classic BPF), since eBPF is refused: {why}"),
            "a daemon with CAP_BPF, or root's, deals connections out in turn",
        ),
        Ok((KernelBalancing::Hash, why)) => Finding::limited(
            BALANCER,
            format!("by the kernel's hash, since BPF on sockets is refused: {why}; reloads may lose connections"),
            "allow SO_ATTACH_REUSEPORT_CBPF, which takes no privilege on plain Linux",
        ),
        Err(error) => {
            Finding::missing(BALANCER, format!("SO_REUSEPORT does not work: {error}"), "Linux 4.5 or later is needed")
        }
    }
}

/// What a port on the loopback interface, which the kernel chooses, gets.
fn try_balancer() -> io::Result<(KernelBalancing, String)> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    reuseport::share(&socket)?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let mut group = Group::new(KernelBalancing::RoundRobin);
    group.add(socket, BACKLOG, true)?;
    let (balancer, why) = group.balancer();
    Ok((balancer, why.to_string()))
}

const FIGURES: &str = "queues and connections";

/// Can the kernel be asked what a worker still has to do?
pub fn socket_figures() -> Finding {
    match diag::listeners(1) {
        Ok(_) => Finding::good(FIGURES, "the kernel tells (sock_diag)"),
        Err(error) => Finding::limited(
            FIGURES,
            format!("sock_diag: {error}; before a worker is stopped nobody knows whether it has finished"),
            "load the modules inet_diag and tcp_diag, or allow netlink in the container",
        ),
    }
}

const QUEUE: &str = "length of accept queues";

/// How many connections may wait?
pub fn queue_length() -> Finding {
    let path = "/proc/sys/net/core/somaxconn";
    match fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok()) {
        Some(limit) if limit >= BACKLOG => Finding::good(QUEUE, format!("up to {limit} connections wait")),
        Some(limit) => Finding::limited(
            QUEUE,
            format!("no more than {limit} connections wait, and in a burst clients have to try again"),
            format!("sysctl -w net.core.somaxconn={}", BACKLOG * 4),
        ),
        None => Finding::good(QUEUE, format!("not told here; {BACKLOG} are asked for")),
    }
}

/// Which ports are privileged?
pub fn low_ports() -> Finding {
    const SUBJECT: &str = "ports below 1024";
    if proc::may_bind(identity::pid(), 80) {
        return Finding::good(SUBJECT, "apps of this user may listen on them");
    }
    Finding::limited(
        SUBJECT,
        "apps of this user may not listen on them",
        "sysctl -w net.ipv4.ip_unprivileged_port_start=80, or run the daemon as root with `user` in the config",
    )
}

/// Which limits does the kernel keep for apps?
pub fn control_groups(home: &Path) -> Finding {
    const SUBJECT: &str = "control groups";
    let allowance = cgroup::allowance(home);
    let Allowance { grouping, memory, cpu, pids } = allowance;
    let limits = [("memory", memory), ("processor time", cpu), ("processes", pids)];
    let lacking: Vec<&str> =
        limits.iter().filter(|(_, held)| *held == Hierarchy::None).map(|(name, _)| *name).collect();
    let found = allowance.to_string();
    if grouping != Hierarchy::None && lacking.is_empty() {
        return Finding::good(SUBJECT, found);
    }
    let consequence = if grouping == Hierarchy::None {
        "; a process that hides from its parent may escape a stop"
    } else {
        "; an app that asks for such a limit is not started"
    };
    Finding::limited(
        SUBJECT,
        found + consequence,
        "run the daemon as root, or let systemd delegate (`Delegate=yes`, which the unit of `pmr startup` has)",
    )
}

/// How many files may the daemon open?
pub fn file_limit() -> Finding {
    const SUBJECT: &str = "open files";
    match identity::file_limit() {
        Ok((_, hard)) if hard >= FILES_WANTED => Finding::good(SUBJECT, format!("up to {hard}")),
        Ok((_, hard)) => Finding::limited(
            SUBJECT,
            format!("up to {hard}: enough for about {} processes", hard / 8),
            "raise the hard limit (ulimit -Hn, LimitNOFILE in the unit)",
        ),
        Err(error) => Finding::limited(SUBJECT, format!("not told here: {error}"), "see `ulimit -Hn`"),
    }
}
