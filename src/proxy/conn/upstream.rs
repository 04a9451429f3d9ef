#![forbid(unsafe_code)]
//! The upstream's side: sending a request, reading its responses, failing well.

use std::time::Instant;

use super::error_reply::reply_to;
use super::exchange::{EndStep, HeadStep, Upstream};
use super::hop::{Persistence, RequestRewrite, ResponseBody, ResponseRewrite};
use super::outcome::{ExchangeEnd, NoReuse};
use super::{ConnEvent, ProxyConn, Stage};
use crate::error::{Cause, Failure};
use crate::h1::{Fields, Moved, ResponseHead};
use crate::proxy::reply::Reply;

impl ProxyConn {
    /// Sends the request on a connection, if one is wanted.
    pub(super) fn send_request(&mut self, host: Option<&str>, reused: bool, now: Instant) {
        let Some(exchange) = self.stage.exchange_mut() else { return };
        let Some((framing, mut body)) = exchange.link(reused, &self.config.limits, now) else { return };
        self.up.ended = false;
        let rewrite = RequestRewrite {
            forwarding: &self.config.forwarding,
            client: self.client,
            is_trusted: self.is_trusted,
            host,
            changes: exchange.changes.as_deref(),
            framing,
            send_upgrade: exchange.plan.send_upgrade,
            send_expect: exchange.sends_expect(),
        };
        let out = self.up.out.tail();
        rewrite.encode(&exchange.head, out);
        out.append(&mut body);
    }

    /// Takes one step with bytes of the upstream; `None` when the rest has to wait.
    pub(super) fn consume_upstream(&mut self, bytes: &[u8], now: Instant) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        let exchange = match &mut self.stage {
            Stage::Exchange(exchange) if exchange.is_linked() => exchange,
            Stage::Tunnel => return None,
            // Behind a connection that was given back: they must not come before another one's
            // bytes.
            _ => return Some(bytes.len()),
        };
        match &mut exchange.upstream {
            Upstream::Asked { reader, .. } => match reader.read(bytes) {
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
            Upstream::Responding { reader, writer, .. } => {
                match reader.pump(bytes, *writer, self.down.out.tail()) {
                    Ok(Moved { taken, data, ended }) => {
                        exchange.response_moved(data, ended);
                        Some(taken)
                    }
                    Err(error) => {
                        self.upstream_fails(Cause::Parse(error), now);
                        Some(bytes.len())
                    }
                }
            }
            _ => None,
        }
    }

    fn response_head(&mut self, head: &ResponseHead, now: Instant) {
        let Some(exchange) = self.stage.exchange_mut() else { return };
        match exchange.take_head(head, &self.config, now) {
            Ok(HeadStep::Skip) => {}
            Ok(HeadStep::Interim) => {
                self.write_response_head(head, ResponseBody::None, Persistence::Untold);
            }
            Ok(HeadStep::Final(body @ (ResponseBody::Upgrade | ResponseBody::Tunnel))) => {
                self.write_response_head(head, body, Persistence::Untold);
            }
            Ok(HeadStep::Final(body)) => {
                let close = exchange.ending.close;
                self.write_response_head(head, body, self.persistence(close));
            }
            Err(cause) => self.upstream_fails(cause, now),
        }
    }

    fn write_response_head(&mut self, head: &ResponseHead, body: ResponseBody, persistence: Persistence) {
        let via = self.config.forwarding.via.as_deref();
        ResponseRewrite { via, body, persistence }.encode(head, self.down.out.tail());
    }

    /// The upstream's stream ended: cleanly, or for a cause.
    pub(super) fn upstream_ended(&mut self, cause: Option<Cause>, now: Instant) {
        let untouched = self.up.input.is_empty();
        let Some(exchange) = self.stage.exchange_mut() else { return };
        match exchange.upstream_ended(cause, untouched) {
            EndStep::Nothing => {}
            EndStep::EndBody(writer) => writer.end(&Fields::default(), self.down.out.tail()),
            EndStep::Retry => {
                self.release_upstream(Some(NoReuse::Abandoned));
                if let Some(exchange) = self.stage.exchange_mut() {
                    exchange.retry();
                }
                self.ask_for_upstream(true);
            }
            EndStep::Fail(cause) => self.upstream_fails(cause, now),
        }
    }

    /// The upstream cannot finish, or begin, its response.
    pub(super) fn upstream_fails(&mut self, cause: Cause, now: Instant) {
        if let Some(exchange) = self.stage.exchange() {
            self.fail(exchange.upstream_failure(cause), now);
        }
    }

    /// Responds with an error, or cuts the response that the client has seen the beginning of.
    pub(super) fn fail(&mut self, failure: Failure, now: Instant) {
        self.respond(&reply_to(&failure, &self.config), ExchangeEnd::Failed(failure), now);
    }

    /// Writes a response of the proxy's own, if the client has not seen the beginning of another
    /// one; else cuts that.
    pub(super) fn respond(&mut self, reply: &Reply, end: ExchangeEnd, now: Instant) {
        let Some(exchange) = self.stage.exchange_mut() else { return };
        if exchange.has_begun_response() {
            return self.cut(end, now);
        }
        if exchange.reply(end, reply.status(), now) {
            self.down.input.clear();
        }
        let (close, is_head) = (exchange.ending.close, exchange.head.method() == b"HEAD");
        self.release_upstream(Some(NoReuse::Abandoned));
        let bytes = self.write_reply(reply, close, is_head);
        if let Some(exchange) = self.stage.exchange_mut() {
            exchange.reply_written(bytes);
        }
    }

    /// The response cannot be finished: the client must not take what it got for the whole.
    fn cut(&mut self, end: ExchangeEnd, now: Instant) {
        self.release_upstream(Some(NoReuse::Abandoned));
        let Some(exchange) = self.stage.exchange() else { return };
        // Only where the end of the connection is the end of the body, or of a tunnel, does a clean
        // close lie.
        let reset = exchange.ending.until_close || exchange.tunnel().is_some();
        let stage = std::mem::replace(&mut self.stage, Stage::Cutting { since: now, reset });
        if let Stage::Exchange(exchange) = stage {
            self.events.push_back(ConnEvent::ExchangeEnded(exchange.into_summary(Some(end), now)));
        }
    }
}
