//! What the gateway `dockline serve` costs beside its peers: nginx, HAProxy, docker-proxy and a
//! bare splice loop, side by side in one run. See benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]

mod http;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../support/mod.rs"]
mod support;
mod tunnels;

use std::path::PathBuf;
use std::process::ExitCode;

use support::Result;
use support::args::{Args, Spec};
use support::lab::Lab;
use support::relays::{Kind, Programs};
use support::report::{Against, Figure, Reach, Report};

const SPEC: Spec = Spec {
    usage: "\
usage: cargo bench --bench gateway -- [options] [bulk] [rtt] [open] [idle] [small] [bodies] [syscalls]

  --quick              small amounts, for a smoke test
  --rounds N           rounds per section (each runs every contender once)
  --load TEXT          only the loads whose name contains TEXT
  --without-dockline   only the peers
  --check              exit 1 when a Reach figure is missed

environment: DOCKLINE_BIN, TEST_NGINX_BINARY",
    sections: &["bulk", "rtt", "open", "idle", "small", "bodies", "syscalls"],
    flags: &["--without-dockline"],
};

fn main() -> ExitCode {
    support::main(&SPEC, bench)
}

fn bench(args: &Args) -> Result<bool> {
    let gateway = if args.has("--without-dockline") { None } else { Some(gateway()?) };
    let lab = Lab::new(Programs { gateway, ..Programs::find()? }, false)?;
    lab.introduce(&lab.programs.versions()?);
    let mut run = Run { args, lab: &lab, report: Report::default() };
    args.sections.iter().try_for_each(|section| run.section(section))?;
    Ok(run.report.finish())
}

fn gateway() -> Result<PathBuf> {
    let file = std::env::var_os("DOCKLINE_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/release/dockline"),
        PathBuf::from,
    );
    if file.is_file() {
        return Ok(file);
    }
    Err(format!(
        "{} does not exist: run `cargo build --release --workspace`, or name it in DOCKLINE_BIN",
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
            "bulk" => self.bulk(),
            "rtt" => self.round_trips(),
            "open" => self.opening(),
            "idle" => self.idle(),
            "small" => self.small(),
            "bodies" => self.bodies(),
            _ => self.syscalls(),
        }
    }

    /// The contenders that are installed on this machine.
    fn kinds(&self, of: impl Fn(Kind) -> bool) -> Vec<Kind> {
        let programs = &self.lab.programs;
        let bare = [64 << 10, 256 << 10, 1 << 20].map(Kind::Bare);
        [Kind::Gateway, Kind::Nginx, Kind::HaProxy, Kind::HaProxySplice, Kind::DockerProxy, Kind::Caddy]
            .into_iter()
            .chain(bare)
            .filter(|kind| programs.have(*kind) && of(*kind))
            .collect()
    }
}

fn cost(against: Against, limit: f64) -> Reach {
    Reach { against, figure: Figure::Cost, limit, floor: false }
}
