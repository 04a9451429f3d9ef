#![forbid(unsafe_code)]
//! One process that serves the TCP ports of many.
//!
//! dockerd wants a process for each port, to signal and to wait for. With a broker that process only keeps the port:
//! it hands a duplicate of its socket over (see [`stub`](crate::stub)) and sleeps. Its end closes the connection to the
//! broker, and with that the port.
//!
//! They meet at an abstract Unix socket. Unlike a path it belongs to the network namespace, as the containers'
//! addresses do, it is bound by one at a time, and it leaves nothing behind. Anybody may bind the name, so both sides
//! ask the kernel whether the other is the same user.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dockline::engine::{EngineOptions, ListenerHandle, Observer, Workers};
use dockline::process;
use dockline::sockets::{self, Inet};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::tcp::{self, Target};

/// More than the longest request: a target in text, and the end of the line.
const REQUEST_BYTES: usize = 128;

/// A stub sends its request at once; it is never waited for longer.
const REQUEST_TIME: Duration = Duration::from_secs(1);

/// How long accepting rests when there is no descriptor for another stub.
const PAUSE: Duration = Duration::from_millis(100);

const LISTENER: Token = Token(usize::MAX);

/// The address of the broker of that name.
pub(crate) fn address(name: &str) -> io::Result<net::SocketAddr> {
    net::SocketAddr::from_abstract_name(name)
}

/// Serves the ports that stubs hand over, until the last of them has gone.
pub(crate) fn run(name: &str) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&address(name)?)?;
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
    Broker { listener, poll, workers, ports: HashMap::new(), next: 0, paused: false }.run()
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
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            match self.poll.poll(&mut events, self.paused.then_some(PAUSE)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let had_ports = !self.ports.is_empty();
            for event in &events {
                self.end_if_gone(event.token());
            }
            self.accept();
            if had_ports && self.ports.is_empty() {
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
                    self.paused = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn adopt(&mut self, mut stub: UnixStream) -> io::Result<()> {
        if sockets::peer_uid(&stub)? != process::effective_uid() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it comes from another user"));
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
        let listener = tcp::forward(socket, target);
        let handle = listener.handle();
        self.workers.listen(listener);
        stub.write_all(b"0\n")?;
        self.ports.insert(token, Port { stub, listener: handle });
        Ok(())
    }

    /// A stub says nothing more: what can be read is its end.
    fn end_if_gone(&mut self, token: Token) {
        let Some(port) = self.ports.get_mut(&token) else { return };
        match port.stub.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
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
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
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
