#![forbid(unsafe_code)]
//! [`RedisFiles`]: the files that a connection to Redis needs, named by options or by keys.

use std::fs;

use dockline::untrusted::Untrusted;
use dockline_discovery::registry::redis::{Address, TlsFiles};

use crate::absolute_path::AbsolutePath;
use crate::problem::Problem;

/// The files of a connection to Redis, as far as they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RedisFiles {
    /// The password.
    pub(crate) password: Option<AbsolutePath>,
    /// The authorities of the server's certificate; `None`: those of the system.
    pub(crate) ca: Option<AbsolutePath>,
    pub(crate) cert: Option<AbsolutePath>,
    pub(crate) key: Option<AbsolutePath>,
}

/// How the files are named in messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Names {
    /// `--redis-ca` and its like.
    Options,
    /// `router.redis.ca` and its like.
    Keys,
}

impl Names {
    fn of(self, file: &str) -> String {
        match self {
            Self::Options => format!("--redis-{}", file.replace('_', "-")),
            Self::Keys => format!("router.redis.{file}"),
        }
    }

    fn read(self, file: &str, path: &AbsolutePath) -> Result<Vec<u8>, Problem> {
        let failed = format!("cannot read {}", Untrusted::path(path));
        fs::read(path).map_err(|error| Problem::new(failed).at(self.of(file)).because(error))
    }
}

/// Returns the address of a server. Messages do not quote it: it may have a password.
pub(crate) fn address(url: &str) -> Result<Address, Problem> {
    url.parse().map_err(|error| Problem::new("this is not an address of Redis").because(error))
}

impl RedisFiles {
    /// Reads them. Returns the address with the password, and the certificates.
    pub(crate) fn read(&self, address: Address, names: Names) -> Result<(Address, TlsFiles), Problem> {
        let given = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        if let Some((file, _)) = given.iter().find(|(_, path)| path.is_some() && !address.is_tls()) {
            return Err(Problem::new("the connection to Redis is without TLS")
                .at(names.of(file))
                .hint("write rediss:// in place of redis://"));
        }
        let read =
            |file, path: &Option<AbsolutePath>| path.as_ref().map(|path| names.read(file, path)).transpose();
        let [ca, cert, key] = given.map(|(file, path)| read(file, path));
        let identity = match (cert?, key?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Problem::new("the certificate has no private key")
                    .hint(format_args!("add {}", names.of("key"))));
            }
            (None, Some(_)) => {
                return Err(Problem::new("the private key has no certificate")
                    .hint(format_args!("add {}", names.of("cert"))));
            }
        };
        let address = match &self.password {
            None => address,
            Some(path) => {
                let text = names.read("password_file", path)?;
                let text = String::from_utf8_lossy(&text);
                address.with_password(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        Ok((address, TlsFiles { ca: ca?, identity }))
    }
}
