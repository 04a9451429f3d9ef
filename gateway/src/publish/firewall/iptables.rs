#![forbid(unsafe_code)]
//! Rules of iptables: for each publication a chain each for the two kinds of address translation and one that lets the
//! packets through.

use super::{Rule, Tool, id_in, tag};

const PREFIX: &str = "DOCKLINE-";
/// The chain that Docker leaves to others, and asks before its own.
const DOCKER_USER: &str = "DOCKER-USER";
/// The programs, and whether each is for IPv4.
const FAMILIES: [(&str, bool); 2] = [("iptables", true), ("ip6tables", false)];

/// The chains of a publication.
struct Chains {
    /// In `nat`, from `PREROUTING`: where to.
    to: String,
    /// In `nat`, from `POSTROUTING`: whence.
    from: String,
    /// In `filter`.
    pass: String,
}

impl Chains {
    fn of(id: &str) -> Self {
        let name = format!("{PREFIX}{id}");
        Self { from: format!("{name}-M"), pass: name.clone(), to: name }
    }
}

fn tool(program: &'static str, table: &str, rest: &str) -> Tool {
    // Other programs may hold the lock, but not for long.
    Tool::new(program, &format!("-w 10 -t {table} {rest}"))
}

/// Replaces the rules of a publication.
pub(super) fn replace(id: &str, rules: &[Rule]) -> Result<(), String> {
    for (program, of_v4) in FAMILIES {
        let rules = of_family(rules, of_v4);
        let (nat, filter) = match (listing(program, "nat"), listing(program, "filter")) {
            (Ok(nat), Ok(filter)) => (nat, filter),
            // There is nothing of ours where nothing can be read.
            (nat, filter) if !rules.is_empty() => (nat?, filter?),
            _ => continue,
        };
        for tool in removal(program, id, &nat, &filter) {
            tool.run()?;
        }
        for tool in installation(program, id, &rules, parent(&filter)) {
            if let Err(error) = tool.run() {
                // Half of them would be worse than none.
                undo(program, id);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn undo(program: &'static str, id: &str) {
    if let (Ok(nat), Ok(filter)) = (listing(program, "nat"), listing(program, "filter")) {
        for tool in removal(program, id, &nat, &filter) {
            let _ = tool.run();
        }
    }
}

/// The commands that put rules in place where there are none, and those that remove them again.
pub(super) fn rehearse(id: &str, rules: &[Rule]) -> Result<(Vec<Tool>, Vec<Tool>), String> {
    let (mut install, mut remove) = (Vec::new(), Vec::new());
    for (program, of_v4) in FAMILIES {
        let rules = of_family(rules, of_v4);
        if rules.is_empty() {
            continue;
        }
        let filter = listing(program, "filter")?;
        let tools = installation(program, id, &rules, parent(&filter));
        // What the programs would list.
        let listed = |table: &str| -> String {
            let in_table = tools.iter().filter(|tool| tool.arguments[3] == table);
            in_table.map(|tool| tool.arguments[4..].join(" ").replacen("-I", "-A", 1) + "\n").collect()
        };
        remove.extend(removal(program, id, &listed("nat"), &listed("filter")));
        install.extend(tools);
    }
    Ok((install, remove))
}

fn of_family(rules: &[Rule], v4: bool) -> Vec<&Rule> {
    rules.iter().filter(|rule| rule.target.is_ipv4() == v4).collect()
}

fn listing(program: &'static str, table: &str) -> Result<String, String> {
    tool(program, table, "-S").run()
}

/// The chain from which packets are let through.
fn parent(filter: &str) -> &'static str {
    if filter.lines().any(|line| line == format!("-N {DOCKER_USER}")) { DOCKER_USER } else { "FORWARD" }
}

/// The target's own packets are left to the listener, as by [`nft`](super::nft).
///
/// The chains come first and the ways to them last, so that no packet meets half of them.
fn installation(program: &'static str, id: &str, rules: &[&Rule], parent: &str) -> Vec<Tool> {
    if rules.is_empty() {
        return Vec::new();
    }
    let Chains { to, from, pass } = Chains::of(id);
    let mark = format!("-m comment --comment {}", tag(id));
    let nat = |rest: String| tool(program, "nat", &rest);
    let filter = |rest: String| tool(program, "filter", &rest);
    let mut tools = vec![nat(format!("-N {to}")), nat(format!("-N {from}")), filter(format!("-N {pass}"))];
    for rule in rules {
        let (proto, port, original) = (rule.proto.name(), rule.target.port(), rule.listen.port());
        let (ip, target) = (rule.target.ip(), rule.target);
        let listen = match rule.listen.ip() {
            any if any.is_unspecified() => "-m addrtype --dst-type LOCAL".to_owned(),
            one => format!("-d {one}"),
        };
        let source = rule.source().map(|source| format!("-s {source} ")).unwrap_or_default();
        let flow = format!("-m conntrack --ctorigdstport {original}");
        tools.extend([
            nat(format!("-A {to} ! -i lo ! -s {ip} {listen} -p {proto} --dport {original} {mark} -j DNAT --to-destination {target}")),
            nat(format!("-A {from} {source}-d {ip} -p {proto} --dport {port} {flow} --ctstate DNAT {mark} -j MASQUERADE")),
            filter(format!("-A {pass} -d {ip} -p {proto} --dport {port} {flow} --ctstate DNAT {mark} -j ACCEPT")),
            filter(format!("-A {pass} -s {ip} -p {proto} --sport {port} {flow} --ctstate ESTABLISHED {mark} -j ACCEPT")),
        ]);
    }
    tools.extend([
        filter(format!("-I {parent} {mark} -j {pass}")),
        nat(format!("-I POSTROUTING {mark} -j {from}")),
        nat(format!("-I PREROUTING {mark} -j {to}")),
    ]);
    tools
}

/// What it takes to remove all that a listing (`-S`) has of a publication.
fn removal(program: &'static str, id: &str, nat: &str, filter: &str) -> Vec<Tool> {
    let Chains { to, from, pass } = Chains::of(id);
    let mut tools = Vec::new();
    for (table, listing, chains) in [("nat", nat, &[&to, &from][..]), ("filter", filter, &[&pass][..])] {
        for chain in chains {
            let way = format!(" -j {chain}");
            for line in listing.lines().filter(|line| line.starts_with("-A ") && line.ends_with(&way)) {
                tools.push(tool(program, table, &line.replacen("-A", "-D", 1).replace('"', "")));
            }
        }
        for chain in chains {
            if listing.lines().any(|line| line == format!("-N {chain}")) {
                tools.push(tool(program, table, &format!("-F {chain}")));
                tools.push(tool(program, table, &format!("-X {chain}")));
            }
        }
    }
    tools
}

/// All lines that are about a publication, and where packets are let through.
pub(super) fn list(id: &str, rules: &[Rule]) -> Result<String, String> {
    let name = Chains::of(id).to;
    let mut all = String::new();
    for (program, of_v4) in FAMILIES {
        if !of_family(rules, of_v4).is_empty() {
            let (nat, filter) = (listing(program, "nat")?, listing(program, "filter")?);
            let lines = nat.lines().chain(filter.lines()).filter(|line| line.contains(&name));
            lines.chain([parent(&filter)]).for_each(|line| all += &format!("{line}\n"));
        }
    }
    Ok(all)
}

/// Whether forwarded packets are dropped unless a rule of iptables lets them through.
pub(super) fn drops_forwarded() -> Result<bool, String> {
    let filter = listing("iptables", "filter")?;
    Ok(parent(&filter) == DOCKER_USER || filter.lines().any(|line| line == "-P FORWARD DROP"))
}

/// The publications that have chains.
pub(super) fn ids() -> Vec<String> {
    let mut found = Vec::new();
    for (program, _) in FAMILIES {
        for table in ["nat", "filter"] {
            let listing = listing(program, table).unwrap_or_default();
            let chains = listing.lines().filter_map(|line| line.strip_prefix("-N "));
            found.extend(chains.filter_map(|chain| id_in(chain, PREFIX)).map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::rule;
    use super::*;
    use crate::publish::ports::Proto;

    #[test]
    fn all_that_is_installed_is_removed() {
        let rule = rule("0.0.0.0:8080", Proto::Tcp, "172.17.0.2:80", Some(16));
        let tools = installation("iptables", "00ffab12", &[&rule], "FORWARD");
        let shown: Vec<String> = tools.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown[3],
            "iptables -w 10 -t nat -A DOCKLINE-00ffab12 ! -i lo ! -s 172.17.0.2 -m addrtype --dst-type LOCAL -p tcp --dport 8080 \
             -m comment --comment dockline-00ffab12 -j DNAT --to-destination 172.17.0.2:80"
        );
        assert_eq!(
            shown[4],
            "iptables -w 10 -t nat -A DOCKLINE-00ffab12-M -s 172.17.0.0/16 -d 172.17.0.2 -p tcp --dport 80 -m conntrack \
             --ctorigdstport 8080 --ctstate DNAT -m comment --comment dockline-00ffab12 -j MASQUERADE"
        );
        let nat = "-N DOCKER\n-N DOCKLINE-00ffab12\n-N DOCKLINE-00ffab12-M\n-N DOCKLINE-00ffab13\n\
            -A PREROUTING -m comment --comment \"dockline-00ffab12\" -j DOCKLINE-00ffab12\n\
            -A PREROUTING -j DOCKLINE-00ffab13\n-A PREROUTING -j DOCKER\n\
            -A POSTROUTING -j DOCKLINE-00ffab12-M\n-A DOCKLINE-00ffab12 -p tcp -j DNAT\n";
        let removal: Vec<String> = removal("iptables", "00ffab12", nat, "-N DOCKLINE-00ffab12\n")
            .iter()
            .map(ToString::to_string)
            .collect();
        let wanted = [
            "nat -D PREROUTING -m comment --comment dockline-00ffab12 -j DOCKLINE-00ffab12",
            "nat -D POSTROUTING -j DOCKLINE-00ffab12-M",
            "nat -F DOCKLINE-00ffab12",
            "nat -X DOCKLINE-00ffab12",
            "nat -F DOCKLINE-00ffab12-M",
            "nat -X DOCKLINE-00ffab12-M",
            "filter -F DOCKLINE-00ffab12",
            "filter -X DOCKLINE-00ffab12",
        ];
        assert_eq!(removal, wanted.map(|rest| format!("iptables -w 10 -t {rest}")));
    }

    #[test]
    fn docker_leaves_a_chain_to_others() {
        assert_eq!(parent("-P FORWARD DROP\n-N DOCKER-USER\n"), "DOCKER-USER");
        assert_eq!(parent("-P FORWARD DROP\n-N DOCKER-USER2\n"), "FORWARD");
    }
}
