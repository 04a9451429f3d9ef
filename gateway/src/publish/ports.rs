#![forbid(unsafe_code)]
//! Ports in their text form: `8080:80`, `0.0.0.0:8080:80`, `[::1]:8000-8010:80-90/udp`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use dockline::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::suggest;

/// Most ports in one range. A UDP port has its own thread.
const RANGE_MAX: u16 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

impl Proto {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Proto {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Err(Problem::new("sctp is not supported").hint("the protocols are tcp and udp")),
            other => {
                let hint = suggest::hint(other, ["tcp", "udp"]);
                Err(Problem::new(format_args!("`{}` is not a protocol{hint}", Untrusted::new(other))))
            }
        }
    }
}

/// One argument: a port or a range of ports, and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSpec {
    /// The listen address; `None`: loopback.
    pub(crate) address: Option<IpAddr>,
    pub(crate) host: Range,
    /// The ports of the target; `None`: the same numbers.
    pub(crate) container: Option<Range>,
    /// `None`: that of `--proto`.
    pub(crate) proto: Option<Proto>,
}

/// Port numbers, including the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Range {
    fn len(self) -> u16 {
        self.last - self.first + 1
    }
}

impl FromStr for Range {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let port = |text: &str| {
            text.parse::<u16>().map_err(|_| {
                let text = Untrusted::new(text);
                Problem::new(format_args!(
                    "`{text}` is not a port (0 to 65535), nor a range such as 8000-8010"
                ))
            })
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if last < first {
            return Err(Problem::new(format_args!("the range {text} is reversed"))
                .hint(format_args!("write {last}-{first}")));
        }
        if first == 0 && last > 0 {
            return Err(Problem::new(format_args!(
                "the range {text} begins at 0, which stands for any free port"
            )));
        }
        if last - first >= RANGE_MAX {
            return Err(Problem::new(format_args!("the range {text} has more than {RANGE_MAX} ports"))
                .hint("publish it in parts"));
        }
        Ok(Self { first, last })
    }
}

impl FromStr for PortSpec {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (rest, proto) = match text.rsplit_once('/') {
            Some((rest, proto)) => (rest, Some(proto.parse()?)),
            None => (text, None),
        };
        let (address, numbers) = split_address(rest)?;
        let (host, container) = match numbers.split_once(':') {
            Some((host, container)) => (host, Some(container.parse::<Range>()?)),
            None => (numbers, None),
        };
        let host: Range = host.parse()?;
        if let Some(container) = container {
            if container.first == 0 {
                return Err(Problem::new("port 0 of the container cannot be connected to"));
            }
            if container.len() != host.len() {
                return Err(Problem::new(format_args!(
                    "the ranges have {} and {} ports",
                    host.len(),
                    container.len()
                ))
                .at(text));
            }
        } else if host.first == 0 {
            return Err(Problem::new("port 0 stands for any free port")
                .hint("add the port of the container, as in 0:80"));
        }
        Ok(Self { address, host, container, proto })
    }
}

/// Splits the address off, if there is one.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), Problem> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:").ok_or_else(|| {
            Problem::new("after the bracket of an IPv6 address, a colon and a port are expected")
        })?;
        let address: Ipv6Addr = address.parse().map_err(|_| {
            Problem::new(format_args!("`{}` is not an IPv6 address", Untrusted::new(address)))
        })?;
        return Ok((Some(address.into()), rest));
    }
    match text.split_once(':') {
        Some(("localhost", rest)) => Ok((None, rest)),
        Some((address, rest)) if address.contains('.') => {
            let address: Ipv4Addr = address.parse().map_err(|_| {
                Problem::new(format_args!("`{}` is not an IPv4 address", Untrusted::new(address)))
            })?;
            Ok((Some(address.into()), rest))
        }
        Some((_, rest)) if rest.matches(':').count() > 1 => {
            let text = Untrusted::new(text);
            Err(Problem::new("an IPv6 address needs brackets").at(text).hint("write as in [::1]:8080:80"))
        }
        _ => Ok((None, text)),
    }
}

/// One port of the host, and the port of the target that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapping {
    pub(crate) listen: SocketAddr,
    pub(crate) port: u16,
    pub(crate) proto: Proto,
    /// Whether the host may lack the address, because it was not given.
    #[serde(skip)]
    pub(crate) optional: bool,
}

impl PortSpec {
    /// Returns each port by itself, on both loopback addresses if none is given. `first` is the
    /// target's port for the first of them, unless the argument has one.
    pub(crate) fn mappings(&self, proto: Proto, first: Option<u16>) -> Result<Vec<Mapping>, Problem> {
        let addresses: &[(IpAddr, bool)] = match self.address {
            Some(address) => &[(address, false)],
            None => &[(IpAddr::V4(Ipv4Addr::LOCALHOST), false), (IpAddr::V6(Ipv6Addr::LOCALHOST), true)],
        };
        let container = match (self.container, first) {
            (Some(container), _) => container.first,
            (None, Some(first)) => first,
            (None, None) => self.host.first,
        };
        if container.checked_add(self.host.len() - 1).is_none() {
            let Range { first, last } = self.host;
            return Err(Problem::new(format_args!("the target of {first}-{last} would exceed port 65535")));
        }
        let numbers = (self.host.first..=self.host.last).zip(container..);
        Ok(numbers
            .flat_map(|(host, port)| {
                addresses.iter().map(move |&(address, optional)| Mapping {
                    listen: SocketAddr::new(address, host),
                    port,
                    proto: self.proto.unwrap_or(proto),
                    optional,
                })
            })
            .collect())
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.listen, self.proto.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mappings(text: &str) -> Vec<String> {
        let spec: PortSpec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let all = spec.mappings(Proto::Tcp, None).unwrap();
        all.iter().map(|mapping| format!("{mapping} {}", mapping.port)).collect()
    }

    #[test]
    fn loopback_unless_an_address_is_named() {
        assert_eq!(mappings("8080:80"), ["127.0.0.1:8080/tcp 80", "[::1]:8080/tcp 80"]);
        assert_eq!(mappings("localhost:80"), ["127.0.0.1:80/tcp 80", "[::1]:80/tcp 80"]);
        assert_eq!(mappings("0.0.0.0:8080:80"), ["0.0.0.0:8080/tcp 80"]);
        assert_eq!(mappings("192.0.2.1:53/udp"), ["192.0.2.1:53/udp 53"]);
        assert_eq!(mappings("[::]:0:80"), ["[::]:0/tcp 80"]);
    }

    #[test]
    fn ranges() {
        assert_eq!(mappings("0.0.0.0:8000-8001:80-81"), ["0.0.0.0:8000/tcp 80", "0.0.0.0:8001/tcp 81"]);
        assert_eq!(mappings("0.0.0.0:8000-8001"), ["0.0.0.0:8000/tcp 8000", "0.0.0.0:8001/tcp 8001"]);
        let spec: PortSpec = "0.0.0.0:8000-8001".parse().unwrap();
        let to: Vec<u16> = spec.mappings(Proto::Tcp, Some(90)).unwrap().iter().map(|all| all.port).collect();
        assert_eq!(to, [90, 91]);
        assert!(spec.mappings(Proto::Tcp, Some(65535)).is_err());
    }

    #[test]
    fn problems_are_described() {
        for (text, words) in [
            ("http", "not a port"),
            ("8080:", "not a port"),
            ("70000", "not a port"),
            ("8010-8000", "reversed"),
            ("0-5", "any free port"),
            ("0", "as in 0:80"),
            ("80:0", "port 0 of the container"),
            ("1000-2000", "in parts"),
            ("8000-8001:80", "2 and 1 ports"),
            ("::1:8080:80", "brackets"),
            ("[1.2.3.4]:80:80", "not an IPv6"),
            ("1.2.3:80", "not an IPv4"),
            ("80/sctp", "the protocols are tcp and udp"),
            ("80/tpc", "did you mean `tcp`"),
        ] {
            let said = text.parse::<PortSpec>().expect_err(text).to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
