#![forbid(unsafe_code)]
//! The files that TLS needs.

use super::file;
use crate::absolute_path::AbsolutePath;
use crate::problem::Problem;

/// The files of a listener, as far as they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerTlsFiles {
    pub(crate) dir: Option<AbsolutePath>,
    pub(crate) cert: Option<AbsolutePath>,
    pub(crate) key: Option<AbsolutePath>,
    pub(crate) client_ca: Option<AbsolutePath>,
    pub(crate) crl: Option<AbsolutePath>,
    pub(crate) certificates: Option<AbsolutePath>,
}

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerTls {
    /// The certificate and its key; `None` only with `certificates`.
    pub(crate) own: Option<(AbsolutePath, AbsolutePath)>,
    /// A directory with a certificate for each name that clients ask for.
    pub(crate) certificates: Option<AbsolutePath>,
    /// The authority of client certificates; `None`: clients need none.
    pub(crate) client_ca: Option<AbsolutePath>,
    pub(crate) crl: Option<AbsolutePath>,
}

/// A file that must be named and is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MissingFile {
    missing: &'static str,
    why: &'static str,
}

impl MissingFile {
    /// Describes it for the command line.
    pub(super) fn for_options(&self, prefix: &str) -> Problem {
        let option = self.missing.replace('_', "-");
        Problem::new(self.why).hint(format_args!("add {prefix}{option} FILE, or {prefix}dir DIR"))
    }

    /// Describes it for the configuration file.
    pub(super) fn for_keys(&self) -> Problem {
        Problem::new(self.why).hint(format_args!("add {} = \"FILE\", or dir = \"DIR\"", self.missing))
    }
}

impl From<file::ListenTls> for ListenerTlsFiles {
    fn from(table: file::ListenTls) -> Self {
        let file::ListenTls { dir, cert, key, client_ca, crl, certificates } = table;
        Self { dir, cert, key, client_ca, crl, certificates }
    }
}

impl ListenerTlsFiles {
    /// Takes files that are not named from the directory, by their names in Docker's documentation:
    /// `server.pem` or `cert.pem`, `server-key.pem` or `key.pem`, and `ca.pem`. That one must
    /// exist: without it everybody would be let in.
    pub(super) fn settle(self) -> Result<ListenerTls, MissingFile> {
        let pick = |names: [&str; 2]| {
            let dir = self.dir.as_ref()?;
            let first = dir.join(names[0]);
            Some(if first.exists() { first } else { dir.join(names[1]) })
        };
        let missing = |missing, why| MissingFile { missing, why };
        let cert = self.cert.clone().or_else(|| pick(["server.pem", "cert.pem"]));
        let key = self.key.clone().or_else(|| pick(["server-key.pem", "key.pem"]));
        let own = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) if self.certificates.is_some() => None,
            (None, _) => return Err(missing("cert", "the certificate is missing")),
            (Some(_), None) => return Err(missing("key", "the private key is missing")),
        };
        Ok(ListenerTls {
            own,
            certificates: self.certificates,
            client_ca: match (self.client_ca, self.dir) {
                (None, None) if self.crl.is_some() => {
                    return Err(missing("client_ca", "a revocation list needs an authority"));
                }
                (named, dir) => named.or_else(|| Some(dir?.join("ca.pem"))),
            },
            crl: self.crl,
        })
    }
}

/// The files of an upstream, as far as they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamTlsFiles {
    pub(crate) ca: Option<AbsolutePath>,
    pub(crate) cert: Option<AbsolutePath>,
    pub(crate) key: Option<AbsolutePath>,
    pub(crate) name: Option<String>,
}

/// The TLS settings of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamTls {
    /// The authority of the upstream's certificate.
    pub(crate) ca: AbsolutePath,
    /// The certificate to present, and its key.
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
    pub(super) fn settle(self) -> Result<UpstreamTls, Problem> {
        let ca = self
            .ca
            .ok_or_else(|| Problem::new("tls:// needs the authority of the upstream's certificate (ca)"))?;
        let credentials = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(Problem::new("the certificate has no private key (key)")),
            (None, Some(_)) => return Err(Problem::new("the private key has no certificate (cert)")),
        };
        Ok(UpstreamTls { ca, credentials, name: self.name })
    }
}
