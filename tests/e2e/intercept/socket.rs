//! How a program comes by its socket, and homes in which that can be tried.

use super::{PYTHON, possible, skip, there};
use crate::support::Home;

/// Who may do nothing special.
pub const NOBODY: u32 = 65534;

/// How the program comes by its socket.
#[derive(Clone, Copy, PartialEq)]
pub enum Socket {
    /// It binds it.
    Bound,
    /// It finds it open; it takes both versions of IP.
    Given,
}

impl Socket {
    /// What stands of it in a config file in JSON.
    pub fn config(self, port: u16) -> String {
        match self {
            Socket::Bound => String::new(),
            Socket::Given => format!(r#""listen": ["tcp://[::]:{port}"],"#),
        }
    }

    /// A home of this user's, who has another balancer, or of root's. `None` where it cannot be.
    pub fn home(self, user: Option<u32>) -> Option<Home> {
        if !there(PYTHON) || (user.is_some() && !nix::unistd::Uid::effective().is_root()) {
            skip("no other user");
            return None;
        }
        let home = user.map_or_else(Home::new, Home::of_user);
        (self == Socket::Given || possible(&home)).then_some(home)
    }
}
