#![forbid(unsafe_code)]
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use dockline::engine::Address;
use dockline::proxy::TrustedPeer;

use super::*;
use crate::absolute_path::AbsolutePath;
use crate::cli::{Cli, Command};

pub(super) fn settings(line: &str) -> Settings {
    let words = ["dockline", "serve"].into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command {
        Command::Serve(settings) => settings,
        other => panic!("{other:?}"),
    }
}

pub(super) fn config(line: &str, file: &str) -> Result<Config, String> {
    let source = Source::new(Path::new("d.toml"), file.to_owned());
    Config::merge(&settings(line), Some(source)).map_err(|problem| problem.to_string())
}

/// Returns the configuration of a file, for tests of other modules.
pub(crate) fn of_file(file: &str) -> Config {
    config("", file).unwrap()
}

fn refused(file: &str) -> String {
    config("", file).expect_err(file)
}

/// The log would tell to use its address as `DOCKER_HOST`.
#[test]
fn the_default_listener_of_a_router_is_no_docker_socket() {
    let config = Config::merge(&settings("--router"), None).unwrap();
    assert!(config.listeners[0].is_router() && !config.listeners[0].is_default);
}

#[test]
fn without_anything_it_is_the_local_daemon_for_this_machine() {
    let config = Config::merge(&settings(""), None).unwrap();
    assert_eq!(config.listeners.len(), 1);
    let ListenAddress::Unix { path, access } = &config.listeners[0].address else { panic!("{config:?}") };
    assert!(path.ends_with("dockline/docker.sock") && config.listeners[0].is_default, "{path:?}");
    assert_eq!((access.mode, &access.user, &access.group), (0o600, &None, &None));
    assert_eq!(config.upstreams[0].addresses[0].to_string(), "unix:///var/run/docker.sock");
    assert_eq!(config.upstreams[0].host, "docker");
    assert_eq!(config.drain_timeout, Some(Duration::from_secs(30)));
    assert_eq!(config.limits.request_line, 192 * 1024);
    assert_eq!(config.access_log.0, None);
    assert!(!config.admin.wanted && config.admin.address.is_some());
}

#[test]
fn options_win_over_the_file() {
    let file = "threads = 2\ndrain_timeout = \"5s\"\n[[listen]]\naddress = \"tcp://127.0.0.1:1\"\n\
                [[upstream]]\nname = \"a\"\naddress = \"tcp://h:5\"\n[log]\nlevel = \"debug\"\n\
                [forwarding]\nvia = \"file\"\nx_forwarded = true\n";
    let from_file = config("", file).unwrap();
    assert_eq!(from_file.threads.map(NonZeroUsize::get), Some(2));
    assert_eq!(from_file.drain_timeout, Some(Duration::from_secs(5)));
    assert_eq!(from_file.listeners[0].address.to_string(), "tcp://127.0.0.1:1");
    assert_eq!(from_file.upstreams[0].host, "h:5");
    assert_eq!(from_file.forwarding.via.as_deref(), Some(&b"file"[..]));
    assert_eq!(from_file.x_forwarded, Some(true));

    let line = "--threads 3 --drain-timeout 0 --listen 127.0.0.1:9,[::1]:9 --upstream tcp://b --log-level warn \
                --via line --x-forwarded=false --admin off --access-log -";
    let from_line = config(line, file).unwrap();
    assert_eq!(from_line.threads.map(NonZeroUsize::get), Some(3));
    assert_eq!(from_line.drain_timeout, None);
    assert_eq!(from_line.listeners.len(), 2);
    assert_eq!(from_line.upstreams[0].host, "b:2375");
    assert_eq!(from_line.log.level, LevelFilter::Warn);
    assert_eq!(from_line.forwarding.via.as_deref(), Some(&b"line"[..]));
    assert_eq!(from_line.x_forwarded, Some(false));
    assert_eq!((from_line.admin.address, from_line.admin.wanted), (None, true));
    assert_eq!(from_line.access_log.0, Some(AccessLogTarget::Stdout));
}

#[test]
fn several_upstreams_are_tried_in_order_or_chosen_by_name() {
    let line = config("--upstream unix:///a --upstream tcp://b:1", "").unwrap();
    assert_eq!(line.upstreams.len(), 1);
    assert_eq!(line.upstreams[0].addresses.len(), 2);
    assert_eq!(line.upstreams[0].addresses[0].address, Address::Unix("/a".into()));

    let file = "[[upstream]]\nname = \"a\"\naddress = \"unix:///a\"\n\
                [[upstream]]\nname = \"b\"\naddresses = [\"tcp://x\", \"tcp://y\"]\n\
                [[listen]]\naddress = \"tcp://127.0.0.1:1\"\nupstream = \"b\"\n";
    let chosen = config("", file).unwrap();
    assert_eq!(chosen.listeners[0].destination, ListenerDestination::Upstream(1));
    assert_eq!(chosen.upstreams[1].addresses.len(), 2);
    assert!(refused(&file.replace("upstream = \"b\"", "")).contains("name one of them"));
}

#[test]
fn problems_in_the_file_are_shown() {
    let upstream = "[[upstream]]\nname = \"docker\"\naddress = \"unix:///a\"\n";
    for (file, words) in [
        (
            "[limits]\nhead_tiem = \"3s\"\n",
            "d.toml:2:1: limits: unknown key `head_tiem`; did you mean `head_time`?\n 2 | head_tiem = \"3s\"\n   | ^^^^^^^^^",
        ),
        ("[limits]\nhead_time = \"3x\"\n", "d.toml:2:13: limits.head_time: `3x` is not a duration"),
        ("[[listen]]\naddress = \"unxi:///a\"\n", "d.toml:2:11: listen"),
        ("[[listen]]\naddress = \"unxi:///a\"\n", "did you mean `unix`?"),
        ("[[listen]]\nname = \"a\"\n", "missing field `address`"),
        ("[lsiten]\n", "did you mean `listen`?"),
        ("threads = 0\n", "d.toml:1:11: threads"),
        ("threads = \n", "d.toml:1:"),
        ("[[listen]]\naddress = \"tls://a\"\n", "d.toml:2:11: listen.address: tls:// needs certificates"),
        (
            "[[listen]]\naddress = \"tls://a\"\ntls = { cert = \"c\" }\n",
            "d.toml:3:7: listen.tls: the private key is missing; add key",
        ),
        ("[[upstream]]\nname = \"a\"\n", "d.toml:2:8: upstream: it has no address"),
        ("[admin]\naddress = \"tcp://0.0.0.0:1\"\n", "reached by other machines"),
    ] {
        let said = refused(file);
        assert!(said.contains(words), "{file}: {said}");
    }
    let twice = format!("{upstream}{upstream}");
    assert!(refused(&twice).contains("d.toml:5:8: upstream.name: there are two upstreams `docker`"));
    let unknown = format!("{upstream}[[listen]]\naddress = \"127.0.0.1:1\"\nupstream = \"dokcer\"\n");
    assert!(
        refused(&unknown)
            .contains("d.toml:6:12: listen.upstream: there is no upstream `dokcer`; did you mean")
    );
}

#[test]
fn a_loop_is_refused() {
    let said = config("--listen tcp://0.0.0.0:5 --upstream tcp://localhost:5", "").unwrap_err();
    assert!(said.contains("would loop"), "{said}");
    let said = config("--listen 127.0.0.1:5,127.0.0.1:5", "").unwrap_err();
    assert!(said.contains("duplicate"), "{said}");
}

#[test]
fn tls_needs_its_files_and_its_scheme() {
    let said = config("--listen tls://a", "").unwrap_err();
    assert!(said.contains("add --tls-cert FILE, or --tls-dir DIR"), "{said}");
    assert!(config("--tls-cert c --tls-key k", "").unwrap_err().contains("--listen tls://"));
    let said = config("--listen tls://a --tls-cert c --tls-key k --tls-crl l", "").unwrap_err();
    assert!(said.contains("--tls-client-ca"), "{said}");
    let tls = config("--listen tls://a --tls-dir /none", "").unwrap().listeners[0].tls.clone().unwrap();
    let (cert, _) = tls.own.unwrap();
    assert_eq!(*cert, *Path::new("/none/cert.pem"));
    assert_eq!(tls.client_ca.as_deref(), Some(Path::new("/none/ca.pem")));

    assert!(config("--upstream tls://a", "").unwrap_err().contains("(ca)"));
    assert!(config("--upstream tcp://a --upstream-tls-ca c", "").unwrap_err().contains("tls://host:port"));
    assert!(config("--upstream-tls-ca c", "").unwrap_err().contains("--upstream tls://"));
    assert!(config("--upstream tls://a,tcp://b --upstream-tls-ca c", "").unwrap_err().contains("mixed"));
    let said = config("--upstream tls://a --upstream-tls-ca c --upstream-tls-cert d", "").unwrap_err();
    assert!(said.contains("no private key"), "{said}");
    let tls =
        config("--upstream tls://a --upstream-tls-ca /c", "").unwrap().upstreams[0].tls.clone().unwrap();
    assert_eq!((&*tls.ca, tls.credentials), (Path::new("/c"), None));
}

#[test]
fn a_relative_path_of_the_file_begins_where_the_program_was_started() {
    let file = "[[listen]]\naddress = \"tls://a\"\n\
                tls = { dir = \"./there\", key = \"there/k\", client_ca = \"there/a\", crl = \"there/r\" }\n\
                [[upstream]]\nname = \"u\"\naddress = \"tls://b\"\n\
                tls = { ca = \"there/a\", cert = \"there/c\", key = \"there/k\" }\n[log]\naccess = \"there/log\"\n";
    let config = config("", file).unwrap();
    let here = std::env::current_dir().unwrap();
    let there = |name: &str| AbsolutePath::new(here.join("there").join(name)).unwrap();
    let listener = ListenerTls {
        own: Some((there("cert.pem"), there("k"))),
        certificates: None,
        client_ca: Some(there("a")),
        crl: Some(there("r")),
    };
    assert_eq!(config.listeners[0].tls, Some(listener));
    let upstream = config.upstreams[0].tls.clone().unwrap();
    assert_eq!((upstream.ca, upstream.credentials), (there("a"), Some((there("c"), there("k")))));
    assert_eq!(config.access_log.0, Some(AccessLogTarget::File(there("log"))));
    for (key, words) in [("cert = \"\"", "the path is empty"), ("crl = 1", "expected path string")] {
        let said = refused(&format!("[[listen]]\naddress = \"tls://a\"\ntls = {{ {key} }}\n"));
        assert!(said.contains(words), "{said}");
    }
}

const ROUTER: &str = include_str!("../../../docs/ROUTER.md");
const GUIDE: &str = include_str!("../../../docs/SERVE.md");

#[test]
fn the_guide_shows_a_good_file() {
    let (_, rest) = GUIDE.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let config = config("", example).unwrap();
    assert_eq!((config.listeners.len(), config.upstreams.len()), (2, 2));
    assert_eq!(config.listeners[1].destination, ListenerDestination::Upstream(1));
}

#[test]
fn the_guide_names_every_key() {
    let shown = format!("{:?}", Limits::default());
    let (_, inside) = shown.split_once("{ ").unwrap();
    let limits = inside.split(", ").map(|field| field.split_once(':').unwrap().0);
    // serde names what it expects when it finds something else.
    let tables = [
        "",
        "[log]\n",
        "[admin]\n",
        "[forwarding]\n",
        "[[listen]]\n",
        "[[upstream]]\n",
        "[router]\n",
        "[[route]]\n",
    ];
    let told: Vec<String> = tables.iter().map(|table| refused(&format!("{table}xxxxxxxx = 1\n"))).collect();
    let keys = told.iter().flat_map(|text| {
        let (_, list) = text.lines().next().unwrap().split_once("expected ").unwrap();
        list.split('`').skip(1).step_by(2)
    });
    let tls = [
        "tls.dir",
        "tls.cert",
        "tls.key",
        "tls.client_ca",
        "tls.crl",
        "tls.certificates",
        "tls.ca",
        "tls.name",
    ];
    for key in limits.chain(keys).chain(tls) {
        let named = key == "tls"
            || [format!("`{key}`"), format!("[{key}]")]
                .iter()
                .any(|it| GUIDE.contains(it) || ROUTER.contains(it));
        assert!(named, "{key}");
    }
}

#[test]
fn trusted_proxies_are_all_or_those_of_a_list() {
    let trusted = |value: &str| {
        let file = format!("[[listen]]\naddress = \"tcp://127.0.0.1:1\"\ntrusted = {value}\n");
        config("", &file).map(|config| config.listeners[0].trusted.clone())
    };
    let network = |text: &str| TrustedPeer::Network(text.parse().unwrap());
    assert_eq!(trusted("true"), Ok(TrustedPeers::All));
    for none in ["false", "[]"] {
        assert_eq!(trusted(none), Ok(TrustedPeers::default()));
    }
    assert_eq!(
        trusted(r#"["10.0.0.0/8", "2001:db8::7", "unix"]"#),
        Ok(TrustedPeers::Listed(vec![network("10.0.0.0/8"), network("2001:db8::7"), TrustedPeer::Unix]))
    );
    for (value, words) in [
        (r#"["10.0.0.0/33"]"#, "`10.0.0.0/33` is neither an address nor a network"),
        (r#"["10.0.0.0/33"]"#, "d.toml:3"),
        (r#"["proxy.example"]"#, "write \"10.0.0.0/8\""),
        ("[10]", "a network such as"),
        ("\"all\"", "true, false, or a list"),
    ] {
        let problem = trusted(value).unwrap_err();
        assert!(problem.contains(words), "{value}: {problem}");
    }
}

#[test]
fn the_proxy_protocol_is_for_all_or_for_a_list() {
    let proxies = |value: &str| {
        let file = format!("[[listen]]\naddress = \"tcp://127.0.0.1:1\"\n{value}\n");
        config("", &file).map(|config| config.listeners[0].proxy_protocol.clone())
    };
    for off in ["", "proxy_protocol = false", "proxy_protocol = []"] {
        assert_eq!(proxies(off), Ok(None), "{off}");
    }
    assert_eq!(proxies("proxy_protocol = true"), Ok(Some(TrustedPeers::All)));
    let listed = TrustedPeers::Listed(vec![TrustedPeer::Unix]);
    assert_eq!(proxies("proxy_protocol = [\"unix\"]"), Ok(Some(listed)));
    assert!(proxies("proxy_protocol = \"v2\"").unwrap_err().contains("true, false, or a list"));
}

#[test]
fn an_upstream_may_expect_the_proxy_protocol() {
    let version = |value: &str| {
        let file = format!("[[upstream]]\nname = \"a\"\naddress = \"tcp://h:5\"\n{value}\n");
        config("", &file).map(|config| config.upstreams[0].proxy_protocol)
    };
    assert_eq!(version(""), Ok(None));
    assert_eq!(version("proxy_protocol = \"v1\""), Ok(Some(ProxyProtocol::V1)));
    assert_eq!(version("proxy_protocol = \"v2\""), Ok(Some(ProxyProtocol::V2)));
    for wrong in ["\"v3\"", "2", "true"] {
        let problem = version(&format!("proxy_protocol = {wrong}")).unwrap_err();
        assert!(problem.contains("d.toml:4") && problem.contains("\"v1\""), "{problem}");
    }
}

#[test]
fn a_directory_of_certificates_needs_no_certificate_beside_it() {
    let tls = |keys: &str| {
        let file =
            format!("[[listen]]\naddress = \"tls://a\"\ntls = {{ certificates = \"/certs\"{keys} }}\n");
        config("", &file).map(|config| config.listeners[0].tls.clone().unwrap())
    };
    let alone = tls("").unwrap();
    assert_eq!((alone.certificates.as_deref(), alone.own), (Some(Path::new("/certs")), None));
    assert_eq!(alone.client_ca, None);
    let both = tls(", cert = \"/c\", key = \"/k\"").unwrap();
    assert!(both.own.is_some() && both.certificates.is_some());
    for (keys, words) in
        [(", cert = \"/c\"", "the private key is missing"), (", key = \"/k\"", "the certificate is missing")]
    {
        assert!(tls(keys).unwrap_err().contains(words), "{keys}");
    }
}
