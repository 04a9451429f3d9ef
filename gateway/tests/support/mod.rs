#![forbid(unsafe_code)]
//! A daemon, and a gateway that tests can wait for.
#![allow(dead_code, reason = "not every test uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

pub(crate) mod authority;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A limit for what happens at once unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the program, without variables from the environment of the tests.
pub(crate) fn dockline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockline"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    finish(dockline(arguments).stdout(Stdio::piped()))
}

/// Runs a command to its end, with a time limit.
pub(crate) fn finish(command: &mut Command) -> Output {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (sender, output) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    output.recv_timeout(PATIENCE).map_or_else(
        |_| {
            let _ = kill_process(pid, Signal::KILL);
            panic!("it does not end: {command:?}");
        },
        Result::unwrap,
    )
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Polls until a condition is true, where there is no event to wait for.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a bound for a test that fails")]
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

/// A directory that is removed with the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dockline-gateway-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns a path as text.
    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn unix(&self, name: &str) -> String {
        format!("unix://{}", self.name(name))
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.name(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a daemon that responds to every request with its name, and echoes in tunnels (`attach`).
pub(crate) fn daemon(socket: &Path, name: &'static str) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || converse(stream, name));
        }
    });
}

fn converse(stream: UnixStream, name: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(head) = read_head(&mut reader) {
        if head.starts_with("POST /containers/c/attach") {
            let _ = writer.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if writer.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            return;
        }
        let body = format!("{name} got {}", head.lines().next().unwrap_or(""));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        match reader.read_line(&mut head) {
            Ok(1..) if head.ends_with("\r\n\r\n") => return Some(head),
            Ok(1..) => {}
            _ => return None,
        }
    }
}

/// Requests a path, and returns the whole response.
pub(crate) fn get(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Opens a tunnel, and exchanges data in it.
pub(crate) fn tunnel(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"POST /containers/c/attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    echo(&mut stream, b"hello");
    stream
}

/// Checks that a tunnel echoes.
pub(crate) fn echo(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).unwrap();
    let mut back = vec![0; words.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, words);
}

/// The socket of a service manager.
pub(crate) struct Manager {
    socket: UnixDatagram,
    pub(crate) address: String,
}

impl Manager {
    pub(crate) fn new(dir: &TempDir) -> Self {
        let path = dir.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, address: path.to_str().unwrap().to_owned() }
    }

    pub(crate) fn next(&self) -> String {
        let mut message = [0; 4096];
        // With a timeout, the kernel does not restart the call after the machine was frozen.
        let length = loop {
            match self.socket.recv(&mut message) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.expect("a message to the service manager"),
            }
        };
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// Waits for a message with this prefix.
    pub(crate) fn wait(&self, beginning: &str) -> String {
        loop {
            let message = self.next();
            if message.starts_with(beginning) {
                return message;
            }
        }
    }
}

/// A running gateway. It is killed with the test.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) manager: Manager,
    log: Receiver<String>,
    /// The READY=1 message.
    pub(crate) ready: String,
}

impl Gateway {
    pub(crate) fn start(dir: &TempDir, arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--admin", "off"];
        all.extend(arguments);
        Self::spawn(dir, &mut dockline(&all))
    }

    /// Starts the command and waits until it is ready.
    pub(crate) fn spawn(dir: &TempDir, command: &mut Command) -> Self {
        let manager = Manager::new(dir);
        command.env("NOTIFY_SOCKET", &manager.address).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        // Made first, so that a gateway that does not become ready is killed as well.
        let mut gateway = Self { child, manager, log, ready: String::new() };
        gateway.ready = gateway.manager.wait("READY=1");
        gateway
    }

    /// Does as [`spawn`](Self::spawn), with a log in a file only.
    pub(crate) fn spawn_logging_to(dir: &TempDir, command: &mut Command, log: fs::File) -> Self {
        let manager = Manager::new(dir);
        let child = command.env("NOTIFY_SOCKET", &manager.address).stderr(log).spawn().unwrap();
        let mut gateway = Self { child, manager, log: channel().1, ready: String::new() };
        gateway.ready = gateway.manager.wait("READY=1");
        gateway
    }

    /// Returns the address of its first TCP listener.
    pub(crate) fn tcp(&self) -> SocketAddr {
        let (_, rest) = self.ready.split_once("tcp://").expect("a TCP listener");
        rest.split([',', '\n']).next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line of its log.
    pub(crate) fn wait_log(&self, words: &str) -> String {
        loop {
            let line =
                self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no log line with {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        get(TcpStream::connect(self.tcp()).unwrap(), path).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
