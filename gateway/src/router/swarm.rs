#![forbid(unsafe_code)]
//! [`Swarm`]: the watcher of a swarm, by a daemon that is a manager of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dockline_discovery::container::ServiceReader;
use dockline_discovery::watch::{self, SwarmAnswers, SwarmRead, Watcher};
use dockline_discovery::{Node, NodeName, Source, Text, Update};
use dockline_docker_client::Docker;

use super::Sink;
use super::reader::Reader;

/// See the [module](self). When it is dropped, its records are gone, unless it was retired.
pub(super) struct Swarm {
    /// Whether its updates count.
    counts: Arc<AtomicBool>,
    _watcher: Watcher,
}

impl Swarm {
    /// Starts watching. `reader` is that of the containers of the daemon.
    pub(super) fn watch(
        docker: Docker,
        source: Source,
        name: NodeName,
        reader: Arc<Reader>,
        sink: &Sink,
    ) -> io::Result<Self> {
        let counts = Arc::new(AtomicBool::new(true));
        let deliver = {
            let (sink, counts) = (Arc::clone(sink), Arc::clone(&counts));
            move |update: Update| {
                let is_current = counts.load(Ordering::Acquire);
                if is_current {
                    sink(update);
                }
                is_current
            }
        };
        let node = Node { name, gateway: None };
        let services = Services { node: node.clone(), reader };
        let watcher = Watcher::start_swarm(docker, source, node, Arc::new(services), deliver)?;
        Ok(Self { counts, _watcher: watcher })
    }

    /// Leaves its records to another one that takes its place.
    pub(super) fn retire(&self) {
        self.counts.store(false, Ordering::Release);
    }
}

/// Reads what the services announce.
struct Services {
    /// Stands for the swarm.
    node: Node,
    /// Knows where this process is.
    reader: Arc<Reader>,
}

impl watch::SwarmReader for Services {
    fn read(&self, answers: &SwarmAnswers<'_>) -> Result<SwarmRead, Text> {
        let (node, options) = (self.node.clone(), self.reader.labels.clone());
        let reader = ServiceReader { node, options, host: self.reader.host() };
        reader.read(answers).map_err(|error| error.to_string().into())
    }
}
