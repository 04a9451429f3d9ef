#![forbid(unsafe_code)]
//! The admin listener: health, metrics, routes, tunnels, certificates and the page that shows them;
//! and the commands that ask it.

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod healthcheck;
mod page;
pub(crate) mod routes;
mod token;
mod tunnels;

use std::sync::{Arc, OnceLock};

use dockline::engine::{Handle, PeerAddr, Route, RouteRequest, Router};
use dockline::h1::FieldLine;
use dockline::proxy::Reply;

pub(crate) use self::certificates::Certificates;
pub(crate) use self::token::Token;
pub(crate) use crate::health::Health;
use crate::metrics::Metrics;
use crate::router::Routing;
use crate::serve::guard::Allowed;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The content type of the Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Replies to all requests itself.
#[derive(Debug)]
pub(crate) struct AdminRouter {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    routing: Arc<Routing>,
    /// The workers, once they run.
    workers: Arc<OnceLock<Vec<Handle>>>,
    certificates: Arc<Certificates>,
    /// Who may change something over TCP.
    token: Option<Token>,
}

impl AdminRouter {
    /// Makes a router that reports these.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        routing: Arc<Routing>,
        workers: Arc<OnceLock<Vec<Handle>>>,
        certificates: Arc<Certificates>,
        token: Option<Token>,
    ) -> Self {
        Self { metrics, health, routing, workers, certificates, token }
    }

    fn workers(&self) -> &[Handle] {
        self.workers.get().map_or(&[], Vec::as_slice)
    }

    fn report_health(&self, query: &[u8]) -> Reply {
        let report = self.health.report();
        let status = if report.is_ready() { 200 } else { 503 };
        if query == b"?verbose" {
            Reply::new(status, JSON, report.json())
        } else {
            Reply::new(status, TEXT, report.text())
        }
    }

    fn kill(&self, request: &RouteRequest<'_>, query: &[u8]) -> Route {
        // Whoever can connect to the Unix socket may do all that the gateway's user may.
        let is_unix = matches!(request.client().peer, PeerAddr::Unix { .. });
        let has_token = || self.token.as_ref().is_some_and(|token| token.is_in(request.head()));
        if !is_unix && !has_token() {
            return Route::Reply(refused(self.token.is_some()));
        }
        // A browser gets to the Unix socket by a port that ssh forwards, on behalf of any page.
        if !Allowed::default().allows(request.head()) && !has_token() {
            let message =
                "a page of another site may not end tunnels without the token of the admin listener";
            return Route::Reply(Reply::error(403, message));
        }
        let query = std::str::from_utf8(query).unwrap_or_default();
        match tunnels::named(query.strip_prefix('?').unwrap_or_default()) {
            Ok(what) => {
                tunnels::kill(self.workers(), &what, request.defer());
                later()
            }
            Err(problem) => Route::Reply(Reply::error(400, &problem.to_string())),
        }
    }
}

fn refused(has_token: bool) -> Reply {
    let reply = Reply::error(
        401,
        match has_token {
            true => "send the token of the admin listener, as in Authorization: Bearer TOKEN",
            false => "over TCP this needs a token: set token_file in [admin], or use the Unix socket",
        },
    );
    match FieldLine::new("WWW-Authenticate", "Bearer") {
        Ok(line) => reply.with_field(line),
        Err(_) => reply,
    }
}

fn later() -> Route {
    Route::Later { time: tunnels::TIME, otherwise: Reply::error(503, "the workers are busy; try again") }
}

/// Returns the refusal of another method.
fn only(methods: &'static str) -> Reply {
    let reply = Reply::new(405, TEXT, format!("use {}\n", methods.replace(", ", " or ")));
    match FieldLine::new("Allow", methods) {
        Ok(line) => reply.with_field(line),
        Err(_) => reply,
    }
}

fn not_found() -> Reply {
    Reply::new(
        404,
        TEXT,
        "not found; use /, /metrics, /healthz, /readyz?verbose, /routes.json, /tunnels.json or /certificates.json\n",
    )
}

impl Router for AdminRouter {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let head = request.head();
        let (method, target) = (head.method(), head.target().path_and_query());
        let query_at = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(query_at);
        let is_read = matches!(method, b"GET" | b"HEAD");
        Route::Reply(match path {
            b"/kill" if method == b"POST" => return self.kill(request, query),
            b"/kill" => only("POST"),
            b"/metrics"
            | b"/healthz"
            | b"/readyz"
            | b"/routes.json"
            | b"/tunnels.json"
            | b"/certificates.json"
                if !is_read =>
            {
                only("GET, HEAD")
            }
            b"/certificates.json" => self.certificates.describe(),
            b"/metrics" => Reply::new(200, METRICS, self.metrics.render()),
            b"/healthz" => Reply::new(200, TEXT, "ok\n"),
            b"/readyz" => self.report_health(query),
            b"/routes.json" => return self.routing.describe(request),
            b"/tunnels.json" => {
                tunnels::list(self.workers(), request.defer());
                return later();
            }
            path if is_read => page::file(path).unwrap_or_else(not_found),
            _ => not_found(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use dockline::engine::{ClientInfo, PeerAddr, Upstream};
    use dockline::h1::{HostPolicy, RequestHeadReader};
    use dockline::limits::Limits;

    use super::*;

    fn ask(admin: &AdminRouter, request: &str) -> Reply {
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
        let (head, _) = reader.read(head.as_bytes()).unwrap().unwrap();
        let client = ClientInfo::new(PeerAddr::Unknown, "admin");
        match admin.route(&RouteRequest::new(&client, &head)) {
            Route::Reply(reply) => reply,
            _ => panic!("sent on"),
        }
    }

    fn admin() -> AdminRouter {
        AdminRouter::new(
            Arc::new(Metrics::new()),
            Arc::new(Health::new()),
            Routing::start().unwrap(),
            Arc::default(),
            Arc::default(),
            None,
        )
    }

    #[test]
    fn alive_in_every_state() {
        for target in ["/healthz", "/healthz?x", "http://x/healthz"] {
            for method in ["GET", "HEAD"] {
                assert_eq!(ask(&admin(), &format!("{method} {target}")), Reply::new(200, TEXT, "ok\n"));
            }
        }
    }

    #[test]
    fn ready_or_not() {
        let admin = admin();
        let refused = io::ErrorKind::ConnectionRefused.into();
        assert_eq!(ask(&admin, "GET /readyz"), Reply::new(503, TEXT, "not ready: still starting\n"));
        admin.health.set_ready(true);
        assert_eq!(ask(&admin, "GET /readyz"), Reply::new(200, TEXT, "ready\n"));
        let checks = "{\"ready\":true,\"started\":true,\"draining\":false,\"upstreams\":[]}\n";
        assert_eq!(ask(&admin, "GET /readyz?verbose"), Reply::new(200, JSON, checks));
        let upstream = Arc::new(Upstream::new("docker", Vec::new()));
        admin.health.set_upstreams(vec![Arc::clone(&upstream)]);
        admin.health.report_upstream(&upstream, Err(&refused));
        assert_eq!(ask(&admin, "HEAD /readyz").status().as_u16(), 503);
        assert_eq!(ask(&admin, "GET /readyz?verbose").status().as_u16(), 503);
        admin.health.report_upstream(&upstream, Ok(()));
        admin.health.set_draining();
        assert_eq!(ask(&admin, "GET /readyz").status().as_u16(), 503);
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let reply = ask(&admin(), "GET /metrics");
        assert_eq!(reply.status().as_u16(), 200);
        let shown = format!("{reply:?}");
        assert!(shown.contains(METRICS) && shown.contains("dockline_build_info"), "{shown}");
    }

    #[test]
    fn a_page_of_another_site_ends_nothing_by_a_forwarded_socket() {
        let admin = admin();
        let peer = PeerAddr::Unix { pid: 1, uid: 0, gid: 0 };
        let ask = |fields: &str| {
            let head = format!("POST /kill?tunnel=1 HTTP/1.1\r\n{fields}\r\n");
            let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
            let (head, _) = reader.read(head.as_bytes()).unwrap().unwrap();
            admin.route(&RouteRequest::new(&ClientInfo::new(peer, "admin"), &head))
        };
        for fields in [
            "Host: localhost:8080\r\nOrigin: https://evil.example\r\n",
            "Host: localhost:8080\r\nSec-Fetch-Site: cross-site\r\n",
            "Host: evil.example\r\n",
        ] {
            assert!(matches!(ask(fields), Route::Reply(reply) if reply.status().as_u16() == 403), "{fields}");
        }
        let own = "Host: localhost:8080\r\nOrigin: http://localhost:8080\r\nSec-Fetch-Site: same-origin\r\n";
        for fields in [own, "Host: localhost\r\n"] {
            assert!(matches!(ask(fields), Route::Later { .. }), "{fields}");
        }
    }

    #[test]
    fn without_tls_there_are_no_certificates() {
        let reply = ask(&admin(), "GET /certificates.json");
        assert_eq!(reply, Reply::new(200, JSON, "{\"certificates\":[]}"));
    }

    #[test]
    fn the_page_is_served() {
        for target in ["/", "/page.css", "/page.js?x"] {
            assert_eq!(ask(&admin(), &format!("GET {target}")).status().as_u16(), 200, "{target}");
            assert_eq!(ask(&admin(), &format!("POST {target}")).status().as_u16(), 404, "{target}");
        }
    }

    #[test]
    fn other_methods_and_paths_are_refused() {
        for path in ["/metrics", "/healthz", "/readyz", "/certificates.json"] {
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
                let reply = ask(&admin(), &format!("{method} {path}"));
                assert_eq!(reply.status().as_u16(), 405, "{method} {path}");
                assert!(format!("{reply:?}").contains("GET, HEAD"));
            }
        }
        for target in
            ["/index.html", "/metrics/", "/Metrics", "/healthz/..", "//healthz", "/_ping", "/%6detrics"]
        {
            assert_eq!(ask(&admin(), &format!("GET {target}")).status().as_u16(), 404, "{target}");
        }
        assert_eq!(ask(&admin(), "OPTIONS *").status().as_u16(), 404);
    }
}
