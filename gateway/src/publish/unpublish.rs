#![forbid(unsafe_code)]
//! `dockline unpublish`: ends publications, and waits until they have ended.

use std::process::ExitCode;

use super::args::UnpublishArgs;
use super::control::StateDir;
use super::status::PortStatus;
use super::{clean_up, fail_with};
use crate::output;
use crate::problem::Problem;

pub(crate) fn run(args: &UnpublishArgs) -> ExitCode {
    fail_with(unpublish(args))
}

fn unpublish(args: &UnpublishArgs) -> Result<ExitCode, Problem> {
    let state = StateDir::new(&args.state)?;
    clean_up(&state, false)?;
    let mut running: Vec<(String, Vec<PortStatus>)> = Vec::new();
    for live in state.live()?.0 {
        let id = live.id.clone();
        match live.ports() {
            Ok(ports) => running.push((id, ports)),
            // It can still be ended by its ID.
            Err(problem) => {
                output::tell(problem);
                running.push((id, Vec::new()));
            }
        }
    }
    let mut chosen: Vec<&str> = Vec::new();
    if args.all {
        chosen.extend(running.iter().map(|(id, _)| id.as_str()));
    }
    for word in &args.which {
        let found: Vec<&str> = running
            .iter()
            .filter(|(id, ports)| is_meant(word.raw(), id, ports))
            .map(|(id, _)| id.as_str())
            .collect();
        if found.is_empty() {
            return Err(Problem::new(format_args!("there is no publication `{word}`"))
                .hint("`dockline ports` lists all"));
        }
        chosen.extend(found);
    }
    // All are requested to end before any is waited for.
    let mut problems = Vec::new();
    std::thread::scope(|scope| -> Result<(), Problem> {
        let ends: Vec<_> = state
            .live()?
            .0
            .into_iter()
            .filter(|live| chosen.contains(&live.id.as_str()))
            .map(|live| scope.spawn(move || live.end()))
            .collect();
        problems.extend(ends.into_iter().filter_map(|end| end.join().ok()?.err()));
        Ok(())
    })?;
    problems.iter().for_each(output::tell);
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns whether a word names a publication: by its ID or the beginning of it, by a port, or by
/// its container.
fn is_meant(word: &str, id: &str, ports: &[PortStatus]) -> bool {
    let number = word.parse::<u16>().ok();
    id == word
        || (word.len() >= 4 && number.is_none() && id.starts_with(word))
        || ports.iter().any(|port| {
            number == Some(port.listen.port())
                || port.listen.to_string() == word
                || port.container.as_ref().is_some_and(|name| name.raw() == word)
        })
}
