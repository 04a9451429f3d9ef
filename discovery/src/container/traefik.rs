#![forbid(unsafe_code)]
//! Labels of Traefik, as far as they mean the same here: hosts and a path prefix in the rule of a
//! router, port and scheme of a service. What else there is is reported. A router whose requests
//! Traefik would change or refuse (by middlewares) is not routed.

use std::collections::BTreeMap;

use super::inspect::Inspect;
use super::rule;
use super::wanted::{self, Port, Request, VALUE_MAX, Wanted};
use crate::record::excerpt;

/// How Traefik's labels say no, in any case.
const FALSE: [&str; 3] = ["false", "f", "0"];

#[derive(Default)]
struct Labels<'i> {
    routers: BTreeMap<String, Router<'i>>,
    services: BTreeMap<String, Service>,
    /// Labels that are not read.
    others: Vec<&'i str>,
    problems: Vec<String>,
}

#[derive(Default)]
struct Router<'i> {
    rule: Option<&'i str>,
    service: Option<&'i str>,
    has_middlewares: bool,
}

#[derive(Default)]
struct Service {
    port: Port,
    tls: bool,
    is_wrong: bool,
}

/// Returns what the labels ask for.
pub(super) fn read(inspect: &Inspect) -> Request {
    let mut labels = Labels::default();
    for (full, value) in &inspect.config.labels {
        // Traefik does not distinguish the case of keys.
        let key = full.to_ascii_lowercase();
        let Some(key) = key.strip_prefix("traefik.") else { continue };
        let value = value.trim();
        if key != "enable" {
            labels.take(full, key, value);
        } else if FALSE.contains(&&*value.to_ascii_lowercase()) {
            return Request::default();
        }
    }
    labels.into_request()
}

impl<'i> Labels<'i> {
    fn take(&mut self, full: &'i str, key: &str, value: &'i str) {
        if let Some((name, key)) = key.strip_prefix("http.routers.").and_then(|rest| rest.split_once('.')) {
            let router = self.routers.entry(name.to_owned()).or_default();
            match key {
                "rule" => router.rule = Some(value),
                "service" => router.service = Some(value),
                "middlewares" => router.has_middlewares = true,
                _ => self.others.push(full),
            }
            return;
        }
        let service = key.strip_prefix("http.services.").and_then(|rest| rest.split_once('.'));
        let Some((name, key)) = service else {
            self.others.push(full);
            return;
        };
        let service = self.services.entry(name.to_owned()).or_default();
        let read = match key {
            "loadbalancer.server.port" => wanted::port(value).map(|port| service.port = port),
            "loadbalancer.server.scheme" => wanted::scheme(value).map(|tls| service.tls = tls),
            _ => {
                self.others.push(full);
                return;
            }
        };
        if let Err(error) = read {
            service.is_wrong = true;
            self.problems.push(format!("`{}={}`: {error}", excerpt(full), excerpt(value)));
        }
    }

    fn into_request(mut self) -> Request {
        let mut routes = Vec::new();
        for (name, router) in &self.routers {
            match self.route(router) {
                Ok(found) => routes.extend(found),
                Err(error) => self.problems.push(format!("Traefik's router `{}`: {error}", excerpt(name))),
            }
        }
        if let [first, rest @ ..] = &self.others[..] {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
            self.problems.push(format!("`{}`{others} of Traefik's labels are not read", excerpt(first)));
        }
        Request { routes, problems: self.problems, ..Request::default() }
    }

    fn route(&self, router: &Router<'_>) -> Result<Vec<Wanted>, String> {
        if router.has_middlewares {
            return Err("its middlewares are not read, so it is not routed: use labels of dockline".into());
        }
        let rule = router.rule.ok_or("it has no rule")?;
        if rule.len() > VALUE_MAX {
            return Err(format!("its rule is longer than {VALUE_MAX} bytes"));
        }
        let services =
            || self.services.keys().map(|name| excerpt(name)).take(3).collect::<Vec<_>>().join(", ");
        let service = match (router.service, self.services.len()) {
            (Some(name), _) => {
                let service = self.services.get(&name.to_ascii_lowercase());
                Some(service.ok_or_else(|| format!("no label describes its service `{}`", excerpt(name)))?)
            }
            (None, 0 | 1) => self.services.values().next(),
            (None, _) => return Err(format!("set its service to one of {}", services())),
        };
        let (port, tls) = match service {
            Some(service) if service.is_wrong => return Ok(Vec::new()),
            Some(service) => (service.port, service.tls),
            None => (Port::default(), false),
        };
        let routes = rule::parse(rule)?.into_iter();
        Ok(routes.map(|(hosts, path)| Wanted { hosts, path, port, tls, ..Wanted::default() }).collect())
    }
}
