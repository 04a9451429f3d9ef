#![forbid(unsafe_code)]
//! One process that serves the TCP ports of many.
//!
//! dockerd wants a process for each port, to signal and to wait for. With a broker that process only keeps the port:
//! it hands a duplicate of its socket over (see [`stub`](crate::stub)) and sleeps. Its end closes the connection to the
//! broker, and with that the port.
//!
//! They meet at a Unix socket in a folder that nobody else can reach into ([`private_dir`]): who could bind the name
//! first would be handed every port. The name has the network namespace in it, because that is what the containers'
//! addresses belong to. Both sides ask the kernel as well whether the other is the same user.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dockline::engine::{EngineOptions, ListenerHandle, Observer, Workers};
use dockline::process;
use dockline::sockets::{self, Inet};
use dockline_docker_proxy::private_dir;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::tcp::{self, Target};

/// More than the longest request: a target in text, and the end of the line.
const REQUEST_BYTES: usize = 128;

/// A stub sends its request at once; it is never waited for longer.
const REQUEST_TIME: Duration = Duration::from_secs(1);

/// How long accepting rests when there is no descriptor for another stub.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the first port may take to come: whoever started the broker may have died.
const IDLE: Duration = Duration::from_secs(5);

/// Longest name: the path of the socket has to fit into an address.
const NAME_MAX: usize = 40;

/// What is said of another.
pub(crate) const NAME_RULE: &str = "must be a name without slashes, of at most 40 bytes";

const LISTENER: Token = Token(usize::MAX);

/// Whether a broker can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.contains(['/', '\0'])
}

/// Where the broker of a name is met.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    socket: PathBuf,
}

impl Place {
    /// Makes the folder if there is none, and sees that it is this user's alone.
    pub(crate) fn of(name: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(ErrorKind::InvalidInput, why);
        if !is_name(name) {
            return Err(invalid(NAME_RULE));
        }
        let folder = private_dir::create(&private_dir::runtime_dir().map_err(invalid)?.join("brokers"))?;
        let network = fs::metadata("/proc/self/ns/net")?.ino();
        let socket = folder.join(format!("{name}-{network}.sock"));
        Ok(Self { folder, socket })
    }

    /// Connects without waiting: the backlog of a broker that is stopped may be full.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::from(OwnedFd::from(mio::net::UnixStream::connect(&self.socket)?));
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Listens there, unless another broker does. Also answers which file that is.
    fn listen(&self) -> io::Result<(UnixListener, u64)> {
        let _lock = private_dir::lock(&self.folder)?;
        let listener = match UnixListener::bind(&self.socket) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                self.remove_stale()?;
                UnixListener::bind(&self.socket)
            }
            bound => bound,
        };
        Ok((listener?, self.file()?))
    }

    fn remove_stale(&self) -> io::Result<()> {
        match self.connect() {
            // A broker that was killed has left it behind.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(&self.socket),
            _ => Err(io::Error::new(ErrorKind::AddrInUse, "there is such a broker already")),
        }
    }

    /// Removes the file, unless it is another broker's by now.
    fn leave(&self, file: u64) -> io::Result<()> {
        let _lock = private_dir::lock(&self.folder)?;
        if self.file()? == file { fs::remove_file(&self.socket) } else { Ok(()) }
    }

    fn file(&self) -> io::Result<u64> {
        Ok(fs::symlink_metadata(&self.socket)?.ino())
    }
}

/// Serves the ports that stubs hand over, until the last of them has gone.
pub(crate) fn run(name: &str) -> io::Result<()> {
    let place = Place::of(name)?;
    let (listener, file) = place.listen()?;
    listener.set_nonblocking(true)?;
    let _ = process::raise_descriptor_limit();
    process::exit_on_stop_signals()?;
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let observer: Arc<dyn Observer> = Arc::new(tcp::Log);
    let workers = Workers::start(threads, &EngineOptions::default(), &observer)?;
    let poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    // Whoever started it waits for this.
    let _ = io::stdout().write_all(b"0\n");
    let mut broker = Broker { listener, poll, workers, ports: HashMap::new(), next: 0, paused: false };
    broker.run()?;
    // A stub that comes too late to be accepted tries again, and finds no broker. Somebody may have removed the folder.
    let _ = place.leave(file);
    Ok(())
}

struct Broker {
    listener: UnixListener,
    poll: Poll,
    workers: Workers,
    ports: HashMap<Token, Port>,
    next: usize,
    /// Whether a stub waits that could not be accepted.
    paused: bool,
}

/// A port, and the stub that keeps it.
struct Port {
    stub: UnixStream,
    listener: ListenerHandle,
}

impl Broker {
    /// Ends when no port is left, or when none has come.
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
        if sockets::peer_uid(&stub)? != process::effective_uid() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it comes from another user"));
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
        // A stub that cannot be told has died, or serves the port by itself. What comes until the workers listen waits in
        // the socket.
        stub.write_all(b"0\n")?;
        let listener = tcp::forward(socket, target);
        self.ports.insert(token, Port { stub, listener: listener.handle() });
        self.workers.listen(listener);
        Ok(())
    }

    /// A stub says nothing more: what can be read is its end.
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
    let (len, socket) = sockets::recv_descriptor(stub, &mut buf)?;
    let line = std::str::from_utf8(&buf[..len]).ok().and_then(|text| text.strip_suffix('\n'));
    let invalid = |why| io::Error::new(ErrorKind::InvalidData, why);
    let target = line.ok_or("no line").and_then(str::parse).map_err(invalid)?;
    let socket = socket.ok_or_else(|| invalid("no socket"))?;
    match sockets::inet_kind(&socket)? {
        Some(Inet::Tcp { listening: true }) => Ok((socket, target)),
        _ => Err(invalid("not a listening TCP socket")),
    }
}

/// Hands a socket over on a fresh connection to a broker.
pub(crate) fn send(broker: &mut UnixStream, socket: &OwnedFd, target: Target) -> io::Result<()> {
    sockets::send_descriptor(broker, format!("{target}\n").as_bytes(), socket)?;
    let mut answer = [0; 2];
    broker.read_exact(&mut answer)?;
    if answer == *b"0\n" { Ok(()) } else { Err(io::Error::other("the broker refuses the port")) }
}
