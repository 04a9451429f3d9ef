#![forbid(unsafe_code)]
//! Opens what is listened on.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::address::{ListenAddress, SocketAccess};
use crate::process::inherited::Inherited;

/// Connections that the kernel may accept ahead of us. It lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long another process may take to make its socket in the same folder.
const LOCK_TIME: Duration = Duration::from_secs(1);
/// Between two looks at whether it has.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A listening socket.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) socket: OwnedFd,
    /// Where it really is: port 0 has become a number.
    pub(crate) address: String,
    pub(crate) file: Option<SocketFile>,
}

impl BoundSocket {
    fn new(socket: OwnedFd) -> Self {
        let address = address_of(&socket);
        Self { socket, address, file: None }
    }
}

/// Opens an address, or takes what another process has opened for it. A name or `fd://` may stand for several sockets;
/// there is at least one.
pub(crate) fn bind(address: &ListenAddress, inherited: &mut Inherited) -> Result<Vec<BoundSocket>, String> {
    let failed = |error: io::Error| format!("cannot listen on {address}: {}", explain(&error, address));
    let handed = inherited.take_handed(&address.key());
    if !handed.is_empty() {
        let mut all: Vec<BoundSocket> = handed.into_iter().map(BoundSocket::new).collect();
        if let ListenAddress::Unix { path, access } = address {
            set_access(path, access).map_err(failed)?;
            all[0].file = SocketFile::find(path, false).ok();
        }
        return Ok(all);
    }
    match address {
        ListenAddress::Tcp { host, port, .. } => bind_tcp(host, *port).map_err(failed),
        ListenAddress::Unix { path, access } => bind_unix(path, access).map(|it| vec![it]).map_err(failed),
        ListenAddress::Inherited(which) => {
            Ok(inherited.take_passed(which)?.into_iter().map(BoundSocket::new).collect())
        }
    }
}

fn explain(error: &io::Error, address: &ListenAddress) -> String {
    match (error.kind(), address) {
        (ErrorKind::AddrInUse, ListenAddress::Tcp { .. }) => "another program listens there".into(),
        (ErrorKind::PermissionDenied, ListenAddress::Tcp { port: 1..1024, .. }) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE".into()
        }
        (ErrorKind::AddrNotAvailable, _) => "this machine has no such address".into(),
        _ => error.to_string(),
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
            // A name may stand for a family that this machine does not have.
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
    // A restart must not wait for connections in TIME_WAIT.
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, access: &SocketAccess) -> io::Result<BoundSocket> {
    // A socket that does not listen yet looks as if it were one of the dead.
    let _lock = lock_folder(path);
    let socket = bind_narrow(path)?;
    let file = SocketFile::find(path, true)?;
    set_access(path, access)?;
    // Nobody can connect before this.
    net::listen(&socket, BACKLOG)?;
    Ok(BoundSocket { socket, address: format!("unix://{}", Untrusted::path(path)), file: Some(file) })
}

/// Has other processes of this program wait with their sockets in the same folder. Anybody who can read the folder can
/// lock it as well, so that it is not waited for longer than [`LOCK_TIME`].
fn lock_folder(path: &Path) -> Option<File> {
    let folder = File::open(path.parent()?).ok()?;
    for _ in 0..LOCK_TIME.as_millis() / LOCK_PAUSE.as_millis() {
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::park_timeout(LOCK_PAUSE),
            _ => return Some(folder),
        }
    }
    None
}

/// The folder of a socket, if other users can put a socket of their own there: now, or when ours is not there.
pub(crate) fn shared_folder(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?.canonicalize().ok()?;
    let found = fs::metadata(&folder).ok()?;
    let owners = [0, rustix::process::geteuid().as_raw()];
    (found.mode() & 0o022 != 0 || !owners.contains(&found.uid())).then_some(folder)
}

/// A socket at the path that nobody else has access to, whatever the umask: its file gets the mode from the socket.
pub(crate) fn bind_narrow(path: &Path) -> io::Result<OwnedFd> {
    let at = SocketAddrUnix::new(path)?;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    match net::bind(&socket, &at) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path)?;
            net::bind(&socket, &at)?;
        }
        bound => bound?,
    }
    Ok(socket)
}

/// Makes a path free that a dead process has left a socket at. Anything else is left alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other(
            "there is something that is no socket; remove it, or take another path",
        ));
    }
    let me = rustix::process::geteuid();
    if found.uid() != me.as_raw() {
        return Err(io::Error::other(format!(
            "the socket there belongs to user {}, not {}; remove it, or take another path",
            found.uid(),
            me.as_raw()
        )));
    }
    // The backlog of a process that is stopped may be full; it is alive all the same.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        Err(error) if error != Errno::AGAIN => Err(error.into()),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "another program listens there")),
    }
}

/// Gives the socket at a path its owner and mode; does not follow links.
pub(crate) fn set_access(path: &Path, access: &SocketAccess) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_socket() {
        return Err(io::Error::other("what is there now is no socket"));
    }
    let user = access.user.as_ref().map(|user| look_up(user, "/etc/passwd", "user")).transpose()?;
    let group = access.group.as_ref().map(|group| look_up(group, "/etc/group", "group")).transpose()?;
    if user.is_some() || group.is_some() {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        rustix::fs::chownat(&file, "", user, group, AtFlags::EMPTY_PATH)?;
    }
    // A descriptor that is only a path cannot be given a mode directly.
    let through = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::chmod(through, Mode::from_raw_mode(access.mode))?)
}

/// The number of a user or group. Only the local files are asked: NSS would need C.
fn look_up(name: &Untrusted<String>, file: &str, what: &str) -> io::Result<u32> {
    if let Ok(number) = name.raw().parse() {
        return Ok(number);
    }
    find_id(&fs::read_to_string(file)?, name.raw()).ok_or_else(|| {
        io::Error::other(format!("there is no {what} `{name}` in {file}; a number would do, too"))
    })
}

/// The third field of the line that begins with the name.
fn find_id(table: &str, name: &str) -> Option<u32> {
    let mut lines = table.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

/// The file of a Unix socket. If it is ours, it goes with the listener.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether no other process listens on it.
    pub(crate) ours: bool,
}

impl SocketFile {
    fn find(path: &Path, ours: bool) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)?, ours })
    }
}

/// Removes the file of a socket that was this program's.
pub(crate) fn remove_file(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put something else there.
        if self.ours && identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Where a socket is bound, in the form of an address.
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
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_is_born_narrow() {
        let path = std::env::temp_dir().join(format!("dockline-bind-{}", std::process::id()));
        let _socket = bind_narrow(&path).unwrap();
        let _file = SocketFile::find(&path, true).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

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
            assert_eq!(identity(&path).unwrap(), bound[0].file.as_ref().unwrap().identity);
            UnixStream::connect(&path).unwrap();
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_whose_backlog_is_full_is_alive() {
        let path = std::env::temp_dir().join(format!("dockline-bind-full-{}", std::process::id()));
        let socket = bind_narrow(&path).unwrap();
        net::listen(&socket, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let error = bind_unix(&path, &SocketAccess::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        fs::remove_file(path).unwrap();
    }

    /// Somebody who only wants to be in the way.
    #[test]
    fn a_lock_is_not_waited_for_for_ever() {
        let dir = std::env::temp_dir().join(format!("dockline-bind-lock-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let folder = File::open(&dir).unwrap();
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).unwrap();
        drop(bind_unix(&dir.join("d.sock"), &SocketAccess::default()).unwrap());
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn a_folder_that_others_write_to_is_told() {
        let dir = std::env::temp_dir().join(format!("dockline-bind-shared-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        for (mode, shared) in [(0o700, false), (0o755, false), (0o770, true), (0o1777, true), (0o702, true)] {
            fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(shared_folder(&dir.join("d.sock")).is_some(), shared, "{mode:o}");
        }
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn ids_come_from_the_third_field() {
        let table = "root:x:0:\ndocker:x:998:alice,bob\nbroken\nodd:x:y:\n";
        assert_eq!(find_id(table, "docker"), Some(998));
        assert_eq!(find_id(table, "alice"), None);
        assert_eq!(find_id(table, "broken"), None);
        assert_eq!(find_id(table, "odd"), None);
    }
}
