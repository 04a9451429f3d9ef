#![forbid(unsafe_code)]
//! One request and its answers.

use std::borrow::Cow;
use std::time::Instant;

use super::outcome::{ExchangeEnd, ExchangeSummary, NoReuse, Reuse};
use crate::error::{Cause, Failure, LimitError, ParseError, Phase, Side};
use crate::h1::{
    BodyFraming, BodyReader, BodyWriter, Fields, RequestHead, ResponseHead, ResponseHeadReader, StatusCode,
    Version, locate, request_framing,
};
use crate::proxy::config::ConnConfig;
use crate::proxy::conn::hop::check_connection_options;
use crate::proxy::hijack::{
    Decision, HijackKind, HttpVersion, RequestFacts, RequestKind, RequestPlan, ResponseFacts, decide, plan,
};

/// How far the request has got.
pub(super) enum RequestHalf {
    /// Its body is read whole before anything is sent.
    Gathering { reader: BodyReader, body: Vec<u8> },
    /// Its body goes on as it comes.
    Streaming { reader: BodyReader, writer: BodyWriter },
    /// It was received whole.
    Received,
    /// The rest of its body has nowhere to go and is thrown away; the connection ends with the answer.
    Abandoned,
}

/// How far the answer has got.
pub(super) enum ResponseHalf {
    /// Nobody was asked yet.
    Unasked,
    /// Its head is waited for.
    Head { reader: ResponseHeadReader, interim: u32 },
    /// Its body goes to the client as it comes.
    Body { reader: BodyReader, writer: BodyWriter },
    /// The client's queue holds the rest of it.
    Ended,
}

/// The connection to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Not there yet.
    Wanted,
    /// There. `reused`: it has served before.
    Connected { reused: bool },
    /// Given back.
    Released,
}

pub(super) struct Exchange {
    pub(super) head: RequestHead,
    pub(super) plan: RequestPlan,
    pub(super) framing: BodyFraming,
    /// A body that was read whole.
    pub(super) gathered: Vec<u8>,
    pub(super) request: RequestHalf,
    pub(super) response: ResponseHalf,
    pub(super) link: Link,
    /// Whether the client's connection ends with this exchange.
    pub(super) close: bool,
    /// Whether the client may have sent what nobody will read, so that closing at once could cost it the answer.
    pub(super) linger: bool,
    /// Whether the client takes the end of its connection for the end of the answer.
    pub(super) until_close: bool,
    /// Whether `Expect: 100-continue` goes on.
    pub(super) send_expect: bool,
    /// Whether the client was told to go on with its body.
    pub(super) told_to_continue: bool,
    pub(super) retried: bool,
    /// Why the upstream's connection cannot be used again, as far as is known before the end.
    pub(super) no_reuse: Option<NoReuse>,
    /// Whether the client's end was passed on.
    pub(super) half_closed: bool,
    pub(super) tunnel: Option<HijackKind>,
    pub(super) end: ExchangeEnd,
    /// Whether the response was written here.
    pub(super) own_reply: bool,
    pub(super) status: Option<u16>,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) started: Instant,
    /// When a byte last moved, on either side.
    pub(super) moved_at: Instant,
    pub(super) asked_at: Option<Instant>,
    pub(super) head_at: Option<Instant>,
}

impl Exchange {
    /// Looks at a request. An error comes with the head, for the log.
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
        let plan = with_facts(&head, config, plan);
        if plan.refusal.is_some() {
            return Err(Box::new((Cause::MethodNotOffered, head)));
        }
        let is_switch = plan.kind == RequestKind::Switch;
        // What follows was meant for a tunnel, even where it comes after the answer that there is none: the client cannot
        // know yet. Read as a request it would run under the client's name (RFC 9931).
        let ends = plan.proposes_tunnel;
        let request = match BodyReader::new(framing, &config.limits) {
            None => RequestHalf::Received,
            Some(reader) if is_switch => {
                if matches!(framing, BodyFraming::Length(length) if length > config.limits.held as u64) {
                    let line = head.fields.named("Content-Length").next();
                    let at = line.map_or(0, |line| head.fields.position(line)) as u64;
                    let error = ParseError { fault: LimitError::Held.into(), at };
                    return Err(Box::new((Cause::Parse(error), head)));
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
        let gathering = matches!(request, RequestHalf::Gathering { .. });
        Ok(Box::new(Self {
            no_reuse: is_switch.then_some(NoReuse::SwitchProposed),
            // A body that is here already needs no permission.
            send_expect: head.expects_continue() && !gathering,
            head,
            plan,
            framing,
            told_to_continue: false,
            gathered: Vec::new(),
            request,
            response: ResponseHalf::Unasked,
            link: Link::Wanted,
            close: asks_close || ends,
            linger: ends,
            until_close: false,
            retried: false,
            half_closed: false,
            tunnel: None,
            end: ExchangeEnd::Complete,
            own_reply: false,
            status: None,
            bytes_up: 0,
            bytes_down: 0,
            started,
            moved_at: now,
            asked_at: None,
            head_at: None,
        }))
    }

    /// Whether the request may be sent a second time when nobody has answered it (RFC 9110, section 9.2.2): only
    /// such a request is worth the risk of a kept connection, which its peer may be closing just now.
    pub(super) fn may_repeat(&self) -> bool {
        let idempotent =
            matches!(self.head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
        idempotent && self.plan.kind != RequestKind::Switch && self.framing == BodyFraming::Empty
    }

    /// What a response head means.
    pub(super) fn decide(&self, response: &ResponseHead, config: &ConnConfig) -> Decision {
        let fields = &response.fields;
        let upgrade = joined(fields, "Upgrade");
        let facts = ResponseFacts {
            status: response.status().as_u16(),
            content_type: fields.values("Content-Type").next(),
            upgrade: upgrade.as_deref(),
            has_length: fields.contains("Content-Length"),
            has_transfer_encoding: fields.contains("Transfer-Encoding"),
        };
        with_facts(&self.head, config, |request| decide(request, &facts))
    }

    /// Whether an interim response is for the client.
    pub(super) fn passes_interim(&self, status: StatusCode) -> bool {
        self.head.version == Version::Http11 && (status.as_u16() != 100 || self.send_expect)
    }

    /// Whether the client may be waiting to be told to go on with its body.
    pub(super) fn awaits_continue(&self) -> bool {
        self.send_expect && !self.told_to_continue && self.bytes_up == 0
    }

    /// The client's connection ends with this exchange, although the client may not know.
    pub(super) fn end_connection(&mut self) {
        self.linger |= !self.close;
        self.close = true;
    }

    /// Nothing behind the part of the body that was read can be taken for a request.
    pub(super) fn abandon_request(&mut self) {
        self.request = RequestHalf::Abandoned;
        self.linger = true;
        self.close = true;
    }

    /// Whether silence is its nature. An answer that was written here has an end, and a client takes it.
    pub(super) fn may_be_silent(&self) -> bool {
        self.plan.kind == RequestKind::Stream && self.end == ExchangeEnd::Complete
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.response, ResponseHalf::Ended)
    }

    /// Whether a byte of a final answer has gone to the client's queue.
    pub(super) fn has_begun_answer(&self) -> bool {
        self.status.is_some()
    }

    pub(super) fn is_received(&self) -> bool {
        matches!(self.request, RequestHalf::Received)
    }

    /// Returns what is going on, for the client: what it is sending, or waiting for.
    pub(super) fn client_phase(&self) -> Phase {
        match (&self.request, &self.response) {
            (RequestHalf::Gathering { .. } | RequestHalf::Streaming { .. }, _) => Phase::RequestBody,
            (_, ResponseHalf::Unasked) => Phase::Connect,
            (_, ResponseHalf::Head { .. }) => Phase::ResponseHead,
            (_, ResponseHalf::Body { .. } | ResponseHalf::Ended) => Phase::ResponseBody,
        }
    }

    /// Returns a failure of the upstream in what it is doing.
    pub(super) fn upstream_failure(&self, cause: Cause) -> Failure {
        let phase = match self.response {
            ResponseHalf::Unasked => Phase::Connect,
            ResponseHalf::Head { .. } => Phase::ResponseHead,
            ResponseHalf::Body { .. } | ResponseHalf::Ended => Phase::ResponseBody,
        };
        Failure::new(Side::Upstream, phase, cause)
    }

    /// Whether the upstream's connection may serve another request. `sent`: it has got the whole request;
    /// `clean`: it sent nothing behind its answer.
    pub(super) fn reuse(&self, sent: bool, clean: bool) -> Reuse {
        if let Some(reason) = self.no_reuse {
            Reuse::Close(reason)
        } else if !self.is_answered() {
            Reuse::Close(NoReuse::Abandoned)
        } else if !sent || !self.is_received() {
            Reuse::Close(NoReuse::EarlyResponse)
        } else if !clean {
            Reuse::Close(NoReuse::Leftover)
        } else {
            Reuse::Keep
        }
    }

    pub(super) fn into_summary(self: Box<Self>, now: Instant) -> Box<ExchangeSummary> {
        Box::new(ExchangeSummary {
            request: Some(self.head),
            status: self.status,
            end: self.end,
            own_reply: self.own_reply,
            tunnel: self.tunnel,
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            duration: now.saturating_duration_since(self.started),
            time_to_head: self.head_at.map(|at| at.saturating_duration_since(self.started)),
        })
    }
}

fn with_facts<T>(head: &RequestHead, config: &ConnConfig, ask: impl FnOnce(&RequestFacts<'_>) -> T) -> T {
    let upgrade = joined(&head.fields, "Upgrade");
    let connection = joined(&head.fields, "Connection");
    ask(&RequestFacts {
        method: head.method(),
        target: head.target().as_bytes(),
        base: &config.base,
        version: match head.version {
            Version::Http10 => HttpVersion::Http10,
            Version::Http11 => HttpVersion::Http11,
        },
        upgrade: upgrade.as_deref(),
        connection: connection.as_deref(),
        allow_connect: config.allow_connect,
    })
}

/// The value of a list field over all its lines (RFC 9110, section 5.3).
fn joined<'f>(fields: &'f Fields, name: &str) -> Option<Cow<'f, [u8]>> {
    let mut values = fields.values(name);
    let first = values.next()?;
    Some(values.fold(Cow::Borrowed(first), |mut all, value| {
        all.to_mut().extend_from_slice(b", ");
        all.to_mut().extend_from_slice(value);
        all
    }))
}
