#![forbid(unsafe_code)]
//! [`RegistryReader`]: the routes that other machines have written into Redis.

use std::collections::BTreeSet;
use std::sync::Arc;

use dockline_discovery::registry::redis::{Address, Layout, Subscriber, SubscriberConfig, TlsFiles};
use dockline_discovery::{Change, NodeName, Source, Update};

use super::Sink;
use super::gate::Gate;
use crate::config::redis::{RedisConfig, RedisLayout};
use crate::problem::Problem;
use crate::redis_server::Names;

/// The name of Redis among the sources. Another server takes the place of the one before.
const SOURCE: &str = "redis";

/// The node of the records of the classic layout, which does not say whose they are.
const CLASSIC_NODE: &str = "redis";

/// What is read, with all that its files say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RegistryPlan {
    address: Address,
    tls: TlsFiles,
    layout: Layout,
}

impl RegistryPlan {
    /// Reads the files. The records of `own` nodes are left out: their daemons are watched.
    pub(super) fn new(config: &RedisConfig, own: BTreeSet<NodeName>) -> Result<Self, Problem> {
        let (address, tls) = config.files.read(config.address.clone(), Names::Keys)?;
        let layout = match config.layout {
            RedisLayout::Structured => Layout::Structured(own),
            RedisLayout::Classic => Layout::Classic(CLASSIC_NODE.parse().map_err(Problem::new)?),
        };
        Ok(Self { address, tls, layout })
    }
}

/// Returns the name of Redis as a source.
pub(super) fn source() -> Source {
    SOURCE.into()
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct RegistryReader(Option<Running>);

#[derive(Debug)]
struct Running {
    plan: RegistryPlan,
    /// Closed when it has ended.
    gate: Gate,
    _subscriber: Subscriber,
}

impl RegistryReader {
    /// Reads as planned. One that reads so already is not disturbed; without a plan, what was read
    /// is forgotten.
    pub(super) fn update(&mut self, plan: Option<&RegistryPlan>, sink: &Sink) -> Result<(), Problem> {
        if self.0.as_ref().map(|running| &running.plan) == plan {
            return Ok(());
        }
        let new = plan.map(|plan| start(plan.clone(), Arc::clone(sink))).transpose()?;
        let is_over = new.is_none();
        if let Some(old) = std::mem::replace(&mut self.0, new) {
            old.gate.close();
        }
        if is_over {
            sink(Update { source: source(), change: Change::Gone });
        }
        Ok(())
    }
}

fn start(plan: RegistryPlan, sink: Sink) -> Result<Running, Problem> {
    let gate = Gate::new();
    let deliver = {
        let gate = gate.clone();
        move |update: Update| gate.pass(|| sink(update))
    };
    let RegistryPlan { address, tls, layout } = plan.clone();
    let config = SubscriberConfig { address, tls, layout, source: source() };
    let subscriber = Subscriber::start(config, deliver).map_err(Problem::wrap("Redis cannot be read"))?;
    Ok(Running { plan, gate, _subscriber: subscriber })
}
