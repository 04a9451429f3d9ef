#![forbid(unsafe_code)]
//! The part of docker-proxy that `dockline publish` shares: datagrams.

mod sessions;
pub mod udp;
