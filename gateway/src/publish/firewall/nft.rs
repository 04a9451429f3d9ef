#![forbid(unsafe_code)]
//! Rules of nftables: a table for each publication and address family.

use std::fmt::Write as _;

use super::{Rule, Tool, id_in, tag};
use crate::problem::Problem;

/// Replaces the tables of a publication in one transaction.
pub(super) fn replace(id: &str, rules: &[Rule]) -> Tool {
    let table = tag(id);
    let mut input = String::new();
    for family in ["ip", "ip6"] {
        // A table must exist to be deleted.
        let _ = writeln!(input, "add table {family} {table}\ndelete table {family} {table}");
    }
    for (family, of_v4) in [("ip", true), ("ip6", false)] {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.target.is_ipv4() == of_v4).collect();
        if !rules.is_empty() {
            let chain = |name, rule: fn(&Rule, &str, &str) -> String| -> String {
                let lines: String =
                    rules.iter().map(|one| format!("\t\t{}\n", rule(one, family, &table))).collect();
                format!(
                    "\tchain {name} {{\n\t\ttype nat hook {name} priority {};\n{lines}\t}}\n",
                    priority(name)
                )
            };
            let (to, from) = (chain("prerouting", translate), chain("postrouting", masquerade));
            let _ = writeln!(input, "table {family} {table} {{\n{to}{from}}}");
        }
    }
    Tool { input, ..Tool::new("nft", "-f -") }
}

fn priority(hook: &str) -> &'static str {
    if hook == "prerouting" { "dstnat" } else { "srcnat" }
}

/// Packets of this host and of the target itself are left to the listener: the former do not pass
/// this hook, and the latter would have to leave a bridge by the port at which they arrived.
fn translate(rule: &Rule, family: &str, tag: &str) -> String {
    let Rule { listen, proto, target, .. } = rule;
    let to = match listen.ip() {
        ip if ip.is_unspecified() => "fib daddr type local".to_owned(),
        ip => format!("{family} daddr {ip}"),
    };
    let (proto, port) = (proto.name(), listen.port());
    let from = format!("iifname != \"lo\" {family} saddr != {}", target.ip());
    format!("{from} {to} {proto} dport {port} dnat to {target} comment \"{tag}\"")
}

fn masquerade(rule: &Rule, family: &str, tag: &str) -> String {
    let from = rule.source().map(|source| format!("{family} saddr {source} ")).unwrap_or_default();
    let (ip, port, proto) = (rule.target.ip(), rule.target.port(), rule.proto.name());
    let original = rule.listen.port();
    format!(
        "{from}{family} daddr {ip} {proto} dport {port} ct status dnat ct original proto-dst {original} \
         masquerade comment \"{tag}\""
    )
}

/// Lists the tables of the rules.
pub(super) fn list(id: &str, rules: &[Rule]) -> Result<String, Problem> {
    let mut all = String::new();
    for (family, of_v4) in [("ip", true), ("ip6", false)] {
        if rules.iter().any(|rule| rule.target.is_ipv4() == of_v4) {
            all += &Tool::new("nft", &format!("-s list table {family} {}", tag(id))).run()?;
        }
    }
    Ok(all)
}

pub(super) fn works() -> Result<(), Problem> {
    Tool::new("nft", "list tables").run().map(drop)
}

/// Returns the IDs of publications that have a table.
pub(super) fn ids() -> Vec<String> {
    let tables = Tool::new("nft", "list tables").run().unwrap_or_default();
    let names = tables.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    names.filter_map(|name| id_in(name, "dockline-")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::rule;
    use super::*;
    use crate::publish::ports::Proto;

    #[test]
    fn the_script() {
        let rules = [
            rule("0.0.0.0:8080", Proto::Tcp, "172.17.0.2:80", Some(16)),
            rule("[2001:db8::1]:53", Proto::Udp, "[fd00::2]:5353", None),
        ];
        let wanted = "\
add table ip dockline-00ffab12
delete table ip dockline-00ffab12
add table ip6 dockline-00ffab12
delete table ip6 dockline-00ffab12
table ip dockline-00ffab12 {
\tchain prerouting {
\t\ttype nat hook prerouting priority dstnat;
\t\tiifname != \"lo\" ip saddr != 172.17.0.2 fib daddr type local tcp dport 8080 dnat to 172.17.0.2:80 comment \"dockline-00ffab12\"
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat;
\t\tip saddr 172.17.0.0/16 ip daddr 172.17.0.2 tcp dport 80 ct status dnat ct original proto-dst 8080 \
masquerade comment \"dockline-00ffab12\"
\t}
}
table ip6 dockline-00ffab12 {
\tchain prerouting {
\t\ttype nat hook prerouting priority dstnat;
\t\tiifname != \"lo\" ip6 saddr != fd00::2 ip6 daddr 2001:db8::1 udp dport 53 dnat to [fd00::2]:5353 comment \"dockline-00ffab12\"
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat;
\t\tip6 daddr fd00::2 udp dport 5353 ct status dnat ct original proto-dst 53 masquerade comment \"dockline-00ffab12\"
\t}
}
";
        assert_eq!(replace("00ffab12", &rules).input, wanted);
        assert!(!replace("00ffab12", &[]).input.contains('{'));
    }
}
