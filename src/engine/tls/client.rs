#![forbid(unsafe_code)]
//! [`ClientTls`]: the TLS configuration for an upstream.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::error::{TlsError, TlsErrorKind};
use super::pem::{Credentials, Pem};
use super::provider;
use super::stream::TlsStream;

/// Sessions that one configuration keeps for resumption.
const SESSIONS: usize = 64;

/// The configuration of a [`ClientTls`].
#[derive(Clone, Debug)]
pub struct ClientTlsConfig {
    /// The authorities that may have issued the server's certificate. Verification cannot be turned
    /// off.
    pub ca: Pem,
    /// The certificate shown to servers that ask for one.
    pub credentials: Option<Credentials>,
    /// The name, or IP address, that the server's certificate must be for; also sent as SNI.
    /// `None`: the host of the address that is connected to.
    pub server_name: Option<String>,
}

impl ClientTlsConfig {
    /// Makes a configuration without a client certificate, in which the server's name is that of
    /// its host.
    #[must_use]
    pub fn new(ca: Pem) -> Self {
        Self { ca, credentials: None, server_name: None }
    }
}

/// TLS with an upstream. Sessions are resumed under the same configuration with the same server
/// name only.
///
/// Two are equal if their present configurations have the same content: authorities, credentials
/// and name, whatever their [`Pem`]s are called.
#[derive(Debug)]
pub struct ClientTls {
    generation: RwLock<Arc<Generation>>,
}

#[derive(Debug)]
struct Generation {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    /// SHA-256 of what it was made from.
    digest: [u8; 32],
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        // One after the other: it may be the same lock.
        let digest = self.generation().digest;
        digest == other.generation().digest
    }
}

impl Eq for ClientTls {}

impl ClientTls {
    /// Loads and checks everything.
    ///
    /// # Errors
    /// If something is missing or broken, or does not fit together; the error names it.
    pub fn new(config: &ClientTlsConfig) -> Result<Self, TlsError> {
        Ok(Self { generation: RwLock::new(Arc::new(Generation::new(config)?)) })
    }

    /// Replaces the configuration for connections made from now on. Others keep theirs.
    ///
    /// # Errors
    /// As [`ClientTls::new`]. The present configuration stays then.
    pub fn reload(&self, config: &ClientTlsConfig) -> Result<(), TlsError> {
        let next = Arc::new(Generation::new(config)?);
        *self.generation.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Makes a stream of a connected, non-blocking socket. The handshake is still to be done.
    /// `host` is the host of the address, without brackets; it is used unless the configuration
    /// names the server.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if there is no valid name for the server.
    pub fn connect(&self, socket: OwnedFd, host: &str) -> io::Result<TlsStream> {
        let generation = self.generation();
        let name = match &generation.name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        let tls = ClientConnection::new(Arc::clone(&generation.config), name).map_err(io::Error::other)?;
        Ok(TlsStream::new(socket, tls.into(), None))
    }

    fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generation {
    fn new(config: &ClientTlsConfig) -> Result<Self, TlsError> {
        let name = config.server_name.as_deref().map(server_name).transpose()?;
        let client = client_config(config, config.ca.roots()?, &provider())?;
        Ok(Self { config: Arc::new(client), name, digest: digest(config) })
    }
}

/// Digests the content of a configuration, so that no private key has to be kept for comparisons.
fn digest(config: &ClientTlsConfig) -> [u8; 32] {
    let ClientTlsConfig { ca, credentials, server_name } = config;
    let credentials = credentials.as_ref().map(|own| [own.chain.text(), own.key.text()]);
    let parts = [Some(ca.text()), credentials.map(|[chain, _]| chain), credentials.map(|[_, key]| key)];
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts.into_iter().chain([server_name.as_deref().map(str::as_bytes)]) {
        // By their lengths, no two lists of parts are the same bytes.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(part.unwrap_or_default());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn client_config(
    config: &ClientTlsConfig,
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new("TLS", TlsErrorKind::Provider).because(error))?
        .with_root_certificates(roots);
    let mut client = match &config.credentials {
        Some(credentials) => {
            let loaded = credentials.load(provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(loaded)))
        }
        None => builder.with_no_client_auth(),
    };
    client.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(client)
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|error| {
        TlsError::new(format!("server name {name:?}"), TlsErrorKind::ServerName).because(error)
    })
}
