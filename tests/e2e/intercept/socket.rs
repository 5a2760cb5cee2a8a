//! How a program gets its socket, and homes in which that can be tested.

use super::{PYTHON, possible, skip, there};
use crate::support::Home;

/// The unprivileged user `nobody`.
pub const NOBODY: u32 = 65534;

/// How the program gets its socket.
#[derive(Clone, Copy, PartialEq)]
pub enum Socket {
    /// The program binds the socket, and the bind is intercepted.
    Bound,
    /// The program inherits the socket, which accepts both versions of IP.
    Given,
}

impl Socket {
    /// The settings for it in a JSON config file.
    pub fn config(self, port: u16) -> String {
        match self {
            Socket::Bound => String::new(),
            Socket::Given => format!(r#""listen": ["tcp://[::]:{port}"],"#),
        }
    }

    /// A home of this user, which has another balancer, or of root. `None` where that is not possible.
    pub fn home(self, user: Option<u32>) -> Option<Home> {
        if !there(PYTHON) || (user.is_some() && !nix::unistd::Uid::effective().is_root()) {
            skip("no other user");
            return None;
        }
        let home = user.map_or_else(Home::new, Home::of_user);
        (self == Socket::Given || possible(&home)).then_some(home)
    }
}
