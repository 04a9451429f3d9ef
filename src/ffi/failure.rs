//! Why something failed: `dockline_failure`.

use std::ffi::{CStr, c_char};

use crate::error::Failure;

/// What was going on when something failed.
pub type dockline_phase = i32;
/// Nothing failed.
pub const DOCKLINE_PHASE_NONE: dockline_phase = 0;
/// The TLS handshake of a client.
pub const DOCKLINE_PHASE_HANDSHAKE: dockline_phase = 1;
/// The request head was being read.
pub const DOCKLINE_PHASE_REQUEST_HEAD: dockline_phase = 2;
/// The request body was being read, or passed on.
pub const DOCKLINE_PHASE_REQUEST_BODY: dockline_phase = 3;
/// An upstream connection was being made: name lookup, connect, TLS handshake with the upstream.
pub const DOCKLINE_PHASE_CONNECT: dockline_phase = 4;
/// The response head was awaited.
pub const DOCKLINE_PHASE_RESPONSE_HEAD: dockline_phase = 5;
/// The response body was being read, or passed on.
pub const DOCKLINE_PHASE_RESPONSE_BODY: dockline_phase = 6;
/// The connection was a tunnel.
pub const DOCKLINE_PHASE_TUNNEL: dockline_phase = 7;
/// The header of the PROXY protocol was being read.
pub const DOCKLINE_PHASE_PROXY_HEADER: dockline_phase = 8;

/// Why something failed. docs/REASONS.md says what an operator can do about each. A later library
/// may have more.
pub type dockline_cause = i32;
/// Nothing failed.
pub const DOCKLINE_CAUSE_NONE: dockline_cause = 0;
/// The connection was closed before the message was complete.
pub const DOCKLINE_CAUSE_CLOSED_EARLY: dockline_cause = 1;
/// The connection was reset (ECONNRESET, EPIPE).
pub const DOCKLINE_CAUSE_RESET: dockline_cause = 2;
/// The connection failed with another error, for instance because the peer is no longer reachable
/// (ETIMEDOUT, EHOSTUNREACH).
pub const DOCKLINE_CAUSE_LOST: dockline_cause = 3;
/// The TLS stream ended without a close_notify, so it may have been cut.
pub const DOCKLINE_CAUSE_TLS_TRUNCATED: dockline_cause = 4;
/// The TLS stream broke after the handshake: a fatal alert, or a record that cannot be decrypted.
pub const DOCKLINE_CAUSE_TLS_STREAM: dockline_cause = 5;
/// CONNECT is not enabled.
pub const DOCKLINE_CAUSE_METHOD_NOT_OFFERED: dockline_cause = 10;
/// The connection does not begin with a header of the PROXY protocol.
pub const DOCKLINE_CAUSE_PROXY_HEADER_MALFORMED: dockline_cause = 15;
/// The client is none of the proxies that may connect to a listener with the PROXY protocol.
pub const DOCKLINE_CAUSE_UNTRUSTED_PEER: dockline_cause = 16;
/// The response switches protocols although the request did not offer that protocol.
pub const DOCKLINE_CAUSE_UNREQUESTED_SWITCH: dockline_cause = 20;
/// More interim responses (1xx) than are allowed.
pub const DOCKLINE_CAUSE_TOO_MANY_INTERIM: dockline_cause = 21;
/// The connection was closed within the response body.
pub const DOCKLINE_CAUSE_TRUNCATED: dockline_cause = 22;
/// connect(2) failed.
pub const DOCKLINE_CAUSE_CONNECT_FAILED: dockline_cause = 30;
/// The upstream's host name cannot be resolved.
pub const DOCKLINE_CAUSE_RESOLVE_FAILED: dockline_cause = 31;
/// The upstream has no address.
pub const DOCKLINE_CAUSE_NO_ADDRESS: dockline_cause = 32;
/// The upstream's address leads back to a listener of this proxy, or the connection has passed too
/// many proxies.
pub const DOCKLINE_CAUSE_OWN_LISTENER: dockline_cause = 33;
/// The proxy has no descriptor, port or memory left for a connection.
pub const DOCKLINE_CAUSE_OUT_OF_RESOURCES: dockline_cause = 34;
/// The proxy is shutting down, and the time for that has passed.
pub const DOCKLINE_CAUSE_DRAINED: dockline_cause = 40;
/// The tunnel was ended by the operator or the host program.
pub const DOCKLINE_CAUSE_KILLED: dockline_cause = 41;
/// A defect of the proxy, or of the program that it is a part of, ended the connection.
pub const DOCKLINE_CAUSE_PANICKED: dockline_cause = 42;
/// The request head was not complete within head_ms.
pub const DOCKLINE_CAUSE_REQUEST_HEAD_TIMEOUT: dockline_cause = 50;
/// The client sent nothing of the request body for body_ms.
pub const DOCKLINE_CAUSE_REQUEST_BODY_TIMEOUT: dockline_cause = 51;
/// The client accepted nothing of the response for body_ms.
pub const DOCKLINE_CAUSE_RESPONSE_DELIVERY_TIMEOUT: dockline_cause = 52;
/// The daemon accepted nothing of the request for response_ms.
pub const DOCKLINE_CAUSE_REQUEST_DELIVERY_TIMEOUT: dockline_cause = 53;
/// The daemon sent no response head within response_ms.
pub const DOCKLINE_CAUSE_RESPONSE_HEAD_TIMEOUT: dockline_cause = 54;
/// The daemon sent nothing of the response body for response_ms.
pub const DOCKLINE_CAUSE_RESPONSE_BODY_TIMEOUT: dockline_cause = 55;
/// Nothing moved in either direction of a stream for stream_idle_ms; the side is the one that was
/// to continue.
pub const DOCKLINE_CAUSE_STREAM_IDLE_TIMEOUT: dockline_cause = 56;
/// The tunnel carried nothing for tunnel_idle_ms.
pub const DOCKLINE_CAUSE_TUNNEL_IDLE_TIMEOUT: dockline_cause = 57;
/// The upstream's host name was not resolved within connect_ms.
pub const DOCKLINE_CAUSE_RESOLVE_TIMEOUT: dockline_cause = 58;
/// No connection was established within connect_ms.
pub const DOCKLINE_CAUSE_CONNECT_TIMEOUT: dockline_cause = 59;
/// The TLS handshake was not complete within its time limit.
pub const DOCKLINE_CAUSE_HANDSHAKE_TIMEOUT: dockline_cause = 60;
/// The header of the PROXY protocol was not complete in time.
pub const DOCKLINE_CAUSE_PROXY_HEADER_TIMEOUT: dockline_cause = 61;
/// The peer refused the handshake with an alert.
pub const DOCKLINE_CAUSE_TLS_ALERT: dockline_cause = 70;
/// What was received is not TLS.
pub const DOCKLINE_CAUSE_TLS_MALFORMED: dockline_cause = 71;
/// The peer supports no protocol version, cipher suite or key exchange that this side allows.
pub const DOCKLINE_CAUSE_TLS_INCOMPATIBLE: dockline_cause = 72;
/// The peer violated the protocol.
pub const DOCKLINE_CAUSE_TLS_MISBEHAVED: dockline_cause = 73;
/// The peer has sent no certificate, although one is required.
pub const DOCKLINE_CAUSE_TLS_NO_CERTIFICATE: dockline_cause = 74;
/// The peer's certificate is not issued by a trusted authority.
pub const DOCKLINE_CAUSE_TLS_UNKNOWN_ISSUER: dockline_cause = 75;
/// The peer's certificate has expired or is not valid yet.
pub const DOCKLINE_CAUSE_TLS_EXPIRED: dockline_cause = 76;
/// The peer's certificate is revoked.
pub const DOCKLINE_CAUSE_TLS_REVOKED: dockline_cause = 77;
/// The revocation list has expired, or does not cover the peer's certificate.
pub const DOCKLINE_CAUSE_TLS_REVOCATION_UNKNOWN: dockline_cause = 78;
/// The peer's certificate is for another name.
pub const DOCKLINE_CAUSE_TLS_WRONG_NAME: dockline_cause = 79;
/// The peer's certificate is malformed, or not usable for this purpose.
pub const DOCKLINE_CAUSE_TLS_BAD_CERTIFICATE: dockline_cause = 80;
/// The peer sent more than 64 KiB before the handshake was complete.
pub const DOCKLINE_CAUSE_TLS_HANDSHAKE_TOO_LONG: dockline_cause = 81;
/// TLS failed otherwise.
pub const DOCKLINE_CAUSE_TLS_FAILED: dockline_cause = 82;
/// A line ends in LF without CR.
pub const DOCKLINE_CAUSE_BARE_LF: dockline_cause = 101;
/// A CR is not followed by LF.
pub const DOCKLINE_CAUSE_BARE_CR: dockline_cause = 102;
/// More than one empty line before the request.
pub const DOCKLINE_CAUSE_EXTRA_EMPTY_LINE: dockline_cause = 103;
/// Blank in the request line.
pub const DOCKLINE_CAUSE_REQUEST_LINE_BLANK: dockline_cause = 104;
/// Request line without a version.
pub const DOCKLINE_CAUSE_REQUEST_LINE_SHORT: dockline_cause = 105;
/// The method is not a token.
pub const DOCKLINE_CAUSE_METHOD_BYTE: dockline_cause = 106;
/// The method is too long.
pub const DOCKLINE_CAUSE_METHOD_TOO_LONG: dockline_cause = 107;
/// Forbidden byte in the request target.
pub const DOCKLINE_CAUSE_TARGET_BYTE: dockline_cause = 108;
/// The request target has no form that the method allows.
pub const DOCKLINE_CAUSE_TARGET_FORM: dockline_cause = 109;
/// Malformed authority in the request target.
pub const DOCKLINE_CAUSE_TARGET_AUTHORITY: dockline_cause = 110;
/// The request target and Host name different authorities.
pub const DOCKLINE_CAUSE_TARGET_HOST_MISMATCH: dockline_cause = 111;
/// The version is neither HTTP/1.0 nor HTTP/1.1.
pub const DOCKLINE_CAUSE_UNSUPPORTED_VERSION: dockline_cause = 112;
/// The status code is not three digits from 100 to 599.
pub const DOCKLINE_CAUSE_STATUS_CODE: dockline_cause = 113;
/// No space after the status code.
pub const DOCKLINE_CAUSE_REASON_SPACE: dockline_cause = 114;
/// Control byte in the reason phrase.
pub const DOCKLINE_CAUSE_REASON_BYTE: dockline_cause = 115;
/// Blank before the first field.
pub const DOCKLINE_CAUSE_BLANK_BEFORE_FIELDS: dockline_cause = 116;
/// A field continues on a second line.
pub const DOCKLINE_CAUSE_OBSOLETE_FOLD: dockline_cause = 117;
/// Blank in a field name.
pub const DOCKLINE_CAUSE_FIELD_NAME_BLANK: dockline_cause = 118;
/// Empty field name.
pub const DOCKLINE_CAUSE_FIELD_NAME_EMPTY: dockline_cause = 119;
/// Forbidden byte in a field name.
pub const DOCKLINE_CAUSE_FIELD_NAME_BYTE: dockline_cause = 120;
/// Field line without a colon.
pub const DOCKLINE_CAUSE_FIELD_COLON: dockline_cause = 121;
/// Control byte in a field value.
pub const DOCKLINE_CAUSE_FIELD_VALUE_BYTE: dockline_cause = 122;
/// No Host.
pub const DOCKLINE_CAUSE_HOST_MISSING: dockline_cause = 123;
/// More than one Host.
pub const DOCKLINE_CAUSE_HOST_REPEATED: dockline_cause = 124;
/// Invalid Host.
pub const DOCKLINE_CAUSE_HOST_INVALID: dockline_cause = 125;
/// An expectation other than 100-continue.
pub const DOCKLINE_CAUSE_UNSUPPORTED_EXPECTATION: dockline_cause = 126;
/// Both Transfer-Encoding and Content-Length.
pub const DOCKLINE_CAUSE_AMBIGUOUS_FRAMING: dockline_cause = 127;
/// Transfer-Encoding in an HTTP/1.0 message.
pub const DOCKLINE_CAUSE_TRANSFER_CODING_IN_HTTP10: dockline_cause = 128;
/// More than one Transfer-Encoding.
pub const DOCKLINE_CAUSE_TRANSFER_CODING_REPEATED: dockline_cause = 129;
/// Invalid Transfer-Encoding.
pub const DOCKLINE_CAUSE_TRANSFER_CODING_INVALID: dockline_cause = 130;
/// A transfer coding other than chunked.
pub const DOCKLINE_CAUSE_UNSUPPORTED_TRANSFER_CODING: dockline_cause = 131;
/// More than one Content-Length.
pub const DOCKLINE_CAUSE_CONTENT_LENGTH_REPEATED: dockline_cause = 132;
/// Invalid Content-Length.
pub const DOCKLINE_CAUSE_CONTENT_LENGTH_INVALID: dockline_cause = 133;
/// Content-Length is too large.
pub const DOCKLINE_CAUSE_CONTENT_LENGTH_TOO_LARGE: dockline_cause = 134;
/// Connection names a field that is not hop-by-hop.
pub const DOCKLINE_CAUSE_CONNECTION_OPTION: dockline_cause = 135;
/// Chunk without a size.
pub const DOCKLINE_CAUSE_CHUNK_SIZE_EMPTY: dockline_cause = 136;
/// Forbidden byte in a chunk size.
pub const DOCKLINE_CAUSE_CHUNK_SIZE_BYTE: dockline_cause = 137;
/// Chunk size is too large.
pub const DOCKLINE_CAUSE_CHUNK_SIZE_TOO_LARGE: dockline_cause = 138;
/// Malformed chunk extension.
pub const DOCKLINE_CAUSE_CHUNK_EXTENSION_BYTE: dockline_cause = 139;
/// Chunk data is not followed by CR LF.
pub const DOCKLINE_CAUSE_CHUNK_DATA_END: dockline_cause = 140;
/// The message has two readings.
pub const DOCKLINE_CAUSE_READERS_DISAGREE: dockline_cause = 141;
/// The request line is too long.
pub const DOCKLINE_CAUSE_REQUEST_LINE_TOO_LONG: dockline_cause = 201;
/// The head is too large.
pub const DOCKLINE_CAUSE_HEAD_TOO_LARGE: dockline_cause = 202;
/// Too many fields.
pub const DOCKLINE_CAUSE_TOO_MANY_FIELDS: dockline_cause = 203;
/// The extensions of a chunk are too long.
pub const DOCKLINE_CAUSE_CHUNK_EXTENSION_TOO_LONG: dockline_cause = 204;
/// The chunk extensions of a message are too long.
pub const DOCKLINE_CAUSE_CHUNK_EXTENSIONS_TOO_LONG: dockline_cause = 205;
/// Too little data for the chunk headers.
pub const DOCKLINE_CAUSE_CHUNK_OVERHEAD: dockline_cause = 206;
/// The trailer section is too large.
pub const DOCKLINE_CAUSE_TRAILER_TOO_LARGE: dockline_cause = 207;
/// Too many trailer fields.
pub const DOCKLINE_CAUSE_TOO_MANY_TRAILER_FIELDS: dockline_cause = 208;
/// The body of a request that may become a tunnel is too long.
pub const DOCKLINE_CAUSE_HELD_BODY_TOO_LONG: dockline_cause = 209;

/// Why an exchange or a tunnel failed. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_failure {
    /// Whose fault it is: enum dockline_side; DOCKLINE_SIDE_NONE if nothing failed.
    pub side: i32,
    /// enum dockline_phase
    pub phase: i32,
    /// enum dockline_cause
    pub cause: i32,
    /// The errno of the system call that failed; 0 if none did or it is not known.
    pub error_number: i32,
    /// The alert of TLS (RFC 8446, section 6) that was received or sent; 0 if there is none.
    pub tls_alert: u32,
    /// 0
    pub reserved: u32,
    /// For a malformed message or a limit (DOCKLINE_CAUSE_BARE_LF and above): the offset of the
    /// first byte that could not be accepted, from the start of the head or body that the phase
    /// names.
    pub offset: u64,
}

/// Converts a failure, if there is one.
pub(super) fn failure_to_c(failure: Option<Failure>) -> dockline_failure {
    let Some(Failure { side, phase, cause }) = failure else {
        return dockline_failure {
            side: 0,
            phase: DOCKLINE_PHASE_NONE,
            cause: DOCKLINE_CAUSE_NONE,
            error_number: 0,
            tls_alert: 0,
            reserved: 0,
            offset: 0,
        };
    };
    dockline_failure {
        side: side.number().into(),
        phase: phase.number().into(),
        cause: cause.number().into(),
        error_number: cause.errno().unwrap_or(0),
        tls_alert: cause.alert().map_or(0, u32::from),
        reserved: 0,
        offset: cause.offset().unwrap_or(0),
    }
}

/// Returns the word for a phase, for logs, as in docs/REASONS.md: "connect", for instance.
///
/// @param phase enum dockline_phase
/// @return a static string; "none" for DOCKLINE_PHASE_NONE, "unknown" for another number
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_phase_name(phase: i32) -> *const c_char {
    let name: &CStr = match phase {
        DOCKLINE_PHASE_NONE => c"none",
        DOCKLINE_PHASE_HANDSHAKE => c"handshake",
        DOCKLINE_PHASE_REQUEST_HEAD => c"request-head",
        DOCKLINE_PHASE_REQUEST_BODY => c"request-body",
        DOCKLINE_PHASE_CONNECT => c"connect",
        DOCKLINE_PHASE_RESPONSE_HEAD => c"response-head",
        DOCKLINE_PHASE_RESPONSE_BODY => c"response-body",
        DOCKLINE_PHASE_TUNNEL => c"tunnel",
        DOCKLINE_PHASE_PROXY_HEADER => c"proxy-header",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// Returns the word for a cause, for logs, as in docs/REASONS.md: "connect-failed", for instance.
///
/// @param cause enum dockline_cause
/// @return a static string; "none" for DOCKLINE_CAUSE_NONE, "unknown" for another number
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_cause_name(cause: i32) -> *const c_char {
    let name: &CStr = match cause {
        DOCKLINE_CAUSE_NONE => c"none",
        DOCKLINE_CAUSE_CLOSED_EARLY => c"closed-early",
        DOCKLINE_CAUSE_RESET => c"reset",
        DOCKLINE_CAUSE_LOST => c"lost",
        DOCKLINE_CAUSE_TLS_TRUNCATED => c"tls-truncated",
        DOCKLINE_CAUSE_TLS_STREAM => c"tls-stream",
        DOCKLINE_CAUSE_METHOD_NOT_OFFERED => c"method-not-offered",
        DOCKLINE_CAUSE_PROXY_HEADER_MALFORMED => c"proxy-header-malformed",
        DOCKLINE_CAUSE_UNTRUSTED_PEER => c"untrusted-peer",
        DOCKLINE_CAUSE_UNREQUESTED_SWITCH => c"unrequested-switch",
        DOCKLINE_CAUSE_TOO_MANY_INTERIM => c"too-many-interim",
        DOCKLINE_CAUSE_TRUNCATED => c"truncated",
        DOCKLINE_CAUSE_CONNECT_FAILED => c"connect-failed",
        DOCKLINE_CAUSE_RESOLVE_FAILED => c"resolve-failed",
        DOCKLINE_CAUSE_NO_ADDRESS => c"no-address",
        DOCKLINE_CAUSE_OWN_LISTENER => c"own-listener",
        DOCKLINE_CAUSE_OUT_OF_RESOURCES => c"out-of-resources",
        DOCKLINE_CAUSE_DRAINED => c"drained",
        DOCKLINE_CAUSE_KILLED => c"killed",
        DOCKLINE_CAUSE_PANICKED => c"panicked",
        DOCKLINE_CAUSE_REQUEST_HEAD_TIMEOUT => c"request-head-timeout",
        DOCKLINE_CAUSE_REQUEST_BODY_TIMEOUT => c"request-body-timeout",
        DOCKLINE_CAUSE_RESPONSE_DELIVERY_TIMEOUT => c"response-delivery-timeout",
        DOCKLINE_CAUSE_REQUEST_DELIVERY_TIMEOUT => c"request-delivery-timeout",
        DOCKLINE_CAUSE_RESPONSE_HEAD_TIMEOUT => c"response-head-timeout",
        DOCKLINE_CAUSE_RESPONSE_BODY_TIMEOUT => c"response-body-timeout",
        DOCKLINE_CAUSE_STREAM_IDLE_TIMEOUT => c"stream-idle-timeout",
        DOCKLINE_CAUSE_TUNNEL_IDLE_TIMEOUT => c"tunnel-idle-timeout",
        DOCKLINE_CAUSE_RESOLVE_TIMEOUT => c"resolve-timeout",
        DOCKLINE_CAUSE_CONNECT_TIMEOUT => c"connect-timeout",
        DOCKLINE_CAUSE_HANDSHAKE_TIMEOUT => c"handshake-timeout",
        DOCKLINE_CAUSE_PROXY_HEADER_TIMEOUT => c"proxy-header-timeout",
        DOCKLINE_CAUSE_TLS_ALERT => c"tls-alert",
        DOCKLINE_CAUSE_TLS_MALFORMED => c"tls-malformed",
        DOCKLINE_CAUSE_TLS_INCOMPATIBLE => c"tls-incompatible",
        DOCKLINE_CAUSE_TLS_MISBEHAVED => c"tls-misbehaved",
        DOCKLINE_CAUSE_TLS_NO_CERTIFICATE => c"tls-no-certificate",
        DOCKLINE_CAUSE_TLS_UNKNOWN_ISSUER => c"tls-unknown-issuer",
        DOCKLINE_CAUSE_TLS_EXPIRED => c"tls-expired",
        DOCKLINE_CAUSE_TLS_REVOKED => c"tls-revoked",
        DOCKLINE_CAUSE_TLS_REVOCATION_UNKNOWN => c"tls-revocation-unknown",
        DOCKLINE_CAUSE_TLS_WRONG_NAME => c"tls-wrong-name",
        DOCKLINE_CAUSE_TLS_BAD_CERTIFICATE => c"tls-bad-certificate",
        DOCKLINE_CAUSE_TLS_HANDSHAKE_TOO_LONG => c"tls-handshake-too-long",
        DOCKLINE_CAUSE_TLS_FAILED => c"tls-failed",
        DOCKLINE_CAUSE_BARE_LF => c"bare-lf",
        DOCKLINE_CAUSE_BARE_CR => c"bare-cr",
        DOCKLINE_CAUSE_EXTRA_EMPTY_LINE => c"extra-empty-line",
        DOCKLINE_CAUSE_REQUEST_LINE_BLANK => c"request-line-blank",
        DOCKLINE_CAUSE_REQUEST_LINE_SHORT => c"request-line-short",
        DOCKLINE_CAUSE_METHOD_BYTE => c"method-byte",
        DOCKLINE_CAUSE_METHOD_TOO_LONG => c"method-too-long",
        DOCKLINE_CAUSE_TARGET_BYTE => c"target-byte",
        DOCKLINE_CAUSE_TARGET_FORM => c"target-form",
        DOCKLINE_CAUSE_TARGET_AUTHORITY => c"target-authority",
        DOCKLINE_CAUSE_TARGET_HOST_MISMATCH => c"target-host-mismatch",
        DOCKLINE_CAUSE_UNSUPPORTED_VERSION => c"unsupported-version",
        DOCKLINE_CAUSE_STATUS_CODE => c"status-code",
        DOCKLINE_CAUSE_REASON_SPACE => c"reason-space",
        DOCKLINE_CAUSE_REASON_BYTE => c"reason-byte",
        DOCKLINE_CAUSE_BLANK_BEFORE_FIELDS => c"blank-before-fields",
        DOCKLINE_CAUSE_OBSOLETE_FOLD => c"obsolete-fold",
        DOCKLINE_CAUSE_FIELD_NAME_BLANK => c"field-name-blank",
        DOCKLINE_CAUSE_FIELD_NAME_EMPTY => c"field-name-empty",
        DOCKLINE_CAUSE_FIELD_NAME_BYTE => c"field-name-byte",
        DOCKLINE_CAUSE_FIELD_COLON => c"field-colon",
        DOCKLINE_CAUSE_FIELD_VALUE_BYTE => c"field-value-byte",
        DOCKLINE_CAUSE_HOST_MISSING => c"host-missing",
        DOCKLINE_CAUSE_HOST_REPEATED => c"host-repeated",
        DOCKLINE_CAUSE_HOST_INVALID => c"host-invalid",
        DOCKLINE_CAUSE_UNSUPPORTED_EXPECTATION => c"unsupported-expectation",
        DOCKLINE_CAUSE_AMBIGUOUS_FRAMING => c"ambiguous-framing",
        DOCKLINE_CAUSE_TRANSFER_CODING_IN_HTTP10 => c"transfer-coding-in-http10",
        DOCKLINE_CAUSE_TRANSFER_CODING_REPEATED => c"transfer-coding-repeated",
        DOCKLINE_CAUSE_TRANSFER_CODING_INVALID => c"transfer-coding-invalid",
        DOCKLINE_CAUSE_UNSUPPORTED_TRANSFER_CODING => c"unsupported-transfer-coding",
        DOCKLINE_CAUSE_CONTENT_LENGTH_REPEATED => c"content-length-repeated",
        DOCKLINE_CAUSE_CONTENT_LENGTH_INVALID => c"content-length-invalid",
        DOCKLINE_CAUSE_CONTENT_LENGTH_TOO_LARGE => c"content-length-too-large",
        DOCKLINE_CAUSE_CONNECTION_OPTION => c"connection-option",
        DOCKLINE_CAUSE_CHUNK_SIZE_EMPTY => c"chunk-size-empty",
        DOCKLINE_CAUSE_CHUNK_SIZE_BYTE => c"chunk-size-byte",
        DOCKLINE_CAUSE_CHUNK_SIZE_TOO_LARGE => c"chunk-size-too-large",
        DOCKLINE_CAUSE_CHUNK_EXTENSION_BYTE => c"chunk-extension-byte",
        DOCKLINE_CAUSE_CHUNK_DATA_END => c"chunk-data-end",
        DOCKLINE_CAUSE_READERS_DISAGREE => c"readers-disagree",
        DOCKLINE_CAUSE_REQUEST_LINE_TOO_LONG => c"request-line-too-long",
        DOCKLINE_CAUSE_HEAD_TOO_LARGE => c"head-too-large",
        DOCKLINE_CAUSE_TOO_MANY_FIELDS => c"too-many-fields",
        DOCKLINE_CAUSE_CHUNK_EXTENSION_TOO_LONG => c"chunk-extension-too-long",
        DOCKLINE_CAUSE_CHUNK_EXTENSIONS_TOO_LONG => c"chunk-extensions-too-long",
        DOCKLINE_CAUSE_CHUNK_OVERHEAD => c"chunk-overhead",
        DOCKLINE_CAUSE_TRAILER_TOO_LARGE => c"trailer-too-large",
        DOCKLINE_CAUSE_TOO_MANY_TRAILER_FIELDS => c"too-many-trailer-fields",
        DOCKLINE_CAUSE_HELD_BODY_TOO_LONG => c"held-body-too-long",
        _ => c"unknown",
    };
    name.as_ptr()
}
