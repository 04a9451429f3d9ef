#![forbid(unsafe_code)]
//! `dockline routes`: the routes of a running gateway, and why some containers have none.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use dockline::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

use super::client::AdminClient;
use crate::absolute_path::AbsolutePath;
use crate::config::values::AdminAddress;
use crate::output;
use crate::problem::Problem;

/// Interval at which `--watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Clears a terminal (ECMA-48): from the first character of the first line.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J\x1b[3J";

/// Show which routes a running gateway has, and why some containers have none.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  dockline routes
  dockline routes --watch
  dockline routes --json | jq '.unrouted'

A route is live if it has a target that gets requests, down if it has none now, and stale if what announced it
cannot be reached: then it is as it was last known. Below the routes is what has none, and why.")]
pub(crate) struct RoutesArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Show them again at each change
    #[arg(long, short)]
    pub(crate) watch: bool,

    /// Admin address of the gateway [default: that of the configuration]
    #[arg(long, value_name = "ADDRESS", env = "DOCKLINE_ADMIN", hide_env = true)]
    pub(crate) admin: Option<AdminAddress>,

    /// Configuration file of the gateway
    #[arg(long, short, value_name = "FILE", env = "DOCKLINE_CONFIG", hide_env = true)]
    pub(crate) config: Option<AbsolutePath>,
}

type Text = Untrusted<String>;

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct All {
    routes: Vec<Route>,
    unrouted: Vec<Unrouted>,
    sources: Vec<Source>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Route {
    name: Option<Text>,
    host: Option<Text>,
    path: Text,
    state: Text,
    targets: Vec<Target>,
    losers: Vec<Unrouted>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Target {
    title: Text,
    node: Text,
    address: Option<Text>,
    gateway: Option<Text>,
    state: Text,
    weight: u16,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Unrouted {
    title: Text,
    node: Text,
    reason: Text,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct Source {
    name: Text,
    state: Text,
}

/// Runs the command.
pub(crate) fn run(args: &RoutesArgs, client: &AdminClient) -> ExitCode {
    let mut shown = None;
    loop {
        let next = match text(args, client) {
            Ok(text) => text,
            Err(problem) => return output::fail(problem),
        };
        if shown.as_ref() != Some(&next) {
            if args.watch && !args.json && io::stdout().is_terminal() {
                output::print_page(CLEAR);
            } else if shown.is_some() && !args.json {
                output::print("\n");
            }
            let status = output::print(&next);
            if status != ExitCode::SUCCESS || !args.watch {
                return status;
            }
            shown = Some(next);
        }
        #[expect(clippy::disallowed_methods, reason = "the command has nothing else to do")]
        std::thread::sleep(INTERVAL);
    }
}

fn text(args: &RoutesArgs, client: &AdminClient) -> Result<String, Problem> {
    match args.json {
        // With --watch, only what is not counted: otherwise each request would be a change.
        true if args.watch => {
            let all: All = client.get_json("/routes.json")?;
            json(&all)
        }
        true => json(&client.get_json::<serde_json::Value>("/routes.json")?),
        false => Ok(table(&client.get_json("/routes.json")?)),
    }
}

fn json(value: &impl Serialize) -> Result<String, Problem> {
    output::json(value).map(|line| line + "\n").map_err(Problem::wrap("cannot write JSON"))
}

fn table(all: &All) -> String {
    let mut rows: Vec<[String; 4]> = vec![["ROUTE", "STATE", "TARGET", "ADDRESS"].map(str::to_owned)];
    for route in &all.routes {
        let host = route.host.as_ref().or(route.name.as_ref()).map(ToString::to_string).unwrap_or_default();
        let path = if route.path.raw() == "/" { String::new() } else { route.path.to_string() };
        let mut front = [format!("{host}{path}"), route.state.to_string()];
        if route.targets.is_empty() {
            rows.push([front[0].clone(), front[1].clone(), "-".into(), String::new()]);
        }
        for target in &route.targets {
            let [name, state] = std::mem::take(&mut front);
            rows.push([name, state, format!("{} on {}", target.title, target.node), address(target)]);
        }
    }
    let mut text = aligned(&rows);
    let losers = all.routes.iter().flat_map(|route| &route.losers);
    let without: Vec<_> = losers.chain(&all.unrouted).collect();
    if !without.is_empty() {
        text += "\nWithout a route:\n";
        for one in without {
            let _ = writeln!(text, "  {} on {}: {}", one.title, one.node, one.reason);
        }
    }
    let stale: Vec<_> = all.sources.iter().filter(|source| source.state.raw() != "live").collect();
    if !stale.is_empty() {
        text += "\nNot reached:\n";
        for source in stale {
            let _ = writeln!(text, "  {}: {}", source.name, source.state);
        }
    }
    text
}

fn address(target: &Target) -> String {
    let mut text = target.address.as_ref().map(ToString::to_string).unwrap_or_default();
    if let Some(gateway) = &target.gateway {
        let _ = write!(text, "{}by {gateway}", if text.is_empty() { "" } else { " " });
    }
    if target.state.raw() != "live" {
        let _ = write!(text, "{}({})", if text.is_empty() { "" } else { " " }, target.state);
    }
    text
}

/// Returns the rows with two spaces between the columns.
fn aligned(rows: &[[String; 4]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [route, state, target, address] in rows {
        let line = format!("{route:0$}  {state:1$}  {target:2$}  {address}", widths[0], widths[1], widths[2]);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_routes_and_reasons() {
        let all: All = serde_json::from_value(serde_json::json!({
            "routes": [
                {"name": "web", "path": "/", "state": "live", "targets": [
                    {"title": "web-1", "node": "a", "address": "172.17.0.2:80", "state": "live"},
                    {"title": "web-2", "node": "b", "gateway": "10.0.0.2:80", "state": "live"},
                ], "losers": [{"title": "other", "node": "a", "reason": "`web-1` has this route"}]},
                {"host": "*.example.com", "path": "/api", "state": "down", "targets": [
                    {"title": "api", "node": "a", "state": "stopped"}], "losers": []},
                {"name": "gone", "path": "/", "state": "down", "targets": [], "losers": []},
            ],
            "unrouted": [{"title": "db", "node": "a", "reason": "no\u{1b}port"}],
            "sources": [{"name": "docker", "state": "live"}, {"name": "redis", "state": "stale: refused"}],
        }))
        .unwrap();
        assert_eq!(
            output::printable(table(&all)),
            "ROUTE              STATE  TARGET      ADDRESS\n\
             web                live   web-1 on a  172.17.0.2:80\n\
             \x20                         web-2 on b  by 10.0.0.2:80\n\
             *.example.com/api  down   api on a    (stopped)\n\
             gone               down   -\n\
             \n\
             Without a route:\n\
             \x20 other on a: `web-1` has this route\n\
             \x20 db on a: no\\u{1b}port\n\
             \n\
             Not reached:\n\
             \x20 redis: stale: refused\n"
        );
    }
}
