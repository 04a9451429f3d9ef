#![forbid(unsafe_code)]
//! Connections that become raw streams, with bytes in both directions.

use std::thread;
use std::time::Duration;

use super::{BARE, Case, SWITCH, expect_bare, expect_switch, response};
use crate::selftest::daemon::Then;
use crate::selftest::trial::{EXEC_BODY, Trial, take_over};
use crate::selftest::wire::{Fault, Outcome, Wire, ensure, now};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "attach-101",
        "attach with Upgrade: 101, then bytes both ways",
        "docker run and docker attach fail: unable to upgrade to tcp",
        attach_101,
    ),
    Case::new(
        "exec-101",
        "exec start with Upgrade: its JSON body, 101, then bytes both ways",
        "docker exec fails: unable to upgrade to tcp",
        exec_101,
    ),
    Case::new(
        "attach-200",
        "attach without Upgrade: a bare 200, then bytes both ways",
        "docker-py and other SDKs hang on attach, or find chunk sizes in the output",
        attach_200,
    ),
    Case::new(
        "exec-200",
        "exec start without Upgrade: a bare 200, then bytes both ways",
        "SDKs hang on exec with input, or find chunk sizes in the output",
        exec_200,
    ),
    Case::new(
        "multiplexed",
        "the multiplexed-stream type of Docker 23 and later",
        "docker run without -t shows nothing with a newer daemon",
        multiplexed,
    ),
    Case::new(
        "coalesced-101",
        "the 101 and 70 KB of output in one segment",
        "the first output of docker run or of a build session is lost",
        coalesced,
    ),
    Case::new(
        "split-101",
        "the daemon's 101 arrives byte by byte",
        "docker exec fails now and then, because dockerd writes its head in pieces",
        split_head,
    ),
    Case::new(
        "ping-pong",
        "100 round trips of one byte within 2 seconds",
        "typing in docker exec -it lags",
        ping_pong,
    ),
    Case::new("bulk", "20 MB each way at once", "docker run -i < backup.tar stalls or corrupts data", bulk),
    Case::new(
        "parallel",
        "40 tunnels at once, each with its own output",
        "many docker run or exec at the same time (CI) lose output",
        parallel,
    ),
    Case::new(
        "kept-connection",
        "a hijack as the third request of a connection",
        "SDKs that reuse connections fail on attach and exec",
        kept_connection,
    ),
    Case::new(
        "websocket",
        "attach/ws: WebSocket frames both ways",
        "browser consoles (Portainer and others) stay empty",
        websocket,
    ),
    Case::new(
        "session-h2c",
        "/session: the daemon speaks HTTP/2 first, right behind its 101",
        "docker build with BuildKit fails or hangs at once",
        session,
    ),
    Case::new(
        "grpc-h2c",
        "/grpc: HTTP/2 settings behind the 101",
        "docker buildx build fails: unable to upgrade to h2c",
        grpc,
    ),
    Case::new(
        "resize",
        "a request on another connection while a tunnel is open",
        "terminals keep a wrong size, docker ps hangs while a client is attached",
        resize,
    ),
];

/// Sends one word in each direction, then half-closes the client's.
fn converse(client: &mut Wire) -> Outcome {
    client.expect(b"prompt> ", "the first output")?;
    client.send(b"input\n")?;
    client.expect(b"output\n", "the response to the input")?;
    client.half_close()?;
    client.expect_end("the end of the output")
}

/// Plays the daemon's part of it.
fn shell(daemon: &mut Wire) -> Outcome {
    daemon.send(b"prompt> ")?;
    daemon.expect(b"input\n", "the client's input")?;
    daemon.send(b"output\n")?;
    daemon.expect_end("the end of the input")
}

fn attach_101(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, shell);
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    converse(&mut client)
}

fn exec_101(t: &Trial<'_>) -> Outcome {
    serve_exec(t, SWITCH);
    let mut client = t.connect()?;
    client.send(&t.exec(true))?;
    expect_switch(&client.response_head()?)?;
    converse(&mut client)
}

/// Checks that the body is exactly the options of the exec; anything after it is input.
fn serve_exec(t: &Trial<'_>, response: &'static [u8]) {
    t.serve(move |daemon, head| {
        let body = take_over(daemon, head, response)?;
        ensure(body == EXEC_BODY.as_bytes(), || {
            format!("daemon: expected the JSON body, but got {:?}", String::from_utf8_lossy(&body))
        })?;
        shell(daemon)?;
        Ok(Then::Close)
    });
}

fn attach_200(t: &Trial<'_>) -> Outcome {
    t.tunnel(BARE, shell);
    let mut client = t.connect()?;
    client.send(&t.attach(false))?;
    expect_bare(&client.response_head()?)?;
    converse(&mut client)
}

fn exec_200(t: &Trial<'_>) -> Outcome {
    serve_exec(t, BARE);
    let mut client = t.connect()?;
    client.send(&t.exec(false))?;
    expect_bare(&client.response_head()?)?;
    converse(&mut client)
}

fn multiplexed(t: &Trial<'_>) -> Outcome {
    let head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
        Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    t.tunnel(head, |daemon| {
        daemon.expect(b"input", "the client's input")?;
        daemon.send(b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n")
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.send(b"input")?;
    client.expect_last(b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n", "two frames, unchanged")
}

fn coalesced(t: &Trial<'_>) -> Outcome {
    const OUTPUT: usize = 70_000;
    let output = vec![b'#'; OUTPUT];
    t.tunnel(&[SWITCH, &output].concat(), |daemon| daemon.expect_end("the end of the input"));
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.expect(&output, "70000 bytes of output")?;
    client.half_close()?;
    client.expect_end("the end of the output")
}

fn split_head(t: &Trial<'_>) -> Outcome {
    let (first, rest) = SWITCH.split_at("HTTP/1.1 101".len());
    t.tunnel(first, move |daemon| {
        for byte in rest {
            daemon.send(&[*byte])?;
        }
        shell(daemon)
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    converse(&mut client)
}

fn ping_pong(t: &Trial<'_>) -> Outcome {
    const TRIPS: u8 = 100;
    const LIMIT: Duration = Duration::from_secs(2);
    t.tunnel(SWITCH, |daemon| {
        for key in 0..TRIPS {
            daemon.expect(&[key], "the next key")?;
            daemon.send(&[key])?;
        }
        Ok(())
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    let start = now();
    for key in 0..TRIPS {
        client.send(&[key])?;
        client.expect(&[key], "the echo of one byte")?;
    }
    let took = start.elapsed();
    ensure(took < LIMIT, || {
        format!("client: expected {TRIPS} round trips in {LIMIT:?}, but they took {took:.1?}")
    })
}

fn bulk(t: &Trial<'_>) -> Outcome {
    const SIZE: usize = 20_000_000;
    t.tunnel(SWITCH, |daemon| {
        daemon.exchange(SIZE, "20 MB of input")?;
        daemon.half_close()?;
        daemon.expect_end("the end of the input")
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.exchange(SIZE, "20 MB of output")?;
    client.half_close()?;
    client.expect_end("the end of the output")
}

fn parallel(t: &Trial<'_>) -> Outcome {
    const COUNT: usize = 40;
    t.tunnel(SWITCH, |daemon| {
        let word = daemon.take(4, "four bytes of input")?;
        daemon.expect_end("the end of the input")?;
        daemon.send(&word.repeat(5000))
    });
    let one = |number: usize| -> Outcome {
        let word = format!("{number:04}");
        let mut client = t.connect()?;
        client.send(&t.attach(true))?;
        expect_switch(&client.response_head()?)?;
        client.send(word.as_bytes())?;
        client.half_close()?;
        client.expect_last(word.repeat(5000).as_bytes(), "20000 bytes of its own output")
    };
    let faults: Vec<Fault> = thread::scope(|scope| {
        let clients: Vec<_> = (0..COUNT).map(|number| scope.spawn(move || one(number))).collect();
        let lost = |_| Err(Fault::new("a client's thread panicked"));
        clients.into_iter().filter_map(|client| client.join().unwrap_or_else(lost).err()).collect()
    });
    match faults.first() {
        None => Ok(()),
        Some(first) => {
            Err(Fault { at: first.at, text: format!("{} of {COUNT} failed; {}", faults.len(), first.text) })
        }
    }
}

fn kept_connection(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        if head.method() == "GET" {
            daemon.send(&response("200 OK", "{}"))?;
            return Ok(Then::Keep);
        }
        take_over(daemon, head, SWITCH)?;
        shell(daemon)?;
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    for _ in 0..2 {
        client.send(&t.get("/v1.43/containers/{}/json"))?;
        client.response()?.0.expect_status(200)?;
    }
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    converse(&mut client)
}

fn websocket(t: &Trial<'_>) -> Outcome {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const FRAME: &[u8] = b"\x82\x83\x01\x02\x03\x04\x00\xff\r";
    t.tunnel(head, |daemon| {
        daemon.expect(FRAME, "the client's frame, unchanged")?;
        daemon.send(b"\x82\x02ok")
    });
    let mut client = t.connect()?;
    let fields = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send(&t.request("GET /v1.43/containers/{}/attach/ws?stream=1", fields, ""))?;
    let head = client.response_head()?;
    head.expect_status(101)?;
    ensure(head.get("sec-websocket-accept").is_some(), || "client: Sec-WebSocket-Accept is missing".into())?;
    client.send(FRAME)?;
    client.expect(b"\x82\x02ok", "the daemon's frame, unchanged")
}

const H2C: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fn session(t: &Trial<'_>) -> Outcome {
    const METHODS: usize = 12;
    t.serve(|daemon, head| {
        let methods = head.all("x-docker-expose-session-grpc-method").len();
        ensure(methods == METHODS, || {
            format!("daemon: expected {METHODS} repeated fields, but got {methods}")
        })?;
        take_over(daemon, head, &[H2C, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat())?;
        daemon.expect(SETTINGS, "the client's settings")?;
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    let mut fields = t.target("Connection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: {}\r\n");
    for n in 0..METHODS {
        fields += &format!("X-Docker-Expose-Session-Grpc-Method: /moby.filesync.v1.FileSync/M{n}\r\n");
    }
    client.send(&t.request("POST /session", &fields, ""))?;
    client.response_head()?.expect_status(101)?;
    client.expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the daemon's HTTP/2 preface")?;
    client.expect(SETTINGS, "the daemon's settings")?;
    client.send(SETTINGS)?;
    client.expect_end("the end of the session")
}

fn grpc(t: &Trial<'_>) -> Outcome {
    t.tunnel(&[H2C, SETTINGS].concat(), |daemon| {
        daemon.expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the client's HTTP/2 preface")?;
        daemon.send(SETTINGS)
    });
    let mut client = t.connect()?;
    let fields = t.target("Connection: Upgrade\r\nUpgrade: h2c\r\nX-Selftest: {}\r\n");
    client.send(&t.request("POST /grpc", &fields, ""))?;
    client.response_head()?.expect_status(101)?;
    client.expect(SETTINGS, "the daemon's settings")?;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    client.expect_last(SETTINGS, "the daemon's response")
}

fn resize(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        if head.target().contains("/resize") {
            daemon.send(&response("200 OK", ""))?;
            return Ok(Then::Keep);
        }
        take_over(daemon, head, SWITCH)?;
        shell(daemon)?;
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    let mut other = t.connect()?;
    other.send(&t.request("POST /v1.43/exec/{}/resize?h=40&w=120", "Content-Length: 0\r\n", ""))?;
    other.response()?.0.expect_status(200)?;
    converse(&mut client)
}
