//! What the benchmarks of whole processes share: the load, the fake daemon, the relays, the report.

pub(crate) mod args;
pub(crate) mod bare;
pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod exchange;
pub(crate) mod http;
pub(crate) mod lab;
pub(crate) mod loads;
pub(crate) mod procfs;
pub(crate) mod relays;
pub(crate) mod report;
pub(crate) mod strace;
pub(crate) mod sys;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod wire;

use std::process::ExitCode;

use args::{Args, Spec};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the load generator reads and writes at a time.
pub(crate) const CHUNK: usize = 128 << 10;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: f64 = (1 << 30) as f64;

/// The argument that makes a bench run as the bare relay.
pub(crate) const BARE_ARG: &str = "--be-the-bare-relay";

/// Runs `bench`, which returns whether every Reach figure is met, with the options of the command
/// line.
pub(crate) fn main(spec: &Spec, bench: impl FnOnce(&Args) -> Result<bool>) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = if args.first().is_some_and(|a| a == BARE_ARG) {
        bare::run(&args[1..]).map(|()| true)
    } else if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{}", spec.usage);
        Ok(true)
    } else if !args.iter().any(|a| a == "--bench") {
        // Test runners start every bench too, to list its tests (on stdout) or to run it; cargo
        // bench passes --bench.
        eprintln!("nothing to test here; {}", spec.usage.lines().next().unwrap_or_default());
        Ok(true)
    } else {
        Args::parse(spec, &args).and_then(|args| bench(&args).map(|reached| reached || !args.check))
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
