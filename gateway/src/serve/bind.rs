#![forbid(unsafe_code)]
//! Opens the sockets of a listener.

use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dockline::untrusted::Untrusted;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::address::{ListenAddress, SocketAccess};
use crate::problem::Problem;
use crate::process::inherited::Inherited;
use crate::unix_socket::{self, SocketFile};

/// Connections that wait to be accepted. The kernel reduces it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) socket: OwnedFd,
    /// The actual address: port 0 has become a number.
    pub(crate) address: String,
    pub(crate) file: Option<SocketFile>,
}

impl BoundSocket {
    fn new(socket: OwnedFd) -> Self {
        let address = address_of(&socket);
        Self { socket, address, file: None }
    }
}

/// Opens an address, or takes the sockets that another process has opened for it. A name or `fd://`
/// may stand for several; at least one is returned.
pub(crate) fn bind(address: &ListenAddress, inherited: &mut Inherited) -> Result<Vec<BoundSocket>, Problem> {
    let failed = |error| describe(error, address);
    let handed = inherited.take_handed(&address.key());
    if !handed.is_empty() {
        let mut all: Vec<BoundSocket> = handed.into_iter().map(BoundSocket::new).collect();
        if let ListenAddress::Unix { path, access } = address {
            unix_socket::set_access(path, access)?;
            all[0].file = SocketFile::find(path, false).ok();
        }
        return Ok(all);
    }
    match address {
        ListenAddress::Tcp { host, port, .. } => bind_tcp(host, *port).map_err(failed),
        ListenAddress::Unix { path, access } => bind_unix(path, access).map(|bound| vec![bound]),
        ListenAddress::Inherited(which) => {
            Ok(inherited.take_passed(which)?.into_iter().map(BoundSocket::new).collect())
        }
    }
}

fn describe(error: io::Error, address: &ListenAddress) -> Problem {
    let problem = Problem::new(format_args!("cannot listen on {address}"));
    match (error.kind(), address) {
        (ErrorKind::AddrInUse, ListenAddress::Tcp { .. }) => problem.because("another program listens there"),
        (ErrorKind::PermissionDenied, ListenAddress::Tcp { port: 1..1024, .. }) => {
            problem.because("ports below 1024 need CAP_NET_BIND_SERVICE")
        }
        (ErrorKind::AddrNotAvailable, _) => problem.because("this machine has no such address"),
        _ => problem.because(error),
    }
}

fn bind_tcp(host: &str, port: u16) -> io::Result<Vec<BoundSocket>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, port).to_socket_addrs()? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut all: Vec<BoundSocket> = Vec::new();
    for address in &addresses {
        match listen_tcp(*address) {
            Ok(socket) => all.push(BoundSocket::new(socket)),
            // A name may have an address of a family that this machine does not have.
            Err(error)
                if addresses.len() > 1
                    && matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {}
            Err(error) => return Err(error),
        }
    }
    if all.is_empty() { Err(ErrorKind::AddrNotAvailable.into()) } else { Ok(all) }
}

fn listen_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Otherwise connections in TIME_WAIT would prevent a restart.
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, access: &SocketAccess) -> Result<BoundSocket, Problem> {
    let address = format!("unix://{}", Untrusted::path(path));
    let failed = |error: unix_socket::Error| error.into_problem(format_args!("cannot listen on {address}"));
    // Before it listens, a socket looks like that of a dead process.
    let _lock = unix_socket::lock_dir(path);
    let socket = unix_socket::bind_private(path).map_err(failed)?;
    let file = SocketFile::find(path, true).map_err(|error| failed(error.into()))?;
    unix_socket::set_access(path, access)?;
    // Nobody can connect before this.
    net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
    Ok(BoundSocket { socket, address, file: Some(file) })
}

/// Returns the local address of a socket in the form of a listen address.
fn address_of(socket: &impl AsFd) -> String {
    let name = match net::getsockname(socket) {
        Ok(name) => name,
        Err(error) => return format!("unknown address ({error})"),
    };
    if let Ok(address) = SocketAddr::try_from(name.clone()) {
        return format!("tcp://{address}");
    }
    match SocketAddrUnix::try_from(name) {
        Ok(name) => {
            format!("unix://{}", Untrusted::new(name.path().as_deref().map_or(&[][..], CStr::to_bytes)))
        }
        Err(_) => "unknown address".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn one_of_many_takes_the_place_of_a_dead_socket() {
        let path = std::env::temp_dir().join(format!("dockline-bind-race-{}", std::process::id()));
        for _ in 0..20 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let barrier = std::sync::Barrier::new(4);
            let bound: Vec<BoundSocket> = thread::scope(|scope| {
                let bind = || {
                    barrier.wait();
                    bind_unix(&path, &SocketAccess::default())
                };
                let all: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
                all.into_iter().filter_map(|one| one.join().unwrap().ok()).collect()
            });
            assert_eq!(bound.len(), 1);
            let file = SocketFile::find(&path, false).unwrap();
            assert_eq!(file.identity, bound[0].file.as_ref().unwrap().identity);
            UnixStream::connect(&path).unwrap();
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_whose_backlog_is_full_is_alive() {
        let path = std::env::temp_dir().join(format!("dockline-bind-full-{}", std::process::id()));
        let socket = unix_socket::bind_private(&path).unwrap();
        net::listen(&socket, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let problem = bind_unix(&path, &SocketAccess::default()).unwrap_err();
        assert!(problem.to_string().contains("another program listens there"), "{problem}");
        fs::remove_file(path).unwrap();
    }

    /// By a process that only obstructs.
    #[test]
    fn a_lock_is_not_waited_for_without_end() {
        let dir = std::env::temp_dir().join(format!("dockline-bind-lock-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let locked = File::open(&dir).unwrap();
        rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
        drop(bind_unix(&dir.join("d.sock"), &SocketAccess::default()).unwrap());
        fs::remove_dir(dir).unwrap();
    }
}
