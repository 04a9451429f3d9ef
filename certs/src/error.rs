#![forbid(unsafe_code)]
//! [`CertError`]: what is wrong with which file.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use dockline::untrusted::{Line, Untrusted};

/// What is wrong with a file or directory, and what to do about it.
#[derive(Debug)]
pub struct CertError {
    path: PathBuf,
    reason: Reason,
}

/// What is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// It cannot be read or written.
    Io(io::Error),
    /// It exists already.
    Exists,
    /// Another process changes it.
    Locked,
    /// There is no authority in this directory.
    NoAuthority,
    /// It is not PEM with a certificate.
    NoCertificate,
    /// It is not PEM with a private key.
    NoKey,
    /// It is not PEM with a revocation list.
    NoCrl,
    /// The certificate is not that of an authority.
    NotAnAuthority,
    /// The key is not that of the certificate.
    ForeignKey,
    /// The certificate has expired.
    Expired,
    /// Other users can read the private key.
    KeyIsShared,
    /// It is larger than a certificate can be.
    TooLarge,
    /// A certificate could not be made.
    Generation(rcgen::Error),
    /// It has not issued such a certificate.
    Unknown,
    /// There are several; their serial numbers.
    Ambiguous(Vec<String>),
}

impl CertError {
    pub(crate) fn new(path: &Path, reason: Reason) -> Self {
        Self { path: path.to_owned(), reason }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::new(path, Reason::Io(error))
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Untrusted::path(&self.path))?;
        match &self.reason {
            Reason::Io(error) => write!(f, "{error}"),
            Reason::Exists => {
                f.write_str("exists already; choose another directory, or replace it with --force")
            }
            Reason::Locked => {
                f.write_str("another process changes this authority; try again when it has ended")
            }
            Reason::NoAuthority => {
                f.write_str("there is no authority here; make one with `dockline cert init`")
            }
            Reason::NoCertificate => f.write_str("there is no certificate in this file; it has to be PEM"),
            Reason::NoKey => f.write_str("there is no private key in this file; it has to be PEM (PKCS #8)"),
            Reason::NoCrl => f.write_str("there is no revocation list in this file; restore it from a copy"),
            Reason::NotAnAuthority => {
                f.write_str("this certificate may not issue others; it is not that of an authority")
            }
            Reason::ForeignKey => {
                f.write_str("this key is not that of ca.pem beside it; restore the one that is")
            }
            Reason::Expired => {
                f.write_str("the authority has expired; make another one, in another directory")
            }
            Reason::KeyIsShared => f.write_str(
                "other users can read this key; run chmod 600, and make another authority if they may have",
            ),
            Reason::TooLarge => f.write_str("this file is too large for what it should be"),
            Reason::Generation(error) => write!(f, "a certificate could not be made: {}", Line(error)),
            Reason::Unknown => {
                f.write_str("no such certificate was issued here; `dockline cert list` shows those that were")
            }
            Reason::Ambiguous(serials) => {
                write!(
                    f,
                    "several certificates have this name; name one by its serial number: {}",
                    serials.join(", ")
                )
            }
        }
    }
}

impl Error for CertError {}
