#![forbid(unsafe_code)]
//! Options that the original does not have. They come from the environment, because dockerd passes
//! no flags but its own.

use std::env;

use dockline::proxy::ProxyProtocol;
use dockline::untrusted::Untrusted;

use crate::broker;
use crate::error::Error;

/// The name of the broker to hand TCP ports to.
const BROKER: &str = "DOCKLINE_PROXY_BROKER";

/// The PROXY protocol for containers: `v1` or `v2`, for all TCP ports or, as in `v2:80,443`, for
/// some.
const PROXY_PROTOCOL: &str = "DOCKLINE_PROXY_PROTOCOL";

/// `1`: containers see the addresses of their clients.
const TRANSPARENT: &str = "DOCKLINE_PROXY_TRANSPARENT";

/// Options of this process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) broker: Option<String>,
    pub(crate) transparent: bool,
    proxy_protocol: Option<(ProxyProtocol, Ports)>,
}

/// The published ports that an option is for.
#[derive(Debug, PartialEq, Eq)]
enum Ports {
    All,
    These(Vec<u16>),
}

impl Options {
    /// Reads the environment. An empty variable counts as not set.
    pub(crate) fn from_env() -> Result<Self, Error> {
        let value = |name: &'static str| match env::var(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(Error::NotText { name }),
        };
        let protocol = |text: String| {
            proxy_protocol(&text).ok_or_else(|| Error::Variable {
                name: PROXY_PROTOCOL,
                value: Untrusted::new(text),
                expected: "v1 or v2, or as in v2:80,443 for some ports only",
            })
        };
        let transparent = match value(TRANSPARENT)?.as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(text) => {
                let value = Untrusted::new(text.to_owned());
                return Err(Error::Variable { name: TRANSPARENT, value, expected: "1 or 0" });
            }
        };
        if transparent && let Err(error) = dockline_sys::may_choose_source() {
            return Err(Error::Transparent { variable: TRANSPARENT, error });
        }
        let broker = value(BROKER)?;
        if let Some(name) = broker.as_deref().filter(|name| !broker::is_name(name)) {
            return Err(Error::BrokerName { name: BROKER, value: Untrusted::new(name.to_owned()) });
        }
        Ok(Self { transparent, broker, proxy_protocol: value(PROXY_PROTOCOL)?.map(protocol).transpose()? })
    }

    /// Returns the PROXY protocol for the container behind a published port, if any.
    pub(crate) fn proxy_protocol(&self, port: i64) -> Option<ProxyProtocol> {
        self.proxy_protocol.as_ref().and_then(|(version, ports)| match ports {
            Ports::All => Some(*version),
            Ports::These(ports) => ports.iter().any(|one| i64::from(*one) == port).then_some(*version),
        })
    }
}

fn proxy_protocol(text: &str) -> Option<(ProxyProtocol, Ports)> {
    let (version, ports) = match text.split_once(':') {
        None => (text, Ports::All),
        Some((version, list)) => {
            let ports = list.split(',').map(|port| port.parse().ok()).collect::<Option<_>>()?;
            (version, Ports::These(ports))
        }
    };
    match version {
        "v1" => Some((ProxyProtocol::V1, ports)),
        "v2" => Some((ProxyProtocol::V2, ports)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_protocol_for_all_ports_or_some() {
        for (text, wanted) in [
            ("v1", Some([Some(ProxyProtocol::V1), Some(ProxyProtocol::V1)])),
            ("v2", Some([Some(ProxyProtocol::V2), Some(ProxyProtocol::V2)])),
            ("v2:80", Some([Some(ProxyProtocol::V2), None])),
            ("v1:8080,443", Some([None, Some(ProxyProtocol::V1)])),
            ("", None),
            ("v3", None),
            ("v2:", None),
            ("v2:80,", None),
            ("v2:http", None),
            ("v2:70000", None),
            ("1", None),
        ] {
            let options = proxy_protocol(text).map(|parsed| Options {
                broker: None,
                transparent: false,
                proxy_protocol: Some(parsed),
            });
            assert_eq!(options.map(|all| [80, 443].map(|port| all.proxy_protocol(port))), wanted, "{text}");
        }
    }
}
