#![forbid(unsafe_code)]
//! [`Guard`]: the host names of a listener, and the web pages that may use it.
//!
//! Whoever reaches a TCP listener without client certificates is root on the Docker host, and a
//! browser on this machine reaches it on behalf of every page that is open in it. A foreign page is
//! recognised by its `Origin`; one whose name resolves to this machine (DNS rebinding), by its
//! `Host`; one that only loads an image from here, by `Sec-Fetch-Site`. They are checked for each
//! request, as are targets in absolute form, whose authority replaces `Host` (RFC 9112, section
//! 3.2.2).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dockline::engine::{PeerAddr, Route, RouteRequest, Router};
use dockline::h1::{Authority, RequestHead};
use dockline::proxy::Reply;
use dockline::untrusted::Untrusted;
use log::warn;

use crate::problem::Problem;

/// The `Host` of Docker's clients, up to version 23, for a daemon at a Unix socket: such a client
/// may connect by way of socat. Later ones send `api.moby.localhost`. (moby, `client/request.go`.)
const DUMMY_HOST: &str = "docker";

/// Hosts and origins that are allowed besides those of this machine: `localhost` and names below
/// it, 127.0.0.0/8, `[::1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) hosts: Vec<AllowedHost>,
    pub(crate) origins: Vec<AllowedOrigin>,
}

/// A host that is allowed in `Host`, with any port; `.example.com`: that one and all names below
/// it; `*`: any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedHost(String);

/// A value that is allowed in `Origin`; `*`: any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedOrigin(String);

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal<'r> {
    Host(Untrusted<&'r [u8]>),
    Origin(Untrusted<&'r [u8]>),
    /// A page of another site, which the browser has not named.
    Page,
}

impl Allowed {
    /// Returns whether a request comes from no page of another site.
    pub(crate) fn allows(&self, request: &RequestHead) -> bool {
        self.check(request).is_ok()
    }

    fn check<'r>(&self, request: &'r RequestHead) -> Result<(), Refusal<'r>> {
        let host = request.target().authority().or_else(|| request.fields.values("Host").next());
        // Browsers always send one; Docker's clients send an empty one with requests that hijack
        // the connection.
        if let Some(host) = host.filter(|host| !host.is_empty() && !self.allows_host(host)) {
            return Err(Refusal::Host(host.into()));
        }
        if let Some(origin) = request.fields.values("Origin").find(|origin| !self.allows_origin(origin)) {
            return Err(Refusal::Origin(origin.into()));
        }
        // Fetch Metadata, section 2.3. An Origin has been checked above.
        let is_cross_site = request.fields.values("Sec-Fetch-Site").any(|site| site == b"cross-site");
        let allows_any = self.origins.iter().any(|allowed| allowed.0 == "*");
        if is_cross_site && !allows_any && !request.fields.contains("Origin") {
            return Err(Refusal::Page);
        }
        Ok(())
    }

    fn allows_host(&self, host: &[u8]) -> bool {
        if self.hosts.iter().any(|allowed| allowed.0 == "*") {
            return true;
        }
        let Some(authority) = Authority::parse(host) else { return false };
        let Ok(name) = std::str::from_utf8(authority.host) else { return false };
        name == DUMMY_HOST || is_this_machine(name) || self.hosts.iter().any(|allowed| allowed.covers(name))
    }

    fn allows_origin(&self, origin: &[u8]) -> bool {
        let is_allowed =
            |allowed: &AllowedOrigin| allowed.0 == "*" || allowed.0.as_bytes().eq_ignore_ascii_case(origin);
        if self.origins.iter().any(is_allowed) {
            return true;
        }
        let host = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme));
        host.and_then(Authority::parse)
            .and_then(|authority| std::str::from_utf8(authority.host).ok())
            .is_some_and(is_this_machine)
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(
                f,
                "the Host \"{host}\" is not a name of this gateway; to allow it, use \
                 --allow-host NAME, or allow_hosts = [\"NAME\"] of the listener in the configuration file"
            ),
            Self::Origin(origin) => write!(
                f,
                "web pages of \"{origin}\" may not use this gateway; to allow them, use \
                 --allow-origin ORIGIN, or allow_origins = [\"ORIGIN\"] of the listener in the configuration file"
            ),
            Self::Page => f.write_str(
                "web pages of other sites may not use this gateway; to allow all, use --allow-origin '*', \
                 or allow_origins = [\"*\"] of the listener in the configuration file",
            ),
        }
    }
}

/// Returns whether a host in an authority can only be this machine: a name for which no DNS server
/// is asked (RFC 6761, section 6.3), or a loopback address.
fn is_this_machine(host: &str) -> bool {
    let name = without_dot(host).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || address(host).is_some_and(|address| address.is_loopback())
}

/// Returns the address that a host is, in any spelling.
fn address(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// Strips the root label, with which a name is the same.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl AllowedHost {
    /// Makes it from the host of a listener's address, with IPv6 addresses without brackets.
    pub(crate) fn of_listener(host: &str) -> Self {
        Self(if host.contains(':') { format!("[{host}]") } else { host.to_owned() })
    }

    fn covers(&self, host: &str) -> bool {
        let (allowed, host) =
            (without_dot(&self.0).to_ascii_lowercase(), without_dot(host).to_ascii_lowercase());
        match allowed.strip_prefix('.') {
            Some(domain) => host == domain || host.ends_with(&allowed),
            None => host == allowed || address(&host).is_some_and(|it| address(&allowed) == Some(it)),
        }
    }
}

impl FromStr for AllowedHost {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parsed = Authority::parse(text.as_bytes()).filter(|authority| authority.port.is_none());
        let has_name = text.bytes().any(|byte| byte != b'.');
        if text == "*" || (parsed.is_some() && has_name) {
            return Ok(Self(text.to_owned()));
        }
        Err(match Authority::parse(format!("[{text}]").as_bytes()) {
            Some(_) => Problem::new("an IPv6 address needs brackets").hint(format_args!("write [{text}]")),
            None => Problem::new(format_args!("`{}` is not a host name", Untrusted::new(text))).hint(
                "write it without scheme and port, as in gateway.example, .example.com with all names below it, \
                 or * for any",
            ),
        })
    }
}

impl FromStr for AllowedOrigin {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_origin = authority.is_some_and(|host| Authority::parse(host.as_bytes()).is_some());
        if is_origin || matches!(text, "*" | "null") {
            // A browser omits the default port (RFC 6454, section 6.2).
            let port = if text.starts_with("https:") { ":443" } else { ":80" };
            return Ok(Self(text.strip_suffix(port).unwrap_or(text).to_owned()));
        }
        Err(Problem::new(format_args!("`{}` is not an origin", Untrusted::new(text)))
            .hint("write it as a browser sends it, as in https://ui.example:8443, or * for any"))
    }
}

/// Passes on the requests that are allowed.
#[derive(Debug)]
pub(crate) struct Guard<R> {
    router: R,
    allowed: Allowed,
    /// Whether a refusal was logged.
    logged: AtomicBool,
}

impl<R: Router> Guard<R> {
    pub(crate) fn new(router: R, allowed: Allowed) -> Arc<Self> {
        Arc::new(Self { router, allowed, logged: AtomicBool::new(false) })
    }
}

impl<R: Router> Router for Guard<R> {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        // Browsers cannot connect to Unix sockets, whose mode decides who can.
        if matches!(request.client().peer, PeerAddr::Unix { .. }) {
            return self.router.route(request);
        }
        match self.allowed.check(request.head()) {
            Ok(()) => self.router.route(request),
            Err(refusal) => {
                if !self.logged.swap(true, Ordering::Relaxed) {
                    warn!(
                        "{}: refused: {refusal} (further refusals are in the access log only)",
                        request.client().listener
                    );
                }
                Route::Reply(Reply::error(403, &refusal.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
