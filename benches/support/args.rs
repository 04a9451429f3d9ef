//! What to run, and how much of it.

use std::path::PathBuf;

use super::Result;

pub(crate) const SECTIONS: [&str; 6] = ["bulk", "tls", "rtt", "open", "idle", "syscalls"];

pub(crate) const USAGE: &str = "\
usage: cargo bench --bench nginx_relay -- [options] [bulk] [tls] [rtt] [open] [idle] [syscalls]

  --quick            small amounts, for a smoke test in under a minute
  --rounds N         rounds per section (each runs every contender once)
  --load TEXT        only the loads whose name contains TEXT
  --tuned            add stock nginx with proxy_buffer_size 64k, as a reference
  --without-module   leave the module out: only stock nginx and the bare splice loop
  --check            exit 1 when a Reach figure is missed

environment: DOCKLINE_NGINX_MODULE, TEST_NGINX_BINARY";

pub(crate) struct Args {
    pub(crate) sections: Vec<&'static str>,
    pub(crate) quick: bool,
    pub(crate) tuned: bool,
    pub(crate) check: bool,
    pub(crate) rounds: Option<usize>,
    load: Option<String>,
    pub(crate) module: Option<PathBuf>,
    pub(crate) nginx: String,
}

impl Args {
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut parsed = Self {
            sections: Vec::new(),
            quick: false,
            tuned: false,
            check: false,
            rounds: None,
            load: None,
            module: Some(
                std::env::var_os("DOCKLINE_NGINX_MODULE").map_or_else(default_module, PathBuf::from),
            ),
            nginx: std::env::var("TEST_NGINX_BINARY").unwrap_or_else(|_| "nginx".into()),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--quick" => parsed.quick = true,
                "--tuned" => parsed.tuned = true,
                "--check" => parsed.check = true,
                "--without-module" => parsed.module = None,
                "--load" => parsed.load = Some(args.next().ok_or("--load needs a text")?.clone()),
                "--rounds" => {
                    let n: usize = args.next().ok_or("--rounds needs a number")?.parse()?;
                    parsed.rounds = Some(n.max(1));
                }
                name => match SECTIONS.iter().find(|s| **s == name) {
                    Some(section) => parsed.sections.push(section),
                    None => return Err(format!("{name}: not an option or a section\n{USAGE}").into()),
                },
            }
        }
        if parsed.sections.is_empty() {
            parsed.sections = SECTIONS.to_vec();
        }
        if let Some(module) = &mut parsed.module {
            // nginx looks a relative path up in its own prefix.
            *module = std::path::absolute(&*module)?;
            if !module.is_file() {
                return Err(format!(
                    "{} does not exist: run `make nginx-module`, or name it in DOCKLINE_NGINX_MODULE",
                    module.display()
                )
                .into());
            }
        }
        Ok(parsed)
    }

    /// The amount for a full run or for a quick one.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn wants(&self, load: &str) -> bool {
        self.load.as_ref().is_none_or(|text| load.contains(text))
    }

    pub(crate) fn rounds(&self, full: usize, quick: usize) -> usize {
        self.rounds.unwrap_or_else(|| self.pick(full, quick))
    }
}

fn default_module() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/nginx/ngx_http_dockline_module.so")
}
