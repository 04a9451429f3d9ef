//! The hijack decision for C.

use super::boundary::boundary;
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, check_out, struct_from_c, struct_out};
use crate::proxy::hijack::{
    self, Api, ClientVersion, Decision, HijackKind, RequestFacts, RequestKind, ResponseFacts,
};

/// Versions of HTTP.
pub type dockline_http_version = i32;
/// HTTP/1.0
pub const DOCKLINE_HTTP_10: dockline_http_version = 10;
/// HTTP/1.1
pub const DOCKLINE_HTTP_11: dockline_http_version = 11;
/// HTTP/2
pub const DOCKLINE_HTTP_20: dockline_http_version = 20;
/// HTTP/3
pub const DOCKLINE_HTTP_30: dockline_http_version = 30;

/// Request flag: the host offers CONNECT. Without it CONNECT is refused.
pub const DOCKLINE_ALLOW_CONNECT: u32 = 0x01;

/// What the decision needs to know of a request. Text is borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_request_facts {
    /// The method, as sent.
    pub method: dockline_str,
    /// The request target, as sent, with or without its query.
    pub target: dockline_str,
    /// A path below which the daemon is served, such as "/docker"; absent if it is served at the
    /// root.
    pub base: dockline_str,
    /// The value of Upgrade, several fields joined by commas; absent if there is none.
    pub upgrade: dockline_str,
    /// The value of Connection, several fields joined by commas; absent if there is none.
    pub connection: dockline_str,
    /// What the client speaks: enum dockline_http_version. Required.
    pub version: i32,
    /// DOCKLINE_ALLOW_CONNECT
    pub flags: u32,
}

// SAFETY: text and integers; all zero is valid.
unsafe impl CStruct for dockline_request_facts {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What a request is to the proxy.
pub type dockline_request_kind = i32;
/// One request and one response; not an operation of the Docker Engine API.
pub const DOCKLINE_REQUEST_ORDINARY: dockline_request_kind = 0;
/// An operation of the Docker Engine API that follows something or transfers much: logs, events,
/// wait, build, load, save, pull, push, cp and the like. Either side may pause for as long as it
/// wants, the client within its request only if body_may_pause is set: no other time limit applies
/// to its bytes or to the daemon's.
pub const DOCKLINE_REQUEST_STREAM: dockline_request_kind = 1;
/// It may become a tunnel: what the client sends behind it is held until the response head decides,
/// and the upstream connection is never used for another request.
pub const DOCKLINE_REQUEST_SWITCH: dockline_request_kind = 2;
/// Any other operation of the Docker Engine API: the daemon responds when it is done, on a busy
/// machine after minutes. No time limit applies to the daemon's bytes; the client has to send its
/// request at once.
pub const DOCKLINE_REQUEST_COMMAND: dockline_request_kind = 3;

/// How to send a request on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_request_plan {
    /// enum dockline_request_kind
    pub kind: i32,
    /// 1: send the client's Upgrade value and "Connection: Upgrade". 0: send neither.
    pub send_upgrade: i32,
    /// 1: read the declared body whole, then send head and body at once.
    pub whole_body_first: i32,
    /// 0, or the status to refuse the request with: 501 for an operation that takes over the
    /// connection but was requested over HTTP/2 or HTTP/3; 405 for CONNECT (close the connection
    /// afterwards).
    pub refuse_status: i32,
    /// 1: what the client sends behind the request may be input for a tunnel, even if no tunnel can
    /// come of it. Unless one does, close the client's connection after the response, or that input
    /// could run as the next request.
    pub proposes_tunnel: i32,
    /// 1: the client may pause within the body of its request, which carries a build context, an
    /// image or an archive. Only with DOCKLINE_REQUEST_STREAM; all other bodies are short and sent
    /// at once.
    pub body_may_pause: i32,
}

// SAFETY: integers only.
unsafe impl CStruct for dockline_request_plan {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Response flag: there is a Content-Length.
pub const DOCKLINE_RESPONSE_HAS_LENGTH: u32 = 0x01;
/// Response flag: there is a Transfer-Encoding.
pub const DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING: u32 = 0x02;

/// What the decision needs to know of a response head. Text is borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_response_facts {
    /// The value of Content-Type; absent if there is none.
    pub content_type: dockline_str,
    /// The value of Upgrade; absent if there is none.
    pub upgrade: dockline_str,
    /// The status code.
    pub status: u32,
    /// DOCKLINE_RESPONSE_*
    pub flags: u32,
}

// SAFETY: text and integers; all zero is valid.
unsafe impl CStruct for dockline_response_facts {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// What a response head means for the connection.
pub type dockline_decision = i32;
/// An ordinary final response. Held client bytes must no longer be sent to the upstream.
pub const DOCKLINE_DECISION_MESSAGE: dockline_decision = 0;
/// An interim response (1xx): pass it on and wait for the next head.
pub const DOCKLINE_DECISION_INTERIM: dockline_decision = 1;
/// A requested 101: from the blank line on, both directions are raw bytes.
pub const DOCKLINE_DECISION_TUNNEL_UPGRADE: dockline_decision = 2;
/// Docker's bare 200: as for 101.
pub const DOCKLINE_DECISION_TUNNEL_RAW: dockline_decision = 3;
/// 2xx in response to CONNECT: as for 101.
pub const DOCKLINE_DECISION_TUNNEL_CONNECT: dockline_decision = 4;
/// A switch that was not requested, or not a response at all: close the upstream connection and
/// reply with 502.
pub const DOCKLINE_DECISION_REFUSE: dockline_decision = 5;

/// Decides how a request is sent on. Pure: any thread, no state.
///
/// @param facts      the request as the client sent it
/// @param facts_size sizeof(dockline_request_facts)
/// @param out        set on success
/// @param out_size   sizeof(dockline_request_plan)
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_request_plan_make(
    facts: *const dockline_request_facts,
    facts_size: usize,
    out: *mut dockline_request_plan,
    out_size: usize,
) -> dockline_status {
    boundary(|| {
        let out = struct_out(out, out_size)?;
        // SAFETY: the caller's promise about `facts`.
        let facts = unsafe { struct_from_c(facts, facts_size) }?;
        // SAFETY: the caller's promise about the text in it.
        let request = unsafe { request_from_c(&facts) }?;
        let plan = hijack::plan(&request);
        let plan = dockline_request_plan {
            kind: match plan.kind {
                RequestKind::Ordinary => DOCKLINE_REQUEST_ORDINARY,
                RequestKind::Command => DOCKLINE_REQUEST_COMMAND,
                RequestKind::Stream => DOCKLINE_REQUEST_STREAM,
                RequestKind::Switch => DOCKLINE_REQUEST_SWITCH,
            },
            send_upgrade: plan.send_upgrade.into(),
            whole_body_first: plan.whole_body_first.into(),
            refuse_status: plan.refusal.map_or(0, |refusal| refusal.status().into()),
            proposes_tunnel: plan.proposes_tunnel.into(),
            body_may_pause: plan.body_may_pause.into(),
        };
        // SAFETY: the caller's promise about `out`.
        unsafe { out.write(&plan) };
        Ok(())
    })
}

/// Decides what a response head means for the connection. Pure: any thread, no state.
///
/// @param request       the request as the client sent it, which was sent on as its plan says
/// @param request_size  sizeof(dockline_request_facts)
/// @param response      the response head as the upstream sent it
/// @param response_size sizeof(dockline_response_facts)
/// @param out_decision  set on success: enum dockline_decision
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_hijack_decide(
    request: *const dockline_request_facts,
    request_size: usize,
    response: *const dockline_response_facts,
    response_size: usize,
    out_decision: *mut i32,
) -> dockline_status {
    boundary(|| {
        check_out(out_decision)?;
        // SAFETY: the caller's promise about `request`.
        let request = unsafe { struct_from_c(request, request_size) }?;
        // SAFETY: the caller's promise about `response`.
        let response = unsafe { struct_from_c(response, response_size) }?;
        // SAFETY: the caller's promise about the text in it.
        let request = unsafe { request_from_c(&request) }?;
        // SAFETY: as above.
        let response = unsafe { response_from_c(&response) }?;
        let decision = match hijack::decide(&request, &response) {
            Decision::Message => DOCKLINE_DECISION_MESSAGE,
            Decision::Interim => DOCKLINE_DECISION_INTERIM,
            Decision::Tunnel(kind) => tunnel_to_c(Some(kind)),
            Decision::Refuse => DOCKLINE_DECISION_REFUSE,
        };
        // SAFETY: checked, and the caller's promise.
        unsafe { out_decision.write(decision) };
        Ok(())
    })
}

/// Returns the number of the way in which a tunnel was opened; 0 for none.
pub(super) fn tunnel_to_c(kind: Option<HijackKind>) -> i32 {
    match kind {
        None => DOCKLINE_DECISION_MESSAGE,
        Some(HijackKind::Upgrade) => DOCKLINE_DECISION_TUNNEL_UPGRADE,
        Some(HijackKind::RawStream) => DOCKLINE_DECISION_TUNNEL_RAW,
        Some(HijackKind::Connect) => DOCKLINE_DECISION_TUNNEL_CONNECT,
    }
}

/// # Safety
/// The texts are readable for `'a`.
unsafe fn request_from_c<'a>(facts: &dockline_request_facts) -> Result<RequestFacts<'a>, Failure> {
    if facts.flags & !DOCKLINE_ALLOW_CONNECT != 0 {
        return Err(Failure::Value);
    }
    Ok(RequestFacts {
        // SAFETY: the caller's promise.
        method: unsafe { facts.method.bytes() }?,
        api: Api::Docker,
        // SAFETY: the caller's promise.
        target: unsafe { facts.target.bytes() }?,
        // SAFETY: the caller's promise.
        base: unsafe { facts.base.bytes() }?,
        version: match facts.version {
            DOCKLINE_HTTP_10 => ClientVersion::Http10,
            DOCKLINE_HTTP_11 => ClientVersion::Http11,
            DOCKLINE_HTTP_20 => ClientVersion::Http2,
            DOCKLINE_HTTP_30 => ClientVersion::Http3,
            _ => return Err(Failure::Value),
        },
        // SAFETY: the caller's promise.
        upgrade: unsafe { facts.upgrade.optional() }?,
        // SAFETY: the caller's promise.
        connection: unsafe { facts.connection.optional() }?,
        allow_connect: facts.flags & DOCKLINE_ALLOW_CONNECT != 0,
    })
}

/// # Safety
/// As [`request_from_c`].
unsafe fn response_from_c<'a>(facts: &dockline_response_facts) -> Result<ResponseFacts<'a>, Failure> {
    if facts.flags & !(DOCKLINE_RESPONSE_HAS_LENGTH | DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING) != 0 {
        return Err(Failure::Value);
    }
    Ok(ResponseFacts {
        status: u16::try_from(facts.status).map_err(|_| Failure::Value)?,
        // SAFETY: the caller's promise.
        content_type: unsafe { facts.content_type.optional() }?,
        // SAFETY: the caller's promise.
        upgrade: unsafe { facts.upgrade.optional() }?,
        has_length: facts.flags & DOCKLINE_RESPONSE_HAS_LENGTH != 0,
        has_transfer_encoding: facts.flags & DOCKLINE_RESPONSE_HAS_TRANSFER_ENCODING != 0,
    })
}
