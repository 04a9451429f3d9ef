//! The core of a proxy for the Docker Engine API: HTTP/1.1 heads and framing, the decision when a
//! connection stops being HTTP, and the relay of raw streams that follows.
//!
//! Docker's API is only mostly HTTP. `attach`, `exec`, `/session` and `/grpc` turn the connection into a
//! two-way byte stream, and what breaks it in most proxies is not the switch but the end: a client says
//! "no more input" by half-closing, and a proxy that takes that for the end of the connection loses the
//! output that was still to come.
//!
//! # Layers
//! An arrow never points up.
//!
//! | module | what it is | needs |
//! |---|---|---|
//! | [`h1`] | heads, framing, chunked bodies; strict | bytes, httparse |
//! | [`proxy`] | the hijack decision | – |
#![deny(unsafe_code)]

pub mod error;
pub mod h1;
pub mod limits;
pub mod proxy;
