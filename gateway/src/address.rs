#![forbid(unsafe_code)]
//! Addresses in the form of `DOCKER_HOST`: what is listened on, and where upstreams are.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dockline::engine::Address;
use dockline::untrusted::{Untrusted, is_printable};

use crate::suggest;

/// The port of the Docker API without TLS.
const PLAIN_PORT: u16 = 2375;
/// The port of the Docker API with TLS.
const TLS_PORT: u16 = 2376;
/// What fits into `sockaddr_un` beside its final NUL.
const UNIX_PATH_MAX: usize = 107;

/// Something to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// `tcp://host:port`, `host:port`, or `tls://host:port`.
    Tcp {
        /// Name or address, without the brackets of IPv6.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
        /// Whether TLS was asked for by the scheme.
        tls: bool,
    },
    /// `unix:///path?mode=0660&user=root&group=docker`.
    Unix {
        /// Where.
        path: PathBuf,
        /// Whose, and for whom.
        access: SocketAccess,
    },
    /// `fd://`, `fd://3`, `fd://name`: sockets that systemd passes.
    Inherited(Inherit),
}

/// Which of the sockets that systemd passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inherit {
    /// All.
    All,
    /// The one with this number.
    Number(u16),
    /// All of this name (`FileDescriptorName=`).
    Name(Untrusted<String>),
}

/// Mode and ownership of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketAccess {
    /// Permission bits.
    pub(crate) mode: u32,
    /// Name or number of the owner; `None`: who runs this.
    pub(crate) user: Option<Untrusted<String>>,
    /// Name or number of the group; `None`: that of who runs this.
    pub(crate) group: Option<Untrusted<String>>,
}

impl Default for SocketAccess {
    fn default() -> Self {
        Self { mode: 0o600, user: None, group: None }
    }
}

impl ListenAddress {
    /// What identifies the socket: the address without what can be changed while it is open. It is not for people.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => format!("tcp://{}", HostPort(host, *port)),
            Self::Unix { path, .. } => format!("unix://{}", path.to_string_lossy()),
            Self::Inherited(Inherit::All) => "fd://".to_owned(),
            Self::Inherited(Inherit::Number(number)) => format!("fd://{number}"),
            Self::Inherited(Inherit::Name(name)) => format!("fd://{}", name.raw()),
        }
    }

    /// Whether other machines can reach it. A name is taken for what it says: only `localhost` is local.
    pub(crate) fn is_public(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => !is_loopback(host),
            Self::Unix { .. } | Self::Inherited(_) => false,
        }
    }

    /// Whether a connection to `upstream` would come in here.
    pub(crate) fn is_reached_by(&self, upstream: &Address) -> bool {
        match (self, upstream) {
            (Self::Unix { path, .. }, Address::Unix(other)) => real(path) == real(other),
            (Self::Tcp { host, port, .. }, Address::Tcp { host: other, port: other_port }) => {
                let same = host.eq_ignore_ascii_case(other) || (is_loopback(host) && is_loopback(other));
                port == other_port && (same || (is_any(host) && (is_loopback(other) || is_any(other))))
            }
            _ => false,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, tls: true } => write!(f, "tls://{}", HostPort(host, *port)),
            Self::Tcp { host, port, tls: false } => write!(f, "tcp://{}", HostPort(host, *port)),
            Self::Unix { path, .. } => write!(f, "unix://{}", Untrusted::path(path)),
            Self::Inherited(Inherit::Name(name)) => write!(f, "fd://{name}"),
            Self::Inherited(_) => f.write_str(&self.key()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match split_scheme(text) {
            ("tcp", rest) => tcp_listener(rest, PLAIN_PORT, false),
            ("tls", rest) => tcp_listener(rest, TLS_PORT, true),
            ("unix", rest) => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                if path.starts_with('@') {
                    return Err(
                        "an abstract socket has no permissions, anybody could connect; give a path".into()
                    );
                }
                Ok(Self::Unix { path: unix_path(path)?, access: socket_access(query)? })
            }
            ("fd", "" | "*") => Ok(Self::Inherited(Inherit::All)),
            ("fd", rest) if rest.bytes().all(|byte| byte.is_ascii_digit()) => match rest.parse() {
                Ok(number) if number >= 3 => Ok(Self::Inherited(Inherit::Number(number))),
                _ => Err(format!("`{rest}` is not the number of a passed socket; the first one is fd://3")),
            },
            ("fd", rest) => Ok(Self::Inherited(Inherit::Name(rest.to_owned().into()))),
            (scheme, _) => Err(unknown_scheme(scheme, &["tcp", "tls", "unix", "fd"])),
        }
    }
}

fn tcp_listener(text: &str, default_port: u16, tls: bool) -> Result<ListenAddress, String> {
    let (host, port) = host_port(text, default_port)?;
    if host.is_empty() {
        return Err(
            "the host is missing; 127.0.0.1 is for this machine only, 0.0.0.0 for all interfaces".into()
        );
    }
    Ok(ListenAddress::Tcp { host, port, tls })
}

fn socket_access(query: &str) -> Result<SocketAccess, String> {
    let mut access = SocketAccess::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(format!("the socket option `{}` has no value", Untrusted::new(key)));
        }
        match key {
            "mode" => {
                access.mode =
                    u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
                        let value = Untrusted::new(value);
                        format!("`{value}` is not a file mode; write octal digits, as in mode=0660")
                    })?;
            }
            "user" => access.user = Some(value.to_owned().into()),
            "group" => access.group = Some(value.to_owned().into()),
            _ => {
                let hint = suggest::hint(key, ["mode", "user", "group"]);
                let key = Untrusted::new(key);
                return Err(format!("unknown socket option `{key}`{hint}; there are mode, user and group"));
            }
        }
    }
    Ok(access)
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamAddress {
    /// For the engine.
    pub(crate) address: Address,
    /// Whether TLS is spoken with it.
    pub(crate) tls: bool,
}

impl FromStr for UpstreamAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tcp = |rest: &str, default_port, tls| {
            let (host, port) = host_port(rest, default_port)?;
            match host.as_str() {
                "" => Err(format!("the host is missing in `{}`", Untrusted::new(text))),
                _ if port == 0 => Err("nobody can listen on port 0".to_owned()),
                _ => Ok(Self { address: Address::Tcp { host, port }, tls }),
            }
        };
        match split_scheme(text) {
            ("tcp", rest) => tcp(rest, PLAIN_PORT, false),
            ("tls", rest) => tcp(rest, TLS_PORT, true),
            ("unix", path) => Ok(Self { address: Address::Unix(unix_path(path)?), tls: false }),
            ("fd", _) => Err("fd:// is for listeners; an upstream has an address".into()),
            (scheme, _) => Err(unknown_scheme(scheme, &["tcp", "tls", "unix"])),
        }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp { host, port } if self.tls => write!(f, "tls://{}", HostPort(host, *port)),
            address => address.fmt(f),
        }
    }
}

/// A host and a port, with brackets where IPv6 needs them.
pub(crate) struct HostPort<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A text without a scheme is TCP.
fn split_scheme(text: &str) -> (&str, &str) {
    text.split_once("://").unwrap_or(("tcp", text))
}

fn unknown_scheme(scheme: &str, known: &[&str]) -> String {
    let list = known.iter().map(|name| format!("{name}://")).collect::<Vec<_>>().join(", ");
    match scheme {
        "http" => "http:// is not an address here; write tcp://host:port".into(),
        "https" => "https:// is not an address here; write tls://host:port".into(),
        _ => {
            let hint = suggest::hint(scheme, known.iter().copied());
            let scheme = Untrusted::new(scheme);
            format!("unknown scheme `{scheme}://`{hint}; there are {list}")
        }
    }
}

fn host_port(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if let Some(at) = text.find(['/', '?', '#', '@']) {
        return Err(format!("`{}` has no place behind host and port", Untrusted::new(&text[at..])));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
            return Err(format!("`{}` is not an IPv6 address", Untrusted::new(host)));
        }
        match port.strip_prefix(':') {
            None if !port.is_empty() => {
                return Err(format!("`{}` behind the bracket is not a port", Untrusted::new(port)));
            }
            port => (host, port),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                let text = Untrusted::new(text);
                return Err(format!("an IPv6 address needs brackets: [{text}]:{default_port}"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => default_port,
        Some(port) => {
            port.parse().map_err(|_| format!("`{}` is not a port (0 to 65535)", Untrusted::new(port)))?
        }
    };
    if host.chars().any(|c| c == ' ' || !is_printable(c)) {
        return Err(format!("`{}` is not a host name", Untrusted::new(host)));
    }
    Ok((host.to_owned(), port))
}

fn unix_path(path: &str) -> Result<PathBuf, String> {
    match path.len() {
        0 => Err("the path is missing; unix:///var/run/docker.sock has three slashes".into()),
        _ if !path.starts_with(['/', '@']) => {
            let path = Untrusted::new(path);
            Err(format!("`{path}` is not an absolute path; unix:///{path} would be"))
        }
        length if length > UNIX_PATH_MAX => Err(format!(
            "the path has {length} bytes, the kernel takes at most {UNIX_PATH_MAX}; use a shorter one"
        )),
        _ => Ok(PathBuf::from(path)),
    }
}

/// The path with its directory's links resolved, so that `/var/run` is `/run`.
fn real(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn is_any(host: &str) -> bool {
    host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> ListenAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<ListenAddress>().expect_err(text)
    }

    fn tcp(host: &str, port: u16, tls: bool) -> ListenAddress {
        ListenAddress::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn tcp_and_tls() {
        assert_eq!(listen("tcp://127.0.0.1:4243"), tcp("127.0.0.1", 4243, false));
        assert_eq!(listen("tcp://127.0.0.1"), tcp("127.0.0.1", 2375, false));
        assert_eq!(listen("localhost:1"), tcp("localhost", 1, false));
        assert_eq!(listen("localhost"), tcp("localhost", 2375, false));
        assert_eq!(listen("tls://0.0.0.0"), tcp("0.0.0.0", 2376, true));
        assert_eq!(listen("tcp://[::1]:99/"), tcp("::1", 99, false));
        assert_eq!(listen("tcp://[::1]"), tcp("::1", 2375, false));
        assert_eq!(listen("tls://[::1]:7").to_string(), "tls://[::1]:7");
        assert_eq!(listen("tls://[::1]:7").key(), "tcp://[::1]:7");
    }

    #[test]
    fn unix_with_options() {
        let all = listen("unix:///run/d.sock?mode=0660&user=root&group=docker");
        let access = SocketAccess {
            mode: 0o660,
            user: Some("root".to_owned().into()),
            group: Some("docker".to_owned().into()),
        };
        assert_eq!(all, ListenAddress::Unix { path: "/run/d.sock".into(), access });
        let plain = listen("unix:///run/d.sock");
        assert_eq!(
            plain,
            ListenAddress::Unix { path: "/run/d.sock".into(), access: SocketAccess::default() }
        );
        assert_eq!(all.key(), plain.key());
    }

    #[test]
    fn sockets_of_systemd() {
        assert_eq!(listen("fd://"), ListenAddress::Inherited(Inherit::All));
        assert_eq!(listen("fd://3"), ListenAddress::Inherited(Inherit::Number(3)));
        assert_eq!(listen("fd://web"), ListenAddress::Inherited(Inherit::Name("web".to_owned().into())));
        assert!(refused("fd://2").contains("fd://3"));
        assert!(refused("fd://99999999").contains("not the number"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("tcp://:2375", "host is missing"),
            ("::1:2375", "needs brackets"),
            ("tcp://[::1", "not closed"),
            ("tcp://[1.2.3.4]:5", "not an IPv6 address"),
            ("tcp://[::1]5", "not a port"),
            ("tcp://a:70000", "not a port"),
            ("tcp://a:", "not a port"),
            ("tcp://a:1/v1.43", "no place"),
            ("tcp://u@a:1", "no place"),
            ("tcp://a b:1", "not a host name"),
            ("http://a:1", "tcp://host:port"),
            ("https://a:1", "tls://host:port"),
            ("unxi:///a", "did you mean `unix`?"),
            ("ssh://a", "there are tcp://, tls://, unix://, fd://"),
            ("unix://", "three slashes"),
            ("unix://run/a", "unix:///run/a would be"),
            ("unix://@a", "no permissions"),
            ("unix:///a?mode=rw", "octal"),
            ("unix:///a?mode=1777", "octal"),
            ("unix:///a?mod=0600", "did you mean `mode`?"),
            ("unix:///a?user=", "no value"),
        ] {
            let said = refused(text);
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn a_path_has_at_most_107_bytes() {
        let path = |length: usize| format!("unix:///{}", "a".repeat(length - 1));
        assert!(path(107).parse::<ListenAddress>().is_ok());
        assert!(refused(&path(108)).contains("at most 107"));
        assert!(path(108).parse::<UpstreamAddress>().is_err());
    }

    #[test]
    fn upstreams() {
        let at = |text: &str| text.parse::<UpstreamAddress>();
        assert_eq!(at("unix:///a").unwrap().address, Address::Unix("/a".into()));
        assert_eq!(at("unix://@a").unwrap().address, Address::Unix("@a".into()));
        let tls = at("tls://h").unwrap();
        assert_eq!((tls.to_string().as_str(), tls.tls), ("tls://h:2376", true));
        assert!(at("fd://3").unwrap_err().contains("listeners"));
        assert!(at("tcp://h:0").unwrap_err().contains("port 0"));
    }

    #[test]
    fn a_loop_is_seen() {
        let upstream = |text: &str| text.parse::<UpstreamAddress>().unwrap().address;
        let meets = |a: &str, b: &str| listen(a).is_reached_by(&upstream(b));
        assert!(meets("tcp://127.0.0.1:2375", "tcp://localhost:2375"));
        assert!(meets("tcp://0.0.0.0:2375", "tcp://127.0.0.1:2375"));
        assert!(meets("tls://host:1", "tcp://HOST:1"));
        assert!(meets("unix:///tmp/../tmp/a.sock", "unix:///tmp/a.sock"));
        assert!(!meets("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2376"));
        assert!(!meets("tcp://127.0.0.1:2375", "tcp://10.0.0.1:2375"));
        assert!(!meets("unix:///a", "unix:///b"));
        assert!(!meets("tcp://0.0.0.0:1", "tcp://10.0.0.1:1"));
    }

    #[test]
    fn public_is_what_others_reach() {
        for (text, public) in [
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("[::1]", false),
            ("localhost", false),
            ("0.0.0.0", true),
            ("10.1.2.3", true),
            ("gateway.example", true),
            ("unix:///a", false),
        ] {
            assert_eq!(listen(text).is_public(), public, "{text}");
        }
    }
}
