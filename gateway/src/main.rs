#![forbid(unsafe_code)]
//! `dockline`: a gateway for the Docker Engine API.

mod absolute_path;
mod access_log;
mod address;
mod admin;
mod cert;
mod cli;
mod config;
#[cfg(feature = "redis")]
mod discover;
mod docker;
mod health;
mod logger;
mod metrics;
mod output;
mod problem;
mod process;
mod publish;
#[cfg(feature = "redis")]
mod redis_server;
mod router;
mod selftest;
mod series;
mod serve;
mod telemetry;
mod top;
mod unix_socket;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use dockline::untrusted::Untrusted;
use dockline_discovery::suggest;

use self::absolute_path::AbsolutePath;
use self::address::ListenAddress;
use self::admin::Token;
use self::admin::client::AdminClient;
use self::cli::{Cli, Command, Healthcheck, Settings};
use self::config::Config;
use self::config::values::AdminAddress;
use self::output::{fail, print, print_page, tell};
use self::problem::Problem;
use self::router::Routing;
use self::serve::plan::{self, Plan};

/// The exit status of `check` if there is a problem.
const CHECK_FAILED: u8 = 3;

fn main() -> ExitCode {
    absolute_path::start_directory();
    #[cfg(feature = "redis")]
    use_ring();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    match command {
        Command::Serve(settings) => serve::run(settings),
        Command::Check(settings) => check(&settings),
        Command::Publish(args) => publish::run(&args),
        Command::Unpublish(args) => publish::unpublish::run(&args),
        Command::Ports(args) => publish::list::run(&args),
        #[cfg(feature = "redis")]
        Command::Discover(args) => discover::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Routes(args) => match admin_address(args.admin.clone(), args.config.clone()) {
            Ok(admin) => admin::routes::run(&args, &AdminClient::new(admin, None)),
            Err(problem) => fail(problem),
        },
        Command::Top(args) => match admin_address(args.admin.clone(), args.config.clone()) {
            Ok(admin) => top::run(&args, AdminClient::new(admin, args.token.clone())),
            Err(problem) => fail(problem),
        },
        Command::Healthcheck(args) => healthcheck(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dockline", &mut script);
            print_page(&script)
        }
        Command::Man { command } => manual(command.as_deref()),
    }
}

/// Makes ring the provider of cryptography for the client of Redis, which takes the default of the
/// process.
#[cfg(feature = "redis")]
fn use_ring() {
    // It fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Shows the help that was requested, or the error in the command line, which it quotes.
fn usage(error: &clap::Error) -> ExitCode {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion) {
        error.exit();
    }
    output::show(error);
    ExitCode::from(2)
}

fn check(settings: &Settings) -> ExitCode {
    let (plan, config) = match Config::load(settings).and_then(|config| Ok((plan_of(&config)?, config))) {
        Ok(both) => both,
        Err(problem) => {
            fail(problem);
            return ExitCode::from(CHECK_FAILED);
        }
    };
    let mut summary = match &config.file {
        Some(path) => format!("{}: ok\n", Untrusted::path(path)),
        None => "ok (no configuration file)\n".to_owned(),
    };
    for listener in &config.listeners {
        summary += &format!("{} -> {}\n", listener.address, listener.describe_destination(&config));
    }
    for warning in plan::warnings(&config).into_iter().chain(plan.warnings()) {
        tell(format_args!("warning: {warning}"));
    }
    print(summary)
}

/// Reads all that a configuration names.
fn plan_of(config: &Config) -> Result<Plan, Problem> {
    let plan = Plan::new(config, &[], &Routing::start()?)?;
    config.admin.token_file.as_ref().map(Token::read).transpose()?;
    Ok(plan)
}

fn manual(command: Option<&str>) -> ExitCode {
    let mut root = Cli::command();
    root.build();
    let subject = match command {
        None => root,
        Some(name) => match root.find_subcommand(name) {
            Some(found) => found.clone().display_name(format!("dockline-{name}")),
            None => {
                let names = root.get_subcommands().map(clap::Command::get_name);
                return fail(format_args!(
                    "there is no command `{}`{}",
                    Untrusted::new(name),
                    suggest::hint(name, names)
                ));
            }
        },
    };
    let mut page = Vec::new();
    match clap_mangen::Man::new(subject).render(&mut page) {
        Ok(()) => print_page(&page),
        Err(error) => fail(error),
    }
}

/// Returns the address of the admin listener: the one that is given, or that of the configuration.
fn admin_address(
    given: Option<AdminAddress>,
    config: Option<AbsolutePath>,
) -> Result<ListenAddress, Problem> {
    let admin = match given {
        Some(admin) => admin.0,
        None => Config::load(&Settings { config, ..Settings::default() })?.admin.address,
    };
    admin.ok_or_else(|| Problem::new("the admin listener is off").hint("--admin names the address of one"))
}

fn healthcheck(args: Healthcheck) -> ExitCode {
    match admin_address(args.admin, args.config).and_then(|admin| admin::healthcheck::ask(&admin)) {
        Ok((true, text)) => print(format_args!("{text}\n")),
        Ok((false, text)) => fail(format_args!("not ready: {text}")),
        Err(problem) => fail(problem),
    }
}
