#![forbid(unsafe_code)]
//! `redis` of `[router]`: the registry that other machines write their routes into.

use std::fmt;
use std::str::FromStr;

use dockline::untrusted::Untrusted;
use dockline_discovery::registry::redis::Address;
use serde::Deserialize;
use toml::Spanned;

use super::router::Entry;
use super::source::Source;
use super::values::{FromText, Text};
use crate::absolute_path::AbsolutePath;
use crate::problem::Problem;
use crate::redis_server::{self, RedisFiles};

/// Where routes are read, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RedisConfig {
    /// Without the password of the file.
    pub(crate) address: Address,
    pub(crate) files: RedisFiles,
    pub(crate) layout: RedisLayout,
}

/// In which layout routes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RedisLayout {
    /// All that `dockline discover` knows.
    #[default]
    Structured,
    /// An address for each name.
    Classic,
}

impl RedisConfig {
    pub(super) fn read(source: &Source, entry: Spanned<RedisEntry>) -> Result<Self, Problem> {
        let place = source.place(entry.span().start);
        let (Url(url), files, layout) = match entry.into_inner() {
            Entry::Address(url) => (url, RedisFiles::default(), RedisLayout::default()),
            Entry::Table(RedisTable { address: Text(url), password_file, ca, cert, key, layout }) => {
                let layout = layout.map_or(RedisLayout::default(), |Text(layout)| layout);
                (url, RedisFiles { password: password_file, ca, cert, key }, layout)
            }
        };
        let at = |problem: Problem| problem.at(format_args!("{place}: router.redis"));
        let address = redis_server::address(&url).map_err(at)?;
        if layout == RedisLayout::Classic && address.is_cluster() {
            return Err(at(Problem::new("the classic layout needs one server, not a cluster"))
                .hint("use the structured layout, or another Redis"));
        }
        Ok(Self { address, files, layout })
    }
}

/// An address, or a table that has one.
pub(super) type RedisEntry = Entry<Url, RedisTable>;

/// The table `redis`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisTable {
    address: Text<Url>,
    password_file: Option<AbsolutePath>,
    ca: Option<AbsolutePath>,
    cert: Option<AbsolutePath>,
    key: Option<AbsolutePath>,
    layout: Option<Text<RedisLayout>>,
}

/// An address that may have a password. It is parsed later: an error of the file quotes its line.
pub(super) struct Url(String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

impl FromStr for Url {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        Ok(Self(text.to_owned()))
    }
}

impl FromText for Url {
    const WHAT: &'static str = "an address such as \"redis://192.0.2.10\"";
}

impl FromStr for RedisLayout {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "structured" => Ok(Self::Structured),
            "classic" => Ok(Self::Classic),
            _ => Err(Problem::new(format_args!("there is no layout `{}`", Untrusted::new(text)))
                .hint("the layouts are structured and classic")),
        }
    }
}

impl FromText for RedisLayout {
    const WHAT: &'static str = "\"structured\" or \"classic\"";
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    const LISTEN: &str = "[[listen]]\naddress = \"tcp://127.0.0.1:80\"\nrouter = true\n[router]\n";

    fn redis(value: &str) -> Result<RedisConfig, String> {
        let config = config("", &format!("{LISTEN}redis = {value}\n"))?;
        Ok(config.router.unwrap().redis.unwrap())
    }

    #[test]
    fn it_is_an_address_or_a_table() {
        let plain = redis("\"redis://192.0.2.10\"").unwrap();
        assert_eq!(plain.address.to_string(), "redis://192.0.2.10:6379");
        assert_eq!((plain.files, plain.layout), (RedisFiles::default(), RedisLayout::Structured));
        let table = redis(
            "{ address = \"rediss://redis.example\", password_file = \"/p\", ca = \"/ca\", layout = \"classic\" }",
        )
        .unwrap();
        assert_eq!(table.layout, RedisLayout::Classic);
        assert_eq!(table.files.password.unwrap().to_str(), Some("/p"));
        assert!(table.address.is_tls() && table.files.ca.is_some() && table.files.cert.is_none());
    }

    #[test]
    fn what_is_wrong_is_said_without_a_password() {
        for (value, reason) in [
            ("\"http://:secret@h\"", "router.redis: this is not an address of Redis"),
            ("{ address = \"redis+cluster://:secret@h\", layout = \"classic\" }", "not a cluster"),
        ] {
            let text = redis(value).unwrap_err();
            assert!(text.contains(reason) && !text.contains("secret"), "{text}");
        }
        let text = redis("{ address = \"redis://h\", layout = \"old\" }").unwrap_err();
        assert!(text.contains("the layouts are structured and classic"), "{text}");
    }
}
