#![forbid(unsafe_code)]
//! [`Connector`]: connections to the server that has our keys.
//!
//! All keys have the same hash tag, so that one server of a cluster has them all: there is no need
//! for more than to find it.

use std::time::Duration;

use redis::{
    Client, ClientTlsConfig, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, ServerErrorKind, TlsCertificates,
};

use super::address::{Address, Host, Login, Server, TlsFiles};
use super::structured::NODES;

/// For a connection to be ready.
const CONNECT: Duration = Duration::from_secs(2);

/// For a reply.
pub(super) const REPLY: Duration = Duration::from_secs(5);

/// How often a server of a cluster may send us to another one.
const REDIRECTS: usize = 5;

/// Makes connections.
pub(super) struct Connector {
    address: Address,
    certificates: TlsCertificates,
    /// The server that had our keys last, if that may change.
    last: Option<Host>,
}

impl Connector {
    pub(super) fn new(address: Address, tls: TlsFiles) -> Self {
        let client_tls =
            tls.identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let certificates = TlsCertificates { client_tls, root_cert: tls.ca };
        Self { address, certificates, last: None }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the server of the last connection, if that may change.
    pub(super) fn place(&self) -> Option<Host> {
        self.last.clone()
    }

    /// Returns a connection to the server that has our keys and takes writes, with timeouts.
    pub(super) fn connect(&mut self) -> RedisResult<Connection> {
        match &self.address.server {
            Server::Tcp(host) => self.open(host),
            Server::Unix(path) => self.start(ConnectionAddr::Unix(path.clone()), &self.address.login),
            Server::Sentinel { sentinels, master, login } => {
                let (host, connection) =
                    first(sentinels.iter(), |host| self.by_sentinel(host, master, login))?;
                self.last = Some(host);
                Ok(connection)
            }
            Server::Cluster(hosts) => {
                let hosts = self.last.iter().chain(hosts);
                let (host, connection) = first(hosts, |host| self.in_cluster(host))?;
                self.last = Some(host);
                Ok(connection)
            }
        }
    }

    fn open(&self, (host, port): &Host) -> RedisResult<Connection> {
        self.start(self.tcp(host, *port), &self.address.login)
    }

    fn tcp(&self, host: &str, port: u16) -> ConnectionAddr {
        let host = host.to_owned();
        if self.address.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn start(&self, address: ConnectionAddr, login: &Login) -> RedisResult<Connection> {
        let settings = RedisConnectionInfo::default().set_db(self.address.database);
        self.start_with(address, login, settings)
    }

    fn start_with(
        &self,
        address: ConnectionAddr,
        login: &Login,
        mut settings: RedisConnectionInfo,
    ) -> RedisResult<Connection> {
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info()?.set_redis_settings(settings);
        let client = if self.address.tls {
            Client::build_with_tls(info, self.certificates.clone())?
        } else {
            Client::open(info)?
        };
        let connection = client.get_connection_with_timeout(CONNECT)?;
        connection.set_read_timeout(Some(REPLY))?;
        connection.set_write_timeout(Some(REPLY))?;
        Ok(connection)
    }

    /// Asks a sentinel for the master. It may not know yet that a master has become a replica.
    fn by_sentinel(
        &self,
        (host, port): &Host,
        master: &str,
        login: &Login,
    ) -> RedisResult<(Host, Connection)> {
        let mut sentinel = self.start_with(self.tcp(host, *port), login, RedisConnectionInfo::default())?;
        let found: Option<(String, u16)> =
            redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master).query(&mut sentinel)?;
        let found = found.ok_or((ErrorKind::Client, "the sentinel does not know a master of this name"))?;
        let mut connection = self.open(&found)?;
        let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut connection)?;
        match role.first() {
            Some(redis::Value::BulkString(role)) if role == b"master" => Ok((found, connection)),
            _ => Err((ErrorKind::Client, "the server that the sentinel names is not a master yet").into()),
        }
    }

    /// Looks for the server that has our keys, beginning with this one.
    fn in_cluster(&self, host: &Host) -> RedisResult<(Host, Connection)> {
        let mut host = host.clone();
        for _ in 0..REDIRECTS {
            let mut connection = self.open(&host)?;
            let error = match redis::cmd("EXISTS").arg(NODES).query::<i64>(&mut connection) {
                Ok(_) => return Ok((host, connection)),
                Err(error) => error,
            };
            if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
                return Err(error);
            }
            let Some((name, port)) = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':'))
            else {
                return Err(error);
            };
            let Ok(port) = port.parse() else { return Err(error) };
            // A server that does not know its own address leaves the name out.
            let name = if name.is_empty() { host.0 } else { name.trim_matches(['[', ']']).to_owned() };
            host = (name, port);
        }
        Err((ErrorKind::Client, "the servers of the cluster send us in circles").into())
    }
}

/// Returns what the first of the servers that works gives, or the last error.
fn first<'a, T>(
    hosts: impl Iterator<Item = &'a Host>,
    mut attempt: impl FnMut(&Host) -> RedisResult<T>,
) -> RedisResult<T> {
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "no server is given"));
    for host in hosts {
        match attempt(host) {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}
