#![forbid(unsafe_code)]
//! [`Address`]: where Redis is, and who we are there.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use dockline::untrusted::Untrusted;

/// The port of Redis.
const PORT: u16 = 6379;
/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// The address of Redis.
///
/// - `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, or without `redis://`
/// - `unix:///PATH[?database=N]`
/// - `redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],HOST.../MASTER[/DATABASE]`, with
///   `?sentinel-user=NAME&sentinel-password=PASSWORD` for the sentinels themselves
/// - `redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],HOST...`
///
/// `rediss` in place of `redis` stands for TLS. `:PASSWORD@` alone is for the default user. Users
/// and passwords are percent-encoded (RFC 3986, section 2.1). Displayed without password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) server: Server,
    pub(super) tls: bool,
    pub(super) login: Login,
    pub(super) database: i64,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Tcp(Host),
    Unix(PathBuf),
    Sentinel { sentinels: Vec<Host>, master: String, login: Login },
    Cluster(Vec<Host>),
}

/// Name or IP address, without the brackets of IPv6, and port.
pub(super) type Host = (String, u16);

/// A user and a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.password.is_some() { "a password" } else { "no password" })
    }
}

/// The certificates for TLS, PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities of the server's certificate; `None`: those of the system.
    pub ca: Option<Vec<u8>>,
    /// Our certificate chain and its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").finish_non_exhaustive()
    }
}

impl Address {
    /// Returns the address of a server without password and TLS.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let server = Server::Tcp((host.into(), port));
        Self { server, tls: false, login: Login::default(), database: 0 }
    }

    /// Returns it with this password, as from a file: a command line can be read by all users of a
    /// machine.
    #[must_use]
    pub fn with_password(mut self, password: String) -> Self {
        self.login.password = Some(password);
        self
    }

    /// Returns whether it is a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.server, Server::Cluster(_))
    }

    /// Returns whether it uses TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let user = self.login.user.as_ref().map(|user| format!("{}@", Untrusted::new(user)));
        let user = user.unwrap_or_default();
        match &self.server {
            Server::Tcp(host) => write!(f, "{scheme}://{user}{}", Hosts(std::slice::from_ref(host)))?,
            Server::Unix(path) => return write!(f, "unix://{}", Untrusted::path(path)),
            Server::Cluster(hosts) => write!(f, "{scheme}+cluster://{user}{}", Hosts(hosts))?,
            Server::Sentinel { sentinels, master, .. } => {
                let master = Untrusted::new(master);
                write!(f, "{scheme}+sentinel://{user}{}/{master}", Hosts(sentinels))?;
            }
        }
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

struct Hosts<'a>(&'a [Host]);

impl fmt::Display for Hosts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (host, port)) in self.0.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let host = Untrusted::new(host);
            if host.raw().contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is not an [`Address`]. It quotes nothing that may be a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The scheme is not known.
    Scheme(Untrusted<String>),
    /// A host is missing or has characters of none.
    Host,
    /// Several hosts, and neither Sentinel nor a cluster.
    Hosts,
    /// A port is not a number from 1 to 65535.
    Port,
    /// The path of a Unix socket is not absolute.
    Path,
    /// A database is not a number, or is given for a cluster, which has only one.
    Database,
    /// The name of the master is missing.
    Master,
    /// A user or password is not well encoded.
    Encoding,
    /// An option behind the `?` is not known.
    Option(Untrusted<String>),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(
                f,
                "unknown scheme `{scheme}://`; the schemes are redis://, rediss:// (TLS), unix://, \
                 redis+sentinel:// and redis+cluster://"
            ),
            Self::Host => f.write_str(
                "the host is missing or malformed; write redis://HOST:PORT, and encode `@`, `/`, `?`, `#` and \
                 `,` in a password as %40, %2F, %3F, %23 and %2C",
            ),
            Self::Hosts => {
                f.write_str("there are several hosts; write redis+sentinel:// or redis+cluster:// for such a list")
            }
            Self::Port => f.write_str("a port is a number from 1 to 65535"),
            Self::Path => f.write_str("the path of a Unix socket is absolute; write unix:///PATH"),
            Self::Database => {
                f.write_str("a database is a number, as in redis://HOST/1, and a cluster has only one")
            }
            Self::Master => f.write_str("the name of the master is missing; write redis+sentinel://HOST:PORT/MASTER"),
            Self::Encoding => {
                f.write_str("the user or the password has a `%` that is not followed by two hexadecimal digits")
            }
            Self::Option(key) => write!(f, "unknown option `{key}`"),
        }
    }
}

impl Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("redis", text));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, tls) = match scheme.strip_prefix("redis") {
            Some(kind) if kind.starts_with('s') => (&kind[1..], true),
            Some(kind) => (kind, false),
            None if scheme == "unix" => return unix(rest, query),
            None => return Err(AddressError::Scheme(scheme.to_owned().into())),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (parse_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let mut options = Options::parse(query)?;
        let hosts =
            |default| hosts.split(',').map(|host| parse_host(host, default)).collect::<Result<Vec<_>, _>>();
        let (server, database) = match kind {
            "" => {
                let mut hosts = hosts(PORT)?;
                match hosts.pop() {
                    Some(host) if hosts.is_empty() => (Server::Tcp(host), path),
                    _ => return Err(AddressError::Hosts),
                }
            }
            "+sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                let master = decode(master)?;
                if master.is_empty() {
                    return Err(AddressError::Master);
                }
                let login = Login {
                    user: options.take("sentinel-user"),
                    password: options.take("sentinel-password"),
                };
                (Server::Sentinel { sentinels: hosts(SENTINEL_PORT)?, master, login }, database)
            }
            "+cluster" if path.is_empty() => (Server::Cluster(hosts(PORT)?), ""),
            "+cluster" => return Err(AddressError::Database),
            _ => return Err(AddressError::Scheme(scheme.to_owned().into())),
        };
        options.end()?;
        Ok(Self { server, tls, login, database: parse_database(database)? })
    }
}

fn unix(path: &str, query: &str) -> Result<Address, AddressError> {
    if !path.starts_with('/') {
        return Err(AddressError::Path);
    }
    let mut options = Options::parse(query)?;
    let login = Login { user: options.take("user"), password: options.take("password") };
    let database = parse_database(&options.take("database").unwrap_or_default())?;
    options.end()?;
    Ok(Address { server: Server::Unix(path.into()), tls: false, login, database })
}

fn parse_database(text: &str) -> Result<i64, AddressError> {
    let number = |text: &str| text.parse::<u16>().map(i64::from).map_err(|_| AddressError::Database);
    if text.is_empty() { Ok(0) } else { number(text) }
}

fn parse_login(text: &str) -> Result<Login, AddressError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (text, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    Ok(Login { user, password })
}

fn parse_host(text: &str, default: u16) -> Result<Host, AddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(AddressError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError::Host)?;
            match port.strip_prefix(':') {
                None if !port.is_empty() => return Err(AddressError::Host),
                port => (host, port),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_allowed) {
        return Err(AddressError::Host);
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(AddressError::Port)?,
        None => default,
    };
    Ok((host.to_owned(), port))
}

/// `key=value&key=value`.
struct Options(Vec<(String, String)>);

impl Options {
    fn parse(query: &str) -> Result<Self, AddressError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((key.to_owned(), decode(value)?))
        };
        Ok(Self(pairs.map(pair).collect::<Result<_, _>>()?))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(place).1)
    }

    fn end(self) -> Result<(), AddressError> {
        match self.0.into_iter().next() {
            Some((key, _)) => Err(AddressError::Option(key.into())),
            None => Ok(()),
        }
    }
}

/// Decodes `%40` and the like.
fn decode(text: &str) -> Result<String, AddressError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(AddressError::Encoding);
        };
        out.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(out).map_err(|_| AddressError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn host(name: &str, port: u16) -> Host {
        (name.to_owned(), port)
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!(parse("192.0.2.1:7000"), Address::tcp("192.0.2.1", 7000));
        assert_eq!(parse("redis://db"), Address::tcp("db", 6379));
        assert_eq!(parse("redis://[::1]:7").server, Server::Tcp(host("::1", 7)));
        assert_eq!(parse("redis://db/3").database, 3);
        assert!(parse("rediss://db").tls);
        let login = parse("redis://us%40er:p%3Aw%2F@db").login;
        assert_eq!((login.user.as_deref(), login.password.as_deref()), (Some("us@er"), Some("p:w/")));
        let login = parse("redis://:secret@db").login;
        assert_eq!((login.user, login.password.as_deref()), (None, Some("secret")));

        let unix = parse("unix:///run/redis.sock?database=2&password=x");
        assert_eq!((unix.server, unix.database), (Server::Unix("/run/redis.sock".into()), 2));

        let sentinel = parse("rediss+sentinel://:x@one,two:7/main/4?sentinel-password=y");
        assert!(sentinel.tls && sentinel.database == 4 && sentinel.login.password.as_deref() == Some("x"));
        let Server::Sentinel { sentinels, master, login } = sentinel.server else { panic!() };
        assert_eq!((sentinels, master.as_str()), (vec![host("one", 26379), host("two", 7)], "main"));
        assert_eq!(login.password.as_deref(), Some("y"));

        assert_eq!(
            parse("redis+cluster://a,b:1").server,
            Server::Cluster(vec![host("a", 6379), host("b", 1)])
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, error) in [
            ("", AddressError::Host),
            ("http://db", AddressError::Scheme("http".to_owned().into())),
            ("redis+other://db", AddressError::Scheme("redis+other".to_owned().into())),
            ("redis://a,b", AddressError::Hosts),
            ("redis://db:0", AddressError::Port),
            ("redis://db:65536", AddressError::Port),
            ("redis://db/x", AddressError::Database),
            ("redis+cluster://db/1", AddressError::Database),
            ("redis+sentinel://db", AddressError::Master),
            ("redis://:%zz@db", AddressError::Encoding),
            ("redis://db?x=1", AddressError::Option("x".to_owned().into())),
            ("redis://[::1", AddressError::Host),
            ("unix://x", AddressError::Path),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        assert!("redis://db:65535".parse::<Address>().is_ok());
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "redis://user:secret@db",
            "unix:///run/x?password=secret",
            "redis+sentinel://:secret@db/m?sentinel-password=secret",
            "redis+cluster://:secret@db",
        ] {
            let address = parse(text);
            let shown = format!("{address} {address:?} {:?}", address.server);
            assert!(!shown.contains("secret"), "{shown}");
        }
        for text in
            ["redis://:sec#ret@d b", "redis://:secret@db:x", "redis://:secret%@db", "redis://:secret@a,b"]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sec"), "{error}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for text in [
            "redis://db:1",
            "rediss://user@db:1/3",
            "redis://[::1]:6379",
            "unix:///run/x",
            "redis+sentinel://a:1,b:2/main/1",
            "rediss+cluster://a:1,b:2",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }
}
