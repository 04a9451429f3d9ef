#![forbid(unsafe_code)]
//! [`Swarm`]: the watcher of a swarm, by a daemon that is a manager of it.

use std::io;
use std::sync::Arc;

use dockline_discovery::container::ServiceReader;
use dockline_discovery::watch::{self, SwarmAnswers, SwarmRead, Watcher};
use dockline_discovery::{Node, NodeName, Source, Text, Update};
use dockline_docker_client::Docker;

use super::Sink;
use super::gate::Gate;
use super::reader::Reader;

/// See the [module](self). When it is dropped, its records are gone, unless it was retired.
pub(super) struct Swarm {
    /// Closed when another one takes its place.
    gate: Gate,
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
        let gate = Gate::new();
        let deliver = {
            let (sink, gate) = (Arc::clone(sink), gate.clone());
            move |update: Update| gate.pass(|| sink(update))
        };
        let node = Node { name, gateway: None };
        let services = Services { node: node.clone(), reader };
        let watcher = Watcher::start_swarm(docker, source, node, Arc::new(services), deliver)?;
        Ok(Self { gate, _watcher: watcher })
    }

    /// Leaves its records to another one that takes its place.
    pub(super) fn retire(&self) {
        self.gate.close();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use dockline_discovery::Change;

    use super::super::on_demand::Starter;
    use super::super::settings::RouterSettings;
    use super::super::sources::Sources;
    use super::*;
    use crate::problem::Problem;

    /// Watches the daemons of a configuration. None of them is there.
    fn watch(sources: &Sources, sink: &Sink, docker: &str) -> Result<(), Problem> {
        let config = crate::config::for_tests(&format!(
            "[[listen]]\naddress = \"tcp://127.0.0.1:1\"\nrouter = true\n\
             [router]\nnode = \"one\"\ndocker = [{docker}]\n"
        ));
        let settings = RouterSettings::new(&config.router.unwrap(), Vec::new(), None).unwrap();
        sources.update(&settings, sink, &Starter::default())
    }

    fn sink() -> (Sink, Receiver<(String, bool)>) {
        let (sender, updates) = channel();
        let sink = move |update: Update| {
            let _ = sender.send((update.source.to_string(), update.change == Change::Gone));
        };
        (Arc::new(sink), updates)
    }

    const SOURCE: &str = "swarm:unix:///nonexistent/docker.sock";

    /// Waits until it is told that the swarm cannot be reached.
    fn until_stale(updates: &Receiver<(String, bool)>) {
        let (_, is_gone) = std::iter::from_fn(|| updates.recv_timeout(Duration::from_secs(10)).ok())
            .find(|(source, _)| source == SOURCE)
            .unwrap();
        assert!(!is_gone);
    }

    #[test]
    fn a_swarm_that_is_switched_off_is_gone_and_one_that_is_watched_anew_is_not() {
        let (sources, (sink, updates)) = (Sources::default(), sink());
        let table = |keys: &str| format!("{{ address = \"unix:///nonexistent/docker.sock\"{keys} }}");
        watch(&sources, &sink, &table(", swarm = true")).unwrap();
        until_stale(&updates);
        watch(&sources, &sink, &table(", swarm = \"blue\"")).unwrap();
        until_stale(&updates);
        watch(&sources, &sink, &table("")).unwrap();
        watch(&sources, &sink, "").unwrap();
        drop(sink);
        let gone = updates.iter().filter(|(source, is_gone)| *is_gone && source == SOURCE);
        assert_eq!(gone.count(), 1);
    }

    #[test]
    fn a_swarm_is_called_otherwise_than_a_node() {
        let (sources, (sink, _updates)) = (Sources::default(), sink());
        let docker = "{ address = \"unix:///nonexistent/docker.sock\", swarm = \"one\" }";
        let problem = watch(&sources, &sink, docker).unwrap_err().to_string();
        assert!(problem.contains("one is the name of a swarm and of a node"), "{problem}");
    }
}
