#![forbid(unsafe_code)]
//! Long responses and requests of ordinary HTTP: each part is forwarded when it arrives.

use std::thread;
use std::time::Duration;

use super::{Case, response};
use crate::selftest::daemon::{Flag, Then};
use crate::selftest::trial::Trial;
use crate::selftest::wire::{Fault, Outcome, ensure, pause};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "logs-follow",
        "logs -f: a line at once, a second of silence, another line",
        "docker logs -f shows lines late or stops",
        logs_follow,
    ),
    Case::new(
        "events",
        "ten events, each only after the one before was received",
        "docker events and everything that watches them lag behind",
        events,
    ),
    Case::new(
        "wait-head",
        "the head of wait before its body",
        "docker run hangs: it starts the container only after that head",
        wait_head,
    ),
    Case::new(
        "upload-streamed",
        "the daemon has the first part of an upload before the last is sent",
        "docker load and docker build fill the proxy's disk and start late",
        upload,
    ),
    Case::new(
        "build-duplex",
        "output of a build while its context is still being sent",
        "docker build hangs with Docker 29 (it responds before the request ends)",
        build_duplex,
    ),
    Case::new(
        "early-answer",
        "a refusal in the middle of an 8 MB upload",
        "docker cp and docker load say broken pipe instead of the reason",
        early_response,
    ),
    Case::new(
        "expect-continue",
        "Expect: 100-continue, the body only after the 100",
        "curl -T and some SDKs wait a second per upload or hang",
        expect_continue,
    ),
    Case::new(
        "cut-chunked",
        "the daemon dies within a chunked response: no last chunk",
        "docker save and docker logs succeed with half of the data",
        cut_chunked,
    ),
    Case::new(
        "cut-length",
        "the daemon dies within a response with a length: the client sees it",
        "docker cp succeeds with half of the data",
        cut_length,
    ),
];

const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

fn missed(side: &str, what: &str) -> Fault {
    Fault::new(format!("{side}: expected {what}, but it did not come in time"))
}

fn logs_follow(t: &Trial<'_>) -> Outcome {
    let received = Flag::default();
    let (sees, deadline) = (received.clone(), t.deadline);
    t.serve(move |daemon, _| {
        daemon.send(CHUNKED)?;
        daemon.send(b"5\r\nline\n\r\n")?;
        ensure(sees.wait(deadline), || "daemon: the first line has not reached the client in time".into())?;
        pause(Duration::from_secs(1));
        daemon.send(b"6\r\nline2\n\r\n0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/containers/{}/logs?follow=1&stdout=1"))?;
    let head = client.response_head()?;
    ensure(head.is_chunked(), || "client: the response is no longer chunked".into())?;
    let first = client.chunk()?.unwrap_or_default();
    ensure(first == b"line\n", || "client: expected the first line in a chunk".into())?;
    received.raise();
    let rest = client.body(&head)?;
    ensure(rest == b"line2\n", || "client: the second line is missing".into())
}

fn events(t: &Trial<'_>) -> Outcome {
    const COUNT: usize = 10;
    let received: [Flag; COUNT] = std::array::from_fn(|_| Flag::default());
    let (sees, deadline) = (received.clone(), t.deadline);
    t.serve(move |daemon, _| {
        daemon.send(CHUNKED)?;
        for (n, flag) in sees.iter().enumerate() {
            daemon.send(format!("8\r\n{{\"n\":{n}}}\n\r\n").as_bytes())?;
            ensure(flag.wait(deadline), || format!("daemon: event {n} has not reached the client in time"))?;
        }
        daemon.send(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/events?filters={}"))?;
    let head = client.response_head()?;
    ensure(head.is_chunked(), || "client: the response is no longer chunked".into())?;
    for flag in &received {
        client.chunk()?.ok_or_else(|| missed("client", "an event"))?;
        flag.raise();
    }
    client.body(&head).map(drop)
}

fn wait_head(t: &Trial<'_>) -> Outcome {
    let started = Flag::default();
    let (sees, deadline) = (started.clone(), t.deadline);
    t.serve(move |daemon, head| {
        daemon.body(head)?;
        daemon.send(CHUNKED)?;
        ensure(sees.wait(deadline), || "daemon: the head has not reached the client in time".into())?;
        daemon.send(b"11\r\n{\"StatusCode\":0}\n\r\n0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    let line = "POST /v1.43/containers/{}/wait?condition=next-exit";
    client.send(&t.request(line, "Content-Length: 0\r\n", ""))?;
    let head = client.response_head()?;
    started.raise();
    let body = client.body(&head)?;
    ensure(body == b"{\"StatusCode\":0}\n", || "client: the body of wait is wrong".into())
}

const UPLOAD: &str = "Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n";

fn upload(t: &Trial<'_>) -> Outcome {
    let arrived = Flag::default();
    let raise = arrived.clone();
    t.serve(move |daemon, head| {
        let first = daemon.chunk()?.unwrap_or_default();
        ensure(first == b"first part", || "daemon: the first part is wrong".into())?;
        raise.raise();
        daemon.body(head)?;
        daemon.send(&response("200 OK", "{}"))?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&t.request("POST /v1.43/images/load?quiet={}", UPLOAD, ""))?;
    client.send(b"a\r\nfirst part\r\n")?;
    ensure(arrived.wait(t.deadline), || {
        "client: expected the daemon to receive the first part, but the proxy keeps it".into()
    })?;
    client.send(b"9\r\nlast part\r\n0\r\n\r\n")?;
    client.response()?.0.expect_status(200)
}

fn build_duplex(t: &Trial<'_>) -> Outcome {
    const STEPS: usize = 5;
    t.serve(|daemon, _| {
        daemon.send(CHUNKED)?;
        for _ in 0..STEPS {
            daemon.chunk()?.ok_or_else(|| missed("daemon", "the next part of the context"))?;
            daemon.send(b"5\r\nstep\n\r\n")?;
        }
        ensure(daemon.chunk()?.is_none(), || "daemon: the context did not end".into())?;
        daemon.send(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    client.send(&t.request("POST /v1.43/build?t={}", UPLOAD, ""))?;
    let head = client.response_head()?;
    for _ in 0..STEPS {
        client.send(b"7\r\ncontext\r\n")?;
        client.chunk()?.ok_or_else(|| missed("client", "the output of a step"))?;
    }
    client.send(b"0\r\n\r\n")?;
    client.body(&head).map(drop)
}

fn early_response(t: &Trial<'_>) -> Outcome {
    const SIZE: usize = 8_000_000;
    const READ: usize = 65_536;
    t.serve(|daemon, _| {
        daemon.expect_pattern(READ, "the beginning of the upload")?;
        let body = "{\"message\":\"no such directory\"}";
        daemon.send(&response("404 Not Found", body))?;
        daemon.stop();
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    let fields = format!("Content-Type: application/x-tar\r\nContent-Length: {SIZE}\r\n");
    client.send(&t.request("PUT /v1.43/containers/{}/archive?path=/missing", &fields, ""))?;
    let mut upload = client.writer()?;
    thread::scope(|scope| {
        // The proxy may refuse the rest.
        scope.spawn(move || upload.send_pattern(SIZE));
        client.response()?.0.expect_status(404)
    })
}

fn expect_continue(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        if head.get("expect").is_some() {
            daemon.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = daemon.body(head)?;
        ensure(body == b"body", || "daemon: the body is wrong".into())?;
        daemon.send(&response("200 OK", "{}"))?;
        Ok(Then::Keep)
    });
    let mut client = t.connect()?;
    let fields = "Expect: 100-continue\r\nContent-Length: 4\r\n";
    client.send(&t.request("PUT /v1.43/containers/{}/archive?path=/", fields, ""))?;
    client.head("100 Continue")?.expect_status(100)?;
    client.send(b"body")?;
    client.response()?.0.expect_status(200)
}

fn cut_chunked(t: &Trial<'_>) -> Outcome {
    t.closing([CHUNKED, b"5\r\nfirst\r\n"].concat());
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/images/{}/get"))?;
    complete(client.response().is_ok())
}

fn cut_length(t: &Trial<'_>) -> Outcome {
    t.closing(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst".to_vec());
    let mut client = t.connect()?;
    client.send(&t.get("/v1.43/containers/{}/archive?path=/"))?;
    complete(client.response().is_ok_and(|(head, _)| head.status() == 200))
}

fn complete(looks_complete: bool) -> Outcome {
    ensure(!looks_complete, || "client: expected an unclean end, but the cut response looks complete".into())
}
