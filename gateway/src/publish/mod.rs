#![forbid(unsafe_code)]
//! `dockline publish`: ports of this machine that lead to a running container, or to any address.
//!
//! The process of the command is the server. It binds the ports, forwards connections and
//! datagrams, follows the container, maintains the firewall rules if there are any, and has a
//! socket for requests ([`control`]).

pub(crate) mod args;
mod container;
mod control;
mod firewall;
pub(crate) mod list;
mod loop_check;
mod port_owner;
mod ports;
mod relay;
mod status;
pub(crate) mod unpublish;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dockline::untrusted::Untrusted;
use log::{error, info, warn};

use self::args::{Backend, PublishArgs};
use self::container::{Container, Target};
use self::control::{Claim, Request, StateDir};
use self::firewall::{Firewall, Rule};
use self::relay::{BoundPorts, Relay};
use self::status::{By, PortStatus, Served};
use crate::access_log::LogFormat;
use crate::config::LogConfig;
use crate::logger;
use crate::output;
use crate::problem::Problem;
use crate::process::signals::{self, SIGHUP, SIGINT, SIGTERM};
use crate::process::{background, raise_descriptor_limit, spawn};

/// Time for open connections to end with the publication.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Limit for connections to close when the process stops at once.
const STOP_TIME: Duration = Duration::from_secs(1);
/// Pause before accepting is tried again after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Interval of checks of the firewall rules.
const RULES_CHECK: Duration = Duration::from_secs(2);
/// The ID in `--dry-run`.
const NO_ID: &str = "00000000";

const RULES_FAILED: &str = "cannot install the firewall rules";

/// Publishes until a signal, a request or the time limit ends it.
pub(crate) fn run(args: &PublishArgs) -> ExitCode {
    let result = match (args.dry_run, args.detach && !background::is_child()) {
        (true, _) => rehearse(args),
        (false, true) => args.plan().and_then(|_| background::start()),
        (false, false) => publish(args),
    };
    fail_with(result)
}

/// Prints the problem, if there is one, and returns the exit status.
fn fail_with(result: Result<ExitCode, Problem>) -> ExitCode {
    result.unwrap_or_else(output::fail)
}

fn rehearse(args: &PublishArgs) -> Result<ExitCode, Problem> {
    let (backend, mappings) = args.plan()?;
    let target = locate(args, &backend)?.0;
    loop_check::refuse_own(&mappings, target.ip)?;
    if let Err(problem) = firewall::check_forwarding(target.ip) {
        output::tell(problem);
    }
    let commands = firewall::rehearse(args.firewall, NO_ID, &Rule::all(&mappings, &target))?;
    Ok(output::print(commands))
}

/// Returns the target of the ports, and the container to follow.
fn locate(args: &PublishArgs, backend: &Backend) -> Result<(Target, Option<Container>), Problem> {
    match backend {
        Backend::Fixed(ip) => Ok((Target { ip: *ip, network: None }, None)),
        Backend::Container(name) => {
            let docker = args.docker.client()?;
            let container = Container { docker, name: name.clone(), network: args.network.clone() };
            Ok((container.locate()?, Some(container)))
        }
    }
}

fn publish(args: &PublishArgs) -> Result<ExitCode, Problem> {
    if args.detach {
        background::leave_session();
    }
    logger::start(LogConfig { level: log::LevelFilter::Info, format: LogFormat::Text });
    let (backend, mappings) = args.plan()?;
    let (target, container) = locate(args, &backend)?;
    let state = StateDir::new(&args.state)?;
    clean_up(&state, args.dnat)?;
    raise_descriptor_limit();
    let (sender, wakes) = sync_channel(16);
    // Before there is anything to clean up.
    let deliver = sender.clone();
    signals::watch(&[SIGHUP, SIGINT, SIGTERM], move |signal| deliver.send(Wake::Signal(signal)).is_ok())?;

    let bound = BoundPorts::new(&mappings)?;
    let mappings = bound.mappings();
    loop_check::refuse_own(&mappings, target.ip)?;
    let claim = state.claim()?;
    let mut firewall = None;
    if args.dnat {
        firewall::check_forwarding(target.ip)?;
        let rules = Rule::all(&mappings, &target);
        if rules.is_empty() {
            return Err(Problem::new(format_args!(
                "--dnat: the kernel does not translate between IPv4 and IPv6, to reach {}",
                target.ip
            )));
        }
        let mut new = Firewall::new(args.firewall, &claim.id)?;
        new.set(rules)?;
        bound.close_waiting().map_err(Problem::wrap("cannot close waiting connections"))?;
        firewall = Some(new);
    }
    let proxy_protocol = args.proxy_protocol.map(|version| version.0);
    let (relay, workers) = Relay::start(bound, Some(target.ip), proxy_protocol)?;
    let shared = Arc::new(Shared {
        id: claim.id.clone(),
        container: container.as_ref().map(|container| container.name.clone()),
        relay,
        target: Mutex::new(Some(target.clone())),
        ends: args.lifetime.and_then(|time| time.or_off()).and_then(|time| now().checked_add(time)),
        dnat: firewall.is_some(),
    });
    serve_control(&claim, &shared, &sender)?;
    // After others can see this one: of two that start at the same time, at least one sees the
    // other.
    loop_check::refuse_by_way_of(&others(&state, &claim.id)?, &mappings, target.ip)?;
    let ended = sender.clone();
    spawn("join", move || drop(ended.send(Wake::Ended(workers.join()))))?;
    if let Some(container) = container {
        let present = Some(target);
        spawn("docker", move || {
            container.watch(present, |target| sender.send(Wake::Target(target)).is_ok())
        })?;
    }

    if args.detach {
        background::settle(&claim.id, &state.log_of(&claim.id))?;
    }
    if args.detach {
        shared.lines().iter().for_each(|line| info!("{line}"));
    } else {
        // The ports are served even if nobody reads this.
        let _ = output::print(shared.lines().join("\n") + "\n");
    }
    Ok(Publication { shared, firewall, wakes, end_requests: Vec::new(), stopping: false, _claim: claim }
        .run())
}

/// Returns the ports of the other publications, as far as they reply.
fn others(state: &StateDir, own: &str) -> Result<Vec<PortStatus>, Problem> {
    let others = state.live()?.0.into_iter().filter(|live| live.id != own);
    Ok(others.filter_map(|live| live.ports().ok()).flatten().collect())
}

/// Removes what killed processes have left behind.
fn clean_up(state: &StateDir, check_rules: bool) -> Result<(), Problem> {
    let (_, stale) = state.live()?;
    if stale > 0 || check_rules {
        for id in firewall::sweep() {
            output::tell(format_args!(
                "removed the firewall rules of the publication {id}, which was killed"
            ));
        }
    }
    Ok(())
}

/// The state that requests on the control socket read.
struct Shared {
    id: String,
    container: Option<Untrusted<String>>,
    relay: Relay,
    target: Mutex<Option<Target>>,
    ends: Option<Instant>,
    dnat: bool,
}

impl Shared {
    fn target(&self) -> Option<Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn status(&self) -> Vec<PortStatus> {
        let target = self.target();
        let ends_in = self.ends.map(|end| end.saturating_duration_since(now()).as_secs());
        let traffic = self.relay.traffic();
        let status = traffic.into_iter().map(|(mapping, traffic)| PortStatus {
            by: By::Dockline,
            id: self.id.clone().into(),
            proto: mapping.proto,
            listen: mapping.listen,
            container: self.container.clone(),
            target: target.as_ref().map(|target| SocketAddr::new(target.ip, mapping.port)),
            port: mapping.port,
            served: Some(Served {
                pid: std::process::id(),
                dnat: self.dnat && !mapping.listen.ip().is_loopback(),
                ends_in,
                connections: traffic.connections,
                bytes_up: traffic.bytes_up,
                bytes_down: traffic.bytes_down,
                clients: traffic.clients,
            }),
        });
        status.collect()
    }

    /// Describes each port in a line.
    fn lines(&self) -> Vec<String> {
        let name = self.container.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        let to = |port| {
            self.target().map_or_else(String::new, |target| SocketAddr::new(target.ip, port).to_string())
        };
        self.relay.mappings().map(|mapping| format!("{mapping} -> {name}{}", to(mapping.port))).collect()
    }
}

/// What the main thread waits for.
enum Wake {
    Signal(i32),
    /// A request to end. Its connection is closed at the end.
    End(UnixStream),
    /// The container has another address, or is gone.
    Target(Option<Target>),
    Ended(io::Result<()>),
}

struct Publication {
    shared: Arc<Shared>,
    firewall: Option<Firewall>,
    wakes: Receiver<Wake>,
    stopping: bool,
    _claim: Claim,
    /// Requests to end. They are closed last, when nothing is left of the publication.
    end_requests: Vec<UnixStream>,
}

impl Publication {
    fn run(mut self) -> ExitCode {
        loop {
            let status = match self.wait() {
                Some(Wake::Signal(signal)) if self.stopping => Some(self.stop_now(signal)),
                Some(Wake::Signal(_)) => self.stop(&"a signal"),
                Some(Wake::End(stream)) => {
                    self.end_requests.push(stream);
                    self.stop(&"unpublish")
                }
                Some(Wake::Target(target)) => {
                    self.follow(target);
                    None
                }
                Some(Wake::Ended(Ok(()))) if self.stopping => Some(ExitCode::SUCCESS),
                Some(Wake::Ended(result)) => {
                    error!("the workers have ended unexpectedly: {result:?}");
                    Some(ExitCode::FAILURE)
                }
                None if self.shared.ends.is_some_and(|end| end <= now()) => self.stop(&"its time"),
                None => {
                    self.repair();
                    None
                }
            };
            if let Some(status) = status {
                return status;
            }
        }
    }

    /// Waits for an event; `None`: time has passed.
    fn wait(&self) -> Option<Wake> {
        let end = self.shared.ends.filter(|_| !self.stopping).map(|end| end.saturating_duration_since(now()));
        let check = self.firewall.as_ref().map(|_| RULES_CHECK);
        match [end, check].into_iter().flatten().min() {
            Some(patience) => match self.wakes.recv_timeout(patience) {
                Err(RecvTimeoutError::Timeout) => None,
                wake => Some(wake.unwrap_or_else(|_| gone())),
            },
            None => Some(self.wakes.recv().unwrap_or_else(|_| gone())),
        }
    }

    fn follow(&mut self, target: Option<Target>) {
        if self.stopping {
            return;
        }
        let name = self.shared.container.clone().unwrap_or_default();
        match &target {
            Some(target) => info!("{name} is at {}", target.ip),
            None => info!("{name} cannot be reached; its ports stay reserved"),
        }
        self.shared.relay.set_target(target.as_ref().map(|target| target.ip));
        let rules = target.as_ref().map(|target| Rule::all(self.shared.relay.mappings(), target));
        if let Some(Err(problem)) =
            self.firewall.as_mut().map(|firewall| firewall.set(rules.unwrap_or_default()))
        {
            warn!("{RULES_FAILED}: {problem}");
        }
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    fn repair(&mut self) {
        match self.firewall.as_mut().map(Firewall::repair) {
            Some(Ok(true)) => {
                warn!("the firewall rules were changed by another program; they are installed again")
            }
            Some(Err(problem)) => warn!("{RULES_FAILED}: {problem}"),
            Some(Ok(false)) | None => {}
        }
    }

    fn stop(&mut self, why: &dyn fmt::Display) -> Option<ExitCode> {
        if !self.stopping {
            info!("ended by {why}");
            self.stopping = true;
            self.firewall = None;
            self.shared.relay.drain(DRAIN_TIME);
        }
        None
    }

    fn stop_now(&self, signal: i32) -> ExitCode {
        self.shared.relay.stop();
        let _ = self.wakes.recv_timeout(STOP_TIME);
        signals::exit_status(signal)
    }
}

/// Returns the wake-up for the case that all senders are gone. They live as long as the process.
fn gone() -> Wake {
    Wake::Ended(Err(io::Error::other("no thread is left")))
}

fn serve_control(claim: &Claim, shared: &Arc<Shared>, sender: &SyncSender<Wake>) -> Result<(), Problem> {
    let listener =
        claim.listener.try_clone().map_err(Problem::wrap("no descriptor for the control socket"))?;
    let (shared, sender) = (Arc::clone(shared), sender.clone());
    spawn("control", move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                // For example, no descriptor is left. The connection still waits, so accepting
                // would fail again at once.
                #[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
                thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            match control::receive(&stream) {
                // The peer may have gone.
                Ok(Request::Ports) => drop(control::reply(&mut stream, &shared.status())),
                Ok(Request::End) => drop(sender.send(Wake::End(stream))),
                // A check whether the publication is alive sends no request.
                Err(_) => {}
            }
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "the main thread is what reads the clock")]
fn now() -> Instant {
    Instant::now()
}
