#![forbid(unsafe_code)]
//! The command line of docker-proxy, with the rules of Go's flag package: one dash or two, `-flag
//! value` or `-flag=value`, the last one wins, and everything from the first word that is not a
//! flag is ignored.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dockline::untrusted::Untrusted;

use crate::number::{NotAnInteger, parse_int};

/// The flags, as Go prints them.
const USAGE: &str = "  -container-ip value
    \tcontainer ip (default 0.0.0.0)
  -container-port int
    \tcontainer port (default -1)
  -host-ip value
    \thost ip (default 0.0.0.0)
  -host-port int
    \thost port (default -1)
  -proto string
    \tproxy protocol (default \"tcp\")
  -use-listen-fd
    \tuse a supplied listen fd
  -v\tprint version information and quit
  -version
    \tprint version information and quit
";

/// The flags that dockerd passes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) proto: String,
    pub(crate) host_ip: IpAddr,
    pub(crate) host_port: i64,
    pub(crate) container_ip: IpAddr,
    pub(crate) container_port: i64,
    pub(crate) use_listen_fd: bool,
}

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Run(Args),
    Version,
    /// The usage, on request: exit status 0.
    Help(String),
    /// An error and the usage: exit status 2.
    Mistake(String),
}

/// Why parsing stops at a flag.
enum Stop {
    Help,
    Mistake(Mistake),
}

/// An error in the command line, in the words of Go's flag package.
enum Mistake {
    Syntax(Untrusted<String>),
    NoArgument(Untrusted<String>),
    UnknownFlag(Untrusted<String>),
    Address { flag: &'static str, value: String },
    Integer { flag: &'static str, value: String, error: NotAnInteger },
    Boolean { flag: &'static str, value: String },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(word) => write!(f, "bad flag syntax: {word}"),
            Self::NoArgument(flag) => write!(f, "flag needs an argument: -{flag}"),
            Self::UnknownFlag(flag) => write!(f, "flag provided but not defined: -{flag}"),
            Self::Address { flag, value } => write!(
                f,
                "invalid value {value:?} for flag -{flag}: invalid IP address: {}",
                Untrusted::new(value)
            ),
            Self::Integer { flag, value, error } => {
                write!(f, "invalid value {value:?} for flag -{flag}: {error}")
            }
            Self::Boolean { flag, value } => {
                write!(f, "invalid boolean value {value:?} for -{flag}: parse error")
            }
        }
    }
}

impl From<Mistake> for Stop {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(mistake)
    }
}

/// Parses the words of a command line, the name of the program first.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Parsed {
    let mut words = words.into_iter();
    let program = Untrusted::new(words.next().unwrap_or_else(|| "docker-proxy".to_owned()));
    let mut args = Args {
        proto: "tcp".to_owned(),
        host_ip: Ipv4Addr::UNSPECIFIED.into(),
        host_port: -1,
        container_ip: Ipv4Addr::UNSPECIFIED.into(),
        container_port: -1,
        use_listen_fd: false,
    };
    let mut version = false;
    while let Some(word) = words.next() {
        match args.take(&word, &mut words, &mut version) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Stop::Help) => return Parsed::Help(format!("Usage of {program}:\n{USAGE}")),
            Err(Stop::Mistake(mistake)) => {
                return Parsed::Mistake(format!("{mistake}\nUsage of {program}:\n{USAGE}"));
            }
        }
    }
    if version { Parsed::Version } else { Parsed::Run(args) }
}

impl Args {
    /// Takes one flag, with its value from `rest` if that is the next word. Returns `false` at the
    /// first word that is not a flag.
    fn take(
        &mut self,
        word: &str,
        rest: &mut impl Iterator<Item = String>,
        version: &mut bool,
    ) -> Result<bool, Stop> {
        let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty() && *flag != "-") else {
            return Ok(false);
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.starts_with(['-', '=']) {
            return Err(Mistake::Syntax(Untrusted::new(word.to_owned())).into());
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let mut argument = || {
            value
                .clone()
                .or_else(|| rest.next())
                .ok_or_else(|| Mistake::NoArgument(Untrusted::new(name.to_owned())))
        };
        match name {
            "proto" => self.proto = argument()?,
            "host-ip" => self.host_ip = ip("host-ip", &argument()?)?,
            "host-port" => self.host_port = int("host-port", &argument()?)?,
            "container-ip" => self.container_ip = ip("container-ip", &argument()?)?,
            "container-port" => self.container_port = int("container-port", &argument()?)?,
            "use-listen-fd" => self.use_listen_fd = boolean("use-listen-fd", value.as_deref())?,
            "v" => *version = boolean("v", value.as_deref())?,
            "version" => *version = boolean("version", value.as_deref())?,
            "h" | "help" => return Err(Stop::Help),
            _ => return Err(Mistake::UnknownFlag(Untrusted::new(name.to_owned())).into()),
        }
        Ok(true)
    }
}

/// Parses an address without a zone. The empty one is Go's nil address, which listens on all of
/// IPv6.
fn ip(flag: &'static str, value: &str) -> Result<IpAddr, Mistake> {
    if value.is_empty() {
        return Ok(Ipv6Addr::UNSPECIFIED.into());
    }
    match value.parse::<IpAddr>() {
        // An IPv4 address in IPv6 form is an IPv4 address to Go.
        Ok(ip) => Ok(ip.to_canonical()),
        Err(_) => Err(Mistake::Address { flag, value: value.to_owned() }),
    }
}

fn int(flag: &'static str, value: &str) -> Result<i64, Mistake> {
    parse_int(value).map_err(|error| Mistake::Integer { flag, value: value.to_owned(), error })
}

fn boolean(flag: &'static str, value: Option<&str>) -> Result<bool, Mistake> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(Mistake::Boolean { flag, value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Parsed {
        let words = if line.is_empty() { Vec::new() } else { line.split(' ').map(str::to_owned).collect() };
        parse(std::iter::once("docker-proxy".to_owned()).chain(words))
    }

    fn args(line: &str) -> Args {
        match run(line) {
            Parsed::Run(args) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn first_line(line: &str) -> String {
        match run(line) {
            Parsed::Mistake(text) => text.lines().next().unwrap().to_owned(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_dockerd_writes() {
        let got = args(
            "-proto udp -host-ip :: -host-port 53 -container-ip 172.17.0.2 -container-port 5353 -use-listen-fd",
        );
        let wanted = Args {
            proto: "udp".to_owned(),
            host_ip: Ipv6Addr::UNSPECIFIED.into(),
            host_port: 53,
            container_ip: Ipv4Addr::new(172, 17, 0, 2).into(),
            container_port: 5353,
            use_listen_fd: true,
        };
        assert_eq!(got, wanted);
    }

    #[test]
    fn dashes_equals_signs_and_repetition() {
        assert_eq!(args("--host-port=80").host_port, 80);
        assert_eq!(args("-host-port 1 --host-port 2").host_port, 2);
        assert_eq!(args("-proto -v").proto, "-v");
        assert_eq!(args("-proto=a=b").proto, "a=b");
        assert!(!args("-use-listen-fd=F").use_listen_fd);
        assert_eq!(args("-host-ip ::ffff:127.0.0.1").host_ip, IpAddr::from([127, 0, 0, 1]));
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        for line in ["word -host-port 80", "- -host-port 80", "-- -host-port 80", ""] {
            assert_eq!(args(line).host_port, -1, "{line}");
        }
    }

    #[test]
    fn mistakes_in_the_words_of_go() {
        for (line, wanted) in [
            ("-x", "flag provided but not defined: -x"),
            ("---x", "bad flag syntax: ---x"),
            ("-=x", "bad flag syntax: -=x"),
            ("-host-port", "flag needs an argument: -host-port"),
            ("-host-port abc", "invalid value \"abc\" for flag -host-port: parse error"),
            ("-host-port=", "invalid value \"\" for flag -host-port: parse error"),
            ("-host-ip x", "invalid value \"x\" for flag -host-ip: invalid IP address: x"),
            ("-use-listen-fd=maybe", "invalid boolean value \"maybe\" for -use-listen-fd: parse error"),
            ("-v -x", "flag provided but not defined: -x"),
        ] {
            assert_eq!(first_line(line), wanted);
        }
    }

    #[test]
    fn version_and_help() {
        assert_eq!(run("-v"), Parsed::Version);
        assert_eq!(run("--version=true"), Parsed::Version);
        assert!(
            matches!(run("-h"), Parsed::Help(text) if text.starts_with("Usage of docker-proxy:\n  -container-ip"))
        );
        assert!(matches!(run("--help"), Parsed::Help(_)));
    }
}
