#![forbid(unsafe_code)]
//! Which fields of a head are passed on, and which ones this hop adds (RFC 9110, section 7.6).
//!
//! Framing was decided from the fields as received. They are removed first, then ours are added, so
//! that no field of a peer can remove or alter one of ours.

use std::net::IpAddr;

use super::forwarded;
use crate::error::PeerError;
use crate::h1::{
    BodyFraming, BodyWriter, Field, FieldLine, Fields, HeadWriter, RequestHead, ResponseHead, TargetForm,
    Version, is_alias,
};
use crate::proxy::config::Forwarding;
use crate::proxy::rewrite::Rewrite;

/// Fields of one hop, and those that are written anew.
const HOP_BY_HOP: &[&str] = &[
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Transfer-Encoding",
    "Content-Length",
    "Upgrade",
    "HTTP2-Settings",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Authentication-Info",
];

/// The lengths of those names, a bit each: most other names are ruled out by their length.
const HOP_BY_HOP_LENGTHS: u32 = {
    let (mut lengths, mut at) = (0, 0);
    while at < HOP_BY_HOP.len() {
        lengths |= 1 << HOP_BY_HOP[at].len();
        at += 1;
    }
    lengths
};

const REAL_IP: &str = "X-Real-IP";

/// What a client could claim about itself, or about who it is.
const CLAIMS: &[&str] = &["Forwarded", REAL_IP];
const CLAIM_FAMILIES: &[&str] = &["X-Forwarded-", "X-Client-", "X-SSL-"];

/// Fields that this hop decides about besides: those that it writes itself, whether or not it is
/// configured to.
const OWN: &[&str] = &[
    "Host",
    "Expect",
    "Via",
    REAL_IP,
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
];

/// Naming one of these in `Connection` asks a proxy to break the message; without its `Expect`,
/// client and server wait for each other.
const NOT_CONNECTION_OPTIONS: &[&str] =
    &["Host", "Content-Length", "Transfer-Encoding", "Expect", "Cookie", "Authorization"];

/// The client, as far as fields about it are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Refuses a `Connection` that names an end-to-end field, or more fields than there may be.
pub(super) fn check_connection_options(fields: &Fields, max_fields: usize) -> Result<(), PeerError> {
    let is_protected = |option: &[u8]| NOT_CONNECTION_OPTIONS.iter().any(|name| is_alias(option, name));
    if fields.members("Connection").any(is_protected) || has_too_many_options(fields, max_fields) {
        return Err(PeerError::ConnectionOption);
    }
    Ok(())
}

/// Returns whether `Connection` has too many options: each field is looked up among them, so the
/// product of both must stay small.
pub(super) fn has_too_many_options(fields: &Fields, max_fields: usize) -> bool {
    fields.members("Connection").nth(max_fields).is_some()
}

/// How a request head is passed on.
pub(super) struct RequestRewrite<'a> {
    pub(super) forwarding: &'a Forwarding,
    pub(super) client: Client,
    /// Whether the client is a trusted proxy.
    pub(super) is_trusted: bool,
    /// Replaces `Host`.
    pub(super) host: Option<&'a str>,
    pub(super) changes: Option<&'a Rewrite>,
    /// How the body is sent.
    pub(super) framing: BodyFraming,
    pub(super) send_upgrade: bool,
    pub(super) send_expect: bool,
}

impl RequestRewrite<'_> {
    /// Writes the head as the upstream is to see it.
    pub(super) fn encode(&self, head: &RequestHead, out: &mut Vec<u8>) {
        let fields = &head.fields;
        // RFC 9112, section 3.2.1: an origin gets the path.
        let shortened = (head.target().form() == TargetForm::Absolute)
            .then(|| head.target().clone().into_origin_form(head.method()));
        let target = shortened.as_ref().unwrap_or(head.target()).as_bytes();
        let target = self.changes.and_then(|changes| changes.target_of(head)).unwrap_or(target);
        let own_host = fields.values("Host").next().or(head.target().authority());
        // HTTP/1.0 may leave it out, HTTP/1.1 not (RFC 9112, section 3.2).
        // The target of a CONNECT is for the upstream, and `Host` has to agree with it.
        let replaced = self.changes.and_then(Rewrite::host).or(self.host.map(str::as_bytes));
        let replaced = replaced.filter(|_| head.target().form() != TargetForm::Authority);
        let hop_by_hop = HopByHop::of(fields);
        let mut written = HeadWriter::request(head.method(), target, Version::Http11, out)
            .field("Host", replaced.or(own_host).unwrap_or_default())
            .lines(fields.iter().filter(|line| !hop_by_hop.has(line.name()) && self.goes_on(*line)))
            .framing(self.framing);
        if self.send_upgrade {
            // Podman compares the whole value.
            written = written.field("Connection", b"Upgrade").each("Upgrade", fields.values("Upgrade"));
        } else if fields.has_token("TE", "trailers") {
            written = written.field("Connection", b"TE").field("TE", b"trailers");
        }
        if let Some(changes) = self.changes {
            written = written.lines(changes.fields().iter().map(FieldLine::as_field));
        }
        self.write_claims(head, own_host, written).end();
    }

    /// Returns whether a field that is not hop-by-hop is passed on.
    fn goes_on(&self, line: Field<'_>) -> bool {
        let name = line.name();
        !is_alias(name, "Host")
            && (self.send_expect || !line.is("Expect"))
            && (self.is_trusted || !is_claim(name))
            && (!self.forwarding.x_forwarded || !is_alias(name, REAL_IP))
            && self.changes.is_none_or(|changes| !changes.sets(name))
    }

    fn write_claims<'o>(
        &self,
        head: &RequestHead,
        host: Option<&[u8]>,
        mut written: HeadWriter<'o>,
    ) -> HeadWriter<'o> {
        let Forwarding { via, x_forwarded, forwarded, .. } = self.forwarding;
        let proto = if self.client.tls { "https" } else { "http" };
        if let Some(via) = via {
            written = write_via(written, head.version, via);
        }
        if *x_forwarded {
            written = self.write_x_forwarded(&head.fields, host, proto, written);
        }
        if *forwarded {
            let mut value = match self.client.address.map(|address| address.to_canonical()) {
                Some(IpAddr::V4(address)) => format!("for={address}"),
                Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
                None => String::from("for=unknown"),
            };
            value.push_str(";proto=");
            value.push_str(proto);
            written = written.field("Forwarded", value.as_bytes());
        }
        written
    }

    fn write_x_forwarded<'o>(
        &self,
        fields: &Fields,
        host: Option<&[u8]>,
        proto: &str,
        mut written: HeadWriter<'o>,
    ) -> HeadWriter<'o> {
        // Lists are appended to; a single value is better known to a trusted proxy, which is
        // nearer to the client.
        let kept = |name| fields.values(name).next().filter(|_| self.is_trusted);
        let address = self.client.address.map(|address| address.to_canonical().to_string());
        if let Some(address) = &address {
            written = written.field("X-Forwarded-For", address.as_bytes());
        }
        let kept_proto = kept("X-Forwarded-Proto");
        if kept_proto.is_none() {
            written = written.field("X-Forwarded-Proto", proto.as_bytes());
        }
        let kept_host = kept("X-Forwarded-Host");
        if let Some(host) = host.filter(|_| kept_host.is_none()) {
            written = written.field("X-Forwarded-Host", host);
        }
        if kept("X-Forwarded-Port").is_none() {
            let port = forwarded::port(kept_host.or(host), kept_proto.unwrap_or(proto.as_bytes()));
            written = written.formatted("X-Forwarded-Port", format_args!("{port}"));
        }
        // Some proxies extend the list and pass `X-Real-IP` on unchecked: so the list comes first.
        let trusted = Some(&self.forwarding.trusted).filter(|_| self.is_trusted);
        let named = trusted.and_then(|trusted| forwarded::client_address(fields, trusted));
        match (named, kept(REAL_IP), address) {
            (Some(named), ..) => written.formatted(REAL_IP, format_args!("{}", named.to_canonical())),
            (None, Some(value), _) => written.field(REAL_IP, value),
            (None, None, Some(address)) => written.field(REAL_IP, address.as_bytes()),
            (None, None, None) => written,
        }
    }
}

/// How a response head is passed on.
pub(super) struct ResponseRewrite<'a> {
    pub(super) via: Option<&'a [u8]>,
    pub(super) body: ResponseBody,
    pub(super) persistence: Persistence,
}

/// What a response head states about the future of its connection (RFC 9112, section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing: the default of HTTP/1.1, or not the concern of this head.
    Untold,
    /// It ends with the response.
    Close,
    /// It is kept for so many seconds.
    Kept(u64),
}

impl Persistence {
    pub(super) fn write(self, head: HeadWriter<'_>) -> HeadWriter<'_> {
        match self {
            Self::Untold => head,
            Self::Close => head.field("Connection", b"close"),
            Self::Kept(seconds) => head
                .field("Connection", b"keep-alive")
                .formatted("Keep-Alive", format_args!("timeout={seconds}")),
        }
    }
}

/// What a response head states about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseBody {
    /// There is none, and none is announced: 1xx, 204.
    None,
    /// There is none, but its length may be given: HEAD, 304.
    Described(Option<u64>),
    /// It has this length.
    Length(u64),
    /// In chunks, or until the connection ends.
    Framed(BodyWriter),
    /// The head opens a tunnel; `Upgrade` is passed on with it.
    Upgrade,
    /// The head opens a tunnel without saying so.
    Tunnel,
}

impl ResponseRewrite<'_> {
    /// Writes the head as the client is to see it.
    pub(super) fn encode(&self, head: &ResponseHead, out: &mut Vec<u8>) {
        let fields = &head.fields;
        let hop_by_hop = HopByHop::of(fields);
        let mut written = HeadWriter::response(Version::Http11, head.status(), head.reason(), out)
            .lines(fields.iter().filter(|line| !hop_by_hop.has(line.name())));
        written = match self.body {
            ResponseBody::None
            | ResponseBody::Described(None)
            | ResponseBody::Tunnel
            | ResponseBody::Framed(BodyWriter::Raw) => written,
            ResponseBody::Described(Some(length)) | ResponseBody::Length(length) => {
                written.framing(BodyFraming::Length(length))
            }
            ResponseBody::Framed(BodyWriter::Chunked { .. }) => written.framing(BodyFraming::Chunked),
            ResponseBody::Upgrade => {
                written.field("Connection", b"Upgrade").each("Upgrade", fields.values("Upgrade"))
            }
        };
        if let Some(via) = self.via {
            written = write_via(written, head.version, via);
        }
        self.persistence.write(written).end();
    }
}

/// Writes `Via` (RFC 9110, section 7.6.3): the version is that of the message as received.
fn write_via<'o>(written: HeadWriter<'o>, version: Version, pseudonym: &[u8]) -> HeadWriter<'o> {
    let number: &[u8] = match version {
        Version::Http10 => b"1.0 ",
        Version::Http11 => b"1.1 ",
    };
    written.field("Via", &[number, pseudonym].concat())
}

/// Tests whether a field is hop-by-hop: by its name, or because `Connection` names it.
struct HopByHop<'f> {
    /// The fields of the head, if there is a `Connection` among them.
    connection: Option<&'f Fields>,
}

impl<'f> HopByHop<'f> {
    fn of(fields: &'f Fields) -> Self {
        Self { connection: fields.contains("Connection").then_some(fields) }
    }

    fn has(&self, name: &[u8]) -> bool {
        let may_be_known = name.len() < 32 && HOP_BY_HOP_LENGTHS >> name.len() & 1 == 1;
        (may_be_known && HOP_BY_HOP.iter().any(|known| is_alias(name, known)))
            || self.connection.is_some_and(|fields| {
                fields.members("Connection").any(|option| option.eq_ignore_ascii_case(name))
            })
    }
}

/// Returns whether this hop decides by itself about the field with this name: nobody else may set
/// it.
pub(in crate::proxy) fn is_written_here(name: &[u8]) -> bool {
    [HOP_BY_HOP, OWN, CLAIMS].into_iter().flatten().any(|known| is_alias(name, known))
}

fn is_claim(name: &[u8]) -> bool {
    CLAIMS.iter().any(|known| is_alias(name, known))
        || CLAIM_FAMILIES
            .iter()
            .any(|family| name.get(..family.len()).is_some_and(|front| is_alias(front, family)))
}
