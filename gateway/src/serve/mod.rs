#![forbid(unsafe_code)]
//! `dockline serve`: start, reload, upgrade, stop. The engine's workers serve; this is the main
//! thread, which waits for signals.

pub(crate) mod bind;
mod certificates;
pub(crate) mod front_door;
pub(crate) mod guard;
mod identity;
mod listeners;
pub(crate) mod loop_check;
pub(crate) mod plan;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use dockline::engine::{EngineOptions, Handle, Observer, Upstream, Workers};
use log::{error, info, warn};
use rustix::process::Signal;

use self::certificates::CertificateWatcher;
use self::front_door::FrontDoorSockets;
use self::guard::Guard;
use self::listeners::Listeners;
use self::plan::Plan;
use crate::access_log::AccessLog;
use crate::admin::{AdminRouter, Certificates, Health, Token};
use crate::cli::Settings;
use crate::config::Config;
use crate::logger;
use crate::metrics::Metrics;
use crate::output;
use crate::problem::Problem;
use crate::process::inherited::Inherited;
use crate::process::notify::Notify;
use crate::process::signals::{self, EarlySignals, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use crate::process::upgrade::{Predecessor, Program, Sockets, SuccessorSignals};
use crate::process::{raise_descriptor_limit, spawn};
use crate::router::Routing;
use crate::telemetry::Telemetry;

/// Limit for connections to close when the process stops at once.
const STOP_TIME: Duration = Duration::from_secs(1);

/// Limit for a new process to end with this one.
const SUCCESSOR_TIME: Duration = Duration::from_secs(5);

const NO_UPGRADE: &str = "upgrade failed, this process continues to serve";

/// Serves until a signal ends it.
pub(crate) fn run(settings: Settings) -> ExitCode {
    let early = match EarlySignals::catch() {
        Ok(early) => early,
        Err(problem) => return output::fail(problem),
    };
    let config = match Config::load(&settings) {
        Ok(config) => config,
        Err(problem) => return output::fail(problem),
    };
    logger::start(config.log);
    match Server::start(settings, config, &early) {
        Ok(server) => server.run(),
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// What the main thread waits for.
enum Wake {
    Signal(i32),
    /// A reload has read the configuration.
    Loaded(Result<Box<(Config, Plan)>, Problem>),
    /// The new process serves, or has failed.
    Upgraded(Result<u32, Problem>),
    /// All workers have ended, on request or because one has failed.
    Ended(std::io::Result<()>),
}

/// The phases of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The configuration is being read. `next` is a signal that came meanwhile.
    Reloading {
        next: Option<i32>,
    },
    /// A new process is being started.
    Upgrading,
    /// A new process serves. This one waits for its tunnels to end.
    Replaced,
    /// The process drains, and then ends.
    Stopping,
}

struct Server {
    settings: Settings,
    config: Config,
    program: Program,
    upstreams: Vec<Arc<Upstream>>,
    routing: Arc<Routing>,
    listeners: Listeners,
    front_door: FrontDoorSockets,
    /// What is shown of them.
    shown_certificates: Arc<Certificates>,
    certificates: CertificateWatcher,
    inherited: Inherited,
    handles: Vec<Handle>,
    telemetry: Arc<Telemetry>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    notify: Notify,
    sender: SyncSender<Wake>,
    wakes: Receiver<Wake>,
    phase: Phase,
    /// The new process, until it serves or has failed.
    successor: Option<SuccessorSignals>,
    /// Whether a signal has come that ends the process. It may not have reached
    /// [`on_signal`](Self::on_signal) yet.
    stop_requested: Arc<AtomicBool>,
}

impl Server {
    fn start(settings: Settings, config: Config, early: &EarlySignals) -> Result<Self, Problem> {
        let program =
            Program::of_this_process().map_err(Problem::wrap("cannot find the file of this program"))?;
        let failed = Problem::wrap("cannot receive the sockets of the old process");
        let (predecessor, handed) = match Predecessor::greet().map_err(failed)? {
            Some((predecessor, handed)) => (Some(predecessor), handed),
            None => (None, Vec::new()),
        };
        let mut inherited = Inherited::new(handed)?;
        let notify = Notify::from_env().map_err(Problem::wrap("NOTIFY_SOCKET"))?;
        raise_descriptor_limit();
        let routing = Routing::start()?;
        let plan = Plan::new(&config, &[], &routing)?;
        let warnings = plan.warnings();
        let Plan { upstreams, listeners: planned, certificates, router, front_door: planned_front_door } =
            plan;
        let token = config.admin.token_file.as_ref().map(Token::read).transpose()?;
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::new()));
        let access = match config.access_log.clone() {
            (Some(target), format) => {
                Some(AccessLog::open(target, format).map_err(Problem::wrap("cannot open the access log"))?)
            }
            (None, _) => None,
        };
        let telemetry = Telemetry::new(access, Arc::clone(&metrics), Arc::clone(&health));
        // Until here a stop signal ends the process at once: files may be slow. From here on there
        // are sockets to remove.
        let (sender, wakes) = sync_channel(16);
        let deliver = sender.clone();
        signals::watch(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2], move |signal| {
            deliver.send(Wake::Signal(signal)).is_ok()
        })?;
        // Behind it, so that no signal is lost between the two.
        let stop_requested = signals::flag(&[SIGTERM, SIGINT, SIGQUIT])?;
        if early.wants_reload() {
            let _ = sender.try_send(Wake::Signal(SIGHUP));
        }
        let mut listeners = Listeners::default();
        let shown_certificates = Arc::new(Certificates::default());
        shown_certificates.set(&planned, planned_front_door.as_ref());
        let opened = listeners.open(&config, planned, &mut inherited)?;
        let mut front_door = FrontDoorSockets::new(routing.sink());
        let opened_front_door = front_door.open(planned_front_door, &mut inherited)?;
        let running = Arc::new(OnceLock::new());
        let admin = AdminRouter::new(
            Arc::clone(&metrics),
            Arc::clone(&health),
            Arc::clone(&routing),
            Arc::clone(&running),
            Arc::clone(&shown_certificates),
            token,
        );

        let admin = Guard::new(admin, config.admin.allowed.clone());
        let admin = listeners.open_admin(&config.admin, admin, &mut inherited)?;
        for key in inherited.left() {
            warn!("{key} was passed, but no listener is configured for it");
        }

        let observer: Arc<dyn Observer> = telemetry.clone();
        let workers = Workers::start(threads(&config), &EngineOptions::default(), &observer)
            .map_err(Problem::wrap("cannot start the workers"))?;
        let handles = workers.handles().to_vec();
        metrics.watch(handles.clone());
        metrics.watch_router(Arc::clone(&routing));
        metrics.watch_certificates(Arc::clone(&shown_certificates));
        let _ = running.set(handles.clone());
        routing.set_handles(handles.clone());
        routing.configure(router)?;
        front_door.serve(opened_front_door);
        routing.await_daemons(&stop_requested);
        listeners.serve(opened.into_iter().chain(admin), &handles);
        let certificates = CertificateWatcher::start(certificates)?;
        let ended = sender.clone();
        spawn("join", move || drop(ended.send(Wake::Ended(workers.join()))))?;

        let mut server = Self {
            settings,
            config,
            program,
            upstreams,
            routing,
            listeners,
            front_door,
            shown_certificates,
            certificates,
            inherited,
            handles,
            telemetry,
            metrics,
            health,
            notify,
            sender,
            wakes,
            phase: Phase::Serving,
            successor: None,
            stop_requested,
        };
        server.metrics.config_reloaded(true);
        server.health.set_upstreams(server.upstreams.clone());
        server.health.set_ready(true);
        // First, because a script may wait for the address in the first line.
        server.listeners.describe(&server.config);
        server.front_door.describe();
        plan::warnings(&server.config).iter().chain(&warnings).for_each(|warning| warn!("{warning}"));
        info!("ready");
        server.notify.ready(&server.status());
        if let Some(predecessor) = predecessor {
            // If it has gone, there is nobody to report to.
            let _ = predecessor.dismiss();
        }
        server.listeners.own_files();
        for address in server.inherited.release() {
            info!("no longer listening on {address}");
        }
        Ok(server)
    }

    fn run(mut self) -> ExitCode {
        loop {
            let wake = match self.notify.watchdog() {
                Some(interval) => self.wakes.recv_timeout(interval),
                None => self.wakes.recv().map_err(RecvTimeoutError::from),
            };
            self.notify.alive();
            let status = match wake {
                Ok(Wake::Signal(signal)) => self.on_signal(signal),
                Ok(Wake::Loaded(result)) => {
                    self.on_loaded(result);
                    None
                }
                Ok(Wake::Upgraded(result)) => {
                    self.on_upgraded(result);
                    None
                }
                Ok(Wake::Ended(result)) => {
                    let status = self.on_ended(result);
                    self.end_successor();
                    Some(status)
                }
                Err(_) => None,
            };
            if let Some(status) = status {
                return status;
            }
        }
    }

    fn on_signal(&mut self, signal: i32) -> Option<ExitCode> {
        match (signal, self.phase) {
            (SIGUSR1, _) => self.telemetry.reopen(),
            (SIGHUP, Phase::Serving) => self.reload(),
            (SIGUSR2, Phase::Serving) => self.upgrade(),
            // A new process reads the configuration itself.
            (SIGUSR2, Phase::Reloading { .. }) => self.phase = Phase::Reloading { next: Some(SIGUSR2) },
            (SIGHUP, Phase::Reloading { next: None }) => self.phase = Phase::Reloading { next: Some(SIGHUP) },
            (SIGHUP, Phase::Reloading { next: Some(_) }) => {}
            (SIGHUP | SIGUSR2, Phase::Upgrading) => warn!("an upgrade is in progress; try again later"),
            (SIGHUP | SIGUSR2, _) => warn!("this process is about to end; the signal is ignored"),
            (_, Phase::Stopping) => return Some(self.stop_now(signal)),
            (..) => self.stop(),
        }
        None
    }

    /// Reads the configuration in a thread: files may be slow, and a stop must not wait for them.
    fn reload(&mut self) {
        self.notify.reloading();
        let (settings, upstreams, sender) =
            (self.settings.clone(), self.upstreams.clone(), self.sender.clone());
        let routing = Arc::clone(&self.routing);
        let read = move || {
            let config = Config::load(&settings)?;
            let plan = Plan::new(&config, &upstreams, &routing)?;
            Ok(Box::new((config, plan)))
        };
        self.phase = Phase::Reloading { next: None };
        if let Err(problem) = spawn("reload", move || drop(sender.send(Wake::Loaded(read())))) {
            self.on_loaded(Err(problem));
        }
    }

    fn on_loaded(&mut self, loaded: Result<Box<(Config, Plan)>, Problem>) {
        let Phase::Reloading { next } = self.phase else { return };
        self.phase = Phase::Serving;
        let result = loaded.and_then(|loaded| self.apply(*loaded));
        self.metrics.config_reloaded(result.is_ok());
        match result {
            Ok(()) => {
                self.listeners.describe(&self.config);
                self.front_door.describe();
                info!("reloaded");
            }
            Err(problem) => error!("not reloaded, the old configuration stays in use: {problem}"),
        }
        self.notify.ready(&self.status());
        match next {
            Some(SIGUSR2) => self.upgrade(),
            Some(_) => self.reload(),
            None => {}
        }
    }

    /// Applies a configuration. Everything that can fail comes first, so that it is applied wholly
    /// or not at all.
    fn apply(&mut self, (config, plan): (Config, Plan)) -> Result<(), Problem> {
        // If this configuration fails, the sockets that it has taken must be there for the next
        // one.
        let mut inherited =
            self.inherited.try_clone().map_err(Problem::wrap("no descriptors for inherited sockets"))?;
        let warnings = plan.warnings();
        let planned = plan.listeners.clone();
        let planned_front_door = plan.front_door.clone();
        let opened_front_door = self.front_door.open(plan.front_door, &mut inherited)?;
        let opened = self.listeners.open(&config, plan.listeners, &mut inherited)?;
        self.certificates = CertificateWatcher::start(plan.certificates)?;
        self.shown_certificates.set(&planned, planned_front_door.as_ref());
        self.inherited = inherited;
        self.listeners.serve(opened, &self.handles);
        self.upstreams = plan.upstreams;
        if let Err(problem) = self.routing.configure(plan.router) {
            error!("{problem}");
        }
        // After the settings, by which what workers say is judged.
        self.front_door.serve(opened_front_door);
        self.health.set_upstreams(self.upstreams.clone());
        log::set_max_level(config.log.level);
        plan::warnings(&config).iter().chain(&warnings).for_each(|warning| warn!("{warning}"));
        let fixed = |config: &Config| {
            (config.threads, config.access_log.clone(), config.admin.clone(), config.log.format)
        };
        if fixed(&config) != fixed(&self.config) {
            warn!(
                "changes of threads, log format, access log and admin listener take effect at the next start"
            );
        }
        self.config = config;
        Ok(())
    }

    fn upgrade(&mut self) {
        match self.start_successor() {
            Ok(successor) => {
                info!("upgrade: starting a new process");
                self.front_door.pause();
                self.phase = Phase::Upgrading;
                self.successor = Some(successor);
            }
            Err(problem) => error!("{NO_UPGRADE}: {problem}"),
        }
    }

    fn start_successor(&self) -> Result<SuccessorSignals, Problem> {
        let mut sockets: Sockets = self.listeners.duplicate()?;
        let front_door = self.front_door.duplicate();
        sockets.extend(front_door.map_err(Problem::wrap("no descriptors for the front door"))?);
        let inherited = self.inherited.duplicate();
        sockets.extend(inherited.map_err(Problem::wrap("no descriptors for inherited sockets"))?);
        let successor = self.program.start()?;
        let signals = successor.signals().map_err(Problem::wrap("no descriptor for the new process"))?;
        let sender = self.sender.clone();
        spawn("upgrade", move || drop(sender.send(Wake::Upgraded(successor.hand_over(&sockets)))))?;
        Ok(signals)
    }

    fn on_upgraded(&mut self, result: Result<u32, Problem>) {
        let successor = self.successor.take();
        match result {
            // Both processes were stopped.
            Ok(_) | Err(_) if self.phase == Phase::Stopping => info!("the new process ends as well"),
            // The stop signal came before the service manager learnt of the new process, so it ends
            // both.
            Ok(_) if self.stop_requested.load(Ordering::Relaxed) => {
                successor.iter().for_each(|successor| successor.send(Signal::TERM));
            }
            Ok(pid) => {
                info!("upgrade: process {pid} serves; this one waits for its tunnels to end");
                self.notify.replaced_by(pid);
                self.listeners.leave();
                self.front_door.leave();
                self.routing.retire();
                self.phase = Phase::Replaced;
                self.drain(None);
            }
            Err(problem) => {
                error!("{NO_UPGRADE}: {problem}");
                self.front_door.resume();
                self.phase = Phase::Serving;
            }
        }
    }

    fn stop(&mut self) {
        let limit = self.config.drain_timeout;
        match limit {
            Some(limit) => {
                info!("stopping; open connections have {} to end", humantime::format_duration(limit))
            }
            None => info!("stopping when all connections have ended"),
        }
        if self.phase != Phase::Replaced {
            self.notify.stopping("draining");
        }
        self.phase = Phase::Stopping;
        if let Some(successor) = &self.successor {
            successor.send(Signal::TERM);
        }
        self.drain(limit);
        // The workers close theirs. An open duplicate would still accept connections, which nobody
        // would serve.
        self.listeners = Listeners::default();
        self.front_door.leave();
    }

    /// Waits for a new process that was stopped with this one. If it does not end, it is killed:
    /// otherwise it would go on as a service that was stopped.
    fn end_successor(&mut self) {
        while let Some(successor) = &self.successor {
            match self.wakes.recv_timeout(SUCCESSOR_TIME) {
                Ok(Wake::Upgraded(result)) => self.on_upgraded(result),
                Ok(Wake::Signal(SIGHUP | SIGUSR1 | SIGUSR2) | Wake::Loaded(_) | Wake::Ended(_)) => {}
                Ok(Wake::Signal(_)) | Err(_) => {
                    successor.send(Signal::KILL);
                    self.successor = None;
                }
            }
        }
    }

    fn drain(&self, limit: Option<Duration>) {
        self.health.set_draining();
        self.handles.iter().for_each(|handle| handle.drain(limit));
    }

    fn stop_now(&mut self, signal: i32) -> ExitCode {
        info!("stopped at once");
        if let Some(successor) = &self.successor {
            successor.send(Signal::KILL);
        }
        self.handles.iter().for_each(Handle::stop);
        // The workers close their connections; the process does not wait long for that.
        let _ = self.wakes.recv_timeout(STOP_TIME);
        signals::exit_status(signal)
    }

    fn on_ended(&self, result: std::io::Result<()>) -> ExitCode {
        match result {
            Err(error) => error!("a worker has failed: {error}"),
            Ok(()) if matches!(self.phase, Phase::Stopping | Phase::Replaced) => {
                info!("stopped");
                return ExitCode::SUCCESS;
            }
            Ok(()) => error!("the workers have ended unexpectedly"),
        }
        ExitCode::FAILURE
    }

    fn status(&self) -> String {
        format!("serving on {}", self.listeners.addresses().join(", "))
    }
}

fn threads(config: &Config) -> NonZeroUsize {
    let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    config.threads.unwrap_or_else(processors)
}
