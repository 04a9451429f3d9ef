#![forbid(unsafe_code)]
//! The parts of docker-proxy that `dockline` shares: datagrams, and folders for local sockets.

pub mod private_dir;
mod sessions;
pub mod udp;
