#![forbid(unsafe_code)]
//! The routes of the configuration file, as the records that they are.

use std::sync::Arc;

use dockline_discovery::{
    Change, Drain, Lifecycle, Node, NodeName, Record, RecordId, RecordState, Service, Source, Text, Update,
};

use crate::config::router::{FILE_NODE, FixedRoute};

/// The source of the routes of the file.
pub(super) fn source() -> Source {
    Arc::from("file")
}

/// Returns all routes of the file. Without any it is no source.
pub(super) fn update(routes: &[FixedRoute]) -> Option<Update> {
    let node: NodeName = FILE_NODE.parse().ok()?;
    let records: Vec<Record> = routes.iter().flat_map(|route| records(route, &node)).collect();
    let nodes = vec![Node { name: node, gateway: None }];
    let change = match records.is_empty() {
        true => Change::Gone,
        false => Change::Sync { nodes, records, unrouted: Vec::new() },
    };
    Some(Update { source: source(), change })
}

fn records(route: &FixedRoute, node: &NodeName) -> Vec<Record> {
    let name = Text::from(route.key.to_string());
    let record = |(index, (target, weight)): (u16, &(_, u16))| Record {
        id: RecordId { node: node.clone(), owner: name.clone(), index },
        title: name.clone(),
        started: 0,
        created: 0,
        key: route.key.clone(),
        strip: route.strip,
        service: Some(Service::Fixed(name.clone())),
        target: Some(Clone::clone(target)),
        state: RecordState::Live,
        weight: *weight,
        drain: Drain::Never,
        lifecycle: Lifecycle::default(),
    };
    (0..).zip(&route.targets).map(record).collect()
}
