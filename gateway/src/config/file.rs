#![forbid(unsafe_code)]
//! The tables of the configuration file.

use std::num::NonZeroUsize;

use serde::Deserialize;
use toml::Spanned;

use super::limits::LimitsTable;
use super::router::{RouteTableEntry, RouterTable};
use super::values::{
    AccessTarget, AdminAddress, Format, HeaderVersion, Level, Name, Text, Time, Trusted, ViaName,
};
use crate::absolute_path::AbsolutePath;
use crate::address::{ListenAddress, UpstreamAddress};
use crate::serve::guard::{AllowedHost, AllowedOrigin};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) threads: Option<NonZeroUsize>,
    pub(super) drain_timeout: Option<Text<Time>>,
    pub(super) listen: Vec<ListenTable>,
    pub(super) upstream: Vec<UpstreamTable>,
    pub(super) router: Option<Spanned<RouterTable>>,
    pub(super) route: Vec<RouteTableEntry>,
    pub(super) limits: LimitsTable,
    pub(super) log: LogTable,
    pub(super) admin: AdminTable,
    pub(super) forwarding: ForwardingTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenTable {
    pub(super) address: Spanned<Text<ListenAddress>>,
    pub(super) name: Option<Name>,
    pub(super) tls: Option<Spanned<ListenTls>>,
    pub(super) upstream: Option<Spanned<String>>,
    #[serde(default, rename = "router")]
    pub(super) is_router: bool,
    #[serde(default)]
    pub(super) trusted: Trusted,
    #[serde(default)]
    pub(super) proxy_protocol: Option<Trusted>,
    #[serde(default)]
    pub(super) allow_hosts: Vec<Text<AllowedHost>>,
    #[serde(default)]
    pub(super) allow_origins: Vec<Text<AllowedOrigin>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListenTls {
    pub(super) dir: Option<AbsolutePath>,
    pub(super) cert: Option<AbsolutePath>,
    pub(super) key: Option<AbsolutePath>,
    pub(super) client_ca: Option<AbsolutePath>,
    pub(super) crl: Option<AbsolutePath>,
    pub(super) certificates: Option<AbsolutePath>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTable {
    pub(super) name: Spanned<Name>,
    pub(super) address: Option<Spanned<Text<UpstreamAddress>>>,
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<Text<UpstreamAddress>>>,
    pub(super) tls: Option<Spanned<UpstreamTls>>,
    pub(super) host: Option<String>,
    pub(super) proxy_protocol: Option<Text<HeaderVersion>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamTls {
    pub(super) ca: Option<AbsolutePath>,
    pub(super) cert: Option<AbsolutePath>,
    pub(super) key: Option<AbsolutePath>,
    pub(super) name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogTable {
    pub(super) level: Option<Text<Level>>,
    pub(super) format: Option<Text<Format>>,
    pub(super) access: Option<Text<AccessTarget>>,
    pub(super) access_format: Option<Text<Format>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdminTable {
    pub(super) address: Option<Text<AdminAddress>>,
    pub(super) allow_hosts: Vec<Text<AllowedHost>>,
    pub(super) allow_origins: Vec<Text<AllowedOrigin>>,
    pub(super) token_file: Option<AbsolutePath>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ForwardingTable {
    pub(super) via: Option<Text<ViaName>>,
    pub(super) x_forwarded: Option<bool>,
    pub(super) forwarded: Option<bool>,
}
