//! The relays under test: how each is found, configured and started.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::Route;
use super::{BARE_ARG, Result, procfs, sys};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Nginx,
    /// nginx with larger buffers, as an experienced user would configure it.
    NginxTuned,
    Module,
    Gateway,
    HaProxy,
    /// HAProxy configured to splice.
    HaProxySplice,
    DockerProxy,
    /// Our docker-proxy.
    OurDockerProxy,
    Caddy,
    /// The splice loop, with pipes of this many bytes.
    Bare(u32),
}

impl Kind {
    pub(crate) fn label(self) -> String {
        match self {
            Self::Nginx => "stock nginx".into(),
            Self::NginxTuned => "stock, 64k buffers".into(),
            Self::Module => "**dockline module**".into(),
            Self::Gateway => "**dockline serve**".into(),
            Self::HaProxy => "HAProxy".into(),
            Self::HaProxySplice => "HAProxy, splicing".into(),
            Self::DockerProxy => "docker-proxy".into(),
            Self::OurDockerProxy => "**dockline-docker-proxy**".into(),
            Self::Caddy => "Caddy".into(),
            Self::Bare(size) => format!("bare splice, {}k pipe", size >> 10),
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Module | Self::Gateway | Self::OurDockerProxy)
    }

    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Self::Bare(_))
    }

    /// Whether it parses HTTP.
    pub(crate) fn reads_http(self) -> bool {
        !matches!(self, Self::Bare(_) | Self::DockerProxy | Self::OurDockerProxy)
    }

    pub(crate) fn serves(self, route: Route) -> bool {
        match self {
            Self::DockerProxy | Self::OurDockerProxy => matches!(route, Route::Tcp | Route::Udp),
            Self::Nginx | Self::NginxTuned | Self::Module => route != Route::Udp,
            _ => matches!(route, Route::Tcp | Route::Unix),
        }
    }

    /// Whether the worker is a child of the process that is started.
    pub(crate) fn has_master(self) -> bool {
        matches!(self, Self::Nginx | Self::NginxTuned | Self::Module)
    }

    /// HAProxy drops `Upgrade` from a request with a body, and `docker exec` with it.
    pub(crate) fn takes_body(self) -> bool {
        !matches!(self, Self::HaProxy | Self::HaProxySplice)
    }

    /// Descriptors of the worker per tunnel: two sockets, and where the pipes are kept two of them.
    pub(crate) fn fds_per_tunnel(self) -> u64 {
        match self {
            Self::Bare(_) | Self::DockerProxy | Self::Caddy => 6,
            _ => 2,
        }
    }

    pub(crate) fn stop_signal(self) -> libc::c_int {
        // docker-proxy ends its listener on SIGTERM and then waits for its connections.
        if self == Self::DockerProxy { libc::SIGKILL } else { libc::SIGTERM }
    }

    pub(crate) fn command(self, programs: &Programs, seat: &Seat<'_>) -> Result<Command> {
        match self {
            Self::Nginx | Self::NginxTuned | Self::Module => nginx(self, programs, seat),
            Self::Gateway => gateway(programs, seat),
            Self::HaProxy | Self::HaProxySplice => haproxy(self, programs, seat),
            Self::DockerProxy => {
                docker_proxy(installed("docker-proxy", programs.docker_proxy.as_ref())?, seat)
            }
            Self::OurDockerProxy => {
                let program = installed("dockline-docker-proxy", programs.our_docker_proxy.as_ref())?;
                docker_proxy(program, seat)
            }
            Self::Caddy => caddy(programs, seat),
            Self::Bare(size) => {
                let daemon = match seat.daemon {
                    DaemonAddr::Tcp(addr) | DaemonAddr::Udp(addr) => addr.to_string(),
                    DaemonAddr::Unix(path) => path.display().to_string(),
                };
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(BARE_ARG).arg(size.to_string()).arg(seat.listen.to_string()).arg(daemon);
                Ok(command)
            }
        }
    }
}

/// The programs on this machine.
pub(crate) struct Programs {
    pub(crate) nginx: PathBuf,
    pub(crate) module: Option<PathBuf>,
    pub(crate) gateway: Option<PathBuf>,
    pub(crate) haproxy: Option<PathBuf>,
    pub(crate) docker_proxy: Option<PathBuf>,
    pub(crate) our_docker_proxy: Option<PathBuf>,
    pub(crate) caddy: Option<PathBuf>,
}

impl Programs {
    /// Looks for nginx and the peers. The programs of dockline are named by the bench that runs
    /// them.
    pub(crate) fn find() -> Result<Self> {
        let nginx = std::env::var("TEST_NGINX_BINARY").unwrap_or_else(|_| "nginx".into());
        let sbin = ["/usr/sbin", "/usr/local/sbin"];
        Ok(Self {
            nginx: procfs::find_program(&nginx, &sbin)
                .ok_or_else(|| format!("{nginx} is not there: install nginx, or set TEST_NGINX_BINARY"))?,
            module: None,
            gateway: None,
            haproxy: procfs::find_program("haproxy", &sbin),
            docker_proxy: procfs::find_program(
                "docker-proxy",
                &[&sbin[..], &["/usr/libexec/docker"]].concat(),
            ),
            our_docker_proxy: None,
            caddy: procfs::find_program("caddy", &[]),
        })
    }

    /// Whether a contender can take part.
    pub(crate) fn have(&self, kind: Kind) -> bool {
        match kind {
            Kind::Module => self.module.is_some(),
            Kind::Gateway => self.gateway.is_some(),
            Kind::HaProxy | Kind::HaProxySplice => self.haproxy.is_some(),
            Kind::DockerProxy => self.docker_proxy.is_some(),
            Kind::OurDockerProxy => self.our_docker_proxy.is_some(),
            Kind::Caddy => self.caddy.is_some(),
            Kind::Nginx | Kind::NginxTuned | Kind::Bare(_) => true,
        }
    }

    pub(crate) fn nginx_version(&self) -> Result<String> {
        let out = Command::new(&self.nginx).arg("-v").output()?;
        Ok(String::from_utf8_lossy(&out.stderr).trim().trim_start_matches("nginx version: ").to_owned())
    }

    /// The peers with their versions, and those that are missing.
    pub(crate) fn versions(&self) -> Result<String> {
        let mut all = self.nginx_version()?;
        for (name, program, ask) in [
            ("HAProxy", &self.haproxy, "-v"),
            ("Caddy", &self.caddy, "version"),
            ("docker-proxy", &self.docker_proxy, ""),
        ] {
            let Some(program) = program else {
                write!(all, ", no {name} here")?;
                continue;
            };
            let out =
                if ask.is_empty() { Vec::new() } else { Command::new(program).arg(ask).output()?.stdout };
            let said = String::from_utf8_lossy(&out);
            let version = said.split_whitespace().find(|word| word.contains('.')).unwrap_or_default();
            write!(all, ", {}", format!("{name} {version}").trim_end())?;
        }
        Ok(all)
    }
}

fn installed<'p>(name: &str, found: Option<&'p PathBuf>) -> Result<&'p Path> {
    found.map(PathBuf::as_path).ok_or_else(|| format!("{name} is not on this machine").into())
}

/// One of the fake daemon's addresses.
#[derive(Clone, Copy)]
pub(crate) enum DaemonAddr<'a> {
    Tcp(SocketAddr),
    Unix(&'a Path),
    Udp(SocketAddr),
}

/// The settings of a relay.
pub(crate) struct Seat<'a> {
    /// A directory of its own.
    pub(crate) dir: &'a Path,
    pub(crate) listen: SocketAddr,
    pub(crate) daemon: DaemonAddr<'a>,
    /// Where cert.pem and key.pem are, for TLS clients.
    pub(crate) certificate: Option<&'a Path>,
    pub(crate) fd_limit: u64,
}

impl Seat<'_> {
    /// A file in the directory.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn gateway(programs: &Programs, seat: &Seat<'_>) -> Result<Command> {
    let upstream = match seat.daemon {
        DaemonAddr::Tcp(addr) | DaemonAddr::Udp(addr) => format!("tcp://{addr}"),
        DaemonAddr::Unix(path) => format!("unix://{}", path.display()),
    };
    let mut command = Command::new(installed("dockline", programs.gateway.as_ref())?);
    command.args(["serve", "--threads", "1", "--access-log", "off", "--admin", "off"]);
    command.args(["--listen", &format!("tcp://{}", seat.listen), "--upstream", &upstream]);
    Ok(command)
}

/// The usual websocket configuration, and kept connections to the daemon.
fn nginx(kind: Kind, programs: &Programs, seat: &Seat<'_>) -> Result<Command> {
    let dir = seat.dir.display();
    let location = match kind {
        Kind::Module => "dockline on;",
        _ => {
            "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off; proxy_request_buffering off;"
        }
    };
    let tuned = match kind {
        Kind::NginxTuned => "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;",
        _ => "",
    };
    let server = match seat.daemon {
        DaemonAddr::Tcp(addr) | DaemonAddr::Udp(addr) => addr.to_string(),
        DaemonAddr::Unix(path) => format!("unix:{}", path.display()),
    };
    let tls = seat.certificate.map_or_else(String::new, |root| {
        let root = root.display();
        format!(" ssl; ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem; ssl_protocols TLSv1.2 TLSv1.3")
    });
    let mut conf = String::new();
    if sys::is_root() {
        writeln!(conf, "user root;")?;
    }
    if let (Kind::Module, Some(module)) = (kind, &programs.module) {
        writeln!(conf, "load_module {};", module.display())?;
    }
    write!(
        conf,
        "daemon off; worker_processes 1; worker_rlimit_nofile {};
error_log {dir}/output error; pid {dir}/pid; events {{ worker_connections 16384; }}
http {{
    access_log off; client_max_body_size 0; keepalive_requests 1000000000;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream daemon {{ server {server}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen {}{tls};
        location / {{ proxy_pass http://daemon; {location} {tuned} }}
    }}
}}
",
        seat.fd_limit, seat.listen
    )?;
    let conf = seat.write("nginx.conf", &conf)?;
    let mut command = Command::new(&programs.nginx);
    command.arg("-p").arg(seat.dir).arg("-c").arg(conf);
    Ok(command)
}

fn haproxy(kind: Kind, programs: &Programs, seat: &Seat<'_>) -> Result<Command> {
    let splice =
        if kind == Kind::HaProxySplice { "option splice-request\n    option splice-response" } else { "" };
    let server = match seat.daemon {
        DaemonAddr::Tcp(addr) | DaemonAddr::Udp(addr) => addr.to_string(),
        DaemonAddr::Unix(path) => format!("unix@{}", path.display()),
    };
    let conf = format!(
        "global
    nbthread 1
    maxconn 6000
defaults
    mode http
    option http-keep-alive
    http-reuse safe
    {splice}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend docker
    bind {}
    default_backend daemon
backend daemon
    server daemon {server}
",
        seat.listen
    );
    let conf = seat.write("haproxy.cfg", &conf)?;
    let mut command = Command::new(installed("haproxy", programs.haproxy.as_ref())?);
    command.arg("-db").arg("-f").arg(conf);
    Ok(command)
}

fn docker_proxy(program: &Path, seat: &Seat<'_>) -> Result<Command> {
    let (proto, daemon) = match seat.daemon {
        DaemonAddr::Tcp(daemon) => ("tcp", daemon),
        DaemonAddr::Udp(daemon) => ("udp", daemon),
        DaemonAddr::Unix(_) => return Err("docker-proxy knows no Unix sockets".into()),
    };
    // It reports on descriptor 3 that it is ready.
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" 3>&1"#]).arg(program).args(["-proto", proto]);
    for (side, addr) in [("host", seat.listen), ("container", daemon)] {
        command.args([format!("-{side}-ip"), addr.ip().to_string()]);
        command.args([format!("-{side}-port"), addr.port().to_string()]);
    }
    Ok(command)
}

fn caddy(programs: &Programs, seat: &Seat<'_>) -> Result<Command> {
    let daemon = match seat.daemon {
        DaemonAddr::Tcp(addr) | DaemonAddr::Udp(addr) => addr.to_string(),
        DaemonAddr::Unix(path) => format!("unix/{}", path.display()),
    };
    let conf = format!(
        "{{\n\tadmin off\n\tauto_https off\n}}\n:{} {{\n\tbind {}\n\treverse_proxy {daemon}\n}}\n",
        seat.listen.port(),
        seat.listen.ip()
    );
    let conf = seat.write("Caddyfile", &conf)?;
    let mut command = Command::new(installed("caddy", programs.caddy.as_ref())?);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(conf);
    command.env("GOMAXPROCS", "1").env("HOME", seat.dir);
    Ok(command)
}
