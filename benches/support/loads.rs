//! The loads that both benches of whole processes use. In each the contenders take turns within a
//! round, so that noise meets all of them.

use std::borrow::Borrow;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::args::Args;
use super::client::Tunnel;
use super::lab::{Contender, Lab, Route};
use super::procfs::{self, Fds, Memory};
use super::relays::Kind;
use super::report::{Reach, Report, Series, digits};
use super::strace::Counter;
use super::wire::FILL;
use super::{CHUNK, GIB, MIB, Result};

/// Runs `load` on every contender in turn, `rounds` times over, and takes the worker's CPU time
/// each time. `scale` is the nanoseconds in the unit of cost.
pub(crate) fn take_turns<C: Borrow<Contender>>(
    contenders: &[C],
    rounds: usize,
    units: f64,
    scale: f64,
    mut load: impl FnMut(usize, &Contender) -> Result<()>,
) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = contenders.iter().map(|c| Series::new(c.borrow().kind)).collect();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            // Every other round backwards, so that none always runs right after the heaviest.
            let turn = if round % 2 == 0 { turn } else { contenders.len() - 1 - turn };
            let (contender, series) = (contenders[turn].borrow(), &mut all[turn]);
            let before = contender.cpu_ns()?;
            let start = Instant::now();
            load(turn, contender).map_err(|e| contender.blame(e))?;
            let seconds = start.elapsed().as_secs_f64();
            let spent = contender.cpu_ns()?.saturating_sub(before);
            series.cost.push(spent as f64 / scale / units);
            series.rate.push(units / seconds);
        }
    }
    Ok(all)
}

/// Bulk through one tunnel: down, up, and both at once.
pub(crate) fn transfers(
    args: &Args,
    report: &mut Report,
    contenders: &[Contender],
    route: Route,
    reach: &[Reach],
) -> Result<()> {
    let amount = args.pick(512, 128) * MIB;
    let mut buf = vec![FILL; CHUNK];
    for (load, down, up) in [("down", amount, 0), ("up", 0, amount), ("both at once", amount / 2, amount / 2)]
    {
        let load = format!("{}, {load}", route.name());
        if !args.wants(&load) {
            continue;
        }
        let rounds = args.rounds(9, 3);
        let series = take_turns(contenders, rounds, (down + up) as f64 / GIB, 1e9, |_, contender| {
            let mut tunnel = Tunnel::open(&contender.target, down, up)?;
            tunnel.transfer(&mut buf, down, up)
        })?;
        report.rows(&load, &series, reach);
    }
    Ok(())
}

/// Opens and closes `count` tunnels, `width` at a time.
pub(crate) fn open_and_close(contender: &Contender, count: usize, width: usize) -> Result<()> {
    for _ in 0..count / width {
        let mut tunnels = Vec::with_capacity(width);
        for _ in 0..width {
            tunnels.push(Tunnel::request(&contender.target, 0, 0)?);
        }
        tunnels.iter_mut().try_for_each(Tunnel::answer)?;
    }
    Ok(())
}

/// Every tunnel sends one byte, then every tunnel gets it back, a number of times.
pub(crate) fn echo(tunnels: &mut [Tunnel], times: usize) -> Result<()> {
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

/// The cost of idle tunnels in a fresh worker, by load: memory in KiB each, private as cost and PSS
/// as rate; and descriptors.
pub(crate) struct Idle {
    pub(crate) loads: [(&'static str, Vec<Series>); 2],
    pub(crate) fds: Vec<(Kind, f64, f64)>,
}

/// `count` tunnels, or as many as the worker has descriptors for.
pub(crate) fn idle(args: &Args, lab: &Lab, kinds: &[Kind], count: u64) -> Result<Idle> {
    let series = || kinds.iter().map(|kind| Series::new(*kind)).collect::<Vec<_>>();
    let mut loads = [("idle from the start", series()), ("idle after 128 KiB each way", series())];
    let mut fds: Vec<(Kind, f64, f64)> = kinds.iter().map(|kind| (*kind, 0.0, 0.0)).collect();
    for _ in 0..args.rounds(3, 1) {
        for (i, kind) in kinds.iter().enumerate() {
            let count = count.min(lab.fd_limit.saturating_sub(100) / kind.fds_per_tunnel());
            for ((_, series), amount) in loads.iter_mut().zip([0, 128 << 10]) {
                // A new process each time, because an allocator returns little of its memory.
                let contender = lab.start(*kind, Route::Tcp)?;
                let (memory, open) =
                    idle_tunnels(&contender, count, amount).map_err(|e| contender.blame(e))?;
                series[i].cost.push(memory.private as f64 / count as f64);
                series[i].rate.push(memory.pss as f64 / count as f64);
                fds[i] = (*kind, open.sockets as f64 / count as f64, open.pipes as f64 / count as f64);
            }
        }
    }
    Ok(Idle { loads, fds })
}

impl Idle {
    pub(crate) fn print_fds(&self) {
        println!();
        for (kind, sockets, pipes) in &self.fds {
            let (sockets, pipes) = (digits(*sockets), digits(*pipes));
            println!("Descriptors per idle tunnel, {}: {sockets} sockets, {pipes} pipe ends.", kind.label());
        }
    }
}

/// What `count` tunnels add to a fresh worker, after each has moved `amount` bytes each way.
fn idle_tunnels(contender: &Contender, count: u64, amount: u64) -> Result<(Memory, Fds)> {
    let target = &contender.target;
    let mut buf = vec![FILL; CHUNK];
    drop(Tunnel::open(target, 0, 0)?);
    sleep(Duration::from_millis(100));
    let (before, fds_before) = (procfs::memory(contender.worker)?, procfs::fds(contender.worker)?);
    let mut tunnels = Vec::new();
    for _ in 0..count {
        let mut tunnel = Tunnel::open(target, amount, amount)?;
        tunnel.transfer(&mut buf, amount, amount)?;
        // Some relays allocate their buffers at the first byte.
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

/// A row of the system calls that the worker makes for `units` times the unit.
pub(crate) fn count_calls(
    contender: &Contender,
    load: &str,
    units: f64,
    run: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let counter = Counter::attach(contender.worker)?;
    run().map_err(|e| contender.blame(e))?;
    let calls = counter.finish()?;
    let mut top: Vec<(&String, f64)> = calls.iter().map(|(n, c)| (n, *c as f64 / units)).collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1));
    let each: f64 = top.iter().map(|t| t.1).sum();
    let parts: Vec<String> = top
        .iter()
        .filter(|t| t.1 >= 0.05)
        .map(|(name, count)| format!("{name} {}", digits(*count)))
        .collect();
    println!("| {load} | {} | {} | {} |", contender.kind.label(), digits(each), parts.join(", "));
    Ok(())
}

/// Begins the section of system calls. Returns `false` when they cannot be counted.
pub(crate) fn can_count_calls() -> bool {
    let able = procfs::find_program("strace", &[]).is_some();
    if able {
        println!("\n### System calls of the worker (under strace, which slows it: the mix is what counts)\n");
        println!("| load | relay | each | made of |\n|---|---|--:|---|");
    } else {
        println!("\n### System calls\n\nNot counted: no strace here.");
    }
    able
}
