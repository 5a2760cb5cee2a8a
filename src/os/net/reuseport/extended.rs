//! The balancer in eBPF: exact round robin, or by client address. It needs `CAP_BPF`.
//!
//! It has four maps: a counter; the table (the number of entries, then the place that each entry stands for); the
//! sockets by place; and the routes that bypass the rotation (from a port to a place). The daemon assigns places, and
//! they never change, so the order of the kernel's list does not matter here. The table is changed by one write; a
//! connection that is dealt at this instant may still see the old one. The program itself is in [`super::program`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bpf;
use super::deal::Spread;
use super::program;
use super::program::{Maps, PLACES, ROUTES};
use super::shared::set_option;

/// `SO_ATTACH_REUSEPORT_EBPF` of `asm-generic/socket.h`.
const ATTACH: libc::c_int = 52;

/// The program in the kernel, and its maps.
#[derive(Debug)]
pub(super) struct Extended {
    program: OwnedFd,
    counter: OwnedFd,
    table: OwnedFd,
    sockets: OwnedFd,
    /// `None` for UDP, which has no connections.
    routes: Option<OwnedFd>,
    migrates: bool,
}

impl Extended {
    pub(super) fn load(spread: Spread) -> io::Result<Extended> {
        let counter = bpf::new_map("pmr_counter", bpf::ARRAY, 8, 1)?;
        let table = bpf::new_map("pmr_table", bpf::ARRAY, 4 * (1 + PLACES), 1)?;
        let sockets = bpf::new_map("pmr_sockets", bpf::REUSEPORT_SOCKARRAY, 8, PLACES)?;
        Extended::around(spread, counter, table, sockets)
    }

    /// A new program for maps that are in use. A socket can be in one such map only.
    fn around(spread: Spread, counter: OwnedFd, table: OwnedFd, sockets: OwnedFd) -> io::Result<Extended> {
        let (routes, deal) = match spread {
            Spread::Connections(deal) => (Some(bpf::new_map("pmr_routes", bpf::ARRAY, 4 * (1 + ROUTES), 1)?), deal),
            Spread::Datagrams(deal) => (None, deal),
        };
        let maps = Maps { counter: &counter, table: &table, sockets: &sockets, routes: routes.as_ref() };
        let load = |attach_type| {
            bpf::load("pmr_balancer", &program::code(&maps, deal, attach_type == bpf::SELECT_OR_MIGRATE), attach_type)
        };
        let (program, migrates) = match load(bpf::SELECT_OR_MIGRATE) {
            // Kernels before 5.14 know neither this type nor the field that the program then reads.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) => {
                (load(bpf::SELECT)?, false)
            }
            result => (result?, routes.is_some()),
        };
        Ok(Extended { program, counter, table, sockets, routes, migrates })
    }

    /// Uses the files that an earlier God made, under the names of [`Extended::files`]; `None` if one is missing.
    pub(super) fn adopt(files: &mut BTreeMap<String, OwnedFd>, migrates: bool) -> Option<Extended> {
        let routes = files.remove("routes");
        let mut file = |name: &str| files.remove(name);
        let (program, counter, table, sockets) = (file("program")?, file("counter")?, file("table")?, file("sockets")?);
        Some(Extended { program, counter, table, sockets, routes, migrates })
    }

    /// The same maps with a new program, which the caller must attach, and without routes.
    pub(super) fn renewed(&self, spread: Spread) -> io::Result<Extended> {
        let [counter, table, sockets] = [&self.counter, &self.table, &self.sockets].map(OwnedFd::try_clone);
        Extended::around(spread, counter?, table?, sockets?)
    }

    /// True if the program supports routes.
    pub(super) fn has_routes(&self) -> bool {
        self.routes.is_some()
    }

    /// True if the kernel also runs the program for the connections of a socket that closes.
    pub(super) fn migrates(&self) -> bool {
        self.migrates
    }

    pub(super) fn files(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let mut files = vec![
            ("program", self.program.as_fd()),
            ("counter", self.counter.as_fd()),
            ("table", self.table.as_fd()),
            ("sockets", self.sockets.as_fd()),
        ];
        files.extend(self.routes.iter().map(|routes| ("routes", routes.as_fd())));
        files
    }

    /// Attaches the program to the group of this socket.
    pub(super) fn attach(&self, member: impl AsFd) -> io::Result<()> {
        set_option(member, ATTACH, &self.program.as_raw_fd())
    }

    /// Puts a socket, which must listen already, at a place of the socket map.
    pub(super) fn place(&self, place: u32, socket: impl AsFd) -> io::Result<()> {
        let number = u64::from(socket.as_fd().as_raw_fd().cast_unsigned());
        bpf::update(&self.sockets, place, &number.to_ne_bytes())
    }

    /// Empties a place. The kernel has done so already if the socket is closed.
    pub(super) fn clear(&self, place: u32) {
        let _ = bpf::delete(&self.sockets, place);
    }

    /// Writes the entries of the table, at most [`PLACES`].
    pub(super) fn set_table(&self, places: &[u32]) -> io::Result<()> {
        let mut value = vec![0_u32; 1 + PLACES];
        value[0] = u32::try_from(places.len()).unwrap_or(0);
        value[1..].iter_mut().zip(places).for_each(|(to, from)| *to = *from);
        let bytes: Vec<u8> = value.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bpf::update(&self.table, 0, &bytes)
    }

    /// Writes the routes: connections from these ports go to these places. A route keeps its slot, so a change of one
    /// route does not touch the others.
    pub(super) fn set_routes(&self, routes: &[Option<(u16, u32)>; ROUTES]) -> io::Result<()> {
        let Some(map) = &self.routes else { return Ok(()) };
        let count = u32::try_from(routes.iter().flatten().count()).unwrap_or(0);
        let mut value = count.to_ne_bytes().to_vec();
        for route in routes {
            let (port, place) = route.unwrap_or_default();
            // The port as it is on the wire.
            value.extend(port.to_be_bytes());
            value.extend(u16::try_from(place).unwrap_or(u16::MAX).to_ne_bytes());
        }
        bpf::update(map, 0, &value)
    }

    /// How many connections the program has dealt; 0 for UDP.
    pub(super) fn placed(&self) -> io::Result<u64> {
        bpf::look_up(&self.counter, 0)
    }
}
