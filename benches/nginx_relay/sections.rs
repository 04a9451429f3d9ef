//! The sections: which relays run under which loads, and the limits for the module.

use crate::support::args::Args;
use crate::support::client::Tunnel;
use crate::support::lab::{Contender, Lab, Route};
use crate::support::loads::{self, take_turns};
use crate::support::relays::Kind;
use crate::support::report::{Against, Figure, Reach, Report};
use crate::support::wire::FILL;
use crate::support::{CHUNK, MIB, Result};

pub(crate) struct Run<'a> {
    pub(crate) args: &'a Args,
    pub(crate) lab: &'a Lab,
    pub(crate) report: Report,
}

impl Run<'_> {
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

    fn kinds(&self, bare: &[Kind]) -> Vec<Kind> {
        let mut kinds = vec![Kind::Nginx];
        if self.args.has("--tuned") {
            kinds.push(Kind::NginxTuned);
        }
        if self.lab.programs.module.is_some() {
            kinds.push(Kind::Module);
        }
        kinds.extend(bare);
        kinds
    }

    fn bulk(&mut self) -> Result<()> {
        let kinds = self.kinds(&[Kind::Bare(64 << 10), Kind::Bare(256 << 10), Kind::Bare(1 << 20)]);
        let reach = [against(Against::Nginx, 1.0 / 6.0), against(Against::Bare, 1.3)]
            .map(|r| Reach { floor: true, ..r });
        Report::section("Bulk, plain sockets", "CPU s/GiB", "GiB/s");
        for route in [Route::Tcp, Route::Unix] {
            let contenders = self.lab.start_all(&kinds, route)?;
            loads::transfers(self.args, &mut self.report, &contenders, route, &reach)?;
        }
        Ok(())
    }

    fn tls(&mut self) -> Result<()> {
        let contenders = self.lab.start_all(&self.kinds(&[]), Route::Tls)?;
        let cipher = Tunnel::open(&contenders[0].target, 0, 0)?.cipher().unwrap_or_default();
        Report::section(&format!("TLS client, {cipher}"), "CPU s/GiB", "GiB/s");
        let reach = [against(Against::Nginx, 0.5)];
        loads::transfers(self.args, &mut self.report, &contenders, Route::Tls, &reach)
    }

    fn round_trips(&mut self) -> Result<()> {
        Report::section("Round trips of 1 byte", "CPU µs each", "per second");
        let mut all = vec![(Route::Tcp, 1), (Route::Tcp, 64), (Route::Unix, 1)];
        if self.args.sections.contains(&"tls") {
            all.push((Route::Tls, 1));
        }
        for (route, width) in all {
            let load = format!("{}, {width} tunnel{}", route.name(), if width == 1 { "" } else { "s" });
            if !self.args.wants(&load) {
                continue;
            }
            let contenders = self.lab.start_all(&self.kinds(&[Kind::Bare(64 << 10)]), route)?;
            let mut warm = Vec::new();
            for contender in &contenders {
                let open = |_| Tunnel::open(&contender.target, 0, 0);
                let mut tunnels = (0..width).map(open).collect::<Result<Vec<_>>>()?;
                loads::echo(&mut tunnels, 4)?;
                warm.push(tunnels);
            }
            let times = width.max(16) / 16 * self.args.pick(4_000, 1_000) / width;
            let units = (times * width) as f64;
            let series = take_turns(&contenders, self.args.rounds(15, 5), units, 1e3, |turn, _| {
                loads::echo(&mut warm[turn], times)
            })?;
            self.report.rows(&load, &series, &[against(Against::Nginx, 1.0)]);
        }
        Ok(())
    }

    fn opening(&mut self) -> Result<()> {
        Report::section("Tunnels opened and closed", "CPU µs each", "per second");
        let count: usize = self.args.pick(2_000, 400);
        for (route, width) in [(Route::Tcp, 1), (Route::Tcp, 16), (Route::Unix, 16)] {
            let manner = if width == 1 { "one by one" } else { "16 at once" };
            let load = format!("{}, {manner}", route.name());
            if !self.args.wants(&load) {
                continue;
            }
            let contenders = self.lab.start_all(&self.kinds(&[Kind::Bare(64 << 10)]), route)?;
            let series =
                take_turns(&contenders, self.args.rounds(9, 3), count as f64, 1e3, |_, contender| {
                    loads::open_and_close(contender, count, width)
                })?;
            self.report.rows(&load, &series, &[]);
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        let count = self.args.pick(2_000, 500);
        let idle = loads::idle(self.args, self.lab, &self.kinds(&[]), count)?;
        let title = format!("Memory of the worker per idle tunnel ({count} open)");
        Report::section(&title, "KiB private", "KiB PSS");
        for (load, series) in &idle.loads {
            self.report.rows(load, series, &[against(Against::Nginx, 1.0)]);
        }
        idle.print_fds();
        for (_, sockets, pipes) in idle.fds.iter().filter(|(kind, ..)| kind.is_ours()) {
            // Pipes that wait for the next tunnel belong to the worker: a handful, whatever the
            // count.
            self.report.at_most("sockets per idle tunnel", *sockets, 2.0);
            self.report.at_most("pipe ends per idle tunnel", *pipes, 0.05);
        }
        Ok(())
    }

    fn syscalls(&mut self) -> Result<()> {
        if !loads::can_count_calls() {
            return Ok(());
        }
        let kinds = self.kinds(&[Kind::Bare(64 << 10), Kind::Bare(1 << 20)]);
        let contenders = self.lab.start_all(&kinds, Route::Tcp)?;
        let (trips, amount) = (500, 64 * MIB);
        let mut buf = vec![FILL; CHUNK];
        for (load, down, up) in [("round trip, 1 byte", 0, 0), ("MiB down", amount, 0), ("MiB up", 0, amount)]
        {
            if !self.args.wants(load) {
                continue;
            }
            let mut run = |contender: &Contender| {
                // Opened under the tracer as well: the daemon sends at once. It is a few calls in
                // thousands.
                let mut tunnel = Tunnel::open(&contender.target, down, up)?;
                match down + up {
                    0 => loads::echo(std::slice::from_mut(&mut tunnel), trips),
                    _ => tunnel.transfer(&mut buf, down, up),
                }
            };
            let units = if down + up == 0 { trips as f64 } else { (amount / MIB) as f64 };
            for contender in &contenders {
                loads::count_calls(contender, load, units, || run(contender))?;
            }
        }
        Ok(())
    }
}

fn against(against: Against, limit: f64) -> Reach {
    Reach { against, figure: Figure::Cost, limit, floor: false }
}
