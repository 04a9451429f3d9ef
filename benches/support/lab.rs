//! Runs the relays: each a process on a processor of its own, all in front of the same fake daemon.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Target;
use super::relays::{DaemonAddr, Kind, Programs, Seat};
use super::tls::Context;
use super::{Result, daemon, procfs, sys, udp};

/// Which of the daemon's addresses a relay is put in front of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Tcp,
    Unix,
    /// TLS on the client's side, TCP to the daemon.
    Tls,
    /// UDP both ways: the daemon's port sends back what it gets.
    Udp,
}

impl Route {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP daemon",
            Self::Unix => "Unix daemon",
            Self::Tls => "TLS client",
            Self::Udp => "UDP",
        }
    }
}

pub(crate) struct Lab {
    pub(crate) programs: Programs,
    pub(crate) fd_limit: u64,
    dir: PathBuf,
    daemon_tcp: SocketAddr,
    daemon_unix: PathBuf,
    daemon_udp: SocketAddr,
    /// Where the workers may run.
    worker_cpus: Vec<usize>,
    all_cpus: Vec<usize>,
    tls: Option<Context>,
    started: std::cell::Cell<usize>,
}

impl Lab {
    pub(crate) fn new(programs: Programs, with_tls: bool) -> Result<Self> {
        let fd_limit = sys::raise_fd_limit()?;
        let dir = std::env::temp_dir().join(format!("dockline-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        // The worker gets one processor, everything else in this process (client, daemon) the
        // other.
        let all_cpus = sys::allowed_cpus()?;
        let worker_cpus = match all_cpus.as_slice() {
            [load, worker, ..] => {
                sys::pin_to(&[*load])?;
                vec![*worker]
            }
            only => only.to_vec(),
        };
        let daemon_unix = dir.join("daemon.sock");
        let daemon_tcp = daemon::start(&daemon_unix)?;
        let daemon_udp = daemon::start_udp()?;
        let tls = if with_tls {
            make_certificate(&dir)?;
            Some(Context::new()?)
        } else {
            None
        };
        let started = std::cell::Cell::new(0);
        Ok(Self {
            programs,
            fd_limit,
            dir,
            daemon_tcp,
            daemon_unix,
            daemon_udp,
            worker_cpus,
            all_cpus,
            tls,
            started,
        })
    }

    /// Lets the workers run on any processor, as they do outside of a bench.
    pub(crate) fn without_pinning(mut self) -> Self {
        self.worker_cpus.clone_from(&self.all_cpus);
        self
    }

    /// Prints what a reader of the results has to know first.
    pub(crate) fn introduce(&self, peers: &str) {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        println!("{peers}, Linux {}; one worker each.", kernel.trim());
        match (self.all_cpus.len(), self.worker_cpus.len()) {
            (1, _) => println!("Only one processor: worker and load share it."),
            (_, 1) => {}
            (_, n) => println!("The worker may run on all {n} processors, one of which the load uses."),
        }
    }

    pub(crate) fn start(&self, kind: Kind, route: Route) -> Result<Contender> {
        let n = self.started.get();
        self.started.set(n + 1);
        let dir = self.dir.join(n.to_string());
        fs::create_dir(&dir)?;
        // Nothing else in this process takes a port before the relay does.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let daemon = match route {
            Route::Unix => DaemonAddr::Unix(&self.daemon_unix),
            Route::Tcp | Route::Tls => DaemonAddr::Tcp(self.daemon_tcp),
            Route::Udp => DaemonAddr::Udp(self.daemon_udp),
        };
        let certificate = (route == Route::Tls).then_some(self.dir.as_path());
        let seat = Seat { dir: &dir, listen, daemon, certificate, fd_limit: self.fd_limit };
        let mut command = kind.command(&self.programs, &seat)?;
        let log = fs::File::create(dir.join("output"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let cpus = self.worker_cpus.clone();
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                sys::die_with_parent()?;
                sys::pin_to(&cpus)
            })
        };
        let child = command.spawn().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        let tls = if route == Route::Tls { self.tls.clone() } else { None };
        let target = Target { addr: listen, tls, takes_body: kind.takes_body() };
        let mut contender = Contender { kind, target, worker: 0, child, dir };
        contender.wait_ready(route)?;
        Ok(contender)
    }

    pub(crate) fn start_all(&self, kinds: &[Kind], route: Route) -> Result<Vec<Contender>> {
        kinds.iter().filter(|kind| kind.serves(route)).map(|kind| self.start(*kind, route)).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    pub(crate) worker: libc::pid_t,
    child: Child,
    dir: PathBuf,
}

impl Contender {
    fn wait_ready(&mut self, route: Route) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let id = libc::pid_t::try_from(self.child.id())?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended at once ({status}):\n{}", self.kind.label(), self.log()).into());
            }
            let worker = if self.kind.has_master() { procfs::child_of(id)? } else { Some(id) };
            let answers = match route {
                Route::Udp => udp::Client::new(self.target.addr)?.ask(1).is_ok(),
                _ => TcpStream::connect(self.target.addr).is_ok(),
            };
            if let (Some(worker), true) = (worker, answers) {
                self.worker = worker;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not start to listen", self.kind.label()).into());
            }
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        // The CPU time of a running process is updated when it goes to sleep.
        sleep(Duration::from_millis(20));
        procfs::cpu_ns(self.worker)
    }

    /// An error of a load, with the name of the relay and the output of its process.
    pub(crate) fn blame(
        &self,
        error: Box<dyn std::error::Error + Send + Sync>,
    ) -> Box<dyn std::error::Error + Send + Sync> {
        format!("{}: {error}\n{}", self.kind.label(), self.log()).into()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("output")).unwrap_or_default()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Ok(pid) = libc::pid_t::try_from(self.child.id()) {
            let _ = sys::signal(pid, self.kind.stop_signal());
        }
        let _ = self.child.wait();
    }
}

fn make_certificate(dir: &Path) -> Result<()> {
    let out = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .map_err(|e| format!("the tls section needs the openssl command: {e}"))?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into()) }
}
