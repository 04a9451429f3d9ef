#![forbid(unsafe_code)]
//! A directory of certificates, from which a listener takes the one for the name that a client asks
//! for. It is looked at every few seconds: unlike notifications of the kernel that also works for
//! symbolic links (certbot, Kubernetes) and on network file systems.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use dockline::engine::tls::{Credentials, ServerTls, ServerTlsConfig, TlsError, check_key_file};
use dockline::untrusted::Untrusted;
use log::{error, info, warn};

use crate::absolute_path::AbsolutePath;
use crate::problem::Problem;
use crate::process::spawn;

/// How often the directories are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// The name of the certificate for clients that ask for another name, or for none.
const DEFAULT: &str = "default";

/// A certificate and its key, as they are named in a directory.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    /// The name of both.
    name: String,
    cert: PathBuf,
    /// `None`: there is none.
    key: Option<PathBuf>,
}

/// Finds the pairs in a directory: `NAME.crt` or `NAME.pem` with `NAME.key` or `NAME-key.pem`, and
/// `NAME/fullchain.pem` with `NAME/privkey.pem`.
fn find(dir: &Path) -> io::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Kubernetes keeps what it replaces in `..data`.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let chain = path.join("fullchain.pem");
        if chain.is_file() {
            let key = Some(path.join("privkey.pem")).filter(|key| key.is_file());
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            pairs.push(Pair { name, cert: chain, key });
            continue;
        }
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { continue };
        let name = stem.to_string_lossy().into_owned();
        let is_certificate = extension == "crt" || (extension == "pem" && !name.ends_with("-key"));
        if is_certificate && path.is_file() {
            let mut beside = path.with_extension("").into_os_string();
            beside.push("-key.pem");
            let keys = [path.with_extension("key"), beside.into()];
            let key = keys.into_iter().find(|key| key.is_file());
            pairs.push(Pair { name, cert: path, key });
        }
    }
    Ok(pairs)
}

/// What tells whether a file has changed.
type Stamp = (u64, i64, i64, i64, i64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec(), file.size()))
}

/// What is known of a certificate of the directory.
#[derive(Debug)]
struct Known {
    /// Those that could be used last.
    credentials: Option<Credentials>,
    /// Of the certificate and of the key.
    stamps: [Option<Stamp>; 2],
}

/// The certificates of a directory.
#[derive(Debug)]
struct Directory {
    path: AbsolutePath,
    /// By name and path of the certificate.
    known: BTreeMap<(String, PathBuf), Known>,
    is_readable: bool,
}

impl Directory {
    fn new(path: AbsolutePath) -> Self {
        Self { path, known: BTreeMap::new(), is_readable: true }
    }

    /// Reads what has changed. Returns whether that is other certificates, and what is wrong with
    /// it: of a pair that has become unusable the old one stays.
    fn read(&mut self) -> (bool, Vec<Problem>) {
        let pairs = match find(&self.path) {
            Ok(pairs) => pairs,
            Err(cause) => {
                let problem = Problem::new("cannot be read").at(Untrusted::path(&self.path)).because(cause);
                let is_news = std::mem::replace(&mut self.is_readable, false);
                return (false, is_news.then_some(problem).into_iter().collect());
            }
        };
        self.is_readable = true;
        let (mut changed, mut problems, mut before) = (false, Vec::new(), std::mem::take(&mut self.known));
        for Pair { name, cert, key } in pairs {
            let stamps = [stamp(&cert), key.as_deref().and_then(stamp)];
            let id = (name, cert);
            let old = before.remove(&id);
            if let Some(old) = old.as_ref().filter(|old| old.stamps == stamps) {
                let credentials = old.credentials.clone();
                self.known.insert(id, Known { credentials, stamps });
                continue;
            }
            let credentials = match read_pair(&id.1, key.as_deref()) {
                Ok(credentials) => {
                    changed = true;
                    Some(credentials)
                }
                Err(problem) => {
                    problems.push(problem);
                    old.and_then(|old| old.credentials)
                }
            };
            self.known.insert(id, Known { credentials, stamps });
        }
        changed |= before.values().any(|gone| gone.credentials.is_some());
        (changed, problems)
    }

    /// Returns the certificates: that named `default` first, the others by name.
    fn credentials(&self) -> Vec<Credentials> {
        let is_default = |name: &str| name == DEFAULT;
        let part = |wanted: bool| {
            self.known.iter().filter(move |((name, _), _)| is_default(name) == wanted).map(|(_, known)| known)
        };
        part(true).chain(part(false)).filter_map(|known| known.credentials.clone()).collect()
    }
}

fn read_pair(cert: &Path, key: Option<&Path>) -> Result<Credentials, Problem> {
    let Some(key) = key else {
        return Err(Problem::new("has no private key beside it").at(Untrusted::path(cert)).hint(
            "name it like the certificate: NAME.key or NAME-key.pem, or privkey.pem for a fullchain.pem",
        ));
    };
    let read = || -> Result<Credentials, TlsError> {
        check_key_file(key)?;
        let credentials = Credentials::read(cert, key)?;
        credentials.check()?;
        Ok(credentials)
    };
    read().map_err(Problem::new)
}

/// The TLS of a listener whose certificates are in a directory.
#[derive(Debug)]
pub(crate) struct WatchedTls {
    tls: Arc<ServerTls>,
    /// With the certificates that do not come from the directory.
    base: ServerTlsConfig,
    directory: Directory,
    /// What was wrong at first.
    pub(crate) problems: Vec<Problem>,
}

impl WatchedTls {
    /// Reads the directory. Certificates of `base` come before its own.
    pub(crate) fn new(base: ServerTlsConfig, path: AbsolutePath) -> Result<Self, Problem> {
        let mut directory = Directory::new(path);
        let (_, mut problems) = directory.read();
        if !directory.is_readable {
            return Err(problems.remove(0));
        }
        let config = with_certificates(&base, &directory);
        if config.certificates.is_empty() {
            let path = Untrusted::path(&directory.path);
            return Err(problems.into_iter().next().unwrap_or_else(|| {
                Problem::new("there is no certificate with its key in this directory").at(path).hint(
                    "put NAME.crt and NAME.key into it, NAME.pem and NAME-key.pem, or the directories of certbot",
                )
            }));
        }
        let tls = Arc::new(ServerTls::new(&config).map_err(Problem::new)?);
        Ok(Self { tls, base, directory, problems })
    }

    /// Returns the configuration for the listener.
    pub(crate) fn tls(&self) -> Arc<ServerTls> {
        Arc::clone(&self.tls)
    }

    /// Looks for changes, and takes them over.
    fn refresh(&mut self) {
        let (changed, problems) = self.directory.read();
        problems.iter().for_each(|problem| warn!("{problem}"));
        if !changed {
            return;
        }
        let (config, path) =
            (with_certificates(&self.base, &self.directory), Untrusted::path(&self.directory.path));
        match self.tls.reload(&config) {
            Ok(()) => info!("{path}: its certificates have changed; there are {}", config.certificates.len()),
            Err(problem) => error!("{path}: the old certificates stay in use: {problem}"),
        }
    }
}

fn with_certificates(base: &ServerTlsConfig, directory: &Directory) -> ServerTlsConfig {
    let certificates = base.certificates.iter().cloned().chain(directory.credentials()).collect();
    ServerTlsConfig { certificates, ..base.clone() }
}

/// Looks after directories of certificates in a thread, until it is dropped.
#[derive(Debug)]
pub(crate) struct CertificateWatcher {
    _alive: Sender<()>,
}

impl CertificateWatcher {
    pub(crate) fn start(mut all: Vec<WatchedTls>) -> Result<Self, Problem> {
        let (alive, end) = channel();
        if !all.is_empty() {
            spawn("certificates", move || {
                while end.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    all.iter_mut().for_each(WatchedTls::refresh);
                }
            })?;
        }
        Ok(Self { _alive: alive })
    }
}

#[cfg(test)]
mod tests;
