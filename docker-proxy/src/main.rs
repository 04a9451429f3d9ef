#![forbid(unsafe_code)]
//! Drop-in for docker-proxy, the program that dockerd starts for each published port
//! (`--userland-proxy-path`).
//!
//! The contract: flags in Go's style; `0\n` on descriptor 3 once the port is bound, or `1\n` and
//! the reason and exit status 1; descriptor 4 is the bound socket if `-use-listen-fd` is given;
//! SIGINT and SIGTERM end it with status 0.

mod args;
mod broker;
mod error;
mod number;
mod options;
mod port;
mod status;
mod stub;
mod tcp;

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use dockline::untrusted::{Line, Untrusted};
use dockline_sys::process;

use self::args::{Args, Parsed};
use self::error::Error;
use self::options::Options;
use self::port::{Proto, PublishedPort};
use self::status::Status;
use self::stub::Stub;
use self::tcp::Target;

fn main() -> ExitCode {
    // Before anything else opens a descriptor that could get its number.
    let status = Status::inherit();
    let words: Vec<String> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let [_, flag, name] = &words[..]
        && flag == "--broker"
    {
        return exit(broker::run(name));
    }
    match args::parse(words) {
        Parsed::Run(args) => exit(run(&args, status)),
        Parsed::Version => {
            let _ = writeln!(io::stdout(), "docker-proxy (dockline) version {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Parsed::Help(usage) => {
            let _ = write!(io::stderr(), "{usage}");
            ExitCode::SUCCESS
        }
        Parsed::Mistake(text) => {
            let _ = write!(io::stderr(), "{text}");
            ExitCode::from(2)
        }
    }
}

fn exit(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Binds the port, reports that to the parent, and forwards. Failures up to then are reported to
/// the parent.
fn run(args: &Args, status: Status) -> io::Result<()> {
    match prepare(args) {
        Ok(serve) => {
            process::exit_on_stop_signals()?;
            status.ready();
            serve()
        }
        Err(error) => {
            status.failed(&error);
            std::process::exit(1);
        }
    }
}

/// Serves the port until the poller fails.
type Serve = Box<dyn FnOnce() -> io::Result<()>>;

/// Does everything that can fail before the port is served.
fn prepare(args: &Args) -> Result<Serve, Error> {
    let options = Options::from_env()?;
    let port = PublishedPort::new(args)?;
    let container = container(args)?;
    let listener = if args.use_listen_fd { port.inherit()? } else { port.bind()? };
    // As every program in Go does, so that a soft limit for old programs does not limit
    // connections.
    let _ = process::raise_descriptor_limit();
    let serve = match port.proto {
        Proto::Tcp => {
            let proxy_protocol = options.proxy_protocol(args.host_port);
            let target = Target { container, proxy_protocol, transparent: options.transparent };
            serve_tcp(listener, target, options.broker)
        }
        Proto::Udp => dockline_udp::Forwarder::new(listener, Some(container), options.transparent, log)
            .map(|mut forwarder| Box::new(move || forwarder.run()) as Serve),
    };
    serve.map_err(|error| Error::Forward(port, error))
}

fn serve_tcp(listener: OwnedFd, target: Target, broker: Option<String>) -> io::Result<Serve> {
    let serve = move |listener| tcp::Forwarder::new(listener, target);
    if let Some(name) = broker {
        match Stub::hand_over(&name, &listener, target) {
            // The broker may die before this process does: then the port is served here.
            Ok(stub) => {
                return Ok(Box::new(move || {
                    stub.wait();
                    serve(listener)?.run()
                }));
            }
            Err(error) => {
                log(format_args!("broker {}: {error}; the port is served without it", Untrusted::new(&name)))
            }
        }
    }
    serve(listener).map(|mut forwarder| Box::new(move || forwarder.run()) as Serve)
}

fn container(args: &Args) -> Result<SocketAddr, Error> {
    match u16::try_from(args.container_port) {
        Ok(port) if port > 0 => Ok(SocketAddr::new(args.container_ip, port)),
        _ => Err(Error::ContainerPort(args.container_port)),
    }
}

/// Writes a line to standard error, which dockerd sends to /dev/null.
fn log(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "docker-proxy: {}", Line(text));
}
