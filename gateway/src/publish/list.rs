#![forbid(unsafe_code)]
//! `dockline ports`: the ports that dockline and Docker have published.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use dockline_docker_client::Docker;
use serde::Deserialize;

use super::args::{ListFormat, PortsArgs};
use super::control::StateDir;
use super::ports::Proto;
use super::status::{By, PortStatus, Served};
use super::{clean_up, fail_with};
use crate::output;
use crate::problem::Problem;

/// Clients shown for one port; the JSON form has all.
const SHOWN: usize = 10;

pub(crate) fn run(args: &PortsArgs) -> ExitCode {
    fail_with(list(args))
}

fn list(args: &PortsArgs) -> Result<ExitCode, Problem> {
    let state = StateDir::new(&args.state)?;
    clean_up(&state, false)?;
    let mut ports = Vec::new();
    for live in state.live()?.0 {
        match live.ports() {
            Ok(of_one) => ports.extend(of_one),
            Err(problem) => output::tell(problem),
        }
    }
    match args.docker.client().and_then(|docker| docker_ports(&docker)) {
        Ok(of_docker) => ports.extend(of_docker),
        Err(problem) => output::tell(format_args!("ports published by Docker are not listed: {problem}")),
    }
    let text = match args.format {
        ListFormat::Text => table(&ports),
        ListFormat::Json => {
            let lines = ports.iter().map(|port| output::json(port).map(|line| line + "\n"));
            lines.collect::<Result<String, _>>().map_err(Problem::wrap("cannot write JSON"))?
        }
    };
    Ok(output::print(text))
}

/// Returns the ports that running containers were started with.
fn docker_ports(docker: &Docker) -> Result<Vec<PortStatus>, Problem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        id: Untrusted<String>,
        names: Vec<Untrusted<String>>,
        ports: Option<Vec<DockerPort>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct DockerPort {
        #[serde(rename = "IP")]
        ip: Option<Untrusted<String>>,
        private_port: u16,
        public_port: Option<u16>,
        r#type: Untrusted<String>,
    }
    let all: Vec<Listed> = docker.get("/containers/json")?;
    let mut found = Vec::new();
    for Listed { id, names, ports } in all {
        let name = names.first().map(|name| Untrusted::new(name.raw().trim_start_matches('/').to_owned()));
        for port in ports.into_iter().flatten() {
            // A port that is only exposed has no port of the host.
            let (Some(public), Ok(proto)) = (port.public_port, port.r#type.raw().parse::<Proto>()) else {
                continue;
            };
            let Some(ip) = port.ip.and_then(|ip| ip.raw().parse::<IpAddr>().ok()) else { continue };
            found.push(PortStatus {
                by: By::Docker,
                id: id.raw().get(..12).unwrap_or(id.raw()).to_owned().into(),
                proto,
                listen: SocketAddr::new(ip, public),
                container: name.clone(),
                target: None,
                port: port.private_port,
                served: None,
            });
        }
    }
    found.sort_by_key(|port| (port.listen.port(), port.listen.ip()));
    Ok(found)
}

const HEADINGS: [&str; 9] =
    ["ID", "BY", "PROTO", "LISTEN", "TARGET", "CONNECTED", "RECEIVED", "SENT", "ENDS"];

/// Formats the table: two spaces between columns, and the clients below each port.
fn table(ports: &[PortStatus]) -> String {
    let mut rows: Vec<[String; 9]> = vec![HEADINGS.map(str::to_owned)];
    for port in ports {
        rows.push(row(port));
        let clients = port.served.as_ref().map(|served| &served.clients[..]).unwrap_or_default();
        for client in clients.iter().take(SHOWN) {
            let mut row = <[String; 9]>::default();
            row[3] = format!("  {}", client.peer);
            row[5] = span(client.seconds);
            row[6] = size(client.bytes_up);
            row[7] = size(client.bytes_down);
            rows.push(row);
        }
        if clients.len() > SHOWN {
            let mut row = <[String; 9]>::default();
            row[3] = format!("  and {} more", clients.len() - SHOWN);
            rows.push(row);
        }
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = Vec::new();
    for row in &rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn row(port: &PortStatus) -> [String; 9] {
    let to = match (&port.container, port.target) {
        (Some(name), Some(target)) => format!("{name} ({target})"),
        (Some(name), None) if port.by == By::Dockline => format!("{name}:{} (stopped)", port.port),
        (Some(name), None) => format!("{name}:{}", port.port),
        (None, Some(target)) => target.to_string(),
        (None, None) => port.port.to_string(),
    };
    let by = match (&port.served, port.by) {
        (Some(Served { dnat: true, .. }), _) => "dockline, kernel",
        (_, By::Dockline) => "dockline",
        (_, By::Docker) => "docker",
    };
    let [connected, received, sent, ends] = match &port.served {
        Some(served) => [
            served.clients.len().to_string(),
            size(served.bytes_up),
            size(served.bytes_down),
            served.ends_in.map_or_else(|| "-".into(), |seconds| format!("in {}", span(seconds))),
        ],
        None => ["-"; 4].map(str::to_owned),
    };
    let (id, proto) = (port.id.to_string(), port.proto.name().to_owned());
    [id, by.to_owned(), proto, port.listen.to_string(), to, connected, received, sent, ends]
}

/// Formats a duration in its two largest units.
fn span(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect()
}

/// Formats a number of bytes.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let place = UNITS.iter().enumerate().rev().find(|(power, _)| bytes >> (10 * (power + 1)) > 0);
    match place {
        None => format!("{bytes} B"),
        Some((power, unit)) => {
            let scale = 10 * (u32::try_from(power).unwrap_or(0) + 1);
            let tenths = (u128::from(bytes) * 10) >> scale;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::Client;
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, wanted) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size(bytes), wanted);
        }
        assert_eq!((span(3599), span(90_061)), ("59m59s".into(), "1day1h".into()));
    }

    #[test]
    fn the_table() {
        let client =
            |peer: &str| Client { peer: peer.to_owned().into(), bytes_up: 10, bytes_down: 2048, seconds: 61 };
        let served = Served {
            pid: 1,
            dnat: false,
            ends_in: Some(60),
            connections: 3,
            bytes_up: 10,
            bytes_down: 2048,
            clients: vec![client("192.0.2.9:999")],
        };
        let mine = PortStatus {
            by: By::Dockline,
            id: "00ffab12".to_owned().into(),
            proto: Proto::Tcp,
            listen: "127.0.0.1:8080".parse().unwrap(),
            container: Some("web".to_owned().into()),
            target: Some("172.17.0.2:80".parse().unwrap()),
            port: 80,
            served: Some(served),
        };
        let docker = PortStatus {
            by: By::Docker,
            id: "0123456789ab".to_owned().into(),
            listen: "0.0.0.0:443".parse().unwrap(),
            container: Some("db".to_owned().into()),
            target: None,
            served: None,
            ..mine.clone()
        };
        let wanted = "\
ID            BY        PROTO  LISTEN           TARGET               CONNECTED  RECEIVED  SENT     ENDS
00ffab12      dockline  tcp    127.0.0.1:8080   web (172.17.0.2:80)  1          10 B      2.0 KiB  in 1m
                                 192.0.2.9:999                       1m1s       10 B      2.0 KiB
0123456789ab  docker    tcp    0.0.0.0:443      db:80                -          -         -        -
";
        assert_eq!(table(&[mine, docker]), wanted);
    }
}
