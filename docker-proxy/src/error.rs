#![forbid(unsafe_code)]
//! [`Error`]: why a port cannot be served. dockerd shows it to the user of `docker run -p`.

use std::error;
use std::fmt;
use std::io;

use dockline::untrusted::Untrusted;

use crate::broker::NAME_RULE;
use crate::port::{LISTENER, PublishedPort};

/// Why a port cannot be served. Texts that the original has, too, are worded as there: users search
/// for them.
#[derive(Debug)]
pub(crate) enum Error {
    /// dockline does not forward SCTP.
    Sctp,
    UnknownProtocol(Untrusted<String>),
    ContainerPort(i64),
    Bind(PublishedPort, io::Error),
    /// The socket that dockerd should have passed cannot be used.
    NoListener(io::Error),
    WrongListener {
        found: &'static str,
    },
    Forward(PublishedPort, io::Error),
    /// A variable of the environment has a value that it cannot have.
    Variable {
        name: &'static str,
        value: Untrusted<String>,
        expected: &'static str,
    },
    NotText {
        name: &'static str,
    },
    BrokerName {
        name: &'static str,
        value: Untrusted<String>,
    },
    /// The kernel refuses connections from the addresses of clients.
    Transparent {
        variable: &'static str,
        error: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sctp => f.write_str(
                "protocol sctp is not supported by dockline-docker-proxy: \
                 publish it with Docker's own docker-proxy, or set \"userland-proxy\": false",
            ),
            Self::UnknownProtocol(name) => write!(f, "unsupported protocol {name}"),
            Self::ContainerPort(port) => write!(f, "container port {port}: must be between 1 and 65535"),
            Self::Bind(port, error) => write!(f, "listen {port}: bind: {}", Reason(error)),
            Self::NoListener(error) => write!(f, "listener fd {LISTENER}: {}", Reason(error)),
            Self::WrongListener { found } => write!(f, "unexpected socket type for listener fd: {found}"),
            Self::Forward(port, error) => write!(f, "cannot forward {port}: {}", Reason(error)),
            Self::Variable { name, value, expected } => write!(f, "{name}={value}: must be {expected}"),
            Self::NotText { name } => write!(f, "{name} is not valid UTF-8"),
            Self::BrokerName { name, value } => {
                write!(f, "{name}={value}: {NAME_RULE}")
            }
            Self::Transparent { variable, error } => write!(
                f,
                "client addresses cannot be preserved: {}: give dockerd CAP_NET_RAW, or unset {variable}",
                Reason(error)
            ),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Bind(_, error)
            | Self::NoListener(error)
            | Self::Forward(_, error)
            | Self::Transparent { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The kernel's reason as Go words it: `address already in use`.
struct Reason<'a>(&'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split_once(" (os error").map_or(text.as_str(), |(reason, _)| reason);
        let mut chars = text.chars();
        chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).try_for_each(|c| write!(f, "{c}"))
    }
}
