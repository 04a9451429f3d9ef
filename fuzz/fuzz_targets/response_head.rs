//! Response heads: any delivery gives the same result, what is accepted reads the same when written
//! again, and framing is decided or refused.
#![no_main]

use arbitrary::Arbitrary;
use dockline::error::ParseError;
use dockline::h1::{MethodKind, ResponseHead, ResponseHeadReader, response_framing};
use dockline::limits::Limits;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Bytes in each delivery, less one.
    step: u8,
    wire: &'a [u8],
}

type Read = Result<Option<(ResponseHead, usize)>, ParseError>;

fuzz_target!(|input: Input<'_>| {
    let mut tight = Limits::default();
    tight.response_head = 160;
    tight.fields = 4;
    for limits in [Limits::default(), tight] {
        let fresh = || ResponseHeadReader::new(&limits);
        let whole = fresh().read(input.wire);
        assert_eq!(grow(fresh(), input.wire, usize::from(input.step) + 1), whole);
        assert_eq!(grow(fresh(), input.wire, 1), whole);
        let Ok(Some((head, used))) = whole else { continue };
        assert!(used <= input.wire.len() && used <= limits.response_head);
        assert!(head.fields.len() <= limits.fields);
        for request in [MethodKind::Head, MethodKind::Connect, MethodKind::Ordinary] {
            let _ = response_framing(request, head.version, head.status(), &head.fields);
        }
        let mut wire = Vec::new();
        head.encode(&mut wire);
        let again = ResponseHeadReader::new(&Limits::default()).read(&wire);
        assert_eq!(again, Ok(Some((head, wire.len()))));
    }
});

fn grow(mut reader: ResponseHeadReader, wire: &[u8], step: usize) -> Read {
    for end in (0..wire.len()).step_by(step) {
        let read = reader.read(&wire[..end]);
        if read != Ok(None) {
            return read;
        }
    }
    reader.read(wire)
}
