#![forbid(unsafe_code)]
//! The sockets that are listened on, across reloads.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use dockline::engine::{Handle, Listener, ListenerHandle, ListenerSettings, Router, Service};
use log::{info, warn};
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};

use crate::address::ListenAddress;
use crate::config::{AdminConfig, Config};
use crate::process::inherited::Inherited;
use crate::process::upgrade::Sockets;
use crate::serve::bind::{self, BoundSocket};
use crate::serve::loop_check;
use crate::serve::plan;

const ADMIN: &str = "admin";

/// All listeners that are open, the admin listener among them.
#[derive(Default)]
pub(crate) struct Listeners {
    open: Vec<Open>,
    next: usize,
}

/// An open listener.
struct Open {
    key: String,
    bound: BoundSocket,
    handle: ListenerHandle,
}

/// What is wanted at one address: the sockets are there, nothing is changed yet.
pub(crate) struct Wanted {
    key: String,
    settings: ListenerSettings,
    /// Empty if the listener is open already. Each is there twice: for the loop, and to stay here for an upgrade.
    sockets: Vec<(BoundSocket, OwnedFd)>,
}

fn bind(address: &ListenAddress, inherited: &mut Inherited) -> Result<Vec<(BoundSocket, OwnedFd)>, String> {
    let twice = |bound: BoundSocket| match retry_on_intr(|| fcntl_dupfd_cloexec(&bound.socket, 0)) {
        Ok(socket) => Ok((bound, socket)),
        Err(error) => Err(format!("{}: {error}", bound.address)),
    };
    bind::bind(address, inherited)?.into_iter().map(twice).collect()
}

/// Makes the folder of a socket that nobody asked for. If it cannot be made, binding says so.
fn make_folder(address: &ListenAddress) {
    if let ListenAddress::Unix { path, .. } = address {
        let _ = path.parent().map(|folder| DirBuilder::new().mode(0o755).create(folder));
    }
}

impl Listeners {
    /// Opens what the configuration wants and is not open yet.
    pub(crate) fn open(
        &self,
        config: &Config,
        planned: Vec<ListenerSettings>,
        inherited: &mut Inherited,
    ) -> Result<Vec<Wanted>, String> {
        let is_open = |key: &str| self.open.iter().any(|open| open.key == key);
        let mut all = Vec::new();
        for (wanted, settings) in config.listeners.iter().zip(planned) {
            let key = wanted.address.key();
            let sockets = match is_open(&key) {
                true => Ok(Vec::new()),
                false => {
                    if wanted.is_default {
                        make_folder(&wanted.address);
                    }
                    bind(&wanted.address, inherited)
                }
            };
            let sockets = sockets.map_err(|message| format!("{}: {message}", wanted.origin))?;
            all.push(Wanted { key, settings, sockets });
        }
        self.refuse_circles(config, &all)?;
        // Now that all others are there: this changes what is in use.
        for wanted in config.listeners.iter().filter(|wanted| is_open(&wanted.address.key())) {
            if let ListenAddress::Unix { path, access } = &wanted.address {
                bind::set_access(path, access).map_err(|error| format!("{}: {error}", wanted.origin))?;
            }
        }
        Ok(all)
    }

    /// Refuses upstreams by which requests would come back. The configuration has seen those that go by the same name.
    fn refuse_circles(&self, config: &Config, all: &[Wanted]) -> Result<(), String> {
        for (listener, wanted) in config.listeners.iter().zip(all) {
            let open = self.open.iter().filter(|open| open.key == wanted.key).map(|open| &open.bound);
            let mut sockets = wanted.sockets.iter().map(|(bound, _)| bound).chain(open);
            let upstreams = || config.upstreams.iter().flat_map(|upstream| &upstream.addresses);
            let back = sockets.find_map(|bound| {
                upstreams().find(|upstream| loop_check::leads_to(&upstream.address, &bound.socket))
            });
            if let Some(upstream) = back {
                return Err(format!("{}: {}", listener.origin, loop_check::refusal(upstream)));
            }
        }
        Ok(())
    }

    /// Opens the admin listener. One that nobody asked for may fail.
    pub(crate) fn open_admin(
        &self,
        config: &AdminConfig,
        router: Arc<dyn Router>,
        inherited: &mut Inherited,
    ) -> Result<Option<Wanted>, String> {
        let Some(address) = &config.address else { return Ok(None) };
        if !config.wanted {
            make_folder(address);
        }
        match bind(address, inherited) {
            Ok(sockets) => {
                let settings = ListenerSettings::new(ADMIN, Service::Http(router));
                Ok(Some(Wanted { key: address.key(), settings, sockets }))
            }
            Err(message) if config.wanted => Err(format!("admin: {message}")),
            Err(message) => {
                info!("there is no admin listener: {message}");
                Ok(None)
            }
        }
    }

    /// Serves what is wanted and closes what is not wanted any more, except the admin listener.
    pub(crate) fn serve(&mut self, wanted: impl IntoIterator<Item = Wanted>, handles: &[Handle]) {
        let mut keep = Vec::new();
        for Wanted { key, settings, sockets } in wanted {
            for open in self.open.iter().filter(|open| open.key == key) {
                open.handle.replace(settings.clone());
            }
            for (bound, socket) in sockets {
                let listener = Listener::new(socket, settings.clone());
                let handle = listener.handle();
                handles[self.next % handles.len()].listen(listener);
                self.next += 1;
                self.open.push(Open { key: key.clone(), bound, handle });
            }
            keep.push(key);
        }
        self.open.retain(|open| {
            let kept = keep.contains(&open.key) || &*open.handle.settings().name == ADMIN;
            if !kept {
                handles.iter().for_each(|handle| handle.close(&open.handle));
            }
            kept
        });
    }

    /// A second descriptor of each socket, with its key.
    pub(crate) fn duplicate(&self) -> Result<Sockets, String> {
        let duplicate = |open: &Open| Ok((open.key.clone(), open.bound.socket.try_clone()?));
        self.open.iter().map(duplicate).collect::<std::io::Result<_>>().map_err(|error| error.to_string())
    }

    /// No other process has these sockets any more: their files go with them.
    pub(crate) fn own_files(&mut self) {
        self.open.iter_mut().filter_map(|open| open.bound.file.as_mut()).for_each(|file| file.ours = true);
    }

    /// Closes the sockets here; another process has them, and their files.
    pub(crate) fn leave(&mut self) {
        for mut open in self.open.drain(..) {
            open.bound.file.iter_mut().for_each(|file| file.ours = false);
        }
    }

    /// Where is listened, the admin listener left out.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let clients = self.open.iter().filter(|open| &*open.handle.settings().name != ADMIN);
        clients.map(|open| open.bound.address.clone()).collect()
    }

    /// Logs what is listened on and where it leads.
    pub(crate) fn describe(&self, config: &Config) {
        for open in &self.open {
            let settings = open.handle.settings();
            let Some(wanted) = config.listeners.iter().find(|wanted| wanted.address.key() == open.key) else {
                info!("listening on {} for health and metrics", open.bound.address);
                continue;
            };
            let upstream = &config.upstreams[wanted.upstream];
            let with_tls = if settings.tls.is_some() { " with TLS" } else { "" };
            let to: Vec<String> = upstream.addresses.iter().map(ToString::to_string).collect();
            info!("listening on {}{with_tls}, upstream {}", open.bound.address, to.join(", "));
            if wanted.is_default {
                info!("to use it: export DOCKER_HOST={}", open.bound.address);
            }
            let is_passed = matches!(wanted.address, ListenAddress::Inherited(_));
            if is_passed && wanted.needs_no_certificate() && !open.bound.address.starts_with("unix:") {
                warn!("{}", plan::open_to_all(&open.bound.address, true, &wanted.tls));
            }
        }
    }
}
