#![forbid(unsafe_code)]
//! How running publications are found and spoken to: each listens on a Unix socket of its own, `ID.sock`, in one
//! directory. A socket that nobody answers is a left-over.
//!
//! A request is a word and a line end: `ports` is answered with an object a line, `end` with the end of the connection
//! when the publication has ended.

use std::collections::hash_map::RandomState;
use std::env;
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
use crate::serve::bind;

/// For a publication to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a publication to end: what it gives its connections, and some more.
const END_TIME: Duration = Duration::from_secs(30);
/// Requests that may wait for their turn.
const BACKLOG: i32 = 128;
/// Longer than any request.
const REQUEST_MAX: u64 = 16;
/// More than 256 ports with 1000 clients each have.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Where running publications are found.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    pub(crate) fn new(args: &StateArgs) -> Result<Self, String> {
        if let Some(dir) = &args.state_dir {
            return Ok(Self(dir.to_path_buf()));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self("/run/dockline/ports".into()));
        }
        Self::below(env::var_os("XDG_RUNTIME_DIR"))
    }

    fn below(runtime_dir: Option<OsString>) -> Result<Self, String> {
        match runtime_dir.map(PathBuf::from) {
            // A relative one is to be ignored (XDG Base Directory Specification).
            Some(dir) if dir.is_absolute() => Ok(Self(dir.join("dockline/ports"))),
            _ => Err("there is no XDG_RUNTIME_DIR; say with --state-dir where running publications are to be found".into()),
        }
    }

    /// Makes a socket for a new publication.
    pub(crate) fn claim(&self) -> Result<Claim, String> {
        self.try_claim().map_err(|error| format!("{}: {error}", Untrusted::path(&self.0)))
    }

    fn try_claim(&self) -> io::Result<Claim> {
        let dir = private_dir::create_own(&self.0)?;
        loop {
            let id = random_id();
            let path = dir.join(format!("{id}.sock"));
            if path.exists() {
                continue;
            }
            // Under its name it can be connected to from the first moment.
            let new = dir.join(format!("{id}.new"));
            let listener = bind::bind_narrow(&new)?;
            rustix::net::listen(&listener, BACKLOG)?;
            match fs::rename(&new, &path) {
                Ok(()) => return Ok(Claim { id, path, listener: listener.into() }),
                // Somebody took it for a left-over before it listened.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The publications that run. Left-overs are removed, and counted.
    pub(crate) fn live(&self) -> Result<(Vec<Live>, usize), String> {
        let entries = match private_dir::verify_own(&self.0).map_err(io::Error::from).and_then(fs::read_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            Err(error) => return Err(format!("{}: {error}", Untrusted::path(&self.0))),
        };
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
                Err(error) => return Err(format!("{}: {error}", Untrusted::path(&path))),
            }
        }
        live.sort_by(|one, other| one.id.cmp(&other.id));
        Ok((live, stale))
    }

    /// Where a publication in the background logs.
    pub(crate) fn log_of(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.log"))
    }
}

fn is_id(name: &str) -> bool {
    name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Eight hexadecimal digits.
fn random_id() -> String {
    // The standard library's hash tables have keys that nobody can guess.
    let number = RandomState::new().build_hasher().finish();
    format!("{:08x}", number >> 32)
}

/// The socket of a publication; removed with it.
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

/// Reads a request. Whoever is slow has it broken off, and whoever is somebody else but root.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<Request> {
    let (_, peer, _) = sys::peer_credentials(stream.as_fd())?;
    if peer != 0 && peer != process::effective_uid() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', &mut request)?;
    match &request[..] {
        b"ports\n" => Ok(Request::Ports),
        b"end\n" => Ok(Request::End),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Answers [`Request::Ports`].
pub(crate) fn answer(stream: &mut UnixStream, ports: &[PortStatus]) -> io::Result<()> {
    let mut all = Vec::new();
    for port in ports {
        serde_json::to_writer(&mut all, port)?;
        all.push(b'\n');
    }
    stream.write_all(&all)
}

/// A publication that can be asked once.
pub(crate) struct Live {
    pub(crate) id: String,
    stream: UnixStream,
}

impl Live {
    /// What it serves.
    pub(crate) fn ports(mut self) -> Result<Vec<PortStatus>, String> {
        let answer =
            self.ask("ports\n", PATIENCE).map_err(|error| format!("{} does not answer: {error}", self.id))?;
        let lines = answer.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().map_err(|error: serde_json::Error| {
            format!("{} is of another version: {}", self.id, Untrusted::new(error.to_string()))
        })
    }

    /// Ends it, and waits until it has ended.
    pub(crate) fn end(mut self) -> Result<(), String> {
        self.ask("end\n", END_TIME).map(drop).map_err(|error| format!("{} does not end: {error}", self.id))
    }

    fn ask(&mut self, request: &str, patience: Duration) -> io::Result<String> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        match (&self.stream).take(ANSWER_MAX).read_to_string(&mut answer) {
            // A process that ends without having read everything resets the connection.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(answer),
            result => result.map(|_| answer),
        }
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
            assert!(below(none).unwrap_err().contains("--state-dir"), "{none}");
        }
        assert!(StateDir::below(None).is_err());
    }

    /// Whatever the umask was.
    #[test]
    fn only_the_user_can_connect() {
        let dir = env::temp_dir().join(format!("dockline-control-mode-{}", std::process::id()));
        let state = StateDir(dir.join("state"));
        let claim = state.claim().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir.join("state")), mode(&claim.path)), (0o700, 0o600));
        assert_eq!(mode(&dir) & 0o022, 0);
        // A folder in which others can put sockets of their own is used by nobody.
        fs::set_permissions(dir.join("state"), fs::Permissions::from_mode(0o777)).unwrap();
        for said in [state.claim().map(drop).unwrap_err(), state.live().map(drop).unwrap_err()] {
            assert!(said.ends_with("state is writable by other users (chmod go-w)"), "{said}");
        }
        drop(claim);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn left_overs_are_removed() {
        let dir = env::temp_dir().join(format!("dockline-control-{}", std::process::id()));
        let state = StateDir(dir.clone());
        let claim = state.claim().unwrap();
        let id = claim.id.clone();
        // A process that was killed removes nothing.
        let dead = state.claim().unwrap();
        let path = dead.path.clone();
        fs::hard_link(&path, dir.join("kept")).unwrap();
        drop(dead);
        fs::rename(dir.join("kept"), &path).unwrap();
        let (live, stale) = state.live().unwrap();
        assert_eq!((live.len(), live[0].id.as_str(), stale), (1, id.as_str(), 1));
        assert!(!path.exists());
        // One that was killed before it had its name; and one that has just begun.
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
