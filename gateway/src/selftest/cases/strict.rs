#![forbid(unsafe_code)]
//! What the proxy must change or refuse, because the daemon may interpret it differently.

use super::{Case, SWITCH, WHILE, expect_switch, response};
use crate::selftest::daemon::Then;
use crate::selftest::trial::{Trial, take_over};
use crate::selftest::wire::{Outcome, ensure};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "one-connection-token",
        "Connection: keep-alive, Upgrade is sent on as Upgrade alone",
        "podman attach and exec fail behind the proxy: 200 instead of 101",
        one_token,
    )
    .proxy_only(),
    Case::new(
        "h2c-stripped",
        "Upgrade: h2c on an ordinary request is not sent on",
        "a client opens HTTP/2 to the daemon, past the proxy's rules",
        h2c_stripped,
    )
    .proxy_only(),
    Case::new(
        "length-and-chunked",
        "a request with two lengths hides no second request",
        "request smuggling: rules of the proxy are bypassed",
        length_and_chunked,
    )
    .proxy_only(),
    Case::new(
        "bare-line-feed",
        "a line feed without its CR does not reach the daemon",
        "request smuggling: proxy and daemon see different fields",
        bare_line_feed,
    )
    .proxy_only(),
    Case::new(
        "hidden-in-upgrade",
        "a request in the body of a refused switch stays a body",
        "request smuggling through docker exec",
        hidden_in_upgrade,
    ),
];

fn one_token(t: &Trial<'_>) -> Outcome {
    t.serve(|daemon, head| {
        let tokens = head.all("connection").join(", ");
        ensure(tokens.eq_ignore_ascii_case("upgrade"), || {
            format!("daemon: expected Connection: Upgrade, but got {tokens:?}")
        })?;
        take_over(daemon, head, SWITCH)?;
        Ok(Then::Close)
    });
    let mut client = t.connect()?;
    let fields = "Connection: keep-alive, Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n";
    client.send(&t.request("POST /v4.7.0/libpod/containers/{}/attach", fields, ""))?;
    expect_switch(&client.response_head()?)
}

fn h2c_stripped(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", "{}"));
    let mut client = t.connect()?;
    let fields =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    client.send(&t.request("GET /v1.43/containers/{}/json", fields, ""))?;
    client.response()?;
    let offered = t.seen().iter().any(|seen| seen.head.get("upgrade").is_some());
    ensure(!offered, || "daemon: got Upgrade: h2c on an ordinary request".into())
}

/// Returns the hidden request, as the daemon would execute it.
fn hidden(t: &Trial<'_>) -> String {
    String::from_utf8_lossy(&t.request("DELETE /v1.43/containers/{}?force=1", "", "")).into_owned()
}

fn expect_hidden(t: &Trial<'_>) -> Outcome {
    let ran = t.seen().iter().any(|seen| seen.head.method() == "DELETE");
    ensure(!ran, || "daemon: the hidden DELETE arrived as a request".into())
}

fn length_and_chunked(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", "{}"));
    let mut client = t.connect()?;
    let body = format!("0\r\n\r\n{}", hidden(t));
    client.send(&t.request("POST /v1.43/containers/{}/start", "Transfer-Encoding: chunked\r\n", &body))?;
    client.stop_within(WHILE);
    expect_hidden(t)
}

fn bare_line_feed(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", "{}"));
    let mut client = t.connect()?;
    let line = t.target("GET /v1.43/containers/{}/json");
    client.send(format!("{line} HTTP/1.1\r\nHost: docker\r\nX-A: a\nX-B: b\r\n\r\n").as_bytes())?;
    client.stop_within(WHILE);
    let bare = |raw: &[u8]| raw.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
    let reached = t.seen().iter().any(|seen| bare(&seen.head.raw));
    ensure(!reached, || "daemon: got a line feed without its CR".into())
}

fn hidden_in_upgrade(t: &Trial<'_>) -> Outcome {
    t.ordinary(response("200 OK", ""));
    let mut client = t.connect()?;
    let fields = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n";
    client.send(&t.request("POST /v1.43/exec/{}/start", fields, &hidden(t)))?;
    client.response()?;
    client.stop_within(WHILE);
    expect_hidden(t)
}
