#![forbid(unsafe_code)]
//! [`RecordCursor`]: the position of a TLS stream within its records.

/// Counts the bytes of a TLS stream into records (RFC 8446, section 5.1), to distinguish a FIN
/// inside a record from one between two records.
#[derive(Debug, Default)]
pub(super) struct RecordCursor {
    /// Bytes of the header seen so far: content type, version, length.
    header: u8,
    /// Bytes of the record still to come.
    left: u16,
}

impl RecordCursor {
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.header == 5 {
                let skip = bytes.len().min(self.left.into());
                // Not above `left`, so it fits.
                self.left -= u16::try_from(skip).unwrap_or(self.left);
                bytes = &bytes[skip..];
            } else {
                self.left = (self.left << 8) | u16::from(*first);
                self.header += 1;
                bytes = rest;
            }
            if self.header == 5 && self.left == 0 {
                *self = Self::default();
            }
        }
    }

    pub(super) fn is_between_records(&self) -> bool {
        self.header == 0
    }
}
