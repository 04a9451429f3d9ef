//! Every bound in one place, each default with its reason.

#![forbid(unsafe_code)]

/// Longest accepted method. The longest registered one, `UPDATEREDIRECTREF`, has 17 bytes.
pub const METHOD_BYTES: usize = 32;

/// Most digits in a chunk size: what 64 bits need. Leading zeros count, so that they have an end.
pub const CHUNK_SIZE_DIGITS: u8 = 16;

/// Longest body or chunk that can be announced: 2^63 - 1, the most that a signed reader understands.
pub const BODY_LENGTH_MAX: u64 = u64::MAX >> 1;

/// The bounds on what a peer may send.
///
/// ```
/// let mut limits = dockline::limits::Limits::default();
/// limits.request_line = 192 * 1024;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request head, from the first byte (an empty line before it included) to the end of the empty
    /// line after the fields. Default 64 KiB: twice nginx's four buffers of 8 KiB; a Docker `/build` needs more.
    pub request_head: usize,
    /// Bytes of a request line without its CR LF. Default 16 KiB: twice the 8000 that RFC 9112, section 3 asks
    /// everybody to support.
    pub request_line: usize,
    /// Bytes of a response head. Default 64 KiB, as for requests.
    pub response_head: usize,
    /// Field lines in one head. Default 128: ordinary heads have fewer than 40; Apache and hyper stop at 100.
    pub fields: usize,
    /// Bytes of extensions on one chunk. Default 256: nobody is known to use them.
    pub chunk_extension: usize,
    /// Bytes of extensions in one message. Default 8 KiB: 32 chunks at the bound of one.
    pub chunk_extensions: usize,
    /// Bytes of chunk headers in one message before `chunk_overhead_ratio` counts. Default 64 KiB: a stream of
    /// short lines is honest, and its start says nothing yet.
    pub chunk_overhead_free: u64,
    /// Bytes of chunk headers per byte of data. Default 16: one-byte chunks cost 3, padded ones 18.
    pub chunk_overhead_ratio: u64,
    /// Bytes of a trailer section, the empty line at its end included. Default 8 KiB.
    pub trailer: usize,
    /// Field lines in a trailer section. Default 32.
    pub trailer_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head: 64 * 1024,
            request_line: 16 * 1024,
            response_head: 64 * 1024,
            fields: 128,
            chunk_extension: 256,
            chunk_extensions: 8 * 1024,
            chunk_overhead_free: 64 * 1024,
            chunk_overhead_ratio: 16,
            trailer: 8 * 1024,
            trailer_fields: 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are a promise: changing one is a change of behaviour for every user.
    #[test]
    fn defaults_are_the_promised_ones() {
        let promised = Limits {
            request_head: 65_536,
            request_line: 16_384,
            response_head: 65_536,
            fields: 128,
            chunk_extension: 256,
            chunk_extensions: 8_192,
            chunk_overhead_free: 65_536,
            chunk_overhead_ratio: 16,
            trailer: 8_192,
            trailer_fields: 32,
        };
        assert_eq!(Limits::default(), promised);
    }
}
