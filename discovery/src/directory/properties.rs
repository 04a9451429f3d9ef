#![forbid(unsafe_code)]
//! The directory against a naive one, which keeps what each source has announced and computes all
//! routes anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{id, key, node, record, sync};
use super::*;
use crate::record::{RecordState, Service};

const SOURCES: [&str; 4] = ["docker", "file", "join:one", "redis"];
const NODES: [&str; 3] = ["one", "three", "two"];
const OWNERS: [&str; 3] = ["a", "b", "c"];
const NAMES: [&str; 3] = ["api", "shop", "web"];

fn options() -> DirectoryOptions {
    let trust = [("file", Trust::Operator), ("docker", Trust::Daemon)];
    DirectoryOptions {
        trust: trust.map(|(source, trust)| (source.into(), trust)).into(),
        trusted_nodes: TrustedNodes::Only(["one", "two"].map(|name| name.parse().unwrap()).into()),
        ..DirectoryOptions::default()
    }
}

/// An update by indices into the names above.
#[derive(Clone, Debug)]
enum Step {
    Sync { nodes: Vec<(usize, Option<u16>)>, records: Vec<Record> },
    Owner { owner: RecordId, records: Vec<Record> },
    Stale,
    Gone,
}

fn a_record(node: &'static str, owner: &'static str) -> impl Strategy<Value = Record> {
    let service = prop_oneof![Just(None), Just(Some("s")), Just(Some("t"))];
    let state = prop_oneof![
        2 => Just(RecordState::Live),
        1 => Just(RecordState::Down("starting".into())),
        1 => Just(RecordState::Stopped),
    ];
    (0..3_u16, 0..3_usize, 0..3_u64, service, state).prop_map(
        move |(index, name, created, service, state)| Record {
            id: RecordId { index, ..id(node, owner) },
            created,
            service: service.map(|service| Service::Named(service.into())),
            state,
            ..record(node, owner, NAMES[name])
        },
    )
}

fn an_owner() -> impl Strategy<Value = (RecordId, Vec<Record>)> {
    (0..3_usize, 0..3_usize).prop_flat_map(|(node, owner)| {
        let (node, owner) = (NODES[node], OWNERS[owner]);
        vec(a_record(node, owner), 0..3).prop_map(move |records| (id(node, owner), records))
    })
}

fn step() -> impl Strategy<Value = Step> {
    let node = (0..3_usize, prop::option::of(1..3_u16));
    prop_oneof![
        4 => (vec(node, 0..4), vec(an_owner(), 0..6)).prop_map(|(nodes, owners)| Step::Sync {
            nodes,
            records: owners.into_iter().flat_map(|(_, records)| records).collect(),
        }),
        6 => an_owner().prop_map(|(owner, records)| Step::Owner { owner, records }),
        1 => Just(Step::Stale),
        1 => Just(Step::Gone),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    vec((0..SOURCES.len(), step()), 0..24)
}

fn update(source: usize, step: Step) -> Update {
    let change = match step {
        Step::Sync { nodes, records } => {
            let node = |(node, gateway): (usize, Option<u16>)| Node {
                name: NODES[node].parse().unwrap(),
                gateway: gateway.map(|port| SocketAddr::from(([192, 0, 2, 7], port))),
            };
            Change::Sync { nodes: nodes.into_iter().map(node).collect(), records, unrouted: Vec::new() }
        }
        Step::Owner { owner, records } => Change::Owner { owner, records, unrouted: None },
        Step::Stale => Change::Stale("lost".into()),
        Step::Gone => Change::Gone,
    };
    Update { source: SOURCES[source].into(), change }
}

#[derive(Clone, Debug, Default)]
struct NaiveSource {
    is_stale: bool,
    nodes: BTreeMap<NodeName, Option<SocketAddr>>,
    records: BTreeMap<RecordId, Record>,
}

impl NaiveSource {
    /// The first of several records with one id counts.
    fn insert(&mut self, records: Vec<Record>) {
        for record in records.into_iter().filter(|record| self.nodes.contains_key(&record.id.node)) {
            self.records.entry(record.id.clone()).or_insert(record);
        }
    }
}

/// What a route has: the records, with what else a router sees of each.
#[derive(Clone, Debug, Default, PartialEq)]
struct NaiveRoute {
    serving: Vec<(Record, Option<SocketAddr>, bool)>,
    losers: Vec<Record>,
}

#[derive(Clone, Debug, Default)]
struct Naive(BTreeMap<Source, NaiveSource>);

impl Naive {
    fn apply(&mut self, update: Update) {
        let source = self.0.entry(update.source.clone()).or_default();
        match update.change {
            Change::Sync { nodes, records, .. } => {
                *source = NaiveSource::default();
                for node in nodes {
                    source.nodes.entry(node.name).or_insert(node.gateway);
                }
                source.insert(records);
            }
            Change::Owner { owner, records, .. } => {
                source.records.retain(|id, _| (&id.node, &id.owner) != (&owner.node, &owner.owner));
                source.insert(records);
            }
            Change::Stale(_) => source.is_stale = true,
            Change::Gone => *source = NaiveSource::default(),
        }
    }

    fn routes(&self) -> BTreeMap<RouteKey, NaiveRoute> {
        let options = options();
        let mut claims = Vec::new();
        let nodes = NODES.map(|name| name.parse::<NodeName>().unwrap());
        for (node, is_fixed) in nodes.into_iter().flat_map(|node| [(node.clone(), true), (node, false)]) {
            let announcing = self.0.iter().filter(|(name, source)| {
                source.nodes.contains_key(&node) && (options.trust(name) == Trust::Operator) == is_fixed
            });
            let closest =
                announcing.min_by_key(|(name, source)| (options.trust(name), source.is_stale, *name));
            let Some((_, source)) = closest else { continue };
            let records = source.records.values().filter(|record| record.id.node == node);
            claims.extend(
                records.map(|record| (is_fixed, record.clone(), source.nodes[&node], source.is_stale)),
            );
        }
        claims.sort_by_key(|(is_fixed, record, ..)| {
            let id = record.id.clone();
            let is_stopped = record.state == RecordState::Stopped && !is_fixed;
            (!is_fixed, is_stopped, record.created, id.owner, id.node, id.index)
        });
        let mut routes = BTreeMap::<RouteKey, NaiveRoute>::new();
        let mut owners = BTreeMap::new();
        for (is_fixed, record, gateway, is_stale) in claims {
            let (owner_is_fixed, owner) =
                &*owners.entry(record.key.clone()).or_insert_with(|| (is_fixed, record.clone()));
            let is_same_node = record.id.node == owner.id.node;
            let is_same_owner = is_same_node && record.id.owner == owner.id.owner;
            let are_trusted = [&record, owner].iter().all(|one| one.id.node.as_str() != "three");
            let is_replica = record.service.is_some() && record.service == owner.service;
            let route = routes.entry(record.key.clone()).or_default();
            if record.state == RecordState::Stopped && !is_fixed && !route.serving.is_empty() {
                continue;
            }
            if is_fixed == *owner_is_fixed && (is_same_owner || (is_replica && (is_same_node || are_trusted)))
            {
                route.serving.push((record, gateway, is_stale));
            } else {
                route.losers.push(record);
            }
        }
        routes
    }
}

/// Returns the routes that somebody has.
fn routes(directory: &Directory) -> BTreeMap<RouteKey, NaiveRoute> {
    let naive = |state: RouteState| NaiveRoute {
        serving: state
            .serving
            .iter()
            .map(|claim| (Record::clone(claim.record()), claim.gateway(), claim.is_stale()))
            .collect(),
        losers: state.losers.iter().map(|loser| Record::clone(loser.claim.record())).collect(),
    };
    let routes = directory.routes().map(|(key, state)| (key.clone(), naive(state)));
    routes.filter(|(_, route)| !route.serving.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_routes_are_those_of_a_naive_directory_and_exactly_what_changes_is_returned(steps in steps()) {
        let mut directory = Directory::new(options());
        let mut naive = Naive::default();
        for (source, step) in steps {
            let before = NAMES.map(|name| directory.route(&key(name)));
            let update = update(source, step);
            naive.apply(update.clone());
            let mut changed = directory.apply(update);
            prop_assert_eq!(routes(&directory), naive.routes());
            let differs = |(name, before): &(&str, Option<RouteState>)| directory.route(&key(name)) != *before;
            let expected: Vec<_> =
                NAMES.into_iter().zip(before).filter(differs).map(|(name, _)| key(name)).collect();
            changed.sort();
            prop_assert_eq!(changed, expected);
        }
    }

    #[test]
    fn the_order_of_the_updates_of_different_sources_does_not_matter(steps in steps()) {
        let mut mixed = Directory::new(options());
        for (source, step) in steps.clone() {
            mixed.apply(update(source, step));
        }
        let mut steps = steps;
        steps.sort_by_key(|(source, _)| *source);
        let mut sorted = Directory::new(options());
        for (source, step) in steps {
            sorted.apply(update(source, step));
        }
        prop_assert_eq!(routes(&mixed), routes(&sorted));
        prop_assert_eq!(mixed.usage, sorted.usage);
    }

    #[test]
    fn one_sync_is_worth_all_single_changes(steps in steps()) {
        let mut single = Directory::new(options());
        let mut naive = Naive::default();
        for (source, step) in steps {
            let update = update(source, step);
            naive.apply(update.clone());
            single.apply(update);
        }
        let mut synced = Directory::new(options());
        for (source, state) in naive.0 {
            let nodes = state.nodes.into_iter().map(|(name, gateway)| Node { name, gateway });
            let records = state.records.into_values().collect();
            let change = Change::Sync { nodes: nodes.collect(), records, unrouted: Vec::new() };
            synced.apply(Update { source: source.clone(), change });
            if state.is_stale {
                synced.apply(Update { source, change: Change::Stale("lost".into()) });
            }
        }
        prop_assert_eq!(routes(&single), routes(&synced));
        prop_assert_eq!(single.usage, synced.usage);
    }

    /// Each gateway watches the daemon of its own node, and is told of the others by a registry.
    #[test]
    fn the_gateways_of_all_nodes_agree_on_who_owns_a_route(owners in vec(an_owner(), 0..12)) {
        let all: BTreeMap<_, _> = owners.into_iter().collect();
        let agreed = |own: &str| {
            let mut gateway = Directory::new(options());
            let (here, there): (Vec<_>, Vec<_>) =
                all.values().flatten().cloned().partition(|record| record.id.node.as_str() == own);
            let (own, others): (Vec<_>, Vec<_>) = NODES.map(node).into_iter().partition(|node| node.name.as_str() == own);
            gateway.apply(sync("redis", &others, there));
            gateway.apply(sync("docker", &own, here));
            routes(&gateway)
        };
        prop_assert_eq!(agreed("one"), agreed("two"));
        prop_assert_eq!(agreed("one"), agreed("three"));
    }
}
