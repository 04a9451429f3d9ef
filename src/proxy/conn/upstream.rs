#![forbid(unsafe_code)]
//! The upstream's side: sending a request, reading its answers, failing well.

use std::time::Instant;

use super::exchange::{Link, RequestHalf, ResponseHalf};
use super::failure::reply_to;
use super::hop::{Persistence, RequestRewrite, ResponseBody, ResponseRewrite, has_too_many_options};
use super::outcome::{ExchangeEnd, NoReuse};
use super::{ProxyConn, Stage};
use crate::error::{Cause, Failure, PeerError};
use crate::h1::{
    BodyFraming, BodyReader, BodyWriter, Fields, MethodKind, Moved, ResponseHead, ResponseHeadReader,
    StatusCode, Version, locate, response_framing,
};
use crate::proxy::hijack::{Decision, HijackKind};
use crate::proxy::reply::Reply;

impl ProxyConn {
    pub(super) fn send_request(&mut self, host: Option<&str>, reused: bool, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if exchange.link != Link::Wanted || matches!(exchange.request, RequestHalf::Gathering { .. }) {
            return;
        }
        exchange.link = Link::Connected { reused };
        exchange.response =
            ResponseHalf::Head { reader: ResponseHeadReader::new(&self.config.limits), interim: 0 };
        exchange.half_closed = false;
        self.up.ended = false;
        let rewrite = RequestRewrite {
            forwarding: &self.config.forwarding,
            client: self.client,
            host,
            framing: exchange.framing,
            send_upgrade: exchange.plan.send_upgrade,
            send_expect: exchange.send_expect,
        };
        let out = self.up.out.tail();
        rewrite.encode(&exchange.head, out);
        out.append(&mut exchange.gathered);
        if exchange.is_received() {
            exchange.asked_at = Some(now);
        }
    }

    /// One step with bytes of the upstream; `None` when the rest has to wait, or belongs to nobody.
    pub(super) fn consume_upstream(&mut self, bytes: &[u8], now: Instant) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        let exchange = match &mut self.stage {
            Stage::Exchange(exchange) if matches!(exchange.link, Link::Connected { .. }) => exchange,
            Stage::Tunnel => return None,
            // Behind a connection that was given back: they must not come before another one's bytes.
            _ => return Some(bytes.len()),
        };
        match &mut exchange.response {
            ResponseHalf::Unasked | ResponseHalf::Ended => None,
            ResponseHalf::Head { reader, .. } => match reader.read(bytes) {
                Ok(None) => None,
                Ok(Some((head, n))) => {
                    self.response_head(&head, now);
                    Some(n)
                }
                Err(error) => {
                    self.upstream_fails(Cause::Parse(error), now);
                    Some(bytes.len())
                }
            },
            ResponseHalf::Body { reader, writer } => {
                match reader.pump(bytes, *writer, self.down.out.tail()) {
                    Ok(Moved { taken, data, ended }) => {
                        exchange.bytes_down = exchange.bytes_down.saturating_add(data);
                        if ended {
                            exchange.response = ResponseHalf::Ended;
                        }
                        Some(taken)
                    }
                    Err(error) => {
                        self.upstream_fails(Cause::Parse(error), now);
                        Some(bytes.len())
                    }
                }
            }
        }
    }

    fn response_head(&mut self, head: &ResponseHead, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if has_too_many_options(&head.fields, self.config.limits.fields) {
            let error = locate(PeerError::ConnectionOption, &head.fields);
            return self.upstream_fails(Cause::Parse(error), now);
        }
        match exchange.decide(head, &self.config) {
            Decision::Interim => {
                let ResponseHalf::Head { interim, .. } = &mut exchange.response else { return };
                *interim += 1;
                if *interim > self.config.limits.interim_responses {
                    self.upstream_fails(Cause::TooManyInterim, now);
                } else if exchange.passes_interim(head.status()) {
                    exchange.told_to_continue |= head.status().as_u16() == 100;
                    self.write_response_head(head, ResponseBody::None, Persistence::Untold);
                }
            }
            Decision::Tunnel(kind) => {
                exchange.tunnel = Some(kind);
                exchange.response = ResponseHalf::Ended;
                self.note_answer(head, now);
                let body =
                    if kind == HijackKind::Upgrade { ResponseBody::Upgrade } else { ResponseBody::Tunnel };
                self.write_response_head(head, body, Persistence::Untold);
            }
            Decision::Message => self.message_head(head, now),
            Decision::Refuse => self.upstream_fails(Cause::UnrequestedSwitch, now),
        }
    }

    /// The head of an ordinary final answer.
    fn message_head(&mut self, head: &ResponseHead, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        let method = MethodKind::of(exchange.head.method());
        let framing = match response_framing(method, head.version, head.status(), &head.fields) {
            Ok(framing) => framing,
            Err(error) => return self.upstream_fails(Cause::Parse(locate(error, &head.fields)), now),
        };
        if head.version == Version::Http10 || head.fields.has_token("Connection", "close") {
            exchange.no_reuse.get_or_insert(NoReuse::Announced);
        }
        if framing == BodyFraming::CloseDelimited {
            exchange.no_reuse.get_or_insert(NoReuse::CloseDelimited);
        }
        let to_chunks = exchange.head.version == Version::Http11;
        let body = match framing {
            BodyFraming::Empty if head.status().as_u16() == 204 => ResponseBody::None,
            BodyFraming::Empty => ResponseBody::Described(described_length(head)),
            BodyFraming::Length(length) => ResponseBody::Length(length),
            BodyFraming::Chunked | BodyFraming::CloseDelimited if to_chunks => {
                let trailers = exchange.head.fields.has_token("TE", "trailers");
                ResponseBody::Framed(BodyWriter::Chunked { trailers })
            }
            BodyFraming::Chunked | BodyFraming::CloseDelimited => ResponseBody::Framed(BodyWriter::Raw),
        };
        let writer = match body {
            ResponseBody::Framed(writer) => writer,
            _ => BodyWriter::Raw,
        };
        exchange.response = match BodyReader::new(framing, &self.config.limits) {
            Some(reader) => ResponseHalf::Body { reader, writer },
            None => ResponseHalf::Ended,
        };
        exchange.until_close = body == ResponseBody::Framed(BodyWriter::Raw);
        if exchange.is_answered() && !exchange.is_received() {
            exchange.abandon_request();
        }
        let close = exchange.close;
        let persistence = self.persistence(close);
        self.note_answer(head, now);
        self.write_response_head(head, body, persistence);
    }

    fn note_answer(&mut self, head: &ResponseHead, now: Instant) {
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.status = Some(head.status().as_u16());
            exchange.head_at = Some(now);
        }
    }

    fn write_response_head(&mut self, head: &ResponseHead, body: ResponseBody, persistence: Persistence) {
        let via = self.config.forwarding.via.as_deref();
        ResponseRewrite { via, body, persistence }.encode(head, self.down.out.tail());
    }

    /// The upstream's stream ended: cleanly, or for a cause.
    pub(super) fn upstream_ended(&mut self, cause: Option<Cause>, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        let Link::Connected { reused } = exchange.link else { return };
        match &exchange.response {
            ResponseHalf::Body { reader, .. } if cause.is_none() && reader.ends_with_connection() => {
                self.body_ended()
            }
            ResponseHalf::Body { .. } => self.upstream_fails(cause.unwrap_or(Cause::Truncated), now),
            ResponseHalf::Head { interim: 0, .. }
                if reused && !exchange.retried && self.up.input.is_empty() && exchange.may_repeat() =>
            {
                self.release_upstream(Some(NoReuse::Abandoned));
                self.ask_again();
            }
            ResponseHalf::Head { .. } => self.upstream_fails(cause.unwrap_or(Cause::ClosedEarly), now),
            ResponseHalf::Unasked | ResponseHalf::Ended => {}
        }
    }

    fn ask_again(&mut self) {
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.retried = true;
            exchange.no_reuse = None;
            exchange.link = Link::Wanted;
            exchange.response = ResponseHalf::Unasked;
            self.ask_for_upstream(true);
        }
    }

    /// The end of the connection was the end of the body.
    fn body_ended(&mut self) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if let ResponseHalf::Body { writer, .. } = exchange.response {
            writer.end(&Fields::default(), self.down.out.tail());
        }
        exchange.response = ResponseHalf::Ended;
    }

    /// The upstream cannot finish, or begin, its response.
    pub(super) fn upstream_fails(&mut self, cause: Cause, now: Instant) {
        if let Stage::Exchange(exchange) = &self.stage {
            self.fail(exchange.upstream_failure(cause), now);
        }
    }

    /// Responds with an error, or cuts the response that the client has seen the beginning of.
    pub(super) fn fail(&mut self, failure: Failure, now: Instant) {
        self.reply(&reply_to(&failure), ExchangeEnd::Failed(failure), now);
    }

    /// Answers here, if the client has not seen the beginning of another answer; else cuts that.
    pub(super) fn reply(&mut self, reply: &Reply, end: ExchangeEnd, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if exchange.has_begun_answer() {
            return self.cut_because(end, now);
        }
        exchange.end = end;
        exchange.own_reply = true;
        exchange.status = Some(reply.status().as_u16());
        exchange.head_at = Some(now);
        if !exchange.is_received() {
            exchange.abandon_request();
            self.down.input.clear();
        }
        self.release_upstream(Some(NoReuse::Abandoned));
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        exchange.response = ResponseHalf::Ended;
        let is_head = exchange.head.method() == b"HEAD";
        let close = exchange.close;
        let bytes_down = self.write_reply(reply, close, is_head);
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.bytes_down = bytes_down;
        }
    }

    /// The answer cannot be finished: the client must not take what it got for the whole.
    fn cut_because(&mut self, end: ExchangeEnd, now: Instant) {
        self.release_upstream(Some(NoReuse::Abandoned));
        let Stage::Exchange(exchange) = &self.stage else { return };
        // Only where the end of the connection is the end of the body does a clean close lie.
        let reset = exchange.until_close;
        let stage = std::mem::replace(&mut self.stage, Stage::Cutting { since: now, reset });
        if let Stage::Exchange(mut exchange) = stage {
            exchange.end = end;
            self.events.push_back(super::ConnEvent::ExchangeEnded(exchange.into_summary(now)));
        }
    }
}

/// The length that a response without a body tells (RFC 9110, section 8.6), if two readers would agree on it.
fn described_length(head: &ResponseHead) -> Option<u64> {
    match response_framing(MethodKind::Ordinary, head.version, StatusCode::OK, &head.fields) {
        Ok(BodyFraming::Length(length)) => Some(length),
        _ => None,
    }
}
