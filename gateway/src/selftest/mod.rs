#![forbid(unsafe_code)]
//! `dockline selftest`: tests what a proxy in front of a Docker daemon does to its connections.
//!
//! The command is both ends: a fake daemon, which is the upstream of the proxy under test, and a
//! client of that proxy. So it works with any proxy, and needs no Docker.

mod cases;
mod daemon;
mod report;
mod trial;
mod wire;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use cases::{Case, TOPICS};
use daemon::{Daemon, Then};
use dockline::untrusted::Untrusted;
use report::{Format, Report, Verdict};
use trial::Trial;
use wire::{Endpoint, Outcome, ensure, now, pause};

use crate::output::{fail, print, tell};
use crate::problem::Problem;

/// Test how a proxy handles attach, exec and the other streams of Docker
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Configure the proxy so that its upstream is the fake daemon of this command, then:

    dockline selftest --against tcp://127.0.0.1:8080

Without --against the client talks to the fake daemon directly, to check the test itself.

Exit status: 0 all cases passed, 1 the proxy or the daemon was not reached, 2 usage, 3 some cases failed.")]
pub(crate) struct SelftestArgs {
    /// The proxy to test: tcp://HOST:PORT, HOST:PORT or unix:///PATH
    #[arg(long, value_name = "ADDR")]
    against: Option<Endpoint>,

    /// Address of the fake daemon, the proxy's upstream
    #[arg(long, value_name = "ADDR", default_value = "tcp://127.0.0.1:2390")]
    daemon_listen: Endpoint,

    /// List the cases, and what breaks for users if one fails
    #[arg(long)]
    list: bool,

    /// Run only these cases
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    only: Vec<Untrusted<String>>,

    /// Format of the scorecard
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: Format,

    /// Time limit of each case
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = seconds)]
    timeout: Duration,
}

/// Runs the cases. The scorecard goes to standard output, everything else to standard error.
#[must_use]
pub(crate) fn run(args: &SelftestArgs) -> ExitCode {
    let unknown = args.only.iter().find(|name| !all().any(|(_, case)| case.name == name.raw()));
    if let Some(name) = unknown {
        tell(format_args!("there is no case `{name}`; --list shows all"));
        return ExitCode::from(2);
    }
    if args.list {
        for (_, case) in all() {
            let _ = print(format_args!("{:<20}  {}\n{:22}{}\n", case.name, case.title, "", case.breaks));
        }
        return ExitCode::SUCCESS;
    }
    let daemon = match Daemon::start(&args.daemon_listen) {
        Ok(daemon) => daemon,
        Err(error) => {
            let at = &args.daemon_listen;
            let problem = Problem::wrap(format_args!("the fake daemon cannot listen on {at}"))(error);
            return fail(problem.hint("choose another --daemon-listen"));
        }
    };
    if let Some(proxy) = &args.against
        && let Err(problem) = reach(&daemon, proxy, args.timeout)
    {
        return fail(format_args!("{problem}\n\n{}", advice(daemon.endpoint(), proxy)));
    }
    match score(&daemon, args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        // The reader of the pipe has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => fail(format_args!("cannot write the scorecard: {error}")),
    }
}

fn all() -> impl Iterator<Item = (&'static str, &'static Case)> {
    TOPICS.iter().flat_map(|(topic, cases)| cases.iter().map(move |case| (*topic, case)))
}

/// Runs the chosen cases, and returns whether none has failed.
fn score(daemon: &Daemon, args: &SelftestArgs) -> io::Result<bool> {
    let mut report = Report::stdout(args.format);
    let proxy = args.against.as_ref().unwrap_or(daemon.endpoint());
    for (number, (topic, case)) in all().enumerate() {
        if !args.only.is_empty() && !args.only.iter().any(|name| name.raw() == case.name) {
            continue;
        }
        report.running(topic, case)?;
        let start = now();
        let verdict = if case.proxy_only && args.against.is_none() {
            Verdict::Skip
        } else {
            let outcome = Trial::new(daemon, proxy, number, args.timeout).run(case);
            outcome.map_or_else(|fault| Verdict::Fail(fault.text), |()| Verdict::Pass)
        };
        report.result(case, &verdict, start.elapsed())?;
    }
    report.finish()
}

/// Waits until a request has passed through. The proxy may first have to notice that its upstream
/// is up.
fn reach(daemon: &Daemon, proxy: &Endpoint, patience: Duration) -> Result<(), Problem> {
    proxy.connect().map_err(Problem::wrap(format_args!("cannot connect to the proxy at {proxy}")))?;
    let deadline = now() + patience;
    loop {
        let trial = Trial::new(daemon, proxy, 999, patience);
        let Err(fault) = ping(&trial) else { return Ok(()) };
        if now() >= deadline {
            return Err(Problem::new(format_args!(
                "the fake daemon was not reached through the proxy at {proxy}"
            ))
            .excerpt(format!("  {}", fault.text)));
        }
        pause(Duration::from_millis(200));
    }
}

fn ping(trial: &Trial<'_>) -> Outcome {
    trial.serve(|daemon, head| {
        daemon.body(head)?;
        daemon.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")?;
        Ok(Then::Close)
    });
    let mut client = trial.connect()?;
    client.send(&trial.get("/v1.43/containers/{}/json"))?;
    client.response()?.0.expect_status(200)?;
    ensure(!trial.seen().is_empty(), || "client: got 200, but from another daemon".into())
}

/// Returns advice for the configuration of a proxy.
fn advice(daemon: &Endpoint, proxy: &Endpoint) -> String {
    let (nginx, haproxy) = match daemon {
        Endpoint::Tcp(address) => (format!("http://{address}"), address.clone()),
        Endpoint::Unix(path) => {
            let path = Untrusted::path(path);
            (format!("http://unix:{path}:"), format!("unix@{path}"))
        }
    };
    format!(
        "The proxy's upstream has to be {daemon}, where this command listens while it runs:
  nginx      location / {{ proxy_pass {nginx}; }}
  HAProxy    server fake {haproxy}
  dockline   dockline serve --listen {proxy} --upstream {daemon}"
    )
}

/// Parses a time such as `5s` or `500ms`.
fn seconds(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let span = match (number.parse(), unit) {
        (Ok(n), "s") => Duration::from_secs(n),
        (Ok(n), "ms") => Duration::from_millis(n),
        _ => return Err(Problem::new("expected a time such as 5s or 2500ms")),
    };
    // Cases of silence last more than a second.
    if span < Duration::from_secs(2) || span > Duration::from_secs(600) {
        return Err(Problem::new("expected a time from 2s to 600s"));
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(seconds("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(seconds("2500ms").unwrap(), Duration::from_millis(2500));
        for bad in ["", "5", "s", "5m", "-5s", "1s", "601s", "99999999999999999999s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
