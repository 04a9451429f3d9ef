#![forbid(unsafe_code)]
//! `front_door` and `join` of `[router]`: machines that push their routes to another one.

use std::str::FromStr;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use dockline_discovery::join::FrontAddress;
use serde::Deserialize;
use toml::Spanned;

use super::file::{ListenTls, UpstreamTls as UpstreamTlsTable};
use super::source::Source;
use super::tls::{ListenerTls, ListenerTlsFiles, UpstreamTls, UpstreamTlsFiles};
use super::values::{FromText, Text, Time};
use crate::absolute_path::AbsolutePath;
use crate::address::{self, ListenAddress};
use crate::problem::Problem;

/// The port of a front door, if none is given: that beside Docker's own (2375 to 2377).
const PORT: u16 = 2378;
const DEFAULT_KEEP: Duration = Duration::from_secs(5 * 60);

/// Where other machines push their routes to this one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FrontDoorConfig {
    /// Always TCP with TLS.
    pub(crate) address: ListenAddress,
    /// Always with an authority of clients.
    pub(crate) tls: ListenerTls,
    /// How long the routes of a machine that is gone stay; `None`: until it is back.
    pub(crate) keep: Option<Duration>,
    /// Where it was configured.
    pub(crate) origin: String,
}

/// The front door that this machine pushes its routes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinConfig {
    pub(crate) front: FrontAddress,
    /// Always with a certificate.
    pub(crate) tls: UpstreamTls,
}

impl FrontDoorConfig {
    /// Takes the options of the command line.
    pub(super) fn of_options(
        address: &FrontDoorAddress,
        dir: Option<&AbsolutePath>,
    ) -> Result<Self, Problem> {
        let dir = dir.ok_or_else(|| missing_dir("--front-door", "server.pem, server-key.pem"))?;
        let files = ListenerTlsFiles { dir: Some(dir.clone()), ..ListenerTlsFiles::default() };
        let tls = files.settle().map_err(|lack| lack.for_options("--front-door-tls"))?;
        let origin = format!("--front-door {}", address.0);
        Ok(Self { address: address.0.clone(), tls, keep: Some(DEFAULT_KEEP), origin })
    }

    pub(super) fn read(source: &Source, table: Spanned<FrontDoorTable>) -> Result<Self, Problem> {
        let (span, table) = (table.span(), table.into_inner());
        let failed = |problem: Problem| source.problem(span.clone(), "router.front_door", problem);
        let files = ListenerTlsFiles::from(table.tls);
        let tls = files.settle().map_err(|lack| failed(lack.for_keys()))?;
        if tls.client_ca.is_none() {
            return Err(failed(
                Problem::new("a front door needs the authority of the machines that may join")
                    .hint("add client_ca = \"FILE\" to its tls table"),
            ));
        }
        let Text(FrontDoorAddress(address)) = table.address;
        let keep = table.keep.map_or(Some(DEFAULT_KEEP), |Text(time)| time.or_off());
        Ok(Self { address, tls, keep, origin: source.place(span.start) })
    }
}

impl JoinConfig {
    /// Takes the options of the command line.
    pub(super) fn of_options(address: &JoinAddress, dir: Option<&AbsolutePath>) -> Result<Self, Problem> {
        let dir = dir.ok_or_else(|| missing_dir("--join", "cert.pem, key.pem"))?;
        let file = |name: &str| Some(dir.join(name));
        let files =
            UpstreamTlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), name: None };
        Ok(Self { front: address.0.clone(), tls: files.settle()? })
    }

    pub(super) fn read(source: &Source, table: Spanned<JoinTable>) -> Result<Self, Problem> {
        let (span, table) = (table.span(), table.into_inner());
        let failed = |problem: Problem| source.problem(span.clone(), "router.join", problem);
        let tls = UpstreamTlsFiles::from(table.tls).settle().map_err(failed)?;
        if tls.credentials.is_none() {
            return Err(failed(
                Problem::new("a front door asks for the certificate of this machine")
                    .hint("add cert = \"FILE\" and key = \"FILE\" to its tls table"),
            ));
        }
        let Text(JoinAddress(front)) = table.address;
        Ok(Self { front, tls })
    }
}

fn missing_dir(option: &str, files: &str) -> Problem {
    Problem::new("both sides need certificates")
        .at(option)
        .hint(format_args!("add {option}-tls DIR with {files} and ca.pem"))
}

/// The table `front_door`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FrontDoorTable {
    address: Text<FrontDoorAddress>,
    #[serde(default)]
    tls: ListenTls,
    keep: Option<Text<Time>>,
}

/// The table `join`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinTable {
    address: Text<JoinAddress>,
    #[serde(default)]
    tls: UpstreamTlsTable,
}

/// Returns an address without its scheme, which is tls if there is one.
fn without_scheme(text: &str) -> Result<&str, Problem> {
    match text.split_once("://") {
        None => Ok(text),
        Some(("tls", rest)) => Ok(rest),
        Some((scheme, _)) => {
            let scheme = Untrusted::new(scheme);
            Err(Problem::new(format_args!("machines join by tls://, not by {scheme}://"))
                .hint("write tls://HOST:PORT"))
        }
    }
}

/// The address of the own front door.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FrontDoorAddress(ListenAddress);

impl FromStr for FrontDoorAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        address::tls_listener(without_scheme(text)?, PORT).map(Self)
    }
}

impl FromText for FrontDoorAddress {
    const WHAT: &'static str = "an address such as \"tls://0.0.0.0:2378\"";
}

/// The address of the front door of others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JoinAddress(FrontAddress);

impl FromStr for JoinAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (host, port) = address::server(without_scheme(text)?, PORT)?;
        Ok(Self(FrontAddress { host, port }))
    }
}

impl FromText for JoinAddress {
    const WHAT: &'static str = "an address such as \"tls://front.example:2378\"";
}

#[cfg(test)]
mod tests;
