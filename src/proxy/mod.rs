#![forbid(unsafe_code)]
//! What a proxy decides about the messages that it joins. Pure: no clock, no socket.

mod config;
pub mod conn;
pub mod hijack;
mod operation;
mod proxy_protocol;
mod reply;
mod rewrite;
mod trusted;

pub use config::{ConnConfig, Forwarding};
pub use conn::{ExchangeEnd, ProxyConn};
pub use proxy_protocol::{InvalidProxyHeader, ProxyHeader, ProxyProtocol};
pub use reply::Reply;
pub use rewrite::{Rewrite, RewriteError};
pub use trusted::{InvalidNetwork, Network, TrustedPeer, TrustedPeers};
