#![forbid(unsafe_code)]
//! Data of the client before the daemon has responded. A daemon discards what arrives too early.

use std::time::Duration;

use super::{Case, SWITCH, WHILE, expect_switch, response};
use crate::selftest::daemon::Then;
use crate::selftest::trial::{EXEC_BODY, Trial, take_over};
use crate::selftest::wire::{Outcome, ensure, pause};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "early-stdin",
        "input right behind the request reaches the daemon once, after its 101",
        "the first input of a scripted docker run -i or exec -i is lost",
        early_stdin,
    )
    .proxy_only(),
    Case::new(
        "early-refused",
        "input behind a refused exec is never run as a request",
        "bytes written as input run as an API call: a DELETE in it deletes",
        early_refused,
    )
    .proxy_only(),
    Case::new(
        "late-body",
        "the last byte of the exec's JSON comes late: still sent in one piece",
        "the command finds a stray line feed in its input (Docker before 23)",
        late_body,
    )
    .proxy_only(),
];

fn early_stdin(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        daemon.quiet(WHILE, "nothing before its 101")?;
        take_over(daemon, head, SWITCH)?;
        daemon.expect_last(b"early input\n", "the early input, once")?;
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    client.send(&[&t.attach(true)[..], b"early input\n"].concat())?;
    expect_switch(&client.response_head()?)?;
    client.half_close()?;
    client.expect_end("the end of the output")
}

fn early_refused(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("404 Not Found", "{\"message\":\"no such exec\"}"));
    let mut client = t.connect()?;
    let behind = t.request("DELETE /v1.43/containers/{}?force=1", "", "");
    client.send(&[t.exec(true), behind].concat())?;
    client.response()?.0.expect_status(404)?;
    client.stop_within(WHILE);
    let deleted = t.seen().iter().any(|seen| seen.head.method() == "DELETE");
    ensure(!deleted, || "daemon: the bytes behind the refused exec arrived as a DELETE".into())
}

fn late_body(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        // Longer than any daemon waits: what has arrived came with the head.
        ensure(!head.is_chunked(), || "daemon: the body has become chunked".into())?;
        daemon.fetch_within(EXEC_BODY.len(), Duration::from_millis(50), "the whole body with the head")?;
        take_over(daemon, head, SWITCH)?;
        daemon.expect_last(b"input", "the input and nothing else")?;
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    let whole = t.exec(true);
    let (most, last) = whole.split_at(whole.len() - 1);
    client.send(most)?;
    pause(WHILE);
    client.send(last)?;
    expect_switch(&client.response_head()?)?;
    client.send(b"input")?;
    client.half_close()?;
    client.expect_end("the end of the output")
}
