#![forbid(unsafe_code)]
//! Detects upstreams whose connections would arrive at a listener of this process, by whatever
//! name. Names may change later: the engine checks each connection again.

use std::ffi::CStr;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dockline::engine::Address;
use dockline_sys::Bound;
use rustix::net::{SocketAddrUnix, getsockname};

use crate::address::UpstreamAddress;
use crate::problem::Problem;

/// Returns whether the upstream is the socket. A name is resolved only if the ports are equal.
pub(crate) fn leads_to(upstream: &Address, socket: &OwnedFd) -> bool {
    let Ok(name) = getsockname(socket) else { return false };
    match (upstream, SocketAddr::try_from(name.clone()), SocketAddrUnix::try_from(name)) {
        (Address::Tcp { host, port }, Ok(local), _) if local.port() == *port => {
            let Ok(Some(bound)) = Bound::of(socket.as_fd()) else { return false };
            let found = (host.as_str(), *port).to_socket_addrs();
            found.is_ok_and(|mut all| all.any(|address| bound.is_reached_by(address)))
        }
        (Address::Unix(upstream), _, Ok(local)) => is_same(upstream, &local),
        _ => false,
    }
}

/// Makes the problem with such an upstream.
pub(crate) fn refusal(upstream: &UpstreamAddress) -> Problem {
    Problem::new(format_args!("the upstream {upstream} is this listener: requests would loop"))
        .hint("change one of the two addresses")
}

fn is_same(upstream: &Path, local: &SocketAddrUnix) -> bool {
    if let Some(name) = local.abstract_name() {
        return upstream.as_os_str().as_bytes().strip_prefix(b"@") == Some(name);
    }
    let Some(path) = local.path() else { return false };
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let path = Path::new(std::ffi::OsStr::from_bytes(CStr::to_bytes(&path)));
    identity(path).is_some_and(|own| identity(upstream) == Some(own))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

    use super::*;

    #[test]
    fn names_of_a_tcp_socket() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap().port();
        let socket = socket.into();
        let leads = |host: &str, port| leads_to(&Address::Tcp { host: host.into(), port }, &socket);
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "::ffff:127.0.0.1", "127.1"] {
            assert!(leads(host, own), "{host}");
            assert!(!leads(host, own ^ 1), "{host}");
        }
        for host in ["127.0.0.2", "::1", "192.0.2.1", "daemon.invalid"] {
            assert!(!leads(host, own), "{host}");
        }
        assert!(!leads_to(&Address::Unix("/d.sock".into()), &socket));
    }

    #[test]
    fn names_of_a_unix_socket() {
        let dir = std::env::temp_dir().join(format!("dockline-loop-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let socket = UnixListener::bind(dir.join("d.sock")).unwrap().into();
        let _other = UnixListener::bind(dir.join("other")).unwrap();
        symlink("d.sock", dir.join("link")).unwrap();
        symlink(&dir, dir.join("here")).unwrap();
        fs::hard_link(dir.join("d.sock"), dir.join("hard")).unwrap();
        for (name, same) in [
            ("d.sock", true),
            ("link", true),
            ("here/d.sock", true),
            ("hard", true),
            ("other", false),
            ("none", false),
        ] {
            assert_eq!(leads_to(&Address::Unix(dir.join(name)), &socket), same, "{name}");
        }
        fs::remove_dir_all(dir).unwrap();
        let name = format!("dockline-loop-{}", std::process::id());
        let socket = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap().into();
        assert!(leads_to(&Address::Unix(format!("@{name}").into()), &socket));
        assert!(!leads_to(&Address::Unix("@other".into()), &socket));
    }
}
