//! An authority in a directory: it issues certificates for servers, clients and nodes, and revokes
//! them. Files have the names that docker and docker-machine use.
//!
//! ```text
//!   ca.pem, ca-key.pem, crl.pem, issued/SERIAL.pem      the directory of the authority (Store)
//!   ca.pem, server.pem, server-key.pem                  what a server gets
//!   ca.pem, cert.pem, key.pem                           what a client, or a node, gets
//! ```
//!
//! Keys are ECDSA P-256. There are no sockets here, and no clock: the time is an argument, in
//! seconds since 1970.

mod authority;
mod certificate;
mod error;
mod files;
mod names;
mod revoked;
mod store;

pub use authority::{Authority, Issued, Request};
pub use certificate::Certificate;
pub use error::{CertError, Reason};
pub use names::{Kind, Name, NameError};
pub use store::{Entry, State, Store};
