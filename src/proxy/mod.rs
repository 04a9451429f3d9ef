#![forbid(unsafe_code)]
//! What a proxy decides about the messages that it joins. Pure: no clock, no socket.

mod endpoint;
pub mod hijack;
