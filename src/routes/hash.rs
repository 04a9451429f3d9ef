#![forbid(unsafe_code)]
//! SipHash-1-3 (Aumasson and Bernstein), the hash of Rust's own maps: whoever chooses the hosts of
//! routes cannot choose which of them have the same hash. Ours, since a snapshot needs the same one
//! for ever.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a key that nobody can guess.
pub(super) fn random_key() -> [u64; 2] {
    [(); 2].map(|()| RandomState::new().build_hasher().finish())
}

/// Returns the hash of a text.
pub(super) fn hash(key: [u64; 2], text: &[u8]) -> u64 {
    let [k0, k1] = key;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut mix = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    };
    let (words, rest) = text.as_chunks::<8>();
    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
    mix(u64::from_le_bytes(last) | (text.len() as u64) << 56);
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    /// Rust's is SipHash-1-3 with a key of zeros.
    #[test]
    fn texts_have_the_hash_that_rust_gives_them() {
        let text: Vec<u8> = (1..=40).collect();
        for len in 0..=text.len() {
            let mut hasher = DefaultHasher::new();
            hasher.write(&text[..len]);
            assert_eq!(hash([0, 0], &text[..len]), hasher.finish(), "{len}");
        }
    }

    #[test]
    fn both_halves_of_the_key_matter() {
        let hashes = [hash([0, 0], b"web"), hash([1, 0], b"web"), hash([0, 1], b"web")];
        assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    }
}
