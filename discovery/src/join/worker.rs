#![forbid(unsafe_code)]
//! [`Worker`]: pushes the records of this node to a front door.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dockline::engine::tls::ClientTls;
use dockline::untrusted::Untrusted;
use log::{info, warn};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use serde::Serialize;

use super::stream::{Stream, Woken, timespec};
use super::{ALIVE, Answer, LINE_MAX, Line, hello, lines_of};
use crate::outbox::Outbox;
use crate::record::Node;
use crate::update::{Change, Update};

/// Limit for one attempt to connect.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Pauses between attempts, the first and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The pause after a refusal: it will not go away by itself.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The address of a front door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontAddress {
    /// Its name or IP address, which its certificate has to be for.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for FrontAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls://{}:{}", Untrusted::new(&self.host), self.port)
    }
}

/// Takes the updates of local sources; a thread pushes them to a front door. Clones are the same
/// one.
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    outbox: Mutex<Outbox>,
    is_stopped: AtomicBool,
    /// Wakes the thread.
    event: OwnedFd,
}

impl Worker {
    /// Starts the thread. It connects when a source has said what it has, and again after each end
    /// of the connection, until it is stopped.
    ///
    /// # Errors
    /// If there is no descriptor or no thread for it.
    pub fn start(front: FrontAddress, tls: Arc<ClientTls>, node: Node) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let outbox = Mutex::new(Outbox::new(node.clone()));
        let shared = Arc::new(Shared { outbox, is_stopped: AtomicBool::new(false), event });
        let connection = Connection { front, tls, node, shared: Arc::clone(&shared) };
        thread::Builder::new().name("join".into()).spawn(move || connection.run())?;
        Ok(Self { shared })
    }

    /// Takes an update of a local source. Never blocks.
    pub fn apply(&self, update: Update) {
        self.shared.lock().apply(update);
        self.shared.wake();
    }

    /// Ends the connection, and makes no other.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.wake();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // The counter is full only if nobody has looked at it for long.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    fn take(&self) -> Vec<Change> {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        self.lock().take()
    }

    /// Waits until there is something new, at most for `limit`.
    fn wait(&self, limit: Option<Duration>) {
        let _ = poll(&mut [PollFd::new(&self.event, PollFlags::IN)], limit.map(timespec).as_ref());
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// Waits for some time. Returns whether the worker was not stopped.
    fn pause(&self, time: Duration) -> bool {
        let end = crate::now() + time;
        while !self.is_stopped() {
            match end.saturating_duration_since(crate::now()) {
                Duration::ZERO => return true,
                left => self.wait(Some(left)),
            }
        }
        false
    }
}

/// Why a connection to the front door has ended.
enum End {
    Refused(String),
    Failed(io::Error),
    Stopped,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

struct Connection {
    front: FrontAddress,
    tls: Arc<ClientTls>,
    node: Node,
    shared: Arc<Shared>,
}

impl Connection {
    fn run(self) {
        while !self.shared.lock().is_complete() && !self.shared.is_stopped() {
            self.shared.wait(None);
        }
        let (first, longest) = PAUSE;
        let (mut pause, mut wait) = (first, Duration::ZERO);
        let mut last_told = String::new();
        while self.shared.pause(wait) {
            let mut joined = false;
            let Err(end) = self.serve(&mut joined);
            if joined {
                pause = first;
                last_told.clear();
            }
            let reason;
            (reason, wait) = match end {
                End::Refused(reason) => (format!("refused: {reason}"), REFUSED_PAUSE),
                End::Failed(error) => (error.to_string(), pause),
                End::Stopped => return,
            };
            // Once for each reason: a front door may be away for days.
            if reason != last_told {
                warn!("{}: {}; trying again", self.front, Untrusted::new(&reason));
                last_told = reason;
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// Serves one connection until it ends. `joined` is set once the front door has everything.
    fn serve(&self, joined: &mut bool) -> Result<std::convert::Infallible, End> {
        let mut stream = self.connect()?;
        self.shared.lock().restart();
        stream.send(&line(&hello(self.node.clone())))?;
        let (mut answer, mut buf) = (Vec::new(), [0; 4096]);
        while !self.shared.is_stopped() {
            let lines: Vec<Line> = self.shared.take().into_iter().flat_map(lines_of).collect();
            let bytes: Vec<u8> = lines.iter().flat_map(line).collect();
            stream.send(&bytes)?;
            while let Some(n) = stream.receive_now(&mut buf)? {
                if n == 0 {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
                }
                answer.extend_from_slice(&buf[..n]);
                while let Some(end) = answer.iter().position(|&byte| byte == b'\n') {
                    let read = serde_json::from_slice(&answer[..end]);
                    answer.drain(..=end);
                    match read.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
                        Answer::Joined => {
                            *joined = true;
                            info!("joined {} as {}", self.front, self.node.name);
                        }
                        Answer::Refused(why) => return Err(End::Refused(why.to_string())),
                    }
                }
                if answer.len() > LINE_MAX {
                    return Err(io::Error::from(ErrorKind::InvalidData).into());
                }
            }
            if stream.wait(self.shared.event.as_fd(), ALIVE)? == Woken::Timeout {
                stream.send(&line(&Line::Alive))?;
            }
        }
        Err(End::Stopped)
    }

    fn connect(&self) -> io::Result<Stream> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in (self.front.host.as_str(), self.front.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(socket) => return Stream::connect(&self.tls, &self.front.host, socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Returns a value as a line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}
