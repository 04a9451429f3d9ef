#![forbid(unsafe_code)]
//! The fake daemon. A token in the head of a request identifies its case, whose script the daemon
//! plays. Both ends of a case are in one process, so no protocol is needed to compare what they
//! saw.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use super::wire::{Endpoint, Fault, Head, Outcome, Socket, Wire, now};

/// How long a proxy may keep an idle connection to the daemon.
const KEPT: Duration = Duration::from_secs(600);

/// The daemon waits a little longer than the client, so that the client reports a timeout.
const GRACE: Duration = Duration::from_millis(200);

/// What happens to the daemon's connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Close,
}

/// Called for each request of the case, before its body is read.
pub(super) type Script = Box<dyn Fn(&mut Wire, &Head) -> Outcome<Then> + Send + Sync>;

/// A request that reached the daemon.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The number of the daemon's connection on which it arrived.
    pub(super) connection: usize,
    pub(super) head: Head,
}

/// A case at the daemon: its script, and the results so far.
pub(super) struct Play {
    script: Script,
    deadline: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    running: usize,
    fault: Option<Fault>,
}

impl Play {
    pub(super) fn new(script: Script, deadline: Instant) -> Self {
        Self { script, deadline, state: Mutex::default(), changed: Condvar::new() }
    }

    fn perform(&self, wire: &mut Wire, head: Head, connection: usize) -> Then {
        let mut state = lock(&self.state);
        state.seen.push(Seen { connection, head: head.clone() });
        state.running += 1;
        drop(state);
        wire.deadline = self.deadline + GRACE;
        let result = (self.script)(wire, &head);
        let mut state = lock(&self.state);
        state.running -= 1;
        self.changed.notify_all();
        result.unwrap_or_else(|fault| {
            state.fault.get_or_insert(fault);
            Then::Close
        })
    }

    /// Returns the requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    /// Returns the first fault of a script so far.
    pub(super) fn fault(&self) -> Option<Fault> {
        lock(&self.state).fault.clone()
    }

    /// Waits until no script runs. Each ends at its deadline at the latest.
    pub(super) fn join(&self) {
        let state = lock(&self.state);
        drop(self.changed.wait_while(state, |state| state.running > 0));
    }
}

struct Shared {
    plays: Mutex<HashMap<String, Arc<Play>>>,
    connections: AtomicUsize,
    stopping: AtomicBool,
}

/// Listens until it is dropped.
pub(super) struct Daemon {
    shared: Arc<Shared>,
    at: Endpoint,
}

impl Daemon {
    pub(super) fn start(at: &Endpoint) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            plays: Mutex::default(),
            connections: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let at = match at {
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let bound = listener.local_addr()?.to_string();
                let accept = move || {
                    let (stream, _) = listener.accept()?;
                    stream.set_nodelay(true)?;
                    Ok(Socket::Tcp(stream))
                };
                thread::spawn(move || accepting.run(accept));
                Endpoint::Tcp(bound)
            }
            Endpoint::Unix(path) => {
                remove_stale(path);
                let listener = UnixListener::bind(path)?;
                let accept = move || listener.accept().map(|(stream, _)| Socket::Unix(stream));
                thread::spawn(move || accepting.run(accept));
                at.clone()
            }
        };
        Ok(Self { shared, at })
    }

    /// Returns its address, with the actual port.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.at
    }

    /// Registers a script for requests with this token in their head.
    pub(super) fn stage(&self, token: &str, play: Arc<Play>) {
        lock(&self.shared.plays).insert(token.to_owned(), play);
    }

    pub(super) fn clear(&self, token: &str) {
        lock(&self.shared.plays).remove(token);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the accepting thread.
        drop(self.at.connect());
        if let Endpoint::Unix(path) = &self.at {
            drop(fs::remove_file(path));
        }
    }
}

impl Shared {
    fn run(self: Arc<Self>, accept: impl Fn() -> io::Result<Socket>) {
        while !self.stopping.load(Ordering::Acquire) {
            if let Ok(socket) = accept() {
                let shared = Arc::clone(&self);
                thread::spawn(move || shared.converse(socket));
            }
        }
    }

    fn converse(&self, socket: Socket) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut wire = Wire::new(socket, "daemon", now());
        loop {
            wire.deadline = now() + KEPT;
            let Ok(head) = wire.head("a request") else { return };
            let last = head.is_last();
            let play = lock(&self.plays)
                .iter()
                .find(|(token, _)| contains(&head.raw, token))
                .map(|(_, play)| play.clone());
            let then = match play {
                Some(play) => play.perform(&mut wire, head, number),
                // A health check of the proxy, or a request of a case that has ended.
                None => {
                    drop(wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
                    Then::Close
                }
            };
            if then == Then::Close || last {
                return;
            }
        }
    }
}

/// Removes a stale socket.
fn remove_stale(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        drop(fs::remove_file(path));
    }
}

fn contains(bytes: &[u8], token: &str) -> bool {
    bytes.windows(token.len()).any(|window| window == token.as_bytes())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An action of one side that the other waits for.
#[derive(Clone, Default)]
pub(super) struct Flag(Arc<(Mutex<bool>, Condvar)>);

impl Flag {
    pub(super) fn raise(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is raised, and returns whether that was before the deadline.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        let patience = deadline.saturating_duration_since(now());
        let raised = self.0.1.wait_timeout_while(lock(&self.0.0), patience, |raised| !*raised);
        *raised.unwrap_or_else(PoisonError::into_inner).0
    }
}
