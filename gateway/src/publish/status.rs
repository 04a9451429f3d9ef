#![forbid(unsafe_code)]
//! [`PortStatus`]: a published port, in replies on the control socket and lines of `ports --format
//! json`.

use std::net::SocketAddr;

use dockline::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

use super::ports::Proto;

/// The program that has published a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    Dockline,
    Docker,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortStatus {
    pub(crate) by: By,
    /// The ID of the publication, which may have several ports; for ports of Docker, that of the
    /// container.
    pub(crate) id: Untrusted<String>,
    pub(crate) proto: Proto,
    pub(crate) listen: SocketAddr,
    pub(crate) container: Option<Untrusted<String>>,
    /// `None`: the container is not running.
    pub(crate) target: Option<SocketAddr>,
    /// The port at the target.
    pub(crate) port: u16,
    /// Only for ports that dockline serves.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) served: Option<Served>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) pid: u32,
    /// Whether the kernel forwards traffic from outside, which is not counted.
    pub(crate) dnat: bool,
    /// Seconds until the publication ends.
    pub(crate) ends_in: Option<u64>,
    /// So far, including open ones.
    pub(crate) connections: u64,
    /// Bytes from clients.
    pub(crate) bytes_up: u64,
    /// Bytes to clients.
    pub(crate) bytes_down: u64,
    pub(crate) clients: Vec<Client>,
}

/// A connected client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) peer: Untrusted<String>,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    /// Seconds since it has connected.
    pub(crate) seconds: u64,
}
