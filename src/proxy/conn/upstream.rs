#![forbid(unsafe_code)]
//! The upstream's side: sending a request, reading its answers, failing well.

use std::time::Instant;

use super::body::{BodyReader, BodyWriter, Moved};
use super::exchange::{Link, RequestHalf, ResponseHalf};
use super::hop::{RequestRewrite, ResponseBody, ResponseRewrite};
use super::outcome::{ExchangeEnd, NoReuse};
use super::{ProxyConn, Stage};
use crate::h1::{
    BodyFraming, Fields, RequestKind as MethodKind, ResponseHead, ResponseHeadReader, Version,
    response_framing,
};
use crate::proxy::hijack::{Decision, HijackKind, RequestKind};
use crate::proxy::reply::Reply;

impl ProxyConn {
    pub(super) fn send_request(&mut self, host: Option<&str>, reused: bool, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if exchange.link != Link::Wanted {
            return;
        }
        exchange.link = Link::Connected { reused };
        exchange.response =
            ResponseHalf::Head { reader: ResponseHeadReader::new(&self.config.limits), interim: 0 };
        self.up.progress = now;
        self.up.ended = false;
        let rewrite = RequestRewrite {
            forwarding: &self.config.forwarding,
            client: self.client,
            host,
            framing: exchange.framing,
            send_upgrade: exchange.plan.send_upgrade,
            // A body that is here already needs no permission.
            send_expect: exchange.gathered.is_empty(),
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
        let Stage::Exchange(exchange) = &mut self.stage else { return Some(bytes.len()).filter(|n| *n > 0) };
        if bytes.is_empty() || exchange.link == Link::Wanted {
            return None;
        }
        match &mut exchange.response {
            ResponseHalf::Unasked | ResponseHalf::Ended => None,
            ResponseHalf::Head { reader, .. } => match reader.read(bytes) {
                Ok(None) => None,
                Ok(Some((head, n))) => {
                    self.response_head(&head, now);
                    Some(n)
                }
                Err(_) => {
                    self.bad_response(now);
                    None
                }
            },
            ResponseHalf::Body { reader, writer } => {
                match reader.pump(bytes, *writer, self.down.out.tail()) {
                    Ok(Moved { taken, data, ended }) => {
                        exchange.bytes_down += data;
                        if ended {
                            exchange.response = ResponseHalf::Ended;
                        }
                        Some(taken)
                    }
                    Err(_) => {
                        self.cut(now);
                        None
                    }
                }
            }
        }
    }

    fn response_head(&mut self, head: &ResponseHead, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        match exchange.decide(head, &self.config) {
            Decision::Interim => {
                let ResponseHalf::Head { interim, .. } = &mut exchange.response else { return };
                *interim += 1;
                if *interim > self.config.limits.interim_responses {
                    self.bad_response(now);
                } else if exchange.head.version == Version::Http11 {
                    self.write_response_head(head, ResponseBody::None, false);
                }
            }
            Decision::Tunnel(kind) => {
                exchange.tunnel = Some(kind);
                exchange.response = ResponseHalf::Ended;
                self.note_answer(head, now);
                let body =
                    if kind == HijackKind::Upgrade { ResponseBody::Upgrade } else { ResponseBody::Tunnel };
                self.write_response_head(head, body, false);
            }
            Decision::Message => self.message_head(head, now),
            Decision::Refuse => self.bad_response(now),
        }
    }

    /// The head of an ordinary final answer.
    fn message_head(&mut self, head: &ResponseHead, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        let method = MethodKind::of(exchange.head.method());
        let Ok(framing) = response_framing(method, head.version, head.status(), &head.fields) else {
            return self.bad_response(now);
        };
        if exchange.plan.kind == RequestKind::Switch && !self.down.input.is_empty() {
            // They were meant for a tunnel. Read as a request they would run under the client's name.
            self.down.input.clear();
            exchange.linger = true;
            exchange.close = true;
        }
        if head.version == Version::Http10 || head.fields.has_token("Connection", "close") {
            exchange.no_reuse.get_or_insert(NoReuse::Announced);
        }
        if framing == BodyFraming::CloseDelimited {
            exchange.no_reuse.get_or_insert(NoReuse::CloseDelimited);
        }
        let to_chunks = exchange.head.version == Version::Http11;
        let body = match framing {
            BodyFraming::Empty if head.status().as_u16() == 204 => ResponseBody::None,
            BodyFraming::Empty => ResponseBody::Described,
            BodyFraming::Length(length) => ResponseBody::Length(length),
            BodyFraming::Chunked | BodyFraming::CloseDelimited if to_chunks => {
                ResponseBody::Framed(BodyWriter::Chunked)
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
        let close = exchange.close;
        self.note_answer(head, now);
        self.write_response_head(head, body, close);
    }

    fn note_answer(&mut self, head: &ResponseHead, now: Instant) {
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.status = Some(head.status().as_u16());
            exchange.head_at = Some(now);
        }
    }

    fn write_response_head(&mut self, head: &ResponseHead, body: ResponseBody, close: bool) {
        let via = self.config.forwarding.via.as_deref();
        ResponseRewrite { via, body, close }.encode(head, self.down.out.tail());
    }

    /// The upstream's stream ended, cleanly or not.
    pub(super) fn upstream_ended(&mut self, cleanly: bool, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        let Link::Connected { reused } = exchange.link else { return };
        match &exchange.response {
            ResponseHalf::Body { reader, .. } if cleanly && reader.ends_with_connection() => {
                self.body_ended()
            }
            ResponseHalf::Body { .. } => self.cut(now),
            ResponseHalf::Head { .. }
                if reused && !exchange.retried && self.up.input.is_empty() && exchange.may_repeat() =>
            {
                self.release_upstream(Some(NoReuse::Abandoned));
                self.ask_again();
            }
            ResponseHalf::Head { .. } => self.bad_response(now),
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

    fn bad_response(&mut self, now: Instant) {
        let message = "the Docker daemon's answer was no valid HTTP, or it closed the connection before one";
        self.reply(&Reply::error(502, message), ExchangeEnd::BadResponse, now);
    }

    /// Answers here, if the client has not seen the beginning of another answer; else cuts that.
    pub(super) fn reply(&mut self, reply: &Reply, end: ExchangeEnd, now: Instant) {
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        if exchange.has_begun_answer() {
            return self.cut_because(end, now);
        }
        exchange.end = end;
        exchange.status = Some(reply.status().as_u16());
        exchange.head_at = Some(now);
        exchange.bytes_down = reply.body().len() as u64;
        // A body that is not read, or bytes held for a tunnel: nothing behind them can be read as a request.
        let held = exchange.plan.kind == RequestKind::Switch && !self.down.input.is_empty();
        if !exchange.is_received() || held {
            exchange.request = RequestHalf::Abandoned;
            exchange.linger = true;
            exchange.close = true;
            self.down.input.clear();
        }
        let is_head = exchange.head.method() == b"HEAD";
        let close = exchange.close;
        self.release_upstream(Some(NoReuse::Abandoned));
        if let Stage::Exchange(exchange) = &mut self.stage {
            exchange.response = ResponseHalf::Ended;
        }
        self.write_reply(reply, close, is_head);
    }

    fn cut(&mut self, now: Instant) {
        self.cut_because(ExchangeEnd::Truncated, now);
    }

    /// The answer cannot be finished: the client must not take what it got for the whole.
    fn cut_because(&mut self, end: ExchangeEnd, now: Instant) {
        self.release_upstream(Some(NoReuse::Abandoned));
        let Stage::Exchange(exchange) = &mut self.stage else { return };
        // Only where the end of the connection is the end of the body does a clean close lie.
        let reset = matches!(
            exchange.response,
            ResponseHalf::Body {
                reader: BodyReader::UntilEnd | BodyReader::Chunked(_),
                writer: BodyWriter::Raw
            }
        );
        let stage = std::mem::replace(&mut self.stage, Stage::Cutting { since: now, reset });
        if let Stage::Exchange(mut exchange) = stage {
            exchange.end = end;
            self.events.push_back(super::ConnEvent::ExchangeEnded(exchange.into_summary(now)));
        }
    }
}
