#![forbid(unsafe_code)]
//! Switches that the daemon refuses, or that were not requested: the connection stays HTTP.

use super::{BARE, Case, response};
use crate::selftest::daemon::Then;
use crate::selftest::trial::Trial;
use crate::selftest::wire::{Outcome, ensure};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "refused-attach",
        "attach refused with 404, its text without a length",
        "docker attach to a missing container hangs or shows no reason",
        refused_attach,
    ),
    Case::new(
        "refused-exec",
        "exec start refused with 409, then another request on the connection",
        "after docker exec on a paused container the client hangs",
        refused_exec,
    ),
    Case::new(
        "refused-not-pooled",
        "a connection on which a switch was refused serves no other client",
        "another user's request lands in a half-switched connection",
        refused_not_pooled,
    )
    .proxy_only(),
    Case::new(
        "detached-exec",
        "exec start -d: 200 without a body, then another request",
        "docker exec -d hangs",
        detached_exec,
    ),
    Case::new(
        "unasked-101",
        "a 101 that the client did not ask for is refused",
        "a broken daemon gets a raw channel to a client that waits for HTTP",
        unasked_101,
    )
    .proxy_only(),
    Case::new(
        "logs-not-hijacked",
        "logs carry the stream type of a hijack and are ordinary all the same",
        "docker logs shows garbage, hangs, or breaks the next request",
        logs,
    ),
    Case::new(
        "unframed-logs",
        "logs that end with the daemon's connection",
        "docker logs is cut or hangs with old clients and daemons",
        unframed_logs,
    ),
];

fn refused_attach(t: &Trial<'_>) -> Outcome {
    const TEXT: &[u8] = b"No such container: selftest\r\n";
    let head = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
    t.closing([head, TEXT].concat());
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    let (head, body) = client.response()?;
    head.expect_status(404)?;
    ensure(body == TEXT, || format!("client: expected the daemon's reason, but got {} bytes", body.len()))
}

fn refused_exec(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        daemon.body(head)?;
        let refused = head.method() == "POST";
        daemon
            .send(&response(if refused { "409 Conflict" } else { "200 OK" }, "{\"message\":\"paused\"}"))?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&t.exec(true))?;
    client.response()?.0.expect_status(409)?;
    client.send(&t.get("/v1.43/exec/{}/json"))?;
    client.response()?.0.expect_status(200)
}

fn refused_not_pooled(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("404 Not Found", "{}"));
    let mut first = t.connect()?;
    first.send(&t.exec(true))?;
    first.response()?.0.expect_status(404)?;
    let mut second = t.connect()?;
    second.send(&t.get("/v1.43/containers/{}/json"))?;
    second.response()?;
    let seen = t.seen();
    let shared = seen.iter().filter(|other| other.connection == seen[0].connection).count() > 1;
    ensure(!shared, || "daemon: the connection of the refused exec was used for another client".into())
}

fn detached_exec(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", ""));
    let mut client = t.connect()?;
    client.send(&t.exec(true))?;
    client.response()?.0.expect_status(200)?;
    client.send(&t.get("/v1.43/exec/{}/json"))?;
    client.response()?.0.expect_status(200)
}

fn unasked_101(t: &Trial<'_>) -> Outcome {
    const LEAK: &[u8] = b"not for this client";
    t.serve(|daemon, head| {
        daemon.body(head)?;
        // The proxy may close before all of it is sent.
        drop(daemon.send(&[super::SWITCH, LEAK].concat()));
        daemon.stop();
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/containers/{}/json"))?;
    let head = client.response_head()?;
    ensure(head.status() >= 500, || format!("client: expected 502, but got {}", head.status()))
}

fn logs(t: &Trial<'_>) -> Outcome {
    t.ordinary(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
            .to_vec(),
    );
    let mut client = t.connect()?;
    let fields = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    for fields in [fields, ""] {
        client.send(&t.request("GET /v1.43/containers/{}/logs?stdout=1", fields, ""))?;
        let (head, body) = client.response()?;
        head.expect_status(200)?;
        ensure(body == b"firstsecond", || {
            format!("client: expected 11 bytes of log, but got {}", body.len())
        })?;
    }
    Ok(())
}

fn unframed_logs(t: &Trial<'_>) -> Outcome {
    t.closing([BARE, b"log lines\n"].concat());
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/containers/{}/logs?stdout=1"))?;
    let (head, body) = client.response()?;
    head.expect_status(200)?;
    ensure(body == b"log lines\n", || format!("client: expected 10 bytes of log, but got {}", body.len()))
}
