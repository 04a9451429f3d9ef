#![forbid(unsafe_code)]
//! [`TlsError`]: what is wrong with TLS material.

use std::error::Error;
use std::fmt;

use crate::untrusted::Untrusted;

/// What is wrong with TLS material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The file cannot be read.
    Unreadable,
    /// Not only the owner may read the key; the number is the mode of the file.
    KeyExposed(u32),
    /// The text is not PEM, or is damaged.
    Pem,
    /// There is no certificate in it.
    NoCertificate,
    /// There is no private key in it.
    NoKey,
    /// There is no certificate revocation list in it.
    NoCrl,
    /// The private key is damaged, or of a kind that is not supported.
    Key,
    /// The certificate is damaged, or cannot be used.
    Certificate,
    /// The private key does not belong to the certificate.
    KeyMismatch,
    /// The revocation list is damaged, or of a kind that is not supported.
    Crl,
    /// There are revocation lists, but no authority whose certificates they could revoke.
    CrlWithoutCa,
    /// The name is neither a DNS name nor an IP address.
    ServerName,
    /// The cryptographic library failed, for want of randomness for instance.
    Provider,
}

/// Why TLS cannot be configured.
#[derive(Debug)]
pub struct TlsError {
    subject: String,
    kind: TlsErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl TlsError {
    pub(super) fn new(subject: impl Into<String>, kind: TlsErrorKind) -> Self {
        Self { subject: subject.into(), kind, source: None }
    }

    pub(super) fn because(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..self }
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn kind(&self) -> TlsErrorKind {
        self.kind
    }

    /// Returns where: the path of a file, or the name that the [`Pem`](super::Pem) was given.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Untrusted::new(&self.subject))?;
        match self.kind {
            TlsErrorKind::Unreadable => f.write_str("cannot be read"),
            TlsErrorKind::KeyExposed(mode) => {
                write!(f, "mode {mode:04o} lets others than the owner use the private key; chmod 600 it")
            }
            TlsErrorKind::Pem => f.write_str("not valid PEM"),
            TlsErrorKind::NoCertificate => f.write_str("no certificate; expected PEM with BEGIN CERTIFICATE"),
            TlsErrorKind::NoKey => f.write_str("no private key; expected PEM with BEGIN PRIVATE KEY"),
            TlsErrorKind::NoCrl => f.write_str("no revocation list; expected PEM with BEGIN X509 CRL"),
            TlsErrorKind::Key => f.write_str("unusable private key"),
            TlsErrorKind::Certificate => f.write_str("unusable certificate"),
            TlsErrorKind::KeyMismatch => f.write_str("the private key does not belong to the certificate"),
            TlsErrorKind::Crl => f.write_str("unusable revocation list"),
            TlsErrorKind::CrlWithoutCa => f.write_str("a revocation list needs a client CA; give both"),
            TlsErrorKind::ServerName => f.write_str("neither a DNS name nor an IP address"),
            TlsErrorKind::Provider => f.write_str("the cryptography does not work"),
        }?;
        // It may quote a certificate.
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {}", Untrusted::new(source.to_string())))
    }
}

impl Error for TlsError {
    // The source is part of the text already, so a chain of causes continues behind it.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().and_then(|source| source.source())
    }
}
