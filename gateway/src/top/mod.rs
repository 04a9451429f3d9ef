#![forbid(unsafe_code)]
//! `dockline top`: routes and tunnels of a running gateway, live, in a terminal.

mod model;
mod snapshot;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::model::{Action, Model};
use self::snapshot::Snapshot;
use crate::absolute_path::AbsolutePath;
use crate::admin::client::AdminClient;
use crate::config::values::{AdminAddress, Time};
use crate::output;
use crate::problem::Problem;
use crate::process::spawn;

/// Show routes and tunnels of a running gateway, live.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  dockline top
  dockline top --interval 500ms
  dockline top --admin unix:///run/dockline/admin.sock

Keys:
  Tab, 1, 2, 3     tunnels, routes, what has no route
  Up, Down, PgUp, PgDn, Home, End
                   move
  Left, Right      sort by another column; r reverses
  /                filter; Enter keeps it, Esc clears it
  k                end the tunnel under the cursor, after a question
  q                quit")]
pub(crate) struct TopArgs {
    /// Interval of updates
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) interval: Time,

    /// Admin address of the gateway [default: that of the configuration]
    #[arg(long, value_name = "ADDRESS", env = "DOCKLINE_ADMIN", hide_env = true)]
    pub(crate) admin: Option<AdminAddress>,

    /// Configuration file of the gateway
    #[arg(long, short, value_name = "FILE", env = "DOCKLINE_CONFIG", hide_env = true)]
    pub(crate) config: Option<AbsolutePath>,

    /// Token of the admin listener, to end tunnels over TCP
    #[arg(long, value_name = "TOKEN", env = "DOCKLINE_ADMIN_TOKEN", hide_env = true)]
    pub(crate) token: Option<String>,
}

/// The shortest interval of updates.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What the thread that draws waits for.
enum Wake {
    Input(Event),
    Snapshot(Result<Snapshot, Problem>),
    Killed(Result<String, Problem>),
    /// The terminal is gone.
    NoInput(io::Error),
}

/// Runs until the user quits.
pub(crate) fn run(args: &TopArgs, client: AdminClient) -> ExitCode {
    if !io::stdout().is_terminal() {
        return output::fail(
            Problem::new("standard output is not a terminal")
                .hint("`dockline routes` prints the routes, and the admin listener has /tunnels.json"),
        );
    }
    // An error at the start is better read without a screen.
    let first = match Snapshot::fetch(&client) {
        Ok(snapshot) => snapshot,
        Err(problem) => return output::fail(problem),
    };
    let (sender, wakes) = sync_channel(64);
    let started = watch_input(sender.clone())
        .and_then(|()| watch_gateway(client.clone(), args.interval.0.max(INTERVAL_MIN), sender.clone()));
    if let Err(problem) = started {
        return output::fail(problem);
    }
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => return output::fail(Problem::new("cannot use the terminal").because(error)),
    };
    let result = show(&mut terminal, first, &wakes, &sender, &client);
    ratatui::restore();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(Problem::new("the terminal has failed").because(error)),
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    first: Snapshot,
    wakes: &Receiver<Wake>,
    sender: &SyncSender<Wake>,
    client: &AdminClient,
) -> io::Result<()> {
    let mut model = Model::default();
    model.update(first, now());
    loop {
        terminal.draw(|frame| view::draw(frame, &mut model))?;
        let mut wake = match wakes.recv_timeout(Duration::from_secs(3600)) {
            Ok(wake) => Some(wake),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // All that has come is one new picture.
        while let Some(one) = wake {
            match one {
                Wake::Input(Event::Key(key)) if key.kind != KeyEventKind::Release => match model.key(key) {
                    Action::None => {}
                    Action::Quit => return Ok(()),
                    Action::Kill(tunnel) => kill(client.clone(), tunnel, sender.clone()),
                },
                Wake::Input(_) => {}
                Wake::NoInput(error) => return Err(error),
                Wake::Snapshot(Ok(snapshot)) => model.update(snapshot, now()),
                Wake::Snapshot(Err(problem)) => model.lost(&problem),
                Wake::Killed(Ok(text)) => model.notice(text),
                Wake::Killed(Err(problem)) => model.notice(problem.to_string()),
            }
            wake = wakes.try_recv().ok();
        }
    }
}

fn watch_input(sender: SyncSender<Wake>) -> Result<(), Problem> {
    spawn("input", move || {
        loop {
            match event::read() {
                Ok(input) => {
                    if sender.send(Wake::Input(input)).is_err() {
                        return;
                    }
                }
                Err(error) => return drop(sender.send(Wake::NoInput(error))),
            }
        }
    })
}

fn watch_gateway(client: AdminClient, interval: Duration, sender: SyncSender<Wake>) -> Result<(), Problem> {
    spawn("gateway", move || {
        loop {
            #[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
            thread::sleep(interval);
            if sender.send(Wake::Snapshot(Snapshot::fetch(&client))).is_err() {
                return;
            }
        }
    })
}

/// Ends a tunnel on a thread of its own: the gateway may take its time.
fn kill(client: AdminClient, tunnel: u64, sender: SyncSender<Wake>) {
    let failed = sender.clone();
    let ask = move || {
        let answer = client.post(&format!("/kill?tunnel={tunnel}"));
        let result = answer.and_then(|answer| match answer.status {
            200 => Ok(format!("tunnel {tunnel} was ended")),
            status => Err(Problem::new(format_args!(
                "tunnel {tunnel} was not ended: status {status}: {}",
                answer.body
            ))),
        });
        drop(sender.send(Wake::Killed(result)));
    };
    if let Err(problem) = spawn("kill", ask) {
        drop(failed.try_send(Wake::Killed(Err(problem))));
    }
}

#[expect(clippy::disallowed_methods, reason = "what is shown is rates")]
fn now() -> Instant {
    Instant::now()
}
