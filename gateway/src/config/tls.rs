#![forbid(unsafe_code)]
//! Which files TLS needs.

use super::file;
use crate::absolute_path::AbsolutePath;

/// The files of a listener, as far as they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerTlsFiles {
    pub(crate) dir: Option<AbsolutePath>,
    pub(crate) cert: Option<AbsolutePath>,
    pub(crate) key: Option<AbsolutePath>,
    pub(crate) client_ca: Option<AbsolutePath>,
    pub(crate) crl: Option<AbsolutePath>,
}

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerTls {
    pub(crate) cert: AbsolutePath,
    pub(crate) key: AbsolutePath,
    /// Clients must have a certificate of this authority; `None`: they need none.
    pub(crate) client_ca: Option<AbsolutePath>,
    pub(crate) crl: Option<AbsolutePath>,
}

/// A file that must be named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lack {
    missing: &'static str,
    why: &'static str,
}

impl Lack {
    pub(super) fn for_options(&self, prefix: &str) -> String {
        format!("{}; add {prefix}{} FILE, or {prefix}dir DIR", self.why, self.missing.replace('_', "-"))
    }

    pub(super) fn for_keys(&self) -> String {
        format!("{}; add {} = \"FILE\", or dir = \"DIR\"", self.why, self.missing)
    }
}

impl From<file::ListenTls> for ListenerTlsFiles {
    fn from(table: file::ListenTls) -> Self {
        let file::ListenTls { dir, cert, key, client_ca, crl } = table;
        Self { dir, cert, key, client_ca, crl }
    }
}

impl ListenerTlsFiles {
    /// What is not named comes from the directory, by the names that Docker's documentation gives to the files:
    /// `server.pem` or `cert.pem`, `server-key.pem` or `key.pem`, and `ca.pem`, which must be there: a directory
    /// without it would let everybody in.
    pub(super) fn settle(self) -> Result<ListenerTls, Lack> {
        let pick = |names: [&str; 2]| {
            let dir = self.dir.as_ref()?;
            let first = dir.join(names[0]);
            Some(if first.exists() { first } else { dir.join(names[1]) })
        };
        let lack = |missing, why| Lack { missing, why };
        Ok(ListenerTls {
            cert: self
                .cert
                .clone()
                .or_else(|| pick(["server.pem", "cert.pem"]))
                .ok_or_else(|| lack("cert", "the certificate is missing"))?,
            key: self
                .key
                .clone()
                .or_else(|| pick(["server-key.pem", "key.pem"]))
                .ok_or_else(|| lack("key", "the private key is missing"))?,
            client_ca: match (self.client_ca, self.dir) {
                (None, None) if self.crl.is_some() => {
                    return Err(lack("client_ca", "a revocation list needs an authority"));
                }
                (named, dir) => named.or_else(|| Some(dir?.join("ca.pem"))),
            },
            crl: self.crl,
        })
    }
}

/// The files for an upstream, as far as they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamTlsFiles {
    pub(crate) ca: Option<AbsolutePath>,
    pub(crate) cert: Option<AbsolutePath>,
    pub(crate) key: Option<AbsolutePath>,
    pub(crate) name: Option<String>,
}

/// How TLS is spoken with an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamTls {
    /// Whose certificates are believed.
    pub(crate) ca: AbsolutePath,
    /// The certificate that is shown, and its key.
    pub(crate) credentials: Option<(AbsolutePath, AbsolutePath)>,
    /// The name that the upstream's certificate must have; `None`: the host of its address.
    pub(crate) name: Option<String>,
}

impl From<file::UpstreamTls> for UpstreamTlsFiles {
    fn from(table: file::UpstreamTls) -> Self {
        let file::UpstreamTls { ca, cert, key, name } = table;
        Self { ca, cert, key, name }
    }
}

impl UpstreamTlsFiles {
    pub(super) fn settle(self) -> Result<UpstreamTls, &'static str> {
        let ca = self.ca.ok_or("tls:// needs the authority of the upstream's certificate (ca)")?;
        let credentials = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err("the certificate has no private key (key)"),
            (None, Some(_)) => return Err("the private key has no certificate (cert)"),
        };
        Ok(UpstreamTls { ca, credentials, name: self.name })
    }
}
