#![forbid(unsafe_code)]
//! [`Exchange`]: one request and its responses, as joint states of both sides.
//!
//! All transitions are here: methods that change the state and return what
//! [`ProxyConn`](super::ProxyConn) has to do about it.

use std::sync::Arc;
use std::time::Instant;

use super::facts;
use super::hop::{ResponseBody, check_connection_options, has_too_many_options};
use super::outcome::{ExchangeEnd, ExchangeSummary, NoReuse, Reuse};
use crate::error::{Cause, Failure, LimitError, ParseError, PeerError, Phase, Side};
use crate::h1::{
    BodyFraming, BodyReader, BodyWriter, Fields, MethodKind, Moved, RequestHead, ResponseHead,
    ResponseHeadReader, StatusCode, Version, locate, request_framing, response_framing,
};
use crate::limits::Limits;
use crate::proxy::config::ConnConfig;
use crate::proxy::hijack::{Decision, HijackKind, RequestKind, RequestPlan};
use crate::proxy::rewrite::Rewrite;

/// How far the request has got.
///
/// ```text
///   Gathering ──► Received      Streaming ──► Received
///       └──────► Abandoned ◄────────┘
/// ```
pub(super) enum RequestHalf {
    /// Its body is read whole before an upstream is asked for ([`Upstream::Wanted`]).
    Gathering { reader: BodyReader, body: Vec<u8> },
    /// Its body is passed on as it comes.
    Streaming { reader: BodyReader, writer: BodyWriter },
    /// It was received whole.
    Received,
    /// The rest of its body has no destination and is discarded; the connection ends with the
    /// response.
    Abandoned,
}

/// How far the upstream has got: its connection and its response.
///
/// ```text
///   Wanted ──► Asked ──► Responding ──► Responded ──► Released
///     ▲          │ └────────────────────►  ▲
///     └──────────┤ kept connection was dead, once
///                └──► Switched
/// ```
/// A response that the proxy writes itself leads from each of them to `Released`.
pub(super) enum Upstream {
    /// There is no connection yet. One is asked for as soon as the request is not
    /// [`RequestHalf::Gathering`] any more.
    Wanted {
        /// The body that was read whole.
        gathered: Option<Vec<u8>>,
        /// Whether the request was sent before, on an idle connection that turned out to be dead.
        again: bool,
    },
    /// It gets the request; the response head is awaited.
    Asked {
        link: Link,
        reader: ResponseHeadReader,
        /// Interim responses so far.
        interim: u32,
        /// When it had all of the request, or no more of it was to come.
        since: Option<Instant>,
    },
    /// The response body is passed to the client as it comes.
    Responding { link: Link, reader: BodyReader, writer: BodyWriter },
    /// The response is whole, and in the client's queue. The connection is about to be given back.
    Responded { link: Link },
    /// The head of a tunnel is in the client's queue.
    Switched,
    /// The connection was given back, or there was none. The rest of the response is in the
    /// client's queue.
    Released,
}

/// A connection that serves the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Whether it was an idle connection, which its peer may have closed, and the first one for
    /// this request.
    may_be_stale: bool,
    /// Why it cannot be used again, as far as is known.
    no_reuse: Option<NoReuse>,
    /// Whether the client's end was passed on.
    half_closed: bool,
}

/// What becomes of the client's connection after the exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Whether it ends with this exchange.
    pub(super) close: bool,
    /// Whether the client may have sent bytes that will not be read, so that closing at once could
    /// cost it the response.
    pub(super) linger: bool,
    /// Whether the client takes the end of its connection for the end of the response, so that a
    /// cut needs a reset.
    pub(super) until_close: bool,
}

/// Whether the client waits for a 100 before it sends its body (RFC 9110, section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// No, or the upstream is not asked.
    Nothing,
    /// `Expect: 100-continue` is passed on; no 100 was received yet.
    Continue,
    /// A 100 was passed on to the client.
    Continued,
}

/// What is reported of the exchange.
struct Record {
    tunnel: Option<HijackKind>,
    status: Option<u16>,
    /// The end, if the proxy wrote the response itself.
    reply: Option<ExchangeEnd>,
    bytes_up: u64,
    bytes_down: u64,
    started: Instant,
    head_at: Option<Instant>,
}

pub(super) struct Exchange {
    pub(super) head: RequestHead,
    pub(super) plan: RequestPlan,
    /// What the host changes in the request.
    pub(super) changes: Option<Arc<Rewrite>>,
    /// The request body, as its head declares it.
    framing: BodyFraming,
    pub(super) request: RequestHalf,
    pub(super) upstream: Upstream,
    expect: Expect,
    pub(super) ending: Ending,
    record: Record,
    /// When a byte last moved, on either side.
    pub(super) moved_at: Instant,
}

/// The result of taking a piece of the request body.
pub(super) enum BodyStep {
    /// It has to wait.
    Wait,
    /// So many bytes were dealt with.
    Taken(usize),
    /// The same, and the body was read whole: an upstream is wanted.
    Gathered(usize),
}

/// What to do about a response head.
pub(super) enum HeadStep {
    /// An interim response that is not for the client.
    Skip,
    /// An interim response for the client.
    Interim,
    /// The final response.
    Final(ResponseBody),
}

/// What to do about the end of the upstream's stream.
pub(super) enum EndStep {
    Nothing,
    /// It was the end of the body, which is to be ended for the client as well.
    EndBody(BodyWriter),
    /// The idle connection was dead: ask for another one.
    Retry,
    Fail(Cause),
}

impl Exchange {
    /// Begins an exchange. An error comes with the head, for the log.
    pub(super) fn new(
        head: RequestHead,
        config: &ConnConfig,
        started: Instant,
        now: Instant,
    ) -> Result<Box<Self>, Box<(Cause, RequestHead)>> {
        let framing = match check_connection_options(&head.fields, config.limits.fields)
            .and_then(|()| request_framing(head.version, &head.fields))
        {
            Ok(framing) => framing,
            Err(error) => return Err(Box::new((Cause::Parse(locate(error, &head.fields)), head))),
        };
        let plan = facts::plan(&head, config);
        if plan.refusal.is_some() {
            return Err(Box::new((Cause::MethodNotOffered, head)));
        }
        let request = match BodyReader::new(framing, &config.limits) {
            None => RequestHalf::Received,
            Some(reader) if plan.kind == RequestKind::Switch => {
                if matches!(framing, BodyFraming::Length(length) if length > config.limits.held as u64) {
                    return Err(Box::new((Cause::Parse(too_long_to_hold(&head.fields)), head)));
                }
                RequestHalf::Gathering { reader, body: Vec::new() }
            }
            Some(reader) => {
                let chunked = framing == BodyFraming::Chunked;
                let writer = if chunked { BodyWriter::Chunked { trailers: true } } else { BodyWriter::Raw };
                RequestHalf::Streaming { reader, writer }
            }
        };
        let asks_close = head.version == Version::Http10 || head.fields.has_token("Connection", "close");
        // What follows was meant for a tunnel, even where it comes after the response that there is
        // none: the client cannot know yet. Read as a request it would run under the client's name
        // (RFC 9931).
        let ends = plan.proposes_tunnel;
        // A body that is gathered here needs no permission of the upstream.
        let passes_expect = head.expects_continue() && !matches!(request, RequestHalf::Gathering { .. });
        Ok(Box::new(Self {
            head,
            plan,
            changes: None,
            framing,
            request,
            upstream: Upstream::Wanted { gathered: None, again: false },
            expect: if passes_expect { Expect::Continue } else { Expect::Nothing },
            ending: Ending { close: asks_close || ends, linger: ends, until_close: false },
            record: Record {
                tunnel: None,
                status: None,
                reply: None,
                bytes_up: 0,
                bytes_down: 0,
                started,
                head_at: None,
            },
            moved_at: now,
        }))
    }

    // ---- the request

    /// Takes bytes of the request body: into the `upstream` queue, or gathers them.
    pub(super) fn take_body(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        upstream: &mut Vec<u8>,
        now: Instant,
    ) -> Result<BodyStep, ParseError> {
        let is_linked = self.is_linked();
        let Moved { taken, data, ended } = match &mut self.request {
            RequestHalf::Received => return Ok(BodyStep::Wait),
            RequestHalf::Abandoned => return Ok(BodyStep::Taken(bytes.len())),
            RequestHalf::Streaming { .. } if !is_linked => return Ok(BodyStep::Wait),
            RequestHalf::Streaming { reader, writer } => reader.pump(bytes, *writer, upstream)?,
            RequestHalf::Gathering { reader, body } => {
                let moved = reader.pump(bytes, BodyWriter::Raw, body)?;
                if body.len() > limits.held {
                    return Err(ParseError { fault: LimitError::Held.into(), at: limits.held as u64 });
                }
                moved
            }
        };
        self.record.bytes_up = self.record.bytes_up.saturating_add(data);
        if !ended {
            return Ok(BodyStep::Taken(taken));
        }
        match std::mem::replace(&mut self.request, RequestHalf::Received) {
            RequestHalf::Gathering { body, .. } => {
                self.upstream = Upstream::Wanted { gathered: Some(body), again: false };
                Ok(BodyStep::Gathered(taken))
            }
            _ => {
                self.request_complete(now);
                Ok(BodyStep::Taken(taken))
            }
        }
    }

    /// Notes that `n` bytes of the request body were moved past this machine.
    pub(super) fn body_passed(&mut self, n: u64, now: Instant) {
        if let RequestHalf::Streaming { reader, .. } = &mut self.request {
            self.record.bytes_up = self.record.bytes_up.saturating_add(n);
            if reader.passed(n) {
                self.request = RequestHalf::Received;
                self.request_complete(now);
            }
        }
    }

    /// From here on it is the upstream's turn.
    fn request_complete(&mut self, now: Instant) {
        if let Upstream::Asked { since, .. } = &mut self.upstream {
            *since = Some(now);
        }
    }

    /// Gives up the rest of the request: nothing behind the part that was read can be taken for a
    /// request.
    pub(super) fn abandon_request(&mut self) {
        self.request = RequestHalf::Abandoned;
        self.ending.linger = true;
        self.ending.close = true;
    }

    /// Ends the client's connection with this exchange, although the client may not know.
    pub(super) fn end_connection(&mut self) {
        self.ending.linger |= !self.ending.close;
        self.ending.close = true;
    }

    // ---- the upstream

    /// Takes a connection for the request, if one is wanted. Returns how the body is framed, and
    /// the body if it was gathered.
    pub(super) fn link(
        &mut self,
        reused: bool,
        limits: &Limits,
        now: Instant,
    ) -> Option<(BodyFraming, Vec<u8>)> {
        if !self.needs_upstream() {
            return None;
        }
        let Upstream::Wanted { gathered, again } = &mut self.upstream else { return None };
        let (gathered, again) = (gathered.take(), *again);
        let is_switch = self.plan.kind == RequestKind::Switch;
        self.upstream = Upstream::Asked {
            link: Link {
                may_be_stale: reused && !again,
                no_reuse: is_switch.then_some(NoReuse::SwitchProposed),
                half_closed: false,
            },
            reader: ResponseHeadReader::new(limits),
            interim: 0,
            since: self.is_received().then_some(now),
        };
        Some(match gathered {
            Some(body) => (BodyFraming::Length(body.len() as u64), body),
            None => (self.framing, Vec::new()),
        })
    }

    /// Decides what a response head means, and goes on accordingly.
    ///
    /// # Errors
    /// The cause, if the response cannot be accepted.
    pub(super) fn take_head(
        &mut self,
        response: &ResponseHead,
        config: &ConnConfig,
        now: Instant,
    ) -> Result<HeadStep, Cause> {
        if has_too_many_options(&response.fields, config.limits.fields) {
            return Err(Cause::Parse(locate(PeerError::ConnectionOption, &response.fields)));
        }
        match facts::decide(&self.head, &self.plan, response, config) {
            Decision::Interim => self.interim(response.status(), &config.limits),
            Decision::Tunnel(kind) => {
                self.upstream = Upstream::Switched;
                self.record.tunnel = Some(kind);
                self.response_began(response.status(), now);
                let is_upgrade = kind == HijackKind::Upgrade;
                Ok(HeadStep::Final(if is_upgrade { ResponseBody::Upgrade } else { ResponseBody::Tunnel }))
            }
            Decision::Message => self.message(response, &config.limits, now),
            Decision::Refuse => Err(Cause::UnrequestedSwitch),
        }
    }

    fn interim(&mut self, status: StatusCode, limits: &Limits) -> Result<HeadStep, Cause> {
        let Upstream::Asked { interim, .. } = &mut self.upstream else { return Ok(HeadStep::Skip) };
        *interim += 1;
        if *interim > limits.interim_responses {
            return Err(Cause::TooManyInterim);
        }
        let is_continue = status.as_u16() == 100;
        if self.head.version == Version::Http10 || (is_continue && self.expect == Expect::Nothing) {
            return Ok(HeadStep::Skip);
        }
        if is_continue {
            self.expect = Expect::Continued;
        }
        Ok(HeadStep::Interim)
    }

    /// Goes on with the head of an ordinary final response.
    fn message(&mut self, head: &ResponseHead, limits: &Limits, now: Instant) -> Result<HeadStep, Cause> {
        let method = MethodKind::of(self.head.method());
        let framing = response_framing(method, head.version, head.status(), &head.fields)
            .map_err(|error| Cause::Parse(locate(error, &head.fields)))?;
        let Some(mut link) = self.upstream.link_mut().copied() else { return Ok(HeadStep::Skip) };
        if head.version == Version::Http10 || head.fields.has_token("Connection", "close") {
            link.no_reuse.get_or_insert(NoReuse::Announced);
        }
        if framing == BodyFraming::CloseDelimited {
            link.no_reuse.get_or_insert(NoReuse::CloseDelimited);
        }
        let to_chunks = self.head.version == Version::Http11;
        let body = match framing {
            BodyFraming::Empty if head.status().as_u16() == 204 => ResponseBody::None,
            BodyFraming::Empty => ResponseBody::Described(described_length(head)),
            BodyFraming::Length(length) => ResponseBody::Length(length),
            BodyFraming::Chunked | BodyFraming::CloseDelimited if to_chunks => {
                let trailers = self.head.fields.has_token("TE", "trailers");
                ResponseBody::Framed(BodyWriter::Chunked { trailers })
            }
            BodyFraming::Chunked | BodyFraming::CloseDelimited => ResponseBody::Framed(BodyWriter::Raw),
        };
        let writer = match body {
            ResponseBody::Framed(writer) => writer,
            _ => BodyWriter::Raw,
        };
        self.ending.until_close = body == ResponseBody::Framed(BodyWriter::Raw);
        self.upstream = match BodyReader::new(framing, limits) {
            Some(reader) => Upstream::Responding { link, reader, writer },
            None => Upstream::Responded { link },
        };
        if self.has_responded() && !self.is_received() {
            self.abandon_request();
        }
        self.response_began(head.status(), now);
        Ok(HeadStep::Final(body))
    }

    fn response_began(&mut self, status: StatusCode, now: Instant) {
        self.record.status = Some(status.as_u16());
        self.record.head_at = Some(now);
    }

    /// Notes that body bytes have moved to the client, and whether those were the last.
    pub(super) fn response_moved(&mut self, data: u64, ended: bool) {
        self.record.bytes_down = self.record.bytes_down.saturating_add(data);
        if ended && let Upstream::Responding { link, .. } = self.upstream {
            self.upstream = Upstream::Responded { link };
        }
    }

    /// Notes that `n` bytes of the response body were moved past this machine.
    pub(super) fn response_passed(&mut self, n: u64) {
        if let Upstream::Responding { reader, .. } = &mut self.upstream {
            let ended = reader.passed(n);
            self.response_moved(n, ended);
        }
    }

    /// Decides what the end of the upstream's stream means: a clean one, or one with a cause.
    /// `untouched`: no byte of a response is here.
    pub(super) fn upstream_ended(&mut self, cause: Option<Cause>, untouched: bool) -> EndStep {
        match &self.upstream {
            Upstream::Responding { reader, writer, .. }
                if cause.is_none() && reader.ends_with_connection() =>
            {
                let writer = *writer;
                self.response_moved(0, true);
                EndStep::EndBody(writer)
            }
            Upstream::Responding { .. } => EndStep::Fail(cause.unwrap_or(Cause::Truncated)),
            Upstream::Asked { link, interim: 0, .. }
                if link.may_be_stale && untouched && self.may_repeat() =>
            {
                EndStep::Retry
            }
            Upstream::Asked { .. } => EndStep::Fail(cause.unwrap_or(Cause::ClosedEarly)),
            Upstream::Wanted { .. }
            | Upstream::Responded { .. }
            | Upstream::Switched
            | Upstream::Released => EndStep::Nothing,
        }
    }

    /// Wants another connection, after the last one was given back.
    pub(super) fn retry(&mut self) {
        self.upstream = Upstream::Wanted { gathered: None, again: true };
    }

    /// Notes that the upstream accepts no more of the request. Its response is still waited for.
    /// Returns whether bytes of the client are left without a destination.
    pub(super) fn upstream_refused(&mut self, now: Instant) -> bool {
        let Some(link) = self.upstream.link_mut() else { return false };
        link.no_reuse.get_or_insert(NoReuse::Abandoned);
        let is_streaming = matches!(self.request, RequestHalf::Streaming { .. });
        if is_streaming {
            self.abandon_request();
            self.request_complete(now);
        }
        is_streaming
    }

    /// Notes that the client's end was passed on.
    pub(super) fn half_closed(&mut self) {
        if let Some(link) = self.upstream.link_mut() {
            link.half_closed = true;
            link.no_reuse.get_or_insert(NoReuse::HalfClosed);
        }
    }

    /// Gives the connection back. Returns whether it may serve another request; nothing if there is
    /// none. `sent`: the upstream has got the whole request; `clean`: it sent nothing behind its
    /// response.
    pub(super) fn release(&mut self, because: Option<NoReuse>, sent: bool, clean: bool) -> Option<Reuse> {
        let reuse = match &self.upstream {
            Upstream::Wanted { .. } | Upstream::Released => None,
            Upstream::Switched | Upstream::Asked { .. } | Upstream::Responding { .. } => {
                Some(Reuse::Close(because.unwrap_or(NoReuse::Abandoned)))
            }
            Upstream::Responded { link } => Some(match because.or(link.no_reuse) {
                Some(reason) => Reuse::Close(reason),
                None if !sent || !self.is_received() => Reuse::Close(NoReuse::EarlyResponse),
                None if !clean => Reuse::Close(NoReuse::Leftover),
                None => Reuse::Keep,
            }),
        };
        self.upstream = Upstream::Released;
        if reuse.is_some() && !self.is_received() {
            self.request = RequestHalf::Abandoned;
        }
        reuse
    }

    // ---- the end

    /// Notes that the proxy writes the response itself, with so many bytes of body, once the
    /// upstream is released. Returns whether bytes of the client are left without a destination.
    pub(super) fn reply(&mut self, end: ExchangeEnd, status: StatusCode, now: Instant) -> bool {
        self.record.reply = Some(end);
        self.response_began(status, now);
        let is_cut = !self.is_received();
        if is_cut {
            self.abandon_request();
        }
        is_cut
    }

    /// Notes how long the body of the proxy's own response is.
    pub(super) fn reply_written(&mut self, bytes: u64) {
        self.record.bytes_down = bytes;
    }

    /// Returns the report of the exchange, which ended in this way, or else as its response
    /// implies.
    pub(super) fn into_summary(
        self: Box<Self>,
        end: Option<ExchangeEnd>,
        now: Instant,
    ) -> Box<ExchangeSummary> {
        let Record { tunnel, status, reply, bytes_up, bytes_down, started, head_at } = self.record;
        Box::new(ExchangeSummary {
            request: Some(self.head),
            status,
            end: end.or(reply).unwrap_or(ExchangeEnd::Complete),
            own_reply: reply.is_some(),
            tunnel,
            bytes_up,
            bytes_down,
            duration: now.saturating_duration_since(started),
            time_to_head: head_at.map(|at| at.saturating_duration_since(started)),
        })
    }

    // ---- questions

    /// Returns whether an upstream connection is asked for.
    pub(super) fn needs_upstream(&self) -> bool {
        matches!(self.upstream, Upstream::Wanted { .. }) && !self.is_gathering()
    }

    pub(super) fn is_gathering(&self) -> bool {
        matches!(self.request, RequestHalf::Gathering { .. })
    }

    pub(super) fn is_received(&self) -> bool {
        matches!(self.request, RequestHalf::Received)
    }

    /// Returns whether the upstream has a connection for this request.
    pub(super) fn is_linked(&self) -> bool {
        !matches!(self.upstream, Upstream::Wanted { .. } | Upstream::Released)
    }

    /// Returns whether bytes of a response are to come.
    pub(super) fn awaits_upstream(&self) -> bool {
        matches!(self.upstream, Upstream::Asked { .. } | Upstream::Responding { .. })
    }

    /// Returns whether the client's queue has all there is to come of the response.
    pub(super) fn has_responded(&self) -> bool {
        matches!(self.upstream, Upstream::Responded { .. } | Upstream::Switched | Upstream::Released)
    }

    /// Returns how the connection became a tunnel.
    pub(super) fn tunnel(&self) -> Option<HijackKind> {
        self.record.tunnel
    }

    /// Returns whether a byte of a final response has gone to the client's queue.
    pub(super) fn has_begun_response(&self) -> bool {
        self.record.status.is_some()
    }

    /// Returns whether `Expect: 100-continue` is passed on.
    pub(super) fn sends_expect(&self) -> bool {
        self.expect != Expect::Nothing
    }

    /// Returns whether the client may be waiting for a 100 before it sends its body.
    pub(super) fn awaits_continue(&self) -> bool {
        self.expect == Expect::Continue && self.record.bytes_up == 0
    }

    /// Returns whether the exchange may be silent for long. A response that the proxy wrote has an
    /// end, and a client accepts it.
    pub(super) fn may_be_silent(&self) -> bool {
        self.plan.kind == RequestKind::Stream && self.record.reply.is_none()
    }

    /// Returns whether the upstream may be half-closed, once the client has ended: the request is
    /// whole.
    pub(super) fn may_half_close(&self) -> bool {
        let is_open = self.upstream.link().is_some_and(|link| !link.half_closed);
        self.plan.passes_end_on && self.is_received() && is_open
    }

    /// Returns whether the request may be sent a second time after no response (RFC 9110, section
    /// 9.2.2): only such a request is worth the risk of an idle connection, which its peer may be
    /// closing just now.
    pub(super) fn may_repeat(&self) -> bool {
        let idempotent =
            matches!(self.head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
        idempotent && self.plan.kind != RequestKind::Switch && self.framing == BodyFraming::Empty
    }

    /// Returns what is going on for the client: what it is sending, or waiting for.
    pub(super) fn client_phase(&self) -> Phase {
        match (&self.request, &self.upstream) {
            (RequestHalf::Gathering { .. } | RequestHalf::Streaming { .. }, _) => Phase::RequestBody,
            (_, Upstream::Wanted { .. }) => Phase::Connect,
            (_, Upstream::Asked { .. }) => Phase::ResponseHead,
            (_, _) => Phase::ResponseBody,
        }
    }

    /// Returns a failure of the upstream in what it is doing.
    pub(super) fn upstream_failure(&self, cause: Cause) -> Failure {
        let phase = match self.upstream {
            Upstream::Wanted { .. } => Phase::Connect,
            Upstream::Asked { .. } => Phase::ResponseHead,
            _ => Phase::ResponseBody,
        };
        Failure::new(Side::Upstream, phase, cause)
    }
}

impl Upstream {
    /// Returns the connection, while the response is not over.
    fn link(&self) -> Option<&Link> {
        match self {
            Self::Asked { link, .. } | Self::Responding { link, .. } | Self::Responded { link } => Some(link),
            Self::Wanted { .. } | Self::Switched | Self::Released => None,
        }
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        match self {
            Self::Asked { link, .. } | Self::Responding { link, .. } | Self::Responded { link } => Some(link),
            Self::Wanted { .. } | Self::Switched | Self::Released => None,
        }
    }
}

/// Returns the error for a body that is too long to be held: at the field that announces it.
fn too_long_to_hold(fields: &Fields) -> ParseError {
    let at = fields.named("Content-Length").next().map_or(0, |line| fields.position(line));
    ParseError { fault: LimitError::Held.into(), at: at as u64 }
}

/// Returns the length that a response without a body announces (RFC 9110, section 8.6), if two
/// readers would agree on it.
fn described_length(head: &ResponseHead) -> Option<u64> {
    match response_framing(MethodKind::Ordinary, head.version, StatusCode::OK, &head.fields) {
        Ok(BodyFraming::Length(length)) => Some(length),
        _ => None,
    }
}
