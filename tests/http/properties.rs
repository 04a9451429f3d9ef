//! Properties of the `h1` layer that hold for any input.

use std::num::NonZeroU64;

use dockline::error::ParseError;
use dockline::h1::{
    Authority, BodyFraming, BodyReader, BodyWriter, CHUNK_END, ChunkEvent, ChunkHeader, ChunkedDecoder,
    FieldLine, Fields, HostPolicy, RequestHead, RequestHeadReader, ResponseHead, ResponseHeadReader,
    encode_last_chunk, request_framing,
};
use dockline::limits::Limits;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::deliveries::Delivery;

type Read<H> = Result<Option<(H, usize)>, ParseError>;

/// Limits so small that random input reaches each of them.
fn tight() -> Limits {
    let mut limits = Limits::default();
    limits.request_head = 120;
    limits.request_line = 40;
    limits.response_head = 100;
    limits.fields = 5;
    limits.chunk_extension = 8;
    limits.chunk_extensions = 20;
    limits.chunk_overhead_free = 24;
    limits.chunk_overhead_ratio = 2;
    limits.trailer = 30;
    limits.trailer_fields = 2;
    limits
}

fn limits() -> impl Strategy<Value = Limits> {
    select(vec![Limits::default(), tight()])
}

/// Joins words that matter to the grammar: random bytes would rarely get past a first line.
fn pieces(words: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => select(words).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

fn request_bytes() -> impl Strategy<Value = Vec<u8>> {
    static WORDS: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"POST http://a/ HTTP/1.1\r\n",
        b"GET /",
        b"OPTIONS * HTTP/1.0\r\n",
        b" HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Host: a:1\r\n",
        b"Host:\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"X: y\r\n",
    ];
    let free = pieces(WORDS);
    let started = pieces(WORDS).prop_map(|rest| [b"GET / HTTP/1.1\r\nHost: a\r\n", &rest[..]].concat());
    prop_oneof![free, started]
}

fn response_bytes() -> impl Strategy<Value = Vec<u8>> {
    static WORDS: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 404 \r\n",
        b"HTTP/1.1 ",
        b"101",
        b" Switching",
        b"Content-Length: 5\r\n",
        b"Upgrade: tcp\r\n",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b":",
        b"\0",
        b"X: y\r\n",
        b"\xff",
    ];
    let started = pieces(WORDS).prop_map(|rest| [b"HTTP/1.1 200 OK\r\n", &rest[..]].concat());
    prop_oneof![pieces(WORDS), started]
}

fn chunked_bytes() -> impl Strategy<Value = Vec<u8>> {
    static WORDS: &[&[u8]] = &[
        b"3\r\nabc\r\n",
        b"1\r\nx\r\n",
        b"0a\r\n0123456789\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"1",
        b"f",
        b"000",
        b"ffffffff",
        b";a",
        b";a=b",
        b";a=\"b c\\\"\"",
        b"\"",
        b"=",
        b"X: y\r\n",
        b"Host: x\r\n",
        b"\r",
        b"\n",
        b" ",
    ];
    pieces(WORDS)
}

/// Gives a reader more and more of `bytes`, until it has a result.
fn grow<H>(bytes: &[u8], delivery: &Delivery, read: impl FnMut(&[u8]) -> Read<H>) -> Read<H>
where
    Read<H>: PartialEq,
{
    let mut results = delivery.prefixes(bytes).into_iter().map(read);
    results.find(|result| *result != Ok(None)).unwrap_or(Ok(None))
}

#[derive(Debug, Default, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Fields,
    used: usize,
    ended: bool,
}

/// Decodes pieces one after the other, and checks what holds for every step.
fn decode<'p>(
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Decoded, (ParseError, Vec<u8>)> {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut decoded = Decoded::default();
    for mut piece in pieces {
        loop {
            let (used, event) = match decoder.step(piece) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(decoder.step(b"0\r\n\r\n"), Err(error));
                    return Err((error, decoded.data));
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
                ChunkEvent::Trailers(trailers) => {
                    assert!(!trailers.is_empty());
                    decoded.trailers = trailers;
                }
                ChunkEvent::End => {
                    assert_eq!(decoder.step(b"0"), Ok((0, ChunkEvent::End)));
                    decoded.ended = true;
                    return Ok(decoded);
                }
            }
            piece = &piece[used..];
        }
    }
    Ok(decoded)
}

/// A delivery with these cuts.
fn cut(bytes: &[u8], cuts: &[Index]) -> Delivery {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.sort_unstable();
    Delivery::Cut(ends)
}

fn read_request(bytes: &[u8], limits: &Limits) -> Read<RequestHead> {
    RequestHeadReader::new(limits, HostPolicy::Strict).read(bytes)
}

fn read_response(bytes: &[u8], limits: &Limits) -> Read<ResponseHead> {
    ResponseHeadReader::new(limits).read(bytes)
}

fn encode_body(chunks: &[Vec<u8>], trailers: &Fields) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in chunks {
        let size = NonZeroU64::new(chunk.len() as u64).unwrap();
        wire.extend_from_slice(ChunkHeader::new(size).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(CHUNK_END);
    }
    encode_last_chunk(trailers, &mut wire);
    wire
}

/// Returns whether there is a CR or LF that is not part of CR LF, without using the code under
/// test.
fn has_lone_line_end(bytes: &[u8]) -> bool {
    let lone_lf =
        bytes.iter().enumerate().any(|(at, &byte)| byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
    let lone_cr =
        bytes.iter().enumerate().any(|(at, &byte)| byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
    lone_lf || lone_cr
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_accepted_or_refused_without_a_panic(bytes in vec(any::<u8>(), 0..300), limits in limits()) {
        if let Ok(Some((_, used))) = read_request(&bytes, &limits) {
            prop_assert!(used <= bytes.len());
        }
        if let Ok(Some((_, used))) = read_response(&bytes, &limits) {
            prop_assert!(used <= bytes.len());
        }
        let _ = decode(&limits, [&bytes[..]]);
        let _ = Authority::parse(&bytes);
    }

    #[test]
    fn a_request_is_read_the_same_in_any_delivery(
        bytes in request_bytes(), cuts in vec(any::<Index>(), 0..6), limits in limits(),
    ) {
        let whole = read_request(&bytes, &limits);
        for delivery in [cut(&bytes, &cuts), Delivery::ByteByByte] {
            let mut reader = RequestHeadReader::new(&limits, HostPolicy::Strict);
            prop_assert_eq!(&grow(&bytes, &delivery, |input| reader.read(input)), &whole, "{:?}", delivery);
        }
    }

    #[test]
    fn a_response_is_read_the_same_in_any_delivery(
        bytes in response_bytes(), cuts in vec(any::<Index>(), 0..6), limits in limits(),
    ) {
        let whole = read_response(&bytes, &limits);
        for delivery in [cut(&bytes, &cuts), Delivery::ByteByByte] {
            let mut reader = ResponseHeadReader::new(&limits);
            prop_assert_eq!(&grow(&bytes, &delivery, |input| reader.read(input)), &whole, "{:?}", delivery);
        }
    }

    #[test]
    fn a_chunked_body_is_read_the_same_in_any_delivery(
        bytes in chunked_bytes(), cuts in vec(any::<Index>(), 0..6), limits in limits(),
    ) {
        let whole = decode(&limits, [&bytes[..]]);
        for delivery in [cut(&bytes, &cuts), Delivery::ByteByByte] {
            prop_assert_eq!(&decode(&limits, delivery.pieces(&bytes)), &whole, "{:?}", delivery);
        }
    }

    #[test]
    fn an_accepted_request_is_read_the_same_after_encoding(bytes in request_bytes()) {
        let limits = Limits::default();
        if let Ok(Some((head, used))) = read_request(&bytes, &limits) {
            prop_assert!(!has_lone_line_end(&bytes[..used]));
            let mut wire = Vec::new();
            head.encode(&mut wire);
            prop_assert_eq!(read_request(&wire, &limits), Ok(Some((head.clone(), wire.len()))));
            let origin = head.into_origin_form();
            let mut wire = Vec::new();
            origin.encode(&mut wire);
            prop_assert_eq!(read_request(&wire, &limits), Ok(Some((origin, wire.len()))));
        }
    }

    #[test]
    fn an_accepted_response_is_read_the_same_after_encoding(bytes in response_bytes()) {
        let limits = Limits::default();
        if let Ok(Some((head, used))) = read_response(&bytes, &limits) {
            prop_assert!(!has_lone_line_end(&bytes[..used]));
            let mut wire = Vec::new();
            head.encode(&mut wire);
            prop_assert_eq!(read_response(&wire, &limits), Ok(Some((head, wire.len()))));
        }
    }

    #[test]
    fn an_encoded_body_is_decoded_to_the_same_data(
        chunks in vec(vec(any::<u8>(), 1..200), 0..20), cuts in vec(any::<Index>(), 0..6),
        values in vec("[!-~]([ -~]{0,10}[!-~])?", 0..4), behind in vec(any::<u8>(), 0..20),
    ) {
        let mut trailers = Fields::default();
        for value in values {
            trailers.push(FieldLine::new("X-Sum", value).unwrap());
        }
        let wire = encode_body(&chunks, &trailers);
        let followed = [&wire[..], &behind].concat();
        let expected = Decoded { data: chunks.concat(), trailers, used: wire.len(), ended: true };
        prop_assert_eq!(decode(&Limits::default(), cut(&followed, &cuts).pieces(&followed)), Ok(expected));
    }

    /// Whatever chunks the sender chose.
    #[test]
    fn an_accepted_chunked_body_is_read_the_same_after_encoding(bytes in chunked_bytes()) {
        if let Ok(decoded @ Decoded { ended: true, .. }) = decode(&Limits::default(), [&bytes[..]]) {
            let chunks: Vec<_> = decoded.data.chunks(7).map(<[u8]>::to_vec).collect();
            let wire = encode_body(&chunks, &decoded.trailers);
            let expected = Decoded { used: wire.len(), ..decoded };
            prop_assert_eq!(decode(&Limits::default(), [&wire[..]]), Ok(expected));
        }
    }

    #[test]
    fn a_field_line_encodes_to_exactly_one_field(name in vec(any::<u8>(), 0..8), value in vec(any::<u8>(), 0..12)) {
        if let Ok(line) = FieldLine::new(name, value) {
            let mut fields = Fields::default();
            fields.push(line.clone());
            let mut wire = b"HTTP/1.1 200 \r\n".to_vec();
            fields.encode(&mut wire);
            wire.extend_from_slice(b"\r\n");
            let (head, used) = read_response(&wire, &Limits::default()).unwrap().unwrap();
            prop_assert_eq!((head.fields, used), (fields, wire.len()));
        }
    }

    /// Framing is a function of the set of fields.
    #[test]
    fn framing_does_not_depend_on_the_order_of_fields(
        lines in vec(select(&[
            ("Content-Length", "5"), ("content-length", "6"), ("Content-Length", "x"),
            ("Transfer-Encoding", "chunked"), ("transfer-encoding", "gzip, chunked"), ("X", "y"),
        ][..]), 0..5),
        version in select(&[dockline::h1::Version::Http10, dockline::h1::Version::Http11][..]),
    ) {
        let fields = |lines: &[(&'static str, &'static str)]| {
            let mut fields = Fields::default();
            for (name, value) in lines {
                fields.push(FieldLine::new(*name, *value).unwrap());
            }
            fields
        };
        let forward = request_framing(version, &fields(&lines));
        let reversed: Vec<_> = lines.iter().rev().copied().collect();
        prop_assert_eq!(request_framing(version, &fields(&reversed)), forward);
    }

    /// However a body is framed and delivered, it is complete in the framing of its receiver, and
    /// no byte behind it is consumed.
    #[test]
    fn a_body_is_converted_from_any_framing_to_any_other(
        data in vec(any::<u8>(), 0..400),
        pieces in vec(1..60usize, 1..8),
        kind in 0..3usize,
        trailers in any::<bool>(),
    ) {
        let limits = Limits::default();
        let (framing, mut wire) = match kind {
            0 => (BodyFraming::Length(data.len() as u64), data.clone()),
            1 => (BodyFraming::CloseDelimited, data.clone()),
            _ => {
                let chunks: Vec<_> = data.chunks(17).map(<[u8]>::to_vec).collect();
                (BodyFraming::Chunked, encode_body(&chunks, &Fields::default()))
            }
        };
        let whole = wire.len();
        if framing != BodyFraming::CloseDelimited {
            wire.extend_from_slice(b"next message");
        }
        for writer in [BodyWriter::Raw, BodyWriter::Chunked { trailers }] {
            let mut out = Vec::new();
            let mut counted = 0;
            let mut used = 0;
            if let Some(mut reader) = BodyReader::new(framing, &limits) {
                let mut cuts = pieces.iter().cycle();
                while used < wire.len() {
                    let piece = &wire[used..(used + cuts.next().unwrap()).min(wire.len())];
                    let moved = reader.pump(piece, writer, &mut out).unwrap();
                    used += moved.taken;
                    counted += moved.data;
                    if moved.ended {
                        break;
                    }
                    prop_assert_eq!(moved.taken, piece.len());
                }
                if reader.ends_with_connection() {
                    writer.end(&Fields::default(), &mut out);
                }
            } else {
                writer.end(&Fields::default(), &mut out);
            }
            prop_assert_eq!((used, counted), (whole, data.len() as u64));
            match writer {
                BodyWriter::Raw => prop_assert_eq!(&out, &data),
                BodyWriter::Chunked { .. } => {
                    let decoded = decode(&limits, [&out[..]]).unwrap();
                    prop_assert_eq!((decoded.data, decoded.ended, decoded.used), (data.clone(), true, out.len()));
                }
            }
        }
    }
}
