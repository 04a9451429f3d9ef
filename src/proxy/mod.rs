#![forbid(unsafe_code)]
//! What a proxy decides about the messages that it joins. Pure: no clock, no socket.

mod config;
mod endpoint;
pub mod hijack;
mod reply;

pub use config::{ConnConfig, Forwarding};
pub use reply::Reply;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangeEnd {
    /// The answer was delivered whole, or the tunnel was opened.
    Complete,
}
