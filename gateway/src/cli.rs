#![forbid(unsafe_code)]
//! The command line.

use std::num::NonZeroUsize;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::absolute_path::AbsolutePath;
use crate::address::{ListenAddress, UpstreamAddress};
use crate::admin::routes::RoutesArgs;
use crate::cert::CertArgs;
use crate::config::join::{FrontDoorAddress, JoinAddress};
use crate::config::router::BaseDomain;
use crate::config::values::{AccessTarget, AdminAddress, Format, Level, Time, ViaName};
use crate::config::{ListenerTlsFiles, UpstreamTlsFiles};
#[cfg(feature = "redis")]
use crate::discover::args::DiscoverArgs;
use crate::publish::args::{PortsArgs, PublishArgs, UnpublishArgs};
use crate::selftest::SelftestArgs;
use crate::serve::guard::{AllowedHost, AllowedOrigin};
use crate::top::TopArgs;

/// A gateway for the Docker Engine API.
#[derive(Debug, Parser)]
#[command(
    name = "dockline",
    bin_name = "dockline",
    version,
    long_version = concat!(env!("CARGO_PKG_VERSION"), "\nTLS: rustls with ring"),
    about = "A gateway for the Docker Engine API",
    long_about = "A gateway for the Docker Engine API: attach, exec and build sessions work through it as they do \
                  without it.",
    after_help = "`dockline COMMAND --help` explains a command and shows examples.",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Listen, and forward requests to a Docker daemon.
    #[command(after_long_help = "\
Examples:
  dockline serve
      The local daemon on unix:///run/dockline/docker.sock, for this user only.
  dockline serve --listen 'unix:///run/dockline/docker.sock?mode=0660&group=docker'
  dockline serve --listen tls://0.0.0.0:2376 --tls-dir /etc/dockline/tls
      For other machines. Clients need a certificate issued by /etc/dockline/tls/ca.pem.
  dockline serve --upstream tls://one:2376 --upstream tls://two:2376 --upstream-tls-ca ca.pem
      The second daemon is used while the first one cannot be reached.
  dockline serve --router --domain apps.example.com
      The containers of the local daemon on port 80: web.apps.example.com is that with DPROXY_FORWARD_NAME=web.
  dockline serve --config /etc/dockline/dockline.toml

Signals:
  HUP         reload the configuration and all certificates
  USR1        reopen the access log
  USR2        upgrade: start the program again and pass the listening sockets to it
  TERM, INT   stop gracefully; a second one stops at once

Every option has an environment variable: DOCKLINE_DRAIN_TIMEOUT for --drain-timeout. Options take
precedence over the environment, and the environment over the file. DOCKER_HOST is not read:
clients of this gateway set it.")]
    Serve(Settings),

    /// Check a configuration, including its certificates.
    #[command(after_long_help = "\
Examples:
  dockline check
  dockline check --config new.toml && mv new.toml /etc/dockline/dockline.toml

Exit status: 0 if it is valid, 3 if there is a problem, 2 if the command line is wrong.")]
    Check(Settings),

    Publish(PublishArgs),

    Unpublish(UnpublishArgs),

    Ports(PortsArgs),

    #[cfg(feature = "redis")]
    Discover(DiscoverArgs),

    Selftest(SelftestArgs),

    Cert(CertArgs),

    Routes(RoutesArgs),

    Top(TopArgs),

    /// Check whether a running gateway is ready: exit status 0 or 1.
    #[command(after_long_help = "\
Examples:
  dockline healthcheck
  HEALTHCHECK CMD [\"dockline\", \"healthcheck\"]     (in a Dockerfile)")]
    Healthcheck(Healthcheck),

    /// Print the completion script for a shell.
    #[command(after_long_help = "\
Examples:
  dockline completions bash > /usr/share/bash-completion/completions/dockline
  dockline completions zsh > ~/.zfunc/_dockline")]
    Completions {
        /// The shell.
        shell: Shell,
    },

    /// Print a manual page.
    #[command(after_long_help = "\
Examples:
  dockline man > /usr/local/share/man/man1/dockline.1
  dockline man serve > /usr/local/share/man/man1/dockline-serve.1")]
    Man {
        /// The command to document [default: the program]
        command: Option<String>,
    },
}

/// The options of `serve`. Those that are not given come from the file, or have defaults.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file [default: /etc/dockline/dockline.toml, if it exists]
    #[arg(long, short, value_name = "FILE", env = "DOCKLINE_CONFIG", hide_env = true)]
    pub(crate) config: Option<AbsolutePath>,

    /// Address to listen on; may be repeated [default: unix:///run/dockline/docker.sock, for root,
    /// or unix://$XDG_RUNTIME_DIR/dockline/docker.sock]
    ///
    /// tcp://HOST:PORT or HOST:PORT (port 2375 if none is given), tls://HOST:PORT (2376),
    /// unix:///PATH?mode=0600&user=NAME&group=NAME, or fd:// for sockets passed by systemd: fd://3
    /// for one, fd://NAME for those of a name.
    #[arg(
        long,
        short,
        value_name = "ADDRESS",
        env = "DOCKLINE_LISTEN",
        hide_env = true,
        value_delimiter = ','
    )]
    pub(crate) listen: Vec<ListenAddress>,

    /// Route requests to the containers of a Docker daemon by their host names
    ///
    /// For the listeners of --listen [default then: tcp://0.0.0.0:80], and the daemons of
    /// --upstream, which are watched.
    #[arg(
        long, value_name = "BOOL", env = "DOCKLINE_ROUTER", hide_env = true, help_heading = "Router",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
        hide_default_value = true, hide_possible_values = true, value_parser = BoolishValueParser::new()
    )]
    pub(crate) router: bool,

    /// Base domain of the names of containers; may be repeated [default: any, the name is the first
    /// label of the host]
    #[arg(
        long,
        value_name = "DOMAIN",
        env = "DOCKLINE_DOMAIN",
        hide_env = true,
        value_delimiter = ',',
        help_heading = "Router"
    )]
    pub(crate) domain: Vec<BaseDomain>,

    /// Push the routes of this machine to the front door of another one, as in
    /// tls://front.example:2378
    ///
    /// Its certificate has to be for that host; that of this machine for the name of its node,
    /// which is its host name if the configuration does not say otherwise.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "DOCKLINE_JOIN",
        hide_env = true,
        help_heading = "Several machines"
    )]
    pub(crate) join: Option<JoinAddress>,

    /// Directory with cert.pem, key.pem and ca.pem, for --join
    #[arg(
        long,
        value_name = "DIR",
        env = "DOCKLINE_JOIN_TLS",
        hide_env = true,
        help_heading = "Several machines"
    )]
    pub(crate) join_tls: Option<AbsolutePath>,

    /// Let other machines push their routes to this one, as in tls://0.0.0.0:2378
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "DOCKLINE_FRONT_DOOR",
        hide_env = true,
        help_heading = "Several machines"
    )]
    pub(crate) front_door: Option<FrontDoorAddress>,

    /// Directory with server.pem, server-key.pem and ca.pem (or cert.pem and key.pem), for
    /// --front-door
    ///
    /// Machines that join need a certificate issued by ca.pem.
    #[arg(
        long,
        value_name = "DIR",
        env = "DOCKLINE_FRONT_DOOR_TLS",
        hide_env = true,
        help_heading = "Several machines"
    )]
    pub(crate) front_door_tls: Option<AbsolutePath>,

    /// Host name for TCP listeners without client certificates; may be repeated, `*` for any
    ///
    /// `.example.com` is that name and all below it. Names of this machine (localhost, 127.0.0.1,
    /// `[::1]`) and the host of --listen are always allowed. Requests with any other `Host` are
    /// refused, because the name of a web page can resolve to this machine.
    #[arg(long, value_name = "HOST", env = "DOCKLINE_ALLOW_HOST", hide_env = true, value_delimiter = ',')]
    pub(crate) allow_host: Vec<AllowedHost>,

    /// Origin of web pages that may use such a listener, as in `https://ui.example`; may be
    /// repeated, `*` for any
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "DOCKLINE_ALLOW_ORIGIN",
        hide_env = true,
        value_delimiter = ','
    )]
    pub(crate) allow_origin: Vec<AllowedOrigin>,

    /// Docker daemon to connect to; further ones are tried in order [default:
    /// unix:///var/run/docker.sock]
    ///
    /// unix:///PATH, tcp://HOST:PORT, or tls://HOST:PORT.
    #[arg(
        long,
        short,
        value_name = "ADDRESS",
        env = "DOCKLINE_UPSTREAM",
        hide_env = true,
        value_delimiter = ','
    )]
    pub(crate) upstream: Vec<UpstreamAddress>,

    /// Directory with server.pem, server-key.pem and ca.pem (or cert.pem and key.pem), for tls://
    /// listeners
    ///
    /// The file names are those of Docker's documentation. Clients need a certificate issued by
    /// ca.pem.
    #[arg(long, value_name = "DIR", env = "DOCKLINE_TLS_DIR", hide_env = true, help_heading = "TLS")]
    pub(crate) tls_dir: Option<AbsolutePath>,

    /// Certificate chain of tls:// listeners, PEM
    #[arg(long, value_name = "FILE", env = "DOCKLINE_TLS_CERT", hide_env = true, help_heading = "TLS")]
    pub(crate) tls_cert: Option<AbsolutePath>,

    /// Private key of that certificate, PEM
    #[arg(long, value_name = "FILE", env = "DOCKLINE_TLS_KEY", hide_env = true, help_heading = "TLS")]
    pub(crate) tls_key: Option<AbsolutePath>,

    /// Authorities of client certificates, PEM; without it, clients need no certificate
    #[arg(long, value_name = "FILE", env = "DOCKLINE_TLS_CLIENT_CA", hide_env = true, help_heading = "TLS")]
    pub(crate) tls_client_ca: Option<AbsolutePath>,

    /// Revoked client certificates, PEM
    #[arg(long, value_name = "FILE", env = "DOCKLINE_TLS_CRL", hide_env = true, help_heading = "TLS")]
    pub(crate) tls_crl: Option<AbsolutePath>,

    /// Authorities of certificates of tls:// upstreams, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "DOCKLINE_UPSTREAM_TLS_CA",
        hide_env = true,
        help_heading = "TLS"
    )]
    pub(crate) upstream_tls_ca: Option<AbsolutePath>,

    /// Client certificate for upstreams, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "DOCKLINE_UPSTREAM_TLS_CERT",
        hide_env = true,
        help_heading = "TLS"
    )]
    pub(crate) upstream_tls_cert: Option<AbsolutePath>,

    /// Private key of that certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "DOCKLINE_UPSTREAM_TLS_KEY",
        hide_env = true,
        help_heading = "TLS"
    )]
    pub(crate) upstream_tls_key: Option<AbsolutePath>,

    /// Name that the certificate of an upstream must have [default: the host of its address]
    #[arg(
        long,
        value_name = "NAME",
        env = "DOCKLINE_UPSTREAM_TLS_NAME",
        hide_env = true,
        help_heading = "TLS"
    )]
    pub(crate) upstream_tls_name: Option<String>,

    /// Worker threads [default: one per processor]
    #[arg(long, value_name = "N", env = "DOCKLINE_THREADS", hide_env = true)]
    pub(crate) threads: Option<NonZeroUsize>,

    /// How long a graceful stop waits for connections to end; 0 for no limit [default: 30s]
    #[arg(long, value_name = "TIME", env = "DOCKLINE_DRAIN_TIMEOUT", hide_env = true)]
    pub(crate) drain_timeout: Option<Time>,

    /// Access log: a file, - for standard output, or off [default: off]
    #[arg(long, value_name = "WHERE", env = "DOCKLINE_ACCESS_LOG", hide_env = true, help_heading = "Logs")]
    pub(crate) access_log: Option<AccessTarget>,

    /// Format of the access log: text or json [default: text]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "DOCKLINE_ACCESS_LOG_FORMAT",
        hide_env = true,
        help_heading = "Logs"
    )]
    pub(crate) access_log_format: Option<Format>,

    /// Level of the log: off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "DOCKLINE_LOG_LEVEL", hide_env = true, help_heading = "Logs")]
    pub(crate) log_level: Option<Level>,

    /// Format of the log, on standard error: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "DOCKLINE_LOG_FORMAT", hide_env = true, help_heading = "Logs")]
    pub(crate) log_format: Option<Format>,

    /// Address for health and metrics, or off [default: unix:///run/dockline/admin.sock, if it can
    /// be created]
    #[arg(long, value_name = "ADDRESS", env = "DOCKLINE_ADMIN", hide_env = true)]
    pub(crate) admin: Option<AdminAddress>,

    /// Add `Via` with this name to requests and responses
    #[arg(long, value_name = "NAME", env = "DOCKLINE_VIA", hide_env = true, help_heading = "Forwarding")]
    pub(crate) via: Option<ViaName>,

    /// Add X-Forwarded-For, -Proto, -Host and -Port, and X-Real-IP to requests
    #[arg(
        long, value_name = "BOOL", env = "DOCKLINE_X_FORWARDED", hide_env = true, help_heading = "Forwarding",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) x_forwarded: Option<bool>,

    /// Add Forwarded (RFC 7239) to requests
    #[arg(
        long, value_name = "BOOL", env = "DOCKLINE_FORWARDED", hide_env = true, help_heading = "Forwarding",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) forwarded: Option<bool>,
}

impl Settings {
    /// Returns the TLS files of listeners.
    pub(crate) fn listener_tls(&self) -> ListenerTlsFiles {
        ListenerTlsFiles {
            dir: self.tls_dir.clone(),
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            client_ca: self.tls_client_ca.clone(),
            crl: self.tls_crl.clone(),
            certificates: None,
        }
    }

    /// Returns the TLS files of upstreams.
    pub(crate) fn upstream_tls(&self) -> UpstreamTlsFiles {
        UpstreamTlsFiles {
            ca: self.upstream_tls_ca.clone(),
            cert: self.upstream_tls_cert.clone(),
            key: self.upstream_tls_key.clone(),
            name: self.upstream_tls_name.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// Admin address of the gateway [default: that of the configuration]
    #[arg(long, value_name = "ADDRESS", env = "DOCKLINE_ADMIN", hide_env = true)]
    pub(crate) admin: Option<AdminAddress>,

    /// Configuration file of the gateway
    #[arg(long, short, value_name = "FILE", env = "DOCKLINE_CONFIG", hide_env = true)]
    pub(crate) config: Option<AbsolutePath>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Checks every option for a file or a directory, of every command.
    #[test]
    fn paths_are_completed_when_they_are_read() {
        let here = std::env::current_dir().unwrap();
        let wanted = format!("{:?}", here.join("there/x"));
        let mut seen = 0;
        for command in Cli::command().get_subcommands() {
            let is_path = |name: &str| matches!(name, "FILE" | "DIR" | "WHERE");
            for option in command.get_arguments().filter(|option| {
                option.get_value_names().is_some_and(|names| names.iter().any(|name| is_path(name)))
            }) {
                let option = option.get_long().unwrap();
                let needed: &[&str] = match command.get_name() {
                    "publish" => &["web", "80"],
                    "unpublish" => &["web"],
                    _ => &[],
                };
                let line = ["dockline", command.get_name(), &format!("--{option}"), "there/x"];
                let parsed = Cli::try_parse_from(line.iter().chain(needed)).unwrap();
                let shown = format!("{parsed:?}");
                assert!(
                    shown.contains(&wanted) && shown.matches("there/x").count() == 1,
                    "--{option}: {shown}"
                );
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
