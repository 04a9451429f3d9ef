//! What a relayed Docker connection costs a stock nginx, the same nginx with the dockline module,
//! and a bare splice loop, side by side in one run. See benches/README.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]

mod sections;
#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use sections::Run;
use support::Result;
use support::args::{Args, Spec};
use support::lab::Lab;
use support::relays::Programs;
use support::report::Report;

const SPEC: Spec = Spec {
    usage: "\
usage: cargo bench --bench nginx_relay -- [options] [bulk] [tls] [rtt] [open] [idle] [syscalls]

  --quick            small amounts, for a smoke test in under a minute
  --rounds N         rounds per section (each runs every contender once)
  --load TEXT        only the loads whose name contains TEXT
  --tuned            add stock nginx with proxy_buffer_size 64k, as a reference
  --without-module   leave the module out: only stock nginx and the bare splice loop
  --check            exit 1 when a Reach figure is missed

environment: DOCKLINE_NGINX_MODULE, TEST_NGINX_BINARY",
    sections: &["bulk", "tls", "rtt", "open", "idle", "syscalls"],
    flags: &["--tuned", "--without-module"],
};

fn main() -> ExitCode {
    support::main(&SPEC, bench)
}

fn bench(args: &Args) -> Result<bool> {
    let module = if args.has("--without-module") { None } else { Some(module()?) };
    let lab = Lab::new(Programs { module, ..Programs::find()? }, args.sections.contains(&"tls"))?;
    lab.introduce(&lab.programs.nginx_version()?);
    let mut run = Run { args, lab: &lab, report: Report::default() };
    args.sections.iter().try_for_each(|section| run.section(section))?;
    Ok(run.report.finish())
}

fn module() -> Result<PathBuf> {
    let file = std::env::var_os("DOCKLINE_NGINX_MODULE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/nginx/ngx_http_dockline_module.so"),
        PathBuf::from,
    );
    // nginx resolves a relative path in its own prefix.
    let file = std::path::absolute(file)?;
    if file.is_file() {
        return Ok(file);
    }
    Err(format!(
        "{} does not exist: run `make nginx-module`, or name it in DOCKLINE_NGINX_MODULE",
        file.display()
    )
    .into())
}
