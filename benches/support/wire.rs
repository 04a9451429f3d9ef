//! The bytes that the load generator and the fake daemon agree on.

use super::CHUNK;

/// The confirmation of the daemon that all bytes sent up a tunnel have arrived.
pub(crate) const ACK: u8 = b'k';

/// The bytes of every bulk transfer.
pub(crate) const FILL: u8 = 0x5a;

/// The end of a chunked body of [`FILL`], which does not occur inside of one.
pub(crate) const CHUNKED_END: &[u8] = b"\r\n0\r\n\r\n";

/// The data of one chunk: as many bytes as Docker copies at a time.
const CHUNK_DATA: usize = 32 << 10;

/// How a body is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    Length,
    Chunked,
}

impl Framing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Length => "Content-Length",
            Self::Chunked => "chunked",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Length, Self::Chunked].into_iter().find(|framing| framing.name() == name)
    }

    /// The field that announces a body of `len` bytes.
    pub(crate) fn field(self, len: u64) -> String {
        match self {
            Self::Length => format!("Content-Length: {len}\r\n"),
            Self::Chunked => "Transfer-Encoding: chunked\r\n".into(),
        }
    }

    /// The bytes on the wire of a body of `len` bytes, before [`Self::end`].
    pub(crate) fn wire_len(self, len: u64) -> u64 {
        match self {
            Self::Length => len,
            Self::Chunked => len / CHUNK_DATA as u64 * chunk().len() as u64,
        }
    }

    pub(crate) fn end(self) -> &'static [u8] {
        match self {
            Self::Length => b"",
            Self::Chunked => b"0\r\n\r\n",
        }
    }

    /// A part of a body, to be sent repeatedly.
    pub(crate) fn pattern(self) -> Vec<u8> {
        match self {
            Self::Length => vec![FILL; CHUNK],
            Self::Chunked => chunk().repeat(CHUNK / CHUNK_DATA),
        }
    }
}

fn chunk() -> Vec<u8> {
    let mut chunk = format!("{CHUNK_DATA:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + CHUNK_DATA, FILL);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Finds the end of a chunked body, wherever its bytes are cut.
#[derive(Default)]
pub(crate) struct EndFinder {
    last: Vec<u8>,
}

impl EndFinder {
    /// Whether the body ends with these bytes.
    pub(crate) fn ends_with(&mut self, bytes: &[u8]) -> bool {
        let keep = CHUNKED_END.len();
        self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(keep)..]);
        let surplus = self.last.len().saturating_sub(keep);
        self.last.drain(..surplus);
        self.last == CHUNKED_END
    }
}

/// The length of a head with the empty line at its end, once that has arrived.
pub(crate) fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field, if the head has it.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
