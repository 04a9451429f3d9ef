#![forbid(unsafe_code)]
//! The files of Unix sockets: created for this user alone, replaced if their process is dead, and
//! removed with the listener.

use std::error;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::address::SocketAccess;
use crate::problem::Problem;

/// Why the file of a socket cannot be used.
#[derive(Debug)]
pub(crate) enum Error {
    Io(io::Error),
    /// Another file has its path.
    NotASocket,
    /// A socket of another user has its path.
    Foreign {
        owner: u32,
        user: u32,
    },
    /// A process listens on it.
    InUse,
    /// The table of users or groups has no such name.
    UnknownName {
        kind: &'static str,
        name: Untrusted<String>,
        table: &'static str,
    },
}

impl Error {
    /// Makes a problem of it, with what to do about it.
    pub(crate) fn into_problem(self, message: impl fmt::Display) -> Problem {
        let hint = match &self {
            Self::Io(_) | Self::InUse => None,
            Self::NotASocket | Self::Foreign { .. } => Some("remove it, or use another path"),
            Self::UnknownName { .. } => Some("add it, or use a number"),
        };
        let problem = Problem::new(message).because(self);
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotASocket => f.write_str("the file there is not a socket"),
            Self::Foreign { owner, user } => {
                write!(f, "the socket there belongs to user {owner}, not {user}")
            }
            Self::InUse => f.write_str("another program listens there"),
            Self::UnknownName { kind, name, table } => write!(f, "there is no {kind} `{name}` in {table}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Limit for another process to create its socket in the same directory.
const LOCK_TIME: Duration = Duration::from_secs(1);
/// Interval of attempts to lock it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Locks the directory of a socket against other processes of this program. Everybody who can read
/// the directory can lock it, so this waits no longer than [`LOCK_TIME`], and goes on without the
/// lock.
pub(crate) fn lock_dir(path: &Path) -> Option<File> {
    let dir = File::open(path.parent()?).ok()?;
    for _ in 0..LOCK_TIME.as_millis() / LOCK_PAUSE.as_millis() {
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::park_timeout(LOCK_PAUSE),
            _ => return Some(dir),
        }
    }
    None
}

/// Returns the directory of a socket if other users can create a socket there, now or when this one
/// is gone.
pub(crate) fn shared_dir(path: &Path) -> Option<PathBuf> {
    let dir = path.parent()?.canonicalize().ok()?;
    let found = fs::metadata(&dir).ok()?;
    let owners = [0, rustix::process::geteuid().as_raw()];
    (found.mode() & 0o022 != 0 || !owners.contains(&found.uid())).then_some(dir)
}

/// Binds a socket to a path with mode 0600, whatever the umask: the file gets its mode from the
/// socket.
pub(crate) fn bind_private(path: &Path) -> Result<OwnedFd, Error> {
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

/// Removes the socket of a dead process. Anything else is left alone.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(Error::NotASocket);
    }
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(Error::Foreign { owner, user });
    }
    // A live process may be stopped with a full backlog.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(fs::remove_file(path)?),
        Err(Errno::NOENT) => Ok(()),
        Err(error) if error != Errno::AGAIN => Err(error.into()),
        _ => Err(Error::InUse),
    }
}

/// Sets owner and mode of the socket at a path. It does not follow symbolic links.
pub(crate) fn set_access(path: &Path, access: &SocketAccess) -> Result<(), Problem> {
    let path_text = Untrusted::path(path);
    try_set_access(path, access)
        .map_err(|error| error.into_problem(format_args!("cannot set owner and mode of {path_text}")))
}

fn try_set_access(path: &Path, access: &SocketAccess) -> Result<(), Error> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_socket() {
        return Err(Error::NotASocket);
    }
    let user = access.user.as_ref().map(|user| look_up(user, "/etc/passwd", "user")).transpose()?;
    let group = access.group.as_ref().map(|group| look_up(group, "/etc/group", "group")).transpose()?;
    if user.is_some() || group.is_some() {
        let (user, group) = (user.map(Uid::from_raw), group.map(Gid::from_raw));
        rustix::fs::chownat(&file, "", user, group, AtFlags::EMPTY_PATH)?;
    }
    // fchmod(2) does not work on a descriptor with O_PATH.
    let through = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::chmod(through, Mode::from_raw_mode(access.mode))?)
}

/// Looks the number of a user or group up in the local files only: NSS would need C.
fn look_up(name: &Untrusted<String>, table: &'static str, kind: &'static str) -> Result<u32, Error> {
    if let Ok(number) = name.raw().parse() {
        return Ok(number);
    }
    find_id(&fs::read_to_string(table)?, name.raw()).ok_or_else(|| Error::UnknownName {
        kind,
        name: name.clone(),
        table,
    })
}

/// Returns the third field of the line that begins with the name.
fn find_id(table: &str, name: &str) -> Option<u32> {
    let mut lines = table.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

/// The file of a Unix socket. If it is ours, it is removed with the listener.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    /// Whether no other process listens on it.
    pub(crate) ours: bool,
}

impl SocketFile {
    /// Identifies the file at a path.
    pub(crate) fn find(path: &Path, ours: bool) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)?, ours })
    }
}

/// Removes the file of a socket.
pub(crate) fn remove_file(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Something else may be there now.
        if self.ours && identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_from_the_start() {
        let path = std::env::temp_dir().join(format!("dockline-bind-{}", std::process::id()));
        let _socket = bind_private(&path).unwrap();
        let _file = SocketFile::find(&path, true).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_found() {
        let dir = std::env::temp_dir().join(format!("dockline-bind-shared-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        for (mode, shared) in [(0o700, false), (0o755, false), (0o770, true), (0o1777, true), (0o702, true)] {
            fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(shared_dir(&dir.join("d.sock")).is_some(), shared, "{mode:o}");
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
