//! What our reading of HTTP costs beside what a host would use instead: httparse alone, which is
//! the floor, and llhttp. See benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod contestants;
mod llhttp;
mod messages;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use contestants::Contestant;
use messages::{Message, Part};
use support::args::{Args, Spec};
use support::report::{digits, median};
use support::{Result, procfs};

const SPEC: Spec = Spec {
    usage: "\
usage: cargo bench --bench parsers -- [options] [time] [instructions]

  --quick       short batches, for a smoke test
  --rounds N    batches of each parser for each message
  --load TEXT   only the messages whose name contains TEXT

environment: LLHTTP_LIBRARY, a library that has llhttp in it",
    sections: &["time", "instructions"],
    flags: &[],
};

/// The argument that makes this program run one parser on one message a number of times.
const COUNT_ARG: &str = "--parse";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [mode, contestant, message, times] if mode == COUNT_ARG => {
            let done = parse(contestant, message, times);
            done.inspect_err(|e| eprintln!("error: {e}")).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        _ => support::main(&SPEC, |args| bench(args).map(|()| true)),
    }
}

fn bench(args: &Args) -> Result<()> {
    let contestants = contestants::all();
    if !contestants.iter().any(|c| c.name == "llhttp") {
        println!("No library here has llhttp: install libllhttp or libnode, or name one in LLHTTP_LIBRARY.");
    }
    for section in &args.sections {
        match *section {
            "time" => time(args, &contestants)?,
            _ => instructions(args, &contestants)?,
        }
    }
    Ok(())
}

fn time(args: &Args, contestants: &[Contestant]) -> Result<()> {
    println!(
        "\n### Time\n\n| message | bytes | parser | ns each | MB/s | of httparse |\n|---|--:|---|--:|--:|--:|"
    );
    let batch = Duration::from_millis(args.pick(20, 2));
    for message in messages::all().iter().filter(|message| args.wants(message.name)) {
        let mut runs = Vec::new();
        for contestant in contestants {
            let mut run = contestant.on(message)?;
            let mut times = 0_u32;
            let start = Instant::now();
            while start.elapsed() < batch {
                run()?;
                times += 1;
            }
            runs.push((contestant, run, times, Vec::new()));
        }
        for _ in 0..args.rounds(15, 3) {
            for (_, run, times, each) in &mut runs {
                let start = Instant::now();
                (0..*times).try_for_each(|_| run())?;
                each.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(*times));
            }
        }
        let floor = runs.iter().find(|run| run.0.name == contestants::FLOOR).map(|run| run.3.clone());
        for (contestant, _, _, each) in &runs {
            let ratios: Vec<f64> = each.iter().zip(floor.iter().flatten()).map(|(a, b)| a / b).collect();
            let ns = median(each);
            let speed = message.bytes.len() as f64 / ns * 1e3;
            let (ns, speed, ratio) = (digits(ns), digits(speed), digits(median(&ratios)));
            println!(
                "| {} | {} | {} | {ns} | {speed} | {ratio} |",
                message.name,
                message.bytes.len(),
                contestant.label()
            );
        }
    }
    Ok(())
}

/// Instructions, which noise does not change: the difference between a run of many readings and a
/// run of none.
fn instructions(args: &Args, contestants: &[Contestant]) -> Result<()> {
    if procfs::find_program("valgrind", &[]).is_none() {
        println!("\n### Instructions\n\nNot counted: no valgrind here.");
        return Ok(());
    }
    println!(
        "\n### Instructions (callgrind)\n\n| message | bytes | parser | instructions | per byte | of httparse |"
    );
    println!("|---|--:|---|--:|--:|--:|");
    for message in messages::all().iter().filter(|message| args.wants(message.name)) {
        let times = if message.bytes.len() > 4096 { 4 } else { 100 };
        let mut counts = Vec::new();
        for contestant in contestants {
            let more = count(contestant, message, times)?.saturating_sub(count(contestant, message, 0)?);
            counts.push(more as f64 / f64::from(times));
        }
        let floor = contestants
            .iter()
            .zip(&counts)
            .find(|(c, _)| c.name == contestants::FLOOR)
            .map_or(f64::NAN, |f| *f.1);
        for (contestant, count) in contestants.iter().zip(counts) {
            println!(
                "| {} | {} | {} | {} | {} | {} |",
                message.name,
                message.bytes.len(),
                contestant.label(),
                digits(count),
                digits(count / message.bytes.len() as f64),
                digits(count / floor)
            );
        }
    }
    Ok(())
}

fn count(contestant: &Contestant, message: &Message, times: u32) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([COUNT_ARG, contestant.name, message.name, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match counted {
        Some(count) if out.status.success() => Ok(count),
        _ => Err(format!("callgrind has not counted:\n{said}").into()),
    }
}

fn parse(contestant: &str, message: &str, times: &str) -> Result<()> {
    let (contestants, messages) = (contestants::all(), messages::all());
    let contestant = contestants.iter().find(|c| c.name == contestant).ok_or("no such parser")?;
    let message = messages.iter().find(|m| m.name == message).ok_or("no such message")?;
    let mut run = contestant.on(message)?;
    (0..times.parse()?).try_for_each(|_: u32| run())
}
