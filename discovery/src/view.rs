#![forbid(unsafe_code)]
//! [`View`]: at which addresses programs that are not gateways of ours reach containers. They send
//! plain HTTP to an address and know nothing else.

use std::net::SocketAddr;

use crate::address::Network;
use crate::record::{NodeName, Origin, Record, Target};

/// For whom addresses are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The node of the writer.
    pub node: NodeName,
    /// Where the readers are.
    pub readers: Readers,
}

/// Where the readers of addresses are, and so which containers they reach directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// On the node of the writer: they reach its own containers, if they are in this network, and
    /// others by the gateway of their node.
    Node(Option<Network>),
    /// On other machines: they reach every container by the gateway of its node.
    Elsewhere,
}

/// How readers reach a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where they connect to.
    pub address: SocketAddr,
    /// Whether that is the container itself, and not the gateway of its node, which looks the route
    /// up again.
    pub is_direct: bool,
}

impl View {
    /// Returns the way for the readers, whether or not it gets requests now. `None`: it has no
    /// address, or wants TLS or the PROXY protocol, or its node has no gateway.
    #[must_use]
    pub fn way(&self, record: &Record, gateway: Option<SocketAddr>) -> Option<Way> {
        let target = record.target.as_ref()?;
        let &Target { address: Origin::Ip(address), tls: false, proxy_protocol: None } = target else {
            return None;
        };
        let is_direct = match self.readers {
            Readers::Node(network) => {
                record.id.node == self.node && network.is_none_or(|network| network.contains(address.ip()))
            }
            Readers::Elsewhere => false,
        };
        match is_direct {
            true => Some(Way { address, is_direct }),
            false => gateway.map(|address| Way { address, is_direct }),
        }
    }
}
