#![forbid(unsafe_code)]
//! What a proxy decides about the messages that it joins. Pure: no clock, no socket.

mod config;
pub mod conn;
pub mod hijack;
mod introduction;
mod operation;
mod reply;

pub use config::{ConnConfig, Forwarding};
pub use conn::{ExchangeEnd, ProxyConn};
pub use introduction::ProxyProtocol;
pub use reply::Reply;
