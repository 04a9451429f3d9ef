//! Reads the bytes that one side has received, with the strict readers, as a patient receiver
//! would.

use dockline::h1::{
    BodyFraming, ChunkEvent, ChunkedDecoder, Fields, HostPolicy, MethodKind, RequestHead, RequestHeadReader,
    ResponseHead, ResponseHeadReader, request_framing, response_framing,
};
use dockline::limits::Limits;

/// A message, as much of it as has arrived.
pub(crate) struct Got<H> {
    pub(crate) head: H,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    pub(crate) is_whole: bool,
    /// The number of bytes that belong to it.
    pub(crate) len: usize,
}

pub(crate) fn request(wire: &[u8]) -> Option<Got<RequestHead>> {
    let limits = Limits::default();
    let (head, at) = RequestHeadReader::new(&limits, HostPolicy::Opaque).read(wire).expect("a request")?;
    let framing = request_framing(head.version, &head.fields).expect("framing of a request");
    Some(got(head, at, framing, wire, false))
}

/// Reads the next response to a request with this method, which may be an interim one. `ended`: the
/// connection ended cleanly.
pub(crate) fn response(wire: &[u8], method: &str, ended: bool) -> Option<Got<ResponseHead>> {
    let limits = Limits::default();
    let (head, at) = ResponseHeadReader::new(&limits).read(wire).expect("a response")?;
    let kind = MethodKind::of(method.as_bytes());
    let framing =
        response_framing(kind, head.version, head.status(), &head.fields).expect("framing of a response");
    Some(got(head, at, framing, wire, ended))
}

fn got<H>(head: H, at: usize, framing: BodyFraming, wire: &[u8], ended: bool) -> Got<H> {
    let rest = &wire[at..];
    let mut trailers = Fields::default();
    let (body, is_whole, used) = match framing {
        BodyFraming::Empty => (Vec::new(), true, 0),
        BodyFraming::Length(length) => {
            let n = rest.len().min(usize::try_from(length).unwrap());
            (rest[..n].to_vec(), n as u64 == length, n)
        }
        BodyFraming::CloseDelimited => (rest.to_vec(), ended, rest.len()),
        BodyFraming::Chunked => chunked(rest, &mut trailers),
    };
    Got { head, body, trailers, is_whole, len: at + used }
}

fn chunked(wire: &[u8], trailers: &mut Fields) -> (Vec<u8>, bool, usize) {
    let mut decoder = ChunkedDecoder::new(&Limits::default());
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let (used, event) = decoder.step(&wire[at..]).expect("chunks");
        match event {
            ChunkEvent::NeedMore => return (body, false, wire.len()),
            ChunkEvent::Data(range) => body.extend_from_slice(&wire[at..][range]),
            ChunkEvent::Trailers(fields) => *trailers = fields,
            ChunkEvent::End => return (body, true, at + used),
        }
        at += used;
    }
}
