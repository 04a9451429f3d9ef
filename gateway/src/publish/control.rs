#![forbid(unsafe_code)]
//! The control sockets of publications: each listens on its own Unix socket, `ID.sock`, in one
//! directory. A socket that refuses connections was left behind by a process that was killed.
//!
//! A request is a word and a newline. The reply to `ports` is one object per line; the reply to
//! `end` is the end of the connection, when the publication has ended.

use std::collections::hash_map::RandomState;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use dockline_sys::{self as sys, private_dir, process};

use super::args::StateArgs;
use super::status::PortStatus;
use crate::problem::Problem;
use crate::unix_socket;

/// Timeout of a reply.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a publication to end: the time of its connections to end, and a margin.
const END_TIME: Duration = Duration::from_secs(30);
/// Requests that may wait.
const BACKLOG: i32 = 128;
/// Longer than any request.
const REQUEST_MAX: u64 = 16;
/// Limit for a reply; that of 256 ports with 1000 clients each is smaller.
const REPLY_MAX: u64 = 64 * 1024 * 1024;

type Cause = Box<dyn Error + Send + Sync>;

/// The directory of the control sockets.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    pub(crate) fn new(args: &StateArgs) -> Result<Self, Problem> {
        if let Some(dir) = &args.state_dir {
            return Ok(Self(dir.to_path_buf()));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self("/run/dockline/ports".into()));
        }
        Self::below(env::var_os("XDG_RUNTIME_DIR"))
    }

    fn below(runtime_dir: Option<OsString>) -> Result<Self, Problem> {
        match runtime_dir.map(PathBuf::from) {
            // A relative path is to be ignored (XDG Base Directory Specification).
            Some(dir) if dir.is_absolute() => Ok(Self(dir.join("dockline/ports"))),
            _ => Err(Problem::new("XDG_RUNTIME_DIR is not set")
                .hint("give a directory for control sockets with --state-dir")),
        }
    }

    /// Creates the socket of a new publication.
    pub(crate) fn claim(&self) -> Result<Claim, Problem> {
        self.try_claim().map_err(|error| self.failed(error))
    }

    fn try_claim(&self) -> Result<Claim, Cause> {
        let dir = private_dir::create_own(&self.0)?;
        loop {
            let id = random_id();
            let path = dir.join(format!("{id}.sock"));
            if path.exists() {
                continue;
            }
            // When it gets its name, it accepts connections already.
            let new = dir.join(format!("{id}.new"));
            let listener = unix_socket::bind_private(&new)?;
            rustix::net::listen(&listener, BACKLOG)?;
            match fs::rename(&new, &path) {
                Ok(()) => return Ok(Claim { id, path, listener: listener.into() }),
                // It was removed as left behind before it listened.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the running publications, and the number of sockets left behind, which are removed.
    pub(crate) fn live(&self) -> Result<(Vec<Live>, usize), Problem> {
        let dir = match private_dir::verify_own(&self.0) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok((Vec::new(), 0)),
            Err(error) => return Err(self.failed(error)),
        };
        let entries = fs::read_dir(dir).map_err(|error| self.failed(error))?;
        let (mut live, mut stale) = (Vec::new(), 0);
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()?.split_once('.'));
            let Some((id, kind @ ("sock" | "new"))) = name.filter(|(id, _)| is_id(id)) else { continue };
            match UnixStream::connect(&path) {
                Ok(_) if kind == "new" => {}
                Ok(stream) => live.push(Live { id: id.to_owned(), stream }),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    let _ = fs::remove_file(&path);
                    let _ = fs::remove_file(self.log_of(id));
                    stale += 1;
                }
                // It has just ended.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Problem::new("cannot connect").at(Untrusted::path(&path)).because(error));
                }
            }
        }
        live.sort_by(|one, other| one.id.cmp(&other.id));
        Ok((live, stale))
    }

    fn failed(&self, error: impl Into<Cause>) -> Problem {
        Problem::new("cannot use the directory for control sockets")
            .at(Untrusted::path(&self.0))
            .because(error)
    }

    /// Returns the log file of a publication in the background.
    pub(crate) fn log_of(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.log"))
    }
}

fn is_id(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns eight random hexadecimal digits.
fn random_id() -> String {
    // The keys of the standard library's hash tables cannot be guessed.
    let number = RandomState::new().build_hasher().finish();
    format!("{:08x}", number >> 32)
}

/// The socket of a publication. It is removed on drop.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) id: String,
    path: PathBuf,
    pub(crate) listener: UnixListener,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.path.with_extension("log"));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Ports,
    End,
}

/// Reads a request. It fails if the peer is too slow, or neither this user nor root.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<Request> {
    let (_, peer, _) = sys::peer_credentials(stream.as_fd())?;
    if peer != 0 && peer != process::effective_uid() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', &mut request)?;
    match &request[..] {
        b"ports\n" => Ok(Request::Ports),
        b"end\n" => Ok(Request::End),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Replies to [`Request::Ports`].
pub(crate) fn reply(stream: &mut UnixStream, ports: &[PortStatus]) -> io::Result<()> {
    let mut all = Vec::new();
    for port in ports {
        serde_json::to_writer(&mut all, port)?;
        all.push(b'\n');
    }
    stream.write_all(&all)
}

/// A running publication, for one request.
pub(crate) struct Live {
    pub(crate) id: String,
    stream: UnixStream,
}

impl Live {
    /// Requests its ports.
    pub(crate) fn ports(mut self) -> Result<Vec<PortStatus>, Problem> {
        let reply = request(&mut self.stream, "ports\n", TIMEOUT)
            .map_err(Problem::wrap(format_args!("the publication {} does not reply", self.id)))?;
        let lines = reply.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().map_err(|error: serde_json::Error| {
            let error = Untrusted::new(error.to_string());
            Problem::new(format_args!("the publication {} has another version: {error}", self.id))
        })
    }

    /// Ends it, and waits until it has ended.
    pub(crate) fn end(mut self) -> Result<(), Problem> {
        let ended = request(&mut self.stream, "end\n", END_TIME);
        ended.map(drop).map_err(Problem::wrap(format_args!("the publication {} does not end", self.id)))
    }
}

fn request(stream: &mut UnixStream, request: &str, limit: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    match stream.take(REPLY_MAX).read_to_string(&mut reply) {
        // A process that ends before it has read everything resets the connection.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(reply),
        result => result.map(|_| reply),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::*;

    #[test]
    fn ids_differ() {
        let (one, other) = (random_id(), random_id());
        assert_ne!(one, other);
        assert!(is_id(&one), "{one}");
    }

    #[test]
    fn only_an_absolute_runtime_directory_counts() {
        let below = |dir: &str| StateDir::below(Some(dir.into()));
        assert_eq!(below("/run/user/1").unwrap().0, PathBuf::from("/run/user/1/dockline/ports"));
        for none in ["run", "", "./run"] {
            assert!(below(none).unwrap_err().to_string().contains("--state-dir"), "{none}");
        }
        assert!(StateDir::below(None).is_err());
    }

    /// Whatever the umask.
    #[test]
    fn only_the_user_can_connect() {
        let dir = env::temp_dir().join(format!("dockline-control-mode-{}", std::process::id()));
        let state = StateDir(dir.join("state"));
        let claim = state.claim().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir.join("state")), mode(&claim.path)), (0o700, 0o600));
        assert_eq!(mode(&dir) & 0o022, 0);
        // A directory in which others can create sockets is not used.
        fs::set_permissions(dir.join("state"), fs::Permissions::from_mode(0o777)).unwrap();
        for said in [state.claim().map(drop).unwrap_err(), state.live().map(drop).unwrap_err()] {
            let said = said.to_string();
            assert!(said.ends_with("state is writable by other users (chmod go-w)"), "{said}");
        }
        drop(claim);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn sockets_left_behind_are_removed() {
        let dir = env::temp_dir().join(format!("dockline-control-{}", std::process::id()));
        let state = StateDir(dir.clone());
        let claim = state.claim().unwrap();
        let id = claim.id.clone();
        // As of a process that was killed.
        let dead = state.claim().unwrap();
        let path = dead.path.clone();
        fs::hard_link(&path, dir.join("kept")).unwrap();
        drop(dead);
        fs::rename(dir.join("kept"), &path).unwrap();
        let (live, stale) = state.live().unwrap();
        assert_eq!((live.len(), live[0].id.as_str(), stale), (1, id.as_str(), 1));
        assert!(!path.exists());
        // One was killed before it had its name; another one has just started.
        drop(UnixListener::bind(dir.join("0badcafe.new")).unwrap());
        let new = UnixListener::bind(dir.join("0badbeef.new")).unwrap();
        assert_eq!((state.live().unwrap().0.len(), state.live().unwrap().1), (1, 0));
        assert!(!dir.join("0badcafe.new").exists() && dir.join("0badbeef.new").exists());
        drop(new);
        fs::remove_file(dir.join("0badbeef.new")).unwrap();
        drop(claim);
        assert_eq!(state.live().unwrap().0.len(), 0);
        fs::remove_dir(dir).unwrap();
    }
}
