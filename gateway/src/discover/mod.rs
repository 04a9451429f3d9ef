#![forbid(unsafe_code)]
//! `dockline discover`: the routes of containers, published in Redis or in a file.

pub(crate) mod args;
mod daemon;
mod plan;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use dockline::untrusted::Untrusted;
use dockline_discovery::Update;
use dockline_discovery::registry::redis::{Publisher, PublisherConfig};
use dockline_discovery::snapshot_file::{SnapshotFile, SnapshotFileConfig};
use log::{LevelFilter, info, warn};

use self::args::DiscoverArgs;
use self::daemon::Daemon;
use self::plan::Plan;
use crate::access_log::LogFormat;
use crate::config::LogConfig;
use crate::logger;
use crate::output::fail;
use crate::problem::Problem;
use crate::process::notify::Notify;
use crate::process::signals::{self, SIGINT, SIGTERM};

/// Runs until a signal ends it.
pub(crate) fn run(args: &DiscoverArgs) -> ExitCode {
    match discover(args) {
        Ok(status) => status,
        Err(problem) => fail(problem),
    }
}

fn discover(args: &DiscoverArgs) -> Result<ExitCode, Problem> {
    let host = rustix::system::uname();
    let plan = Plan::new(args, |name| env::var(name).ok(), &host.nodename().to_string_lossy())?;
    logger::start(LogConfig {
        level: args.log_level.map_or(LevelFilter::Info, |level| level.0),
        format: args.log_format.map_or(LogFormat::Text, |format| format.0),
    });
    let notify = Notify::from_env().map_err(Problem::wrap("cannot reach the service manager"))?;
    let (sender, wakes) = sync_channel(1);
    let signal = sender.clone();
    signals::watch(&[SIGINT, SIGTERM], move |number| signal.send(Wake::Signal(number)).is_ok())?;

    let sinks = Sinks::start(plan.publisher, plan.snapshot)?;
    let deliver: Arc<dyn Fn(Update) + Send + Sync> = Arc::new(move |update| sinks.apply(update));
    let watch = |at: usize, daemon: &Daemon| {
        let moved = sender.clone();
        // It is called by a thread that may wait.
        daemon.watch(Arc::clone(&deliver), move || drop(moved.send(Wake::Moved(at))))
    };
    let watched = plan.daemons.iter().enumerate().map(|(at, daemon)| watch(at, daemon));
    let mut watched: Vec<_> = watched.collect::<Result<_, _>>()?;
    notify.ready("publishing routes");
    loop {
        match wakes.recv() {
            Ok(Wake::Moved(at)) => match watch(at, &plan.daemons[at]) {
                Ok(new) => watched[at] = new,
                Err(problem) => warn!("{problem}"),
            },
            Ok(Wake::Signal(number)) => {
                notify.stopping("stopping");
                info!("stopped by a signal; the routes stay where they are published");
                return Ok(if number == SIGTERM { ExitCode::SUCCESS } else { signals::exit_status(number) });
            }
            Err(_) => return Err(Problem::new("no thread is left")),
        }
    }
}

/// What the main thread waits for.
enum Wake {
    Signal(i32),
    /// This process is in other networks of the daemon of this number.
    Moved(usize),
}

/// Where routes are published.
struct Sinks {
    publisher: Option<Publisher>,
    snapshot: Option<SnapshotFile>,
}

impl Sinks {
    fn start(
        publisher: Option<PublisherConfig>,
        snapshot: Option<SnapshotFileConfig>,
    ) -> Result<Self, Problem> {
        let publish = |config: PublisherConfig| {
            info!("publishing in {}", config.address);
            Publisher::start(config).map_err(Problem::wrap("cannot publish in Redis"))
        };
        let write = |config: SnapshotFileConfig| {
            let shown = Untrusted::path(&config.path).to_string();
            info!("publishing in {shown}");
            let failed = format!("cannot write {shown}");
            let told = failed.clone();
            SnapshotFile::start(config, move |error| warn!("{told}: {error}; trying again"))
                .map_err(Problem::wrap(failed))
        };
        Ok(Self {
            publisher: publisher.map(publish).transpose()?,
            snapshot: snapshot.map(write).transpose()?,
        })
    }

    fn apply(&self, update: Update) {
        if let Some(publisher) = &self.publisher {
            publisher.apply(update.clone());
        }
        if let Some(snapshot) = &self.snapshot {
            snapshot.apply(update);
        }
    }
}
