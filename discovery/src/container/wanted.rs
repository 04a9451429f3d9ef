#![forbid(unsafe_code)]
//! [`Wanted`]: the routes that a container asks for, whichever way.

use std::time::Duration;

use dockline::routes::{HostPattern, PathPrefix, PatternError};

use crate::record::{Drain, Lifecycle, Service, excerpt};

/// Bytes of a value of a label or variable at most.
pub(super) const VALUE_MAX: usize = 4096;

/// Routes that have everything in common but the host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) path: PathPrefix,
    pub(super) strip: bool,
    pub(super) port: Port,
    pub(super) tls: bool,
    pub(super) network: Option<String>,
    pub(super) weight: u16,
    pub(super) proxy_protocol: Option<u8>,
    pub(super) drain: Drain,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path: PathPrefix::root(),
            strip: false,
            port: Port::default(),
            tls: false,
            network: None,
            weight: 1,
            proxy_protocol: None,
            drain: Drain::default(),
        }
    }
}

/// The port of the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Port {
    /// The only one that is exposed.
    #[default]
    Exposed,
    /// The only one that is exposed, or this.
    ExposedOr(u16),
    /// This.
    Named(u16),
}

/// What a container asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request {
    pub(super) routes: Vec<Wanted>,
    pub(super) service: Option<Service>,
    pub(super) lifecycle: Lifecycle,
    /// Whether there are labels of ours, although none names a route.
    pub(super) has_settings: bool,
    /// What is wrong with it, and what to do.
    pub(super) problems: Vec<String>,
}

impl Request {
    /// Returns whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.problems.is_empty()
    }
}

/// Returns the error for a value of more than [`VALUE_MAX`] bytes.
pub(super) fn too_long<T>() -> Result<T, String> {
    Err(format!("it is longer than {VALUE_MAX} bytes"))
}

/// Returns the host of a name.
pub(super) fn name(text: &str) -> Result<HostPattern, String> {
    if text.contains('.') {
        return Err("a name is the first label of a host, without dots".into());
    }
    HostPattern::name(text).map_err(|error| error.to_string())
}

/// Returns the hosts of a list that is separated by commas.
pub(super) fn hosts(text: &str) -> Result<Vec<HostPattern>, String> {
    let host = |text: &str| HostPattern::host(text).map_err(|error| format!("`{}`: {error}", excerpt(text)));
    let hosts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let hosts = hosts.map(host).collect::<Result<Vec<_>, _>>()?;
    if hosts.is_empty() { Err("it is empty".into()) } else { Ok(hosts) }
}

/// Returns the port of a text.
pub(super) fn port(text: &str) -> Result<Port, String> {
    match text.parse() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(Port::Named(port)),
        _ => Err("a port is a number from 1 to 65535".into()),
    }
}

/// Returns whether a scheme is that of TLS.
pub(super) fn scheme(text: &str) -> Result<bool, String> {
    match text {
        "http" => Ok(false),
        "https" => Ok(true),
        _ => Err("a scheme is `http` or `https`; HTTP/2 and gRPC are not routed".into()),
    }
}

/// Returns the prefix of a text.
pub(super) fn path(text: &str) -> Result<PathPrefix, String> {
    text.parse().map_err(|error: PatternError| error.to_string())
}

/// Returns the duration of a text such as `30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "write a duration as in `30s`, `10m` or `1h`".into())
}

/// Returns the truth of a text.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write `true` or `false`".into())
}
