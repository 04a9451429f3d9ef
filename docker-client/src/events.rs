#![forbid(unsafe_code)]
//! [`Events`]: the stream of events.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::exchange::Body;
use crate::json_sequence::{Item, JsonSequence};
use crate::{Docker, DockerError, now};

/// Limit for an event, which contains all labels of its container.
const EVENT_MAX: usize = 1024 * 1024;
/// In a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// Which events are sent: those of one of these types and with one of these actions.
#[derive(Clone, Copy, Debug)]
pub struct EventFilter<'a> {
    /// Such as `container`.
    pub types: &'a [&'a str],
    /// Such as `start`; `health_status` stands for all that begin with it.
    pub actions: &'a [&'a str],
}

impl EventFilter<'_> {
    /// Returns the target of the request.
    pub(crate) fn target(&self, since: Option<u64>) -> String {
        let filters = serde_json::json!({ "type": self.types, "event": self.actions }).to_string();
        let mut target = "/events?filters=".to_owned();
        target.extend(filters.bytes().map(|byte| format!("%{byte:02X}")));
        if let Some(since) = since {
            let (seconds, nanoseconds) = (since / NANOSECONDS, since % NANOSECONDS);
            target.push_str(&format!("&since={seconds}.{nanoseconds:09}"));
        }
        target
    }
}

/// What has come of a stream of events.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// An event: the text of a JSON object, which may still be invalid.
    Event(Vec<u8>),
    /// An event of more than 1 MiB, which is lost.
    Oversized,
    /// Nothing in the time given, which means nothing: there may be no event for days.
    Nothing,
}

/// A stream of events, in whichever form the daemon sends it: one object in each line, one behind
/// the other, or behind record separators (RFC 7464).
pub struct Events {
    docker: Docker,
    body: Body,
    sequence: JsonSequence,
    /// Bytes of the last piece that were not looked at.
    unread: Vec<u8>,
}

impl Events {
    pub(crate) fn new(docker: Docker, body: Body) -> Self {
        Self { docker, body, sequence: JsonSequence::new(EVENT_MAX), unread: Vec::new() }
    }

    /// Returns the next event, if one comes within `time`.
    ///
    /// # Errors
    /// When the stream has ended, or is none; see [`DockerError`]. There is no next event then.
    pub fn next(&mut self, time: Duration) -> Result<Received, DockerError> {
        let until = now() + time;
        loop {
            let mut input = &self.unread[..];
            let found = self.sequence.next(&mut input);
            let taken = self.unread.len() - input.len();
            self.unread.drain(..taken);
            match found {
                Ok(Some(Item::Object(event))) => return Ok(Received::Event(event)),
                Ok(Some(Item::Oversized)) => return Ok(Received::Oversized),
                Ok(None) => {}
                Err(error) => {
                    return Err(self.docker.failed(io::Error::new(ErrorKind::InvalidData, error)));
                }
            }
            match self.body.piece(until) {
                Ok(Some(piece)) => self.unread.extend_from_slice(piece),
                Ok(None) => {
                    let error = io::Error::new(ErrorKind::UnexpectedEof, "it has ended the stream of events");
                    return Err(self.docker.failed(error));
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Received::Nothing),
                Err(error) => return Err(self.docker.failed(error)),
            }
        }
    }
}
