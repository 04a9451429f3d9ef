#![forbid(unsafe_code)]
//! [`Watcher`]: what the containers of a Docker daemon announce, now and after each change, or the
//! services of a swarm.
//!
//! It uses these operations of the API, and no others:
//!
//! | | |
//! |---|---|
//! | `GET /events` | to be told of changes |
//! | `GET /containers/json` | to find all containers |
//! | `GET /containers/{id}/json` | to find what one announces, and where it is |
//! | `GET /services`, `/tasks`, `/nodes` | for a swarm, in place of those of containers |

mod containers;
mod event;
mod list;
mod ready;
mod swarm;
mod tracker;
mod workers;

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use dockline_docker_client::{Docker, DockerError, EventFilter, Received};

use self::containers::Containers;
use self::event::{Hint, Id};
use self::list::Listing;
use self::ready::Prober;
use self::swarm::Swarm;
pub use self::swarm::{SwarmAnswers, SwarmRead, SwarmReader};
use self::tracker::{Action, Answer, Input, PARALLEL, Tracker};
use self::workers::Workers;
use crate::now;
use crate::record::{Node, Record, Text};
use crate::update::{Change, Source, Unrouted, Update};

/// Messages that wait for the watcher.
const QUEUE: usize = 1024;
/// How long a thread for requests stays without one.
const IDLE: Duration = Duration::from_secs(10);
/// Interval at which a reader of events without one looks whether it is still needed.
const LOOK: Duration = Duration::from_secs(10);

/// What a container announces.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The node that it is on.
    pub node: Node,
    /// Its records.
    pub records: Vec<Record>,
    /// Why it has no route, or not all of them.
    pub unrouted: Option<Unrouted>,
    /// Whether those records that are [`Down`](crate::RecordState::Down) and have an address become
    /// live when that accepts a connection: the container is running and has no health check.
    pub probe: bool,
}

/// Reads what a container announces.
pub trait Reader: Send + Sync {
    /// Reads the response to `GET /containers/{id}/json`. It may be called by several threads.
    ///
    /// # Errors
    /// If it is none, why not. The container is unrouted then, and inspected again after a while.
    fn read(&self, inspect: &[u8]) -> Result<Read, Text>;
}

impl<F: Fn(&[u8]) -> Result<Read, Text> + Send + Sync> Reader for F {
    fn read(&self, inspect: &[u8]) -> Result<Read, Text> {
        self(inspect)
    }
}

/// Watches the containers of one daemon, or a swarm by one of its managers, for as long as it
/// lives. After that comes its last update, that its records are [gone](Change::Gone).
///
/// Its first update is a [`Sync`](Change::Sync), or that the daemon cannot be reached. While it
/// cannot, it is tried again, after 5 s at the latest.
pub struct Watcher {
    ended: Arc<AtomicBool>,
    messages: SyncSender<Message>,
}

/// What the threads of a watcher tell it.
enum Message {
    /// On the connection of this number.
    Input(u64, Input),
    Accepts(Id, u64, SocketAddr),
    End,
}

impl Watcher {
    /// Starts watching. `source` is the name of the daemon in updates, `node` its machine. `sink`
    /// gets the updates, from a thread of the watcher, and returns whether it wants more; while it
    /// blocks, changes wait. The client is closed with the watcher.
    ///
    /// # Errors
    /// If a thread cannot be made.
    pub fn start(
        docker: Docker,
        source: Source,
        node: Node,
        reader: Arc<dyn Reader>,
        sink: impl FnMut(Update) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let inventory = Arc::new(Containers::new(docker.clone(), reader));
        Self::start_with(docker, source, node, inventory, sink)
    }

    /// As [`Watcher::start`], with a manager of a swarm and the services of that.
    ///
    /// # Errors
    /// If a thread cannot be made.
    pub fn start_swarm(
        docker: Docker,
        source: Source,
        node: Node,
        reader: Arc<dyn SwarmReader>,
        sink: impl FnMut(Update) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let inventory = Arc::new(Swarm::new(docker.clone(), reader));
        Self::start_with(docker, source, node, inventory, sink)
    }

    fn start_with(
        docker: Docker,
        source: Source,
        node: Node,
        inventory: Arc<dyn Inventory>,
        sink: impl FnMut(Update) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, received) = sync_channel(QUEUE);
        let ended = Arc::new(AtomicBool::new(false));
        let current = Arc::new(AtomicU64::new(0));
        let accepting = messages.clone();
        // A message is not delivered only when the watcher has ended.
        let prober = Prober::start(move |id, ticket, address| {
            let _ = accepting.send(Message::Accepts(id, ticket, address));
        })?;
        let requests = Requests { inventory: Arc::clone(&inventory), messages: messages.clone() };
        let run = Run {
            tracker: Tracker::new(node, now()),
            stream: Stream { docker, inventory, current, messages: messages.clone() },
            workers: Workers::new(PARALLEL, IDLE, move |job| requests.run(job)),
            prober,
            source,
            sink,
            received,
            ended: Arc::clone(&ended),
        };
        thread::Builder::new().name("docker-watch".into()).spawn(move || run.run())?;
        Ok(Self { ended, messages })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // In a full queue there is enough to wake it.
        let _ = self.messages.try_send(Message::End);
    }
}

/// The thread of a watcher: asks for what the tracker wants to know, and tells it the answers.
struct Run<S> {
    tracker: Tracker,
    stream: Stream,
    workers: Workers<Job>,
    prober: Prober,
    source: Source,
    sink: S,
    received: Receiver<Message>,
    ended: Arc<AtomicBool>,
}

impl<S: FnMut(Update) -> bool> Run<S> {
    fn run(mut self) {
        self.follow();
        // Ends the other threads, whatever they wait for.
        self.stream.docker.close();
    }

    fn follow(&mut self) {
        while !self.ended.load(Ordering::Acquire) {
            while let Some(action) = self.tracker.next(now()) {
                if !self.act(action) {
                    return;
                }
            }
            let message = match self.tracker.deadline() {
                Some(at) => self.received.recv_timeout(at.saturating_duration_since(now())),
                None => self.received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Input(epoch, input)) => self.tracker.apply(epoch, input, now()),
                Ok(Message::Accepts(id, ticket, address)) => self.tracker.accepts(&id, ticket, address),
                Ok(Message::End) | Err(_) => {}
            }
        }
        self.send(Change::Gone);
    }

    /// Does it. Returns whether to go on.
    fn act(&mut self, action: Action) -> bool {
        let epoch = self.tracker.epoch();
        match action {
            Action::Open(since) => {
                if let Err(error) = self.stream.open(epoch, since) {
                    self.fail(epoch, &error);
                }
            }
            Action::List => self.push(epoch, Job::List(epoch)),
            Action::Inspect(id) => self.push(epoch, Job::Inspect(epoch, id)),
            Action::Probe(id, ticket, addresses) => self.prober.probe(id, ticket, addresses),
            Action::Send(change) => return self.send(change),
        }
        true
    }

    fn push(&mut self, epoch: u64, job: Job) {
        if let Err(error) = self.workers.push(job) {
            self.fail(epoch, &error);
        }
    }

    /// Takes that a thread cannot be made. What was to be done is done after the next connection.
    fn fail(&mut self, epoch: u64, error: &io::Error) {
        self.tracker.apply(epoch, Input::Ended(format!("no thread for a request: {error}").into()), now());
    }

    fn send(&mut self, change: Change) -> bool {
        (self.sink)(Update { source: Arc::clone(&self.source), change })
    }
}

/// A request of a worker, with the number of the connection that it is for.
enum Job {
    List(u64),
    Inspect(u64, Id),
}

/// What is watched at a daemon. Its methods are called by several threads.
trait Inventory: Send + Sync {
    /// Returns the events that can change it.
    fn events(&self) -> EventFilter<'static>;
    /// Reads an event. Returns what may have changed, if anything of interest, and when it
    /// happened, in nanoseconds since 1970.
    fn hint(&self, event: &[u8]) -> Option<(Option<Hint>, Option<u64>)>;
    /// Asks for all that there is.
    fn list(&self) -> Result<Listing, Text>;
    /// Asks for what one of them announces.
    fn inspect(&self, id: &Id) -> Answer;
}

/// What the workers need.
struct Requests {
    inventory: Arc<dyn Inventory>,
    messages: SyncSender<Message>,
}

impl Requests {
    fn run(&self, job: Job) {
        let (epoch, input) = match job {
            Job::List(epoch) => (epoch, Input::Listed(self.inventory.list())),
            Job::Inspect(epoch, id) => {
                let answer = self.inventory.inspect(&id);
                (epoch, Input::Inspected(id, answer))
            }
        };
        let _ = self.messages.send(Message::Input(epoch, input));
    }
}

/// What the readers of events need. There is one for each connection.
#[derive(Clone)]
struct Stream {
    docker: Docker,
    inventory: Arc<dyn Inventory>,
    /// The number of the present connection.
    current: Arc<AtomicU64>,
    messages: SyncSender<Message>,
}

impl Stream {
    fn open(&self, epoch: u64, since: Option<u64>) -> io::Result<()> {
        self.current.store(epoch, Ordering::Release);
        let stream = self.clone();
        let run = move || {
            if let Some(why) = stream.follow(epoch, since) {
                stream.tell(epoch, Input::Ended(why));
            }
        };
        thread::Builder::new().name("docker-events".into()).spawn(run).map(drop)
    }

    /// Passes events on, and returns why there are no more; `None`: they are not needed any more.
    fn follow(&self, epoch: u64, since: Option<u64>) -> Option<Text> {
        let failed = |error: DockerError| Some(reason("GET /events", &error));
        let mut events = match self.docker.events(&self.inventory.events(), since) {
            Ok(events) => events,
            Err(error) => return failed(error),
        };
        let mut needed = self.tell(epoch, Input::Opened);
        while needed && self.current.load(Ordering::Acquire) == epoch {
            needed = match events.next(LOOK) {
                Ok(Received::Event(event)) => {
                    let read = self.inventory.hint(&event);
                    read.is_none_or(|(hint, time)| self.tell(epoch, Input::Event(hint, time)))
                }
                // Which container it was about is not known.
                Ok(Received::Oversized) => self.tell(epoch, Input::Event(Some(Hint::Any), None)),
                Ok(Received::Nothing) => true,
                Err(error) => return failed(error),
            };
        }
        None
    }

    /// Returns whether anybody listens.
    fn tell(&self, epoch: u64, input: Input) -> bool {
        self.messages.send(Message::Input(epoch, input)).is_ok()
    }
}

/// Describes the error of an operation in a line, with what caused it.
fn reason(operation: &str, error: &DockerError) -> Text {
    let mut text = match error {
        DockerError::Unreachable { .. } => error.to_string(),
        _ => format!("{operation}: {error}"),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to memory cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text.into()
}

#[cfg(test)]
mod tests;
