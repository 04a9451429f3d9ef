#![forbid(unsafe_code)]
//! A small blocking client of the Docker Engine API: [`Docker`].
//!
//! It is for threads that may wait. It connects by a Unix socket, TCP or TLS, keeps a few
//! connections for further requests, and reads responses with the library's own strict readers.
//! Everything has a bound: the size of a response and of an event, the time without a byte, and the
//! time of a request.
//!
//! # Versions
//! Paths have no version. Such a path means the newest version that the daemon has, so it works
//! with every daemon, old or new: a pinned one is refused by daemons that no longer know it (Docker
//! 29 begins at 1.44), or do not know it yet. What is read of the responses has to be there in all
//! versions, then. To negotiate would not help: it is for those who want the behaviour of one
//! version.

mod connection;
mod error;
mod events;
mod exchange;
mod json_sequence;

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dockline::engine::Address;
use dockline::engine::tls::ClientTls;
use dockline::h1::ResponseHead;
use dockline_sys::EventFd;
use serde::de::DeserializeOwned;

use self::connection::Connection;
pub use self::error::DockerError;
pub use self::events::{EventFilter, Events, Received};
use self::exchange::{Body, Patience, Request};

/// Time without a byte, after which a daemon counts as unreachable.
const SILENCE: Duration = Duration::from_secs(10);
/// Time for the whole response to a GET.
const RESPONSE_TIME: Duration = Duration::from_secs(60);
/// Limit for a response, unless the caller has one; a list of ten thousand containers is smaller.
pub const RESPONSE_MAX: usize = 64 * 1024 * 1024;
/// Limit for the body of a response whose status is not a success.
const REFUSAL_MAX: usize = 64 * 1024;
/// Connections that are kept for further requests.
const IDLE_MAX: usize = 8;

/// A Docker daemon. Clones share its connections, and may be used by several threads at a time, of
/// which each then has a connection of its own.
#[derive(Clone, Debug)]
pub struct Docker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    tls: Option<ClientTls>,
    idle: Mutex<Vec<Connection>>,
    closed: Arc<EventFd>,
}

impl Docker {
    /// Makes a client of the daemon at an address. It connects when there is a request.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new(address: Address) -> io::Result<Self> {
        Self::make(address, None)
    }

    /// As [`Docker::new`], with TLS.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn with_tls(address: Address, tls: ClientTls) -> io::Result<Self> {
        Self::make(address, Some(tls))
    }

    fn make(address: Address, tls: Option<ClientTls>) -> io::Result<Self> {
        let shared = Shared { address, tls, idle: Mutex::default(), closed: Arc::new(EventFd::new()?) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Ends whatever a thread waits for, with an error, for this and all clones. No further request
    /// succeeds.
    pub fn close(&self) {
        // It fails only if the kernel has no memory for eight bytes that it has already.
        let _ = self.shared.closed.signal();
    }

    /// Returns the object at a target, which is that of the API's documentation without a version.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, DockerError> {
        let bytes = self.get_bytes(target, RESPONSE_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| self.invalid(error))
    }

    /// As [`Docker::get`], without reading the object, which has at most `max` bytes.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub fn get_bytes(&self, target: &str, max: usize) -> Result<Vec<u8>, DockerError> {
        let patience = Patience::new(SILENCE, RESPONSE_TIME);
        self.call(&Request { method: "GET", target }, patience, max)
    }

    /// Makes a POST request without a body, such as to start a container, and waits for its
    /// response, at most for `time`. That nothing had to be done (304) is a success.
    ///
    /// # Errors
    /// See [`DockerError`]. The daemon may have done it even if its response did not come.
    pub fn post(&self, target: &str, time: Duration) -> Result<(), DockerError> {
        self.call(&Request { method: "POST", target }, Patience::new(time, time), RESPONSE_MAX).map(drop)
    }

    /// Subscribes to events, on a connection of its own. With `since`, nanoseconds since 1970, it
    /// begins with those of that time and later, as far as the daemon still has them: at most 256.
    ///
    /// # Errors
    /// See [`DockerError`].
    pub fn events(&self, filter: &EventFilter<'_>, since: Option<u64>) -> Result<Events, DockerError> {
        let target = filter.target(since);
        let patience = Patience::new(SILENCE, RESPONSE_TIME);
        let request = Request { method: "GET", target: &target };
        let (head, body) = self.send(self.connect(patience)?, &request, patience)?;
        if !head.status().is_success() {
            return Err(self.refused(head.status().as_u16(), body, patience));
        }
        Ok(Events::new(self.clone(), body))
    }

    fn call(&self, request: &Request<'_>, patience: Patience, max: usize) -> Result<Vec<u8>, DockerError> {
        let (head, mut body) = self.exchange(request, patience)?;
        let status = head.status();
        if !status.is_success() && status.as_u16() != 304 {
            return Err(self.refused(status.as_u16(), body, patience));
        }
        let bytes = body.read_all(max, patience).map_err(|error| self.failed(error))?;
        self.keep(body);
        Ok(bytes)
    }

    /// Sends a request and reads the head of its response. One that may be repeated goes by a kept
    /// connection; if the daemon has closed that in the meantime, by a new one.
    fn exchange(
        &self,
        request: &Request<'_>,
        patience: Patience,
    ) -> Result<(ResponseHead, Body), DockerError> {
        if request.method == "GET"
            && let Some(kept) = self.take_idle()
        {
            match Body::request(kept, request, patience) {
                Err(error) if is_dead(&error) => {}
                result => return result.map_err(|error| self.failed(error)),
            }
        }
        self.send(self.connect(patience)?, request, patience)
    }

    fn send(
        &self,
        connection: Connection,
        request: &Request<'_>,
        patience: Patience,
    ) -> Result<(ResponseHead, Body), DockerError> {
        Body::request(connection, request, patience).map_err(|error| self.failed(error))
    }

    fn connect(&self, patience: Patience) -> Result<Connection, DockerError> {
        let Shared { address, tls, closed, .. } = &*self.shared;
        Connection::open(address, tls.as_ref(), closed, patience)
            .map_err(|source| DockerError::Unreachable { address: address.clone(), source })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(Connection::is_silent)
    }

    fn keep(&self, body: Body) {
        if let Some(connection) = body.into_connection() {
            let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
    }

    fn refused(&self, status: u16, mut body: Body, patience: Patience) -> DockerError {
        match body.read_all(REFUSAL_MAX, patience) {
            Ok(bytes) => {
                self.keep(body);
                DockerError::refused(status, &bytes)
            }
            Err(error) => self.failed(error),
        }
    }

    /// Returns the error of a connection that was made.
    fn failed(&self, source: io::Error) -> DockerError {
        let address = self.address().clone();
        match source.kind() {
            ErrorKind::InvalidData => DockerError::Invalid { address, source: Box::new(source) },
            _ => DockerError::Lost { address, source },
        }
    }

    fn invalid(&self, error: serde_json::Error) -> DockerError {
        DockerError::Invalid { address: self.address().clone(), source: Box::new(error) }
    }
}

/// Returns whether an error on a kept connection means that the daemon has closed it.
fn is_dead(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Returns whether a text can be the name or id of a container, which needs no escaping in a path.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[expect(clippy::disallowed_methods, reason = "the threads that wait have to know for how long")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
