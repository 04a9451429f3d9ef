#![forbid(unsafe_code)]
//! [`Inherited`]: sockets that another process has opened, systemd (`LISTEN_FDS`) or the process
//! that this one replaces.

use std::env;
use std::io;
use std::os::fd::OwnedFd;

use dockline::untrusted::Untrusted;
use listenfd::ListenFd;
use rustix::net::sockopt;

use super::upgrade::Sockets;
use crate::address::Inherit;
use crate::problem::Problem;
use crate::unix_socket;

/// A limit for the count: a larger one means a broken environment.
const MOST: usize = 1024;

/// Prefix of the key of a socket from systemd that no listener is configured for.
const UNCLAIMED: &str = "passed:";

/// Inherited sockets that no listener has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    passed: Vec<Passed>,
    handed: Sockets,
}

/// A socket from systemd.
#[derive(Debug)]
struct Passed {
    number: u16,
    name: Untrusted<String>,
    /// The socket, or why it cannot be listened on.
    socket: Result<OwnedFd, Unusable>,
}

/// Why a passed socket cannot be listened on.
#[derive(Clone, Copy, Debug)]
enum Unusable {
    NotAStream { number: u16 },
    NotListening { number: u16 },
}

impl From<Unusable> for Problem {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::NotAStream { number } => {
                Self::new(format_args!("fd://{number} is not a TCP or Unix stream socket"))
            }
            Unusable::NotListening { number } => Self::new(format_args!("fd://{number} does not listen"))
                .hint("the socket unit needs ListenStream= and Accept=no"),
        }
    }
}

impl Inherited {
    /// Takes the sockets that systemd passes to this process, and `handed`, those of the process
    /// that it replaces. Call it once, before there are threads: it removes `LISTEN_FDS` from the
    /// environment.
    pub(crate) fn new(handed: Sockets) -> Result<Self, Problem> {
        let variable = |name| env::var(name).ok();
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let count = count_of(variable("LISTEN_FDS"), variable("LISTEN_PID"), std::process::id())?;
        let mut passed = Vec::new();
        let mut served = Sockets::new();
        for (key, socket) in handed {
            match unclaimed(&key) {
                Some((number, name)) => passed.push(Passed { number, name, socket: Ok(socket) }),
                None => served.push((key, socket)),
            }
        }
        if count > 0 {
            let mut source = ListenFd::from_env();
            for (index, name) in (0..count).zip(names.split(':').chain(std::iter::repeat(""))) {
                let number = u16::try_from(3 + index).unwrap_or(u16::MAX);
                let name = Untrusted::new(if name.is_empty() { "unknown" } else { name }.to_owned());
                passed.push(Passed { number, name, socket: take(&mut source, index, number) });
            }
        }
        Ok(Self { passed, handed: served })
    }

    /// Duplicates what is left, so that a configuration can be tried.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let again = |passed: &Passed| {
            let socket = match &passed.socket {
                Ok(socket) => Ok(socket.try_clone()?),
                Err(unusable) => Err(*unusable),
            };
            io::Result::Ok(Passed { number: passed.number, name: passed.name.clone(), socket })
        };
        let handed =
            self.handed.iter().map(|(key, socket)| io::Result::Ok((key.clone(), socket.try_clone()?)));
        Ok(Self {
            passed: self.passed.iter().map(again).collect::<io::Result<_>>()?,
            handed: handed.collect::<io::Result<_>>()?,
        })
    }

    /// Takes the sockets that were handed over for this key.
    pub(crate) fn take_handed(&mut self, key: &str) -> Vec<OwnedFd> {
        let (taken, left): (Sockets, _) =
            std::mem::take(&mut self.handed).into_iter().partition(|(it, _)| it == key);
        self.handed = left;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Takes sockets from systemd, at least one.
    pub(crate) fn take_passed(&mut self, which: &Inherit) -> Result<Vec<OwnedFd>, Problem> {
        let is_meant = |passed: &Passed| match which {
            Inherit::All => true,
            Inherit::Number(number) => passed.number == *number,
            Inherit::Name(name) => passed.name == *name,
        };
        let (taken, left): (Vec<Passed>, _) =
            std::mem::take(&mut self.passed).into_iter().partition(is_meant);
        self.passed = left;
        if taken.is_empty() {
            let left: Vec<String> = self
                .passed
                .iter()
                .map(|passed| format!("fd://{} ({})", passed.number, passed.name))
                .collect();
            let left = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
            let wanted = match which {
                Inherit::All => "fd://".to_owned(),
                Inherit::Number(number) => format!("fd://{number}"),
                Inherit::Name(name) => format!("fd://{name}"),
            };
            return Err(Problem::new(format_args!(
                "{wanted} was not passed (LISTEN_FDS), or is in use already (left: {left})"
            ))
            .hint("start the service by its systemd socket unit"));
        }
        taken.into_iter().map(|passed| passed.socket.map_err(Problem::from)).collect()
    }

    /// Returns the sockets from systemd that no listener has taken, for a warning.
    pub(crate) fn left(&self) -> Vec<String> {
        let passed = self.passed.iter().map(|it| format!("fd://{} ({})", it.number, it.name));
        let handed = self.handed.iter().filter(|(key, _)| is_of_systemd(key));
        passed.chain(handed.map(|(key, _)| Untrusted::new(key).to_string())).collect()
    }

    /// Duplicates the sockets for the process that replaces this one: its configuration may have
    /// listeners for them.
    pub(crate) fn duplicate(&self) -> io::Result<Sockets> {
        let passed = self.passed.iter().filter_map(|it| {
            let key = format!("{UNCLAIMED}{}:{}", it.number, it.name.raw());
            it.socket.as_ref().ok().map(|socket| (key, socket))
        });
        let handed = self.handed.iter().map(|(key, socket)| (key.clone(), socket));
        passed.chain(handed).map(|(key, socket)| Ok((key, socket.try_clone()?))).collect()
    }

    /// Closes the sockets of the replaced process that no listener has taken: clients that connect
    /// there would wait without end. Returns their addresses.
    pub(crate) fn release(&mut self) -> Vec<String> {
        let (kept, released): (Sockets, _) =
            std::mem::take(&mut self.handed).into_iter().partition(|(key, _)| is_of_systemd(key));
        self.handed = kept;
        for (key, _) in &released {
            if let Some(path) = key.strip_prefix("unix://") {
                unix_socket::remove_file(path.as_ref());
            }
        }
        released.into_iter().map(|(key, _)| Untrusted::new(key).to_string()).collect()
    }
}

/// Parses the key of a socket that no listener was configured for into number and name.
fn unclaimed(key: &str) -> Option<(u16, Untrusted<String>)> {
    let (number, name) = key.strip_prefix(UNCLAIMED)?.split_once(':')?;
    Some((number.parse().ok()?, Untrusted::new(name.to_owned())))
}

fn is_of_systemd(key: &str) -> bool {
    key.starts_with("fd://")
}

/// Returns the number of sockets that are passed to the process with this ID.
fn count_of(fds: Option<String>, pid: Option<String>, me: u32) -> Result<usize, Problem> {
    let Some(fds) = fds else { return Ok(0) };
    if pid.as_deref() != Some(me.to_string().as_str()) {
        return Ok(0);
    }
    match fds.parse() {
        Ok(count) if count <= MOST => Ok(count),
        _ => Err(Problem::new(format_args!(
            "LISTEN_FDS={} is not a number of sockets (0 to {MOST})",
            Untrusted::new(fds)
        ))),
    }
}

/// Takes a socket, and sets close-on-exec on it.
fn take(source: &mut ListenFd, index: usize, number: u16) -> Result<OwnedFd, Unusable> {
    let socket = match source.take_tcp_listener(index) {
        Ok(Some(socket)) => OwnedFd::from(socket),
        _ => match source.take_unix_listener(index) {
            Ok(Some(socket)) => OwnedFd::from(socket),
            _ => return Err(Unusable::NotAStream { number }),
        },
    };
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => Ok(socket),
        _ => Err(Unusable::NotListening { number }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_counts() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(count_of(None, some("7"), 7).unwrap(), 0);
        assert_eq!(count_of(some("2"), some("7"), 7).unwrap(), 2);
        assert_eq!(count_of(some("2"), some("8"), 7).unwrap(), 0);
        assert_eq!(count_of(some("2"), None, 7).unwrap(), 0);
        assert!(count_of(some("99999"), some("7"), 7).is_err());
        assert!(count_of(some("-1"), some("7"), 7).is_err());
    }

    #[test]
    fn a_missing_socket_is_named() {
        let said = Inherited::default().take_passed(&Inherit::Name("web".to_owned().into())).unwrap_err();
        let said = said.to_string();
        assert!(said.contains("fd://web") && said.contains("left: none"), "{said}");
    }
}
