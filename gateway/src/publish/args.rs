#![forbid(unsafe_code)]
//! The command lines of `publish`, `unpublish` and `ports`.

use std::net::IpAddr;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use dockline::proxy::ProxyProtocol;
use dockline::untrusted::Untrusted;
use dockline_docker_client::Docker;

use super::ports::{Mapping, PortSpec, Proto};
use crate::absolute_path::AbsolutePath;
use crate::address::UpstreamAddress;
use crate::config::values::Time;
use crate::problem::Problem;

/// Publish ports of this machine that lead to a running container, or to any address.
#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "dockline publish [OPTIONS] CONTAINER PORT...\n       dockline publish [OPTIONS] --to ADDRESS PORT...",
    after_long_help = "\
PORT is [ADDRESS:]PORT[:CONTAINERPORT][/udp], or a range such as 8000-8010. Without an address
only this machine can connect; 0.0.0.0 stands for all IPv4 addresses, [::] for all IPv6 addresses.

Examples:
  dockline publish web 8080:80
      http://localhost:8080 is port 80 of the container `web`, which keeps running.
  dockline publish --detach --for 1h web 0.0.0.0:8080:80
      For other machines as well; in the background, for an hour.
  dockline publish --to 10.55.66.2:8000 2345
      Without Docker.
  dockline publish --dnat web 0.0.0.0:8080:80
      The kernel forwards packets of other machines (root).
  dockline publish --dnat --dry-run web 0.0.0.0:8080:80
      Only prints the firewall commands.

It serves until Ctrl-C, SIGTERM, `dockline unpublish`, or the end of --for; open connections then
have 5 s to end. While the container is stopped, the port stays reserved, and connections are reset."
)]
pub(crate) struct PublishArgs {
    /// The container and the ports; with --to only the ports.
    #[arg(required = true, value_name = "CONTAINER|PORT")]
    pub(crate) words: Vec<Untrusted<String>>,

    /// Forward to this address instead of a container: IP:PORT, or IP for the same port.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Option<Destination>,

    /// Protocol of ports that do not name one: tcp or udp; may be repeated [default: tcp]
    #[arg(long, value_name = "PROTO", value_delimiter = ',')]
    pub(crate) proto: Vec<Proto>,

    /// The network of the container; required if it has several.
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    pub(crate) network: Option<Untrusted<String>>,

    /// End after this time.
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) lifetime: Option<Time>,

    /// Send the addresses of clients to the container by the PROXY protocol (TCP): v1 or v2.
    #[arg(long, value_name = "VERSION", num_args = 0..=1, require_equals = true, default_missing_value = "v2")]
    pub(crate) proxy_protocol: Option<Version>,

    /// Serve in the background, and print the ID.
    #[arg(long, short, conflicts_with = "dry_run")]
    pub(crate) detach: bool,

    /// Let the kernel forward traffic from other machines (root).
    #[arg(long, help_heading = "Firewall", conflicts_with = "proxy_protocol")]
    pub(crate) dnat: bool,

    /// The firewall tool [default: the one that is in use]
    #[arg(long, value_name = "KIND", help_heading = "Firewall", requires = "dnat")]
    pub(crate) firewall: Option<FirewallKind>,

    /// Print the firewall commands without running them.
    #[arg(long, help_heading = "Firewall")]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) docker: DockerArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DockerArgs {
    /// Docker daemon: unix:///PATH or tcp://HOST:PORT [default: unix:///var/run/docker.sock]
    #[arg(long, short = 'H', value_name = "ADDRESS", env = "DOCKER_HOST", hide_env_values = true)]
    pub(crate) host: Option<UpstreamAddress>,
}

/// The daemon without `--host`.
const SOCKET: &str = "unix:///var/run/docker.sock";

impl DockerArgs {
    /// Returns a client of the daemon.
    pub(crate) fn client(&self) -> Result<Docker, Problem> {
        let UpstreamAddress { address, tls } = match &self.host {
            Some(host) => host.clone(),
            None => SOCKET.parse()?,
        };
        // Empty counts as not set, as it does for docker.
        if tls
            || std::env::var_os("DOCKER_TLS_VERIFY")
                .is_some_and(|value| !value.is_empty() && self.host.is_some())
        {
            return Err(Problem::new(
                "publish does not connect to the daemon by TLS: its containers can be reached from its own machine \
                 only, where it has a socket",
            )
            .hint("run this there, with --host unix:///var/run/docker.sock"));
        }
        Docker::new(address).map_err(Problem::wrap("cannot prepare to connect to the Docker daemon"))
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StateArgs {
    /// Directory of the control sockets [default: /run/dockline/ports, or below $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR", env = "DOCKLINE_STATE_DIR", hide_env = true)]
    pub(crate) state_dir: Option<AbsolutePath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FirewallKind {
    Nft,
    Iptables,
}

/// End publications, and wait until they have ended.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  dockline unpublish 3f2a91bc
  dockline unpublish 8080
  dockline unpublish web
  dockline unpublish --all")]
pub(crate) struct UnpublishArgs {
    /// ID, port, or container.
    #[arg(required_unless_present = "all", value_name = "ID|PORT|NAME")]
    pub(crate) which: Vec<Untrusted<String>>,

    /// All of them.
    #[arg(long, conflicts_with = "which")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// List the ports that dockline and Docker have published, with clients and traffic.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  dockline ports
  dockline ports --format json | jq 'select(.proto == \"tcp\") | .listen'

Traffic that the kernel forwards (--dnat, Docker's rules) is not counted.")]
pub(crate) struct PortsArgs {
    /// text, or json: one object per line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ListFormat,

    #[command(flatten)]
    pub(crate) docker: DockerArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    Text,
    Json,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version(pub(crate) ProxyProtocol);

impl FromStr for Version {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "v1" | "1" => Ok(Self(ProxyProtocol::V1)),
            "v2" | "2" => Ok(Self(ProxyProtocol::V2)),
            _ => Err(Problem::new("the versions are v1 and v2")),
        }
    }
}

/// A target without Docker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
}

impl FromStr for Destination {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self { ip, port: None });
        }
        match text.parse::<std::net::SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            _ => {
                let text = Untrusted::new(text);
                Err(Problem::new(format_args!("`{text}` is not an address"))
                    .hint("write IP or IP:PORT, as in 10.55.66.2:8000 or [fd00::2]:8000"))
            }
        }
    }
}

/// The target of the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Container(Untrusted<String>),
    Fixed(IpAddr),
}

impl PublishArgs {
    /// Returns what is published, and on which ports.
    pub(crate) fn plan(&self) -> Result<(Backend, Vec<Mapping>), Problem> {
        let (backend, ports, first) = match (&self.to, &self.words[..]) {
            (Some(to), ports) => (Backend::Fixed(to.ip), ports, to.port),
            (None, [_]) => {
                return Err(Problem::new(format_args!(
                    "a container and a port are required, but there is only `{}`",
                    self.words[0]
                ))
                .hint("write as in `dockline publish web 8080:80`"));
            }
            (None, [name, ports @ ..]) => (Backend::Container(name.clone()), ports, None),
            (None, []) => return Err(Problem::new("a container and a port are required")),
        };
        let protos = if self.proto.is_empty() { &[Proto::Tcp][..] } else { &self.proto };
        let mut all: Vec<Mapping> = Vec::new();
        for word in ports {
            let spec: PortSpec = word.raw().parse()?;
            let protos = if spec.proto.is_some() { &protos[..1] } else { protos };
            for proto in protos {
                all.extend(spec.mappings(*proto, first)?);
            }
        }
        for (place, one) in all.iter().enumerate() {
            if one.listen.port() != 0
                && all[..place].iter().any(|other| (other.listen, other.proto) == (one.listen, one.proto))
            {
                return Err(Problem::new(format_args!("duplicate port {one}")));
            }
        }
        if self.proxy_protocol.is_some() && all.iter().any(|mapping| mapping.proto == Proto::Udp) {
            return Err(
                Problem::new("--proxy-protocol is for TCP only").hint("publish the UDP ports separately")
            );
        }
        if self.dnat {
            if all.iter().all(|mapping| mapping.listen.ip().is_loopback()) {
                return Err(Problem::new(format_args!(
                    "--dnat is for other machines, which cannot reach {}",
                    all[0].listen
                ))
                .hint("give an address, as in 0.0.0.0:8080:80"));
            }
        } else if self.dry_run {
            return Err(Problem::new("--dry-run prints the commands of --dnat").hint("add --dnat"));
        }
        Ok((backend, all))
    }
}
