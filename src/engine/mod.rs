#![forbid(unsafe_code)]
//! The loop that owns its sockets: it accepts, connects, speaks HTTP and TLS, and relays tunnels.
//!
//! An [`Engine`] is one loop for one thread: one `epoll`, its connections, its timers, its idle
//! upstream connections; nothing is shared on the data path. [`Workers`] are several engines, each
//! on a thread of its own; the one that owns a listener spreads the connections that it accepts
//! over all of them.
//!
//! The host decides what becomes of a request, through its [`Router`], and gets records and events
//! through its [`Observer`]. Both are called on the thread of the loop and must not block.

mod accept;
pub(crate) mod causes;
mod connect;
mod counters;
mod decider;
mod drain;
mod endpoint;
#[expect(clippy::module_inception, reason = "the type that the module is named after")]
mod engine;
mod handle;
mod in_flight;
mod inbox;
mod local_listeners;
mod observe;
mod pool;
mod resolve;
mod route;
mod service;
mod session;
mod shared;
mod slab;
mod stream;
mod timers;
#[cfg(feature = "tls")]
pub mod tls;
mod workers;

pub use counters::Stats;
pub use decider::Decider;
pub use engine::{Engine, EngineOptions, EngineState};
pub use handle::{Handle, Kill, Pair};
pub use in_flight::InFlight;
pub use observe::{ClientInfo, Event, Exchange, Observer, OpenTunnel, PeerAddr, Proxied, Tunnel};
pub use route::{Destination, Route, RouteRequest, Router};
pub use service::{Address, Listener, ListenerHandle, ListenerSettings, Service, Upstream};
pub use workers::Workers;
