#![forbid(unsafe_code)]
//! [`Plan`]: what `discover` does, from its command line and the environment.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dockline::engine::Address as DaemonAddress;
use dockline::routes::LookupOptions;
use dockline::untrusted::Untrusted;
use dockline_discovery::address::Network;
use dockline_discovery::container::LabelOptions;
use dockline_discovery::registry::redis::{Address, PublisherConfig};
use dockline_discovery::snapshot_file::SnapshotFileConfig;
use dockline_discovery::{Node, NodeName, Readers, View};

use super::args::{DiscoverArgs, LayoutArg, ReadersArg};
use super::daemon::Daemon;
use crate::address::UpstreamAddress;
use crate::problem::Problem;
use crate::redis_server::{self, Names, RedisFiles};

/// The prefix of a network that is given without one, as in the nginx setups of old.
const OLD_PREFIX: u8 = 16;

/// Variables of nginx setups with a Python script, whose Redis is a linked container.
const REDIS_ADDRESS: &str = "REDIS_PORT_6379_TCP_ADDR";
const REDIS_PORT: &str = "REDIS_PORT_6379_TCP_PORT";
const NETWORK: &str = "DOCKER_NETWORK_ADDR";
const HOST_IP: [&str; 2] = ["HOST_IP", "DOCKER_MANAGER_HOST_IP"];

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) daemons: Vec<Daemon>,
    pub(super) publisher: Option<PublisherConfig>,
    pub(super) snapshot: Option<SnapshotFileConfig>,
}

impl Plan {
    /// Makes a plan. `variable` returns a variable of the environment.
    pub(super) fn new(
        args: &DiscoverArgs,
        variable: impl Fn(&str) -> Option<String>,
        host_name: &str,
    ) -> Result<Self, Problem> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let own = own_node(args, &variable, host_name)?;
        let lease = args.ttl.0;
        if lease < Duration::from_secs(1) || lease > Duration::from_secs(3600) {
            return Err(Problem::new("the time is not from 1s to 1h").at("--ttl").hint("30s is the default"));
        }
        let view =
            || Ok::<_, Problem>(View { node: own.name.clone(), readers: readers(args, &variable, &own)? });
        let publisher = match redis(args, &variable)? {
            Some((address, is_old)) => {
                let layout =
                    args.layout.unwrap_or(if is_old { LayoutArg::Classic } else { LayoutArg::Structured });
                let classic = (layout != LayoutArg::Structured).then(&view).transpose()?;
                if classic.is_some() && address.is_cluster() {
                    let why = "the classic layout needs one server: its readers do not know of clusters";
                    let hint = "use --layout structured, or another Redis";
                    return Err(Problem::new(why).at("--layout").hint(hint));
                }
                let files = RedisFiles {
                    password: args.redis_password_file.clone(),
                    ca: args.redis_ca.clone(),
                    cert: args.redis_cert.clone(),
                    key: args.redis_key.clone(),
                };
                let (address, tls) = files.read(address, Names::Options)?;
                let structured = layout != LayoutArg::Classic;
                Some(PublisherConfig { address, tls, structured, classic, lease })
            }
            None if args.snapshot.is_some() => None,
            None => {
                return Err(Problem::new("there is no place to publish routes")
                    .hint("add --redis redis://HOST:6379, or --snapshot FILE"));
            }
        };
        let daemons = daemons(args, own.clone())?;
        let snapshot = args.snapshot.as_ref().map(|path| {
            let lookup = LookupOptions::new(args.domain.iter().map(String::as_str), args.first_label);
            Ok::<_, Problem>(SnapshotFileConfig {
                path: path.to_path_buf(),
                lookup: lookup
                    .map_err(|error| Problem::new("this is not a domain").at("--domain").because(error))?,
                view: view()?,
                sources: daemons.iter().map(Daemon::source).collect(),
            })
        });
        if args.snapshot.is_some() && args.domain.is_empty() && !args.first_label {
            return Err(Problem::new("names would be below no domain")
                .at("--snapshot")
                .hint("add --domain DOMAIN, or --first-label"));
        }
        Ok(Self { daemons, publisher, snapshot: snapshot.transpose()? })
    }
}

/// Returns this machine.
fn own_node(
    args: &DiscoverArgs,
    variable: &impl Fn(&str) -> Option<String>,
    host_name: &str,
) -> Result<Node, Problem> {
    let name = args.node_name.as_deref().unwrap_or(host_name);
    let name: NodeName = name.parse().map_err(|reason| {
        Problem::new(reason).at(format_args!("`{}`", Untrusted::new(name))).hint("give one with --node-name")
    })?;
    let mut address = args.node_address;
    for name in HOST_IP {
        if let Some(text) = variable(name).filter(|_| address.is_none()) {
            let text = Untrusted::new(text);
            address = Some(
                text.raw()
                    .parse()
                    .map_err(|_| Problem::new(format_args!("`{text}` is not an IP address")).at(name))?,
            );
        }
    }
    Ok(Node { name, gateway: address.map(|ip| SocketAddr::new(ip, args.gateway_port)) })
}

/// Returns the address of Redis, and whether it is from the variables of old setups.
fn redis(
    args: &DiscoverArgs,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<(Address, bool)>, Problem> {
    if let Some(url) = &args.redis {
        return Ok(Some((redis_server::address(&url.0).map_err(|problem| problem.at("--redis"))?, false)));
    }
    let Some(host) = variable(REDIS_ADDRESS) else { return Ok(None) };
    let port = match variable(REDIS_PORT) {
        None => 6379,
        Some(text) => text.parse().map_err(|_| {
            Problem::new(format_args!("`{}` is not a port", Untrusted::new(text))).at(REDIS_PORT)
        })?,
    };
    Ok(Some((Address::tcp(host, port), true)))
}

/// Returns for whom addresses are written.
fn readers(
    args: &DiscoverArgs,
    variable: &impl Fn(&str) -> Option<String>,
    own: &Node,
) -> Result<Readers, Problem> {
    match args.readers {
        ReadersArg::Node => {
            let (place, text) = match &args.network {
                Some(text) => ("--network", Some(text.clone())),
                None => (NETWORK, variable(NETWORK)),
            };
            let network = text.map(|text| network(&text).map_err(|problem| problem.at(place)));
            Ok(Readers::Node(network.transpose()?))
        }
        ReadersArg::Elsewhere if own.gateway.is_none() => {
            Err(Problem::new("nobody would know where the gateway of this machine is")
                .at("--readers elsewhere")
                .hint("add --node-address IP"))
        }
        ReadersArg::Elsewhere => Ok(Readers::Elsewhere),
    }
}

fn network(text: &str) -> Result<Network, Problem> {
    let alone = text.parse::<IpAddr>().ok().and_then(|address| Network::new(address, OLD_PREFIX));
    let network = alone.map_or_else(|| text.parse(), Ok);
    network.map_err(|error| Problem::new(format_args!("`{}`", Untrusted::new(text))).because(error))
}

/// Returns the daemons, each with its machine. One daemon is that of this machine, wherever it is
/// reached; of several, those with a name or address of their own are on other machines.
fn daemons(args: &DiscoverArgs, own: Node) -> Result<Vec<Daemon>, Problem> {
    let addresses = if args.docker.is_empty() {
        vec![UpstreamAddress { address: DaemonAddress::Unix("/var/run/docker.sock".into()), tls: false }]
    } else {
        args.docker.clone()
    };
    let daemon = |address, node| Daemon {
        address,
        node,
        tls_dir: args.docker_tls_dir.clone(),
        labels: LabelOptions {
            virtual_host: args.virtual_host,
            traefik: args.traefik,
            ..LabelOptions::default()
        },
    };
    if let [address] = addresses.as_slice() {
        return Ok(vec![daemon(address.clone(), own)]);
    }
    let mut daemons: Vec<Daemon> = Vec::new();
    for address in addresses {
        let node = match &address.address {
            DaemonAddress::Tcp { host, .. } => {
                let name = host.parse().map_err(|reason| Problem::new(reason).at(&address))?;
                let gateway = host.parse().ok().map(|ip| SocketAddr::new(ip, args.gateway_port));
                Node { name, gateway }
            }
            DaemonAddress::Unix(_) => own.clone(),
        };
        if daemons.iter().any(|known| known.node.name == node.name) {
            return Err(Problem::new(format_args!("there are two daemons of the machine {}", node.name))
                .at("--docker")
                .hint("run `dockline discover` once for each, with --node-name"));
        }
        daemons.push(daemon(address, node));
    }
    Ok(daemons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: DiscoverArgs,
    }

    fn plan(words: &str, variables: &[(&str, &str)]) -> Result<Plan, String> {
        let words = ["discover"].into_iter().chain(words.split_ascii_whitespace());
        let line: Line = clap::Parser::try_parse_from(words).map_err(|error| error.to_string())?;
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Plan::new(&line.args, variable, "host-1").map_err(|problem| problem.to_string())
    }

    fn good(words: &str, variables: &[(&str, &str)]) -> Plan {
        plan(words, variables).unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    fn bad(words: &str, variables: &[(&str, &str)]) -> String {
        plan(words, variables).map(drop).expect_err(words)
    }

    #[test]
    fn a_redis_is_enough() {
        let plan = good("--redis redis://db", &[]);
        let Daemon { address, node, .. } = &plan.daemons[0];
        assert_eq!(address.to_string(), "unix:///var/run/docker.sock");
        assert_eq!((node.name.as_str(), node.gateway), ("host-1", None));
        let publisher = plan.publisher.unwrap();
        assert_eq!(publisher.address.to_string(), "redis://db:6379");
        assert!(publisher.structured && publisher.classic.is_none());
        assert_eq!(publisher.lease, Duration::from_secs(30));
    }

    #[test]
    fn the_variables_of_old_setups_are_taken_as_they_are() {
        let worker = [
            ("HOST_IP", "192.0.2.7"),
            ("REDIS_PORT_6379_TCP_ADDR", "172.17.0.5"),
            ("REDIS_PORT_6379_TCP_PORT", "6380"),
            ("DOCKER_NETWORK_ADDR", "172.17.0.0"),
        ];
        let plan = good("--docker 192.0.2.1:3375", &worker);
        let publisher = plan.publisher.unwrap();
        assert_eq!(publisher.address.to_string(), "redis://172.17.0.5:6380");
        assert!(!publisher.structured);
        let classic = publisher.classic.unwrap();
        assert_eq!(classic.readers, Readers::Node(Some("172.17.0.0/16".parse().unwrap())));
        let Daemon { address, node, .. } = &plan.daemons[0];
        assert_eq!(address.to_string(), "tcp://192.0.2.1:3375");
        assert_eq!(node.gateway, Some("192.0.2.7:80".parse().unwrap()));

        let manager = [("DOCKER_MANAGER_HOST_IP", "192.0.2.8"), ("REDIS_PORT_6379_TCP_ADDR", "db")];
        let plan = good("", &manager);
        let publisher = plan.publisher.unwrap();
        assert_eq!(plan.daemons[0].node.gateway, Some("192.0.2.8:80".parse().unwrap()));
        assert_eq!(publisher.address.to_string(), "redis://db:6379");
        assert_eq!(publisher.classic.unwrap().readers, Readers::Node(None));
    }

    #[test]
    fn options_take_precedence_over_those_variables() {
        let variables = [
            ("HOST_IP", "192.0.2.7"),
            ("REDIS_PORT_6379_TCP_ADDR", "other"),
            ("DOCKER_NETWORK_ADDR", "10.0.0.0"),
        ];
        let plan = good(
            "--redis redis://db --node-address 192.0.2.9 --gateway-port 8080 --layout both --network 172.18.0.0/24",
            &variables,
        );
        let publisher = plan.publisher.unwrap();
        assert_eq!(publisher.address.to_string(), "redis://db:6379");
        assert_eq!(plan.daemons[0].node.gateway, Some("192.0.2.9:8080".parse().unwrap()));
        assert!(publisher.structured);
        let readers = publisher.classic.unwrap().readers;
        assert_eq!(readers, Readers::Node(Some("172.18.0.0/24".parse().unwrap())));
    }

    #[test]
    fn several_daemons_are_several_machines() {
        let plan = good("--redis db --docker unix:///run/d.sock --docker tcp://192.0.2.2,worker-3:2375", &[]);
        let names: Vec<&str> = plan.daemons.iter().map(|daemon| daemon.node.name.as_str()).collect();
        assert_eq!(names, ["host-1", "192.0.2.2", "worker-3"]);
        assert_eq!(plan.daemons[1].node.gateway, Some("192.0.2.2:80".parse().unwrap()));
        assert_eq!(plan.daemons[2].node.gateway, None);
        assert!(bad("--redis db --docker a:1 --docker a:2", &[]).contains("two daemons of the machine a"));
    }

    #[test]
    fn a_file_is_enough() {
        let plan =
            good("--snapshot /run/routes --domain a.example,b.example --first-label --virtual-host", &[]);
        assert!(plan.publisher.is_none() && plan.daemons[0].labels.virtual_host);
        let snapshot = plan.snapshot.unwrap();
        assert_eq!(snapshot.lookup.domains().len(), 2);
        assert_eq!(&*snapshot.sources[0], "docker:unix:///var/run/docker.sock");
    }

    #[test]
    fn problems_say_where_they_are_and_what_to_do() {
        let old = ("REDIS_PORT_6379_TCP_ADDR", "db");
        for (words, variables, expected) in [
            ("", vec![], "there is no place to publish routes; add --redis"),
            (
                "--redis http://db",
                vec![],
                "--redis: this is not an address of Redis: unknown scheme `http://`",
            ),
            ("--redis db --readers elsewhere --layout both", vec![], "add --node-address IP"),
            (
                "--redis redis+cluster://a,b --layout classic",
                vec![],
                "--layout: the classic layout needs one server",
            ),
            ("--snapshot /x", vec![], "--snapshot: names would be below no domain; add --domain"),
            ("--snapshot /x --domain a/b", vec![], "--domain: this is not a domain"),
            ("--redis db --domain a", vec![], "--snapshot"),
            ("--redis db --ttl 999ms", vec![], "--ttl: the time is not from 1s to 1h"),
            ("--redis db --ttl 3601s", vec![], "--ttl: the time is not from 1s to 1h"),
            ("--redis db --redis-ca /x", vec![], "write rediss:// in place of redis://"),
            ("--redis rediss://db --redis-cert /dev/null", vec![], "add --redis-key"),
            (
                "--redis db --redis-password-file /none/x",
                vec![],
                "--redis-password-file: cannot read /none/x",
            ),
            ("--redis db --node-name a/b", vec![], "give one with --node-name"),
            ("", vec![old, ("HOST_IP", "x")], "HOST_IP: `x` is not an IP address"),
            ("", vec![old, ("REDIS_PORT_6379_TCP_PORT", "x")], "REDIS_PORT_6379_TCP_PORT: `x` is not a port"),
            ("", vec![old, ("DOCKER_NETWORK_ADDR", "x")], "DOCKER_NETWORK_ADDR: `x`: "),
        ] {
            let problem = bad(words, &variables);
            assert!(problem.contains(expected), "{words}: {problem}");
        }
        assert!(plan("--redis db --ttl 1s", &[]).is_ok() && plan("--redis db --ttl 1h", &[]).is_ok());
    }

    #[test]
    fn a_password_is_in_no_message() {
        for words in
            ["--redis http://:secret@db", "--redis redis://:secret@a,b", "--redis redis://:secret@db --ttl 0"]
        {
            let problem = bad(words, &[]);
            assert!(!problem.contains("secret"), "{problem}");
        }
        let plan = good("--redis redis://:secret@db", &[]);
        assert!(!format!("{plan:?}").contains("secret"), "{plan:?}");
    }
}
