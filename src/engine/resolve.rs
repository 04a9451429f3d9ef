#![forbid(unsafe_code)]
//! [`Resolver`]: looks names up, off the loop.
//!
//! `getaddrinfo` follows the configuration of the machine (hosts file, search domains, other name
//! services), but it blocks. So a few threads call it, which live while there is work.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::slab::Token;

/// Look-ups at a time.
const THREADS: usize = 4;
/// Names that wait for a thread.
const QUEUE: usize = 1024;
/// Names whose answers are cached.
const CACHE: usize = 1024;
/// Askers that have gone are not removed from a list of fewer.
const GONE: usize = 64;
/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);
/// How long an answer is valid. `getaddrinfo` does not return the time to live of the record.
const TTL: Duration = Duration::from_secs(5);
/// How long a failure is valid.
const TTL_FAILURE: Duration = Duration::from_secs(1);

/// The result of a look-up.
pub(super) struct Resolved {
    /// The session that asked.
    pub(super) session: Token,
    /// The name that was looked up.
    pub(super) name: String,
    pub(super) result: io::Result<Vec<SocketAddr>>,
}

/// Addresses with port 0, or the error.
type Answer = Result<Arc<[SocketAddr]>, (ErrorKind, Arc<str>)>;
type Then = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;
type Find = Box<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Looks up the addresses of names. Clones share threads, questions and answers.
#[derive(Clone)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

impl Resolver {
    /// Makes a resolver. It has no thread until there is a name to look up.
    pub(super) fn new() -> Self {
        Self::with(IDLE, |host| Ok((host, 0).to_socket_addrs()?.collect()))
    }

    fn with(
        idle: Duration,
        find: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { find: Box::new(find), idle, work: Condvar::new(), state: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Looks up the addresses of `host`, a name or an IP address without brackets, and calls `then`
    /// with at least one of them, or with an error: at once if the answer is cached, else from
    /// another thread. There is no timeout here; `getaddrinfo` has its own (resolv.conf(5),
    /// `timeout` and `attempts`). `then` must not block; if it panics, the panic is caught.
    ///
    /// Concurrent questions about one name share one look-up. Their number has no bound here: a
    /// connection has one question at a time, and connections are bounded. To drop the question is
    /// to wait no longer.
    pub(super) fn lookup(
        &self,
        host: &str,
        port: u16,
        then: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) -> Question {
        let question = Question(Arc::new(()));
        let asker = Asker { question: Arc::downgrade(&question.0), port, then: Box::new(then) };
        if let Ok(ip) = host.parse::<IpAddr>() {
            asker.tell(&Ok([SocketAddr::new(ip, port)].into()));
            return question;
        }
        let mut state = self.shared.lock();
        if let Some(answer) = state.answers.get(host, now()) {
            drop(state);
            asker.tell(&answer);
        } else if let Some(askers) = state.asked.get_mut(host) {
            askers.add(asker);
        } else if let Err(error) = self.admit(&mut state) {
            drop(state);
            asker.tell(&Err(explain(host, &error)));
        } else {
            let host: Arc<str> = host.into();
            state.asked.entry(Arc::clone(&host)).or_default().add(asker);
            state.queue.push_back(host);
            drop(state);
            self.shared.work.notify_one();
        }
        question
    }

    /// Checks that there is room for one more name, and starts a thread for it if there should be
    /// another.
    fn admit(&self, state: &mut State) -> io::Result<()> {
        if state.queue.len() >= QUEUE {
            return Err(io::Error::new(
                ErrorKind::ResourceBusy,
                format!(
                    "{QUEUE} other names wait; use IP addresses, or find out why the name server is slow"
                ),
            ));
        }
        if state.queue.len() < state.idle || state.threads == THREADS {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new().name("dockline-names".into()).spawn(move || shared.work());
        match spawned {
            Ok(_) => state.threads += 1,
            // The threads that exist will look it up.
            Err(_) if state.threads > 0 => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Kept by the session that waits for the result.
#[derive(Debug)]
#[must_use = "if it is dropped there is no answer"]
pub(super) struct Question(Arc<()>);

/// A session that waits for a result.
struct Asker {
    question: Weak<()>,
    port: u16,
    then: Then,
}

impl Asker {
    fn is_waiting(&self) -> bool {
        self.question.strong_count() > 0
    }

    fn tell(self, answer: &Answer) {
        if !self.is_waiting() {
            return;
        }
        let result = match answer {
            Ok(found) => {
                let mut found = found.to_vec();
                found.iter_mut().for_each(|address| address.set_port(self.port));
                Ok(found)
            }
            Err((kind, text)) => Err(io::Error::new(*kind, &**text)),
        };
        // A panic must not end the thread, which has others to serve.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.then)(result)));
    }
}

/// Sessions that wait for one name. A name server may be slow while connections come and go: the
/// number of those that have gone is at most that of those that wait, plus [`GONE`].
#[derive(Default)]
struct Askers {
    list: Vec<Asker>,
    /// How many of the list were waiting at the last check.
    waiting: usize,
}

impl Askers {
    fn add(&mut self, asker: Asker) {
        if self.list.len() >= 2 * self.waiting + GONE {
            self.list.retain(Asker::is_waiting);
            self.waiting = self.list.len();
        }
        self.list.push(asker);
    }
}

struct Shared {
    find: Find,
    /// How long a thread waits for work.
    idle: Duration,
    work: Condvar,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    threads: usize,
    /// Of `threads`, those that wait for work.
    idle: usize,
    queue: VecDeque<Arc<str>>,
    /// The askers of names that are queued or being looked up.
    asked: HashMap<Arc<str>, Askers>,
    answers: Answers,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks names up until there are none for a while.
    fn work(&self) {
        while let Some(host) = self.next_name() {
            let answer = match (self.find)(&host) {
                Ok(found) if found.is_empty() => Err(explain(&host, &io::Error::other("it has no address"))),
                Ok(found) => Ok(found.into()),
                Err(error) => Err(explain(&host, &error)),
            };
            let asked = {
                let mut state = self.lock();
                state.answers.keep(Arc::clone(&host), answer.clone(), now());
                state.asked.remove(&host)
            };
            for asker in asked.into_iter().flat_map(|askers| askers.list) {
                asker.tell(&answer);
            }
        }
    }

    /// Returns the next name to look up; `None` if there was none for a while, so that the thread
    /// ends.
    fn next_name(&self) -> Option<Arc<str>> {
        let mut state = self.lock();
        state.idle += 1;
        let (mut state, _) = self
            .work
            .wait_timeout_while(state, self.idle, |state| state.queue.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let host = state.queue.pop_front();
        if host.is_none() {
            state.threads -= 1;
        }
        host
    }
}

/// The answers of the last seconds.
#[derive(Default)]
struct Answers {
    /// With the time until which each is valid.
    known: HashMap<Arc<str>, (Instant, Answer)>,
}

impl Answers {
    fn get(&self, host: &str, now: Instant) -> Option<Answer> {
        self.known.get(host).filter(|(until, _)| now < *until).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer if there is room, once those that have expired are removed.
    fn keep(&mut self, host: Arc<str>, answer: Answer, now: Instant) {
        if self.known.len() >= CACHE {
            self.known.retain(|_, (until, _)| now < *until);
        }
        if self.known.len() < CACHE {
            let ttl = if answer.is_ok() { TTL } else { TTL_FAILURE };
            self.known.insert(host, (now + ttl, answer));
        }
    }
}

fn explain(host: &str, error: &io::Error) -> (ErrorKind, Arc<str>) {
    (error.kind(), format!("cannot look up {host}: {error}").into())
}

#[expect(clippy::disallowed_methods, reason = "answers expire while nobody asks; nothing waits for it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
