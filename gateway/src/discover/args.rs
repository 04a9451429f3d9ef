#![forbid(unsafe_code)]
//! The command line of `discover`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::absolute_path::AbsolutePath;
use crate::address::UpstreamAddress;
use crate::config::values::{Format, Level, Time};

/// Watch Docker daemons, and publish the routes of their containers in Redis or in a file.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Examples:
  dockline discover --redis redis://192.0.2.10 --node-address 192.0.2.1
      Gateways that read this Redis route to the containers of this machine, directly or by the
      gateway on 192.0.2.1:80.
  dockline discover --redis redis://127.0.0.1 --layout classic
      For an nginx on this machine whose Lua looks the first label of the host up in Redis.
  dockline discover --redis rediss+sentinel://s1,s2,s3/main --redis-password-file /run/secrets/redis
  HOST_IP=192.0.2.1 DOCKER_HOST=192.0.2.10:3375 REDIS_PORT_6379_TCP_ADDR=192.0.2.1 dockline discover
      The variables of nginx setups with a Python script: REDIS_PORT_6379_TCP_ADDR and _PORT,
      HOST_IP or DOCKER_MANAGER_HOST_IP, DOCKER_NETWORK_ADDR. The layout is classic then.

  dockline discover --snapshot /run/dockline/routes --domain apps.example.com
      For an nginx on this machine with the module of dockline. docs/ROUTES.md describes the file.

It serves until SIGTERM or Ctrl-C. The routes stay in Redis for the time of --ttl, so that a restart
leaves no gap. docs/REGISTRY.md describes keys and values.")]
pub(crate) struct DiscoverArgs {
    /// Docker daemon to watch; may be repeated [default: unix:///var/run/docker.sock]
    ///
    /// unix:///PATH, tcp://HOST:PORT, HOST:PORT, or tls://HOST:PORT.
    #[arg(
        long,
        short = 'H',
        value_name = "ADDRESS",
        env = "DOCKER_HOST",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) docker: Vec<UpstreamAddress>,

    /// Directory with ca.pem, cert.pem and key.pem, for tls:// daemons
    #[arg(long, value_name = "DIR", env = "DOCKER_CERT_PATH", hide_env_values = true)]
    pub(crate) docker_tls_dir: Option<AbsolutePath>,

    /// Name of this machine among the others [default: its host name]
    #[arg(long, value_name = "NAME", env = "DOCKLINE_NODE_NAME", hide_env = true, help_heading = "Node")]
    pub(crate) node_name: Option<String>,

    /// Address of this machine, where its own gateway listens for what others cannot reach directly
    #[arg(long, value_name = "IP", env = "DOCKLINE_NODE_ADDRESS", hide_env = true, help_heading = "Node")]
    pub(crate) node_address: Option<IpAddr>,

    /// Port of the gateways of all machines
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 80,
        env = "DOCKLINE_GATEWAY_PORT",
        hide_env = true,
        help_heading = "Node"
    )]
    pub(crate) gateway_port: u16,

    /// Redis: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, unix:///PATH,
    /// redis+sentinel://HOST,HOST/MASTER or redis+cluster://HOST,HOST; rediss for TLS
    #[arg(long, value_name = "URL", env = "DOCKLINE_REDIS", hide_env = true, help_heading = "Redis")]
    pub(crate) redis: Option<SecretUrl>,

    /// File with the password, so that it is in no command line
    #[arg(
        long,
        value_name = "FILE",
        env = "DOCKLINE_REDIS_PASSWORD_FILE",
        hide_env = true,
        help_heading = "Redis"
    )]
    pub(crate) redis_password_file: Option<AbsolutePath>,

    /// Authorities of the certificate of Redis, PEM [default: those of the system]
    #[arg(long, value_name = "FILE", env = "DOCKLINE_REDIS_CA", hide_env = true, help_heading = "Redis")]
    pub(crate) redis_ca: Option<AbsolutePath>,

    /// Client certificate for Redis, PEM
    #[arg(long, value_name = "FILE", env = "DOCKLINE_REDIS_CERT", hide_env = true, help_heading = "Redis")]
    pub(crate) redis_cert: Option<AbsolutePath>,

    /// Private key of that certificate, PEM
    #[arg(long, value_name = "FILE", env = "DOCKLINE_REDIS_KEY", hide_env = true, help_heading = "Redis")]
    pub(crate) redis_key: Option<AbsolutePath>,

    /// What to write [default: structured]
    #[arg(long, value_name = "LAYOUT", env = "DOCKLINE_LAYOUT", hide_env = true, help_heading = "Redis")]
    pub(crate) layout: Option<LayoutArg>,

    /// Who reads the classic layout, or the file
    #[arg(
        long,
        value_name = "READERS",
        default_value = "node",
        env = "DOCKLINE_READERS",
        hide_env = true,
        help_heading = "Redis"
    )]
    pub(crate) readers: ReadersArg,

    /// The network of containers that these readers reach directly [default: all]
    ///
    /// As in 172.17.0.0/16. Others are reached by the gateway of this machine.
    #[arg(long, value_name = "NETWORK", env = "DOCKLINE_NETWORK", hide_env = true, help_heading = "Redis")]
    pub(crate) network: Option<String>,

    /// How long routes stay when nobody refreshes them: 1s to 1h
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        env = "DOCKLINE_TTL",
        hide_env = true,
        help_heading = "Redis"
    )]
    pub(crate) ttl: Time,

    /// Replace this file whenever a route changes
    #[arg(long, value_name = "FILE", env = "DOCKLINE_SNAPSHOT", hide_env = true, help_heading = "File")]
    pub(crate) snapshot: Option<AbsolutePath>,

    /// Base domain of the names of routes, for the file; may be repeated
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "DOCKLINE_DOMAIN",
        hide_env = true,
        value_delimiter = ',',
        requires = "snapshot",
        help_heading = "File"
    )]
    pub(crate) domain: Vec<String>,

    /// Look names up by the first label of any host, for the file
    #[arg(long, requires = "snapshot", help_heading = "File")]
    pub(crate) first_label: bool,

    /// Read the variables of nginx-proxy too: VIRTUAL_HOST, VIRTUAL_PORT, VIRTUAL_PATH
    #[arg(long, help_heading = "Labels")]
    pub(crate) virtual_host: bool,

    /// Read simple labels of Traefik too: rules of Host and PathPrefix
    #[arg(long, help_heading = "Labels")]
    pub(crate) traefik: bool,

    /// Level of the log: off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "DOCKLINE_LOG_LEVEL", hide_env = true, help_heading = "Logs")]
    pub(crate) log_level: Option<Level>,

    /// Format of the log, on standard error: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "DOCKLINE_LOG_FORMAT", hide_env = true, help_heading = "Logs")]
    pub(crate) log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    /// Records with everything that gateways need
    Structured,
    /// A string for each name: nginx with Lua
    Classic,
    /// Both
    Both,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadersArg {
    /// nginx on this machine: it reaches its containers directly
    #[default]
    Node,
    /// nginx on other machines: it reaches them by the gateway of this one
    Elsewhere,
}

/// A URL that may have a password. It is parsed later: clap would quote it in its error.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretUrl(pub(crate) String);

impl FromStr for SecretUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretUrl")
    }
}
