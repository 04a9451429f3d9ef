#![forbid(unsafe_code)]
//! Rules by which the kernel forwards traffic from other machines (`--dnat`).
//!
//! A publication has its own chains (iptables) or tables (nftables), named after its ID, and shares
//! nothing with other publications, so that it can be replaced or removed without regard to other
//! rules. The rules are read back after they are installed; if they differ later, another program
//! has changed them, and they are installed again.
//!
//! A process that is killed leaves its rules behind. While it lives it holds an abstract Unix
//! socket with the ID in its name, which belongs to the network namespace as the rules do: if that
//! name is free, the rules are stale.

mod iptables;
mod nft;

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixListener};
use std::process::{Command, Stdio};

use dockline::untrusted::{Line, Untrusted};

use super::args::FirewallKind;
use super::container::{Subnet, Target};
use super::ports::{Mapping, Proto};
use crate::problem::Problem;

/// A port that the kernel forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    listen: SocketAddr,
    proto: Proto,
    target: SocketAddr,
    /// Packets from this network, or from everywhere, get this host's address as their source,
    /// because replies to them would take another route.
    masquerade: Option<Subnet>,
}

impl Rule {
    /// Makes the rules for these ports. Loopback addresses cannot be reached from outside, and
    /// there is no translation between address families.
    pub(crate) fn all<'a>(mappings: impl IntoIterator<Item = &'a Mapping>, target: &Target) -> Vec<Self> {
        let meets = |mapping: &&Mapping| {
            !mapping.listen.ip().is_loopback() && mapping.listen.is_ipv4() == target.ip.is_ipv4()
        };
        let rule = |mapping: &Mapping| Self {
            listen: mapping.listen,
            proto: mapping.proto,
            target: SocketAddr::new(target.ip, mapping.port),
            masquerade: target.network,
        };
        mappings.into_iter().filter(meets).map(rule).collect()
    }

    /// Returns the network of the container in the notation of the tools.
    fn source(&self) -> Option<String> {
        self.masquerade.map(|Subnet { ip, bits }| format!("{}/{bits}", network_of(ip, bits)))
    }
}

fn network_of(ip: IpAddr, bits: u8) -> IpAddr {
    let host_bits = |all: u32| all.saturating_sub(bits.into());
    match ip {
        IpAddr::V4(ip) => {
            Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(host_bits(32)).unwrap_or(0)).into()
        }
        IpAddr::V6(ip) => {
            Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(host_bits(128)).unwrap_or(0)).into()
        }
    }
}

/// A program to run. Displayed as a shell command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    program: &'static str,
    arguments: Vec<String>,
    input: String,
}

impl Tool {
    fn new(program: &'static str, arguments: &str) -> Self {
        Self {
            program,
            arguments: arguments.split_ascii_whitespace().map(str::to_owned).collect(),
            input: String::new(),
        }
    }

    fn run(&self) -> Result<String, Problem> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Problem::new(format_args!("{} is not installed", self.program)),
            _ => Problem::new(format_args!("cannot run {}", self.program)).because(error),
        };
        // The PATH of users often lacks the directories of these programs.
        let path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .env("PATH", path)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // If the program does not read it, its output says why.
            let _ = stdin.write_all(self.input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = output.stderr.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let line = Untrusted::new(said.into_iter().find(|line| !line.is_empty()).unwrap_or(b"it failed"));
        let arguments = Untrusted::new(self.arguments.join(" "));
        let problem = Problem::new(line).at(format_args!("{} {arguments}", self.program));
        Err(match rustix::process::geteuid().is_root() {
            true => problem,
            false => problem.hint("only root can change the firewall"),
        })
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, Line(self.arguments.join(" ")))?;
        if !self.input.is_empty() {
            write!(f, " <<'EOF'\n{}EOF", self.input)?;
        }
        Ok(())
    }
}

/// The rules of one publication.
pub(crate) struct Firewall {
    kind: FirewallKind,
    id: String,
    rules: Vec<Rule>,
    /// The output of the tools when the rules are in place.
    listing: String,
    /// Shows other processes that the rules of this ID are not stale.
    _keeper: UnixListener,
}

impl Firewall {
    /// Chooses the tool. Nothing is installed yet.
    pub(crate) fn new(kind: Option<FirewallKind>, id: &str) -> Result<Self, Problem> {
        let kind = choose(kind)?;
        let keeper = keeper(id)
            .and_then(|address| UnixListener::bind_addr(&address))
            .map_err(Problem::wrap(format_args!("the firewall rules of {id} belong to another process")))?;
        Ok(Self { kind, id: id.to_owned(), rules: Vec::new(), listing: String::new(), _keeper: keeper })
    }

    /// Replaces the rules. Without any, all are removed.
    pub(crate) fn set(&mut self, rules: Vec<Rule>) -> Result<(), Problem> {
        let before = std::mem::replace(&mut self.rules, rules);
        self.apply()?;
        forget_flows(&before);
        Ok(())
    }

    /// Installs the rules again if another program has changed them, and returns whether it had.
    pub(crate) fn repair(&mut self) -> Result<bool, Problem> {
        if self.rules.is_empty() {
            return Ok(false);
        }
        let moved = match self.kind {
            FirewallKind::Nft => false,
            FirewallKind::Iptables => iptables::relocate(&self.id, &self.rules)?,
        };
        if self.list().is_ok_and(|listing| listing == self.listing) {
            return Ok(moved);
        }
        self.apply()?;
        Ok(true)
    }

    fn apply(&mut self) -> Result<(), Problem> {
        match self.kind {
            FirewallKind::Nft => nft::replace(&self.id, &self.rules).run().map(drop)?,
            FirewallKind::Iptables => iptables::replace(&self.id, &self.rules)?,
        }
        self.listing = self.list()?;
        forget_strays(&self.rules);
        Ok(())
    }

    fn list(&self) -> Result<String, Problem> {
        match self.kind {
            FirewallKind::Nft => nft::list(&self.id, &self.rules),
            FirewallKind::Iptables => iptables::list(&self.id, &self.rules),
        }
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        if let Err(error) = self.set(Vec::new()) {
            log::error!("firewall rules are left behind: {error}");
        }
    }
}

/// Returns the commands that would install and remove the rules.
pub(crate) fn rehearse(kind: Option<FirewallKind>, id: &str, rules: &[Rule]) -> Result<String, Problem> {
    let (install, remove) = match choose(kind)? {
        FirewallKind::Nft => (vec![nft::replace(id, rules)], vec![nft::replace(id, &[])]),
        FirewallKind::Iptables => iptables::rehearse(id, rules)?,
    };
    let lines = |tools: &[Tool]| tools.iter().map(|tool| format!("{tool}\n")).collect::<String>();
    Ok(format!("# to publish\n{}# to end\n{}", lines(&install), lines(&remove)))
}

/// Removes the rules of processes that were killed, and returns their IDs.
pub(crate) fn sweep() -> Vec<String> {
    let mut dead: Vec<String> = nft::ids().into_iter().chain(iptables::ids()).collect();
    dead.sort();
    dead.dedup();
    dead.retain(|id| !is_alive(id));
    for id in &dead {
        let _ = nft::replace(id, &[]).run();
        if let Err(error) = iptables::replace(id, &[]) {
            log::debug!("{error}");
        }
    }
    dead
}

/// Checks that the kernel forwards packets.
pub(crate) fn check_forwarding(target: IpAddr) -> Result<(), Problem> {
    let name = if target.is_ipv4() { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    match fs::read_to_string(path) {
        Ok(value) if value.trim() == "0" => {
            Err(Problem::new("--dnat: the kernel does not forward packets between networks")
                .hint(format_args!("`sysctl -w {name}=1` enables that")))
        }
        _ => Ok(()),
    }
}

/// Returns the requested tool, or else the one that is in use here: rules of nftables cannot accept
/// packets that those of iptables drop, and Docker's do.
fn choose(kind: Option<FirewallKind>) -> Result<FirewallKind, Problem> {
    let guarded = iptables::drops_forwarded();
    match kind {
        Some(FirewallKind::Nft) => {
            if matches!(guarded, Ok(true)) {
                log::warn!(
                    "the chain FORWARD of iptables drops packets, which rules of nftables cannot undo; \
                     omit --firewall, or accept the packets there"
                );
            }
            nft::works().map(|()| FirewallKind::Nft)
        }
        Some(FirewallKind::Iptables) => guarded.map(|_| FirewallKind::Iptables),
        None if matches!(guarded, Ok(true)) => Ok(FirewallKind::Iptables),
        None => match (nft::works(), guarded) {
            (Ok(()), _) => Ok(FirewallKind::Nft),
            (Err(_), Ok(_)) => Ok(FirewallKind::Iptables),
            (Err(nft), Err(iptables)) => {
                Err(Problem::new(format_args!("--dnat needs nft or iptables: {nft}; {iptables}")))
            }
        },
    }
}

fn keeper(id: &str) -> io::Result<unix::SocketAddr> {
    unix::SocketAddr::from_abstract_name(format!("dockline-rules-{id}"))
}

fn is_alive(id: &str) -> bool {
    keeper(id).and_then(|address| UnixListener::bind_addr(&address)).is_err()
}

/// Removes flows of earlier rules: the kernel forwards a flow of datagrams by the rules at its
/// beginning.
fn forget_flows(rules: &[Rule]) {
    for rule in rules.iter().filter(|rule| rule.proto == Proto::Udp) {
        let family = if rule.target.is_ipv4() { "ipv4" } else { "ipv6" };
        let flows = format!(
            "-D -f {family} -p udp --orig-port-dst {} --reply-src {} --reply-port-src {}",
            rule.listen.port(),
            rule.target.ip(),
            rule.target.port()
        );
        forget(&flows, rule);
    }
}

/// Removes flows that began before the rules: they would still arrive at the listener, and bypass
/// `FORWARD`.
fn forget_strays(rules: &[Rule]) {
    for rule in rules.iter().filter(|rule| rule.proto == Proto::Udp) {
        let family = if rule.target.is_ipv4() { "ipv4" } else { "ipv6" };
        let to = match rule.listen.ip() {
            any if any.is_unspecified() => String::new(),
            one => format!("--orig-dst {one} "),
        };
        forget(&format!("-D -f {family} -p udp {to}--orig-port-dst {}", rule.listen.port()), rule);
    }
}

fn forget(flows: &str, rule: &Rule) {
    // It also fails when there are none.
    if let Err(error) = Tool::new("conntrack", flows).run() {
        log::debug!("flows of {}/udp may continue until they are idle: {error}", rule.listen);
    }
}

/// Returns the comment of a publication's rules, which is also the name of its table.
fn tag(id: &str) -> String {
    format!("dockline-{id}")
}

/// Returns the ID in a name with this prefix.
fn id_in<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let id = name.strip_prefix(prefix)?.get(..8)?;
    id.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rule(listen: &str, proto: Proto, target: &str, bits: Option<u8>) -> Rule {
        let target: SocketAddr = target.parse().unwrap();
        let masquerade = bits.map(|bits| Subnet { ip: target.ip(), bits });
        Rule { listen: listen.parse().unwrap(), proto, target, masquerade }
    }

    #[test]
    fn networks() {
        let source = |target, bits| rule("0.0.0.0:1", Proto::Tcp, target, Some(bits)).source().unwrap();
        assert_eq!(source("172.17.3.2:80", 16), "172.17.0.0/16");
        assert_eq!(source("172.17.3.2:80", 0), "0.0.0.0/0");
        assert_eq!(source("172.17.3.2:80", 32), "172.17.3.2/32");
        assert_eq!(source("[fd00:1:2:3:4::5]:80", 64), "fd00:1:2:3::/64");
    }

    #[test]
    fn only_traffic_from_outside_and_of_one_family() {
        let mapping = |listen: &str| Mapping {
            listen: listen.parse().unwrap(),
            port: 80,
            proto: Proto::Tcp,
            optional: false,
        };
        let all = ["127.0.0.1:1", "0.0.0.0:2", "[::]:3", "[::1]:4", "192.0.2.1:5"].map(mapping);
        let target = Target { ip: "172.17.0.2".parse().unwrap(), network: None };
        let ports: Vec<u16> = Rule::all(&all, &target).iter().map(|rule| rule.listen.port()).collect();
        assert_eq!(ports, [2, 5]);
    }

    #[test]
    fn ids_in_names() {
        assert_eq!(id_in("DOCKLINE-00ffab12-M", "DOCKLINE-"), Some("00ffab12"));
        assert_eq!(id_in("DOCKLINE-00ffab1", "DOCKLINE-"), None);
        assert_eq!(id_in("DOCKLINE-somebody", "DOCKLINE-"), None);
        assert_eq!(id_in("DOCKER-USER", "DOCKLINE-"), None);
    }
}
