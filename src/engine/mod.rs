#![forbid(unsafe_code)]
//! The loop that owns its sockets: it accepts, connects, speaks HTTP and TLS, and relays tunnels.
//!
//! An [`Engine`] is one loop for one thread: one `epoll`, its connections, its timers, its unused upstream
//! connections, nothing shared on the data path. [`Workers`] are several of them, each on a thread of its own; the
//! one that owns a listener spreads what it accepts over all.
//!
//! What becomes of a request is the host's decision, asked through [`Router`]; what happened is told to its
//! [`Observer`]. Both are called on the thread of the loop and must not block.

mod accept;
mod body;
mod causes;
mod closing;
mod connect;
mod core;
mod forward;
mod handle;
#[cfg(feature = "tls")]
mod handshake;
mod http;
mod inbox;
mod observe;
mod own;
mod pool;
mod resolve;
mod run;
mod service;
mod session;
mod slab;
mod stream;
mod timers;
#[cfg(feature = "tls")]
pub mod tls;
mod tunnel;
mod workers;

pub use handle::{Handle, Pair};
pub use observe::{ClientInfo, Event, Exchange, Observer, OpenTunnel, PeerAddr, Stats, Tunnel};
pub use run::{Engine, EngineOptions, EngineState};
pub use service::{Address, Listener, ListenerHandle, ListenerSettings, Route, Router, Service, Upstream};
pub use workers::Workers;
