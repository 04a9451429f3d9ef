#![forbid(unsafe_code)]
//! [`FrontDoor`]: takes the records of workers.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dockline::engine::tls::ServerTls;
use dockline::untrusted::Untrusted;
use log::{info, warn};

use super::names;
use super::stream::Stream;
use super::worker::line;
use super::{Answer, Reception, SILENCE};
use crate::record::NodeName;
use crate::update::{Source, Update};

/// Workers that may be connected, and clients that may be in their handshake.
pub const WORKERS: usize = 256;
/// The pause after a failed accept(2): for example, no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the updates of workers go. Called on threads of their own.
type Sink = Arc<dyn Fn(Update) + Send + Sync>;

/// Accepts workers, with a thread for each, for as long as the process lives.
pub struct FrontDoor {
    tls: Arc<ServerTls>,
    sink: Sink,
    /// The latest connection of each worker: an older one, whose end was not noticed yet, has
    /// nothing more to say.
    latest: Mutex<HashMap<Source, usize>>,
    connections: AtomicUsize,
}

impl FrontDoor {
    /// Starts to accept on a listening socket. The configuration has to ask for certificates of
    /// clients, and not for HTTP ([`ServerTlsConfig::http_only`]).
    ///
    /// # Errors
    /// If there is no thread for it.
    ///
    /// [`ServerTlsConfig::http_only`]: dockline::engine::tls::ServerTlsConfig::http_only
    pub fn start(listener: TcpListener, tls: Arc<ServerTls>, sink: Sink) -> io::Result<()> {
        let front =
            Arc::new(Self { tls, sink, latest: Mutex::default(), connections: AtomicUsize::default() });
        thread::Builder::new().name("front-door".into()).spawn(move || front.accept(&listener)).map(drop)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for number in 1.. {
            match listener.accept() {
                Ok((socket, peer)) => self.begin(number, socket, peer),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!("cannot accept workers: {error}; trying again");
                    #[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, number: usize, socket: TcpStream, peer: SocketAddr) {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= WORKERS {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return warn!("{peer}: there are {WORKERS} workers already; it is refused");
        }
        let front = Arc::clone(self);
        let started = thread::Builder::new().name("worker".into()).spawn(move || {
            front.serve(number, socket, peer);
            front.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = started {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            warn!("{peer}: no thread for it: {error}");
        }
    }

    fn serve(&self, number: usize, socket: TcpStream, peer: SocketAddr) {
        let mut stream = match Stream::accept(&self.tls, socket) {
            Ok(stream) => stream,
            Err(error) => {
                return warn!("a worker at {peer} is refused: {}", Untrusted::new(error.to_string()));
            }
        };
        let mut reception =
            Reception::new(stream.peer_certificate().map(names::of_certificate).unwrap_or_default());
        let end = self.receive(number, &mut stream, &mut reception);
        let node = reception.node().map(|node| &node.name);
        let name = node.map_or("a worker", NodeName::as_str);
        let reason = end.to_string();
        warn!("{name} at {peer}: {}", Untrusted::new(&reason));
        if let Some(update) = reception.ended(reason.as_str().into()) {
            self.pass_on(number, update);
        }
    }

    /// Receives until the connection ends. Returns why.
    fn receive(&self, number: usize, stream: &mut Stream, reception: &mut Reception) -> io::Error {
        let mut buf = vec![0; 64 * 1024];
        let (mut known, mut joined) = (false, false);
        loop {
            let n = match stream.receive(&mut buf, SILENCE) {
                Ok(0) => return io::Error::new(ErrorKind::UnexpectedEof, "the worker has gone"),
                Ok(n) => n,
                Err(error) => return error,
            };
            let updates = match reception.feed(&buf[..n]) {
                Ok(updates) => updates,
                Err(refusal) => {
                    // It may have gone already.
                    let _ = stream.send(&line(&Answer::Refused(refusal.to_string().into())));
                    return io::Error::new(ErrorKind::InvalidData, refusal);
                }
            };
            if !known && let Some(of_worker) = reception.source() {
                known = true;
                let mut latest = self.latest();
                let of_latest = latest.entry(Source::clone(of_worker)).or_default();
                *of_latest = number.max(*of_latest);
            }
            for update in updates {
                if !self.pass_on(number, update) {
                    return io::Error::other("it has connected again");
                }
            }
            if !joined && reception.is_synced() {
                joined = true;
                if let Some(node) = reception.node() {
                    info!("{} has joined", node.name);
                }
                if let Err(error) = stream.send(&line(&Answer::Joined)) {
                    return error;
                }
            }
        }
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, HashMap<Source, usize>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes an update on, unless the worker has a later connection. Returns whether it has not.
    /// The lock is held so that no update of an older connection follows one of a later one.
    fn pass_on(&self, number: usize, update: Update) -> bool {
        let latest = self.latest();
        let is_latest = latest.get(&update.source) == Some(&number);
        if is_latest {
            (self.sink)(update);
        }
        is_latest
    }
}

#[cfg(test)]
mod tests;
