//! What a relayed Docker connection costs a stock nginx, the same nginx with the dockline module, and a bare splice
//! loop, side by side in one run. See benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]

mod support;

use std::process::ExitCode;

use support::args::{Args, USAGE};
use support::contender::{BARE_ARG, Lab};
use support::report::Report;
use support::sections::Run;
use support::{Result, bare};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == BARE_ARG) {
        return exit(bare::run(&args[1..]).map(|()| true));
    }
    if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    // Test runners start every bench too, to list its tests (on stdout) or to try it; cargo bench says that it is one.
    if !args.iter().any(|a| a == "--bench") {
        eprintln!("nothing to test here; {}", USAGE.lines().next().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    exit(bench(&args))
}

fn exit(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("nginx_relay: {e}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &[String]) -> Result<bool> {
    let args = Args::parse(args)?;
    let lab = Lab::new(&args)?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{}, Linux {}; one worker each.", lab.nginx_version()?, kernel.trim());
    if !lab.pinned() {
        println!("Only one processor: worker and load share it.");
    }
    let mut run = Run { args: &args, lab: &lab, report: Report::new() };
    for section in &args.sections {
        run.section(section)?;
    }
    let reached = run.report.finish();
    Ok(reached || !args.check)
}
