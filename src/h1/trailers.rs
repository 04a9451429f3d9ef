//! Which trailer fields may go on (RFC 9110, section 6.5.1).
//!
//! A receiver may merge trailers into the head. A field that affects framing, routing, identity or
//! the meaning of the message must therefore not arrive this late, after every check.

#![forbid(unsafe_code)]

use super::fields::{Field, Fields};
use super::syntax::is_alias;

const FORBIDDEN: &[&str] = &[
    // framing
    "Content-Length",
    "Transfer-Encoding",
    "Trailer",
    // routing
    "Host",
    "Forwarded",
    "Via",
    "X-Real-IP",
    // hop-by-hop and switching
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Upgrade",
    "HTTP2-Settings",
    // authentication and state
    "Authorization",
    "Authentication-Info",
    "Cookie",
    "Set-Cookie",
    "WWW-Authenticate",
    // how the message is to be handled
    "Age",
    "Cache-Control",
    "Content-Encoding",
    "Content-Range",
    "Content-Type",
    "Date",
    "Expect",
    "Expires",
    "Location",
    "Max-Forwards",
    "Pragma",
    "Range",
    "Retry-After",
    "Vary",
    "Warning",
];

/// Docker carries credentials in `X-Registry-` fields.
const FORBIDDEN_FAMILIES: &[&str] =
    &["If-", "Proxy-", "Sec-", "X-Forwarded-", "X-Client-", "X-SSL-", "X-Registry-"];

/// Keeps the trailers that affect nothing.
pub(super) fn drop_forbidden(trailers: &mut Fields) {
    trailers.retain(|line| !is_forbidden(line));
}

fn is_forbidden(line: Field<'_>) -> bool {
    let name = line.name();
    FORBIDDEN.iter().any(|other| is_alias(name, other))
        || FORBIDDEN_FAMILIES
            .iter()
            .any(|family| name.get(..family.len()).is_some_and(|front| is_alias(front, family)))
}
