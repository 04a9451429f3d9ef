//! Processes of Redis, each with a directory of its own, without persistence.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dockline_discovery::registry::redis::Address;

/// For a process to be ready, and for what follows from it: tests run side by side.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A process that is killed when it is dropped.
pub(crate) struct Server {
    child: Option<Child>,
    dir: Directory,
    pub(crate) port: u16,
    options: Vec<String>,
}

/// Returns a port that is free now.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The bus of a cluster listens 10000 above.
        if port < 55_000 {
            return port;
        }
    }
}

/// A directory that is removed when it is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn directory() -> Directory {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("dockline-redis-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    Directory(dir)
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        let mut server = Self::new(options);
        server.launch();
        server
    }

    /// Prepares a server that does not run yet.
    pub(crate) fn new(options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self { child: None, dir: directory(), port: free_port(), options }
    }

    /// Starts it, with nothing in it.
    pub(crate) fn launch(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.current_dir(&self.dir.0).args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--unixsocket", self.socket().to_str().unwrap(), "--appendonly", "no"]);
        self.run(command.args(&self.options));
    }

    /// Starts a sentinel with this configuration.
    pub(crate) fn sentinel(configuration: &str) -> Self {
        let mut server = Self::new(&[]);
        let file = server.dir.path("sentinel.conf");
        fs::write(&file, format!("port {}\nbind 127.0.0.1\n{configuration}", server.port)).unwrap();
        let mut command = Command::new("redis-server");
        server.run(command.current_dir(&server.dir.0).arg(file).arg("--sentinel"));
        server
    }

    fn run(&mut self, command: &mut Command) {
        let log = fs::File::create(self.dir.path("log")).unwrap();
        self.child =
            Some(command.stdin(Stdio::null()).stdout(log).spawn().expect("Debian's package redis-server"));
        let end = Instant::now() + PATIENCE;
        // There is nothing to wait for but the line in its log.
        while !self.log().contains("eady to accept connections") && !self.log().contains("Sentinel ID") {
            let exit = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(exit.is_none() && Instant::now() < end, "redis-server: {exit:?}: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(self.dir.path("log")).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Ends it at once, as if the machine had failed.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets it hang, or go on.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path("socket")
    }

    pub(crate) fn address(&self) -> Address {
        format!("redis://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// Returns a connection of the test itself.
    pub(crate) fn connect(&self) -> redis::Connection {
        redis::Client::open(("127.0.0.1", self.port)).unwrap().get_connection().unwrap()
    }

    /// Runs a command, as a line of words.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, line: &str) -> T {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| drop(command.arg(word).get_packed_command()));
        command.query(&mut self.connect()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Returns all keys, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask("KEYS *");
        keys.sort_unstable();
        keys
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}
