//! The ways in which the same bytes may arrive. A reader must not notice the difference.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    ByteByByte,
    /// In pieces that end at these offsets, and the rest.
    Cut(Vec<usize>),
}

impl Delivery {
    /// Whole, byte by byte, and in two pieces, cut at every offset.
    pub(crate) fn all(len: usize) -> impl Iterator<Item = Self> {
        Self::sampled(len, usize::MAX)
    }

    /// The same, with at most `most` of the cuts, spread evenly.
    pub(crate) fn sampled(len: usize, most: usize) -> impl Iterator<Item = Self> {
        let cuts = (0..=len).step_by(1 + len / most).map(|at| Self::Cut(vec![at]));
        [Self::Whole, Self::ByteByByte].into_iter().chain(cuts)
    }

    /// The pieces, in order. An empty one stands for a read that brought nothing.
    pub(crate) fn pieces<'b>(&self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        match self {
            Self::Whole => vec![bytes],
            Self::ByteByByte => bytes.chunks(1).collect(),
            Self::Cut(ends) => {
                let starts = [0].into_iter().chain(ends.iter().copied());
                let ends = ends.iter().copied().chain([bytes.len()]);
                starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
            }
        }
    }

    /// What a reader sees that keeps what it could not use: all bytes up to the end of each piece.
    pub(crate) fn prefixes<'b>(&self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut end = 0;
        let grown = self.pieces(bytes).into_iter().map(|piece| {
            end += piece.len();
            &bytes[..end]
        });
        grown.collect()
    }
}

#[test]
fn every_delivery_has_all_bytes_in_order() {
    for delivery in Delivery::all(5).chain([Delivery::Cut(vec![1, 1, 4])]) {
        assert_eq!(delivery.pieces(b"bytes").concat(), b"bytes", "{delivery:?}");
        assert_eq!(delivery.prefixes(b"bytes").last(), Some(&&b"bytes"[..]), "{delivery:?}");
    }
    assert_eq!(Delivery::all(5).count(), 8);
}
