#![forbid(unsafe_code)]
//! [`ServerTls`]: the TLS configuration of a listener.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::error::{TlsError, TlsErrorKind};
use super::pem::{Credentials, Pem};
use super::provider;
use super::stream::TlsStream;

/// Derives the identity of a client from its verified certificate (the leaf, in DER). `None`: it
/// names nobody.
pub type Identify = Arc<dyn Fn(&[u8]) -> Option<Arc<str>> + Send + Sync>;

/// The configuration of a [`ServerTls`].
#[derive(Clone)]
pub struct ServerTlsConfig {
    /// The server's certificates. The one that has the name that the client asks for (SNI) among
    /// its subject alternative names is used, or else one that has a wildcard for it (`*` for the
    /// first label), of several the first. If there is none, or if the client sends no name, it is
    /// the first of all: a client of an unknown name gets a certificate that it refuses, rather
    /// than an alert that says nothing of the reason.
    pub certificates: Vec<Credentials>,
    /// The authorities of client certificates. If given, a client without a certificate that one of
    /// them has issued for client authentication is refused.
    pub client_ca: Option<Pem>,
    /// Revocation lists of those authorities. If there are any, each issuer of a client's chain
    /// needs one that has not expired; otherwise its clients are refused.
    pub crls: Vec<Pem>,
    /// Whether a client that offers protocols (ALPN, RFC 7301) must offer `http/1.1`. True by
    /// default; turn it off for other protocols.
    pub http_only: bool,
    /// How clients are identified. By default `sha256:` and the lower-case hexadecimal SHA-256 of
    /// the leaf's DER.
    pub identify: Identify,
}

impl ServerTlsConfig {
    /// Makes a configuration with one certificate, in which clients need none.
    #[must_use]
    pub fn new(default: Credentials) -> Self {
        Self::with(vec![default])
    }

    /// Makes a configuration with several certificates, in which clients need none.
    #[must_use]
    pub fn with(certificates: Vec<Credentials>) -> Self {
        Self {
            certificates,
            client_ca: None,
            crls: Vec::new(),
            http_only: true,
            identify: Arc::new(|leaf| Some(fingerprint(leaf))),
        }
    }
}

impl fmt::Debug for ServerTlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTlsConfig")
            .field("certificates", &self.certificates)
            .field("client_ca", &self.client_ca)
            .field("crls", &self.crls)
            .field("http_only", &self.http_only)
            .finish_non_exhaustive()
    }
}

/// TLS with the clients of a listener.
///
/// A session is resumed only under the configuration that it began with: after a
/// [reload](ServerTls::reload) every client makes a full handshake. The client certificate of a
/// resumed session is verified and identified again.
#[derive(Debug)]
pub struct ServerTls {
    generation: RwLock<Arc<Generation>>,
}

impl ServerTls {
    /// Loads and checks everything.
    ///
    /// # Errors
    /// If something is missing or broken, or does not fit together; the error names it.
    pub fn new(config: &ServerTlsConfig) -> Result<Self, TlsError> {
        Ok(Self { generation: RwLock::new(Arc::new(Generation::new(config)?)) })
    }

    /// Replaces the configuration for connections accepted from now on. Others keep theirs.
    ///
    /// # Errors
    /// As [`ServerTls::new`]. The present configuration stays then.
    pub fn reload(&self, config: &ServerTlsConfig) -> Result<(), TlsError> {
        let next = Arc::new(Generation::new(config)?);
        *self.generation.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Returns the certificates that are in use (the leaves, in DER), the default one first.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.generation.read().unwrap_or_else(PoisonError::into_inner).leaves.clone()
    }

    /// Makes a stream of an accepted, non-blocking socket. The handshake is still to be done.
    ///
    /// # Errors
    /// If the TLS library refuses its configuration.
    pub fn accept(&self, socket: OwnedFd) -> io::Result<TlsStream> {
        let generation = Arc::clone(&self.generation.read().unwrap_or_else(PoisonError::into_inner));
        let tls = ServerConnection::new(Arc::clone(&generation.config)).map_err(io::Error::other)?;
        Ok(TlsStream::new(socket, tls.into(), Some(generation)))
    }
}

/// One configuration, with the keys of its session tickets.
pub(super) struct Generation {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    identify: Identify,
    /// The server's own certificates, without their chains.
    leaves: Vec<CertificateDer<'static>>,
}

impl Generation {
    fn new(config: &ServerTlsConfig) -> Result<Self, TlsError> {
        let provider = provider();
        let resolver = BySni::new(&config.certificates, &provider)?;
        let leaves = resolver.leaves.clone();
        let verifier = verifier(config)?;
        let failed = |error| TlsError::new("TLS", TlsErrorKind::Provider).because(error);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::new(resolver));
        // Sessions are kept in tickets, whose keys are dropped with this generation. Early data
        // stays off.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = rustls::crypto::ring::Ticketer::new().map_err(failed)?;
        if config.http_only {
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(Self { config: Arc::new(server), verifier, identify: Arc::clone(&config.identify), leaves })
    }

    /// Verifies the certificates of a resumed session, which may have expired since it began.
    pub(super) fn verify_again(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        match (&self.verifier, chain.split_first()) {
            (None, _) => Ok(()),
            (Some(verifier), Some((leaf, intermediates))) => {
                verifier.verify_client_cert(leaf, intermediates, UnixTime::now()).map(drop)
            }
            (Some(_), None) => Err(rustls::Error::NoCertificatesPresented),
        }
    }

    pub(super) fn identify(&self, leaf: &[u8]) -> Option<Arc<str>> {
        (self.identify)(leaf)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("client_auth", &self.verifier.is_some()).finish_non_exhaustive()
    }
}

fn verifier(config: &ServerTlsConfig) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(ca) = &config.client_ca else {
        return match config.crls.first() {
            Some(crl) => Err(crl.error(TlsErrorKind::CrlWithoutCa)),
            None => Ok(None),
        };
    };
    let roots: RootCertStore = ca.roots()?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .enforce_revocation_expiration();
    for crl in &config.crls {
        builder = builder.with_crls(crl.crls()?);
        // Built once for each list, so that the error can name it.
        builder.clone().build().map_err(|error| crl.error(TlsErrorKind::Crl).because(error))?;
    }
    let verifier = builder.build().map_err(|error| ca.error(TlsErrorKind::Certificate).because(error))?;
    Ok(Some(verifier))
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct BySni {
    /// All of them, as given.
    leaves: Vec<CertificateDer<'static>>,
    default: Arc<CertifiedKey>,
    /// By whole name, in lower case.
    names: HashMap<String, Arc<CertifiedKey>>,
    /// By what is behind `*.`.
    wildcards: HashMap<String, Arc<CertifiedKey>>,
}

impl BySni {
    fn new(all: &[Credentials], provider: &rustls::crypto::CryptoProvider) -> Result<Self, TlsError> {
        let (mut default, mut names, mut wildcards) = (None, HashMap::new(), HashMap::new());
        let mut leaves = Vec::with_capacity(all.len());
        for credentials in all {
            let loaded = credentials.load(provider)?;
            for name in dns_names(&loaded) {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcards, parent.to_owned()),
                    None => (&mut names, name),
                };
                names.entry(name).or_insert_with(|| Arc::clone(&loaded));
            }
            leaves.extend(loaded.cert.first().cloned());
            default.get_or_insert(loaded);
        }
        let default = default.ok_or_else(|| TlsError::new("certificates", TlsErrorKind::NoCertificate))?;
        Ok(Self { leaves, default, names, wildcards })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let by_wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.names.get(&name).or_else(by_wildcard)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

/// Returns the DNS names of a certificate, in lower case.
fn dns_names(certificate: &CertifiedKey) -> Vec<String> {
    let leaf = certificate.cert.first().and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok());
    let names = leaf.iter().flat_map(|leaf| leaf.valid_dns_names());
    names.map(str::to_ascii_lowercase).collect()
}

fn fingerprint(leaf: &[u8]) -> Arc<str> {
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let mut text = String::from("sha256:");
    for byte in digest.as_ref() {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
    }
    text.into()
}
