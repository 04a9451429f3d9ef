#![forbid(unsafe_code)]
//! [`Inspect`]: what is read of `GET /containers/{id}/json`.
//!
//! All but the id may be missing or null: versions differ, and so do other engines that offer the
//! API of Docker.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

/// See the [module](self).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspect {
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) created: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) state: State,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) config: Config,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) host_config: HostConfig,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) network_settings: NetworkSettings,
    /// Only from a manager of classic Swarm.
    #[serde(default)]
    pub(super) node: Option<SwarmNode>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    #[serde(deserialize_with = "or_default")]
    pub(super) running: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) paused: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) restarting: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) started_at: String,
    pub(super) health: Option<Health>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Health {
    #[serde(deserialize_with = "or_default")]
    pub(super) status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    #[serde(deserialize_with = "or_default")]
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
    /// By `80/tcp`.
    #[serde(deserialize_with = "or_default")]
    pub(super) exposed_ports: BTreeMap<String, Empty>,
}

/// What the daemon writes as `{}`, or as null.
#[derive(Debug, Default)]
pub(super) struct Empty;

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    #[serde(deserialize_with = "or_default")]
    pub(super) network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkSettings {
    /// By `80/tcp`; none or null if the port is exposed and not published.
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: BTreeMap<String, Option<Vec<Published>>>,
    /// By name.
    #[serde(deserialize_with = "or_default")]
    pub(super) networks: BTreeMap<String, Option<Endpoint>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Published {
    #[serde(deserialize_with = "or_default")]
    pub(super) host_ip: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) host_port: String,
}

/// A container's end of a network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    #[serde(rename = "NetworkID", deserialize_with = "or_default")]
    pub(super) network: String,
    #[serde(rename = "Gateway", deserialize_with = "or_default")]
    gateway: String,
    #[serde(rename = "IPAddress", deserialize_with = "or_default")]
    ip: String,
    #[serde(rename = "IPPrefixLen", deserialize_with = "or_default")]
    bits: u8,
    #[serde(rename = "IPv6Gateway", deserialize_with = "or_default")]
    gateway6: String,
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "or_default")]
    ip6: String,
    #[serde(rename = "GlobalIPv6PrefixLen", deserialize_with = "or_default")]
    bits6: u8,
    #[serde(rename = "GwPriority", deserialize_with = "or_default")]
    pub(super) priority: i64,
}

/// An address of an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) ip: IpAddr,
    /// Bits of the prefix of its network.
    pub(super) bits: u8,
    /// The router of its network, if it has one.
    pub(super) gateway: Option<IpAddr>,
}

impl Endpoint {
    /// Returns an endpoint with these addresses, each with the bits of the prefix of its network.
    pub(super) fn new(network: String, addresses: impl Iterator<Item = (IpAddr, u8)>) -> Self {
        let mut endpoint = Self { network, ..Self::default() };
        for (ip, prefix) in addresses {
            let (text, bits) = match ip {
                IpAddr::V4(_) => (&mut endpoint.ip, &mut endpoint.bits),
                IpAddr::V6(_) => (&mut endpoint.ip6, &mut endpoint.bits6),
            };
            (*text, *bits) = (ip.to_string(), prefix);
        }
        endpoint
    }

    /// Returns its address: of IPv4 if it has one, otherwise of IPv6; `None` while it has none.
    pub(super) fn interface(&self) -> Option<Interface> {
        let of = |ip: &str, bits, gateway: &str| {
            Some(Interface { ip: ip.parse().ok()?, bits, gateway: gateway.parse().ok() })
        };
        of(&self.ip, self.bits, &self.gateway).or_else(|| of(&self.ip6, self.bits6, &self.gateway6))
    }
}

/// Where a container of classic Swarm is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SwarmNode {
    #[serde(rename = "Name", deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(rename = "IP", deserialize_with = "or_default")]
    pub(super) ip: String,
}

/// Reads null as the default.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Inspect {
    /// Returns the value of a variable of the environment.
    pub(super) fn env(&self, name: &str) -> Option<&str> {
        let value = |text: &'_ str| -> Option<usize> {
            let (found, value) = text.split_once('=')?;
            (found == name).then_some(text.len() - value.len())
        };
        self.config.env.iter().find_map(|text| value(text).map(|start| &text[start..]))
    }

    /// Returns the value of a label; `None` if it is empty or missing.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.config.labels.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the TCP ports that the image or the container exposes, ascending.
    pub(super) fn exposed(&self) -> Vec<u16> {
        let names = self.config.exposed_ports.keys().chain(self.network_settings.ports.keys());
        let mut ports: Vec<u16> = names.filter_map(|name| name.strip_suffix("/tcp")?.parse().ok()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// Returns the nanoseconds since 1970 of a time such as `2024-02-29T12:00:00.123456789Z` (RFC
/// 3339); `None` if it is no such time, or before 1970 as Docker's "never".
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = if digits > 0 { rest[1..].split_at(digits) } else { ("", rest) };
    let fraction = format!("{:0<9.9}", fraction).parse::<u64>().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let start = text.len() - zone.len();
            let minutes = number(start + 1..start + 3)? * 60 + number(start + 4..start + 6)?;
            match zone.as_bytes() {
                [b'+', _, _, b':', _, _] => minutes,
                [b'-', _, _, b':', _, _] => -minutes,
                _ => return None,
            }
        }
    };
    // Days since 1970, with years that begin in March (Howard Hinnant, "chrono-Compatible Low-Level
    // Date Algorithms").
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1 - 719_468;
    let seconds = u64::try_from(((days * 24 + hour) * 60 + minute - offset) * 60 + second).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nanoseconds_since_1970() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00.000000001Z", Some(1)),
            ("2024-02-29T12:00:00.5Z", Some(1_709_208_000_500_000_000)),
            ("2024-03-01T00:00:00Z", Some(1_709_251_200_000_000_000)),
            ("2024-02-29T14:00:00.123456789+02:00", Some(1_709_208_000_123_456_789)),
            ("2024-02-29T11:30:00.1234567891-00:30", Some(1_709_208_000_123_456_789)),
            ("2000-12-31T23:59:59Z", Some(978_307_199_000_000_000)),
            ("0001-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("", None),
            ("2024-02-29", None),
            ("2024-02-29T12:00:00", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-02-29T12:00:00.Z", None),
            ("2024-02-29T12:00:00+0200", None),
            ("2024-02-29T12:00:00+é2:00", None),
            ("+024-02-29T12:00:00Z", None),
        ] {
            assert_eq!(nanoseconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn all_but_the_id_may_be_missing_or_null() {
        for text in [
            r#"{"Id":"a"}"#,
            r#"{"Id":"a","Name":null,"Created":null,"State":null,"Config":null,"HostConfig":null,"NetworkSettings":null,"Node":null}"#,
            r#"{"Id":"a","State":{"Running":null,"Health":null},"Config":{"Env":null,"Labels":null,"ExposedPorts":null},
                "HostConfig":{"NetworkMode":null},"NetworkSettings":{"Ports":null,"Networks":null},"Node":{"Name":null}}"#,
            r#"{"Id":"a","State":{"Health":{"Status":null}},"Config":{"ExposedPorts":{"x":null}},
                "NetworkSettings":{"Ports":{"80/tcp":null},"Networks":{"a":null,"b":{"IPAddress":null,"GwPriority":null}}}}"#,
        ] {
            let inspect: Inspect = serde_json::from_str(text).unwrap();
            assert_eq!(inspect.id, "a");
        }
        assert!(serde_json::from_str::<Inspect>("{}").is_err());
    }

    #[test]
    fn a_variable_has_exactly_its_name_and_all_text_behind_the_first_equals_sign() {
        let inspect: Inspect = serde_json::from_str(
            r#"{"Id":"a","Config":{"Env":["XNAME=1","NAME_=2","name=3","NAME","NAME=a=b","NAME=c"]}}"#,
        )
        .unwrap();
        assert_eq!(inspect.env("NAME"), Some("a=b"));
        assert_eq!(inspect.env("NAM"), None);
    }
}
