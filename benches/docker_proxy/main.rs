//! What a published port costs with dockline-docker-proxy and with Docker's docker-proxy, side by
//! side in one run. See benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]

mod processes;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use support::Result;
use support::args::{Args, Spec};
use support::exchange::Exchange;
use support::lab::{Contender, Lab, Route};
use support::loads::{self, take_turns};
use support::relays::{Kind, Programs};
use support::report::{Against, Figure, Latencies, Reach, Report, Series};
use support::udp::Client;

const SPEC: Spec = Spec {
    usage: "\
usage: cargo bench --bench docker_proxy -- [options] [open] [bulk] [rtt] [udp] [processes] [syscalls]

  --quick              small amounts, for a smoke test
  --rounds N           rounds per section (each runs every contender once)
  --load TEXT          only the loads whose name contains TEXT
  --pinned             a processor of its own for each process, instead of all as under dockerd
  --check              exit 1 when a Reach figure is missed

environment: DOCKLINE_DOCKER_PROXY",
    sections: &["open", "bulk", "rtt", "udp", "processes", "syscalls"],
    flags: &["--pinned"],
};

const PEER: &str = "docker-proxy";

fn main() -> ExitCode {
    support::main(&SPEC, bench)
}

fn bench(args: &Args) -> Result<bool> {
    let programs = Programs { our_docker_proxy: Some(ours()?), ..Programs::find()? };
    if programs.docker_proxy.is_none() {
        return Err("no docker-proxy here: install Docker (docker.io on Debian)".into());
    }
    let lab = Lab::new(programs, false)?;
    // Go's scheduler depends on how many processors it may run on.
    let lab = if args.has("--pinned") { lab } else { lab.without_pinning() };
    lab.introduce(PEER);
    let mut run = Run { args, lab: &lab, report: Report::default() };
    args.sections.iter().try_for_each(|section| run.section(section))?;
    Ok(run.report.finish())
}

fn ours() -> Result<PathBuf> {
    let file = std::env::var_os("DOCKLINE_DOCKER_PROXY").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/release/dockline-docker-proxy"),
        PathBuf::from,
    );
    if file.is_file() {
        return Ok(file);
    }
    Err(format!(
        "{} does not exist: run `cargo build --release --workspace`, or name it in DOCKLINE_DOCKER_PROXY",
        file.display()
    )
    .into())
}

struct Run<'a> {
    args: &'a Args,
    lab: &'a Lab,
    report: Report,
}

impl Run<'_> {
    fn section(&mut self, name: &str) -> Result<()> {
        match name {
            "open" => self.opening(),
            "bulk" => self.bulk(),
            "rtt" => self.round_trips(),
            "udp" => self.datagrams(),
            "processes" => self.processes(),
            _ => self.syscalls(),
        }
    }

    fn start(&self, route: Route) -> Result<Vec<Contender>> {
        self.lab.start_all(&[Kind::OurDockerProxy, Kind::DockerProxy, Kind::Bare(64 << 10)], route)
    }

    fn opening(&mut self) -> Result<()> {
        Report::section_beside(
            PEER,
            "Connections: opened, a question and its answer, closed",
            "CPU µs each",
            "per second",
        );
        let count: usize = self.args.pick(2_000, 400);
        let contenders = self.start(Route::Tcp)?;
        for (load, width) in [("one by one", 1), ("16 at once", 16)] {
            if self.args.wants(load) {
                let rounds = self.args.rounds(15, 3);
                let series = take_turns(&contenders, rounds, count as f64, 1e3, |_, contender| {
                    loads::open_and_close(contender, count, width)
                })?;
                self.report.rows(load, &series, &[cost(0.5)]);
            }
        }
        Ok(())
    }

    fn bulk(&mut self) -> Result<()> {
        Report::section_beside(PEER, "Bulk", "CPU s/GiB", "GiB/s");
        let contenders = self.start(Route::Tcp)?;
        loads::transfers(self.args, &mut self.report, &contenders, Route::Tcp, &[cost(1.0)])
    }

    fn round_trips(&mut self) -> Result<()> {
        let mut latencies = Latencies::new();
        Report::section_beside(PEER, "Round trips of 1 byte", "CPU µs each", "per second");
        let contenders = self.start(Route::Tcp)?;
        for (load, width) in [("1 connection", 1), ("64 connections", 64)] {
            if !self.args.wants(load) {
                continue;
            }
            let count = self.args.pick(4_000, 1_000) * if width == 1 { 1 } else { 4 };
            let mut exchanges = Vec::new();
            for contender in &contenders {
                let mut exchange =
                    Exchange::echoes(&contender.target, width).map_err(|e| contender.blame(e))?;
                exchange.run(count / 10, &mut Vec::new()).map_err(|e| contender.blame(e))?;
                exchanges.push((exchange, Vec::new()));
            }
            let series = take_turns(&contenders, self.args.rounds(15, 5), count as f64, 1e3, |turn, _| {
                let (exchange, times) = &mut exchanges[turn];
                exchange.run(count, times)
            })?;
            self.report.rows(load, &series, &[cost(0.7)]);
            for (contender, (_, times)) in contenders.iter().zip(exchanges) {
                latencies.add(load, contender.kind, times);
            }
        }
        latencies.print("Latency of round trips");
        Ok(())
    }

    fn datagrams(&mut self) -> Result<()> {
        Report::section_beside(PEER, "UDP", "CPU µs per datagram and echo", "per second");
        let contenders = self.start(Route::Udp)?;
        let clients = || contenders.iter().map(|c| Client::new(c.target.addr)).collect::<Result<Vec<_>>>();
        let count = self.args.pick(4_000, 1_000);
        for (load, width) in [("round trip of 1 byte", 1), ("bursts of 32, 1400 bytes each", 32)] {
            if !self.args.wants(load) {
                continue;
            }
            let mut clients = clients()?;
            let series =
                take_turns(&contenders, self.args.rounds(15, 5), count as f64, 1e3, |turn, _| match width {
                    1 => clients[turn].ask(count),
                    _ => clients[turn].burst(count / width, width),
                })?;
            self.report.rows(load, &series, &[cost(0.7)]);
        }
        Ok(())
    }

    fn processes(&mut self) -> Result<()> {
        let count = self.args.pick(50, 10);
        let mut memory = Vec::new();
        let mut start = Vec::new();
        for kind in [Kind::OurDockerProxy, Kind::DockerProxy] {
            let many = processes::start(&self.lab.programs, kind, count)?;
            memory.push(Series { kind, cost: many.private, rate: many.pss });
            start.push(Series { kind, cost: many.cpu, rate: many.seconds.iter().map(|s| 1.0 / s).collect() });
        }
        Report::section_beside(
            PEER,
            &format!("Memory of an idle process, {count} of them"),
            "KiB private",
            "KiB PSS",
        );
        self.report.rows("one TCP port", &memory, &[]);
        self.report.at_most("KiB private, one TCP port", support::report::median(&memory[0].cost), 1024.0);
        Report::section_beside(PEER, "Start, until the port is said to be served", "CPU ms", "per second");
        self.report.rows("one TCP port", &start, &[cost(1.0), Reach { figure: Figure::Time, ..cost(1.0) }]);
        Ok(())
    }

    fn syscalls(&mut self) -> Result<()> {
        if !loads::can_count_calls() {
            return Ok(());
        }
        let times = 500;
        let contenders = self.start(Route::Tcp)?;
        for contender in &contenders {
            let run = || loads::open_and_close(contender, times, 1);
            loads::count_calls(contender, "connection", times as f64, run)?;
        }
        for contender in &contenders {
            let mut echo = Exchange::echoes(&contender.target, 1)?;
            let run = || echo.run(times, &mut Vec::new());
            loads::count_calls(contender, "round trip, 1 byte", times as f64, run)?;
        }
        for contender in &self.start(Route::Udp)? {
            let mut client = Client::new(contender.target.addr)?;
            loads::count_calls(contender, "round trip, UDP", times as f64, || client.ask(times))?;
        }
        Ok(())
    }
}

fn cost(limit: f64) -> Reach {
    Reach { against: Against::DockerProxy, figure: Figure::Cost, limit, floor: false }
}
