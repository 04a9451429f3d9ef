#![forbid(unsafe_code)]
//! Starts the program as dockerd does: status pipe on descriptor 3, socket on 4.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "no test program uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const PROXY: &str = env!("CARGO_BIN_EXE_dockline-docker-proxy");
pub const ORIGINAL: &str = "/usr/sbin/docker-proxy";

/// A limit for what happens soon unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A process with a status pipe. Killed when dropped.
pub struct Proxy {
    pub child: Child,
    status: ChildStdout,
}

/// The options of a start.
pub struct Start<'a> {
    pub program: &'a str,
    pub listener: Option<OwnedFd>,
    /// Limit of descriptors.
    pub descriptors: Option<u32>,
    pub env: &'a [(&'a str, &'a str)],
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self { program: PROXY, listener: None, descriptors: None, env: &[] }
    }
}

impl Start<'_> {
    pub fn run(self, args: &[&str]) -> Proxy {
        // Standard output becomes the status pipe and standard input the listener: the shell moves
        // descriptors, which std cannot.
        let moves = if self.listener.is_some() { "4<&0 </dev/null" } else { "</dev/null" };
        let limit = self.descriptors.map_or_else(String::new, |n| format!("ulimit -n {n} && "));
        let script = format!("{limit}exec \"$@\" 3>&1 >/dev/null {moves}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", self.program]).args(args).envs(self.env.iter().copied());
        command.stdin(self.listener.map_or_else(Stdio::null, Stdio::from));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let status = child.stdout.take().unwrap();
        Proxy { child, status }
    }
}

impl Proxy {
    /// Returns what is on the status pipe: all of it, or only the first two bytes if they mean
    /// success.
    pub fn status(&mut self) -> String {
        let mut text = vec![0; 2];
        if self.status.read_exact(&mut text).is_err() {
            return String::new();
        }
        if text != b"0\n" {
            self.status.read_to_end(&mut text).unwrap();
        }
        String::from_utf8(text).unwrap()
    }

    /// Returns status, exit status and standard error of a process that ends by itself.
    pub fn outcome(mut self) -> (String, Option<i32>, String) {
        let status = self.status();
        assert_ne!(status, "0\n", "it serves, and does not end");
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (status, self.child.wait().unwrap().code(), errors)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Returns the number of open sockets.
    pub fn sockets(&self) -> usize {
        let links = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
        targets.filter(|target| target.to_str().unwrap().starts_with("socket:")).count()
    }

    /// Returns private memory and proportional share of the rest, in KiB.
    pub fn memory(&self) -> (u64, u64) {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let field = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("Private_Clean:") + field("Private_Dirty:"), field("Pss:"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The brokers of a test, of one name, in their own directory.
pub struct Brokers {
    pub runtime_dir: PathBuf,
    pub name: &'static str,
}

impl Brokers {
    pub fn new(name: &'static str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("dockline-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let runtime_dir = std::env::temp_dir().join(unique);
        fs::DirBuilder::new().mode(0o700).create(&runtime_dir).unwrap();
        Self { runtime_dir, name }
    }

    /// Returns the environment of a proxy that uses them.
    pub fn env(&self) -> [(&str, &str); 2] {
        [("DOCKLINE_PROXY_BROKER", self.name), ("XDG_RUNTIME_DIR", self.runtime_dir.to_str().unwrap())]
    }

    pub fn dir(&self) -> PathBuf {
        self.runtime_dir.join("dockline/brokers")
    }

    pub fn socket(&self) -> PathBuf {
        let network = fs::metadata("/proc/self/ns/net").unwrap().ino();
        self.dir().join(format!("{}-{network}.sock", self.name))
    }

    /// Returns the process of the broker, if there is one.
    pub fn pid(&self) -> Option<u32> {
        let (words, dir) = (format!("--broker\0{}\0", self.name), self.runtime_dir.to_str().unwrap());
        let environment = format!("XDG_RUNTIME_DIR={dir}\0");
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let read = |what| fs::read_to_string(format!("/proc/{pid}/{what}")).ok();
            (read("cmdline")?.ends_with(&words) && read("environ")?.contains(&environment)).then_some(pid)
        })
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}

pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Returns the flags of dockerd.
pub fn flags(proto: &str, host: SocketAddr, container: SocketAddr) -> Vec<String> {
    [
        ("-proto", proto.to_owned()),
        ("-host-ip", host.ip().to_string()),
        ("-host-port", host.port().to_string()),
        ("-container-ip", container.ip().to_string()),
        ("-container-port", container.port().to_string()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

pub fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Publishes a container on a free port, and returns its address.
pub fn publish(start: Start<'_>, proto: &str, host: &str, container: SocketAddr) -> (Proxy, SocketAddr) {
    let ip: IpAddr = host.parse().unwrap();
    let listener: OwnedFd;
    let address;
    if proto == "tcp" {
        let socket = TcpListener::bind((ip, 0)).unwrap();
        address = socket.local_addr().unwrap();
        listener = socket.into();
    } else {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        address = socket.local_addr().unwrap();
        listener = socket.into();
    }
    let mut flags = flags(proto, address, container);
    flags.push("-use-listen-fd".to_owned());
    let mut proxy = Start { listener: Some(listener), ..start }.run(&words(&flags));
    assert_eq!(proxy.status(), "0\n");
    (proxy, address)
}

/// Waits for other processes.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within 20 s");
}

/// Returns a port that was free for TCP and for UDP a moment ago.
pub fn free_port(ip: &str) -> u16 {
    loop {
        let tcp = TcpListener::bind((ip, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((ip, port)).is_ok() {
            return port;
        }
    }
}
