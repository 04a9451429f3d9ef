#![forbid(unsafe_code)]
use std::sync::Arc;
use std::time::Duration;

use dockline::engine::{ClientInfo, Destination, PeerAddr, Route, RouteRequest, Router};
use dockline::h1::{HostPolicy, RequestHead, RequestHeadReader};
use dockline::limits::Limits;
use dockline::routes::{HostPattern, RouteKey};
use dockline_discovery::{
    Change, Drain, Lifecycle, Node, NodeName, Origin, Record, RecordId, RecordState, Service, Source, Target,
    Update,
};

use super::*;
use crate::config::router::RouterConfig;

/// A router whose keeper is this thread, so that a change is visible when it was applied.
struct Bench {
    shared: Arc<Shared>,
    keeper: Keeper,
    routing: Routing,
    settings: RouterSettings,
}

const NODE: &str = "one";

impl Bench {
    fn new(file: &str) -> Self {
        let config = crate::config::for_tests(&format!(
            "[[listen]]\naddress = \"tcp://127.0.0.1:1\"\nrouter = true\n\
             [router]\nnode = \"{NODE}\"\ndomains = [\"apps.test\"]\ndocker = []\n{file}"
        ));
        let config: RouterConfig = config.router.unwrap();
        let (sender, _) = sync_channel(1);
        let shared = Arc::new(Shared::new());
        let routing = Routing {
            shared: Arc::clone(&shared),
            keeper: sender,
            sources: Mutex::default(),
            #[cfg(feature = "redis")]
            registry: Mutex::default(),
        };
        let settings = RouterSettings::new(&config, vec!["0.0.0.0:8080".parse().unwrap()], None).unwrap();
        let mut bench = Self { keeper: Keeper::new(Arc::clone(&shared)), shared, routing, settings };
        bench.apply(configure(bench.settings.clone()));
        bench
    }

    fn apply(&mut self, message: Message) {
        self.keeper.take([message]);
    }

    fn send(&mut self, source: &str, change: Change) {
        self.apply(Message::Update(Update { source: source.into(), change }));
    }

    /// Announces these records as all of the daemon's.
    fn sync(&mut self, records: &[Record]) {
        let nodes = vec![Node { name: node(NODE), gateway: None }];
        self.send("docker:x", Change::Sync { nodes, records: records.to_vec(), unrouted: vec![] });
    }

    fn ask(&self, host: &str, path: &str) -> Route {
        self.ask_with(host, path, "")
    }

    fn ask_with(&self, host: &str, path: &str, fields: &str) -> Route {
        let head = head(host, path, fields);
        let client = ClientInfo::new(PeerAddr::Unknown, "router");
        self.routing.route(&RouteRequest::new(&client, &head))
    }

    /// Returns where a request goes.
    fn to(&self, host: &str, path: &str) -> Destination {
        match self.ask(host, path) {
            Route::To(destination) => destination,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the address of the first target.
    fn address(&self, host: &str) -> String {
        self.to(host, "/").upstream.addresses[0].to_string()
    }

    fn status(&self, host: &str, path: &str) -> u16 {
        match self.ask(host, path) {
            Route::Reply(reply) => reply.status().as_u16(),
            other => panic!("{other:?}"),
        }
    }

    fn waits(&self, host: &str) -> Option<Duration> {
        match self.ask(host, "/") {
            Route::Later { time, otherwise } => {
                assert_eq!(otherwise.status().as_u16(), 503);
                Some(time)
            }
            _ => None,
        }
    }
}

fn key(name: &str) -> RouteKey {
    RouteKey { host: HostPattern::name(name).unwrap(), path: "/".parse().unwrap() }
}

fn configure(settings: RouterSettings) -> Message {
    Message::Configure(Box::new(settings), sync_channel(1).0)
}

fn head(host: &str, path: &str, fields: &str) -> RequestHead {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Strict);
    reader.read(text.as_bytes()).unwrap().unwrap().0
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn record(owner: &str, name: &str, address: &str) -> Record {
    Record {
        id: RecordId { node: node(NODE), owner: owner.into(), index: 0 },
        title: owner.into(),
        started: 1,
        created: 1,
        key: key(name),
        strip: false,
        service: Some(Service::Compose { project: "p".into(), service: name.into() }),
        target: Some(Target {
            address: Origin::Ip(address.parse().unwrap()),
            tls: false,
            proxy_protocol: None,
        }),
        state: RecordState::Live,
        weight: 1,
        drain: Drain::Never,
        lifecycle: Lifecycle::default(),
    }
}

fn down(record: &Record) -> Record {
    Record { state: RecordState::Down("stopped".into()), ..record.clone() }
}

#[test]
fn a_request_goes_to_the_container_of_its_name() {
    let mut bench = Bench::new("");
    bench.sync(&[record("a", "web", "172.17.0.2:80"), record("b", "db", "172.17.0.3:5000")]);
    assert_eq!(bench.address("web.apps.test"), "tcp://172.17.0.2:80");
    assert_eq!(bench.address("DB.apps.test.:8080"), "tcp://172.17.0.3:5000");
    assert_eq!(bench.to("web.apps.test", "/").route.as_deref(), Some("web"));
    for host in ["other.apps.test", "web", "web.test", "apps.test", "172.17.0.2"] {
        assert_eq!(bench.status(host, "/"), 404, "{host}");
    }
}

#[test]
fn a_name_that_was_seen_waits_and_one_that_was_not_is_unknown() {
    let mut bench = Bench::new("hold = \"3s\"\n");
    let web = record("a", "web", "172.17.0.2:80");
    assert_eq!(bench.status("web.apps.test", "/"), 404);
    bench.sync(std::slice::from_ref(&web));
    bench.sync(&[down(&web)]);
    assert_eq!(bench.waits("web.apps.test"), Some(Duration::from_secs(3)));
    bench.sync(&[]);
    assert_eq!(bench.waits("web.apps.test"), Some(Duration::from_secs(3)));
    bench.sync(&[web]);
    assert_eq!(bench.address("web.apps.test"), "tcp://172.17.0.2:80");
}

#[test]
fn the_name_of_a_stopped_container_is_known_and_anybody_else_may_have_it() {
    let mut bench = Bench::new("hold = \"3s\"\n");
    let stopped = |owner: &str, created| Record {
        target: None,
        state: RecordState::Stopped,
        created,
        ..record(owner, "web", "172.17.0.2:80")
    };
    bench.sync(&[stopped("a", 1), stopped("b", 2)]);
    assert_eq!(bench.waits("web.apps.test"), Some(Duration::from_secs(3)));
    assert_eq!(bench.shared.counters.routes(EntryState::Down), 1);
    // One that was created later, and is no replica.
    let other = Record { created: 9, service: None, ..record("c", "web", "172.17.0.3:80") };
    bench.sync(&[stopped("a", 1), stopped("b", 2), other]);
    assert_eq!(bench.address("web.apps.test"), "tcp://172.17.0.3:80");
}

#[test]
fn each_target_has_its_counts_and_those_with_the_most_requests_are_told() {
    let mut bench =
        Bench::new("[[route]]\nname = \"fixed\"\ntargets = [\"192.0.2.7:80\", \"files.example:81\"]\n");
    let stopped = Record { target: None, state: RecordState::Stopped, ..record("d", "old", "172.17.0.9:80") };
    bench.sync(&[record("a", "web", "172.17.0.2:80"), record("b", "web", "172.17.0.3:80"), stopped]);
    for (name, times) in [("web", 5), ("fixed", 2)] {
        (0..times).for_each(|_| drop(bench.to(&format!("{name}.apps.test"), "/")));
    }
    let told = |most| {
        let Busiest { targets, others } = bench.routing.busiest(most);
        let told = targets.iter().map(|(name, counts)| {
            format!("{} {} {} {}", name.route, name.node, name.target, counts.requests)
        });
        (told.collect::<Vec<_>>(), others)
    };
    let all = [
        "fixed configuration 192.0.2.7:80 1",
        "fixed configuration files.example:81 1",
        "web one a 3",
        "web one b 2",
    ];
    assert_eq!(told(5), (all.map(str::to_owned).to_vec(), 0));
    assert_eq!(told(4).1, 0);
    assert_eq!(told(3), ([all[0], all[2], all[3]].map(str::to_owned).to_vec(), 1));
    assert_eq!(told(0), (vec![], 4));
}

#[test]
fn without_routes_of_the_file_it_is_no_source() {
    let fixed = "[[route]]\nname = \"web\"\ntargets = [\"192.0.2.7:80\"]\n";
    let mut bench = Bench::new(fixed);
    let sources = |bench: &Bench| bench.shared.counters.sources().keys().cloned().collect::<Vec<_>>();
    assert_eq!(sources(&bench), [fixed::source()]);
    bench.apply(configure(Bench::new("").settings));
    assert!(sources(&bench).is_empty());
    assert_eq!(bench.shared.counters.routes(EntryState::Live), 0);
}

#[test]
fn a_name_is_unknown_only_when_all_daemons_have_told_what_they_have() {
    let mut bench = Bench::new("");
    let with = |list: &str| {
        let daemons = format!("docker = [{list}]\n");
        let config = crate::config::for_tests(&format!(
            "[[listen]]\naddress = \"tcp://127.0.0.1:1\"\nrouter = true\n[router]\nnode = \"{NODE}\"\n\
             domains = [\"apps.test\"]\n{daemons}"
        ));
        let settings = RouterSettings::new(&config.router.unwrap(), Vec::new(), None).unwrap();
        Message::Configure(Box::new(settings), sync_channel(1).0)
    };
    let other = "{ address = \"unix:///y\", node = \"two\" }";
    let sync = || Change::Sync { nodes: vec![], records: vec![], unrouted: vec![] };
    bench.apply(with(&format!("\"unix:///x\", {other}")));
    assert!(bench.waits("web.apps.test").is_some());
    bench.send("docker:unix:///x", sync());
    bench.send("docker:unix:///y", Change::Stale("refused".into()));
    assert!(bench.waits("web.apps.test").is_some());
    assert_eq!(bench.shared.hold.lock().len(), 2);
    bench.send("docker:unix:///y", sync());
    assert_eq!(bench.status("web.apps.test", "/"), 404);
    assert_eq!(bench.shared.hold.lock().len(), 0);
    // A daemon that is lost later has been asked once; a new one has not.
    bench.send("docker:unix:///y", Change::Stale("refused".into()));
    assert_eq!(bench.status("web.apps.test", "/"), 404);
    bench.apply(with(&format!("\"unix:///z\", {other}")));
    assert!(bench.waits("web.apps.test").is_some());
    bench.apply(with(other));
    assert_eq!(bench.status("web.apps.test", "/"), 404);
}

#[test]
fn without_a_time_to_wait_the_answer_comes_at_once() {
    let mut bench = Bench::new("hold = \"0\"\n");
    bench.sync(&[down(&record("a", "web", "172.17.0.2:80"))]);
    assert_eq!(bench.status("web.apps.test", "/"), 503);
}

/// Without an engine nobody waits: so each request finds room.
#[test]
fn the_number_of_requests_that_wait_has_a_limit() {
    for (limit, waits) in [(0, false), (1, true), (2, true)] {
        let mut bench = Bench::new(&format!("hold_requests = {limit}\n"));
        bench.sync(&[down(&record("a", "web", "172.17.0.2:80"))]);
        assert_eq!(bench.waits("web.apps.test").is_some(), waits, "{limit}");
        assert_eq!(bench.shared.hold.lock().len(), usize::from(waits));
    }
}

#[test]
fn replicas_take_turns_and_stand_in_for_each_other() {
    let mut bench = Bench::new("");
    bench.sync(&[record("a", "web", "172.17.0.2:80"), record("b", "web", "172.17.0.3:80")]);
    let (one, two) = (bench.to("web.apps.test", "/"), bench.to("web.apps.test", "/"));
    assert!(!Arc::ptr_eq(&one.upstream, &two.upstream));
    assert!(Arc::ptr_eq(&one.others[0], &two.upstream) && Arc::ptr_eq(&two.others[0], &one.upstream));
    bench.sync(&[down(&record("a", "web", "172.17.0.2:80")), record("b", "web", "172.17.0.3:80")]);
    let only = bench.to("web.apps.test", "/");
    assert!(Arc::ptr_eq(&only.upstream, &two.upstream) && only.others.is_empty());
}

#[test]
fn an_upstream_is_that_of_one_start() {
    let mut bench = Bench::new("");
    let web = record("a", "web", "172.17.0.2:80");
    bench.sync(std::slice::from_ref(&web));
    let first = bench.to("web.apps.test", "/").upstream;
    // Paused, and a weight that has changed: it is still the same process.
    bench.sync(&[down(&web)]);
    bench.sync(&[Record { weight: 5, ..web.clone() }]);
    assert!(Arc::ptr_eq(&bench.to("web.apps.test", "/").upstream, &first));
    bench.sync(&[Record { started: 2, ..web.clone() }]);
    assert!(!Arc::ptr_eq(&bench.to("web.apps.test", "/").upstream, &first));
    // Another container with the address.
    bench.sync(&[Record { id: record("b", "web", "172.17.0.2:80").id, ..web }]);
    assert!(!Arc::ptr_eq(&bench.to("web.apps.test", "/").upstream, &first));
}

#[test]
fn the_prefix_is_stripped_from_the_path_and_named_in_a_field() {
    let mut bench = Bench::new("");
    let api = Record {
        key: RouteKey { path: "/api".parse().unwrap(), ..record("a", "web", "172.17.0.2:80").key },
        strip: true,
        ..record("a", "web", "172.17.0.2:80")
    };
    bench.sync(&[api]);
    for (path, sent) in
        [("/api", "/"), ("/api/", "/"), ("/api/x?y", "/x?y"), ("/api?y", "/?y"), ("/api//x", "//x")]
    {
        let shown = format!("{:?}", bench.to("web.apps.test", path).rewrite);
        assert!(shown.contains(&format!("Some(b\"{sent}\")")), "{path}: {shown}");
        assert!(shown.contains("b\"X-Forwarded-Prefix\", value: b\"/api\""), "{path}: {shown}");
    }
    assert_eq!(bench.status("web.apps.test", "/apix"), 404);
    assert_eq!(bench.status("web.apps.test", "/"), 404);
}

#[test]
fn a_request_that_comes_back_is_refused() {
    let mut bench = Bench::new("");
    bench.sync(&[record("a", "web", "172.17.0.2:80")]);
    let own = bench.shared.mark.text();
    let status = |fields: &str| match bench.ask_with("web.apps.test", "/", fields) {
        Route::Reply(reply) => reply.status().as_u16(),
        Route::To(_) => 200,
        other => panic!("{other:?}"),
    };
    assert_eq!(status("Dockline-Hops: 0123456789abcdef\r\n"), 200);
    assert_eq!(status(&format!("Dockline-Hops: 0123456789abcdef, {own}\r\n")), 508);
    assert_eq!(bench.shared.counters.loops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_container_of_another_node_is_reached_directly_or_by_the_router_there() {
    let gateway: std::net::SocketAddr = "192.0.2.2:80".parse().unwrap();
    let there = |address: &str| Record {
        id: RecordId { node: node("two"), owner: "b".into(), index: 0 },
        strip: true,
        key: RouteKey { path: "/api".parse().unwrap(), ..record("b", "web", address).key },
        ..record("b", "web", address)
    };
    for (config, with_gateway, wanted, stripped) in [
        ("", true, "tcp://192.0.2.2:80", false),
        ("", false, "tcp://10.1.0.2:80", true),
        ("direct = [\"10.1.0.0/16\"]\n", true, "tcp://10.1.0.2:80", true),
        ("direct = [\"10.2.0.0/16\"]\n", true, "tcp://192.0.2.2:80", false),
    ] {
        let mut bench = Bench::new(config);
        let nodes = vec![Node { name: node("two"), gateway: with_gateway.then_some(gateway) }];
        let records = vec![there("10.1.0.2:80")];
        bench.send("join:two", Change::Sync { nodes, records, unrouted: vec![] });
        let destination = bench.to("web.apps.test", "/api/x");
        assert_eq!(destination.upstream.addresses[0].to_string(), wanted, "{config}");
        // Else the router there, which strips it, would not know the route.
        let shown = format!("{:?}", destination.rewrite);
        assert_eq!(shown.contains("X-Forwarded-Prefix"), stripped, "{config}: {shown}");
    }
}

#[test]
fn routes_of_the_file_are_there_and_come_first() {
    let mut bench =
        Bench::new("[[route]]\nname = \"web\"\ntargets = [\"files.example\", \"192.0.2.7:8080\"]\n");
    assert_eq!(bench.address("web.apps.test"), "tcp://files.example:80");
    assert_eq!(bench.address("web.apps.test"), "tcp://192.0.2.7:8080");
    bench.sync(&[record("a", "web", "172.17.0.2:80")]);
    assert_eq!(bench.address("web.apps.test"), "tcp://files.example:80");
}

#[test]
fn new_settings_hold_for_the_next_request() {
    let mut bench = Bench::new("");
    bench.sync(&[record("a", "web", "172.17.0.2:80")]);
    let upstream = bench.to("web.apps.test", "/").upstream;
    let other = Bench::new("first_label = true\n[[route]]\nhost = \"x.example\"\ntargets = [\"a\"]\n");
    bench.apply(configure(other.settings));
    assert!(
        Arc::ptr_eq(&bench.to("web.anything.example", "/").upstream, &upstream),
        "its connections are kept"
    );
    assert_eq!(bench.address("x.example"), "tcp://a:80");
    let plain = Bench::new("");
    bench.apply(configure(plain.settings));
    assert_eq!(bench.status("web.anything.example", "/"), 404);
    assert_eq!(bench.waits("x.example"), Some(Duration::from_secs(2)), "it was known");
}

#[test]
fn a_source_that_is_lost_leaves_its_routes() {
    let mut bench = Bench::new("");
    bench.sync(&[record("a", "web", "172.17.0.2:80")]);
    let upstream = bench.to("web.apps.test", "/").upstream;
    bench.send("docker:x", Change::Stale("refused".into()));
    assert!(Arc::ptr_eq(&bench.to("web.apps.test", "/").upstream, &upstream));
    let source: Source = "docker:x".into();
    assert_eq!(bench.shared.counters.sources().get(&source).map(|(is_up, _)| *is_up), Some(false));
    let counted = EntryState::ALL.map(|state| bench.shared.counters.routes(state));
    assert_eq!(counted, [0, 1, 0]);
}

#[test]
fn an_application_that_needs_tls_has_no_target_without_an_authority() {
    let mut bench = Bench::new("");
    let mut web = record("a", "web", "172.17.0.2:443");
    web.target.as_mut().unwrap().tls = true;
    bench.sync(&[web]);
    assert!(bench.waits("web.apps.test").is_some());
}

#[test]
fn no_container_leads_back_to_this_machine() {
    let mut bench = Bench::new("");
    let own = place::own_addresses().into_iter().find(|address| !address.is_loopback() && address.is_ipv4());
    let records: Vec<_> = [Some("127.0.0.1:80".into()), own.map(|own| format!("{own}:8080"))]
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, address)| record(&format!("c{index}"), &format!("web{index}"), &address))
        .collect();
    bench.sync(&records);
    for (index, _) in records.iter().enumerate() {
        assert_eq!(bench.status(&format!("web{index}.apps.test"), "/"), 404);
    }
}
