#![forbid(unsafe_code)]
//! Rules of Traefik's routers that are made of `Host` and `PathPrefix`, `&&`, `||` and parentheses.

use dockline::routes::{HostPattern, PathPrefix};

use super::wanted;
use crate::record::excerpt;

/// How deep parentheses may be.
const DEPTH_MAX: usize = 8;
/// Alternatives of a rule at most.
const ALTERNATIVES_MAX: usize = 64;

/// One way to match: on one of these hosts, and below this path. What is missing does not matter.
#[derive(Clone, Default)]
struct Alternative {
    hosts: Option<Vec<HostPattern>>,
    path: Option<PathPrefix>,
}

/// Returns the hosts and paths that a rule matches.
///
/// # Errors
/// If it has anything else in it, or matches any host.
pub(super) fn parse(rule: &str) -> Result<Vec<(Vec<HostPattern>, PathPrefix)>, String> {
    let mut parser = Parser { rest: rule };
    let alternatives = parser.any(0)?;
    if !parser.rest.is_empty() {
        return Err(parser.unexpected());
    }
    let no_host = || "its rule has no `Host`: a route needs one".to_owned();
    alternatives
        .into_iter()
        .map(|one| Ok((one.hosts.ok_or_else(no_host)?, one.path.unwrap_or_default())))
        .collect()
}

struct Parser<'r> {
    rest: &'r str,
}

impl<'r> Parser<'r> {
    fn unexpected(&self) -> String {
        match self.rest {
            "" => "its rule is not whole".into(),
            rest => format!(
                "only `Host`, `PathPrefix`, `&&` and `||` are read of a rule, and not `{}`",
                excerpt(rest)
            ),
        }
    }

    /// Takes a token, and the space before and behind it.
    fn take(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn any(&mut self, depth: usize) -> Result<Vec<Alternative>, String> {
        let mut any = self.all(depth)?;
        while self.take("||") {
            any.extend(self.all(depth)?);
            bounded(any.len())?;
        }
        Ok(any)
    }

    fn all(&mut self, depth: usize) -> Result<Vec<Alternative>, String> {
        let mut all = self.one(depth)?;
        while self.take("&&") {
            let more = self.one(depth)?;
            bounded(all.len() * more.len())?;
            let pairs = all.iter().flat_map(|left| more.iter().map(move |right| (left, right)));
            all = pairs.map(|(left, right)| both(left, right)).collect::<Result<_, _>>()?;
        }
        Ok(all)
    }

    fn one(&mut self, depth: usize) -> Result<Vec<Alternative>, String> {
        if depth < DEPTH_MAX && self.take("(") {
            let inner = self.any(depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let mut one = Alternative::default();
        if self.take("Host(") {
            let mut hosts = Vec::new();
            loop {
                hosts.extend(wanted::hosts(self.text()?)?);
                if !self.take(",") {
                    break;
                }
            }
            one.hosts = Some(hosts);
        } else if self.take("PathPrefix(") {
            one.path = Some(wanted::path(self.text()?)?);
        } else {
            return Err(self.unexpected());
        }
        self.expect(")")?;
        Ok(vec![one])
    }

    /// Takes a text in backticks or quotes.
    fn text(&mut self) -> Result<&'r str, String> {
        let quote = ["`", "\""].into_iter().find(|quote| self.rest.starts_with(quote));
        let text = quote.and_then(|quote| self.rest[1..].split_once(quote));
        let (text, rest) = text.ok_or_else(|| self.unexpected())?;
        self.rest = rest;
        Ok(text)
    }
}

fn both(left: &Alternative, right: &Alternative) -> Result<Alternative, String> {
    if (left.hosts.is_some() && right.hosts.is_some()) || (left.path.is_some() && right.path.is_some()) {
        return Err("its rule has `&&` between two of `Host` or two of `PathPrefix`".into());
    }
    let (left, right) = (left.clone(), right.clone());
    Ok(Alternative { hosts: left.hosts.or(right.hosts), path: left.path.or(right.path) })
}

fn bounded(alternatives: usize) -> Result<(), String> {
    if alternatives > ALTERNATIVES_MAX {
        return Err(format!("its rule has more than {ALTERNATIVES_MAX} alternatives"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rule: &str) -> Result<String, String> {
        let route = |(hosts, path): (Vec<HostPattern>, PathPrefix)| {
            let hosts: Vec<_> = hosts.iter().map(HostPattern::to_string).collect();
            format!("{}{path}", hosts.join(","))
        };
        parse(rule).map(|routes| routes.into_iter().map(route).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn hosts_and_path_prefixes_are_read() {
        for (rule, wanted) in [
            ("Host(`a.example`)", "a.example/"),
            ("Host(\"a.example\")", "a.example/"),
            ("Host(`a.example`,`b.example`, `c.example`)", "a.example,b.example,c.example/"),
            ("Host(`a.example`) && PathPrefix(`/p`)", "a.example/p"),
            ("PathPrefix(`/p`)&&Host(`a.example`)", "a.example/p"),
            (" ( Host(`a.example`) || Host(`b.example`) ) && PathPrefix(`/p/`) ", "a.example/p b.example/p"),
            ("Host(`a.example`) || Host(`b.example`) && PathPrefix(`/p`)", "a.example/ b.example/p"),
            ("Host(`a.example`) && (PathPrefix(`/p`) || PathPrefix(`/q`))", "a.example/p a.example/q"),
        ] {
            assert_eq!(shown(rule).as_deref(), Ok(wanted), "{rule}");
        }
    }

    #[test]
    fn all_else_is_refused() {
        for (rule, error) in [
            ("", "not whole"),
            ("Host(`a.example`", "not whole"),
            ("Host(`a.example`) &&", "not whole"),
            ("Host()", "not `)`"),
            ("Host(a.example)", "not `a.example)`"),
            ("Host(`a b`)", "`a b`: a host name has"),
            ("HostRegexp(`.*`)", "not `HostRegexp"),
            ("!Host(`a.example`)", "not `!Host"),
            ("Host(`a.example`) && Headers(`X`, `y`)", "not `Headers"),
            ("Host(`a.example`) Host(`b.example`)", "not `Host(`b"),
            ("PathPrefix(`/p`)", "has no `Host`"),
            ("Host(`a.example`) || PathPrefix(`/p`)", "has no `Host`"),
            ("Host(`a.example`) && Host(`b.example`)", "between two of `Host`"),
            ("Host(`a.example`) && PathPrefix(`p`)", "a path begins with"),
        ] {
            let found = shown(rule).unwrap_err();
            assert!(found.contains(error), "{rule}: {found}");
        }
    }

    #[test]
    fn depth_and_alternatives_are_bounded() {
        let nested = |depth| format!("{}Host(`a`){}", "(".repeat(depth), ")".repeat(depth));
        for (depth, is_read) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
            assert_eq!(parse(&nested(depth)).is_ok(), is_read, "{depth}");
        }
        let any = |count| vec!["Host(`a`)"; count].join(" || ");
        for (count, is_read) in
            [(ALTERNATIVES_MAX - 1, true), (ALTERNATIVES_MAX, true), (ALTERNATIVES_MAX + 1, false)]
        {
            assert_eq!(parse(&any(count)).is_ok(), is_read, "{count}");
        }
        let paths = |count| vec!["PathPrefix(`/p`)"; count].join(" || ");
        let product = |count| format!("({}) && ({})", any(8), paths(count));
        assert_eq!(parse(&product(8)).map(|all| all.len()), Ok(64));
        assert!(parse(&product(9)).is_err());
    }
}
