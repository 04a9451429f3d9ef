#![forbid(unsafe_code)]
//! Addresses in the form of `DOCKER_HOST`, of listeners and of upstreams.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dockline::engine::Address;
use dockline::untrusted::{Untrusted, is_printable};

use crate::problem::Problem;
use crate::suggest;

/// The port of the Docker API without TLS.
const PLAIN_PORT: u16 = 2375;
/// The port of the Docker API with TLS.
const TLS_PORT: u16 = 2376;
/// The longest path in `sockaddr_un`, without the final NUL.
const UNIX_PATH_MAX: usize = 107;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// `tcp://host:port`, `host:port`, or `tls://host:port`.
    Tcp {
        /// Name or address, without the brackets of IPv6.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
        /// Whether the scheme is tls.
        tls: bool,
    },
    /// `unix:///path?mode=0660&user=root&group=docker`.
    Unix {
        /// Path of the socket.
        path: PathBuf,
        /// Its mode and owner.
        access: SocketAccess,
    },
    /// `fd://`, `fd://3`, `fd://name`: sockets that systemd passes.
    Inherited(Inherit),
}

/// A choice among the sockets that systemd passes.
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
    /// Name or number of the owner; `None`: the user of the process.
    pub(crate) user: Option<Untrusted<String>>,
    /// Name or number of the group; `None`: the group of the process.
    pub(crate) group: Option<Untrusted<String>>,
}

impl Default for SocketAccess {
    fn default() -> Self {
        Self { mode: 0o600, user: None, group: None }
    }
}

impl ListenAddress {
    /// Returns the identity of the socket: the address without what can change while it is open.
    /// Not for display.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => format!("tcp://{}", HostPort(host, *port)),
            Self::Unix { path, .. } => format!("unix://{}", path.to_string_lossy()),
            Self::Inherited(Inherit::All) => "fd://".to_owned(),
            Self::Inherited(Inherit::Number(number)) => format!("fd://{number}"),
            Self::Inherited(Inherit::Name(name)) => format!("fd://{}", name.raw()),
        }
    }

    /// Returns whether other machines can reach it. Names are not resolved: only `localhost` is
    /// local.
    pub(crate) fn is_public(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => !is_loopback(host),
            Self::Unix { .. } | Self::Inherited(_) => false,
        }
    }

    /// Returns whether a connection to `upstream` would arrive at this listener.
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
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match split_scheme(text) {
            ("tcp", rest) => tcp_listener(rest, PLAIN_PORT, false),
            ("tls", rest) => tcp_listener(rest, TLS_PORT, true),
            ("unix", rest) => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                if path.starts_with('@') {
                    return Err(Problem::new(
                        "an abstract socket has no permissions, so everybody could connect",
                    )
                    .hint("give a path"));
                }
                Ok(Self::Unix { path: unix_path(path)?, access: socket_access(query)? })
            }
            ("fd", "" | "*") => Ok(Self::Inherited(Inherit::All)),
            ("fd", rest) if rest.bytes().all(|byte| byte.is_ascii_digit()) => match rest.parse() {
                Ok(number) if number >= 3 => Ok(Self::Inherited(Inherit::Number(number))),
                _ => Err(Problem::new(format_args!("`{rest}` is not the number of a passed socket"))
                    .hint("the first one is fd://3")),
            },
            ("fd", rest) => Ok(Self::Inherited(Inherit::Name(rest.to_owned().into()))),
            (scheme, _) => Err(unknown_scheme(scheme, &["tcp", "tls", "unix", "fd"])),
        }
    }
}

/// Returns the address of a listener with TLS, from `host` or `host:port`.
pub(crate) fn tls_listener(text: &str, default_port: u16) -> Result<ListenAddress, Problem> {
    tcp_listener(text, default_port, true)
}

fn tcp_listener(text: &str, default_port: u16, tls: bool) -> Result<ListenAddress, Problem> {
    let (host, port) = host_port(text, default_port)?;
    if host.is_empty() {
        return Err(Problem::new("the host is missing")
            .hint("127.0.0.1 is for this machine only, 0.0.0.0 for all interfaces"));
    }
    Ok(ListenAddress::Tcp { host, port, tls })
}

fn socket_access(query: &str) -> Result<SocketAccess, Problem> {
    let mut access = SocketAccess::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(Problem::new(format_args!(
                "the socket option `{}` has no value",
                Untrusted::new(key)
            )));
        }
        match key {
            "mode" => {
                access.mode =
                    u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
                        let value = Untrusted::new(value);
                        Problem::new(format_args!("`{value}` is not a file mode"))
                            .hint("write octal digits, as in mode=0660")
                    })?;
            }
            "user" => access.user = Some(value.to_owned().into()),
            "group" => access.group = Some(value.to_owned().into()),
            _ => {
                let hint = suggest::hint(key, ["mode", "user", "group"]);
                let key = Untrusted::new(key);
                return Err(Problem::new(format_args!("unknown socket option `{key}`{hint}"))
                    .hint("the options are mode, user and group"));
            }
        }
    }
    Ok(access)
}

/// The address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamAddress {
    /// The address for the engine.
    pub(crate) address: Address,
    /// Whether to use TLS.
    pub(crate) tls: bool,
}

impl FromStr for UpstreamAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let tcp = |rest: &str, default_port, tls| {
            let (host, port) = server(rest, default_port)?;
            Ok(Self { address: Address::Tcp { host, port }, tls })
        };
        match split_scheme(text) {
            ("tcp", rest) => tcp(rest, PLAIN_PORT, false),
            ("tls", rest) => tcp(rest, TLS_PORT, true),
            ("unix", path) => Ok(Self { address: Address::Unix(unix_path(path)?), tls: false }),
            ("fd", _) => Err(Problem::new("fd:// is for listeners").hint("give the address of the upstream")),
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

/// Returns host and port of a server that is connected to, from `host`, `host:port` or
/// `[address]:port`.
pub(crate) fn server(text: &str, default_port: u16) -> Result<(String, u16), Problem> {
    match host_port(text, default_port)? {
        (host, _) if host.is_empty() => {
            Err(Problem::new(format_args!("the host is missing in `{}`", Untrusted::new(text))))
        }
        (_, 0) => Err(Problem::new("port 0 cannot be connected to")),
        found => Ok(found),
    }
}

/// A host and a port, displayed with brackets for IPv6.
pub(crate) struct HostPort<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Splits the scheme off. Without a scheme it is TCP.
fn split_scheme(text: &str) -> (&str, &str) {
    text.split_once("://").unwrap_or(("tcp", text))
}

fn unknown_scheme(scheme: &str, known: &[&str]) -> Problem {
    let list = known.iter().map(|name| format!("{name}://")).collect::<Vec<_>>().join(", ");
    match scheme {
        "http" => Problem::new("http:// is not supported here").hint("write tcp://host:port"),
        "https" => Problem::new("https:// is not supported here").hint("write tls://host:port"),
        _ => {
            let hint = suggest::hint(scheme, known.iter().copied());
            let scheme = Untrusted::new(scheme);
            Problem::new(format_args!("unknown scheme `{scheme}://`{hint}"))
                .hint(format_args!("the schemes are {list}"))
        }
    }
}

fn host_port(text: &str, default_port: u16) -> Result<(String, u16), Problem> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if let Some(at) = text.find(['/', '?', '#', '@']) {
        let rest = Untrusted::new(&text[at..]);
        return Err(Problem::new(format_args!("unexpected `{rest}` after host and port")));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once(']')
            .ok_or_else(|| Problem::new("the bracket of the IPv6 address is not closed"))?;
        if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
            return Err(Problem::new(format_args!("`{}` is not an IPv6 address", Untrusted::new(host))));
        }
        match port.strip_prefix(':') {
            None if !port.is_empty() => {
                let port = Untrusted::new(port);
                return Err(Problem::new(format_args!("`{port}` after the bracket is not a port")));
            }
            port => (host, port),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                let text = Untrusted::new(text);
                return Err(Problem::new("an IPv6 address needs brackets")
                    .hint(format_args!("write [{text}]:{default_port}")));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => default_port,
        Some(port) => port.parse().map_err(|_| {
            Problem::new(format_args!("`{}` is not a port (0 to 65535)", Untrusted::new(port)))
        })?,
    };
    if host.chars().any(|c| c == ' ' || !is_printable(c)) {
        return Err(Problem::new(format_args!("`{}` is not a host name", Untrusted::new(host))));
    }
    Ok((host.to_owned(), port))
}

fn unix_path(path: &str) -> Result<PathBuf, Problem> {
    match path.len() {
        0 => Err(Problem::new("the path is missing").hint("unix:///var/run/docker.sock has three slashes")),
        _ if !path.starts_with(['/', '@']) => {
            let path = Untrusted::new(path);
            Err(Problem::new(format_args!("`{path}` is not an absolute path"))
                .hint(format_args!("unix:///{path} would be")))
        }
        length if length > UNIX_PATH_MAX => Err(Problem::new(format_args!(
            "the path has {length} bytes, more than the {UNIX_PATH_MAX} that the kernel permits"
        ))
        .hint("use a shorter one")),
        _ => Ok(PathBuf::from(path)),
    }
}

/// Resolves symbolic links in the directory of a path, so that `/var/run` is `/run`.
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
        text.parse::<ListenAddress>().expect_err(text).to_string()
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
    fn problems_are_described() {
        for (text, words) in [
            ("tcp://:2375", "host is missing"),
            ("::1:2375", "needs brackets"),
            ("tcp://[::1", "not closed"),
            ("tcp://[1.2.3.4]:5", "not an IPv6 address"),
            ("tcp://[::1]5", "not a port"),
            ("tcp://a:70000", "not a port"),
            ("tcp://a:", "not a port"),
            ("tcp://a:1/v1.43", "after host and port"),
            ("tcp://u@a:1", "after host and port"),
            ("tcp://a b:1", "not a host name"),
            ("http://a:1", "tcp://host:port"),
            ("https://a:1", "tls://host:port"),
            ("unxi:///a", "did you mean `unix`?"),
            ("ssh://a", "the schemes are tcp://, tls://, unix://, fd://"),
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
        assert!(refused(&path(108)).contains("more than the 107"));
        assert!(path(108).parse::<UpstreamAddress>().is_err());
    }

    #[test]
    fn upstreams() {
        let at = |text: &str| text.parse::<UpstreamAddress>();
        assert_eq!(at("unix:///a").unwrap().address, Address::Unix("/a".into()));
        assert_eq!(at("unix://@a").unwrap().address, Address::Unix("@a".into()));
        let tls = at("tls://h").unwrap();
        assert_eq!((tls.to_string().as_str(), tls.tls), ("tls://h:2376", true));
        assert!(at("fd://3").unwrap_err().to_string().contains("listeners"));
        assert!(at("tcp://h:0").unwrap_err().to_string().contains("port 0"));
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
