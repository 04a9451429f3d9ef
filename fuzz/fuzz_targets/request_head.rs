//! Request heads: any delivery gives the same result, what is accepted reads the same when written
//! again, and framing is decided or refused.
#![no_main]

use arbitrary::Arbitrary;
use dockline::error::ParseError;
use dockline::h1::{HostPolicy, RequestHead, RequestHeadReader, request_framing};
use dockline::limits::Limits;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Bytes in each delivery, less one; the lowest bit also selects the policy.
    step: u8,
    wire: &'a [u8],
}

type Read = Result<Option<(RequestHead, usize)>, ParseError>;

fuzz_target!(|input: Input<'_>| {
    let hosts = if input.step & 1 == 0 { HostPolicy::Strict } else { HostPolicy::Opaque };
    let mut tight = Limits::default();
    tight.request_head = 160;
    tight.request_line = 60;
    tight.fields = 4;
    for limits in [Limits::default(), tight] {
        let fresh = || RequestHeadReader::new(&limits, hosts);
        let whole = fresh().read(input.wire);
        assert_eq!(grow(fresh(), input.wire, usize::from(input.step) + 1), whole);
        assert_eq!(grow(fresh(), input.wire, 1), whole);
        let Ok(Some((head, used))) = whole else { continue };
        assert!(used <= input.wire.len() && used <= limits.request_head);
        assert!(head.fields.len() <= limits.fields);
        let _ = request_framing(head.version, &head.fields);
        for head in [head.clone(), head.into_origin_form()] {
            let mut wire = Vec::new();
            head.encode(&mut wire);
            let again = RequestHeadReader::new(&Limits::default(), hosts).read(&wire);
            assert_eq!(again, Ok(Some((head, wire.len()))));
        }
    }
});

fn grow(mut reader: RequestHeadReader, wire: &[u8], step: usize) -> Read {
    for end in (0..wire.len()).step_by(step) {
        let read = reader.read(&wire[..end]);
        if read != Ok(None) {
            return read;
        }
    }
    reader.read(wire)
}
