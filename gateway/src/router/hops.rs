#![forbid(unsafe_code)]
//! [`Hops`]: which routers a request has passed, so that loops end.
//!
//! A request that goes from the front door to the router of a worker passes two. If each of two
//! routers takes the other for the way to a container, it would pass them for ever.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dockline::h1::{FieldLine, Fields};
use dockline::proxy::Rewrite;

/// The field with the marks of all routers that a request has passed.
pub(super) const FIELD: &str = "Dockline-Hops";

/// Routers that a request may pass, this one included.
const HOPS_MAX: usize = 8;

/// Digits of a mark.
const MARK_LEN: usize = 16;

/// The mark of this process: random, so that nobody can claim that a request has been here.
#[derive(Debug)]
pub(super) struct Mark {
    text: String,
    /// For a request that has passed no router: nearly all.
    first: Hops,
}

/// The routers that a request will have passed when it is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hops(Option<Arc<Rewrite>>);

impl Hops {
    fn new(marks: String) -> Self {
        let line = FieldLine::new(FIELD, marks).ok();
        Self(line.and_then(|line| Rewrite::new().with_field(line).ok()).map(Arc::new))
    }

    /// Returns what adds [`FIELD`] to the request. (`None` is for a name or value that no field can
    /// have.)
    pub(super) fn marked(&self) -> Option<&Arc<Rewrite>> {
        self.0.as_ref()
    }
}

/// A request that has been here before, or has passed too many routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loop;

impl Mark {
    /// Returns a new mark.
    pub(super) fn new() -> Self {
        // Keys of a hasher are random, and differ.
        let text = format!("{:016x}", RandomState::new().hash_one(0));
        Self { first: Hops::new(text.clone()), text }
    }

    /// Returns the mark.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Adds this router to those that a request has passed.
    pub(super) fn add(&self, fields: &Fields) -> Result<Hops, Loop> {
        // Nearly always there are none.
        if !fields.contains(FIELD) {
            return Ok(self.first.clone());
        }
        let mut hops = String::new();
        let mut passed = 1;
        for mark in fields.members(FIELD).filter(|mark| is_mark(mark)) {
            passed += 1;
            if passed > HOPS_MAX || mark == self.text.as_bytes() {
                return Err(Loop);
            }
            let _ = write!(hops, "{}, ", String::from_utf8_lossy(mark));
        }
        hops.push_str(&self.text);
        Ok(Hops::new(hops))
    }
}

/// Returns whether it can be the mark of a router: others are dropped.
fn is_mark(mark: &[u8]) -> bool {
    mark.len() == MARK_LEN && mark.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use dockline::h1::FieldLine;

    use super::*;

    fn fields(values: &[&str]) -> Fields {
        let mut fields = Fields::default();
        for value in values {
            fields.push(FieldLine::new(FIELD, (*value).to_owned()).unwrap());
        }
        fields
    }

    #[test]
    fn each_process_has_its_own_mark() {
        assert_ne!(Mark::new().text, Mark::new().text);
        assert!(is_mark(Mark::new().text.as_bytes()));
    }

    #[test]
    fn the_mark_is_added_behind_those_of_others() {
        let (one, two) = (Mark::new(), Mark::new());
        assert_eq!(one.add(&fields(&[])), Ok(Hops::new(one.text.clone())));
        let both = format!("{}, {}", one.text, two.text);
        assert_eq!(two.add(&fields(&[&one.text])), Ok(Hops::new(both.clone())));
        assert_eq!(one.add(&fields(&[&both])), Err(Loop));
        assert_eq!(two.add(&fields(&["0123456789abcdef", &two.text])), Err(Loop));
    }

    #[test]
    fn there_is_a_limit_to_the_routers_in_between() {
        let mark = Mark::new();
        let others = |count: usize| vec!["0123456789abcdef"; count].join(",");
        assert!(mark.add(&fields(&[&others(HOPS_MAX - 2)])).is_ok());
        assert!(mark.add(&fields(&[&others(HOPS_MAX - 1)])).is_ok());
        assert_eq!(mark.add(&fields(&[&others(HOPS_MAX)])), Err(Loop));
    }

    #[test]
    fn what_is_no_mark_is_dropped() {
        let mark = Mark::new();
        assert_eq!(mark.add(&fields(&["x, , 0123456789abcdeg", "\"a\""])), Ok(Hops::new(mark.text.clone())));
    }
}
