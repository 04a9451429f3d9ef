#![forbid(unsafe_code)]
//! [`Daemon`]: a daemon that is watched for `discover`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dockline::engine::Address;
use dockline::engine::tls::{ClientTls, ClientTlsConfig, Credentials, Pem, check_key_file};
use dockline_discovery::container::LabelOptions;
use dockline_discovery::watch::Watcher;
use dockline_discovery::{Change, Node, RecordId, Source, Unrouted, Update};
use dockline_docker_client::Docker;
use log::{info, warn};

use crate::absolute_path::AbsolutePath;
use crate::address::UpstreamAddress;
use crate::problem::Problem;
use crate::router::place::{self, Surroundings};
use crate::router::reader::Reader;

/// A daemon, and how it is watched.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) address: UpstreamAddress,
    pub(super) node: Node,
    /// Directory with ca.pem, cert.pem and key.pem, for TLS.
    pub(super) tls_dir: Option<AbsolutePath>,
    pub(super) labels: LabelOptions,
}

/// A watcher that another one can take the place of.
pub(super) struct Watched {
    /// Whether its updates count.
    counts: Arc<AtomicBool>,
    _watcher: Watcher,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Its last update says that its records are gone. They are not.
        self.counts.store(false, Ordering::Release);
    }
}

impl Daemon {
    pub(super) fn source(&self) -> Source {
        format!("docker:{}", self.address).into()
    }

    /// Starts watching. `moved` is called when this process is in other networks of the daemon:
    /// then it has to be watched anew.
    pub(super) fn watch(
        &self,
        deliver: Arc<dyn Fn(Update) + Send + Sync>,
        moved: impl Fn() + Send + Sync + 'static,
    ) -> Result<Watched, Problem> {
        let source = self.source();
        let failed = || format!("{} cannot be watched", self.address);
        let is_here = match &self.address.address {
            Address::Unix(_) => true,
            address => place::address_of(address).is_some_and(|ip| place::own_addresses().contains(&ip)),
        };
        let surroundings = Surroundings {
            is_here,
            // Ports of a container in the network of its host are there.
            address: self
                .node
                .gateway
                .map(|gateway| gateway.ip())
                .or_else(|| place::address_of(&self.address.address)),
            direct: Vec::new(),
        };
        // A watcher closes its client when it ends.
        let (docker, own) = (self.client()?, self.client()?);
        let reader = Reader::new(self.node.clone(), self.labels.clone(), surroundings, own, moved);
        let counts = Arc::new(AtomicBool::new(true));
        let is_current = Arc::clone(&counts);
        let mut report = Report { address: self.address.clone(), reasons: HashMap::new(), is_stale: true };
        let sink = move |update: Update| {
            if is_current.load(Ordering::Acquire) {
                report.take(&update.change);
                deliver(update);
            }
            is_current.load(Ordering::Acquire)
        };
        let watcher = Watcher::start(docker, source, self.node.clone(), Arc::new(reader), sink)
            .map_err(Problem::wrap(failed()))?;
        Ok(Watched { counts, _watcher: watcher })
    }

    fn client(&self) -> Result<Docker, Problem> {
        let failed = || format!("cannot prepare to connect to {}", self.address);
        let address = self.address.address.clone();
        if !self.address.tls {
            return Docker::new(address).map_err(Problem::wrap(failed()));
        }
        let dir = self.tls_dir.as_ref().ok_or_else(|| {
            Problem::new(format_args!("{} needs certificates", self.address)).hint("add --docker-tls-dir DIR")
        })?;
        let tls = || {
            let mut config = ClientTlsConfig::new(Pem::read(dir.join("ca.pem"))?);
            check_key_file(dir.join("key.pem"))?;
            config.credentials = Some(Credentials::read(dir.join("cert.pem"), dir.join("key.pem"))?);
            ClientTls::new(&config)
        };
        Docker::with_tls(address, tls().map_err(Problem::wrap(failed()))?).map_err(Problem::wrap(failed()))
    }
}

/// Says in the log what has no route, and whether the daemon is there.
struct Report {
    address: UpstreamAddress,
    reasons: HashMap<RecordId, Unrouted>,
    /// Whether it has not said yet, or not again, what it has.
    is_stale: bool,
}

impl Report {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Sync { records, unrouted, .. } => {
                if std::mem::take(&mut self.is_stale) {
                    info!("{}: {} routes", self.address, records.len());
                }
                let before = std::mem::take(&mut self.reasons);
                for one in unrouted {
                    self.tell(one, before.get(&one.owner));
                }
            }
            Change::Owner { owner, unrouted, .. } => {
                let before = self.reasons.remove(owner);
                if let Some(one) = unrouted {
                    self.tell(one, before.as_ref());
                }
            }
            Change::Stale(why) => {
                self.is_stale = true;
                warn!("{}: {why}; the last known routes go on", self.address);
            }
            Change::Gone => {}
        }
    }

    fn tell(&mut self, one: &Unrouted, before: Option<&Unrouted>) {
        if before != Some(one) {
            warn!("{}: no route: {}", one.title, one.reason);
        }
        self.reasons.insert(one.owner.clone(), one.clone());
    }
}
