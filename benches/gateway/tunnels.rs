//! The sections about tunnels: bulk, round trips, opening, idling; and the system calls of
//! everything.

use crate::support::client::{Tunnel, download_all};
use crate::support::exchange::Exchange;
use crate::support::lab::{Contender, Route};
use crate::support::loads::{self, take_turns};
use crate::support::relays::Kind;
use crate::support::report::{Against, Figure, Latencies, Reach, Report, median};
use crate::support::wire::FILL;
use crate::support::{CHUNK, GIB, MIB, Result};
use crate::{Run, cost};

/// For other loads than bulk one yardstick is enough, and splicing does not differ from copying.
fn without_bulk(kind: Kind) -> bool {
    kind != Kind::HaProxySplice && (!kind.is_bare() || kind == Kind::Bare(64 << 10))
}

impl Run<'_> {
    pub(crate) fn bulk(&mut self) -> Result<()> {
        let reach = [
            Reach { floor: true, ..cost(Against::Bare, 1.2) },
            Reach { figure: Figure::Time, ..cost(Against::DockerProxy, 1.0) },
        ];
        Report::section("Bulk through tunnels", "CPU s/GiB", "GiB/s");
        for route in [Route::Tcp, Route::Unix] {
            let contenders = self.lab.start_all(&self.kinds(|_| true), route)?;
            loads::transfers(self.args, &mut self.report, &contenders, route, &reach)?;
            self.crowd(&contenders, route, &reach)?;
        }
        Ok(())
    }

    fn crowd(&mut self, contenders: &[Contender], route: Route, reach: &[Reach]) -> Result<()> {
        const TUNNELS: u64 = 8;
        let load = format!("{}, down, {TUNNELS} tunnels at once", route.name());
        if !self.args.wants(&load) {
            return Ok(());
        }
        let each = self.args.pick(64, 16) * MIB;
        let mut buf = vec![FILL; CHUNK];
        let amount = (TUNNELS * each) as f64 / GIB;
        let series = take_turns(contenders, self.args.rounds(9, 3), amount, 1e9, |_, contender| {
            let open = |_| Tunnel::open(&contender.target, each, 0);
            let mut tunnels = (0..TUNNELS).map(open).collect::<Result<Vec<_>>>()?;
            download_all(&mut tunnels, each, &mut buf)
        })?;
        self.report.rows(&load, &series, reach);
        Ok(())
    }

    pub(crate) fn round_trips(&mut self) -> Result<()> {
        let mut latencies = Latencies::new();
        Report::section("Round trips of 1 byte", "CPU µs each", "per second");
        for (route, width) in [(Route::Tcp, 1), (Route::Tcp, 64), (Route::Unix, 1), (Route::Unix, 64)] {
            let load = format!("{}, {width} tunnel{}", route.name(), if width == 1 { "" } else { "s" });
            if !self.args.wants(&load) {
                continue;
            }
            let contenders = self.lab.start_all(&self.kinds(without_bulk), route)?;
            let count = self.args.pick(4_000, 1_000) * if width == 1 { 1 } else { 4 };
            let reach = [cost(Against::Nginx, 0.8)];
            self.exchanges(&load, &contenders, count, &reach, &mut latencies, |contender| {
                Exchange::echoes(&contender.target, width)
            })?;
        }
        latencies.print("Latency of round trips");
        Ok(())
    }

    /// Round trips over connections that are kept.
    pub(crate) fn exchanges(
        &mut self,
        load: &str,
        contenders: &[Contender],
        count: usize,
        reach: &[Reach],
        latencies: &mut Latencies,
        open: impl Fn(&Contender) -> Result<Exchange>,
    ) -> Result<()> {
        let mut exchanges = Vec::new();
        let mut times = Vec::new();
        for contender in contenders {
            let mut exchange = open(contender).map_err(|e| contender.blame(e))?;
            exchange.run(count / 10, &mut Vec::new()).map_err(|e| contender.blame(e))?;
            exchanges.push(exchange);
            times.push(Vec::new());
        }
        let series = take_turns(contenders, self.args.rounds(15, 5), count as f64, 1e3, |turn, _| {
            exchanges[turn].run(count, &mut times[turn])
        })?;
        self.report.rows(load, &series, reach);
        for (contender, times) in contenders.iter().zip(times) {
            latencies.add(load, contender.kind, times);
        }
        Ok(())
    }

    pub(crate) fn opening(&mut self) -> Result<()> {
        Report::section("Tunnels opened and closed", "CPU µs each", "per second");
        let count: usize = self.args.pick(2_000, 400);
        for (route, width) in [(Route::Tcp, 1), (Route::Tcp, 16), (Route::Unix, 1), (Route::Unix, 16)] {
            let manner = if width == 1 { "one by one" } else { "16 at once" };
            let load = format!("{}, {manner}", route.name());
            if !self.args.wants(&load) {
                continue;
            }
            let contenders = self.lab.start_all(&self.kinds(without_bulk), route)?;
            let series =
                take_turns(&contenders, self.args.rounds(9, 3), count as f64, 1e3, |_, contender| {
                    loads::open_and_close(contender, count, width)
                })?;
            self.report.rows(&load, &series, &[cost(Against::Nginx, 0.9)]);
        }
        Ok(())
    }

    pub(crate) fn idle(&mut self) -> Result<()> {
        let count = self.args.pick(5_000, 500);
        let kinds = self.kinds(|kind| !kind.is_bare() && kind != Kind::HaProxySplice);
        let idle = loads::idle(self.args, self.lab, &kinds, count)?;
        let title = format!("Memory of the worker per idle tunnel (up to {count} open)");
        Report::section(&title, "KiB private", "KiB PSS");
        for (load, series) in &idle.loads {
            self.report.rows(load, series, &[]);
            for ours in series.iter().filter(|series| series.kind.is_ours()) {
                self.report.at_most(&format!("KiB per tunnel, {load}"), median(&ours.cost), 0.5);
            }
        }
        idle.print_fds();
        Ok(())
    }

    pub(crate) fn syscalls(&mut self) -> Result<()> {
        if !loads::can_count_calls() {
            return Ok(());
        }
        let kinds = self.kinds(|kind| matches!(kind, Kind::Gateway | Kind::Nginx | Kind::Bare(0x1_0000)));
        let contenders = self.lab.start_all(&kinds, Route::Tcp)?;
        let times = 500;
        for contender in &contenders {
            let mut echo = Exchange::echoes(&contender.target, 1)?;
            let run = || echo.run(times, &mut Vec::new());
            loads::count_calls(contender, "round trip, 1 byte", times as f64, run)?;
        }
        for contender in contenders.iter().filter(|c| c.kind.reads_http()) {
            let mut pings = Exchange::pings(&contender.target, 1)?;
            let run = || pings.run(times, &mut Vec::new());
            loads::count_calls(contender, "small request", times as f64, run)?;
        }
        for contender in &contenders {
            let run = || loads::open_and_close(contender, times, 1);
            loads::count_calls(contender, "tunnel opened and closed", times as f64, run)?;
        }
        Ok(())
    }
}
