#![forbid(unsafe_code)]
//! The end of one direction is not the end of the other; a reset is not an end.

use std::time::Duration;

use super::{BARE, Case, SWITCH, expect_bare, expect_switch};
use crate::selftest::trial::Trial;
use crate::selftest::wire::{Fault, Outcome, Stop, Wire, ensure, pause};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "no-stdin",
        "the client half-closes at once, output comes a second later",
        "docker run prints nothing and exits 0",
        no_stdin,
    ),
    Case::new(
        "stdin-eof",
        "input, its end, then 200 KB of output",
        "echo abc | docker run -i cat prints nothing, or output is cut",
        stdin_eof,
    ),
    Case::new(
        "stdin-eof-200",
        "the same on a hijack without Upgrade",
        "SDKs that close their input never see the result",
        stdin_eof_200,
    ),
    Case::new(
        "eof-with-request",
        "request, input and the end of the input in one go",
        "scripted attach (curl, socat, nc) loses its input or its output",
        eof_with_request,
    ),
    Case::new(
        "output-first",
        "the daemon ends first, 200 KB of input still arrive",
        "docker exec -i breaks its pipe when the command closes its output early",
        output_first,
    ),
    Case::new(
        "daemon-reset",
        "the daemon resets the connection: the client must not see a clean end",
        "a crashed daemon looks like a command that succeeded",
        daemon_reset,
    ),
    Case::new(
        "client-reset",
        "the client vanishes: the daemon must hear of it",
        "sessions of killed clients stay open in the daemon for ever",
        client_reset,
    ),
];

const OUTPUT: usize = 200_000;

fn no_stdin(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, |daemon| {
        daemon.expect_end("the end of the empty input")?;
        pause(Duration::from_secs(1));
        daemon.send(b"late output\n")
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.half_close()?;
    client.expect_last(b"late output\n", "12 bytes of late output")
}

/// Counts the input up to its end, then responds.
fn after_input(daemon: &mut Wire) -> Outcome {
    daemon.expect_last(b"abc\n", "the client's input")?;
    daemon.send_pattern(OUTPUT)
}

fn stdin_eof(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, after_input);
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    send_and_end(&mut client)
}

fn stdin_eof_200(t: &Trial<'_>) -> Outcome {
    t.tunnel(BARE, after_input);
    let mut client = t.connect()?;
    client.send(&t.attach(false))?;
    expect_bare(&client.response_head()?)?;
    send_and_end(&mut client)
}

fn send_and_end(client: &mut Wire) -> Outcome {
    client.send(b"abc\n")?;
    client.half_close()?;
    client.expect_pattern(OUTPUT, "the whole output")?;
    client.expect_end("the end of the output")
}

fn eof_with_request(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, after_input);
    let mut client = t.connect()?;
    client.send(&[&t.attach(true)[..], b"abc\n"].concat())?;
    client.half_close()?;
    expect_switch(&client.response_head()?)?;
    client.expect_pattern(OUTPUT, "the whole output")?;
    client.expect_end("the end of the output")
}

fn output_first(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, |daemon| {
        daemon.send(b"last words")?;
        daemon.half_close()?;
        daemon.expect_pattern(OUTPUT, "the input sent behind the end of the output")?;
        daemon.expect_end("the end of the input")
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.expect_last(b"last words", "the output")?;
    client.send_pattern(OUTPUT)?;
    client.half_close()
}

fn daemon_reset(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, |daemon| {
        daemon.send(b"cut ")?;
        daemon.leave_unread("some input to leave unread")
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.expect(b"cut ", "the output before the reset")?;
    client.send(b"input that the daemon never reads")?;
    match client.stop() {
        (0, Stop::Reset) => Ok(()),
        (0, Stop::End) if !t.can_be_reset() => Ok(()),
        (0, Stop::End) => Err(Fault::new("client: expected a reset, but saw a clean end")),
        (_, stop) => Err(Fault::new(format!("client: expected a reset, but {stop}"))),
    }
}

fn client_reset(t: &Trial<'_>) -> Outcome {
    t.tunnel(SWITCH, |daemon| {
        daemon.expect(b"go", "the word of the client")?;
        daemon.send(b"output that the client never reads")?;
        let (_, stop) = daemon.stop();
        ensure(stop != Stop::Silence, || "daemon: the client is gone, but its connection stays open".into())
    });
    let mut client = t.connect()?;
    client.send(&t.attach(true))?;
    expect_switch(&client.response_head()?)?;
    client.send(b"go")?;
    client.leave_unread("some output to leave unread")
}
