//! The hijack decision: what a decision implies holds for any request and response, spelling that
//! does not matter does not matter, and C is told the same.
#![no_main]

use std::ptr;

use arbitrary::Arbitrary;
use dockline::ffi;
use dockline::proxy::hijack::{
    Api, ClientVersion, Decision, HijackKind, RequestFacts, RequestKind, RequestPlan, ResponseFacts, decide, plan,
};
use libfuzzer_sys::fuzz_target;

const METHODS: &[&str] = &["POST", "GET", "CONNECT", "PUT", "HEAD", "post"];
const TARGETS: &[&str] = &[
    "/v1.41/containers/x/attach?stdin=1",
    "/exec/x/start",
    "/containers/a%2Fb/attach/ws",
    "/session",
    "/v1.41/grpc",
    "/docker/v1.41/exec/x/start",
    "/containers/x/logs?follow=1",
    "/events",
    "/info",
    "h:1",
];
const BASES: &[&str] = &["", "/docker", "/docker/", "/"];
const UPGRADES: &[&str] = &["tcp", "h2c", "websocket", "WebSocket, tcp", ""];
const CONNECTIONS: &[&str] = &["Upgrade", "keep-alive, upgrade", "close", ""];
const TYPES: &[&str] = &[
    "application/vnd.docker.raw-stream",
    "Application/vnd.docker.multiplexed-stream; x=y",
    "application/json",
    "application/vnd.docker.raw-streams",
];
const STATUSES: &[u16] = &[101, 200, 100, 103, 204, 404, 500, 0, 99, 600];

/// Something known, so that the decision gets anywhere, or anything.
#[derive(Arbitrary, Debug)]
enum Text<'a> {
    Known(u8),
    Any(&'a [u8]),
}

impl<'a> Text<'a> {
    fn of(&self, known: &[&'static str]) -> &'a [u8] {
        match *self {
            Self::Known(index) => known[usize::from(index) % known.len()].as_bytes(),
            Self::Any(bytes) => bytes,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: Text<'a>,
    target: Text<'a>,
    base: Text<'a>,
    upgrade: Option<Text<'a>>,
    connection: Option<Text<'a>>,
    version: u8,
    allow_connect: bool,
    status: u16,
    content_type: Option<Text<'a>>,
    chosen: Option<Text<'a>>,
    has_length: bool,
    has_transfer_encoding: bool,
}

fuzz_target!(|input: Input<'_>| {
    let versions = [ClientVersion::Http10, ClientVersion::Http11, ClientVersion::Http2, ClientVersion::Http3];
    let request = RequestFacts {
        method: input.method.of(METHODS),
        api: Api::Docker,
        target: input.target.of(TARGETS),
        base: input.base.of(BASES),
        version: versions[usize::from(input.version) % versions.len()],
        upgrade: input.upgrade.as_ref().map(|text| text.of(UPGRADES)),
        connection: input.connection.as_ref().map(|text| text.of(CONNECTIONS)),
        allow_connect: input.allow_connect,
    };
    let response = ResponseFacts {
        status: if input.status < 512 {
            STATUSES[usize::from(input.status) % STATUSES.len()]
        } else {
            input.status
        },
        content_type: input.content_type.as_ref().map(|text| text.of(TYPES)),
        upgrade: input.chosen.as_ref().map(|text| text.of(UPGRADES)),
        has_length: input.has_length,
        has_transfer_encoding: input.has_transfer_encoding,
    };
    let planned = plan(&request);
    let decided = decide(&request, &response);
    plan_keeps_its_word(&request, &planned);
    decision_keeps_its_word(&request, &response, &planned, decided);
    spelling_does_not_matter(&request, &response, &planned, decided);
    c_is_told_the_same(&request, &response, &planned, decided);
});

fn plan_keeps_its_word(request: &RequestFacts<'_>, plan: &RequestPlan) {
    let connect = request.method == b"CONNECT";
    if plan.send_upgrade {
        assert!(request.upgrade.is_some() && request.connection.is_some() && !connect);
        assert!(request.version <= ClientVersion::Http11);
    }
    if plan.refusal.is_some() {
        assert_eq!(plan.kind, RequestKind::Ordinary);
        assert!(!plan.send_upgrade && !plan.whole_body_first);
    }
    let switch = plan.kind == RequestKind::Switch;
    assert!(switch || !(plan.send_upgrade || plan.whole_body_first));
    assert!(!switch || plan.whole_body_first != connect);
    let stream = plan.kind == RequestKind::Stream;
    assert!(stream || !plan.body_may_pause);
    assert!(!stream || plan.passes_end_on);
    assert!(plan.kind == RequestKind::Command || stream || !plan.passes_end_on);
    assert!(!switch || connect || request.version <= ClientVersion::Http11);
    assert!(!connect || request.allow_connect == plan.refusal.is_none());
}

fn decision_keeps_its_word(
    request: &RequestFacts<'_>,
    response: &ResponseFacts<'_>,
    plan: &RequestPlan,
    decision: Decision,
) {
    let status = response.status;
    match decision {
        Decision::Tunnel(kind) => {
            assert_eq!(plan.kind, RequestKind::Switch, "held bytes have to be there");
            assert!(plan.refusal.is_none());
            match kind {
                HijackKind::Upgrade => assert!(status == 101 && plan.send_upgrade),
                HijackKind::RawStream => {
                    assert!(status == 200 && request.method == b"POST");
                    assert!(!response.has_length && !response.has_transfer_encoding);
                    assert!(response.content_type.is_some());
                }
                HijackKind::Connect => {
                    assert!(
                        (200..300).contains(&status) && request.method == b"CONNECT" && request.allow_connect
                    );
                }
            }
        }
        Decision::Interim => assert!((100..200).contains(&status) && status != 101),
        Decision::Message => assert!((200..600).contains(&status)),
        Decision::Refuse => assert!(status == 101 || !(100..600).contains(&status)),
    }
}

fn spelling_does_not_matter(
    request: &RequestFacts<'_>,
    response: &ResponseFacts<'_>,
    planned: &RequestPlan,
    decided: Decision,
) {
    let louder = |text: Option<&[u8]>| text.map(<[u8]>::to_ascii_uppercase);
    let (upgrade, connection) = (louder(request.upgrade), louder(request.connection));
    let (content_type, chosen) = (louder(response.content_type), louder(response.upgrade));
    let path = request.target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let request = RequestFacts {
        target: path,
        upgrade: upgrade.as_deref(),
        connection: connection.as_deref(),
        ..*request
    };
    let response =
        ResponseFacts { content_type: content_type.as_deref(), upgrade: chosen.as_deref(), ..*response };
    assert_eq!(plan(&request), *planned);
    assert_eq!(decide(&request, &response), decided);
}

fn c_is_told_the_same(
    request: &RequestFacts<'_>,
    response: &ResponseFacts<'_>,
    planned: &RequestPlan,
    decided: Decision,
) {
    let text = |text: &[u8]| ffi::dockline_str { data: text.as_ptr().cast(), len: text.len() };
    let absent = ffi::dockline_str { data: ptr::null(), len: 0 };
    let facts = ffi::dockline_request_facts {
        method: text(request.method),
        target: text(request.target),
        base: text(request.base),
        upgrade: request.upgrade.map_or(absent, text),
        connection: request.connection.map_or(absent, text),
        version: match request.version {
            ClientVersion::Http10 => ffi::DOCKLINE_HTTP_10,
            ClientVersion::Http11 => ffi::DOCKLINE_HTTP_11,
            ClientVersion::Http2 => ffi::DOCKLINE_HTTP_20,
            ClientVersion::Http3 => ffi::DOCKLINE_HTTP_30,
        },
        flags: if request.allow_connect { ffi::DOCKLINE_ALLOW_CONNECT } else { 0 },
    };
    let answer = ffi::dockline_response_facts {
        content_type: response.content_type.map_or(absent, text),
        upgrade: response.upgrade.map_or(absent, text),
        status: response.status.into(),
        flags: if response.has_length { ffi::DOCKLINE_RESPONSE_HAS_LENGTH } else { 0 }
            | if response.has_transfer_encoding { ffi::DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING } else { 0 },
    };
    let mut out = ffi::dockline_request_plan {
        kind: -1,
        send_upgrade: -1,
        whole_body_first: -1,
        refuse_status: -1,
        proposes_tunnel: -1,
        body_may_pause: -1,
    };
    let mut decision = -1;
    // SAFETY: all of it outlives the calls, and the sizes are those of the types.
    let statuses = unsafe {
        [
            ffi::dockline_request_plan_make(&facts, size_of_val(&facts), &mut out, size_of_val(&out)),
            ffi::dockline_hijack_decide(
                &facts,
                size_of_val(&facts),
                &answer,
                size_of_val(&answer),
                &mut decision,
            ),
        ]
    };
    assert_eq!(statuses, [ffi::DOCKLINE_OK; 2]);
    assert_eq!(
        out.kind,
        match planned.kind {
            RequestKind::Ordinary => ffi::DOCKLINE_REQUEST_ORDINARY,
            RequestKind::Command => ffi::DOCKLINE_REQUEST_COMMAND,
            RequestKind::Stream => ffi::DOCKLINE_REQUEST_STREAM,
            RequestKind::Switch => ffi::DOCKLINE_REQUEST_SWITCH,
        }
    );
    assert_eq!(out.send_upgrade, i32::from(planned.send_upgrade));
    assert_eq!(out.whole_body_first, i32::from(planned.whole_body_first));
    assert_eq!(out.proposes_tunnel, i32::from(planned.proposes_tunnel));
    assert_eq!(out.body_may_pause, i32::from(planned.body_may_pause));
    assert!(planned.kind != RequestKind::Switch || planned.proposes_tunnel);
    assert_eq!(out.refuse_status, planned.refusal.map_or(0, |refusal| refusal.status().into()));
    assert_eq!(
        decision,
        match decided {
            Decision::Message => ffi::DOCKLINE_DECISION_MESSAGE,
            Decision::Interim => ffi::DOCKLINE_DECISION_INTERIM,
            Decision::Tunnel(HijackKind::Upgrade) => ffi::DOCKLINE_DECISION_TUNNEL_UPGRADE,
            Decision::Tunnel(HijackKind::RawStream) => ffi::DOCKLINE_DECISION_TUNNEL_RAW,
            Decision::Tunnel(HijackKind::Connect) => ffi::DOCKLINE_DECISION_TUNNEL_CONNECT,
            Decision::Refuse => ffi::DOCKLINE_DECISION_REFUSE,
        }
    );
}
