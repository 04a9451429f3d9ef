#![forbid(unsafe_code)]
//! [`Listeners`]: the listening sockets, across reloads.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use dockline::engine::{Handle, Listener, ListenerHandle, ListenerSettings, Router, Service};
use log::{info, warn};
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};

use super::bind::{self, BoundSocket};
use super::{loop_check, plan};
use crate::address::ListenAddress;
use crate::config::{AdminConfig, Config};
use crate::problem::Problem;
use crate::process::inherited::Inherited;
use crate::process::upgrade::Sockets;
use crate::unix_socket;

const ADMIN: &str = "admin";

/// The open listeners, including the admin listener.
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

/// A configured listener. Its sockets are open, and nothing else has changed yet.
pub(crate) struct Prepared {
    key: String,
    settings: ListenerSettings,
    /// Empty if the listener is open already. Each socket is there twice: for the engine, and for
    /// an upgrade.
    sockets: Vec<(BoundSocket, OwnedFd)>,
}

fn bind(address: &ListenAddress, inherited: &mut Inherited) -> Result<Vec<(BoundSocket, OwnedFd)>, Problem> {
    let twice = |bound: BoundSocket| match retry_on_intr(|| fcntl_dupfd_cloexec(&bound.socket, 0)) {
        Ok(socket) => Ok((bound, socket)),
        Err(error) => Err(Problem::new("no descriptor for the socket").at(&bound.address).because(error)),
    };
    bind::bind(address, inherited)?.into_iter().map(twice).collect()
}

/// Creates the directory of a default socket. If that fails, binding reports it.
fn create_dir(address: &ListenAddress) {
    if let ListenAddress::Unix { path, .. } = address {
        let _ = path.parent().map(|dir| DirBuilder::new().mode(0o755).create(dir));
    }
}

impl Listeners {
    /// Opens the configured listeners that are not open yet.
    pub(crate) fn open(
        &self,
        config: &Config,
        planned: Vec<ListenerSettings>,
        inherited: &mut Inherited,
    ) -> Result<Vec<Prepared>, Problem> {
        let is_open = |key: &str| self.open.iter().any(|open| open.key == key);
        let mut all = Vec::new();
        for (wanted, settings) in config.listeners.iter().zip(planned) {
            let key = wanted.address.key();
            let sockets = match is_open(&key) {
                true => Ok(Vec::new()),
                false => {
                    if wanted.is_default {
                        create_dir(&wanted.address);
                    }
                    bind(&wanted.address, inherited)
                }
            };
            let sockets = sockets.map_err(|problem| problem.at(&wanted.origin))?;
            all.push(Prepared { key, settings, sockets });
        }
        self.refuse_loops(config, &all)?;
        // Last, because it changes sockets that are in use.
        for wanted in config.listeners.iter().filter(|wanted| is_open(&wanted.address.key())) {
            if let ListenAddress::Unix { path, access } = &wanted.address {
                unix_socket::set_access(path, access).map_err(|problem| problem.at(&wanted.origin))?;
            }
        }
        Ok(all)
    }

    /// Refuses upstreams that lead back to a listener. [`Config`] has checked those that have the
    /// same name.
    fn refuse_loops(&self, config: &Config, all: &[Prepared]) -> Result<(), Problem> {
        for (listener, wanted) in config.listeners.iter().zip(all) {
            let open = self.open.iter().filter(|open| open.key == wanted.key).map(|open| &open.bound);
            let mut sockets = wanted.sockets.iter().map(|(bound, _)| bound).chain(open);
            let upstreams = || config.upstreams.iter().flat_map(|upstream| &upstream.addresses);
            let back = sockets.find_map(|bound| {
                upstreams().find(|upstream| loop_check::leads_to(&upstream.address, &bound.socket))
            });
            if let Some(upstream) = back {
                return Err(loop_check::refusal(upstream).at(&listener.origin));
            }
        }
        Ok(())
    }

    /// Opens the admin listener. If it was not configured, it may fail.
    pub(crate) fn open_admin(
        &self,
        config: &AdminConfig,
        router: Arc<dyn Router>,
        inherited: &mut Inherited,
    ) -> Result<Option<Prepared>, Problem> {
        let Some(address) = &config.address else { return Ok(None) };
        if !config.wanted {
            create_dir(address);
        }
        match bind(address, inherited) {
            Ok(sockets) => {
                let settings = ListenerSettings::new(ADMIN, Service::Http(router));
                Ok(Some(Prepared { key: address.key(), settings, sockets }))
            }
            Err(problem) if config.wanted => Err(problem.at("admin")),
            Err(problem) => {
                info!("no admin listener: {problem}");
                Ok(None)
            }
        }
    }

    /// Serves the prepared listeners and closes all others, except the admin listener.
    pub(crate) fn serve(&mut self, prepared: impl IntoIterator<Item = Prepared>, handles: &[Handle]) {
        let mut keep = Vec::new();
        for Prepared { key, settings, sockets } in prepared {
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

    /// Duplicates each socket, and returns it with its key.
    pub(crate) fn duplicate(&self) -> Result<Sockets, Problem> {
        let duplicate = |open: &Open| Ok((open.key.clone(), open.bound.socket.try_clone()?));
        self.open
            .iter()
            .map(duplicate)
            .collect::<std::io::Result<_>>()
            .map_err(Problem::wrap("no descriptors for the listening sockets"))
    }

    /// Takes over the files of the sockets, which no other process has any more: they are removed
    /// with them.
    pub(crate) fn own_files(&mut self) {
        self.open.iter_mut().filter_map(|open| open.bound.file.as_mut()).for_each(|file| file.ours = true);
    }

    /// Closes the sockets, which another process has now, with their files.
    pub(crate) fn leave(&mut self) {
        for mut open in self.open.drain(..) {
            open.bound.file.iter_mut().for_each(|file| file.ours = false);
        }
    }

    /// Returns the addresses, without that of the admin listener.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let clients = self.open.iter().filter(|open| &*open.handle.settings().name != ADMIN);
        clients.map(|open| open.bound.address.clone()).collect()
    }

    /// Logs the listeners and their upstreams.
    pub(crate) fn describe(&self, config: &Config) {
        for open in &self.open {
            let settings = open.handle.settings();
            let Some(wanted) = config.listeners.iter().find(|wanted| wanted.address.key() == open.key) else {
                info!("listening on {} for health and metrics", open.bound.address);
                continue;
            };
            let with_tls = if settings.tls.is_some() { " with TLS" } else { "" };
            let to = wanted.describe_destination(config);
            info!("listening on {}{with_tls}, requests go to {to}", open.bound.address);
            if wanted.is_default {
                info!("to use it: export DOCKER_HOST={}", open.bound.address);
            }
            let is_inherited = matches!(wanted.address, ListenAddress::Inherited(_));
            if is_inherited
                && !wanted.is_router()
                && wanted.needs_no_certificate()
                && !open.bound.address.starts_with("unix:")
            {
                warn!("{}", plan::open_to_all(&open.bound.address, true, &wanted.tls));
            }
        }
    }
}
