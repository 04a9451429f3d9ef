#![forbid(unsafe_code)]
//! Values with the same text form on the command line and in the file.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use dockline::proxy::{ProxyProtocol, TrustedPeer, TrustedPeers};
use dockline::untrusted::{Untrusted, is_printable};
use log::LevelFilter;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::absolute_path::AbsolutePath;
use crate::access_log::{AccessLogTarget, LogFormat};
use crate::address::{ListenAddress, UpstreamAddress};
use crate::problem::Problem;
use crate::serve::guard::{AllowedHost, AllowedOrigin};
use crate::suggest;

/// Longest name of a listener or an upstream, in bytes.
const NAME_MAX: usize = 255;

/// A value in the file in its form on the command line.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

/// What [`Text`] may hold.
pub(super) trait FromText: FromStr<Err = Problem> {
    /// What is expected, with an article.
    const WHAT: &'static str;
    /// Whether a number needs no quotes.
    const NUMBER: bool = false;
}

impl FromText for ListenAddress {
    const WHAT: &'static str = "an address such as \"unix:///run/dockline/docker.sock\"";
}

impl FromText for UpstreamAddress {
    const WHAT: &'static str = "an address such as \"unix:///var/run/docker.sock\"";
}

impl FromText for AllowedHost {
    const WHAT: &'static str = "a host name such as \"gateway.example\"";
}

impl FromText for AllowedOrigin {
    const WHAT: &'static str = "an origin such as \"https://ui.example\"";
}

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<T: FromText> Visitor<'_> for Reader<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WHAT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
                text.parse().map(Text).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text<T>, E> {
                if T::NUMBER {
                    self.visit_str(&number.to_string())
                } else {
                    Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self))
                }
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

/// The version of the PROXY protocol that an upstream expects.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderVersion(pub(super) ProxyProtocol);

impl FromStr for HeaderVersion {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "v1" => Ok(Self(ProxyProtocol::V1)),
            "v2" => Ok(Self(ProxyProtocol::V2)),
            _ => Err(Problem::new(format_args!(
                "`{}` is not a version of the PROXY protocol",
                Untrusted::new(text)
            ))
            .hint("write \"v1\" for the line of text, or \"v2\" for the binary header")),
        }
    }
}

impl FromText for HeaderVersion {
    const WHAT: &'static str = "\"v1\" or \"v2\"";
}

/// The trusted proxies among the clients of a listener: all, none, or a list.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted(pub(super) TrustedPeers);

/// A member of that list.
struct TrustedMember(TrustedPeer);

impl FromStr for TrustedMember {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        text.parse().map(Self).map_err(|_| {
            Problem::new(format_args!("`{}` is neither an address nor a network", Untrusted::new(text)))
                .hint("write \"10.0.0.0/8\" or \"2001:db8::7\"; \"unix\" stands for clients on Unix sockets")
        })
    }
}

impl FromText for TrustedMember {
    const WHAT: &'static str = "a network such as \"10.0.0.0/8\", or \"unix\"";
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Trusted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a list such as [\"10.0.0.0/8\", \"unix\"]")
            }

            fn visit_bool<E: Error>(self, all: bool) -> Result<Trusted, E> {
                Ok(Trusted(if all { TrustedPeers::All } else { TrustedPeers::default() }))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Trusted, A::Error> {
                let mut all = Vec::new();
                while let Some(Text(TrustedMember(peer))) = list.next_element()? {
                    all.push(peer);
                }
                Ok(Trusted(TrustedPeers::Listed(all)))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// The name of a listener or an upstream in logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(is_printable) {
            let text = Untrusted::new(text);
            return Err(Problem::new(format_args!("`{text}` is not a valid name"))
                .hint(format_args!("use 1 to {NAME_MAX} bytes of printable characters")));
        }
        Ok(Self(text))
    }
}

/// A duration: `30s`, `1m 30s`, `500ms`; `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    /// Returns the duration; `None` for `0`, which switches a limit off.
    pub(crate) fn or_off(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl FromStr for Time {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Problem::new(format_args!("`{text}` has no unit"))
                .hint(format_args!("write \"{text}s\" for seconds")));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| {
            let text = Untrusted::new(text);
            Problem::new(format_args!("`{text}` is not a duration"))
                .hint("write it as in \"30s\", \"10m\" or \"1h\"")
        })
    }
}

impl FromText for Time {
    const WHAT: &'static str = "a duration such as \"30s\"";
    const NUMBER: bool = true;
}

/// A number of bytes: `512`, `64k`, `10m`, `1g`, in steps of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(not_a_size(text)),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| not_a_size(text))
    }
}

fn not_a_size(text: &str) -> Problem {
    Problem::new(format_args!("`{}` is not a size", Untrusted::new(text)))
        .hint("write a number of bytes, or as in \"64k\" or \"10m\"")
}

impl FromText for Size {
    const WHAT: &'static str = "a size such as \"64k\"";
    const NUMBER: bool = true;
}

/// Where the access log goes; `None`: off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessTarget(pub(crate) Option<AccessLogTarget>);

impl FromStr for AccessTarget {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "" => Err(Problem::new("the file name is missing")
                .hint("`off` disables the access log, `-` is standard output")),
            "off" => Ok(Self(None)),
            "-" => Ok(Self(Some(AccessLogTarget::Stdout))),
            path => Ok(Self(Some(AccessLogTarget::File(AbsolutePath::new(path)?)))),
        }
    }
}

impl FromText for AccessTarget {
    const WHAT: &'static str = "\"off\", \"-\" or a file name";
}

/// Where the admin listener is; `None`: off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminAddress(pub(crate) Option<ListenAddress>);

impl FromStr for AdminAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address: ListenAddress = text.parse()?;
        match address {
            ListenAddress::Tcp { tls: true, .. } => {
                Err(Problem::new("the admin listener does not speak TLS"))
            }
            _ if address.is_public() => {
                Err(Problem::new(format_args!("{address} can be reached by other machines"))
                    .hint("use 127.0.0.1 or a Unix socket for the admin listener"))
            }
            _ => Ok(Self(Some(address))),
        }
    }
}

impl FromText for AdminAddress {
    const WHAT: &'static str = "\"off\" or an address such as \"unix:///run/dockline/admin.sock\"";
}

/// The level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(pub(crate) LevelFilter);

impl FromStr for Level {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        text.parse().map(Self).map_err(|_| {
            let hint = suggest::hint(text, ["off", "error", "warn", "info", "debug", "trace"]);
            let text = Untrusted::new(text);
            Problem::new(format_args!("`{text}` is not a log level{hint}"))
                .hint("the levels are off, error, warn, info, debug and trace")
        })
    }
}

impl FromText for Level {
    const WHAT: &'static str = "a level such as \"info\"";
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format(pub(crate) LogFormat);

impl FromStr for Format {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "text" => Ok(Self(LogFormat::Text)),
            "json" => Ok(Self(LogFormat::Json)),
            _ => Err(Problem::new(format_args!("`{}` is not a log format", Untrusted::new(text)))
                .hint("the formats are text and json")),
        }
    }
}

impl FromText for Format {
    const WHAT: &'static str = "\"text\" or \"json\"";
}

/// The pseudonym of this hop in `Via`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViaName(pub(crate) String);

impl FromStr for ViaName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        // A pseudonym in `Via` is a token (RFC 9110, sections 5.6.2 and 7.6.3).
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !text.is_empty() && text.bytes().all(token) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Problem::new(format_args!("`{}` is not valid in Via", Untrusted::new(text)))
                .hint("use letters, digits, `-`, `.` and `_`"))
        }
    }
}

impl FromText for ViaName {
    const WHAT: &'static str = "a name such as \"dockline\"";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let time = |text: &str| text.parse::<Time>();
        assert_eq!(time("30s").unwrap(), Time(Duration::from_secs(30)));
        assert_eq!(time("500ms").unwrap(), Time(Duration::from_millis(500)));
        assert_eq!(time("1m 30s").unwrap(), Time(Duration::from_secs(90)));
        assert_eq!(time("0").unwrap().or_off(), None);
        assert_eq!(time("1h").unwrap().or_off(), Some(Duration::from_secs(3600)));
        assert!(time("30").unwrap_err().to_string().contains("\"30s\""));
        assert!(time("soon").unwrap_err().to_string().contains("is not a duration"));
        assert!(time("-1s").is_err() && time("").is_err());
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Size>();
        assert_eq!(size("512").unwrap(), Size(512));
        assert_eq!(size("64k").unwrap(), Size(65_536));
        assert_eq!(size("1 MiB").unwrap(), Size(1 << 20));
        assert_eq!(size("2G").unwrap(), Size(2 << 30));
        for bad in ["", "k", "1x", "-1", "1.5k", "99999999999g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn admin_is_for_this_machine() {
        let admin = |text: &str| text.parse::<AdminAddress>();
        assert_eq!(admin("off").unwrap(), AdminAddress(None));
        assert!(admin("tcp://127.0.0.1:9").is_ok() && admin("unix:///run/a").is_ok());
        assert!(admin("tcp://0.0.0.0:9").unwrap_err().to_string().contains("reached by other machines"));
        assert!(admin("tls://127.0.0.1:9").unwrap_err().to_string().contains("TLS"));
    }

    #[test]
    fn words() {
        assert!("inof".parse::<Level>().unwrap_err().to_string().contains("did you mean `info`?"));
        assert!("xml".parse::<Format>().is_err());
        assert!("a b".parse::<ViaName>().is_err() && "gw-1.example".parse::<ViaName>().is_ok());
        assert_eq!("off".parse::<AccessTarget>().unwrap(), AccessTarget(None));
        assert_eq!("-".parse::<AccessTarget>().unwrap(), AccessTarget(Some(AccessLogTarget::Stdout)));
    }
}
