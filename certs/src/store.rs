#![forbid(unsafe_code)]
//! [`Store`]: the directory of an authority.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::authority::{Authority, Issued, Request};
use crate::certificate::Certificate;
use crate::error::{CertError, Reason};
use crate::files::{self, KEY_MODE, MODE, NewFile};
use crate::names::Kind;
use crate::revoked::Revoked;

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const CRL: &str = "crl.pem";
const ISSUED: &str = "issued";

/// How long another process is waited for, and the interval of attempts.
const LOCK_TIME: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The directory of an authority, which one process at a time changes.
pub struct Store {
    dir: PathBuf,
    authority: Authority,
    /// Locks it.
    _lock: File,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub certificate: Certificate,
    /// Whether it can be used.
    pub state: State,
}

/// Whether a certificate can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Valid,
    /// Not any more, by its date.
    Expired,
    /// Not any more, since it was revoked.
    Revoked,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Store {
    /// Makes a new authority in a directory, which is made if it does not exist, with an empty
    /// revocation list: whoever uses that from the start needs no change for the first revocation.
    ///
    /// # Errors
    /// If there is an authority already, or it cannot be written.
    pub fn create(dir: &Path, common_name: &str, days: u32, now: i64) -> Result<Self, CertError> {
        let failed = |error| CertError::new(dir, Reason::Generation(error));
        files::make_dir(&dir.join(ISSUED))?;
        let lock = lock(dir)?;
        let (authority, key) = Authority::create(common_name, days, now).map_err(failed)?;
        let crl = authority.revoke(&Revoked::default(), now).map_err(failed)?;
        let new = [
            NewFile { name: CA_KEY, mode: KEY_MODE, text: &key },
            NewFile { name: CRL, mode: MODE, text: &crl },
            NewFile { name: CA, mode: MODE, text: authority.pem() },
        ];
        files::write_all(dir, &new, false)?;
        Ok(Self { dir: dir.to_owned(), authority, _lock: lock })
    }

    /// Opens the directory of an authority.
    ///
    /// # Errors
    /// If there is none, or something of it cannot be used.
    pub fn open(dir: &Path, now: i64) -> Result<Self, CertError> {
        let (path, key_path) = (dir.join(CA), dir.join(CA_KEY));
        if !key_path.exists() && !path.exists() {
            return Err(CertError::new(dir, Reason::NoAuthority));
        }
        let lock = lock(dir)?;
        let (pem, key) = (files::read(&path)?, files::read_key(&key_path)?);
        let authority = Authority::of_files((&path, pem), (&key_path, &key), now)?;
        Ok(Self { dir: dir.to_owned(), authority, _lock: lock })
    }

    /// Returns the authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Issues a certificate, and writes it into a directory with its key and the authority's
    /// certificate, under the names that docker uses for it. Without `replace` none of them may
    /// exist. Returns its serial number.
    ///
    /// # Errors
    /// If it cannot be made or written. Then nothing is left of it.
    pub fn issue(&self, request: &Request, out: &Path, replace: bool, now: i64) -> Result<String, CertError> {
        let issued = self.authority.issue(request, now);
        let Issued { serial, certificate, key } =
            issued.map_err(|error| CertError::new(&self.dir, Reason::Generation(error)))?;
        let (cert_name, key_name) = match request.kind {
            Kind::Server => ("server.pem", "server-key.pem"),
            Kind::Client | Kind::Node => ("cert.pem", "key.pem"),
        };
        files::make_dir(out)?;
        let own = format!("{serial}.pem");
        let record = [NewFile { name: &own, mode: MODE, text: &certificate }];
        let issued = self.dir.join(ISSUED);
        // First: one that is not in the list could not be revoked.
        files::write_all(&issued, &record, false)?;
        // One that is there already may be that of the same authority.
        let ca = out.join(CA);
        let has_ca = files::read(&ca).is_ok_and(|known| known == self.authority.pem());
        let new = [
            NewFile { name: key_name, mode: KEY_MODE, text: &key },
            NewFile { name: cert_name, mode: MODE, text: &certificate },
            NewFile { name: CA, mode: MODE, text: self.authority.pem() },
        ];
        let written = files::write_all(out, if has_ca { &new[..2] } else { &new }, replace);
        if written.is_err() {
            let _ = fs::remove_file(issued.join(&own));
        }
        written.map(|()| serial)
    }

    /// Returns all certificates that were issued, those that end first at the beginning.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn list(&self, now: i64) -> Result<Vec<Entry>, CertError> {
        let revoked = self.revoked()?;
        let dir = self.dir.join(ISSUED);
        let failed = CertError::io(&dir);
        let mut entries = Vec::new();
        for file in fs::read_dir(&dir).map_err(&failed)? {
            let path = file.map_err(&failed)?.path();
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden || path.extension().is_none_or(|extension| extension != "pem") {
                continue;
            }
            let certificate = Certificate::read(&path)?;
            let state = match () {
                () if revoked.contains(&certificate.serial) => State::Revoked,
                () if certificate.not_after <= now => State::Expired,
                () => State::Valid,
            };
            entries.push(Entry { certificate, state });
        }
        entries.sort_by(|one, other| {
            let key = |entry: &Entry| (entry.certificate.not_after, entry.certificate.serial.clone());
            key(one).cmp(&key(other))
        });
        Ok(entries)
    }

    /// Returns the certificate that a word is meant for: a serial number, or the beginning of one,
    /// or a name that only one certificate has that is valid.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, word: &str, now: i64) -> Result<Entry, CertError> {
        let mut found: Vec<Entry> =
            self.list(now)?.into_iter().filter(|entry| entry.certificate.is_called(word)).collect();
        if found.len() > 1 {
            let is_valid = |entry: &Entry| entry.state == State::Valid;
            let valid = found.iter().filter(|entry| is_valid(entry)).count();
            if valid > 0 {
                found.retain(is_valid);
            }
        }
        match found.len() {
            0 => Err(CertError::new(&self.dir, Reason::Unknown)),
            1 => Ok(found.remove(0)),
            _ => {
                let serials = found.into_iter().map(|entry| entry.certificate.serial).collect();
                Err(CertError::new(&self.dir, Reason::Ambiguous(serials)))
            }
        }
    }

    /// Revokes a certificate, which may be so already. Returns it.
    ///
    /// # Errors
    /// If it is not known, or the list cannot be written.
    pub fn revoke(&self, word: &str, now: i64) -> Result<Entry, CertError> {
        let entry = self.find(word, now)?;
        let mut revoked = self.revoked()?;
        if entry.state != State::Revoked {
            revoked.add(&entry.certificate.serial, now);
            let list = self.authority.revoke(&revoked, now);
            let list = list.map_err(|error| CertError::new(&self.dir, Reason::Generation(error)))?;
            files::write_all(&self.dir, &[NewFile { name: CRL, mode: MODE, text: &list }], true)?;
        }
        Ok(Entry { state: State::Revoked, ..entry })
    }

    /// Returns where the revocation list is.
    #[must_use]
    pub fn crl(&self) -> PathBuf {
        self.dir.join(CRL)
    }

    fn revoked(&self) -> Result<Revoked, CertError> {
        let path = self.crl();
        Revoked::parse(&path, &files::read(&path)?)
    }
}

fn lock(dir: &Path) -> Result<File, CertError> {
    let failed = CertError::io(dir);
    let file = File::open(dir).map_err(&failed)?;
    for _ in 0..LOCK_TIME.as_millis() / LOCK_PAUSE.as_millis() {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::park_timeout(LOCK_PAUSE),
            Err(error) => return Err(failed(error.into())),
        }
    }
    Err(CertError::new(dir, Reason::Locked))
}

#[cfg(test)]
mod tests;
