//! The conformance cases of docs/HIJACK.md that the decision alone determines.

use super::*;

const RAW: &str = "application/vnd.docker.raw-stream";
const MUX: &str = "application/vnd.docker.multiplexed-stream";

/// Reads a request from text: `METHOD target [HTTP/x] [; Field: value]...`.
fn request(text: &str) -> RequestFacts<'_> {
    let mut parts = text.split("; ");
    let mut line = parts.next().unwrap().split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let version = match line.next() {
        None | Some("HTTP/1.1") => ClientVersion::Http11,
        Some("HTTP/1.0") => ClientVersion::Http10,
        Some("HTTP/2") => ClientVersion::Http2,
        Some("HTTP/3") => ClientVersion::Http3,
        Some(other) => panic!("{other}"),
    };
    let mut facts = RequestFacts {
        method: method.as_bytes(),
        api: Api::Docker,
        target: target.as_bytes(),
        base: b"",
        version,
        upgrade: None,
        connection: None,
        allow_connect: false,
    };
    for field in parts {
        match field.split_once(": ").unwrap() {
            ("Upgrade", value) => facts.upgrade = Some(value.as_bytes()),
            ("Connection", value) => facts.connection = Some(value.as_bytes()),
            other => panic!("{other:?}"),
        }
    }
    facts
}

/// Reads a response from text: `status [; CT type] [; Upgrade value] [; CL] [; TE]`.
fn response(text: &str) -> ResponseFacts<'_> {
    let mut parts = text.split("; ");
    let mut facts = ResponseFacts {
        status: parts.next().unwrap().parse().unwrap(),
        content_type: None,
        upgrade: None,
        has_length: false,
        has_transfer_encoding: false,
    };
    for part in parts {
        match part.split_once(' ').unwrap_or((part, "")) {
            ("CT", value) => facts.content_type = Some(value.as_bytes()),
            ("Upgrade", value) => facts.upgrade = Some(value.as_bytes()),
            ("CL", "") => facts.has_length = true,
            ("TE", "") => facts.has_transfer_encoding = true,
            other => panic!("{other:?}"),
        }
    }
    facts
}

fn decided(req: &str, res: &str) -> Decision {
    decide(&request(req), &response(res))
}

const ATTACH: &str = "POST /v1.41/containers/x/attach?stdin=1&stdout=1&stream=1";
const EXEC: &str = "POST /v1.41/exec/x/start";
const UP: &str = "; Connection: Upgrade; Upgrade: tcp";
const UPGRADED: Decision = Decision::Tunnel(HijackKind::Upgrade);
const RAW_STREAM: Decision = Decision::Tunnel(HijackKind::RawStream);

#[test]
fn up_101_both_ways() {
    for head in [ATTACH, EXEC] {
        for kind in [RAW, MUX] {
            let asked = format!("{head}{UP}");
            assert_eq!(decided(&asked, &format!("101; CT {kind}; Upgrade tcp")), UPGRADED);
        }
    }
}

#[test]
fn up_hijack_200() {
    for version in ["", " HTTP/1.0"] {
        for kind in [RAW, MUX, "Application/VND.docker.Raw-Stream;charset=x"] {
            assert_eq!(decided(&format!("{ATTACH}{version}"), &format!("200; CT {kind}")), RAW_STREAM);
            assert_eq!(decided(&format!("{EXEC}{version}"), &format!("200; CT {kind}")), RAW_STREAM);
        }
    }
    // An intermediary has removed the Upgrade: the stream is raw all the same.
    assert_eq!(decided(&format!("{EXEC}{UP}"), &format!("200; CT {RAW}")), RAW_STREAM);
}

#[test]
fn http_10_with_upgrade_is_what_dockerd_accepts() {
    assert_eq!(decided(&format!("{ATTACH} HTTP/1.0{UP}"), "101; Upgrade tcp"), UPGRADED);
}

#[test]
fn dockerd_names_tcp_whatever_was_offered() {
    let asked = format!("{ATTACH}; Connection: keep-alive, Upgrade; Upgrade: websocket");
    assert_eq!(decided(&asked, "101; Upgrade tcp"), UPGRADED);
}

#[test]
fn up_no_connection_token() {
    let asked = format!("{ATTACH}; Upgrade: websocket");
    assert!(!plan(&request(&asked)).send_upgrade);
    assert_eq!(decided(&asked, "101; Upgrade tcp"), Decision::Refuse);
    assert_eq!(decided(&asked, &format!("200; CT {RAW}")), RAW_STREAM);
}

#[test]
fn resp_101_unasked() {
    for head in [ATTACH, EXEC, "GET /info", "POST /grpc", "GET /containers/x/attach/ws"] {
        assert_eq!(decided(head, "101; Upgrade tcp"), Decision::Refuse, "{head}");
    }
}

#[test]
fn up_token_mismatch() {
    let websocket = "GET /app; Connection: upgrade; Upgrade: websocket";
    assert_eq!(decided(websocket, "101; Upgrade WebSocket"), UPGRADED);
    assert_eq!(decided(websocket, "101; Upgrade tcp"), Decision::Refuse);
    assert_eq!(decided(websocket, "101"), Decision::Refuse);
    let grpc = "POST /grpc; Connection: Upgrade; Upgrade: h2c";
    assert_eq!(decided(grpc, "101; Upgrade h2c"), UPGRADED);
    assert_eq!(decided(grpc, "101; Upgrade tcp"), Decision::Refuse);
}

#[test]
fn up_h2c_stripped() {
    for head in ["GET /info", "POST /libpod/session", "POST /x/grpc", "POST /build", "GET /session"] {
        let asked = format!("{head}; Connection: Upgrade, HTTP2-Settings; Upgrade: h2c");
        assert!(!plan(&request(&asked)).send_upgrade, "{head}");
        assert_eq!(decided(&asked, "101; Upgrade h2c"), Decision::Refuse, "{head}");
    }
    let mixed = "GET /info; Connection: Upgrade; Upgrade: websocket, h2c";
    assert!(!plan(&request(mixed)).send_upgrade);
    for empty in ["", ",", " , "] {
        let asked = RequestFacts { upgrade: Some(empty.as_bytes()), ..request("GET /; Connection: upgrade") };
        assert!(!plan(&asked).send_upgrade);
    }
}

#[test]
fn up_session_h2c_allowed() {
    for head in ["POST /session", "POST /v1.41/session", "POST /grpc"] {
        let asked = format!("{head}; Connection: Upgrade; Upgrade: h2c");
        assert_eq!(plan(&request(&asked)).kind, RequestKind::Switch);
        assert_eq!(decided(&asked, "101; Upgrade h2c"), UPGRADED);
        assert_eq!(decided(&asked, "500; CT application/json; CL"), Decision::Message);
    }
}

#[test]
fn websocket_attach() {
    let asked = "GET /v1.41/containers/x/attach/ws; Connection: Upgrade; Upgrade: websocket";
    assert_eq!(decided(asked, "101; Upgrade websocket"), UPGRADED);
    assert_eq!(decided(asked, "400"), Decision::Message);
}

#[test]
fn up_logs_not_hijacked() {
    for kind in [RAW, MUX] {
        for head in ["GET /v1.44/containers/x/logs?follow=1", "GET /services/x/logs", "GET /tasks/x/logs"] {
            assert_eq!(decided(head, &format!("200; CT {kind}; TE")), Decision::Message);
            // In HTTP/1.0 the response has no framing either: only the operation distinguishes it
            // from a hijack.
            assert_eq!(decided(&format!("{head} HTTP/1.0"), &format!("200; CT {kind}")), Decision::Message);
            let asked = format!("{head}{UP}");
            assert!(!plan(&request(&asked)).send_upgrade);
            assert_eq!(decided(&asked, &format!("200; CT {kind}; TE")), Decision::Message);
        }
    }
}

#[test]
fn errors_in_response_to_an_upgrade_are_messages() {
    for status in [400, 404, 409, 426, 500] {
        for head in [ATTACH, EXEC] {
            let error = format!("{status}; CT {RAW}");
            assert_eq!(decided(&format!("{head}{UP}"), &error), Decision::Message);
            assert_eq!(decided(head, &error), Decision::Message);
        }
    }
}

#[test]
fn framed_200_is_a_message() {
    for framing in ["CL", "TE", "CL; TE"] {
        assert_eq!(decided(EXEC, &format!("200; CT {RAW}; {framing}")), Decision::Message);
    }
    assert_eq!(decided(&format!("{EXEC}{UP}"), "200; CL"), Decision::Message, "detached");
    assert_eq!(decided(EXEC, "200; CT text/html"), Decision::Message);
    assert_eq!(decided(EXEC, "200"), Decision::Message);
    for status in [201, 202, 206, 204] {
        assert_eq!(decided(EXEC, &format!("{status}; CT {RAW}")), Decision::Message);
    }
}

#[test]
fn interim_heads_do_not_decide() {
    for status in [100, 102, 103, 199] {
        assert_eq!(decided(&format!("{EXEC}{UP}"), &status.to_string()), Decision::Interim);
        assert_eq!(decided("GET /info", &status.to_string()), Decision::Interim);
    }
}

#[test]
fn resp_status_bad() {
    for status in ["0", "20", "99", "600", "2000"] {
        assert_eq!(decided("GET /info", status), Decision::Refuse, "{status}");
    }
}

#[test]
fn up_connect_closed() {
    let refused = request("CONNECT h:443");
    assert_eq!(plan(&refused).refusal, Some(Refusal::Connect));
    assert_eq!(decide(&refused, &response("200")), Decision::Message);
    let allowed = RequestFacts { allow_connect: true, ..refused };
    assert_eq!(plan(&allowed).kind, RequestKind::Switch);
    assert_eq!(decide(&allowed, &response("200; CL")), Decision::Tunnel(HijackKind::Connect));
    assert_eq!(decide(&allowed, &response("204")), Decision::Tunnel(HijackKind::Connect));
    assert_eq!(decide(&allowed, &response("407")), Decision::Message);
    assert_eq!(decide(&allowed, &response("101; Upgrade tcp")), Decision::Refuse);
}

#[test]
fn a_hijack_needs_http_1() {
    for head in [ATTACH, EXEC, "POST /session", "POST /grpc", "GET /containers/x/attach/ws"] {
        for version in ["HTTP/2", "HTTP/3"] {
            let asked = format!("{head} {version}");
            assert_eq!(plan(&request(&asked)).refusal, Some(Refusal::NeedsHttp1), "{asked}");
            assert_ne!(decided(&asked, &format!("200; CT {RAW}")), RAW_STREAM);
        }
    }
    assert_eq!(plan(&request("GET /info HTTP/2")).refusal, None);
    assert!(!plan(&request("GET /app HTTP/2; Connection: upgrade; Upgrade: websocket")).send_upgrade);
    assert!(!plan(&request("GET /app HTTP/1.0; Connection: upgrade; Upgrade: websocket")).send_upgrade);
}

#[test]
fn plans() {
    let plan_of = |text| plan(&request(text));
    assert_eq!(plan_of("GET /app").kind, RequestKind::Ordinary);
    assert_eq!(plan_of("POST /containers/create").kind, RequestKind::Command);
    assert_eq!(plan_of("POST /grpc").kind, RequestKind::Command, "without an upgrade");
    let may_pause = |request| {
        let plan = plan_of(request);
        (plan.kind, plan.body_may_pause, plan.passes_end_on)
    };
    assert_eq!(may_pause("POST /containers/x/start"), (RequestKind::Command, false, false));
    assert_eq!(may_pause("POST /containers/x/stop"), (RequestKind::Command, false, true));
    assert_eq!(may_pause("POST /containers/x/wait"), (RequestKind::Stream, false, true));
    assert_eq!(may_pause("PUT /containers/x/archive"), (RequestKind::Stream, true, true));
    assert_eq!(plan_of("GET /events; Connection: Upgrade; Upgrade: tcp").kind, RequestKind::Stream);
    let exec = plan_of(EXEC);
    assert_eq!((exec.kind, exec.send_upgrade, exec.whole_body_first), (RequestKind::Switch, false, true));
    let exec = plan_of("POST /exec/x/start; Connection: a,uPGRADE ; Upgrade: tcp");
    assert_eq!((exec.kind, exec.send_upgrade, exec.whole_body_first), (RequestKind::Switch, true, true));
    assert!(!plan_of("POST /build").whole_body_first, "an upload is streamed");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "(GET|POST|CONNECT)".prop_map(String::into_bytes),
            "(/v1\\.[0-9]{1,2})?/(containers|exec)/[a-z%/]{0,4}/(attach|start|logs|attach/ws)"
                .prop_map(String::into_bytes),
            "(tcp|h2c|websocket|upgrade|close)(, ?(tcp|upgrade))?".prop_map(String::into_bytes),
            Just(RAW.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
        ]
    }

    proptest! {
        /// Only a 101 that was asked for, a bare 200 of one of two operations, and CONNECT open a
        /// tunnel.
        #[test]
        fn nothing_else_opens_a_tunnel(
            method in text(), target in text(), upgrade in prop::option::of(text()),
            connection in prop::option::of(text()), content_type in prop::option::of(text()),
            response_upgrade in prop::option::of(text()), status in prop_oneof![Just(101_u16), Just(200), any::<u16>()],
            has_length in any::<bool>(), has_transfer_encoding in any::<bool>(), allow_connect in any::<bool>(),
            api in prop_oneof![Just(Api::Docker), Just(Api::Any)],
            version in prop_oneof![
                Just(ClientVersion::Http10), Just(ClientVersion::Http11), Just(ClientVersion::Http2)
            ],
        ) {
            let request = RequestFacts {
                method: &method, api, target: &target, base: b"", version, upgrade: upgrade.as_deref(),
                connection: connection.as_deref(), allow_connect,
            };
            let response = ResponseFacts {
                status, content_type: content_type.as_deref(), upgrade: response_upgrade.as_deref(), has_length,
                has_transfer_encoding,
            };
            let plan = plan(&request);
            prop_assert!(!plan.send_upgrade || (upgrade.is_some() && connection.is_some()));
            prop_assert!(plan.refusal.is_none() || plan.kind == RequestKind::Ordinary);
            match decide(&request, &response) {
                Decision::Tunnel(HijackKind::Upgrade) => prop_assert!(status == 101 && plan.send_upgrade),
                Decision::Tunnel(HijackKind::RawStream) => {
                    prop_assert!(status == 200 && !has_length && !has_transfer_encoding);
                    prop_assert_eq!(api, Api::Docker);
                    prop_assert!(method == b"POST" && content_type.is_some() && version <= ClientVersion::Http11);
                }
                Decision::Tunnel(HijackKind::Connect) => {
                    prop_assert!(method == b"CONNECT" && allow_connect && (200..300).contains(&status));
                }
                Decision::Interim => prop_assert!((100..200).contains(&status) && status != 101),
                Decision::Message => prop_assert!((200..600).contains(&status)),
                Decision::Refuse => prop_assert!(status == 101 || !(100..600).contains(&status)),
            }
            if plan.refusal.is_some() {
                prop_assert!(!matches!(decide(&request, &response), Decision::Tunnel(_)));
            }
        }
    }
}
