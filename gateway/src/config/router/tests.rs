#![forbid(unsafe_code)]
use dockline_discovery::directory::TrustedNodes;

use super::super::tests::config;
use super::super::{Config, ListenerDestination};
use super::*;

const LISTEN: &str = "[[listen]]\naddress = \"tcp://127.0.0.1:80\"\nrouter = true\n";

fn router(table: &str) -> Result<RouterConfig, String> {
    let config = config("", &format!("{LISTEN}{table}"))?;
    Ok(config.router.unwrap())
}

fn refused(table: &str) -> String {
    router(table).map(|router| format!("{router:?}")).unwrap_err()
}

fn domains(router: &RouterConfig) -> Vec<&str> {
    router.lookup.domains().iter().map(|domain| &**domain).collect()
}

#[test]
fn a_router_has_defaults() {
    let router = router("[router]\n").unwrap();
    assert_eq!(router, RouterConfig::default());
    assert!(router.lookup.first_label() && router.lookup.domains().is_empty());
    assert_eq!(router.daemons[0].address.to_string(), "unix:///var/run/docker.sock");
    assert_eq!((router.hold, router.hold_requests), (Duration::from_secs(2), 1000));
    assert_eq!((router.start_time, router.drain), (Duration::from_secs(30), None));
    assert_eq!(router.trusted_nodes, TrustedNodes::Only(BTreeSet::new()));
}

#[test]
fn everything_can_be_set() {
    let router = router(
        "[router]\ndomains = [\"apps.example.com\"]\nfirst_label = true\nnode = \"one\"\ngateway = \"192.0.2.1:80\"\n\
         docker = [\"unix:///a\", { address = \"tcp://b:1\", node = \"b\", gateway = \"192.0.2.2:80\", swarm = true }]\n\
         label_prefix = \"com.example\"\nexposed_by_default = true\nvirtual_host = true\ntraefik = true\n\
         hold = \"5s\"\nhold_requests = 0\nstart_time = \"1m\"\ndrain = \"1h\"\nbalance = \"least-connections\"\n\
         error_pages = \"/e\"\nacme_dir = \"/acme\"\ndirect = [\"10.0.0.0/8\"]\ntrusted_nodes = [\"*\"]\n",
    )
    .unwrap();
    assert_eq!(domains(&router), ["apps.example.com"]);
    assert_eq!(router.daemons[1].node.as_ref().unwrap().as_str(), "b");
    assert_eq!(router.daemons[1].gateway, Some("192.0.2.2:80".parse().unwrap()));
    let swarms: Vec<_> =
        router.daemons.iter().map(|daemon| daemon.swarm.as_ref().map(|name| name.as_str())).collect();
    assert_eq!(swarms, [None, Some("swarm")]);
    assert_eq!(router.labels.prefix.0, "com.example");
    assert!(router.labels.exposed_by_default && router.labels.virtual_host && router.labels.traefik);
    assert_eq!((router.hold_requests, router.drain), (0, Some(Duration::from_secs(3600))));
    assert_eq!((router.balance, router.trusted_nodes), (Balance::LeastConnections, TrustedNodes::All));
    assert_eq!(router.direct.len(), 1);
}

#[test]
fn the_first_label_is_a_name_unless_there_are_base_domains() {
    let first_label = |table: &str| router(table).unwrap().lookup.first_label();
    assert!(first_label("[router]\n"));
    assert!(!first_label("[router]\ndomains = [\"a.example\"]\n"));
    assert!(first_label("[router]\ndomains = [\"a.example\"]\nfirst_label = true\n"));
    assert!(!first_label("[router]\nfirst_label = false\n"));
}

#[test]
fn fixed_routes_have_targets_of_any_kind() {
    let router = router(
        "[router]\ntarget_tls = { ca = \"/ca.pem\" }\n\
         [[route]]\nhost = \"www.example.com\"\npath = \"/api\"\nstrip = true\nbalance = \"least-connections\"\n\
         targets = [\"192.0.2.7:8080\", \"[2001:db8::1]:81\", \"http://files.example\", \"https://a.example\", \
         { address = \"b:1\", weight = 1000 }]\n\
         [[route]]\nname = \"x\"\ntargets = [\"a\"]\n",
    )
    .unwrap();
    let route = &router.fixed[0];
    assert_eq!((route.key.to_string().as_str(), route.strip), ("www.example.com/api", true));
    assert_eq!((route.balance, router.fixed[1].balance), (Some(Balance::LeastConnections), None));
    let shown: Vec<_> = route
        .targets
        .iter()
        .map(|(target, weight)| format!("{} {} {weight}", target.address, target.tls))
        .collect();
    assert_eq!(
        shown,
        [
            "192.0.2.7:8080 false 1",
            "[2001:db8::1]:81 false 1",
            "files.example:80 false 1",
            "a.example:443 true 1",
            "b:1 false 1000"
        ]
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (table, words) in [
        ("[router]\ndomain = [\"a\"]\n", "did you mean `domains`?"),
        ("[router]\ndomains = [\"*.a.example\"]\n", "write a.example only"),
        ("[router]\ndomains = [\"192.0.2.1\"]\n", "is not a domain"),
        ("[router]\nhold = 2\n", "\"2s\""),
        ("[router]\nbalance = \"least-conections\"\n", "did you mean `least-connections`?"),
        ("[router]\ndirect = [\"10.0.0.0/33\"]\n", "10.0.0.0/33"),
        ("[router]\nlabel_prefix = \"a.\"\n", "without the last dot"),
        ("[router]\nnode = \"a b\"\n", "name of a node"),
        ("[router]\nnode = \"configuration\"\n", "stands for the routes of this file"),
        ("[router]\ndocker = [\"tls://a\"]\n", "needs the authority"),
        ("[router]\n[[route]]\ntargets = [\"a\"]\n", "it has no host"),
        ("[router]\n[[route]]\nhost = \"a\"\nname = \"b\"\ntargets = [\"a\"]\n", "write two routes"),
        ("[router]\n[[route]]\nhost = \"a b\"\ntargets = [\"a\"]\n", "letters, digits"),
        ("[router]\n[[route]]\nhost = \"a\"\npath = \"x\"\ntargets = [\"a\"]\n", "begins with `/`"),
        ("[router]\n[[route]]\nhost = \"a\"\nstrip = true\ntargets = [\"a\"]\n", "no path to strip"),
        ("[router]\n[[route]]\nhost = \"a\"\ntargets = []\n", "it has no targets"),
        ("[router]\n[[route]]\nhost = \"a\"\ntargets = [\"unix:///a\"]\n", "host:port"),
        ("[router]\n[[route]]\nhost = \"a\"\ntargets = [\"a:0\"]\n", "port 0"),
        (
            "[router]\n[[route]]\nhost = \"a\"\ntargets = [{ address = \"a\", weight = 0 }]\n",
            "a weight is 1 to 1000",
        ),
        ("[router]\n[[route]]\nhost = \"a\"\ntargets = [{ adress = \"a\" }]\n", "did you mean `address`?"),
        ("[router]\ndocker = [{ address = \"unix:///a\", nod = \"a\" }]\n", "did you mean `node`?"),
        ("[router]\ndocker = [1]\n", "or a table with an address"),
        ("[router]\ndocker = [{ address = \"unix:///a\", swarm = 1 }]\n", "or the name of that"),
        ("[router]\ndocker = [{ address = \"unix:///a\", swarm = \"a b\" }]\n", "name of a node"),
        ("[router]\n[[route]]\nhost = \"a\"\ntargets = [\"https://a\"]\n", "add target_tls"),
        (
            "[router]\n[[route]]\nhost = \"A\"\ntargets = [\"a\"]\n[[route]]\nhost = \"a.\"\ntargets = [\"a\"]\n",
            "there are two routes for a",
        ),
    ] {
        let said = refused(table);
        assert!(said.contains(words) && said.starts_with("d.toml:"), "{table}: {said}");
    }
}

#[test]
fn the_number_of_targets_has_a_limit() {
    let with = |count: usize| {
        router(&format!("[router]\n[[route]]\nhost = \"a\"\ntargets = [{}]\n", "\"a\", ".repeat(count)))
    };
    assert!(with(TARGETS_MAX - 1).is_ok() && with(TARGETS_MAX).is_ok());
    assert!(with(TARGETS_MAX + 1).unwrap_err().contains("more than 256"));
}

#[test]
fn a_listener_is_a_router_or_has_an_upstream() {
    let refused = |file: &str| config("", file).map(drop).unwrap_err();
    assert!(refused(LISTEN).contains("there is no table [router]"));
    let both = format!(
        "{LISTEN}upstream = \"docker\"\n[router]\n[[upstream]]\nname = \"docker\"\naddress = \"unix:///a\"\n"
    );
    assert!(refused(&both).contains("a router has no upstream"));
    assert!(refused(&format!("{LISTEN}allow_hosts = [\"a\"]\n[router]\n")).contains("those of its routes"));
    assert!(refused("[[route]]\nhost = \"a\"\ntargets = [\"a\"]\n").contains("add a table [router]"));

    let only = config("", &format!("{LISTEN}[router]\n")).unwrap();
    assert!(only.upstreams.is_empty() && only.listeners[0].is_router());
    let mixed = format!("{LISTEN}[[listen]]\naddress = \"unix:///d.sock\"\n[router]\n");
    let mixed = config("", &mixed).unwrap();
    assert_eq!(mixed.listeners[1].destination, ListenerDestination::Upstream(0));
}

#[test]
fn the_command_line_makes_a_router() {
    let of = |line: &str, file: &str| -> Config { config(line, file).unwrap() };
    let plain = of("--router", "");
    assert_eq!(plain.listeners[0].address.to_string(), "tcp://0.0.0.0:80");
    assert!(plain.listeners[0].is_router() && plain.upstreams.is_empty());
    assert_eq!(plain.router, Some(RouterConfig::default()));

    let line = "--router --domain a.example,b.example --listen 127.0.0.1:8080 --upstream tcp://one:1 --upstream unix:///b";
    let full = of(line, "[router]\nhold = \"9s\"\n[[route]]\nname = \"x\"\ntargets = [\"a\"]\n");
    let router = full.router.unwrap();
    assert_eq!(domains(&router), ["a.example", "b.example"]);
    assert!(!router.lookup.first_label());
    assert_eq!((router.daemons.len(), router.hold, router.fixed.len()), (2, Duration::from_secs(9), 1));
    assert!(config("--domain a.example", "").unwrap_err().contains("needs `--router`"));
}

#[test]
fn requests_for_containers_have_other_limits_than_those_for_docker() {
    let config = config("", &format!("{LISTEN}[router]\n[limits]\nkeep_alive = \"7s\"\n")).unwrap();
    assert_eq!((config.limits.request_line, config.router_limits.request_line), (192 * 1024, 16 * 1024));
    assert_eq!(config.limits.keep_alive, config.router_limits.keep_alive);
}
