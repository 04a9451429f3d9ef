#![forbid(unsafe_code)]
//! How an [`HttpSession`] moves bytes between its two connections and the machine, or past it.

use std::io;

use super::{HttpSession, UpstreamLink};
use crate::drive::{Filled, Lane, SCRATCH_BYTES, Transport};
use crate::engine::causes;
use crate::engine::endpoint::Endpoint;
use crate::engine::observe::Event;
use crate::engine::shared::Shared;
use crate::error::{Cause, Side};
use crate::sys;

impl HttpSession {
    /// Writes once what there is for a side. Returns whether anything moved.
    pub(super) fn write(&mut self, side: Side, shared: &mut Shared) -> bool {
        let Some(endpoint) = endpoint(&mut self.client, &mut self.upstream, side) else { return false };
        if !endpoint.ready.write {
            return false;
        }
        let lane = self.lanes.from(side.other());
        let result = match endpoint.flush(shared) {
            // What a lane holds comes before the rest.
            Ok(true) if lane.holds() => endpoint.deliver(lane, shared).map(|n| {
                if n > 0 {
                    self.conn.passed(side.other(), n as u64, shared.now);
                }
                n > 0
            }),
            Ok(true) => self.write_output(side, shared),
            Ok(false) => Ok(false),
            Err(error) => Err(error),
        };
        result.unwrap_or_else(|error| {
            self.write_failed(side, &error, shared);
            true
        })
    }

    /// Writes the output of the machine for a side, or its end.
    fn write_output(&mut self, side: Side, shared: &Shared) -> io::Result<bool> {
        let wants = self.conn.wants(side);
        let Some(endpoint) = endpoint(&mut self.client, &mut self.upstream, side) else { return Ok(false) };
        if wants.write {
            let n = endpoint.write(self.conn.output(side), shared)?;
            self.conn.output_sent(side, n, shared.now);
            return Ok(n > 0);
        }
        let is_shut = wants.shut_write && endpoint.shut_write(shared)?;
        if is_shut {
            self.conn.shut_done(side, shared.now);
        }
        Ok(is_shut)
    }

    fn write_failed(&mut self, side: Side, error: &io::Error, shared: &mut Shared) {
        *self.lanes.from(side.other()) = Lane::new(true);
        if side == Side::Upstream && !sys::is_hang_up(error) {
            // The upstream would wait for the rest of its request.
            return self.read_failed(side, error, shared);
        }
        if side == Side::Downstream {
            shared.report(&Event::Reset { side, error });
        }
        // What is on its way to the other side goes on, for instance a response that came early.
        self.conn.output_refused(side, causes::of_connection(error), shared.now);
    }

    /// Returns whether the bytes of a side are wanted.
    pub(super) fn listens_to(&mut self, from: Side) -> bool {
        !self.lanes.from(from).holds() && self.conn.wants(from).read
    }

    pub(super) fn may_read(&mut self, from: Side) -> bool {
        self.listens_to(from)
            && endpoint(&mut self.client, &mut self.upstream, from).is_some_and(|source| source.ready.read)
    }

    /// Reads once. Returns how many bytes that were.
    pub(super) fn read(&mut self, from: Side, shared: &mut Shared) -> usize {
        if let Some(n) = self.splice(from, shared) {
            return n;
        }
        let Some(source) = endpoint(&mut self.client, &mut self.upstream, from) else { return 0 };
        let result = source.read(self.lanes.from(from), &mut shared.worker);
        let n = self.filled(from, result, shared);
        if n > 0 {
            self.conn.feed(from, &shared.worker.scratch()[..n], shared.now);
        }
        n
    }

    /// Splices past the machine what needs no new framing. Returns `None` if that is not possible,
    /// or not worth a pipe: one read may take all that is left.
    fn splice(&mut self, from: Side, shared: &mut Shared) -> Option<usize> {
        let lane = self.lanes.from(from);
        if !lane.is_bulk() {
            return None;
        }
        let left = usize::try_from(self.conn.passthrough(from)).unwrap_or(usize::MAX);
        let is_plain = |endpoint: &mut Endpoint| endpoint.stream.is_plain();
        if left < SCRATCH_BYTES
            || !endpoint(&mut self.client, &mut self.upstream, from.other()).is_some_and(is_plain)
        {
            return None;
        }
        let source =
            endpoint(&mut self.client, &mut self.upstream, from).filter(|end| end.stream.is_plain())?;
        let result = source.fill_pipe(lane, left, &mut shared.worker)?;
        let n = self.filled(from, result, shared);
        if n > 0 {
            // They count as passed once they are delivered: until then the body is not over.
            self.conn.offered(from, n as u64, shared.now);
        }
        Some(n)
    }

    /// Handles the result of a read. Returns how many bytes were read.
    fn filled(&mut self, from: Side, result: io::Result<Filled>, shared: &Shared) -> usize {
        match result {
            Ok(Filled::Bytes { n, .. }) => return n,
            Ok(Filled::End) => self.ended(from, shared),
            Ok(Filled::Blocked) => {}
            Err(error) => self.read_failed(from, &error, shared),
        }
        0
    }

    fn ended(&mut self, from: Side, shared: &Shared) {
        let Some(source) = endpoint(&mut self.client, &mut self.upstream, from) else { return };
        // A request delimits itself, so a client may omit its close_notify, as many do; dockerd
        // serves them, too. A response may last until its connection ends, and without a
        // close_notify it was cut.
        if from == Side::Downstream || source.stream.end_was_clean() {
            self.conn.feed_eof(from, shared.now);
        } else {
            self.conn.feed_error(from, Cause::TlsTruncated, shared.now);
        }
    }

    fn read_failed(&mut self, from: Side, error: &io::Error, shared: &Shared) {
        shared.report(&Event::Reset { side: from, error });
        self.conn.feed_error(from, causes::of_connection(error), shared.now);
    }
}

/// How the bodies of an exchange move.
pub(super) struct Lanes {
    up: Lane,
    down: Lane,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { up: Lane::new(true), down: Lane::new(true) }
    }

    /// Returns the lane of the direction that starts at `side`.
    fn from(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Downstream => &mut self.up,
            Side::Upstream => &mut self.down,
        }
    }
}

/// Returns the connection of a side, if it is there.
fn endpoint<'a>(
    client: &'a mut Endpoint,
    upstream: &'a mut UpstreamLink,
    side: Side,
) -> Option<&'a mut Endpoint> {
    match (side, upstream) {
        (Side::Downstream, _) => Some(client),
        (Side::Upstream, UpstreamLink::Open(endpoint)) => Some(endpoint),
        (Side::Upstream, _) => None,
    }
}
