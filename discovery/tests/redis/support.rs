//! A machine with containers, and a reader of what it publishes.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use dockline::routes::{HostPattern, PathPrefix, RouteKey};
use dockline_discovery::registry::redis::{
    Address, Layout, Publisher, PublisherConfig, Subscriber, SubscriberConfig, TlsFiles,
};
use dockline_discovery::{
    Change, Drain, Lifecycle, Node, Origin, Readers, Record, RecordId, RecordState, Target, Update, View,
};

use crate::server::PATIENCE;

pub(crate) const LEASE: Duration = Duration::from_secs(2);

pub(crate) fn node(name: &str) -> Node {
    Node { name: name.parse().unwrap(), gateway: Some("192.0.2.1:80".parse().unwrap()) }
}

/// Returns the record of a container that serves its own name.
pub(crate) fn record(node: &str, owner: &str, target: &str) -> Record {
    Record {
        id: RecordId { node: node.parse().unwrap(), owner: owner.into(), index: 0 },
        title: owner.into(),
        started: 1,
        created: 1,
        key: RouteKey { host: HostPattern::name(owner).unwrap(), path: PathPrefix::root() },
        strip: false,
        service: None,
        target: Some(Target {
            address: Origin::Ip(target.parse().unwrap()),
            tls: false,
            proxy_protocol: None,
        }),
        state: RecordState::Live,
        weight: 1,
        drain: Drain::default(),
        lifecycle: Lifecycle::default(),
    }
}

pub(crate) fn config(address: Address) -> PublisherConfig {
    PublisherConfig { address, tls: TlsFiles::default(), structured: true, classic: None, lease: LEASE }
}

pub(crate) fn classic(address: Address, node: &str) -> PublisherConfig {
    let classic = View { node: node.parse().unwrap(), readers: Readers::Node(None) };
    PublisherConfig { structured: false, classic: Some(classic), ..config(address) }
}

/// A machine that publishes.
pub(crate) struct Machine {
    publisher: Publisher,
    name: &'static str,
}

impl Machine {
    pub(crate) fn new(name: &'static str, config: PublisherConfig) -> Self {
        Self { publisher: Publisher::start(config).unwrap(), name }
    }

    fn apply(&self, change: Change) {
        self.publisher.apply(Update { source: "docker".into(), change });
    }

    /// All its containers, with their addresses.
    pub(crate) fn has(&self, containers: &[(&str, &str)]) {
        self.has_on(node(self.name), containers);
    }

    /// As [`Machine::has`], of a machine with this gateway.
    pub(crate) fn has_on(&self, node: Node, containers: &[(&str, &str)]) {
        let records = containers.iter().map(|(owner, target)| record(self.name, owner, target)).collect();
        self.apply(Change::Sync { nodes: vec![node], records, unrouted: vec![] });
    }

    pub(crate) fn starts(&self, owner: &str, target: &str) {
        let record = record(self.name, owner, target);
        self.apply(Change::Owner { owner: record.id.clone(), records: vec![record], unrouted: None });
    }

    pub(crate) fn ends(&self, owner: &str) {
        let owner = record(self.name, owner, "192.0.2.1:1").id;
        self.apply(Change::Owner { owner, records: vec![], unrouted: None });
    }

    pub(crate) fn is_removed(&self) {
        self.apply(Change::Gone);
    }
}

/// What a reader has heard.
pub(crate) struct Reader {
    updates: Receiver<Update>,
    _subscriber: Subscriber,
    records: BTreeMap<(String, String), String>,
    pub(crate) stale: Option<String>,
    /// Every name that was ever missing after it had been there.
    pub(crate) losses: Vec<String>,
}

impl Reader {
    pub(crate) fn new(address: Address) -> Self {
        Self::with(address, TlsFiles::default(), Layout::Structured([].into()))
    }

    pub(crate) fn with(address: Address, tls: TlsFiles, layout: Layout) -> Self {
        let (sender, updates) = sync_channel(1000);
        let config = SubscriberConfig { address, tls, layout, source: "redis".into() };
        let subscriber = Subscriber::start(config, move |update| sender.send(update).is_ok()).unwrap();
        Self { updates, _subscriber: subscriber, records: BTreeMap::new(), stale: None, losses: Vec::new() }
    }

    /// Takes the next update. Returns `false` if none comes within this time.
    pub(crate) fn hear(&mut self, time: Duration) -> bool {
        let update = match self.updates.recv_timeout(time) {
            Ok(update) => update,
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => panic!("the thread has ended"),
        };
        assert_eq!(&*update.source, "redis");
        let before = self.records.clone();
        match update.change {
            Change::Sync { records, .. } => {
                self.stale = None;
                self.records.clear();
                records.iter().for_each(|record| self.insert(record));
            }
            Change::Owner { owner, records, .. } => {
                let key = (owner.node.to_string(), owner.owner.raw().to_owned());
                self.records.remove(&key);
                records.iter().for_each(|record| self.insert(record));
            }
            Change::Stale(why) => self.stale = Some(why.to_string()),
            Change::Gone => panic!("never"),
        }
        let is_lost = |key: &&(String, String)| !self.records.contains_key(*key);
        self.losses.extend(before.keys().filter(is_lost).map(|(_, name)| name.clone()));
        true
    }

    fn insert(&mut self, record: &Record) {
        let key = (record.id.node.to_string(), record.id.owner.raw().to_owned());
        let target = record.live_target().map_or_else(String::new, |target| target.address.to_string());
        self.records.insert(key, target);
    }

    /// Returns the records, each as `node/owner=address`.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.records.iter().map(|((node, owner), target)| format!("{node}/{owner}={target}")).collect()
    }

    /// Waits until these are the records.
    #[track_caller]
    pub(crate) fn sees(&mut self, expected: &[&str]) {
        self.waits(&format!("{expected:?}"), |reader| reader.seen() == expected);
    }

    #[track_caller]
    pub(crate) fn waits(&mut self, what: &str, check: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !check(self) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.hear(left), "waits for {what}, and has {:?}, stale: {:?}", self.seen(), self.stale);
        }
    }
}
