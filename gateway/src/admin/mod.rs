#![forbid(unsafe_code)]
//! The admin listener: `/metrics`, `/healthz`, `/readyz`, and the command that asks it.

pub(crate) mod client;
pub(crate) mod healthcheck;
mod page;

use std::sync::Arc;

use dockline::engine::{Route, RouteRequest, Router};
use dockline::h1::FieldLine;
use dockline::proxy::Reply;

pub(crate) use crate::health::Health;
use crate::metrics::Metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The content type of the Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Replies to all requests itself.
#[derive(Debug)]
pub(crate) struct AdminRouter {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl AdminRouter {
    /// Makes a router that reports these.
    pub(crate) fn new(metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        Self { metrics, health }
    }

    fn reply(&self, method: &[u8], target: &[u8]) -> Reply {
        let query_at = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(query_at);
        match (path, method) {
            (b"/metrics" | b"/healthz" | b"/readyz", method) if method != b"GET" && method != b"HEAD" => {
                let reply = Reply::new(405, TEXT, "use GET or HEAD\n");
                match FieldLine::new("Allow", "GET, HEAD") {
                    Ok(line) => reply.with_field(line),
                    Err(_) => reply,
                }
            }
            (b"/metrics", _) => Reply::new(200, METRICS, self.metrics.render()),
            (b"/healthz", _) => Reply::new(200, TEXT, "ok\n"),
            (b"/readyz", _) => {
                let report = self.health.report();
                let status = if report.is_ready() { 200 } else { 503 };
                if query == b"?verbose" {
                    Reply::new(status, JSON, report.json())
                } else {
                    Reply::new(status, TEXT, report.text())
                }
            }
            (path, b"GET" | b"HEAD") => page::file(path).unwrap_or_else(not_found),
            _ => not_found(),
        }
    }
}

fn not_found() -> Reply {
    Reply::new(404, TEXT, "not found; use /, /metrics, /healthz or /readyz?verbose\n")
}

impl Router for AdminRouter {
    fn route(&self, request: &RouteRequest<'_>) -> Route {
        let request = request.head();
        Route::Reply(self.reply(request.method(), request.target().path_and_query()))
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
        AdminRouter::new(Arc::new(Metrics::new()), Arc::new(Health::new()))
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
        admin.health.set_upstreams(vec![Arc::new(Upstream::new("docker", Vec::new()))]);
        admin.health.report_upstream(&Arc::from("docker"), Err(&refused));
        assert_eq!(ask(&admin, "HEAD /readyz").status().as_u16(), 503);
        assert_eq!(ask(&admin, "GET /readyz?verbose").status().as_u16(), 503);
        admin.health.report_upstream(&Arc::from("docker"), Ok(()));
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
    fn the_page_is_served() {
        for target in ["/", "/page.css", "/page.js?x"] {
            assert_eq!(ask(&admin(), &format!("GET {target}")).status().as_u16(), 200, "{target}");
            assert_eq!(ask(&admin(), &format!("POST {target}")).status().as_u16(), 404, "{target}");
        }
    }

    #[test]
    fn other_methods_and_paths_are_refused() {
        for path in ["/metrics", "/healthz", "/readyz"] {
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
