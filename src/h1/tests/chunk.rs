use std::num::NonZeroU64;

use super::*;

#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: Fields,
    used: usize,
}

/// Feeds pieces until the body ends or an error. Returns `None` if there is neither.
fn feed<'p>(limits: &Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Option<Body>, ParseError> {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut body = Body { data: Vec::new(), trailers: Fields::default(), used: 0 };
    for mut piece in pieces {
        loop {
            let step = decoder.step(piece);
            if let Err(error) = step {
                assert_eq!(decoder.step(b"0\r\n\r\n"), Err(error), "an error is final");
            }
            let (used, event) = step?;
            body.used += used;
            match event {
                ChunkEvent::NeedMore => {
                    assert_eq!(used, piece.len());
                    break;
                }
                ChunkEvent::Data(range) => {
                    assert!(!range.is_empty() && range.end == used);
                    body.data.extend_from_slice(&piece[range]);
                }
                ChunkEvent::Trailers(trailers) => body.trailers = trailers,
                ChunkEvent::End => {
                    assert_eq!(decoder.step(NEXT), Ok((0, ChunkEvent::End)), "the end is final");
                    return Ok(Some(body));
                }
            }
            piece = &piece[used..];
        }
    }
    Ok(None)
}

fn decode_with(bytes: &[u8], limits: &Limits) -> Result<Option<Body>, ParseError> {
    let whole = feed(limits, [bytes]);
    assert_eq!(feed(limits, bytes.chunks(1)), whole, "byte by byte: {}", bytes.escape_ascii());
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(feed(limits, [front, back]), whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
    if whole != Ok(None) {
        assert_eq!(feed(limits, [&[bytes, NEXT].concat()[..]]), whole, "with bytes behind");
    }
    whole
}

/// Decodes a body that has to be accepted, to its last byte.
fn decoded(bytes: &[u8]) -> Body {
    let body = decode_with(bytes, &Limits::default()).unwrap().unwrap();
    assert_eq!(body.used, bytes.len());
    body
}

#[test]
fn trailer_fields_that_change_the_meaning_of_a_message_are_dropped() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Authorization",
        "X-Forwarded-For",
        "X_Forwarded_Proto",
        "Content_Length",
        "Connection",
        "Upgrade",
        "Set-Cookie",
        "X-SSL-Client-S-DN",
        "Proxy-Authorization",
        "X-Registry-Auth",
        "If-Match",
        "TE",
    ] {
        let alone = format!("0\r\n{name}: 1\r\n\r\n");
        assert!(decoded(alone.as_bytes()).trailers.is_empty(), "{name}");
        let between = format!("0\r\nX-A: 1\r\n{name}: 1\r\nX-B: 2\r\n\r\n");
        let names: Vec<_> =
            decoded(between.as_bytes()).trailers.iter().map(|line| line.name().to_vec()).collect();
        assert_eq!(names, [b"X-A", b"X-B"], "{name}");
    }
    for name in ["X-Forwarded", "Hosts", "TEE", "Grpc-Status", "X-If-Match"] {
        let bytes = format!("0\r\n{name}: 1\r\n\r\n");
        assert_eq!(decoded(bytes.as_bytes()).trailers.len(), 1, "{name}");
    }
}

#[test]
fn a_trailer_section_at_its_limits_is_accepted_and_more_is_not() {
    let limits = Limits { trailer: 20, trailer_fields: 2, ..Limits::default() };
    for (length, fits) in [(19, true), (20, true), (21, false)] {
        let bytes = format!("0\r\nX: {}\r\n\r\n", "y".repeat(length - 7));
        let outcome = decode_with(bytes.as_bytes(), &limits);
        match outcome {
            Ok(body) => assert!(fits && body.is_some()),
            Err(error) => {
                assert_eq!(error, ParseError { fault: LimitError::Trailer.into(), at: 23 });
                assert!(!fits);
            }
        }
    }
    for (count, fits) in [(1, true), (2, true), (3, false)] {
        let bytes = format!("0\r\n{}\r\n", "X:y\r\n".repeat(count));
        match decode_with(bytes.as_bytes(), &limits) {
            Ok(body) => assert!(fits && body.is_some_and(|body| body.trailers.len() == count)),
            Err(error) => {
                assert_eq!(error, ParseError { fault: LimitError::TrailerFields.into(), at: 13 });
                assert!(!fits);
            }
        }
    }
}

#[test]
fn extensions_at_their_limits_are_accepted_and_more_is_not() {
    let limits = Limits { chunk_extension: 10, chunk_extensions: 25, ..Limits::default() };
    for (length, fits) in [(9, true), (10, true), (11, false)] {
        let bytes = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 1));
        match decode_with(bytes.as_bytes(), &limits) {
            Ok(body) => assert!(fits && body.is_some()),
            Err(error) => {
                assert_eq!(error, ParseError { fault: LimitError::ChunkExtension.into(), at: 11 });
                assert!(!fits);
            }
        }
    }
    for (last, fits) in [(4, true), (5, true), (6, false)] {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(9));
        let bytes = format!("{chunk}{chunk}0;{}\r\n\r\n", "x".repeat(last - 1));
        match decode_with(bytes.as_bytes(), &limits) {
            Ok(body) => assert!(fits && body.is_some()),
            Err(error) => {
                let at = 2 * chunk.len() as u64 + 6;
                assert_eq!(error, ParseError { fault: LimitError::ChunkExtensions.into(), at });
                assert!(!fits);
            }
        }
    }
}

#[test]
fn a_flood_of_extensions_is_refused() {
    let chunk = [b"1;", &[b'x'; 4096][..], b"\r\na\r\n"].concat();
    let error = feed(&Limits::default(), std::iter::repeat_n(&chunk[..], 1000)).unwrap_err();
    assert_eq!(error.fault, LimitError::ChunkExtension.into());
    let chunk = [b"1;", &[b'x'; 200][..], b"\r\na\r\n"].concat();
    let error = feed(&Limits::default(), std::iter::repeat_n(&chunk[..], 1000)).unwrap_err();
    assert_eq!(error.fault, LimitError::ChunkExtensions.into());
}

/// A million chunks of one byte are accepted, because their headers are short; padded to 16 digits
/// they are not.
#[test]
fn a_flood_of_padded_chunks_is_refused() {
    let limits = Limits::default();
    let flood = std::iter::repeat_n(&b"1\r\na\r\n"[..], 1_000_000);
    let body = feed(&limits, flood.chain([&b"0\r\n\r\n"[..]])).unwrap().unwrap();
    assert_eq!(body.data.len(), 1_000_000);

    let padded = b"0000000000000001\r\na\r\n";
    let header = padded.len() as u64 - 3;
    let error = feed(&limits, std::iter::repeat_n(&padded[..], 1_000_000)).unwrap_err();
    let chunks = limits.chunk_overhead_free / header;
    let at = chunks * padded.len() as u64 + header - 1;
    assert_eq!(error, ParseError { fault: LimitError::ChunkOverhead.into(), at });
}

#[test]
fn chunk_headers_at_their_limit_are_accepted_and_more_is_not() {
    let limits = Limits { chunk_overhead_free: 9, chunk_overhead_ratio: 3, ..Limits::default() };
    let overhead = Err(LimitError::ChunkOverhead.into());
    let outcome = |bytes: &[u8]| decode_with(bytes, &limits).map(drop).map_err(|error| error.fault);
    // Three headers of three bytes: 9 is still free, whatever the data.
    assert_eq!(outcome(b"1\r\na\r\n1\r\na\r\n0\r\n\r\n"), Ok(()));
    // 10 bytes of headers over 2, 3 and 4 bytes of data, of which three times 3 is not enough.
    assert_eq!(outcome(b"01\r\na\r\n1\r\na\r\n0\r\n\r\n"), overhead);
    assert_eq!(outcome(b"01\r\na\r\n2\r\naa\r\n0\r\n\r\n"), overhead);
    assert_eq!(outcome(b"02\r\naa\r\n2\r\naa\r\n0\r\n\r\n"), Ok(()));
    // 12 and 13 bytes of headers over 4 bytes of data: the bound itself is allowed.
    assert_eq!(outcome(b"0002\r\naa\r\n2\r\naa\r\n0\r\n\r\n"), Ok(()));
    assert_eq!(outcome(b"00002\r\naa\r\n2\r\naa\r\n0\r\n\r\n"), overhead);
}

#[test]
fn data_of_several_chunks_are_encoded_as_one() {
    let data = decoded(b"001;x=y\r\na\r\n4\r\nbcde\r\n00\r\n\r\n").data;
    let mut out = Vec::new();
    let size = NonZeroU64::new(data.len() as u64).unwrap();
    out.extend_from_slice(ChunkHeader::new(size).as_bytes());
    out.extend_from_slice(&data);
    out.extend_from_slice(CHUNK_END);
    encode_last_chunk(&Fields::default(), &mut out);
    assert_eq!(out, b"5\r\nabcde\r\n0\r\n\r\n");
    assert_eq!(decoded(&out).data, data);
}

#[test]
fn a_chunk_header_is_the_size_in_hexadecimal() {
    for (size, line) in [
        (1, "1\r\n"),
        (9, "9\r\n"),
        (10, "a\r\n"),
        (16, "10\r\n"),
        (0x0012_3456_789a_bcde, "123456789abcde\r\n"),
        (u64::MAX, "ffffffffffffffff\r\n"),
    ] {
        let header = ChunkHeader::new(NonZeroU64::new(size).unwrap());
        assert_eq!(header.as_bytes().escape_ascii().to_string(), line.escape_default().to_string());
    }
}

#[test]
fn the_last_chunk_is_encoded_with_its_trailers() {
    let mut trailers = Fields::default();
    trailers.push(FieldLine::new("X-Sum", "1").unwrap());
    let mut out = Vec::new();
    encode_last_chunk(&trailers, &mut out);
    assert_eq!(out, b"0\r\nX-Sum: 1\r\n\r\n");
    assert_eq!(decoded(&out).trailers, trailers);
}
