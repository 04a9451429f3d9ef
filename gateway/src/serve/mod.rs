#![forbid(unsafe_code)]
//! `dockline serve`: start, reload, upgrade, stop. The work itself is done by the engine's workers; this is the main
//! thread, which waits for signals.

pub(crate) mod bind;
pub(crate) mod guard;
mod identity;
mod listeners;
pub(crate) mod loop_check;
pub(crate) mod plan;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use dockline::engine::{EngineOptions, Handle, Observer, Upstream, Workers};
use log::{error, info, warn};
use rustix::process::Signal;

use self::guard::Guard;
use self::listeners::Listeners;
use self::plan::Plan;
use crate::access_log::AccessLog;
use crate::admin::{AdminRouter, Health};
use crate::cli::Settings;
use crate::config::Config;
use crate::logger;
use crate::metrics::Metrics;
use crate::output;
use crate::process::inherited::Inherited;
use crate::process::notify::Notify;
use crate::process::signals::{self, EarlySignals, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use crate::process::upgrade::{Predecessor, Program, Sockets, SuccessorSignals};
use crate::process::{raise_descriptor_limit, spawn};
use crate::telemetry::Telemetry;

/// How long connections may take to close when everything is to end at once.
const STOP_TIME: Duration = Duration::from_secs(1);

/// How long a new process may take to end with this one.
const SUCCESSOR_TIME: Duration = Duration::from_secs(5);

/// Serves until a signal ends it.
pub(crate) fn run(settings: Settings) -> ExitCode {
    let early = match EarlySignals::catch() {
        Ok(early) => early,
        Err(problem) => return output::fail(problem),
    };
    let config = match Config::load(&settings) {
        Ok(config) => config,
        Err(problem) => {
            return output::fail(problem);
        }
    };
    logger::start(config.log);
    match Server::start(settings, config, &early) {
        Ok(server) => server.run(),
        Err(message) => {
            error!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// What the main thread waits for.
enum Wake {
    Signal(i32),
    /// The configuration that a reload has read.
    Loaded(Result<Box<(Config, Plan)>, String>),
    /// The new process serves, or does not.
    Upgraded(Result<u32, String>),
    /// All workers have ended, because they were told to or because one could not go on.
    Ended(std::io::Result<()>),
}

/// What the process is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The configuration is being read. A signal that came meanwhile has its turn after that.
    Reloading {
        next: Option<i32>,
    },
    /// A new process is being started.
    Upgrading,
    /// A new process serves; this one waits for its tunnels to end.
    Replaced,
    /// It was told to end, and finishes what runs.
    Stopping,
}

struct Server {
    settings: Settings,
    config: Config,
    program: Program,
    upstreams: Vec<Arc<Upstream>>,
    listeners: Listeners,
    inherited: Inherited,
    handles: Vec<Handle>,
    telemetry: Arc<Telemetry>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    notify: Notify,
    sender: SyncSender<Wake>,
    wakes: Receiver<Wake>,
    phase: Phase,
    /// The new process, as long as it is not known whether it serves.
    successor: Option<SuccessorSignals>,
    /// Whether a signal has come that ends the process; it may still be on its way to [`on_signal`](Self::on_signal).
    told_to_stop: Arc<AtomicBool>,
}

impl Server {
    fn start(settings: Settings, config: Config, early: &EarlySignals) -> Result<Self, String> {
        let program =
            Program::of_this_process().map_err(|error| format!("where is this program? {error}"))?;
        let failed = |error| format!("the sockets of the old process do not come: {error}");
        let (predecessor, handed) = match Predecessor::greet().map_err(failed)? {
            Some((predecessor, handed)) => (Some(predecessor), handed),
            None => (None, Vec::new()),
        };
        let mut inherited = Inherited::new(handed)?;
        let notify = Notify::from_env().map_err(|error| format!("NOTIFY_SOCKET: {error}"))?;
        raise_descriptor_limit();
        let Plan { upstreams, listeners: planned } =
            Plan::new(&config, &[]).map_err(|problem| problem.to_string())?;
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::new()));
        let access = match config.access_log.clone() {
            (Some(target), format) => {
                Some(AccessLog::open(target, format).map_err(|error| format!("access log: {error}"))?)
            }
            (None, _) => None,
        };
        let telemetry = Telemetry::new(access, Arc::clone(&metrics), Arc::clone(&health));
        // Until here a stop ends the process by itself: files may be slow. From here on it has to remove sockets.
        let (sender, wakes) = sync_channel(16);
        let deliver = sender.clone();
        signals::watch(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2], move |signal| {
            deliver.send(Wake::Signal(signal)).is_ok()
        })?;
        // Behind it, so that no signal is lost between the two.
        let told_to_stop = signals::flag(&[SIGTERM, SIGINT, SIGQUIT])?;
        if early.wants_reload() {
            let _ = sender.try_send(Wake::Signal(SIGHUP));
        }
        let mut listeners = Listeners::default();
        let opened = listeners.open(&config, planned, &mut inherited)?;
        let admin = AdminRouter::new(Arc::clone(&metrics), Arc::clone(&health));
        let admin = Guard::new(admin, config.admin.allowed.clone());
        let admin = listeners.open_admin(&config.admin, admin, &mut inherited)?;
        for key in inherited.left() {
            warn!("{key} was passed, but no listener is configured for it");
        }

        let observer: Arc<dyn Observer> = telemetry.clone();
        let workers = Workers::start(threads(&config), &EngineOptions::default(), &observer)
            .map_err(|error| format!("the workers do not start: {error}"))?;
        let handles = workers.handles().to_vec();
        metrics.watch(handles.clone());
        listeners.serve(opened.into_iter().chain(admin), &handles);
        let ended = sender.clone();
        spawn("join", move || drop(ended.send(Wake::Ended(workers.join()))))?;

        let mut server = Self {
            settings,
            config,
            program,
            upstreams,
            listeners,
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
            told_to_stop,
        };
        server.metrics.config_reloaded(true);
        server.health.set_upstreams(server.upstreams.clone());
        server.health.set_ready(true);
        // In this order: who waits for an address reads the first line.
        server.listeners.describe(&server.config);
        plan::warnings(&server.config).iter().for_each(|warning| warn!("{warning}"));
        info!("ready");
        server.notify.ready(&server.status());
        if let Some(predecessor) = predecessor {
            // If it is gone, there is nobody to wait for.
            let _ = predecessor.dismiss();
        }
        server.listeners.own_files();
        for address in server.inherited.release() {
            info!("{address} is not listened on any more");
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
            // A new process reads the configuration, too.
            (SIGUSR2, Phase::Reloading { .. }) => self.phase = Phase::Reloading { next: Some(SIGUSR2) },
            (SIGHUP, Phase::Reloading { next: None }) => self.phase = Phase::Reloading { next: Some(SIGHUP) },
            (SIGHUP, Phase::Reloading { next: Some(_) }) => {}
            (SIGHUP | SIGUSR2, Phase::Upgrading) => warn!("an upgrade is under way; try again after it"),
            (SIGHUP | SIGUSR2, _) => warn!("this process is about to end; nothing is reloaded"),
            (_, Phase::Stopping) => return Some(self.stop_now(signal)),
            (..) => self.stop(),
        }
        None
    }

    /// Has the configuration read by a thread: files may be slow, and a stop must not wait for them.
    fn reload(&mut self) {
        self.notify.reloading();
        let (settings, upstreams, sender) =
            (self.settings.clone(), self.upstreams.clone(), self.sender.clone());
        let read = move || {
            let config = Config::load(&settings).map_err(|problem| problem.to_string())?;
            let plan = Plan::new(&config, &upstreams).map_err(|problem| problem.to_string())?;
            Ok(Box::new((config, plan)))
        };
        self.phase = Phase::Reloading { next: None };
        if let Err(message) = spawn("reload", move || drop(sender.send(Wake::Loaded(read())))) {
            self.on_loaded(Err(message));
        }
    }

    fn on_loaded(&mut self, loaded: Result<Box<(Config, Plan)>, String>) {
        let Phase::Reloading { next } = self.phase else { return };
        self.phase = Phase::Serving;
        let result = loaded.and_then(|loaded| self.apply(*loaded));
        self.metrics.config_reloaded(result.is_ok());
        match result {
            Ok(()) => {
                self.listeners.describe(&self.config);
                info!("reloaded");
            }
            Err(message) => error!("not reloaded, the old configuration stays: {message}"),
        }
        self.notify.ready(&self.status());
        match next {
            Some(SIGUSR2) => self.upgrade(),
            Some(_) => self.reload(),
            None => {}
        }
    }

    /// Everything that can fail comes first, so that nothing is half done.
    fn apply(&mut self, (config, plan): (Config, Plan)) -> Result<(), String> {
        // What a configuration that fails has taken of them must be there for the next.
        let mut inherited =
            self.inherited.try_clone().map_err(|error| format!("inherited sockets: {error}"))?;
        let opened = self.listeners.open(&config, plan.listeners, &mut inherited)?;
        self.inherited = inherited;
        self.listeners.serve(opened, &self.handles);
        self.upstreams = plan.upstreams;
        self.health.set_upstreams(self.upstreams.clone());
        log::set_max_level(config.log.level);
        plan::warnings(&config).iter().for_each(|warning| warn!("{warning}"));
        let fixed = |config: &Config| {
            (config.threads, config.access_log.clone(), config.admin.clone(), config.log.format)
        };
        if fixed(&config) != fixed(&self.config) {
            warn!(
                "threads, the log's format, the access log and the admin listener change at the next start"
            );
        }
        self.config = config;
        Ok(())
    }

    fn upgrade(&mut self) {
        match self.start_successor() {
            Ok(successor) => {
                info!("upgrade: starting a new process");
                self.phase = Phase::Upgrading;
                self.successor = Some(successor);
            }
            Err(message) => error!("no upgrade, this process goes on: {message}"),
        }
    }

    fn start_successor(&self) -> Result<SuccessorSignals, String> {
        let mut sockets: Sockets = self.listeners.duplicate()?;
        sockets.extend(self.inherited.duplicate().map_err(|error| error.to_string())?);
        let successor = self.program.start()?;
        let signals = successor.signals().map_err(|error| error.to_string())?;
        let sender = self.sender.clone();
        spawn("upgrade", move || drop(sender.send(Wake::Upgraded(successor.hand_over(&sockets)))))?;
        Ok(signals)
    }

    fn on_upgraded(&mut self, result: Result<u32, String>) {
        let successor = self.successor.take();
        match result {
            // Both were told to end.
            Ok(_) | Err(_) if self.phase == Phase::Stopping => info!("the new process ends, too"),
            // They are about to be: the stop came before anybody was told of the new process.
            Ok(_) if self.told_to_stop.load(Ordering::Relaxed) => {
                successor.iter().for_each(|successor| successor.send(Signal::TERM));
            }
            Ok(pid) => {
                info!("upgrade: process {pid} serves; this one waits for its tunnels to end");
                self.notify.replaced_by(pid);
                self.listeners.leave();
                self.phase = Phase::Replaced;
                self.drain(None);
            }
            Err(message) => {
                error!("no upgrade, this process goes on: {message}");
                self.phase = Phase::Serving;
            }
        }
    }

    fn stop(&mut self) {
        let limit = self.config.drain_timeout;
        match limit {
            Some(limit) => info!("stopping; what runs may take {} more", humantime::format_duration(limit)),
            None => info!("stopping when all has ended"),
        }
        if self.phase != Phase::Replaced {
            self.notify.stopping("draining");
        }
        self.phase = Phase::Stopping;
        if let Some(successor) = &self.successor {
            successor.send(Signal::TERM);
        }
        self.drain(limit);
        // The workers close theirs; an open duplicate would still take connections that nobody serves.
        self.listeners = Listeners::default();
    }

    /// Waits for a new process that was told to end with this one. If it does not, it is killed: it would go on in place of
    /// a service that was stopped.
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
        // They close their connections; the process does not wait long for it.
        let _ = self.wakes.recv_timeout(STOP_TIME);
        signals::exit_status(signal)
    }

    fn on_ended(&self, result: std::io::Result<()>) -> ExitCode {
        match result {
            Err(error) => error!("a worker could not go on: {error}"),
            Ok(()) if matches!(self.phase, Phase::Stopping | Phase::Replaced) => {
                info!("stopped");
                return ExitCode::SUCCESS;
            }
            Ok(()) => error!("the workers have ended without being told to"),
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
