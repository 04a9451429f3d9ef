#![forbid(unsafe_code)]
//! Rules of iptables: each publication has a chain for either kind of address translation, and one
//! that accepts the packets.
//!
//! `FORWARD` jumps to the last one after all rules of the operator, in `DOCKER-USER` or in
//! `FORWARD` itself, and before those of Docker, which drop what Docker has not published: the
//! place of the ports that Docker publishes. This overrules the policy of the chain, never a rule
//! of the operator.

use dockline::untrusted::Untrusted;

use super::{Rule, Tool, id_in, tag};
use crate::problem::Problem;

const PREFIX: &str = "DOCKLINE-";
/// The chain that Docker leaves to the operator, and enters before its own.
const DOCKER_USER: &str = "DOCKER-USER";
/// Prefix of the names of Docker's chains.
const DOCKER: &str = "DOCKER";
/// The programs, and whether they are for IPv4.
const FAMILIES: [(&str, bool); 2] = [("iptables", true), ("ip6tables", false)];

/// The chains of a publication.
struct Chains {
    /// In `nat`, from `PREROUTING`: translates destinations.
    to: String,
    /// In `nat`, from `POSTROUTING`: translates sources.
    from: String,
    /// In `filter`: accepts.
    pass: String,
}

impl Chains {
    fn of(id: &str) -> Self {
        let name = format!("{PREFIX}{id}");
        Self { from: format!("{name}-M"), pass: name.clone(), to: name }
    }
}

fn tool(program: &'static str, table: &str, rest: &str) -> Tool {
    // Other programs hold the lock for short times only.
    Tool::new(program, &format!("-w 10 -t {table} {rest}"))
}

/// Replaces the rules of a publication.
pub(super) fn replace(id: &str, rules: &[Rule]) -> Result<(), Problem> {
    for (program, of_v4) in FAMILIES {
        let rules = of_family(rules, of_v4);
        let (nat, filter) = match (listing(program, "nat"), listing(program, "filter")) {
            (Ok(nat), Ok(filter)) => (nat, filter),
            // Where nothing can be listed, there are no rules of ours.
            (nat, filter) if !rules.is_empty() => (nat?, filter?),
            _ => continue,
        };
        for tool in removal(program, id, &nat, &filter) {
            tool.run()?;
        }
        if let Some(line) = rules.first().and_then(|_| dead_end(&filter)).map(Untrusted::new) {
            log::warn!(
                "{program}: `{line}` precedes the rules of this publication: connections need a rule before it, \
                 in {DOCKER_USER} or FORWARD"
            );
        }
        for tool in installation(program, id, &rules, &filter) {
            if let Err(error) = tool.run() {
                // A part of the rules would be worse than none.
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

/// Returns the commands that install rules where there are none, and those that remove them.
pub(super) fn rehearse(id: &str, rules: &[Rule]) -> Result<(Vec<Tool>, Vec<Tool>), Problem> {
    let (mut install, mut remove) = (Vec::new(), Vec::new());
    for (program, of_v4) in FAMILIES {
        let rules = of_family(rules, of_v4);
        if rules.is_empty() {
            continue;
        }
        let filter = listing(program, "filter")?;
        let tools = installation(program, id, &rules, &filter);
        // As the programs would list it.
        let listed = |table: &str| -> String {
            let in_table = tools.iter().filter(|tool| tool.arguments[3] == table);
            in_table.map(|tool| as_listed(&tool.arguments[4..]) + "\n").collect()
        };
        remove.extend(removal(program, id, &listed("nat"), &listed("filter")));
        install.extend(tools);
    }
    Ok((install, remove))
}

fn of_family(rules: &[Rule], v4: bool) -> Vec<&Rule> {
    rules.iter().filter(|rule| rule.target.is_ipv4() == v4).collect()
}

fn listing(program: &'static str, table: &str) -> Result<String, Problem> {
    tool(program, table, "-S").run()
}

/// Returns what a command adds in the form in which `-S` lists it.
fn as_listed(words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["-I", chain, place, ref rest @ ..] if place.parse::<usize>().is_ok() => {
            format!("-A {chain} {}", rest.join(" "))
        }
        ["-I", ref rest @ ..] => format!("-A {}", rest.join(" ")),
        _ => words.join(" "),
    }
}

/// Returns the rules of `FORWARD`.
fn forward(filter: &str) -> Vec<&str> {
    filter.lines().filter(|line| line.starts_with("-A FORWARD ")).collect()
}

/// Returns the target of a rule: the word after the last `-j` or `-g`.
fn target(rule: &str) -> &str {
    let at = [" -j ", " -g "].iter().filter_map(|way| rule.rfind(way)).max();
    at.and_then(|at| rule[at + 4..].split(' ').next()).unwrap_or_default()
}

/// Returns how many rules of `FORWARD` precede those of a publication: all up to the first one of
/// Docker after the operator's chain.
fn place(forward: &[&str]) -> usize {
    let behind = forward.iter().rposition(|rule| target(rule) == DOCKER_USER).map_or(0, |at| at + 1);
    let own = forward[behind..].iter().position(|rule| target(rule).starts_with(DOCKER));
    own.map_or(forward.len(), |at| behind + at)
}

/// Returns the command that inserts a rule into `FORWARD` after so many of its rules.
fn insertion(before: usize, length: usize) -> String {
    if before == length { "-A FORWARD".to_owned() } else { format!("-I FORWARD {}", before + 1) }
}

/// Returns the commands that move the jump from `FORWARD` to a publication's rules to its proper
/// place; `None` if it is there, or if there is no jump. Rules of other publications do not count,
/// because they are for other packets.
fn relocation(filter: &str, pass: &str) -> Option<[String; 2]> {
    let forward = forward(filter);
    let old = forward.iter().position(|rule| target(rule) == pass)?;
    let theirs: Vec<usize> =
        (0..forward.len()).filter(|at| !target(forward[*at]).starts_with(PREFIX)).collect();
    let wanted = place(&theirs.iter().map(|at| forward[*at]).collect::<Vec<_>>());
    if theirs.iter().filter(|at| **at < old).count() == wanted {
        return None;
    }
    // Before the rule that it must precede, or last.
    let new = theirs.get(wanted).copied().unwrap_or(forward.len());
    let old = old + 1 + usize::from(new <= old);
    Some([insertion(new, forward.len()), format!("-D FORWARD {old}")])
}

/// Moves the jump to the rules of a publication to its proper place if other programs have added
/// rules around it, and returns whether it was moved. At no time is only a part of the rules
/// effective.
pub(super) fn relocate(id: &str, rules: &[Rule]) -> Result<bool, Problem> {
    let (pass, mut moved) = (Chains::of(id).pass, false);
    for (program, of_v4) in FAMILIES {
        if of_family(rules, of_v4).is_empty() {
            continue;
        }
        if let Some([insertion, deletion]) = relocation(&listing(program, "filter")?, &pass) {
            let way = format!("{insertion} -m comment --comment {} -j {pass}", tag(id));
            tool(program, "filter", &way).run()?;
            tool(program, "filter", &deletion).run()?;
            moved = true;
        }
    }
    Ok(moved)
}

/// Returns a rule of the operator that no packet passes.
fn dead_end(filter: &str) -> Option<&str> {
    let forward = forward(filter);
    forward[..place(&forward)]
        .iter()
        .find(|rule| rule.starts_with("-A FORWARD -j ") && matches!(target(rule), "DROP" | "REJECT"))
        .copied()
}

/// Packets of the target itself are left to the listener, as by [`nft`](super::nft).
///
/// The chains come first and the jumps to them last, so that at no time a part of the rules is
/// effective.
fn installation(program: &'static str, id: &str, rules: &[&Rule], filter: &str) -> Vec<Tool> {
    if rules.is_empty() {
        return Vec::new();
    }
    let Chains { to, from, pass } = Chains::of(id);
    // Rules of an older set are removed by then.
    let forward: Vec<&str> = forward(filter).into_iter().filter(|rule| target(rule) != pass).collect();
    let way = insertion(place(&forward), forward.len());
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
        filter(format!("{way} {mark} -j {pass}")),
        nat(format!("-I POSTROUTING {mark} -j {from}")),
        nat(format!("-I PREROUTING {mark} -j {to}")),
    ]);
    tools
}

/// Returns the commands that remove everything of a publication from a listing (`-S`).
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

/// Lists the rules of a publication.
pub(super) fn list(id: &str, rules: &[Rule]) -> Result<String, Problem> {
    let name = Chains::of(id).to;
    let mut all = String::new();
    for (program, of_v4) in FAMILIES {
        if !of_family(rules, of_v4).is_empty() {
            let (nat, filter) = (listing(program, "nat")?, listing(program, "filter")?);
            let lines = nat.lines().chain(filter.lines()).filter(|line| line.contains(&name));
            lines.for_each(|line| all += &format!("{line}\n"));
        }
    }
    Ok(all)
}

/// Returns whether forwarded packets of either family are dropped unless a rule of iptables accepts
/// them.
pub(super) fn drops_forwarded() -> Result<bool, Problem> {
    let guards = |filter: &str| {
        filter.lines().any(|line| line == "-P FORWARD DROP" || line.strip_prefix("-N ") == Some(DOCKER_USER))
    };
    let [v4, v6] = FAMILIES.map(|(program, _)| listing(program, "filter").map(|filter| guards(&filter)));
    // A machine may lack one of the families.
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(v4 || v6),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(error), Err(_)) => Err(error),
    }
}

/// Returns the IDs of publications that have chains.
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
        let tools = installation("iptables", "00ffab12", &[&rule], "-P FORWARD DROP\n");
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

    /// Returns `FORWARD` as `-S` lists it.
    fn chain(targets: &str) -> String {
        targets.split_whitespace().map(|one| format!("-A FORWARD -i eth0 -j {one}\n")).collect()
    }

    #[test]
    fn behind_the_operators_rules_and_before_dockers() {
        for (targets, before) in [
            ("", 0),
            ("DOCKER-USER", 1),
            ("DOCKER-USER DOCKER-FORWARD DROP", 1),
            ("ACCEPT DOCKER-USER DOCKER-ISOLATION-STAGE-1 ACCEPT DOCKER ACCEPT", 2),
            ("DOCKER-USER DROP DOCKER-INGRESS DOCKER-ISOLATION-STAGE-1", 2),
            // The chain may be there without a way to it, or behind Docker's.
            ("DROP DOCKER-FORWARD", 1),
            ("DOCKER-FORWARD DOCKER-USER DROP", 3),
            // Without Docker the operator's rules are all that there is.
            ("ACCEPT DROP", 2),
        ] {
            let filter = format!("-P FORWARD DROP\n-N DOCKER-USER\n{}", chain(targets));
            assert_eq!(place(&forward(&filter)), before, "{targets}");
            let rule = rule("0.0.0.0:8080", Proto::Tcp, "172.17.0.2:80", None);
            let tools = installation("iptables", "00ffab12", &[&rule], &filter);
            let way = tools
                .iter()
                .map(|tool| tool.arguments[4..].join(" "))
                .find(|words| words.contains(" FORWARD "));
            let wanted = match before {
                last if last == forward(&filter).len() => "-A FORWARD -m".to_owned(),
                before => format!("-I FORWARD {} -m", before + 1),
            };
            assert!(way.as_ref().is_some_and(|way| way.starts_with(&wanted)), "{targets}: {way:?}");
        }
    }

    #[test]
    fn a_rule_does_what_comes_last_in_it() {
        for (rule, wanted) in [
            ("-A FORWARD -j DROP", "DROP"),
            ("-A FORWARD -g DOCKER-USER", "DOCKER-USER"),
            (
                "-A FORWARD -m comment --comment \"was -j DOCKER-USER\" -j REJECT --reject-with tcp-reset",
                "REJECT",
            ),
            ("-A FORWARD -s 192.0.2.2/32", ""),
        ] {
            assert_eq!(target(rule), wanted);
        }
    }

    #[test]
    fn what_others_have_overtaken_is_put_in_its_place() {
        const OURS: &str = "DOCKLINE-00ffab12";
        for (targets, wanted) in [
            ("DOCKER-USER O DOCKER-FORWARD", None),
            ("DOCKER-USER DOCKLINE-00ffab13 O DOCKER-FORWARD", None),
            ("DROP DOCKLINE-00ffab13 O DOCKLINE-00ffab14", None),
            ("DOCKER-USER DOCKER-FORWARD", None),
            ("DOCKER-USER DOCKER-FORWARD O", Some("DOCKER-USER O DOCKER-FORWARD")),
            ("DOCKER-USER DOCKER-FORWARD DROP O DROP", Some("DOCKER-USER O DOCKER-FORWARD DROP DROP")),
            ("O DOCKER-USER DOCKER-FORWARD", Some("DOCKER-USER O DOCKER-FORWARD")),
            ("O DROP", Some("DROP O")),
            ("O DROP DOCKLINE-00ffab13 DROP", Some("DROP DOCKLINE-00ffab13 DROP O")),
            ("DROP DOCKER-FORWARD O ACCEPT", Some("DROP O DOCKER-FORWARD ACCEPT")),
        ] {
            let words: Vec<&str> =
                targets.split(' ').map(|word| if word == "O" { OURS } else { word }).collect();
            let relocation = relocation(&chain(&words.join(" ")), OURS);
            let after = relocation.map(|commands| {
                // What iptables makes of them.
                let mut rules = words.clone();
                for command in commands {
                    let number = command.split(' ').nth(2).map(|number| number.parse::<usize>().unwrap() - 1);
                    match (&command[..2], number) {
                        ("-I", Some(at)) => rules.insert(at, OURS),
                        ("-D", Some(at)) => assert_eq!(rules.remove(at), OURS, "{targets}"),
                        _ => rules.push(OURS),
                    }
                }
                rules.join(" ").replace(OURS, "O")
            });
            assert_eq!(after.as_deref(), wanted, "{targets}");
        }
    }

    #[test]
    fn a_rule_that_no_packet_passes_is_found() {
        let drop = "-A FORWARD -j REJECT --reject-with icmp-port-unreachable";
        assert_eq!(dead_end(&format!("-A FORWARD -s 192.0.2.2/32 -j DROP\n{drop}\n")), Some(drop));
        assert_eq!(
            dead_end("-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD\n-A FORWARD -j DROP\n"),
            None
        );
    }
}
