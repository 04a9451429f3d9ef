#![forbid(unsafe_code)]
//! `dockline`: a gateway for the Docker Engine API.

mod absolute_path;
mod access_log;
mod address;
mod admin;
mod bind;
mod cli;
mod config;
mod health;
mod healthcheck;
mod identity;
mod inherited;
mod listeners;
mod logger;
mod metrics;
mod notify;
mod plan;
mod publish;
mod selftest;
mod series;
mod serve;
mod suggest;
mod telemetry;
mod upgrade;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::cli::{Cli, Command, Healthcheck, Settings};
use self::config::Config;
use self::plan::Plan;

/// `check` has found a problem.
const PROBLEM: u8 = 3;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(settings) => serve::run(settings),
        Command::Check(settings) => check(&settings),
        Command::Publish(args) => publish::run(&args),
        Command::Unpublish(args) => publish::unpublish::run(&args),
        Command::Ports(args) => publish::list::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Healthcheck(args) => healthcheck(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "dockline", &mut script);
            print(&script)
        }
        Command::Man { command } => manual(command.as_deref()),
    }
}

fn check(settings: &Settings) -> ExitCode {
    let config = match Config::load(settings).and_then(|config| Plan::new(&config, &[]).map(|_| config)) {
        Ok(config) => config,
        Err(problem) => {
            fail(problem);
            return ExitCode::from(PROBLEM);
        }
    };
    let mut said = match &config.file {
        Some(path) => format!("{}: ok\n", path.display()),
        None => "ok (no configuration file)\n".to_owned(),
    };
    for listener in &config.listeners {
        let upstream = &config.upstreams[listener.upstream];
        let addresses: Vec<String> = upstream.addresses.iter().map(ToString::to_string).collect();
        said += &format!("{} -> {} ({})\n", listener.address, upstream.name, addresses.join(", "));
    }
    for warning in plan::warnings(&config) {
        eprintln!("dockline: warning: {warning}");
    }
    print(said.as_bytes())
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
                return fail(format_args!("there is no command `{name}`{}", suggest::hint(name, names)));
            }
        },
    };
    let mut page = Vec::new();
    match clap_mangen::Man::new(subject).render(&mut page) {
        Ok(()) => print(&page),
        Err(error) => fail(error),
    }
}

fn healthcheck(args: Healthcheck) -> ExitCode {
    let admin = match args.admin {
        Some(admin) => admin.0,
        None => match Config::load(&Settings { config: args.config, ..Settings::default() }) {
            Ok(config) => config.admin.address,
            Err(problem) => return fail(problem),
        },
    };
    let Some(admin) = admin else {
        return fail("there is no admin listener (off)");
    };
    match healthcheck::ask(&admin) {
        Ok((true, said)) => print(format!("{said}\n").as_bytes()),
        Ok((false, said)) => fail(format_args!("not ready: {said}")),
        Err(error) => fail(format_args!("{admin}: {error}")),
    }
}

fn print(text: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(text) {
        // Whoever reads it may have read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(error),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(message: impl Display) -> ExitCode {
    eprintln!("dockline: {message}");
    ExitCode::FAILURE
}
