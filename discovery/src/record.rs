#![forbid(unsafe_code)]
//! [`Record`]: that a container, or the operator, has something that serves a route.
//!
//! Records come from other machines too. Reading one checks all that its types promise; whether its
//! address may be used is checked where it is used.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use dockline::routes::{HostPattern, PathPrefix, PatternError, RouteKey};
use dockline::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// A text of a container, at most 255 bytes; longer ones are cut. Displayed safely.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(Untrusted<String>);

impl Text {
    /// Bytes at most.
    pub const MAX: usize = 255;

    /// Returns the original text: to compare it, not to display it.
    #[must_use]
    pub fn raw(&self) -> &str {
        self.0.raw()
    }
}

impl From<String> for Text {
    fn from(mut text: String) -> Self {
        let end = (0..=Self::MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.into_raw()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the start of a text, so that what is said of it fits in a [`Text`] too.
pub(crate) fn excerpt(text: &str) -> &str {
    const MAX: usize = 64;
    let end = (0..=MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or_default()]
}

/// The name of a machine with containers: 1 to 253 letters, digits, dots, hyphens, underscores and
/// colons.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if text.is_empty() || text.len() > 253 || !text.bytes().all(is_allowed) {
            return Err(
                "the name of a node has 1 to 253 letters, digits, dots, hyphens, underscores and colons",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NodeName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A machine with containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where its own gateway listens, for the containers that others cannot reach directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<SocketAddr>,
}

/// What names a record: the node, what announces it there, and which of its routes it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The node.
    pub node: NodeName,
    /// The id of the container, of the swarm service or task, or the name of a fixed route.
    pub owner: Text,
    /// Which of its routes: 0 unless it has several, or several targets.
    #[serde(default)]
    pub index: u16,
}

/// Who may share a route: only records with the same service do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// A service of a compose project.
    Compose {
        /// `com.docker.compose.project`.
        project: Text,
        /// `com.docker.compose.service`.
        service: Text,
    },
    /// A service of a swarm, by its id.
    Swarm(Text),
    /// `dockline.service`: across the nodes that the operator trusts.
    Named(Text),
    /// A route of the operator's own file.
    Fixed(Text),
}

/// Where the requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The address.
    pub address: Origin,
    /// Whether it speaks TLS (`dockline.scheme=https`).
    #[serde(default)]
    pub tls: bool,
    /// The version of the PROXY protocol header that it expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<u8>,
}

/// An address of a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A host name and a port: only from the operator's own file, since a name that a container
    /// chooses may resolve to anything.
    Host(Box<str>, u16),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Host(host, port) => write!(f, "{}:{port}", Untrusted::new(&**host)),
        }
    }
}

/// Whether a record gets requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// It does.
    Live,
    /// Not now, for this reason; requests may wait for it.
    Down(Text),
    /// Not until somebody starts it: it is stopped, and no request does that. It only makes its
    /// route known, and any other record that wants that comes first.
    Stopped,
}

/// How long tunnels may outlive their route (`dockline.drain`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// As long as they want.
    #[default]
    Never,
    /// This time; zero cuts them at once.
    After(Duration),
}

/// Start on demand (`dockline.start`, `dockline.stop-after`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Whether a request starts the container.
    #[serde(default)]
    pub on_demand: bool,
    /// It is stopped after this time without requests and tunnels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Duration>,
}

/// That a container, or the operator, has something that serves a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What names it.
    pub id: RecordId,
    /// The name of the container or service, for people.
    pub title: Text,
    /// When the container was started, in nanoseconds since 1970: a restarted one is another
    /// target, although its address may be the same.
    pub started: u64,
    /// When the container was created, in nanoseconds since 1970: the earliest owns a route that
    /// several want.
    pub created: u64,
    /// What it serves.
    #[serde(with = "key")]
    pub key: RouteKey,
    /// Whether the prefix is removed from the path of its requests.
    #[serde(default)]
    pub strip: bool,
    /// With whom it may share the route; `None`: with nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Where the requests go; `None` while that is not known, as of a stopped container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether it gets requests.
    pub state: RecordState,
    /// Its part of the requests, 1 to 1000.
    pub weight: u16,
    /// How long its tunnels may outlive it.
    #[serde(default)]
    pub drain: Drain,
    /// Whether it is started on demand.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

impl Record {
    /// Returns where it gets requests now; `None` while it does not.
    #[must_use]
    pub fn live_target(&self) -> Option<&Target> {
        self.target.as_ref().filter(|_| self.state == RecordState::Live)
    }
}

/// A [`RouteKey`] with serde: `{"name": "web", "path": "/api"}`, or `host` in place of `name`.
mod key {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, HostPattern, PathPrefix, PatternError, RouteKey, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Written {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    }

    pub(super) fn serialize<S: Serializer>(key: &RouteKey, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, host) = match &key.host {
            HostPattern::Name(name) => (Some(name.to_string()), None),
            host => (None, Some(host.to_string())),
        };
        let path = (!key.path.is_root()).then(|| key.path.to_string());
        Written { name, host, path }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RouteKey, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let host = match (&written.name, &written.host) {
            (Some(name), None) => HostPattern::name(name),
            (None, Some(host)) => HostPattern::host(host),
            _ => Err(PatternError::Empty),
        };
        let path = written.path.as_deref().map_or(Ok(PathPrefix::root()), str::parse);
        Ok(RouteKey { host: host.map_err(D::Error::custom)?, path: path.map_err(D::Error::custom)? })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a record of a container of the node `one`.
    pub(crate) fn record(owner: &str) -> Record {
        Record {
            id: RecordId { node: "one".parse().unwrap(), owner: owner.into(), index: 0 },
            title: "web".into(),
            started: 2,
            created: 1,
            key: RouteKey { host: HostPattern::name("web").unwrap(), path: "/api".parse().unwrap() },
            strip: true,
            service: Some(Service::Compose { project: "shop".into(), service: "web".into() }),
            target: Some(Target {
                address: Origin::Ip("172.17.0.2:80".parse().unwrap()),
                tls: false,
                proxy_protocol: None,
            }),
            state: RecordState::Live,
            weight: 1,
            drain: Drain::After(Duration::from_secs(3)),
            lifecycle: Lifecycle::default(),
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let record = record("abc");
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
    }

    #[test]
    fn a_record_with_a_bad_key_or_node_is_refused() {
        let text = serde_json::to_string(&record("abc")).unwrap();
        for (good, bad) in [
            (r#""name":"web""#, r#""name":"we b""#),
            (r#""name":"web""#, r#""host":"web:80""#),
            (r#""name":"web","#, ""),
            (r#""path":"/api""#, r#""path":"api""#),
            (r#""node":"one""#, r#""node":"o ne""#),
        ] {
            assert!(text.contains(good), "{text}");
            assert!(serde_json::from_str::<Record>(&text.replace(good, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(Text::from("a".repeat(255)).raw().len(), 255);
        assert_eq!(Text::from("a".repeat(256)).raw().len(), 255);
        assert_eq!(Text::from("é".repeat(128)).raw().len(), 254);
    }
}
