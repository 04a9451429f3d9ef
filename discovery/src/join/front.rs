#![forbid(unsafe_code)]
//! [`FrontDoor`]: takes the records of workers.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dockline::engine::tls::ServerTls;
use dockline::untrusted::Untrusted;
use log::{info, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::connections::{Connections, Verdict};
use super::names;
use super::stream::{Stream, timespec};
use super::worker::line;
use super::{Answer, Reception, SILENCE};
use crate::record::NodeName;
use crate::update::{Change, Update};

/// The pause after a failed accept(2): for example, no descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the updates of workers go. Called on threads of their own.
type Sink = Arc<dyn Fn(Update) + Send + Sync>;

/// Accepts workers, with a thread for each. Dropping it ends that, and all connections; what the
/// workers have told stays with the sink.
pub struct FrontDoor {
    shared: Arc<Shared>,
}

struct Shared {
    terms: Mutex<Terms>,
    sink: Sink,
    connections: Mutex<Connections>,
    /// Wakes the thread that accepts.
    event: OwnedFd,
}

/// What can change while it is open.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The TLS of new connections. It has to ask for certificates of clients, and not for HTTP
    /// ([`ServerTlsConfig::http_only`]).
    ///
    /// [`ServerTlsConfig::http_only`]: dockline::engine::tls::ServerTlsConfig::http_only
    pub tls: Arc<ServerTls>,
    /// How long the records of a worker without a connection stay, marked stale, before they are
    /// forgotten ([`Change::Gone`]); `None`: until it is back.
    pub keep: Option<Duration>,
}

impl FrontDoor {
    /// Starts to accept on listening sockets.
    ///
    /// # Errors
    /// If there is no descriptor or no thread for it.
    pub fn start(listeners: Vec<TcpListener>, terms: Terms, sink: Sink) -> io::Result<Self> {
        // Another process may accept from the same sockets: then one of them comes too late.
        listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (terms, connections) = (Mutex::new(terms), Mutex::default());
        let shared = Arc::new(Shared { terms, sink, connections, event });
        let accepting = Arc::clone(&shared);
        thread::Builder::new().name("front-door".into()).spawn(move || {
            accepting.accept(&listeners);
            // Before the sink, whose end may be waited for.
            drop(listeners);
        })?;
        Ok(Self { shared })
    }

    /// Changes the terms of connections that begin, or end, from now on.
    pub fn set_terms(&self, terms: Terms) {
        *self.shared.terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// Ends the connections and accepts no others, for another process that has the sockets too:
    /// workers join that one at once.
    pub fn pause(&self) {
        self.shared.connections().pause();
        self.shared.wake();
    }

    /// Accepts again.
    pub fn resume(&self) {
        self.shared.connections().resume();
        self.shared.wake();
    }

    /// Ends all, and forgets what the workers have told.
    pub fn close(self) {
        let mut connections = self.shared.connections();
        connections.stop();
        for source in connections.take_all() {
            (self.shared.sink)(Update { source, change: Change::Gone });
        }
    }
}

impl Drop for FrontDoor {
    fn drop(&mut self) {
        self.shared.connections().stop();
        self.shared.wake();
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terms(&self) -> Terms {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wake(&self) {
        // The counter is full only if nobody has looked at it for long.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Accepts until the front door is dropped.
    fn accept(self: &Arc<Self>, listeners: &[TcpListener]) {
        let mut pause = None;
        loop {
            let (deadline, is_paused) = {
                let mut connections = self.connections();
                if connections.is_stopped() {
                    return;
                }
                for source in connections.take_forgotten(crate::now()) {
                    warn!("{source}: it has not come back; its routes are forgotten");
                    (self.sink)(Update { source, change: Change::Gone });
                }
                let deadline = connections.deadline();
                let wait = deadline.map(|due| due.saturating_duration_since(crate::now()));
                (wait, connections.is_paused())
            };
            let wait = pause.take().or(deadline);
            let mut fds = vec![PollFd::new(&self.event, PollFlags::IN)];
            if wait != Some(ACCEPT_PAUSE) && !is_paused {
                fds.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
            }
            let _ = poll(&mut fds, wait.map(timespec).as_ref());
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
            if self.connections().is_paused() {
                continue;
            }
            for listener in listeners {
                match listener.accept() {
                    Ok((socket, peer)) => self.begin(socket, peer),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                        _ => {
                            warn!("cannot accept workers: {error}; trying again");
                            pause = Some(ACCEPT_PAUSE);
                        }
                    },
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let begun = socket.try_clone().map(|handle| self.connections().begin(handle));
        let number = match begun {
            Ok(Some(number)) => number,
            Ok(None) => return,
            Err(error) => return warn!("{peer}: no descriptor for it: {error}"),
        };
        let place = Place { front: Arc::clone(self), number };
        let serve = move || place.front.serve(place.number, socket, peer);
        if let Err(error) = thread::Builder::new().name("worker".into()).spawn(serve) {
            warn!("{peer}: no thread for it: {error}");
        }
    }

    fn serve(&self, number: usize, socket: TcpStream, peer: SocketAddr) {
        let mut stream = match Stream::accept(&self.terms().tls, socket) {
            Ok(stream) => stream,
            Err(error) => {
                return warn!("a worker at {peer} is refused: {}", Untrusted::new(error.to_string()));
            }
        };
        let names = stream.peer_certificate().map(names::of_certificate).unwrap_or_default();
        let mut reception = Reception::new(names, peer.ip());
        let has_room = self.connections().verified(number);
        let end = match has_room {
            true => self.receive(number, &mut stream, &mut reception),
            false => Verdict::Full.into(),
        };
        if let Some(verdict) = end.get_ref().and_then(|error| error.downcast_ref::<Verdict>()) {
            // It may have gone already.
            let _ = stream.send(&line(&Answer::Refused(verdict.to_string().into())));
        }
        let node = reception.node().map(|node| &node.name);
        let name = node.map_or("a worker", NodeName::as_str);
        let reason = end.to_string();
        if self.connections().is_stopped() {
            return;
        }
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
                Ok(n) if n > 0 => n,
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => return error,
                Ok(_) | Err(_) => {
                    return match self.connections().is_superseded(number) {
                        true => Verdict::Superseded.into(),
                        false => io::Error::new(ErrorKind::UnexpectedEof, "the worker has gone"),
                    };
                }
            };
            let updates = match reception.feed(&buf[..n]) {
                Ok(updates) => updates,
                Err(refusal) => return Verdict::Refused(refusal).into(),
            };
            if !known && let Some(source) = reception.source() {
                known = true;
                self.connections().introduce(number, source);
            }
            for update in updates {
                if !self.pass_on(number, update) {
                    return Verdict::Superseded.into();
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

    /// Passes an update on, unless the worker has a later connection. Returns whether it has not.
    /// The lock is held so that no update of an older connection follows one of a later one.
    fn pass_on(&self, number: usize, update: Update) -> bool {
        let connections = self.connections();
        let is_latest = !connections.is_stopped() && !connections.is_superseded(number);
        if is_latest {
            (self.sink)(update);
        }
        is_latest
    }
}

/// The place of a connection among the others. It is free when this is dropped, also by a panic.
struct Place {
    front: Arc<Shared>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let keep = self.front.terms().keep;
        // Too far in the future is never.
        let due = keep.and_then(|keep| crate::now().checked_add(keep));
        self.front.connections().end(self.number, due);
        self.front.wake();
    }
}

#[cfg(test)]
mod tests;
