//! Chunked bodies: any delivery gives the same data, nothing behind the end is touched, and what is
//! accepted reads the same when written again.
#![no_main]

use std::num::NonZeroU64;

use arbitrary::Arbitrary;
use dockline::error::ParseError;
use dockline::h1::{CHUNK_END, ChunkEvent, ChunkHeader, ChunkedDecoder, Fields, encode_last_chunk};
use dockline::limits::Limits;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Bytes in each delivery, less one.
    step: u8,
    wire: &'a [u8],
}

#[derive(Debug, Default, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Fields,
    used: usize,
    ended: bool,
    error: Option<ParseError>,
}

fuzz_target!(|input: Input<'_>| {
    let mut tight = Limits::default();
    tight.chunk_extension = 8;
    tight.chunk_extensions = 20;
    tight.chunk_overhead_free = 24;
    tight.chunk_overhead_ratio = 2;
    tight.trailer = 40;
    tight.trailer_fields = 2;
    for limits in [Limits::default(), tight] {
        let whole = decode(&limits, [input.wire]);
        assert_eq!(decode(&limits, input.wire.chunks(usize::from(input.step) + 1)), whole);
        assert_eq!(decode(&limits, input.wire.chunks(1)), whole);
        assert!(whole.used <= input.wire.len());
        if !whole.ended {
            continue;
        }
        assert_eq!(decode(&limits, [&input.wire[..whole.used]]), whole);
        let mut wire = Vec::new();
        for chunk in whole.data.chunks(usize::from(input.step) + 1) {
            let size = NonZeroU64::new(chunk.len() as u64).expect("chunks are not empty");
            wire.extend_from_slice(ChunkHeader::new(size).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(CHUNK_END);
        }
        encode_last_chunk(&whole.trailers, &mut wire);
        let again = decode(&Limits::default(), [&wire[..]]);
        assert_eq!(again, Decoded { used: wire.len(), ..whole });
    }
});

fn decode<'p>(limits: &Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Decoded {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut decoded = Decoded::default();
    for mut piece in pieces {
        loop {
            let (used, event) = match decoder.step(piece) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(decoder.step(b"0\r\n\r\n"), Err(error));
                    // How much of a refused body was taken before depends on the cuts, and is of no
                    // use.
                    return Decoded { error: Some(error), used: 0, ..decoded };
                }
            };
            decoded.used += used;
            match event {
                ChunkEvent::NeedMore => {
                    assert_eq!(used, piece.len());
                    break;
                }
                ChunkEvent::Data(range) => {
                    assert!(!range.is_empty() && range.end == used);
                    decoded.data.extend_from_slice(&piece[range]);
                }
                ChunkEvent::Trailers(trailers) => decoded.trailers = trailers,
                ChunkEvent::End => {
                    decoded.ended = true;
                    return decoded;
                }
            }
            piece = &piece[used..];
        }
    }
    decoded
}
