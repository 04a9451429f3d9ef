#![forbid(unsafe_code)]
//! Ordinary requests, including the unusual ones of Docker.

use super::{Case, response};
use crate::selftest::daemon::Then;
use crate::selftest::trial::Trial;
use crate::selftest::wire::{Outcome, ensure};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "keep-alive",
        "HEAD /_ping, then GET, on one connection",
        "every docker command is slower, or hangs after its ping",
        keep_alive,
    ),
    Case::new(
        "pipelined",
        "two requests in one segment: two responses, in order",
        "clients that pipeline get the wrong response",
        pipelined,
    ),
    Case::new(
        "interim",
        "an interim 103 before the response",
        "an interim response is taken for the final one",
        interim,
    ),
    Case::new(
        "no-content",
        "204 and 304 have no body",
        "docker start hangs, or docker stop of a stopped container does",
        no_content,
    ),
    Case::new(
        "trailers",
        "a chunked response with a trailer",
        "the response is cut, or the next one is garbage",
        trailers,
    ),
    Case::new(
        "empty-host",
        "an empty Host, as Go clients send it on /session and /grpc",
        "docker build with BuildKit fails: 400 Bad Request",
        empty_host,
    ),
    Case::new(
        "path-unchanged",
        "%2F, // and a colon in a path arrive as they were sent",
        "image names with a registry or a slash are not found",
        path_unchanged,
    ),
    Case::new(
        "long-target",
        "8 KiB of build arguments in the request line",
        "docker build with many --build-arg fails: 414",
        long_target,
    ),
    Case::new(
        "large-field",
        "32 KiB of registry credentials in one field",
        "docker build with many registry logins fails: 400 or 431",
        large_field,
    ),
];

fn keep_alive(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        let whole = response("200 OK", "{\"Id\":1}");
        let without_body = whole.len() - "{\"Id\":1}".len();
        daemon.send(if head.method() == "HEAD" { &whole[..without_body] } else { &whole })?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&t.request("HEAD /_ping?{}", "", ""))?;
    client.response_head()?.expect_status(200)?;
    client.send(&t.get("/v1.43/containers/{}/json"))?;
    let (head, body) = client.response()?;
    head.expect_status(200)?;
    ensure(body == b"{\"Id\":1}", || "client: the body of the second response is wrong".into())
}

fn pipelined(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        daemon
            .send(&response("200 OK", if head.target().ends_with("/json") { "first" } else { "second" }))?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&[t.get("/v1.43/containers/{}/json"), t.get("/v1.43/containers/{}/top")].concat())?;
    for expected in ["first", "second"] {
        let (_, body) = client.response()?;
        ensure(body == expected.as_bytes(), || {
            format!("client: expected the {expected} response, but got another")
        })?;
    }
    Ok(())
}

fn interim(t: &Trial<'_>) -> Outcome {
    t.ordinary(
        [b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n".to_vec(), response("200 OK", "final")].concat(),
    );
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/containers/{}/json"))?;
    let (head, body) = client.response()?;
    head.expect_status(200)?;
    ensure(body == b"final", || "client: the body of the final response is wrong".into())
}

fn no_content(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        daemon.body(head)?;
        let status = if head.target().ends_with("/start") { "204 No Content" } else { "304 Not Modified" };
        daemon.send(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    for (operation, status) in [("start", 204), ("stop", 304), ("start", 204)] {
        let line = format!("POST /v1.43/containers/{{}}/{operation}");
        client.send(&t.request(&line, "Content-Length: 0\r\n", ""))?;
        client.response_head()?.expect_status(status)?;
    }
    Ok(())
}

fn trailers(t: &Trial<'_>) -> Outcome {
    t.ordinary(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n"
            .to_vec(),
    );
    let mut client = t.connect()?;
    for _ in 0..2 {
        client.send(&t.request(
            "GET /v1.43/containers/{}/archive",
            "TE: trailers\r\nConnection: TE\r\n",
            "",
        ))?;
        let (head, body) = client.response()?;
        head.expect_status(200)?;
        ensure(body == b"body", || "client: the body is wrong".into())?;
    }
    Ok(())
}

fn empty_host(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", "{}"));
    let mut client = t.connect()?;
    let line = t.target("GET /v1.43/containers/{}/json");
    client.send(format!("{line} HTTP/1.1\r\nHost: \r\n\r\n").as_bytes())?;
    client.response()?.0.expect_status(200)
}

fn path_unchanged(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", "{}"));
    for path in ["/v1.43/containers/a%2F{}/json", "/v1.43/images/r/{}:tag/json", "/v1.43/containers//{}"] {
        let mut client = t.connect()?;
        client.send(&t.get(path))?;
        client.response()?.0.expect_status(200)?;
        let sent = t.target(path);
        let seen = t.seen();
        let got = seen.last().map(|seen| seen.head.target()).unwrap_or_default();
        ensure(got == sent, || format!("daemon: expected {sent}, but got {got}"))?;
    }
    Ok(())
}

fn long_target(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", "{}"));
    let mut client = t.connect()?;
    let line = format!("POST /v1.43/build?t={{}}&buildargs={}", "a".repeat(8192));
    client.send(&t.request(&line, "Content-Length: 0\r\n", ""))?;
    client.response()?.0.expect_status(200)
}

fn large_field(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        daemon.body(head)?;
        let length = head.get("x-registry-config").unwrap_or_default().len();
        ensure(length == 32_768, || format!("daemon: expected 32768 bytes of the field, but got {length}"))?;
        daemon.send(&response("200 OK", "{}"))?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    let fields = format!("X-Registry-Config: {}\r\nContent-Length: 0\r\n", "A".repeat(32_768));
    client.send(&t.request("POST /v1.43/build?t={}", &fields, ""))?;
    client.response()?.0.expect_status(200)
}
