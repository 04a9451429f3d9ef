//! Request targets, authorities and `Host`.

#![forbid(unsafe_code)]

use std::net::Ipv6Addr;
use std::ops::Range;
use std::str;

use bytes::Bytes;

use super::syntax::is_target_byte;
use crate::error::PeerError;

/// How strictly a `Host` field is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// It names a host, as [`Authority::parse`] understands it. For anything that routes by it.
    Strict,
    /// Empty, or visible ASCII without a comma. Docker clients send an empty field on `/session`
    /// and `/grpc`, or the path of a socket; for use only where `Host` is replaced and nothing
    /// depends on it.
    Opaque,
}

/// The form of a request target (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// A path with an optional query.
    Origin,
    /// A whole `http` or `https` URI.
    Absolute,
    /// `host:port`, with CONNECT and only with it.
    Authority,
    /// `*`, with OPTIONS and only with it.
    Asterisk,
}

/// A request target that has the form its method allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    raw: Bytes,
    form: TargetForm,
    authority: Range<usize>,
}

impl RequestTarget {
    /// Returns the target as it was sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// Returns its form.
    #[must_use]
    pub fn form(&self) -> TargetForm {
        self.form
    }

    /// Returns the authority of an absolute-form or authority-form target.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        match self.form {
            TargetForm::Absolute | TargetForm::Authority => Some(&self.raw[self.authority.clone()]),
            TargetForm::Origin | TargetForm::Asterisk => None,
        }
    }

    /// Path and query as they were sent: not decoded, and empty when an absolute-form target has
    /// none.
    #[must_use]
    pub fn path_and_query(&self) -> &[u8] {
        &self.raw[self.authority.end..]
    }

    /// Returns whether a reader of requests takes these bytes for an origin-form target.
    pub(crate) fn is_origin_form(raw: &[u8]) -> bool {
        let (path, query) = raw.split_at(raw.iter().position(|&byte| byte == b'?').unwrap_or(raw.len()));
        path.starts_with(b"/")
            && path.iter().copied().all(is_target_byte)
            && query.iter().all(|&byte| !byte.is_ascii() || is_target_byte(byte))
            && str::from_utf8(query).is_ok()
    }

    /// Finds the form of a target whose bytes the scanner has accepted.
    pub(crate) fn parse(method: &[u8], raw: Bytes) -> Result<Self, PeerError> {
        let (form, authority) = if method == b"CONNECT" {
            match Authority::parse(&raw) {
                Some(Authority { port: Some(_), .. }) => (TargetForm::Authority, 0..raw.len()),
                _ => return Err(PeerError::TargetAuthority),
            }
        } else if raw.starts_with(b"/") {
            (TargetForm::Origin, 0..0)
        } else if raw == "*" && method == b"OPTIONS" {
            (TargetForm::Asterisk, 0..0)
        } else {
            let authority = absolute_authority(&raw).ok_or(PeerError::TargetForm)?;
            if Authority::parse(&raw[authority.clone()]).is_none() {
                return Err(PeerError::TargetAuthority);
            }
            (TargetForm::Absolute, authority)
        };
        Ok(Self { raw, form, authority })
    }

    /// Returns what an origin is to be sent in place of an absolute form (RFC 9112, sections 3.2.1
    /// and 3.2.4).
    pub(crate) fn into_origin_form(self, method: &[u8]) -> Self {
        if self.form != TargetForm::Absolute {
            return self;
        }
        let rest = self.raw.slice(self.authority.end..);
        let (form, raw) = match rest.first() {
            Some(b'/') => (TargetForm::Origin, rest),
            None if method == b"OPTIONS" => (TargetForm::Asterisk, Bytes::from_static(b"*")),
            Some(_) | None => (TargetForm::Origin, [b"/", rest.as_ref()].concat().into()),
        };
        Self { raw, form, authority: 0..0 }
    }
}

/// Returns where the authority of an absolute-form target is.
fn absolute_authority(raw: &[u8]) -> Option<Range<usize>> {
    let has_scheme = |scheme: &str| {
        raw.get(..scheme.len()).is_some_and(|front| front.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    let scheme = ["http://", "https://"].into_iter().find(|scheme| has_scheme(scheme))?;
    let rest = &raw[scheme.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(scheme.len()..scheme.len() + end)
}

/// A host with an optional port, as `Host` and URIs carry it (RFC 9110, sections 4.2 and 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address with its brackets.
    pub host: &'a [u8],
    /// The port, from 1 to 65535.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// Narrower than RFC 3986: a name is letters, digits, `-`, `.`, `_` and `~`. Percent-encoding
    /// and sub-delimiters are legal there and mean different things to different readers; DNS has
    /// no use for them. A colon has a port behind it, and there is no user information.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let host_len = match bytes.first()? {
            b'[' => bytes.iter().position(|&byte| byte == b']')? + 1,
            _ => bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len()),
        };
        let (host, rest) = bytes.split_at(host_len);
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        is_host(host).then_some(Self { host, port })
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        [] => false,
        name => {
            name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
        }
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok().filter(|&port: &u16| port != 0)
}

impl HostPolicy {
    /// Returns whether a `Host` with this value may pass.
    pub(crate) fn accepts(self, value: &[u8]) -> bool {
        match self {
            Self::Strict => Authority::parse(value).is_some(),
            Self::Opaque => value.iter().all(|&byte| byte.is_ascii_graphic() && byte != b','),
        }
    }
}
