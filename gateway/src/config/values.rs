#![forbid(unsafe_code)]
//! Values that are written as text, on the command line and in the file alike.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use dockline::untrusted::{Untrusted, is_printable};
use log::LevelFilter;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::absolute_path::AbsolutePath;
use crate::access_log::{AccessLogTarget, LogFormat};
use crate::address::{ListenAddress, UpstreamAddress};
use crate::serve::guard::{AllowedHost, AllowedOrigin};
use crate::suggest;

/// Longest name of a listener or an upstream, in bytes.
const NAME_MAX: usize = 255;

/// A value in the file that is written as on the command line.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

/// What [`Text`] may hold.
pub(super) trait FromText: FromStr<Err = String> {
    /// What is expected, with its article.
    const WHAT: &'static str;
    /// Whether it may be written without quotes if it is a number.
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

/// What logs and metrics call a listener or an upstream.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(is_printable) {
            return Err(format!(
                "`{}` is no name; it has 1 to {NAME_MAX} bytes of printable characters",
                Untrusted::new(text)
            ));
        }
        Ok(Self(text))
    }
}

/// A duration: `30s`, `1m 30s`, `500ms`; `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl Time {
    /// `0` switches a limit off.
    pub(crate) fn or_off(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("`{text}` has no unit; write \"{text}s\" for seconds"));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| {
            let text = Untrusted::new(text);
            format!("`{text}` is not a duration; write as in \"30s\", \"10m\", \"1h\"")
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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

fn not_a_size(text: &str) -> String {
    format!("`{}` is not a size; write bytes, or as in \"64k\", \"10m\"", Untrusted::new(text))
}

impl FromText for Size {
    const WHAT: &'static str = "a size such as \"64k\"";
    const NUMBER: bool = true;
}

/// Where the access log goes; `None`: nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessTarget(pub(crate) Option<AccessLogTarget>);

impl FromStr for AccessTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("the file name is missing; `off` is for none, `-` for standard output".into()),
            "off" => Ok(Self(None)),
            "-" => Ok(Self(Some(AccessLogTarget::Stdout))),
            path => Ok(Self(Some(AccessLogTarget::File(AbsolutePath::new(path)?)))),
        }
    }
}

impl FromText for AccessTarget {
    const WHAT: &'static str = "\"off\", \"-\" or a file name";
}

/// Where the admin listener is; `None`: nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminAddress(pub(crate) Option<ListenAddress>);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address: ListenAddress = text.parse()?;
        match address {
            ListenAddress::Tcp { tls: true, .. } => Err("the admin listener does not speak TLS".into()),
            _ if address.is_public() => Err(format!(
                "{address} can be reached by others; the admin listener is for 127.0.0.1 or a Unix socket"
            )),
            _ => Ok(Self(Some(address))),
        }
    }
}

impl FromText for AdminAddress {
    const WHAT: &'static str = "\"off\" or an address such as \"unix:///run/dockline/admin.sock\"";
}

/// How much the own log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(pub(crate) LevelFilter);

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let hint = suggest::hint(text, ["off", "error", "warn", "info", "debug", "trace"]);
            let text = Untrusted::new(text);
            format!("`{text}` is not a level{hint}; there are off, error, warn, info, debug and trace")
        })
    }
}

impl FromText for Level {
    const WHAT: &'static str = "a level such as \"info\"";
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format(pub(crate) LogFormat);

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self(LogFormat::Text)),
            "json" => Ok(Self(LogFormat::Json)),
            _ => Err(format!("`{}` is not a log format; there are text and json", Untrusted::new(text))),
        }
    }
}

impl FromText for Format {
    const WHAT: &'static str = "\"text\" or \"json\"";
}

/// The name that `Via` gives to this hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViaName(pub(crate) String);

impl FromStr for ViaName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A token (RFC 9110, section 5.6.2), as `Via` wants of a pseudonym (section 7.6.3).
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !text.is_empty() && text.bytes().all(token) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{}` cannot be in Via; use letters, digits, `-`, `.` and `_`", Untrusted::new(text)))
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
        assert_eq!(time("30s"), Ok(Time(Duration::from_secs(30))));
        assert_eq!(time("500ms"), Ok(Time(Duration::from_millis(500))));
        assert_eq!(time("1m 30s"), Ok(Time(Duration::from_secs(90))));
        assert_eq!(time("0").unwrap().or_off(), None);
        assert_eq!(time("1h").unwrap().or_off(), Some(Duration::from_secs(3600)));
        assert!(time("30").unwrap_err().contains("\"30s\""));
        assert!(time("soon").unwrap_err().contains("is not a duration"));
        assert!(time("-1s").is_err() && time("").is_err());
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Size>();
        assert_eq!(size("512"), Ok(Size(512)));
        assert_eq!(size("64k"), Ok(Size(65_536)));
        assert_eq!(size("1 MiB"), Ok(Size(1 << 20)));
        assert_eq!(size("2G"), Ok(Size(2 << 30)));
        for bad in ["", "k", "1x", "-1", "1.5k", "99999999999g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn admin_is_for_this_machine() {
        let admin = |text: &str| text.parse::<AdminAddress>();
        assert_eq!(admin("off"), Ok(AdminAddress(None)));
        assert!(admin("tcp://127.0.0.1:9").is_ok() && admin("unix:///run/a").is_ok());
        assert!(admin("tcp://0.0.0.0:9").unwrap_err().contains("reached by others"));
        assert!(admin("tls://127.0.0.1:9").unwrap_err().contains("TLS"));
    }

    #[test]
    fn words() {
        assert!("inof".parse::<Level>().unwrap_err().contains("did you mean `info`?"));
        assert!("xml".parse::<Format>().is_err());
        assert!("a b".parse::<ViaName>().is_err() && "gw-1.example".parse::<ViaName>().is_ok());
        assert_eq!("off".parse(), Ok(AccessTarget(None)));
        assert_eq!("-".parse(), Ok(AccessTarget(Some(AccessLogTarget::Stdout))));
    }
}
