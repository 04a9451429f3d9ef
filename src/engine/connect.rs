#![forbid(unsafe_code)]
//! [`Connect`]: makes a connection to an upstream, trying its addresses in order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::causes;
use super::core::{Core, End, Owner};
use super::handle::{Command, count};
use super::observe::Event;
use super::own;
use super::resolve::{Question, Resolved};
use super::service::{Address, Upstream};
use super::slab::Token;
use super::stream::Stream;
use crate::error::{Cause, Failure, Phase, Side, Timeout};
use crate::limits::Limits;
use crate::relay::Readiness;
use crate::sys;
use crate::untrusted::Untrusted;

/// Between attempts at a Unix socket whose backlog is full: the kernel tells of no room there.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// An attempt to reach an upstream.
#[derive(Debug)]
pub(super) struct Connect {
    upstream: Arc<Upstream>,
    owner: Token,
    /// Whose address the upstream is to see.
    client: Option<SocketAddr>,
    /// How far it may go; `None`: as far as the host lets it.
    hops: Option<u8>,
    time: Duration,
    #[cfg(feature = "tls")]
    handshake_time: Duration,
    /// The next of the upstream's addresses.
    next: usize,
    /// What the present one was resolved to.
    found: VecDeque<SocketAddr>,
    stage: Stage,
    deadline: Instant,
    /// Why the last address did not serve.
    cause: Cause,
}

#[derive(Debug)]
enum Stage {
    /// Between two addresses.
    Next,
    Resolving {
        name: String,
        question: Question,
    },
    Resolved {
        name: String,
        result: io::Result<Vec<SocketAddr>>,
    },
    Connecting {
        end: End,
        name: String,
    },
    /// The backlog of a Unix socket is full.
    Waiting {
        until: Instant,
        give_up: Instant,
    },
    #[cfg(feature = "tls")]
    Handshaking {
        end: End,
        name: String,
    },
}

/// How far an attempt is.
pub(super) enum Progress {
    Done(End),
    Pending,
    Failed(Cause),
}

impl Connect {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        owner: Token,
        limits: &Limits,
        hops: Option<u8>,
        core: &Core,
    ) -> Self {
        Self {
            upstream,
            owner,
            client: None,
            hops,
            time: limits.connect_time,
            #[cfg(feature = "tls")]
            handshake_time: limits.handshake_time,
            next: 0,
            found: VecDeque::new(),
            stage: Stage::Next,
            deadline: core.now,
            cause: Cause::NoAddress,
        }
    }

    /// Connects from the address of the client where that is one to the upstream.
    pub(super) fn on_behalf_of(mut self, client: SocketAddr) -> Self {
        self.client = Some(client);
        self
    }

    pub(super) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// When [`Connect::advance`] has to be called at the latest.
    pub(super) fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Waiting { until, .. } => *until,
            _ => self.deadline,
        }
    }

    /// The poller saw something.
    pub(super) fn note(&mut self, ready: Readiness) {
        match &mut self.stage {
            Stage::Connecting { end, .. } => {
                end.note(ready);
            }
            #[cfg(feature = "tls")]
            Stage::Handshaking { end, .. } => end.note(ready),
            _ => {}
        }
    }

    /// A name was looked up: [`Connect::advance`] goes on with it. An answer that comes when its question has been given
    /// up is none to the next question.
    pub(super) fn resolved(&mut self, Resolved { name: asked, result, .. }: Resolved) {
        if let Stage::Resolving { name, .. } = &mut self.stage
            && *name == asked
        {
            self.stage = Stage::Resolved { name: asked, result };
        }
    }

    /// Goes as far as it can.
    pub(super) fn advance(&mut self, core: &mut Core) -> Progress {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Next) {
                Stage::Next => {
                    if let Some(address) = self.found.pop_front() {
                        self.connect_tcp(address, core);
                    } else if let Some(address) = self.upstream.addresses.get(self.next).cloned() {
                        self.next += 1;
                        self.try_address(&address, core);
                    } else {
                        return Progress::Failed(self.cause);
                    }
                    if !matches!(self.stage, Stage::Next | Stage::Connecting { .. }) {
                        return Progress::Pending;
                    }
                }
                Stage::Resolving { name, question } => {
                    if core.now < self.deadline {
                        self.stage = Stage::Resolving { name, question };
                        return Progress::Pending;
                    }
                    self.timed_out(&name, Timeout::Resolve, core);
                }
                Stage::Resolved { name, result } => match result {
                    Ok(found) => self.found = found.into(),
                    Err(error) => self.failed(&name, causes::of_resolve(&error), &error, core),
                },
                Stage::Waiting { until, give_up } => {
                    if core.now < until {
                        self.stage = Stage::Waiting { until, give_up };
                        return Progress::Pending;
                    }
                    if core.now >= give_up {
                        let name = self.present_name();
                        self.timed_out(&name, Timeout::Connect, core);
                    } else {
                        self.next -= 1;
                        self.deadline = give_up;
                        self.retry_unix(give_up, core);
                        if matches!(self.stage, Stage::Waiting { .. }) {
                            return Progress::Pending;
                        }
                    }
                }
                Stage::Connecting { end, name } => match self.connected(end, name, core) {
                    Some(progress) => return progress,
                    None => continue,
                },
                #[cfg(feature = "tls")]
                Stage::Handshaking { end, name } => match self.handshake(end, name, core) {
                    Some(progress) => return progress,
                    None => continue,
                },
            }
        }
    }

    fn present_name(&self) -> String {
        let address = self.next.checked_sub(1).and_then(|place| self.upstream.addresses.get(place));
        address.map(ToString::to_string).unwrap_or_default()
    }

    fn try_address(&mut self, address: &Address, core: &mut Core) {
        self.deadline = core.now + self.time;
        match address {
            Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => self.connect_tcp(SocketAddr::new(ip, *port), core),
                Err(_) => {
                    let name = address.to_string();
                    let (handle, ticket, asked) = (core.handle.clone(), self.owner, name.clone());
                    let question = core.resolver.lookup(host, *port, move |result| {
                        let ticket = mio::Token::from(ticket).0 as u64;
                        handle.send(Command::Resolved(Resolved { ticket, name: asked, result }));
                    });
                    self.stage = Stage::Resolving { name, question };
                }
            },
            Address::Unix(path) => self.connect_unix(path, core.now + self.time, core),
        }
    }

    fn retry_unix(&mut self, give_up: Instant, core: &mut Core) {
        let address = self.upstream.addresses.get(self.next).cloned();
        self.next += 1;
        if let Some(Address::Unix(path)) = address {
            self.connect_unix(&path, give_up, core);
        }
    }

    fn connect_tcp(&mut self, address: SocketAddr, core: &mut Core) {
        self.deadline = core.now + self.time;
        let name = format!("tcp://{address}");
        if self.hops == Some(0) || core.own.has_inet(address, core.now) {
            return self.failed(&name, Cause::OwnListener, &own::refusal(), core);
        }
        match sys::connect_stream(address, self.client, self.hops) {
            Ok(stream) => {
                let _ = sys::set_nodelay(stream.as_fd());
                if !address.ip().to_canonical().is_loopback() {
                    // A daemon may be silent for days, and one that vanished would be for ever.
                    let _ = sys::set_keepalive(stream.as_fd());
                }
                // A connection to this machine, or to a container on a bridge of it, is there, or refused, when
                // connect(2) returns; it does not say so. Looking costs less than the event does.
                let (write, hup) = sys::poll_write(stream.as_fd());
                let ready = Readiness { read: false, write: write || hup, hup };
                self.begin(stream, name, true, ready, core);
            }
            Err(error) => self.failed(&name, causes::of_connect(&error), &error, core),
        }
    }

    fn connect_unix(&mut self, path: &std::path::Path, give_up: Instant, core: &mut Core) {
        let name = format!("unix://{}", Untrusted::path(path));
        if core.own.has_unix(path) {
            return self.failed(&name, Cause::OwnListener, &own::refusal(), core);
        }
        match sys::uninterrupted(|| unix_stream(path)) {
            Ok(stream) => {
                let ready = Readiness { read: false, write: true, hup: false };
                self.begin(stream.into(), name, false, ready, core);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.stage = Stage::Waiting { until: (core.now + BACKLOG_PAUSE).min(give_up), give_up };
            }
            Err(error) => self.failed(&name, causes::of_connect(&error), &error, core),
        }
    }

    fn begin(&mut self, fd: OwnedFd, name: String, is_tcp: bool, ready: Readiness, core: &mut Core) {
        match core.link_as(Stream::Plain(fd), Owner::session(self.owner, Side::Upstream), is_tcp, ready) {
            Ok(end) => {
                self.stage = Stage::Connecting { end, name };
            }
            Err(error) => self.failed(&name, causes::of_connect(&error), &error, core),
        }
    }

    /// Looks whether a connection has come about. `None`: on to the next address.
    fn connected(&mut self, end: End, name: String, core: &mut Core) -> Option<Progress> {
        if !end.ready.write {
            if core.now < self.deadline {
                self.stage = Stage::Connecting { end, name };
                return Some(Progress::Pending);
            }
            core.unlink(end);
            self.timed_out(&name, Timeout::Connect, core);
            return None;
        }
        // Only a failed one hangs up at once; or one that was already closed, which the first read will tell.
        let error = if end.ready.hup { sys::take_error(end.as_fd()).unwrap_or_else(Some) } else { None };
        if let Some(error) = error {
            core.unlink(end);
            self.failed(&name, causes::of_connect(&error), &error, core);
            return None;
        }
        count(&core.handle.shared.counters.connects, 1);
        #[cfg(feature = "tls")]
        if let Some(tls) = self.upstream.tls.clone() {
            return self.begin_handshake(&tls, end, name, core);
        }
        Some(Progress::Done(end))
    }

    #[cfg(feature = "tls")]
    fn begin_handshake(
        &mut self,
        tls: &Arc<super::tls::ClientTls>,
        end: End,
        name: String,
        core: &mut Core,
    ) -> Option<Progress> {
        self.deadline = core.now + self.handshake_time;
        let host = match self.next.checked_sub(1).and_then(|place| self.upstream.addresses.get(place)) {
            Some(Address::Tcp { host, .. }) => host.as_str(),
            Some(Address::Unix(_)) | None => "localhost",
        };
        let link = end.link;
        match end.into_tls_client(tls, host) {
            Ok(end) => self.handshake(end, name, core),
            Err(error) => {
                core.links.remove(link);
                self.failed(&name, causes::of_handshake(&error), &error, core);
                None
            }
        }
    }

    #[cfg(feature = "tls")]
    fn handshake(&mut self, mut end: End, name: String, core: &mut Core) -> Option<Progress> {
        match end.handshake(core) {
            Ok(true) => return Some(Progress::Done(end)),
            Ok(false) if core.now < self.deadline => {
                self.stage = Stage::Handshaking { end, name };
                return Some(Progress::Pending);
            }
            Ok(false) => {
                core.unlink(end);
                self.timed_out(&name, Timeout::Handshake, core);
            }
            Err(error) => {
                core.unlink(end);
                self.failed(&name, causes::of_handshake(&error), &error, core);
            }
        }
        None
    }

    fn timed_out(&mut self, name: &str, timeout: Timeout, core: &Core) {
        self.failed(name, Cause::Timeout(timeout), &ErrorKind::TimedOut.into(), core);
    }

    fn failed(&mut self, name: &str, cause: Cause, error: &io::Error, core: &Core) {
        self.cause = cause;
        let failure = Failure::new(Side::Upstream, Phase::Connect, cause);
        count(&core.handle.shared.counters.connect_failures, 1);
        core.report(&Event::ConnectFailed { upstream: &self.upstream, address: name, failure, error });
    }

    /// Gives up.
    pub(super) fn cancel(self, core: &mut Core) {
        match self.stage {
            Stage::Connecting { end, .. } => drop(core.unlink(end)),
            #[cfg(feature = "tls")]
            Stage::Handshaking { end, .. } => drop(core.unlink(end)),
            Stage::Next | Stage::Resolving { .. } | Stage::Resolved { .. } | Stage::Waiting { .. } => {}
        }
    }
}

fn unix_stream(path: &std::path::Path) -> io::Result<mio::net::UnixStream> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;

    match path.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => {
            mio::net::UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
        }
        None => mio::net::UnixStream::connect(path),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
