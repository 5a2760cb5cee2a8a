//! Gives an app the sockets that `listen` in its spec names, as systemd does (`sd_listen_fds(3)`).

use std::io;

use super::child_fds::ChildFds;
use crate::cluster::Activation;
use crate::protocol::Run;
use crate::spec::AppSpec;
use crate::spec::activation::Endpoint;

/// The variable whose value is the process's own pid, which is known only once the process exists.
pub(crate) const PID_VARIABLE: &str = "LISTEN_PID";

/// Gives a run that is about to start its sockets. They must come before all other descriptors: programs count them
/// from 3.
pub(crate) fn hand_over(run: Run, activation: &Activation, spec: &AppSpec, child_fds: &mut ChildFds) -> io::Result<()> {
    let sockets = activation.sockets(run, &spec.activation)?;
    let names: Vec<String> = spec.activation.listen.iter().map(Endpoint::fd_name).collect();
    child_fds.set_variable("LISTEN_FDS", sockets.len().to_string());
    child_fds.set_variable("LISTEN_FDNAMES", names.join(":"));
    for socket in sockets {
        child_fds.give(socket);
    }
    Ok(())
}
