#![forbid(unsafe_code)]
//! Thousands of tunnels through one gateway, with short ones beside them: no byte is lost, no
//! descriptor leaks, and memory does not grow.
//!
//! ```sh
//! cargo test --release -p dockline-gateway --test soak -- --seconds 60
//! cargo test --release -p dockline-gateway --test soak -- --faults
//! ```
//!
//! With `--faults` a small load runs many times while the gateway's system calls fail. Words after
//! it select faults.
//!
//! Three processes: the gateway, an echo daemon on a Unix socket, and the clients. Each needs a
//! descriptor per connection, the gateway two.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says so by failing")]

mod daemon;
mod faults;
mod load;
mod pattern;

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use load::{Load, Plan};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The time after which memory must not grow: all tunnels are open, and every buffer has been used.
const SETTLED: Duration = Duration::from_secs(10);
/// Permitted growth of resident memory from then to the end: a twentieth, and this.
const SLACK_KIB: u64 = 2048;
/// The pipes that workers keep for the next long transfer, 16 each: descriptors of four.
const SPARE: usize = 2 * 16 * 4;
/// The longest that a busy tunnel may make no progress. The machine may be busy with other work.
const LONGEST_STALL: Duration = Duration::from_secs(3);
/// A limit for what happens at once unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let done = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [role, path] if role == "--daemon" => daemon::run(Path::new(path)),
        [role, only @ ..] if role == "--faults" => faults::run(faults::PLAN, only),
        words => options(words).and_then(|plan| soak(&plan)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(words: &[String]) -> Result<Plan> {
    let mut plan = Plan {
        tunnels: 5000,
        busy: 50,
        per_second: 200,
        time: Duration::from_secs(15),
        window: 16 * 1024,
        lossy: false,
    };
    for pair in words.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} needs a number", pair[0]).into()) };
        let number: u32 = value.parse().map_err(|_| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--seconds" => plan.time = Duration::from_secs(number.into()),
            "--tunnels" => (plan.tunnels, plan.busy) = (number as usize, (number as usize).div_ceil(100)),
            "--per-second" => plan.per_second = number,
            _ => return Err(format!("{name}: not an option; --seconds, --tunnels, --per-second").into()),
        }
    }
    Ok(plan)
}

fn soak(plan: &Plan) -> Result<()> {
    let said = Said::default();
    let result = soak_under(Command::new(env!("CARGO_BIN_EXE_dockline")), &[], plan, &said);
    eprint!("{}", said.text());
    result.map(|report| println!("{report}"))
}

/// Runs the load on a gateway that this command starts.
fn soak_under(mut command: Command, options: &[&str], plan: &Plan, said: &Said) -> Result<String> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let dir = TempDir::new("soak")?;
    let socket = format!("{}/daemon.sock", dir.0);
    let mut daemon = Command::new(env::current_exe()?);
    let (_daemon, _) =
        Service::start(daemon.args(["--daemon", &socket]).stdout(Stdio::piped()), &Said::default())?;
    let upstream = format!("unix://{socket}");
    let (gateway, first) = Service::start(
        command
            .args(["serve", "--admin", "off", "--listen", "127.0.0.1:0", "--upstream", &upstream])
            .args(options)
            .stderr(Stdio::piped()),
        said,
    )?;
    let (_, at) = first.split_once("tcp://").ok_or(format!("no address: {first}"))?;
    let at: SocketAddr = at.split(',').next().unwrap_or(at).parse()?;

    let before = Held::by(&gateway)?;
    let mut load = Load::new(at, *plan)?;
    load.open_all()?;
    let began = now();
    let mut settled = None;
    while began.elapsed() < plan.time {
        load.turn(began.elapsed())?;
        if settled.is_none() && began.elapsed() >= SETTLED.min(plan.time / 2) {
            settled = Some(Held::by(&gateway)?);
        }
    }
    let after = Held::by(&gateway)?;
    let settled = settled.unwrap_or(after);
    load.finish()?;
    let end = settle(&gateway, before)?;

    let bound = settled.resident_kib + settled.resident_kib / 20 + SLACK_KIB;
    if after.resident_kib > bound {
        return Err(format!("memory grew: {} KiB, at most {bound} KiB allowed", after.resident_kib).into());
    }
    if load.worst_stall > LONGEST_STALL {
        return Err(format!("a busy tunnel stood still for {:?}", load.worst_stall).into());
    }
    Ok(format!(
        "{load}\nheld by the gateway  before {before}; settled {settled}; at the end {after}; when all had left {end}"
    ))
}

/// Waits until the gateway has as many sockets as at first, and no more pipes than it keeps.
fn settle(gateway: &Service, before: Held) -> Result<Held> {
    let began = now();
    loop {
        let held = Held::by(gateway)?;
        if held.sockets <= before.sockets && held.others <= before.others + SPARE {
            return Ok(held);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("descriptors were left behind: {held}, before: {before}").into());
        }
        std::thread::yield_now();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test measures time")]
fn now() -> Instant {
    Instant::now()
}

/// The resources of a process.
#[derive(Clone, Copy)]
struct Held {
    resident_kib: u64,
    sockets: usize,
    others: usize,
}

impl Held {
    fn by(service: &Service) -> Result<Self> {
        let proc = format!("/proc/{}", service.0.id());
        let status = fs::read_to_string(format!("{proc}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
        let (mut sockets, mut others) = (0, 0);
        for entry in fs::read_dir(format!("{proc}/fd"))? {
            let is_socket =
                fs::read_link(entry?.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
            *if is_socket { &mut sockets } else { &mut others } += 1;
        }
        Ok(Self { resident_kib: resident.parse()?, sockets, others })
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resident_kib, sockets, others } = self;
        write!(f, "{resident_kib} KiB, {sockets} sockets, {others} other descriptors")
    }
}

/// A process that ends with the test.
struct Service(Child);

impl Service {
    /// Starts it, and waits for its first line. Further output is kept.
    fn start(command: &mut Command, said: &Said) -> Result<(Self, String)> {
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let mut first = String::new();
        let read = match (child.stdout.take(), child.stderr.take()) {
            (Some(output), _) => BufReader::new(output).read_line(&mut first),
            (_, Some(output)) => {
                let mut output = BufReader::new(output);
                let read = output.read_line(&mut first);
                let mut said = said.clone();
                std::thread::spawn(move || std::io::copy(&mut output, &mut said));
                read
            }
            (None, None) => Ok(0),
        };
        let service = Self(child);
        read?;
        Ok((service, first))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The text that a process has written to standard error.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A directory that is removed with the test.
struct TempDir(String);

impl TempDir {
    fn new(name: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("dockline-{name}-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path.display().to_string()))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
