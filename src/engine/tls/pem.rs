#![forbid(unsafe_code)]
//! Certificates, keys and revocation lists in PEM (RFC 7468), each with a name for error messages.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::{TlsError, TlsErrorKind};

/// PEM text, and its name for errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    name: String,
    text: Vec<u8>,
}

impl Pem {
    /// Takes text from anywhere. Errors name it `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Reads a file. Errors name its path. The content is parsed when a configuration is made from
    /// it.
    ///
    /// # Errors
    /// [`TlsErrorKind::Unreadable`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        let name = path.to_string_lossy().into_owned();
        match fs::read(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(TlsError::new(name, TlsErrorKind::Unreadable).because(error)),
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn error(&self, kind: TlsErrorKind) -> TlsError {
        TlsError::new(&self.name, kind)
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.all(TlsErrorKind::NoCertificate)
    }

    pub(super) fn crls(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        self.all(TlsErrorKind::NoCrl)
    }

    /// Returns the certificates as trust anchors.
    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.error(TlsErrorKind::Certificate).because(error))?;
        }
        Ok(roots)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| match error {
            pem::Error::NoItemsFound => self.error(TlsErrorKind::NoKey),
            error => self.error(TlsErrorKind::Pem).because(error),
        })
    }

    fn all<T: PemObject>(&self, none: TlsErrorKind) -> Result<Vec<T>, TlsError> {
        let found: Vec<T> = T::pem_slice_iter(&self.text)
            .collect::<Result<_, _>>()
            .map_err(|error| self.error(TlsErrorKind::Pem).because(error))?;
        if found.is_empty() { Err(self.error(none)) } else { Ok(found) }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may be a private key.
        f.debug_tuple("Pem").field(&self.name).finish()
    }
}

/// A certificate chain, leaf first, and the private key of the leaf (PKCS #8, PKCS #1 or SEC1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The chain.
    pub chain: Pem,
    /// The key.
    pub key: Pem,
}

impl Credentials {
    /// Reads both from files. Call [`check_key_file`] before, unless the operator has turned that
    /// off.
    ///
    /// # Errors
    /// [`TlsErrorKind::Unreadable`].
    pub fn read(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        Ok(Self { chain: Pem::read(chain)?, key: Pem::read(key)? })
    }

    /// Checks that they can be used, as [`ServerTls::new`](super::ServerTls::new) does.
    ///
    /// # Errors
    /// If something is missing or broken, or does not fit together; the error names it.
    pub fn check(&self) -> Result<(), TlsError> {
        self.load(&super::provider()).map(drop)
    }

    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = self.chain.certificates()?;
        let key = provider
            .key_provider
            .load_private_key(self.key.key()?)
            .map_err(|error| self.key.error(TlsErrorKind::Key).because(error))?;
        let loaded = CertifiedKey::new(chain, key);
        match loaded.keys_match() {
            Ok(()) => Ok(Arc::new(loaded)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let both = format!("{} and {}", self.chain.name, self.key.name);
                Err(TlsError::new(both, TlsErrorKind::KeyMismatch))
            }
            Err(error) => Err(self.chain.error(TlsErrorKind::Certificate).because(error)),
        }
    }
}

/// Checks that only its owner has access to the file of a private key.
///
/// # Errors
/// [`TlsErrorKind::KeyExposed`]; [`TlsErrorKind::Unreadable`] if the mode of the file cannot be
/// read.
pub fn check_key_file(path: impl AsRef<Path>) -> Result<(), TlsError> {
    let path = path.as_ref();
    let error = |kind| TlsError::new(path.to_string_lossy(), kind);
    let metadata = fs::metadata(path).map_err(|cause| error(TlsErrorKind::Unreadable).because(cause))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(error(TlsErrorKind::KeyExposed(mode))) }
}
