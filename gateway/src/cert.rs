#![forbid(unsafe_code)]
//! `dockline cert`: an authority for the certificates of servers, clients and nodes.

use std::env;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use dockline::untrusted::Untrusted;
use dockline_certs::{CertError, Certificate, Entry, Kind, Name, Request, State, Store};
use serde::Serialize;

use crate::absolute_path::AbsolutePath;
use crate::output;
use crate::problem::Problem;

/// Where root keeps its authority.
const ROOT_DIR: &str = "/etc/dockline/ca";

/// One that is valid for fewer days should be renewed.
const SOON_DAYS: i64 = 30;

/// Make an authority, and issue, list and revoke certificates of it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  dockline cert init
  dockline cert issue server docker.example.com 192.0.2.1 --out /etc/dockline/tls
  dockline cert issue client alice dockline://team/alice --out ~/.docker/alice
  dockline cert issue node worker-1 --out ./worker-1
  dockline cert list
  dockline cert revoke alice

Then, on the server, and for the client:
  dockline serve --listen tls://0.0.0.0:2376 --tls-dir /etc/dockline/tls --tls-crl /etc/dockline/ca/crl.pem
  DOCKER_HOST=tcp://docker.example.com:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=~/.docker/alice docker ps

The files have the names that docker and dockerd use: ca.pem with server.pem and server-key.pem, or with cert.pem
and key.pem. Keys are ECDSA P-256.")]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make an authority
    Init(InitArgs),
    /// Issue a certificate with a new key
    Issue(IssueArgs),
    /// List the certificates that were issued, and for how long they are valid
    List(ListArgs),
    /// Show a certificate: one that was issued, or any file
    Show(ShowArgs),
    /// Revoke a certificate: it is added to crl.pem
    Revoke(RevokeArgs),
}

/// Where the authority is.
#[derive(Debug, Args)]
struct Authority {
    /// Directory of the authority [default: /etc/dockline/ca for root, or ~/.config/dockline/ca]
    #[arg(long, value_name = "DIR", env = "DOCKLINE_CA_DIR", hide_env = true)]
    ca_dir: Option<AbsolutePath>,
}

impl Authority {
    fn dir(&self) -> Result<AbsolutePath, Problem> {
        if let Some(dir) = &self.ca_dir {
            return Ok(dir.clone());
        }
        if rustix::process::geteuid().is_root() {
            return AbsolutePath::new(Path::new(ROOT_DIR)).map_err(Problem::new);
        }
        let config = env::var_os("XDG_CONFIG_HOME")
            .map(Into::into)
            .filter(|dir: &std::path::PathBuf| dir.is_absolute());
        let home = || env::home_dir().map(|home| home.join(".config"));
        let config = config.or_else(home).ok_or_else(|| {
            Problem::new("there is no home directory for the authority").hint("name one with --ca-dir DIR")
        })?;
        AbsolutePath::new(config.join("dockline/ca")).map_err(Problem::new)
    }

    fn open(&self, now: i64) -> Result<Store, Problem> {
        Store::open(&self.dir()?, now).map_err(Problem::new)
    }
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    authority: Authority,

    /// Name of the authority, for display
    #[arg(long, value_name = "NAME", default_value = "dockline")]
    name: String,

    /// Days for which it is valid
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// What it is for
    #[arg(value_name = "KIND")]
    kind: KindArg,

    /// Host names, IP addresses and URIs that it is for. The first one is shown as its name
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Name>,

    /// Directory for the certificate, its key, and the certificate of the authority
    #[arg(long, short, value_name = "DIR")]
    out: AbsolutePath,

    /// Days for which it is valid; it does not outlive the authority
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,

    /// Replace a certificate and a key that are there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    authority: Authority,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    /// dockerd, or a listener of dockline: server.pem, server-key.pem
    Server,
    /// A docker client: cert.pem, key.pem
    Client,
    /// A machine that joins a front door, or has a router: cert.pem, key.pem, for both directions
    Node,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    authority: Authority,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// A file, the name of a certificate that was issued, or its serial number
    #[arg(value_name = "CERTIFICATE")]
    certificate: String,

    #[command(flatten)]
    authority: Authority,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The name of the certificate, or its serial number
    #[arg(value_name = "CERTIFICATE")]
    certificate: String,

    #[command(flatten)]
    authority: Authority,
}

/// Runs a command.
pub(crate) fn run(args: &CertArgs) -> ExitCode {
    let done = match &args.command {
        CertCommand::Init(args) => init(args),
        CertCommand::Issue(args) => issue(args),
        CertCommand::List(args) => list(args),
        CertCommand::Show(args) => show(args),
        CertCommand::Revoke(args) => revoke(args),
    };
    match done {
        Ok(text) => output::print(text),
        Err(problem) => output::fail(problem),
    }
}

fn init(args: &InitArgs) -> Result<String, Problem> {
    let dir = args.authority.dir()?;
    let store = Store::create(&dir, &args.name, args.days, now()).map_err(Problem::new)?;
    let days = store.authority().certificate().days_left(now());
    let shown = Untrusted::path(&dir);
    Ok(format!(
        "There is an authority in {shown} now, valid for {days} days. Whoever has ca-key.pem can make certificates: \
         keep a copy of it in a safe place, and nowhere else.\n\nNext: dockline cert issue server HOST --out DIR\n"
    ))
}

fn issue(args: &IssueArgs) -> Result<String, Problem> {
    let store = args.authority.open(now())?;
    let kind = match args.kind {
        KindArg::Server => Kind::Server,
        KindArg::Client => Kind::Client,
        KindArg::Node => Kind::Node,
    };
    let common_name = args.names.first().map(ToString::to_string).unwrap_or_default();
    let request = Request { kind, common_name, names: args.names.clone(), days: args.days };
    let serial = store.issue(&request, &args.out, args.force, now()).map_err(Problem::new)?;
    let entry = store.find(&serial, now()).map_err(Problem::new)?;
    let out = Untrusted::path(&args.out);
    Ok(format!("{out}: a certificate with its key, and ca.pem\n\n{}", describe(&entry.certificate, None)))
}

fn list(args: &ListArgs) -> Result<String, Problem> {
    let entries = args.authority.open(now())?.list(now()).map_err(Problem::new)?;
    if args.json {
        let shown: Vec<Shown> = entries.iter().map(|entry| Shown::new(entry, now())).collect();
        return output::json(&shown).map(|json| json + "\n").map_err(Problem::wrap("no JSON"));
    }
    if entries.is_empty() {
        return Ok("No certificate was issued yet. Next: dockline cert issue server HOST --out DIR\n".into());
    }
    Ok(table(&entries, now()))
}

fn show(args: &ShowArgs) -> Result<String, Problem> {
    let path = Path::new(&args.certificate);
    // A name may be that of a file by chance; a path is none of a certificate.
    if path.is_file() {
        return Certificate::read(path).map(|certificate| describe(&certificate, None)).map_err(Problem::new);
    }
    let found = args.authority.open(now())?.find(&args.certificate, now());
    let entry =
        found.map_err(|error: CertError| Problem::new(error).at(Untrusted::new(&args.certificate)))?;
    Ok(describe(&entry.certificate, Some(entry.state)))
}

fn revoke(args: &RevokeArgs) -> Result<String, Problem> {
    let store = args.authority.open(now())?;
    let revoked = store.revoke(&args.certificate, now());
    let entry = revoked.map_err(|error| Problem::new(error).at(Untrusted::new(&args.certificate)))?;
    let crl = store.crl();
    Ok(format!(
        "{}\n{} is up to date. Listeners that have it as crl refuse this certificate after a reload.\n",
        describe(&entry.certificate, Some(entry.state)),
        Untrusted::path(&crl)
    ))
}

/// Describes a certificate in lines.
fn describe(certificate: &Certificate, state: Option<State>) -> String {
    let names: Vec<String> = certificate.names.iter().map(ToString::to_string).collect();
    let kind = match certificate.kind {
        _ if certificate.is_authority => "authority",
        Some(kind) => kind.as_str(),
        None => "any use",
    };
    let days = certificate.days_left(now());
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key:<8}{value}");
    };
    line("serial", &certificate.serial);
    line("kind", kind);
    line("name", &Untrusted::new(&certificate.common_name).to_string());
    if !names.is_empty() {
        line("for", &names.join(", "));
    }
    line("issuer", &Untrusted::new(&certificate.issuer).to_string());
    line("valid", &validity(days));
    if let Some(state) = state {
        line("state", state.as_str());
    }
    text
}

fn validity(days: i64) -> String {
    match days {
        ..0 => format!("expired {} days ago", days.unsigned_abs()),
        0 => "less than a day".into(),
        1..SOON_DAYS => format!("{days} days more: renew it"),
        _ => format!("{days} days more"),
    }
}

fn table(entries: &[Entry], now: i64) -> String {
    let mut rows = vec![["SERIAL", "KIND", "NAME", "DAYS LEFT", "STATE"].map(str::to_owned)];
    rows.extend(entries.iter().map(|Entry { certificate, state }| {
        [
            certificate.serial.chars().take(8).collect(),
            certificate.kind.map_or("any", Kind::as_str).to_owned(),
            Untrusted::new(&certificate.common_name).to_string(),
            certificate.days_left(now).to_string(),
            state.as_str().to_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2, 3, 4].map(width);
    rows.iter().fold(String::new(), |mut text, row| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        text
    })
}

/// A certificate in JSON.
#[derive(Serialize)]
struct Shown {
    serial: String,
    kind: Option<&'static str>,
    name: String,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    days_left: i64,
    state: &'static str,
}

impl Shown {
    fn new(Entry { certificate, state }: &Entry, now: i64) -> Self {
        Self {
            serial: certificate.serial.clone(),
            kind: certificate.kind.map(Kind::as_str),
            name: certificate.common_name.clone(),
            names: certificate.names.iter().map(ToString::to_string).collect(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            days_left: certificate.days_left(now),
            state: state.as_str(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the time of day")]
fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
