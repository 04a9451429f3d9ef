//! The core of a proxy for the Docker Engine API: HTTP/1.1 heads and framing, the decision when a
//! connection stops being HTTP, and the relay of raw streams that follows.
//!
//! Docker's API is only mostly HTTP. `attach`, `exec`, `/session` and `/grpc` turn the connection
//! into a two-way byte stream, and what breaks it in most proxies is not the switch but the end: a
//! client says "no more input" by half-closing, and a proxy that takes that for the end of the
//! connection loses the output that was still to come.
//!
//! # Layers
//! An arrow never points up.
//!
//! | module | what it is | needs |
//! |---|---|---|
//! | [`h1`] | heads, framing, chunked bodies; strict | bytes, httparse |
//! | [`proxy`] | `ProxyConn`, HTTP proxying without sockets; the hijack decision | – |
//! | [`relay`] | two directions of bytes as a state machine | – |
//! | [`drive`] | that machine on real sockets, driven by the host | dockline-sys, feature `drive` |
//! | [`routes`] | which host and path lead where | – |
//! | [`engine`] | a loop that owns its sockets: HTTP, TLS, tunnels | mio, feature `engine`; rustls, feature `tls` |
//! | [`untrusted`] | text from outside that is shown without harm | – |
//! | `routes_file` | routes in a file that another process replaces | feature `ffi` |
//! | `ffi` | the C ABI | feature `ffi` |
//!
//! The words for the two connections are nginx's: [`Side::Downstream`](error::Side) is the
//! client's, [`Side::Upstream`](error::Side) the daemon's.
//!
//! # A relay in a loop of one's own
//! ```
//! # #[cfg(feature = "drive")] {
//! use std::io::{Read, Write};
//! use std::net::Shutdown;
//! use std::os::unix::net::UnixStream;
//! use std::time::Instant;
//!
//! use dockline::drive::{Ready, Relay, RelayOptions, Socket, State, Worker, WorkerOptions};
//! use dockline::relay::Readiness;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut client, downstream) = UnixStream::pair()?;
//! let (mut daemon, upstream) = UnixStream::pair()?;
//! downstream.set_nonblocking(true)?;
//! upstream.set_nonblocking(true)?;
//!
//! let mut worker = Worker::new(WorkerOptions::default()); // one a thread
//! let sides = (Socket::new(downstream), Socket::new(upstream));
//! let mut relay = Relay::new(sides.0, sides.1, RelayOptions::default(), Instant::now())?;
//!
//! client.write_all(b"no more input after this")?;
//! client.shutdown(Shutdown::Write)?;
//! let all = Ready { downstream: Readiness::ALL, upstream: Readiness::ALL };
//! let wants = relay.pump(&mut worker, all, Instant::now());
//! assert_eq!(wants.state, State::Running); // now wait for wants.upstream, with a poller
//!
//! let mut input = String::new();
//! daemon.read_to_string(&mut input)?;
//! daemon.write_all(input.to_uppercase().as_bytes())?;
//! drop(daemon);
//! assert_eq!(relay.pump(&mut worker, all, Instant::now()).state, State::Done);
//!
//! let mut output = String::new();
//! client.read_to_string(&mut output)?;
//! assert_eq!(output, "NO MORE INPUT AFTER THIS");
//! # Ok(()) }
//! # main().unwrap();
//! # }
//! ```
//!
//! # Promises
//! Nothing global: no logger, signal handler, thread, environment variable or descriptor is touched
//! behind the host's back. Time is an argument. Bytes that were accepted are delivered or their
//! loss is told by an unclean end. Every buffer has a bound.
#![deny(unsafe_code)]

pub mod error;
pub mod h1;
pub mod limits;
pub mod proxy;
pub mod relay;
pub mod routes;
pub mod untrusted;

#[cfg(feature = "drive")]
pub mod drive;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "ffi")]
pub mod ffi;
#[cfg(feature = "ffi")]
pub mod routes_file;

#[cfg(feature = "drive")]
use dockline_sys as sys;
