#![forbid(unsafe_code)]
//! One process that serves the TCP ports of many.
//!
//! dockerd wants a process for each port, to signal and to wait for. With a broker that process
//! only holds the port: it passes a duplicate of its socket on (see [`stub`](crate::stub)) and
//! sleeps. When it ends, its connection to the broker closes, and with it the port.
//!
//! They meet at a Unix socket in a directory that nobody else can access ([`private_dir`]): whoever
//! could bind the name first would be given every port. The network namespace is part of the name,
//! because the containers' addresses are valid in that only. Both sides also check the credentials
//! of the peer.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dockline::engine::{EngineOptions, ListenerHandle, Observer, Workers};
use dockline_sys::{self as sys, Inet, private_dir, process};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::tcp::{self, Target};

/// More than the longest request: a target in text, and the end of the line.
const REQUEST_BYTES: usize = 128;

/// Limit for a request: a stub sends it at once.
const REQUEST_TIME: Duration = Duration::from_secs(1);

/// Pause of accepting when no descriptor is left for another stub.
const PAUSE: Duration = Duration::from_millis(100);

/// Limit for the first port: the process that started the broker may have died.
const IDLE: Duration = Duration::from_secs(5);

/// Longest name, in bytes: the path of the socket has to fit into an address.
const NAME_MAX: usize = 40;

/// The rule for names, to follow the name in a message.
pub(crate) const NAME_RULE: &str = "must be a name of at most 40 bytes without slashes";

const LISTENER: Token = Token(usize::MAX);

/// Returns whether a broker can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.contains(['/', '\0'])
}

/// The place of a broker's socket.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    socket: PathBuf,
}

impl Place {
    /// Creates the directory if it is missing, and checks that it is private to this user.
    pub(crate) fn of(name: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(ErrorKind::InvalidInput, why);
        if !is_name(name) {
            return Err(invalid(NAME_RULE));
        }
        let dir = private_dir::runtime_dir().ok_or_else(|| invalid("XDG_RUNTIME_DIR is not set"))?;
        let dir = private_dir::create(&dir.join("brokers"))?;
        let network = fs::metadata("/proc/self/ns/net")?.ino();
        let socket = dir.join(format!("{name}-{network}.sock"));
        Ok(Self { dir, socket })
    }

    /// Connects without blocking: the backlog of a stopped broker may be full.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::from(OwnedFd::from(mio::net::UnixStream::connect(&self.socket)?));
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Listens, unless another broker does. Returns the inode of the socket as well.
    fn listen(&self) -> io::Result<(UnixListener, u64)> {
        let _lock = private_dir::lock(&self.dir)?;
        let listener = match UnixListener::bind(&self.socket) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                self.remove_stale()?;
                UnixListener::bind(&self.socket)
            }
            bound => bound,
        };
        Ok((listener?, self.inode()?))
    }

    fn remove_stale(&self) -> io::Result<()> {
        match self.connect() {
            // Left behind by a broker that was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(&self.socket),
            _ => Err(io::Error::new(ErrorKind::AddrInUse, "a broker of this name is already running")),
        }
    }

    /// Removes the socket, unless it has become another broker's.
    fn leave(&self, inode: u64) -> io::Result<()> {
        let _lock = private_dir::lock(&self.dir)?;
        if self.inode()? == inode { fs::remove_file(&self.socket) } else { Ok(()) }
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(fs::symlink_metadata(&self.socket)?.ino())
    }
}

/// Serves the ports that stubs pass on, until the last of them has ended.
pub(crate) fn run(name: &str) -> io::Result<()> {
    let place = Place::of(name)?;
    let (listener, inode) = place.listen()?;
    listener.set_nonblocking(true)?;
    let _ = process::raise_descriptor_limit();
    process::exit_on_stop_signals()?;
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let observer: Arc<dyn Observer> = Arc::new(tcp::Log);
    let workers = Workers::start(threads, &EngineOptions::default(), &observer)?;
    let poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    // The process that started the broker waits for this.
    let _ = io::stdout().write_all(b"0\n");
    let mut broker = Broker { listener, poll, workers, ports: HashMap::new(), next: 0, paused: false };
    broker.run()?;
    // A stub that connects too late to be accepted tries again, and finds no broker. The directory
    // may have been removed.
    let _ = place.leave(inode);
    Ok(())
}

struct Broker {
    listener: UnixListener,
    poll: Poll,
    workers: Workers,
    ports: HashMap<Token, BrokeredPort>,
    next: usize,
    /// Whether a stub waits because it could not be accepted.
    paused: bool,
}

/// A port, and the connection to the stub that holds it.
struct BrokeredPort {
    stub: UnixStream,
    listener: ListenerHandle,
}

impl Broker {
    /// Serves until no port is left, or if none comes.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let patience = match self.ports.is_empty() {
                _ if self.paused => Some(PAUSE),
                true => Some(IDLE),
                false => None,
            };
            let polled = self.poll.poll(&mut events, patience);
            match polled {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let had_ports = !self.ports.is_empty();
            for event in &events {
                self.end_if_gone(event.token());
            }
            let is_late = polled.is_ok() && events.is_empty() && !self.paused;
            self.accept();
            if (had_ports || is_late) && self.ports.is_empty() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stub, _)) => match self.adopt(stub) {
                    Ok(()) => {}
                    Err(error) => crate::log(format_args!("broker: refused a port: {error}")),
                },
                Err(error) => {
                    self.paused = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn adopt(&mut self, mut stub: UnixStream) -> io::Result<()> {
        if peer_uid(&stub)? != process::effective_uid() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        stub.set_read_timeout(Some(REQUEST_TIME))?;
        stub.set_write_timeout(Some(REQUEST_TIME))?;
        let (socket, target) = match receive(&stub) {
            Ok(request) => request,
            Err(error) => {
                stub.write_all(format!("1\n{error}").as_bytes())?;
                return Err(error);
            }
        };
        let token = Token(self.next);
        self.next += 1;
        stub.set_nonblocking(true)?;
        self.poll.registry().register(&mut SourceFd(&stub.as_raw_fd()), token, Interest::READABLE)?;
        // A stub that cannot be reached has died, or serves the port itself. Connections wait in
        // the socket until the workers listen.
        stub.write_all(b"0\n")?;
        let listener = tcp::forward(socket, target);
        self.ports.insert(token, BrokeredPort { stub, listener: listener.handle() });
        self.workers.listen(listener);
        Ok(())
    }

    /// Closes a port whose stub has ended. A stub sends nothing after its request.
    fn end_if_gone(&mut self, token: Token) {
        let Some(port) = self.ports.get_mut(&token) else { return };
        match port.stub.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => {
                self.workers.close(&port.listener);
                self.ports.remove(&token);
            }
        }
    }
}

/// Reads a request: one message, a line with the target, and the listening socket.
fn receive(stub: &UnixStream) -> io::Result<(OwnedFd, Target)> {
    let mut buf = [0; REQUEST_BYTES];
    let (len, socket) = sys::recv_descriptor(stub.as_fd(), &mut buf)?;
    let line = std::str::from_utf8(&buf[..len]).ok().and_then(|text| text.strip_suffix('\n'));
    let invalid = |why| io::Error::new(ErrorKind::InvalidData, why);
    let target = line.ok_or_else(|| invalid("not a line of text"))?;
    let target = target.parse().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    let socket = socket.ok_or_else(|| invalid("no socket came with it"))?;
    match sys::inet_kind(socket.as_fd())? {
        Some(Inet::Tcp { listening: true }) => Ok((socket, target)),
        _ => Err(invalid("not a listening TCP socket")),
    }
}

/// Passes a socket on over a new connection to a broker.
pub(crate) fn send(broker: &mut UnixStream, socket: &OwnedFd, target: Target) -> io::Result<()> {
    sys::send_descriptor(broker.as_fd(), format!("{target}\n").as_bytes(), socket.as_fd())?;
    let mut reply = [0; 2];
    broker.read_exact(&mut reply)?;
    if reply == *b"0\n" { Ok(()) } else { Err(io::Error::other("it refused the port")) }
}

/// Returns the user at the other end of a connection.
pub(crate) fn peer_uid(peer: &UnixStream) -> io::Result<u32> {
    sys::peer_credentials(peer.as_fd()).map(|(_, user, _)| user)
}
