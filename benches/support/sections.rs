//! The loads. In every section the contenders take turns within a round, so that noise meets all of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::args::Args;
use super::client::{Target, Tunnel};
use super::contender::{Contender, Kind, Lab};
use super::procfs::{self, Fds, Memory};
use super::report::{Against, Reach, Report, Series, digits};
use super::strace::Counter;
use super::{CHUNK, Result};

const MIB: u64 = 1 << 20;
const GIB: f64 = (1 << 30) as f64;

type Where = fn(&Contender) -> Target;

pub(crate) struct Run<'a> {
    pub(crate) args: &'a Args,
    pub(crate) lab: &'a Lab,
    pub(crate) report: Report,
}

impl Run<'_> {
    fn kinds(&self, bare: &[Kind]) -> Vec<Kind> {
        let mut kinds = vec![Kind::Stock];
        if self.args.tuned {
            kinds.push(Kind::Tuned);
        }
        if self.args.module.is_some() {
            kinds.push(Kind::Module);
        }
        kinds.extend(bare);
        kinds
    }

    fn start(&self, kinds: &[Kind]) -> Result<Vec<Contender>> {
        kinds.iter().map(|kind| self.lab.start(*kind)).collect()
    }

    pub(crate) fn section(&mut self, name: &str) -> Result<()> {
        match name {
            "bulk" => self.bulk(),
            "tls" => self.tls(),
            "rtt" => self.round_trips(),
            "open" => self.opening(),
            "idle" => self.idle(),
            _ => self.syscalls(),
        }
    }

    fn bulk(&mut self) -> Result<()> {
        let bare = [Kind::Bare(64 << 10), Kind::Bare(256 << 10), Kind::Bare(1 << 20)];
        let contenders = self.start(&self.kinds(&bare))?;
        let reach = [
            Reach { against: Against::Stock, limit: 1.0 / 6.0, floor: true },
            Reach { against: Against::Bare, limit: 1.3, floor: true },
        ];
        Report::section("Bulk, plain sockets", "load", "CPU s/GiB", "GiB/s");
        self.transfers(
            &contenders,
            &[("TCP daemon", Contender::tcp), ("Unix daemon", Contender::unix)],
            &reach,
        )
    }

    fn tls(&mut self) -> Result<()> {
        let contenders = self.start(&self.kinds(&[]))?;
        let cipher = Tunnel::open(&contenders[0].tls(), 0, 0)?.cipher().unwrap_or_default();
        Report::section(&format!("TLS client, {cipher}"), "load", "CPU s/GiB", "GiB/s");
        let reach = [Reach { against: Against::Stock, limit: 0.5, floor: false }];
        self.transfers(&contenders, &[("TLS client", Contender::tls)], &reach)
    }

    fn transfers(
        &mut self,
        contenders: &[Contender],
        paths: &[(&str, Where)],
        reach: &[Reach],
    ) -> Result<()> {
        let rounds = self.args.rounds(9, 3);
        let amount = self.args.pick(512, 128) * MIB;
        let loads = [("down", amount, 0), ("up", 0, amount), ("both at once", amount / 2, amount / 2)];
        let mut buf = vec![0x5a; CHUNK];
        for (path, target) in paths {
            for (load, down, up) in loads {
                let load = format!("{path}, {load}");
                if !self.args.wants(&load) {
                    continue;
                }
                let series =
                    take_turns(contenders, rounds, (down + up) as f64 / GIB, 1e9, |_, contender| {
                        let mut tunnel = Tunnel::open(&target(contender), down, up)?;
                        tunnel.transfer(&mut buf, down, up)
                    })?;
                self.report.rows(&load, &series, reach);
            }
        }
        Ok(())
    }

    fn round_trips(&mut self) -> Result<()> {
        let contenders = self.start(&self.kinds(&[Kind::Bare(64 << 10)]))?;
        Report::section("Round trips of 1 byte", "load", "CPU µs each", "per second");
        let reach = [Reach { against: Against::Stock, limit: 1.0, floor: false }];
        let mut loads: Vec<(&str, usize, Where)> = vec![
            ("TCP daemon, 1 tunnel", 1, Contender::tcp),
            ("TCP daemon, 64 tunnels", 64, Contender::tcp),
            ("Unix daemon, 1 tunnel", 1, Contender::unix),
        ];
        if self.args.sections.contains(&"tls") {
            loads.push(("TLS client, 1 tunnel", 1, Contender::tls));
        }
        for (load, width, target) in loads {
            if !self.args.wants(load) {
                continue;
            }
            let tls = load.starts_with("TLS");
            let trips = width.max(16) / 16 * self.args.pick(4_000, 1_000);
            let rounds = self.args.rounds(15, 5);
            let mut warm: Vec<Vec<Tunnel>> = Vec::new();
            let entrants: Vec<&Contender> =
                contenders.iter().filter(|c| !(tls && c.kind.is_bare())).collect();
            for contender in &entrants {
                let mut tunnels: Vec<Tunnel> = Vec::new();
                for _ in 0..width {
                    tunnels.push(Tunnel::open(&target(contender), 0, 0)?);
                }
                echo(&mut tunnels, 4)?;
                warm.push(tunnels);
            }
            let units = (trips / width * width) as f64;
            let series =
                take_turns(&entrants, rounds, units, 1e3, |turn, _| echo(&mut warm[turn], trips / width))?;
            self.report.rows(load, &series, &reach);
        }
        Ok(())
    }

    fn opening(&mut self) -> Result<()> {
        let contenders = self.start(&self.kinds(&[Kind::Bare(64 << 10)]))?;
        Report::section("Tunnels opened and closed", "load", "CPU µs each", "per second");
        let count: usize = self.args.pick(2_000, 400);
        for (load, width, target) in [
            ("TCP daemon, one by one", 1, Contender::tcp as Where),
            ("TCP daemon, 16 at once", 16, Contender::tcp),
            ("Unix daemon, 16 at once", 16, Contender::unix),
        ] {
            if !self.args.wants(load) {
                continue;
            }
            let series =
                take_turns(&contenders, self.args.rounds(9, 3), count as f64, 1e3, |_, contender| {
                    let target = target(contender);
                    for _ in 0..count / width {
                        let mut tunnels = Vec::with_capacity(width);
                        for _ in 0..width {
                            tunnels.push(Tunnel::request(&target, 0, 0)?);
                        }
                        tunnels.iter_mut().try_for_each(Tunnel::answer)?;
                    }
                    Ok(())
                })?;
            self.report.rows(load, &series, &[]);
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        let count = self.args.pick(2_000, 500);
        let used = 128 << 10;
        let kinds = self.kinds(&[]);
        let mut never: Vec<Series> = kinds.iter().map(|k| Series::new(*k)).collect();
        let mut after: Vec<Series> = kinds.iter().map(|k| Series::new(*k)).collect();
        let mut fds = vec![Fds::default(); kinds.len()];
        for _ in 0..self.args.rounds(3, 1) {
            for (i, kind) in kinds.iter().enumerate() {
                for (series, amount) in [(&mut never[i], 0), (&mut after[i], used)] {
                    // A process of its own each time: an allocator gives back little of what it has had.
                    let contender = self.lab.start(*kind)?;
                    let (memory, open) =
                        idle_tunnels(&contender, count, amount).map_err(|e| blame(e, &contender))?;
                    series.cost.push(memory.private as f64 / count as f64);
                    series.rate.push(memory.pss as f64 / count as f64);
                    fds[i] = open;
                }
            }
        }
        Report::section(
            &format!("Memory of the worker per idle tunnel ({count} open)"),
            "load",
            "KiB private",
            "KiB PSS",
        );
        let reach = [Reach { against: Against::Stock, limit: 1.0, floor: false }];
        self.report.rows("idle from the start", &never, &reach);
        self.report.rows("idle after 128 KiB each way", &after, &reach);
        println!();
        for (kind, open) in kinds.iter().zip(&fds) {
            let (sockets, pipes) = (open.sockets as f64 / count as f64, open.pipes as f64 / count as f64);
            if *kind == Kind::Module {
                // Pipes that wait for the next tunnel belong to the worker: a handful, whatever the count.
                self.report.at_most("sockets per idle tunnel", sockets, 2.0);
                self.report.at_most("pipe ends per idle tunnel", pipes, 0.05);
            }
            println!(
                "Descriptors per idle tunnel, {}: {} sockets, {} pipe ends.",
                kind.label(),
                digits(sockets),
                digits(pipes),
            );
        }
        Ok(())
    }

    fn syscalls(&mut self) -> Result<()> {
        if !procfs::in_path("strace") {
            println!("\n### System calls\n\nNot counted: no strace here.");
            return Ok(());
        }
        println!("\n### System calls of the worker (under strace, which slows it: the mix is what counts)\n");
        println!("| load | relay | each | made of |\n|---|---|--:|---|");
        let (trips, amount) = (500, 64 * MIB);
        let mut buf = vec![0x5a; CHUNK];
        let contenders = self.start(&self.kinds(&[Kind::Bare(64 << 10), Kind::Bare(1 << 20)]))?;
        for (load, down, up, units) in [
            ("round trip, 1 byte", 0, 0, trips as f64),
            ("MiB down", amount, 0, (amount / MIB) as f64),
            ("MiB up", 0, amount, (amount / MIB) as f64),
        ] {
            if !self.args.wants(load) {
                continue;
            }
            for contender in &contenders {
                let counter = Counter::attach(contender.worker)?;
                // Opened under the tracer as well: the daemon sends at once. It is a few calls in thousands.
                let mut tunnel = Tunnel::open(&contender.tcp(), down, up)?;
                if down + up == 0 {
                    echo(std::slice::from_mut(&mut tunnel), trips)?;
                } else {
                    tunnel.transfer(&mut buf, down, up)?;
                }
                let calls = counter.finish()?;
                let mut top: Vec<(&String, f64)> =
                    calls.iter().map(|(n, c)| (n, *c as f64 / units)).collect();
                top.sort_by(|a, b| b.1.total_cmp(&a.1));
                let each: f64 = top.iter().map(|t| t.1).sum();
                let parts: Vec<String> = top
                    .iter()
                    .filter(|t| t.1 >= 0.05)
                    .map(|(name, count)| format!("{name} {}", digits(*count)))
                    .collect();
                println!("| {load} | {} | {} | {} |", contender.kind.label(), digits(each), parts.join(", "));
            }
        }
        Ok(())
    }
}

/// Runs `load` on every contender in turn, `rounds` times over, and takes the worker's CPU time each time.
/// `scale` is the nanoseconds in the unit of cost.
fn take_turns<C: std::borrow::Borrow<Contender>>(
    contenders: &[C],
    rounds: usize,
    units: f64,
    scale: f64,
    mut load: impl FnMut(usize, &Contender) -> Result<()>,
) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = contenders.iter().map(|c| Series::new(c.borrow().kind)).collect();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            // Every other round backwards: nobody always comes right after the heaviest.
            let turn = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let (contender, series) = (contenders[turn].borrow(), &mut all[turn]);
            let before = contender.cpu_ns()?;
            let start = Instant::now();
            load(turn, contender).map_err(|e| blame(e, contender))?;
            let seconds = start.elapsed().as_secs_f64();
            let spent = contender.cpu_ns()? - before;
            series.cost.push(spent as f64 / scale / units);
            series.rate.push(units / seconds);
        }
    }
    Ok(all)
}

/// Every tunnel sends one byte, then every tunnel gets it back: so many times.
fn echo(tunnels: &mut [Tunnel], times: usize) -> Result<()> {
    for n in 0..times {
        let byte = u8::try_from(n % 251)?;
        for tunnel in &mut *tunnels {
            tunnel.send_byte(byte)?;
        }
        for tunnel in &mut *tunnels {
            tunnel.expect_byte(byte)?;
        }
    }
    Ok(())
}

/// What `count` tunnels add to a fresh worker, after each has moved `amount` bytes each way.
fn idle_tunnels(contender: &Contender, count: u64, amount: u64) -> Result<(Memory, Fds)> {
    let target = contender.tcp();
    let mut buf = vec![0x5a; CHUNK];
    drop(Tunnel::open(&target, 0, 0)?);
    sleep(Duration::from_millis(100));
    let (before, fds_before) = (procfs::memory(contender.worker)?, procfs::fds(contender.worker)?);
    let mut tunnels = Vec::new();
    for _ in 0..count {
        let mut tunnel = Tunnel::open(&target, amount, amount)?;
        tunnel.transfer(&mut buf, amount, amount)?;
        // Interactive use, too: some relays take their buffers at the first byte.
        tunnel.send_byte(b'x')?;
        tunnel.expect_byte(b'x')?;
        tunnels.push(tunnel);
    }
    sleep(Duration::from_millis(300));
    let (after, fds) = (procfs::memory(contender.worker)?, procfs::fds(contender.worker)?);
    let memory = Memory {
        private: after.private.saturating_sub(before.private),
        pss: after.pss.saturating_sub(before.pss),
    };
    let fds = Fds {
        sockets: fds.sockets.saturating_sub(fds_before.sockets),
        pipes: fds.pipes.saturating_sub(fds_before.pipes),
    };
    Ok((memory, fds))
}

fn blame(
    error: Box<dyn std::error::Error + Send + Sync>,
    contender: &Contender,
) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{}: {error}\n{}", contender.kind.label(), contender.log()).into()
}
