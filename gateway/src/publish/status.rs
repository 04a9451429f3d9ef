#![forbid(unsafe_code)]
//! What is told about a published port: the answer on the control socket, and a line of `ports --format json`.

use std::net::SocketAddr;

use dockline::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

use super::ports::Proto;

/// Who published a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    Dockline,
    Docker,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortStatus {
    pub(crate) by: By,
    /// Of the publication; several ports may share it. Of Docker's ports: the container's.
    pub(crate) id: Untrusted<String>,
    pub(crate) proto: Proto,
    pub(crate) listen: SocketAddr,
    pub(crate) container: Option<Untrusted<String>>,
    /// `None`: the container does not run.
    pub(crate) target: Option<SocketAddr>,
    /// The port at the target.
    pub(crate) port: u16,
    /// Only what dockline serves has the rest.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) served: Option<Served>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) pid: u32,
    /// Whether the kernel forwards what comes from outside; that is not counted.
    pub(crate) dnat: bool,
    /// Seconds.
    pub(crate) ends_in: Option<u64>,
    /// So far, open ones included.
    pub(crate) connections: u64,
    /// From clients.
    pub(crate) bytes_up: u64,
    /// To clients.
    pub(crate) bytes_down: u64,
    pub(crate) clients: Vec<Client>,
}

/// Who is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) peer: Untrusted<String>,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    /// Since when.
    pub(crate) seconds: u64,
}
