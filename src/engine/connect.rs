#![forbid(unsafe_code)]
//! [`Connect`]: connects to an upstream, trying its addresses in order.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::causes;
use super::endpoint::Endpoint;
use super::handle::Command;
use super::local_listeners;
use super::observe::Event;
use super::resolve::{Question, Resolved};
use super::service::{Address, Upstream};
use super::shared::{Owner, Shared};
use super::slab::Token;
use super::stream::Stream;
use crate::error::{Cause, Failure, Phase, Side, Timeout};
use crate::limits::Limits;
use crate::relay::Readiness;
use crate::sys;
use crate::untrusted::Untrusted;

/// The pause between attempts to connect to a Unix socket whose backlog is full: no event reports
/// when there is room.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// An attempt to reach an upstream.
#[derive(Debug)]
pub(super) struct Connect {
    upstream: Arc<Upstream>,
    owner: Token,
    /// The address that the upstream is to see as the client's.
    client: Option<SocketAddr>,
    /// Hops (TTL) of the connection; `None`: the default of the host.
    hops: Option<u8>,
    /// The header that a connection begins with, before TLS; may be empty.
    header: Vec<u8>,
    /// Bytes of it that the present connection has taken.
    header_sent: usize,
    time: Duration,
    #[cfg(feature = "tls")]
    handshake_time: Duration,
    /// The index of the next of the upstream's addresses.
    next: usize,
    /// What the present address was resolved to, as far as it was not tried.
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
        endpoint: Endpoint,
        name: String,
    },
    /// The backlog of a Unix socket is full.
    Waiting {
        until: Instant,
        give_up: Instant,
    },
    #[cfg(feature = "tls")]
    Handshaking {
        endpoint: Endpoint,
        name: String,
    },
}

/// How far an attempt has come.
pub(super) enum Progress {
    Done(Endpoint),
    Pending,
    Failed(Cause),
}

impl Connect {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        owner: Token,
        limits: &Limits,
        hops: Option<u8>,
        shared: &Shared,
    ) -> Self {
        Self {
            upstream,
            owner,
            client: None,
            hops,
            header: Vec::new(),
            header_sent: 0,
            time: limits.connect_time,
            #[cfg(feature = "tls")]
            handshake_time: limits.handshake_time,
            next: 0,
            found: VecDeque::new(),
            stage: Stage::Next,
            deadline: shared.now,
            cause: Cause::NoAddress,
        }
    }

    /// Connects from the address of the client, where the upstream can be reached from it.
    pub(super) fn on_behalf_of(mut self, client: SocketAddr) -> Self {
        self.client = Some(client);
        self
    }

    /// Sends a header of the PROXY protocol before anything else.
    pub(super) fn with_header(mut self, header: Vec<u8>) -> Self {
        self.header = header;
        self
    }

    /// Returns when [`Connect::advance`] has to be called at the latest.
    pub(super) fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Waiting { until, .. } => *until,
            _ => self.deadline,
        }
    }

    /// Notes an event of the poller.
    pub(super) fn note(&mut self, ready: Readiness) {
        match &mut self.stage {
            Stage::Connecting { endpoint, .. } => {
                endpoint.note(ready);
            }
            #[cfg(feature = "tls")]
            Stage::Handshaking { endpoint, .. } => endpoint.note(ready),
            _ => {}
        }
    }

    /// Takes the result of a name look-up, with which [`Connect::advance`] continues. One that
    /// comes late, after its question was given up, does not count for the next question.
    pub(super) fn resolved(&mut self, Resolved { name: asked, result, .. }: Resolved) {
        if let Stage::Resolving { name, .. } = &mut self.stage
            && *name == asked
        {
            self.stage = Stage::Resolved { name: asked, result };
        }
    }

    /// Goes on as far as is possible now.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> Progress {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Next) {
                Stage::Next => {
                    if let Some(address) = self.found.pop_front() {
                        self.connect_tcp(address, shared);
                    } else if let Some(address) = self.upstream.addresses.get(self.next).cloned() {
                        self.next += 1;
                        self.try_address(&address, shared);
                    } else {
                        return Progress::Failed(self.cause);
                    }
                    if !matches!(self.stage, Stage::Next | Stage::Connecting { .. }) {
                        return Progress::Pending;
                    }
                }
                Stage::Resolving { name, question } => {
                    if shared.now < self.deadline {
                        self.stage = Stage::Resolving { name, question };
                        return Progress::Pending;
                    }
                    self.timed_out(&name, Timeout::Resolve, shared);
                }
                Stage::Resolved { name, result } => match result {
                    Ok(found) => self.found = found.into(),
                    Err(error) => self.failed(&name, causes::of_resolve(&error), &error, shared),
                },
                Stage::Waiting { until, give_up } => {
                    if shared.now < until {
                        self.stage = Stage::Waiting { until, give_up };
                        return Progress::Pending;
                    }
                    if shared.now >= give_up {
                        let name = self.present_name();
                        self.timed_out(&name, Timeout::Connect, shared);
                    } else {
                        self.next -= 1;
                        self.deadline = give_up;
                        self.connect_unix_again(give_up, shared);
                        if matches!(self.stage, Stage::Waiting { .. }) {
                            return Progress::Pending;
                        }
                    }
                }
                Stage::Connecting { endpoint, name } => match self.connected(endpoint, name, shared) {
                    Some(progress) => return progress,
                    None => continue,
                },
                #[cfg(feature = "tls")]
                Stage::Handshaking { endpoint, name } => match self.handshake(endpoint, name, shared) {
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

    fn try_address(&mut self, address: &Address, shared: &mut Shared) {
        self.deadline = shared.now + self.time;
        match address {
            Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => self.connect_tcp(SocketAddr::new(ip, *port), shared),
                Err(_) => {
                    let name = address.to_string();
                    let (handle, session, asked) = (shared.handle.clone(), self.owner, name.clone());
                    let question = shared.resolver.lookup(host, *port, move |result| {
                        handle.send(Command::Resolved(Resolved { session, name: asked, result }));
                    });
                    self.stage = Stage::Resolving { name, question };
                }
            },
            Address::Unix(path) => self.connect_unix(path, shared.now + self.time, shared),
        }
    }

    fn connect_unix_again(&mut self, give_up: Instant, shared: &mut Shared) {
        let address = self.upstream.addresses.get(self.next).cloned();
        self.next += 1;
        if let Some(Address::Unix(path)) = address {
            self.connect_unix(&path, give_up, shared);
        }
    }

    fn connect_tcp(&mut self, address: SocketAddr, shared: &mut Shared) {
        self.deadline = shared.now + self.time;
        let name = format!("tcp://{address}");
        if self.hops == Some(0) || shared.local_listeners.has_inet(address, shared.now) {
            return self.failed(&name, Cause::OwnListener, &local_listeners::refusal(), shared);
        }
        match sys::connect_stream(address, self.client, self.hops) {
            Ok(stream) => {
                let _ = sys::set_nodelay(stream.as_fd());
                if !address.ip().to_canonical().is_loopback() {
                    // A daemon may be silent for days. One that vanished would be silent for ever.
                    let _ = sys::set_keepalive(stream.as_fd());
                }
                // A connection to this machine, or to a container on a bridge of it, is made or
                // refused by the time that connect(2) returns, which does not report it. To poll
                // once costs less than an event.
                let (write, hup) = sys::poll_write(stream.as_fd());
                let ready = Readiness { read: false, write: write || hup, hup };
                self.begin(stream, name, true, ready, shared);
            }
            Err(error) => self.failed(&name, causes::of_connect(&error), &error, shared),
        }
    }

    fn connect_unix(&mut self, path: &std::path::Path, give_up: Instant, shared: &mut Shared) {
        let name = format!("unix://{}", Untrusted::path(path));
        if shared.local_listeners.has_unix(path) {
            return self.failed(&name, Cause::OwnListener, &local_listeners::refusal(), shared);
        }
        match sys::uninterrupted(|| unix_stream(path)) {
            Ok(stream) => {
                let ready = Readiness { read: false, write: true, hup: false };
                self.begin(stream.into(), name, false, ready, shared);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.stage = Stage::Waiting { until: (shared.now + BACKLOG_PAUSE).min(give_up), give_up };
            }
            Err(error) => self.failed(&name, causes::of_connect(&error), &error, shared),
        }
    }

    fn begin(&mut self, fd: OwnedFd, name: String, is_tcp: bool, ready: Readiness, shared: &mut Shared) {
        match shared.link_as(Stream::Plain(fd), Owner::session(self.owner, Side::Upstream), is_tcp, ready) {
            Ok(endpoint) => {
                self.header_sent = 0;
                self.stage = Stage::Connecting { endpoint, name };
            }
            Err(error) => self.failed(&name, causes::of_connect(&error), &error, shared),
        }
    }

    /// Checks whether the connection was made. Returns `None` if the next address is to be tried.
    fn connected(&mut self, mut endpoint: Endpoint, name: String, shared: &mut Shared) -> Option<Progress> {
        if !endpoint.ready.write {
            if shared.now < self.deadline {
                self.stage = Stage::Connecting { endpoint, name };
                return Some(Progress::Pending);
            }
            shared.unlink(endpoint);
            self.timed_out(&name, Timeout::Connect, shared);
            return None;
        }
        // A connection that hangs up at once has failed, or was closed already, which the first
        // read will find.
        let error =
            if endpoint.ready.hup { sys::take_error(endpoint.as_fd()).unwrap_or_else(Some) } else { None };
        if let Some(error) = error {
            shared.unlink(endpoint);
            self.failed(&name, causes::of_connect(&error), &error, shared);
            return None;
        }
        match self.send_header(&mut endpoint, shared) {
            Ok(()) if self.header_sent < self.header.len() => {
                self.stage = Stage::Connecting { endpoint, name };
                return Some(Progress::Pending);
            }
            Ok(()) => {}
            Err(error) => {
                shared.unlink(endpoint);
                self.failed(&name, causes::of_connect(&error), &error, shared);
                return None;
            }
        }
        shared.counters().connects.add(1);
        #[cfg(feature = "tls")]
        if let Some(tls) = self.upstream.tls.clone() {
            return self.begin_handshake(&tls, endpoint, name, shared);
        }
        Some(Progress::Done(endpoint))
    }

    /// Sends what the connection takes of the header: all of it, unless the kernel lacks memory.
    fn send_header(&mut self, endpoint: &mut Endpoint, shared: &Shared) -> io::Result<()> {
        if self.header_sent < self.header.len() {
            self.header_sent += endpoint.write(&self.header[self.header_sent..], shared)?;
        }
        Ok(())
    }

    #[cfg(feature = "tls")]
    fn begin_handshake(
        &mut self,
        tls: &Arc<super::tls::ClientTls>,
        endpoint: Endpoint,
        name: String,
        shared: &mut Shared,
    ) -> Option<Progress> {
        self.deadline = shared.now + self.handshake_time;
        let host = match self.next.checked_sub(1).and_then(|place| self.upstream.addresses.get(place)) {
            Some(Address::Tcp { host, .. }) => host.as_str(),
            Some(Address::Unix(_)) | None => "localhost",
        };
        let link = endpoint.link;
        match endpoint.into_tls_client(tls, host) {
            Ok(endpoint) => self.handshake(endpoint, name, shared),
            Err(error) => {
                shared.links.remove(link);
                self.failed(&name, causes::of_handshake(&error), &error, shared);
                None
            }
        }
    }

    #[cfg(feature = "tls")]
    fn handshake(&mut self, mut endpoint: Endpoint, name: String, shared: &mut Shared) -> Option<Progress> {
        match endpoint.handshake(shared) {
            Ok(true) => return Some(Progress::Done(endpoint)),
            Ok(false) if shared.now < self.deadline => {
                self.stage = Stage::Handshaking { endpoint, name };
                return Some(Progress::Pending);
            }
            Ok(false) => {
                shared.unlink(endpoint);
                self.timed_out(&name, Timeout::Handshake, shared);
            }
            Err(error) => {
                shared.unlink(endpoint);
                self.failed(&name, causes::of_handshake(&error), &error, shared);
            }
        }
        None
    }

    fn timed_out(&mut self, name: &str, timeout: Timeout, shared: &Shared) {
        self.failed(name, Cause::Timeout(timeout), &ErrorKind::TimedOut.into(), shared);
    }

    fn failed(&mut self, name: &str, cause: Cause, error: &io::Error, shared: &Shared) {
        self.cause = cause;
        let failure = Failure::new(Side::Upstream, Phase::Connect, cause);
        shared.counters().connect_failures.add(1);
        shared.report(&Event::ConnectFailed { upstream: &self.upstream, address: name, failure, error });
    }

    /// Gives up the attempt.
    pub(super) fn cancel(self, shared: &mut Shared) {
        match self.stage {
            Stage::Connecting { endpoint, .. } => drop(shared.unlink(endpoint)),
            #[cfg(feature = "tls")]
            Stage::Handshaking { endpoint, .. } => drop(shared.unlink(endpoint)),
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
mod tests {
    use std::net::Ipv4Addr;

    use super::super::resolve::Resolver;
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some deadline")]
    fn asking_for(name: &str) -> Connect {
        Connect {
            upstream: Arc::new(Upstream::new("daemon", Vec::new())),
            owner: Token::NOTHING,
            client: None,
            hops: None,
            header: Vec::new(),
            header_sent: 0,
            time: Duration::ZERO,
            #[cfg(feature = "tls")]
            handshake_time: Duration::ZERO,
            next: 1,
            found: VecDeque::new(),
            stage: Stage::Resolving {
                name: name.into(),
                question: Resolver::new().lookup("127.0.0.1", 1, |_| {}),
            },
            deadline: Instant::now(),
            cause: Cause::NoAddress,
        }
    }

    /// A session may have asked for another upstream before, and have given up.
    #[test]
    fn a_late_answer_does_not_count_for_the_next_question() {
        let answer = |name: &str| Resolved {
            session: Token::NOTHING,
            name: name.into(),
            result: Ok(vec![(Ipv4Addr::LOCALHOST, 1).into()]),
        };
        let mut connect = asking_for("tcp://new:1");
        connect.resolved(answer("tcp://old:1"));
        assert!(matches!(connect.stage, Stage::Resolving { .. }), "{connect:?}");
        connect.resolved(answer("tcp://new:1"));
        assert!(matches!(connect.stage, Stage::Resolved { result: Ok(_), .. }), "{connect:?}");
    }
}
