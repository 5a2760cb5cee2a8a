//! Shared listening sockets and the channels to the workers that share them.
