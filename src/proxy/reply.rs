#![forbid(unsafe_code)]
//! Responses that the proxy writes itself.

use std::fmt::Write;

use bytes::Bytes;

use crate::h1::{FieldLine, Fields, StatusCode};

/// A final response that does not come from an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    status: StatusCode,
    fields: Fields,
    body: Bytes,
}

impl Reply {
    /// Returns a response with this status, `Content-Type` and body. A status outside 200 to 599
    /// becomes 500. The body of a 204 or 304 is not sent, nor is an empty `Content-Type`.
    #[must_use]
    pub fn new(status: u16, content_type: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::new(status).filter(|status| !status.is_interim());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut fields = Fields::default();
        let line = FieldLine::new("Content-Type", content_type);
        if let Some(line) = line.ok().filter(|line| !line.value().is_empty()) {
            fields.push(line);
        }
        Self { status, fields, body: body.into() }
    }

    /// Returns an error in the form of the Docker Engine API, `{"message": …}`: docker prints the
    /// message.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        let mut body = String::from(r#"{"message":""#);
        for c in message.chars() {
            // JSON (RFC 8259, section 7); bidirectional controls could falsify a message on a
            // terminal.
            match c {
                '"' => body.push_str("\\\""),
                '\\' => body.push_str("\\\\"),
                '\0'..='\x1f'
                | '\x7f'..='\u{9f}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => {
                    let _ = write!(body, "\\u{:04x}", u32::from(c));
                }
                _ => body.push(c),
            }
        }
        body.push_str("\"}\n");
        Self::new(status, "application/json", body)
    }

    /// Adds a field. `Connection`, `Content-Length` and `Transfer-Encoding` are not accepted: the
    /// connection decides how the response is framed.
    #[must_use]
    pub fn with_field(mut self, line: FieldLine) -> Self {
        if !["Connection", "Content-Length", "Transfer-Encoding"].iter().any(|name| line.is(name)) {
            self.fields.push(line);
        }
        self
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Returns the reason phrase for a status of our own (RFC 9110, section 15).
pub(super) fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}
