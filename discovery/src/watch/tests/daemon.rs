//! A daemon with containers that a test changes, with or without an event.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use dockline::engine::Address;
use dockline_docker_client::Docker;

#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) running: bool,
    pub(super) started: u64,
    pub(super) address: Option<SocketAddr>,
    /// Its place in the order in which they were created.
    created: usize,
}

type Hook = Box<dyn FnMut(&Daemon, &str) + Send>;

#[derive(Default)]
pub(super) struct State {
    pub(super) containers: BTreeMap<String, Container>,
    /// How often each was inspected.
    pub(super) inspected: BTreeMap<String, usize>,
    pub(super) lists: usize,
    /// What a request is answered with in place of what it asks for, by the end of its target.
    pub(super) instead: BTreeMap<&'static str, String>,
    /// Targets of the requests for events.
    pub(super) subscriptions: Vec<String>,
    subscribers: Vec<UnixStream>,
    connections: Vec<UnixStream>,
    /// `None`: it takes no connections.
    accepting: Option<JoinHandle<()>>,
}

/// The daemon; clones are the same one.
#[derive(Clone)]
pub(super) struct Daemon {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
    busy: Arc<AtomicUsize>,
    pub(super) busiest: Arc<AtomicUsize>,
    /// Open connections.
    pub(super) open: Arc<AtomicUsize>,
    /// In the abstract namespace.
    socket: String,
}

impl Daemon {
    pub(super) fn start(containers: &[&str]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = format!("dockline-watch-{}-{number}", std::process::id());
        let daemon = Self {
            state: Arc::default(),
            hook: Arc::default(),
            busy: Arc::default(),
            busiest: Arc::default(),
            open: Arc::default(),
            socket,
        };
        containers.iter().for_each(|id| daemon.put(id, id, true));
        daemon.resume();
        daemon
    }

    pub(super) fn client(&self) -> Docker {
        Docker::new(Address::Unix(format!("@{}", self.socket).into())).unwrap()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Calls this before each answer to an inspection.
    pub(super) fn before_inspection(&self, hook: impl FnMut(&Self, &str) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Creates or changes a container, without an event.
    pub(super) fn put(&self, id: &str, name: &str, running: bool) {
        let mut state = self.lock();
        let started =
            state.containers.get(id).map_or(1, |old| old.started + u64::from(running && !old.running));
        let created = state.containers.get(id).map_or(state.containers.len(), |old| old.created);
        let container = Container { name: name.to_owned(), running, started, address: None, created };
        state.containers.insert(id.to_owned(), container);
    }

    /// Removes a container, without an event.
    pub(super) fn remove(&self, id: &str) {
        self.lock().containers.remove(id);
    }

    /// Sends an event.
    pub(super) fn emit(&self, r#type: &str, action: &str, id: &str) {
        self.send(&format!(
            "{{\"Type\":\"{type}\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"{id}\",\"Attributes\":{{\"container\":\"{id}\"}}}},\
             \"timeNano\":1700000000000000042}}\n"
        ));
    }

    /// Sends bytes to all who have subscribed to events, each in a chunk.
    pub(super) fn send(&self, text: &str) {
        let mut state = self.lock();
        state.subscribers.retain_mut(|stream| {
            text.as_bytes().chunks(100_000).all(|piece| {
                write!(stream, "{:x}\r\n", piece.len()).is_ok()
                    && stream.write_all(piece).is_ok()
                    && stream.write_all(b"\r\n").is_ok()
            })
        });
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.subscribers.clear();
        for stream in state.connections.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Cuts all connections, and takes no more.
    pub(super) fn stop(&self) {
        let accepting = self.lock().accepting.take().unwrap();
        // Wakes the thread that accepts.
        UnixStream::connect_addr(&self.address()).unwrap();
        accepting.join().unwrap();
        self.cut();
    }

    /// Takes connections again.
    pub(super) fn resume(&self) {
        let listener = UnixListener::bind_addr(&self.address()).unwrap();
        let daemon = self.clone();
        let mut state = self.lock();
        state.accepting = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut state = daemon.lock();
                if state.accepting.is_none() {
                    return;
                }
                state.connections.push(stream.try_clone().unwrap());
                drop(state);
                let daemon = daemon.clone();
                thread::spawn(move || {
                    daemon.open.fetch_add(1, Ordering::SeqCst);
                    daemon.serve(&stream);
                    daemon.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }));
    }

    fn address(&self) -> std::os::unix::net::SocketAddr {
        std::os::unix::net::SocketAddr::from_abstract_name(&self.socket).unwrap()
    }

    fn serve(&self, mut stream: &UnixStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            let target = line.split(' ').nth(1).unwrap().to_owned();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            if stream.write_all(self.answer(&target, stream).as_bytes()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, target: &str, mut stream: &UnixStream) -> String {
        if let Some((_, answer)) = self.lock().instead.iter().find(|(end, _)| target.ends_with(*end)) {
            return answer.clone();
        }
        if target.starts_with("/events?") {
            let mut state = self.lock();
            state.subscriptions.push(target.to_owned());
            // Nothing may come before the head.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            state.subscribers.push(stream.try_clone().unwrap());
            return String::new();
        }
        if target == "/containers/json?all=1" {
            let mut state = self.lock();
            state.lists += 1;
            let entries: Vec<String> =
                state.containers.iter().map(|(id, container)| container.entry(id)).collect();
            return ok(&format!("[{}]", entries.join(",")));
        }
        let id = target.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap();
        self.busiest.fetch_max(self.busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        *self.lock().inspected.entry(id.to_owned()).or_default() += 1;
        if let Some(hook) = &mut *self.hook.lock().unwrap() {
            hook(self, id);
        }
        let answer = match self.lock().containers.get(id) {
            Some(container) => ok(&container.inspect(id)),
            None => status(404),
        };
        self.busy.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

impl Container {
    fn entry(&self, id: &str) -> String {
        let Self { name, running, started, created, .. } = self;
        let state = if *running { "running" } else { "exited" };
        format!(
            r#"{{"Id":"{id}","Names":["/{name}"],"Created":{created},"State":"{state}","Status":"Up 3 seconds","Labels":{{}},
                "NetworkSettings":{{"Networks":{{"bridge":{{"EndpointID":"{started}"}}}}}}}}"#
        )
    }

    pub(super) fn inspect(&self, id: &str) -> String {
        let Self { name, running, started, address, .. } = self;
        let address = address.map_or("null".to_owned(), |address| format!("\"{address}\""));
        format!(
            r#"{{"Id":"{id}","Name":"/{name}","Running":{running},"Started":{started},"Address":{address}}}"#
        )
    }
}

pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn status(status: u16) -> String {
    let body = format!("{{\"message\":\"status {status}\"}}");
    format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
