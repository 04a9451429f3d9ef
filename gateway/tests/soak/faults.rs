#![forbid(unsafe_code)]
//! The same load while system calls of the gateway fail, as with a kernel short of resources:
//! strace injects the errors.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::load::Plan;
use super::{Result, Said, TempDir, now, soak_under};

/// Faults in the calls of each thread, and whether they may cost a connection.
struct Fault {
    name: &'static str,
    /// Expressions of `strace -e inject=`.
    injections: &'static [&'static str],
    /// Whether these errors may end a connection. Then it must end, and nothing else may.
    lossy: bool,
    /// Bytes in flight in a tunnel: many are spliced, few make many calls.
    window: u64,
}

const MANY: u64 = 256 * 1024;
const FEW: u64 = 16 * 1024;

/// Calls that a signal may interrupt, every second time. close(2) is not among them: Linux has
/// closed the descriptor then. Where counting starts later, the first calls are those of the linker
/// or the start, which fails and ends.
const INTERRUPTED: &[&str] = &[
    "accept4:error=EINTR:when=1+2",
    "connect:error=EINTR:when=1+2",
    "epoll_ctl:error=EINTR:when=1+2",
    "epoll_wait:error=EINTR:when=1+2",
    "fcntl:error=EINTR:when=3+2",
    "getsockopt:error=EINTR:when=3+2",
    "pipe2:error=EINTR:when=1+2",
    "poll:error=EINTR:when=2+2",
    "read:error=EINTR:when=20+2",
    "recvfrom:error=EINTR:when=1+2",
    "recvmsg:error=EINTR:when=3+2",
    "sendmsg:error=EINTR:when=3+2",
    "sendto:error=EINTR:when=1+2",
    "setsockopt:error=EINTR:when=5+2",
    "shutdown:error=EINTR:when=1+2",
    "socket:error=EINTR:when=3+2",
    "splice:error=EINTR:when=1+2",
    "write:error=EINTR:when=1+2",
];

const FAULTS: &[Fault] = &[
    Fault {
        name: "wake-ups lost",
        injections: &["write,sendto:error=EINTR:when=5+7"],
        lossy: false,
        window: FEW,
    },
    Fault { name: "EINTR everywhere", injections: INTERRUPTED, lossy: false, window: MANY },
    Fault {
        name: "ECONNABORTED, and slow calls",
        injections: &[
            "accept4:error=ECONNABORTED:when=2+3",
            "epoll_wait:delay_exit=1000:when=3+5",
            "sendto:delay_enter=1000:when=7+40",
            "write:delay_enter=1000:when=2+3",
        ],
        lossy: false,
        window: MANY,
    },
    Fault {
        name: "EMFILE",
        injections: &[
            "accept4:error=EMFILE:when=4+20",
            "socket:error=EMFILE:when=5+7",
            "pipe2:error=EMFILE:when=1+2",
        ],
        lossy: true,
        window: MANY,
    },
    Fault {
        name: "ENFILE",
        injections: &[
            "accept4:error=ENFILE:when=3+20",
            "socket:error=ENFILE:when=4+6",
            "pipe2:error=ENFILE:when=2+2",
        ],
        lossy: true,
        window: MANY,
    },
    Fault {
        name: "ENOMEM",
        injections: &[
            "accept4:error=ENOMEM:when=6+20",
            "connect:error=ENOMEM:when=7+19",
            "epoll_ctl:error=ENOMEM:when=10+19",
            "epoll_wait:error=ENOMEM:when=5+50",
            "pipe2:error=ENOMEM:when=1+2",
            "recvfrom:error=ENOMEM:when=50+900",
            "sendto:error=ENOMEM:when=60+900",
            "setsockopt:error=ENOMEM:when=20+19",
            "shutdown:error=ENOMEM:when=5+19",
            "socket:error=ENOMEM:when=9+19",
            "splice:error=ENOMEM:when=3+50",
            "write:error=ENOMEM:when=3+4",
        ],
        lossy: true,
        window: MANY,
    },
];

const WORKERS: &[u32] = &[1, 2, 4];

/// Runs all faults, or those named by `only`, with all numbers of workers.
pub(crate) fn run(plan: Plan, only: &[String]) -> Result<()> {
    let is_wanted = |fault: &&Fault| only.is_empty() || only.iter().any(|word| fault.name.contains(word));
    for fault in FAULTS.iter().filter(is_wanted) {
        for workers in WORKERS {
            let (began, said) = (now(), Said::default());
            let plan = Plan { lossy: fault.lossy, window: fault.window, ..plan };
            match fault.run(*workers, &plan, &said) {
                Ok(told) => println!("{}, {workers} workers, {:.1?}: {told}", fault.name, began.elapsed()),
                Err(error) => {
                    eprint!("{}", said.text());
                    return Err(format!("{}, {workers} workers: {error}", fault.name).into());
                }
            }
        }
    }
    Ok(())
}

impl Fault {
    fn run(&self, workers: u32, plan: &Plan, said: &Said) -> Result<String> {
        let dir = TempDir::new("faults")?;
        let log = format!("{}/strace", dir.0);
        let mut command = Command::new("strace");
        // As a grandchild it traces its parent, the gateway, which is ended like any other process.
        command.args(["--daemonize", "--follow-forks", "--seccomp-bpf", "--quiet=all", "--failed-only"]);
        command.args(["--output", &log]);
        for injection in self.injections {
            command.args(["-e", &format!("inject={injection}")]);
        }
        let calls: Vec<&str> = self.injections.iter().filter_map(|text| text.split(':').next()).collect();
        command.args(["-e", &format!("trace={}", calls.join(","))]);
        command.arg(env!("CARGO_BIN_EXE_dockline"));
        let report = soak_under(command, &["--threads", &workers.to_string()], plan, said)?;
        if said.text().contains("panicked") {
            return Err("a connection panicked".into());
        }
        match fs::read_to_string(&log)?.matches("(INJECTED)").count() {
            0 => Err("strace has injected nothing".into()),
            injected => Ok(format!("{injected} calls failed; {report}")),
        }
    }
}

/// Returns the load of one combination.
pub(crate) const PLAN: Plan = Plan {
    tunnels: 24,
    busy: 4,
    per_second: 60,
    time: Duration::from_millis(1500),
    window: FEW,
    lossy: false,
};
