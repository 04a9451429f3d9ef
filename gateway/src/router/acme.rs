#![forbid(unsafe_code)]
//! [`Challenges`]: `/.well-known/acme-challenge/TOKEN` (RFC 8555, section 8.3), from a directory.
//!
//! An ACME client writes the file just before the authority asks for it, so it is read for each
//! request. A directory may be on a slow disk: a thread reads it, and the loop goes on.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use dockline::engine::{Decider, Route};
use dockline::proxy::Reply;
use log::warn;

use crate::absolute_path::AbsolutePath;
use crate::problem::Problem;
use crate::process::spawn;

const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// Bytes of a token at most; those of today have 43.
const TOKEN_MAX: usize = 128;

/// Bytes of a file at most: a token, a dot and a thumbprint.
const FILE_MAX: u64 = 1024;

/// Requests that may wait for the thread.
const WAITING_MAX: usize = 64;

/// Limit for the thread to answer.
pub(super) const TIME: Duration = Duration::from_secs(10);

/// Answers challenges. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    dir: AbsolutePath,
    sender: SyncSender<Question>,
}

/// What is asked for, and what decides about the request.
struct Question {
    token: String,
    decider: Decider,
    /// What becomes of the request if there is no such file.
    otherwise: Box<dyn FnOnce() -> Route + Send>,
}

impl Challenges {
    /// Starts the thread.
    pub(super) fn start(dir: &AbsolutePath) -> Result<Self, Problem> {
        let (sender, questions) = sync_channel(WAITING_MAX);
        let own = dir.clone();
        spawn("acme", move || answer(&own, &questions))?;
        Ok(Self { dir: dir.clone(), sender })
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &AbsolutePath {
        &self.dir
    }

    /// Decides about the request for a token. If too many wait already, it is decided that it gets
    /// 503.
    pub(super) fn ask(
        &self,
        token: &str,
        decider: Decider,
        otherwise: impl FnOnce() -> Route + Send + 'static,
    ) {
        let otherwise = Box::new(otherwise);
        // A decider that is dropped decides for 503.
        let _ = self.sender.try_send(Question { token: token.to_owned(), decider, otherwise });
    }
}

/// Returns the token that a path asks for.
pub(super) fn token(path: &[u8]) -> Option<&str> {
    let rest = path.strip_prefix(PREFIX)?;
    let token = rest.split(|&byte| byte == b'?').next()?;
    // The base64url alphabet (RFC 8555, section 8.3): no dot and no slash.
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let is_token = (1..=TOKEN_MAX).contains(&token.len()) && token.iter().all(is_allowed);
    std::str::from_utf8(token).ok().filter(|_| is_token)
}

fn answer(dir: &AbsolutePath, questions: &Receiver<Question>) {
    for Question { token, decider, otherwise } in questions {
        match read(dir, &token) {
            Ok(answer) => {
                decider.decide(Route::Reply(Reply::new(200, "application/octet-stream", answer)));
            }
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    warn!("{}: {error}", dir.join(&token));
                }
                decider.decide(otherwise());
            }
        }
    }
}

fn read(dir: &Path, token: &str) -> io::Result<Vec<u8>> {
    // A pipe in the directory must not make the thread wait.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(dir.join(token))?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut answer = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut answer)?;
    if answer.len() as u64 > FILE_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tokens_are_of_the_base64url_alphabet() {
        let of = |rest: &str| token([PREFIX, rest.as_bytes()].concat().as_slice()).map(str::to_owned);
        assert_eq!(of("abc-_0"), Some("abc-_0".into()));
        assert_eq!(of("abc?x=y"), Some("abc".into()));
        for rest in ["", "?", "a/b", "..", "a.txt", "a%2e", "a b"] {
            assert_eq!(of(rest), None, "{rest}");
        }
        assert!(of(&"a".repeat(TOKEN_MAX - 1)).is_some());
        assert!(of(&"a".repeat(TOKEN_MAX)).is_some());
        assert_eq!(of(&"a".repeat(TOKEN_MAX + 1)), None);
        assert_eq!(token(b"/.well-known/acme-challenge"), None);
        assert_eq!(token(b"/x"), None);
    }

    #[test]
    fn small_regular_files_are_read() {
        let dir = std::env::temp_dir().join(format!("dockline-acme-{}", std::process::id()));
        fs::create_dir_all(dir.join("dir")).unwrap();
        let largest = usize::try_from(FILE_MAX).unwrap();
        for (size, is_ok) in [(0, true), (largest - 1, true), (largest, true), (largest + 1, false)] {
            fs::write(dir.join("token"), vec![b'a'; size]).unwrap();
            assert_eq!(read(&dir, "token").is_ok(), is_ok, "{size}");
        }
        assert!(read(&dir, "dir").is_err());
        assert_eq!(read(&dir, "none").unwrap_err().kind(), ErrorKind::NotFound);
        fs::remove_dir_all(dir).unwrap();
    }
}
