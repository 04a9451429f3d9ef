//! The relays under test, each a process with one worker, started on the same fake daemon.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::args::Args;
use super::client::Target;
use super::tls::Context;
use super::{Result, daemon, procfs, sys};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Stock,
    /// Stock nginx with the larger buffers an informed user would give it.
    Tuned,
    Module,
    /// The splice loop, with pipes of this many bytes.
    Bare(u32),
}

impl Kind {
    pub(crate) fn label(self) -> String {
        match self {
            Self::Stock => "stock nginx".into(),
            Self::Tuned => "stock, 64k buffers".into(),
            Self::Module => "**dockline module**".into(),
            Self::Bare(size) => format!("bare splice, {}k pipe", size >> 10),
        }
    }

    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Bare(_))
    }
}

/// What all contenders share: the daemon, the processors, the working directory.
pub(crate) struct Lab {
    dir: PathBuf,
    daemon_tcp: SocketAddr,
    daemon_unix: PathBuf,
    worker_cpu: Option<usize>,
    fd_limit: u64,
    nginx: String,
    module: Option<PathBuf>,
    tls: Option<Context>,
    started: std::cell::Cell<usize>,
}

impl Lab {
    pub(crate) fn new(args: &Args) -> Result<Self> {
        let fd_limit = sys::raise_fd_limit()?;
        let dir = std::env::temp_dir().join(format!("dockline-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        // The worker gets one processor, everything else in this process (client, daemon) the other.
        let worker_cpu = match sys::allowed_cpus()?.as_slice() {
            [load, worker, ..] => {
                sys::pin(0, *load)?;
                Some(*worker)
            }
            _ => None,
        };
        let daemon_unix = dir.join("daemon.sock");
        let daemon_tcp = daemon::start(&daemon_unix)?;
        let tls = if args.sections.contains(&"tls") {
            make_certificate(&dir)?;
            Some(Context::new()?)
        } else {
            None
        };
        let (nginx, module) = (args.nginx.clone(), args.module.clone());
        let started = std::cell::Cell::new(0);
        Ok(Self { dir, daemon_tcp, daemon_unix, worker_cpu, fd_limit, nginx, module, tls, started })
    }

    pub(crate) fn pinned(&self) -> bool {
        self.worker_cpu.is_some()
    }

    pub(crate) fn nginx_version(&self) -> Result<String> {
        let out = Command::new(&self.nginx).arg("-v").output();
        let out = out.map_err(|e| format!("{}: {e} (set TEST_NGINX_BINARY)", self.nginx))?;
        Ok(String::from_utf8_lossy(&out.stderr).trim().trim_start_matches("nginx version: ").to_owned())
    }

    pub(crate) fn start(&self, kind: Kind) -> Result<Contender> {
        let n = self.started.get();
        self.started.set(n + 1);
        let dir = self.dir.join(n.to_string());
        fs::create_dir(&dir)?;
        let ports = free_ports()?;
        let mut command = match kind {
            Kind::Bare(size) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(BARE_ARG).arg(size.to_string());
                command.arg(ports[0].to_string()).arg(self.daemon_tcp.to_string());
                command.arg(ports[1].to_string()).arg(&self.daemon_unix);
                command
            }
            _ => {
                let conf = dir.join("nginx.conf");
                fs::write(&conf, self.config(kind, &dir, ports))?;
                let mut command = Command::new(&self.nginx);
                command.arg("-p").arg(&dir).arg("-c").arg(&conf);
                command
            }
        };
        let log = fs::File::create(dir.join("output"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(sys::die_with_parent) };
        let child = command.spawn().map_err(|e| format!("{:?}: {e}", command.get_program()))?;
        let mut contender = Contender { kind, child, worker: 0, ports, tls: self.tls.clone(), dir };
        contender.wait_ready()?;
        if let Some(cpu) = self.worker_cpu {
            sys::pin(contender.worker, cpu)?;
        }
        Ok(contender)
    }

    fn config(&self, kind: Kind, dir: &Path, ports: [SocketAddr; 3]) -> String {
        let location = match kind {
            Kind::Module => "dockline on;",
            _ => {
                "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade; proxy_buffering off;"
            }
        };
        let tuned = if kind == Kind::Tuned {
            "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
        } else {
            ""
        };
        let mut conf = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_config(&mut conf, kind, dir, ports, &format!("{location} {tuned}"));
        conf
    }

    fn write_config(
        &self,
        conf: &mut String,
        kind: Kind,
        dir: &Path,
        [tcp, unix, tls]: [SocketAddr; 3],
        location: &str,
    ) -> std::fmt::Result {
        let dir = dir.display();
        if sys::is_root() {
            writeln!(conf, "user root;")?;
        }
        if let (Kind::Module, Some(module)) = (kind, &self.module) {
            writeln!(conf, "load_module {};", module.display())?;
        }
        writeln!(conf, "daemon off; worker_processes 1; worker_rlimit_nofile {};", self.fd_limit)?;
        writeln!(conf, "error_log {dir}/output error; pid {dir}/pid; events {{ worker_connections 8192; }}")?;
        writeln!(conf, "http {{ access_log off;")?;
        for temp in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(conf, "    {temp}_temp_path {dir}/{temp};")?;
        }
        writeln!(conf, "    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}")?;
        let mut server = |listen: String, upstream: String| {
            writeln!(conf, "    server {{ listen {listen}; location / {{")?;
            writeln!(conf, "            proxy_pass http://{upstream};\n            {location} }} }}")
        };
        server(tcp.to_string(), self.daemon_tcp.to_string())?;
        server(unix.to_string(), format!("unix:{}:", self.daemon_unix.display()))?;
        if self.tls.is_some() {
            let root = self.dir.display();
            server(
                format!(
                    "{tls} ssl; ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem; ssl_protocols TLSv1.2 TLSv1.3"
                ),
                self.daemon_tcp.to_string(),
            )?;
        }
        writeln!(conf, "}}")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// How this program is told to be the bare relay.
pub(crate) const BARE_ARG: &str = "--be-the-bare-relay";

pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) worker: libc::pid_t,
    child: Child,
    ports: [SocketAddr; 3],
    tls: Option<Context>,
    dir: PathBuf,
}

impl Contender {
    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let id = libc::pid_t::try_from(self.child.id())?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.dir.join("output")).unwrap_or_default();
                return Err(format!("{} ended at once ({status}):\n{log}", self.kind.label()).into());
            }
            let worker = if self.kind.is_bare() { Some(id) } else { procfs::child_of(id)? };
            if let (Some(worker), Ok(_)) = (worker, TcpStream::connect(self.ports[1])) {
                self.worker = worker;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not start to listen", self.kind.label()).into());
            }
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn tcp(&self) -> Target {
        Target { addr: self.ports[0], tls: None }
    }

    pub(crate) fn unix(&self) -> Target {
        Target { addr: self.ports[1], tls: None }
    }

    pub(crate) fn tls(&self) -> Target {
        Target { addr: self.ports[2], tls: self.tls.clone() }
    }

    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        // Time of a running process is brought up to date when it goes to sleep.
        sleep(Duration::from_millis(20));
        procfs::cpu_ns(self.worker)
    }

    /// What the process said, for an error report.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("output")).unwrap_or_default()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Ok(pid) = libc::pid_t::try_from(self.child.id()) {
            let _ = sys::signal(pid, libc::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// Three free loopback ports; nothing else in this process takes one before nginx does.
fn free_ports() -> Result<[SocketAddr; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let [a, b, c] = listeners.map(|l| l.and_then(|l| l.local_addr()));
    Ok([a?, b?, c?])
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
