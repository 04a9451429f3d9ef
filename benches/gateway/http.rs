//! The sections about plain HTTP: small requests on kept connections, and large bodies.

use crate::support::exchange::Exchange;
use crate::support::http::HttpClient;
use crate::support::lab::{Contender, Route};
use crate::support::loads::take_turns;
use crate::support::relays::Kind;
use crate::support::report::{Against, Latencies, Report};
use crate::support::wire::Framing;
use crate::support::{GIB, MIB, Result};
use crate::{Run, cost};

impl Run<'_> {
    pub(crate) fn small(&mut self) -> Result<()> {
        let mut latencies = Latencies::new();
        Report::section("Small requests, kept connections", "CPU µs each", "per second");
        for (route, width) in [(Route::Tcp, 1), (Route::Tcp, 64), (Route::Unix, 64)] {
            let load = format!("{}, {width} client{}", route.name(), if width == 1 { "" } else { "s" });
            if !self.args.wants(&load) {
                continue;
            }
            let kinds = self.kinds(|kind| kind.reads_http() && kind != Kind::HaProxySplice);
            let contenders = self.lab.start_all(&kinds, route)?;
            let count = self.args.pick(4_000, 1_000) * if width == 1 { 1 } else { 4 };
            let reach = [cost(Against::Nginx, 1.0)];
            self.exchanges(&load, &contenders, count, &reach, &mut latencies, |contender| {
                Exchange::pings(&contender.target, width)
            })?;
        }
        latencies.print("Latency of small requests");
        Ok(())
    }

    pub(crate) fn bodies(&mut self) -> Result<()> {
        let amount = self.args.pick(1024, 128) * MIB;
        Report::section("Large bodies", "CPU s/GiB", "GiB/s");
        for route in [Route::Tcp, Route::Unix] {
            // The yardstick and docker-proxy carry HTTP as bytes.
            let contenders = self.lab.start_all(&self.kinds(|_| true), route)?;
            for framing in [Framing::Length, Framing::Chunked] {
                let name = framing.name();
                self.body(&contenders, &format!("{}, download, {name}", route.name()), amount, |client| {
                    client.download(framing, amount)
                })?;
                let pattern = framing.pattern();
                self.body(&contenders, &format!("{}, upload, {name}", route.name()), amount, |client| {
                    client.upload(framing, amount, &pattern)
                })?;
            }
        }
        Ok(())
    }

    fn body(
        &mut self,
        contenders: &[Contender],
        load: &str,
        amount: u64,
        run: impl Fn(&mut HttpClient) -> Result<()>,
    ) -> Result<()> {
        if !self.args.wants(load) {
            return Ok(());
        }
        let series =
            take_turns(contenders, self.args.rounds(5, 3), amount as f64 / GIB, 1e9, |_, contender| {
                run(&mut HttpClient::connect(&contender.target)?)
            })?;
        self.report.rows(load, &series, &[]);
        Ok(())
    }
}
