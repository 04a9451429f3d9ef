#![forbid(unsafe_code)]
//! TLS by rustls: [`ServerTls`] for the clients of a listener, [`ClientTls`] towards an upstream,
//! and the [`TlsStream`] that both make from a connected socket.
//!
//! TLS 1.2 and 1.3, no early data, no renegotiation; the cryptography is ring's, and no
//! process-wide default is read or set. Configurations are made from [`Pem`] material and can be
//! reloaded: new connections use the new one, others keep theirs.

mod client;
mod error;
mod pem;
mod record;
mod server;
mod stream;

use std::sync::Arc;

pub use client::{ClientTls, ClientTlsConfig};
pub use error::{TlsError, TlsErrorKind};
pub use pem::{Credentials, Pem, check_key_file};
pub use server::{Identify, ServerTls, ServerTlsConfig};
pub use stream::{HANDSHAKE_LIMIT, Handshake, TlsStream};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
