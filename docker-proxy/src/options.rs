#![forbid(unsafe_code)]
//! What is beyond the original, asked for through the environment: dockerd passes no flags but its own.

use std::env;

/// The name of the broker to hand TCP ports to.
const BROKER: &str = "DOCKLINE_PROXY_BROKER";

/// Options of this process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) broker: Option<String>,
}

impl Options {
    /// Reads the environment; an empty variable counts as none.
    pub(crate) fn from_env() -> Result<Self, String> {
        let value = |name: &str| match env::var(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not text")),
        };
        Ok(Self { broker: value(BROKER)? })
    }
}
