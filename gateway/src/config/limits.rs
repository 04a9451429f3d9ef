#![forbid(unsafe_code)]
//! The table `[limits]`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use dockline::limits::Limits;
use serde::Deserialize;

use super::values::{FromText, Size, Text, Time};
use crate::problem::Problem;

/// Returns the default limits. Two differ from the library's: `docker build` puts its arguments
/// into the query, and the credentials of every registry into one field.
pub(crate) fn defaults() -> Limits {
    let mut limits = Limits::default();
    limits.request_head = 256 * 1024;
    limits.request_line = 192 * 1024;
    limits
}

/// A duration that cannot be switched off.
#[derive(Clone, Copy, Debug)]
struct Wait(Duration);

impl FromStr for Wait {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let Time(time) = text.parse()?;
        if time.is_zero() { Err(Problem::new("this limit cannot be switched off")) } else { Ok(Self(time)) }
    }
}

impl FromText for Wait {
    const WHAT: &'static str = Time::WHAT;
    const NUMBER: bool = true;
}

/// A size with a lower bound.
#[derive(Clone, Copy, Debug)]
struct Room(u64);

impl FromStr for Room {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        const LEAST: u64 = 1024;
        let Size(size) = text.parse()?;
        if size < LEAST {
            return Err(Problem::new(
                "this limit must be at least 1k: with less, ordinary messages would be refused",
            ));
        }
        Ok(Self(size))
    }
}

impl FromText for Room {
    const WHAT: &'static str = Size::WHAT;
    const NUMBER: bool = true;
}

impl From<Text<Room>> for u64 {
    fn from(Text(Room(size)): Text<Room>) -> Self {
        size
    }
}

impl From<Text<Room>> for usize {
    fn from(Text(Room(size)): Text<Room>) -> Self {
        Self::try_from(size).unwrap_or(Self::MAX)
    }
}

impl From<Text<Wait>> for Duration {
    fn from(Text(Wait(time)): Text<Wait>) -> Self {
        time
    }
}

impl From<Text<Time>> for Option<Duration> {
    fn from(Text(time): Text<Time>) -> Self {
        time.or_off()
    }
}

impl From<Text<Size>> for u64 {
    fn from(Text(Size(size)): Text<Size>) -> Self {
        size
    }
}

impl From<Text<Size>> for usize {
    fn from(Text(Size(size)): Text<Size>) -> Self {
        Self::try_from(size).unwrap_or(Self::MAX)
    }
}

/// Makes the table from the fields of [`Limits`] and the types that parse them.
macro_rules! limits_table {
    ($($name:ident: $written:ty),* $(,)?) => {
        /// The limits of the file.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct LimitsTable {
            $($name: Option<$written>,)*
        }

        impl LimitsTable {
            /// Overwrites `limits` with what the file sets.
            pub(super) fn apply(self, limits: &mut Limits) {
                $(if let Some(written) = self.$name {
                    limits.$name = written.into();
                })*
            }
        }
    };
}

limits_table! {
    request_head: Text<Room>,
    request_line: Text<Room>,
    response_head: Text<Room>,
    fields: NonZeroUsize,
    chunk_extension: Text<Size>,
    chunk_extensions: Text<Size>,
    chunk_overhead_free: Text<Room>,
    chunk_overhead_ratio: u64,
    trailer: Text<Room>,
    trailer_fields: usize,
    interim_responses: u32,
    held: Text<Size>,
    requests: NonZeroU32,
    head_time: Text<Wait>,
    body_progress: Text<Wait>,
    response_time: Text<Time>,
    stream_idle: Text<Time>,
    keep_alive: Text<Wait>,
    closing_time: Text<Wait>,
    connect_time: Text<Wait>,
    handshake_time: Text<Wait>,
    pool_time: Text<Wait>,
    pool_size: usize,
    tunnel_idle: Text<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Limits, toml::de::Error> {
        let mut limits = defaults();
        toml::from_str::<LimitsTable>(text)?.apply(&mut limits);
        Ok(limits)
    }

    /// A limit that is added to the library needs its line here.
    #[test]
    fn every_limit_has_its_key() {
        let shown = format!("{:?}", Limits::default());
        let (_, inside) = shown.split_once("{ ").unwrap();
        let keys = inside.split(", ").map(|field| field.split_once(':').unwrap().0);
        for key in keys {
            let known = ["7777", "\"7s\""].iter().any(|value| read(&format!("{key} = {value}")).is_ok());
            assert!(known, "{key}");
        }
    }

    #[test]
    fn values_land_where_they_belong() {
        let limits =
            read("request_line = \"1k\"\nhead_time = \"3s\"\ntunnel_idle = \"1h\"\nrequests = 5").unwrap();
        assert_eq!((limits.request_line, limits.requests), (1024, 5));
        assert_eq!(limits.head_time, Duration::from_secs(3));
        assert_eq!(limits.tunnel_idle, Some(Duration::from_secs(3600)));
        assert_eq!(read("tunnel_idle = \"0\"").unwrap().tunnel_idle, None);
        assert_eq!(read("").unwrap().request_head, 262_144);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |text: &str| read(text).unwrap_err().message().to_owned();
        assert!(refused("head_time = 0").contains("cannot be switched off"));
        assert!(refused("head_time = 30").contains("\"30s\""));
        assert!(refused("head_time = true").contains("a duration such as"));
        assert!(refused("held = \"much\"").contains("is not a size"));
        assert!(refused("fields = 0").contains("nonzero"));
        for key in ["request_head", "request_line", "response_head", "chunk_overhead_free", "trailer"] {
            for size in ["0", "1", "1023"] {
                assert!(refused(&format!("{key} = {size}")).contains("at least 1k"), "{key} = {size}");
            }
            for size in ["1024", "1025", "9223372036854775807", "\"8g\""] {
                assert!(read(&format!("{key} = {size}")).is_ok(), "{key} = {size}");
            }
        }
    }
}
