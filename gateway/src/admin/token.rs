#![forbid(unsafe_code)]
//! [`Token`]: a secret that lets a client of the admin listener change something over TCP.

use std::fmt;
use std::fs;

use dockline::h1::RequestHead;

use crate::absolute_path::AbsolutePath;
use crate::problem::Problem;

/// Bytes of a token at least: shorter ones can be guessed.
const MIN: usize = 16;

/// Bytes of a token at most.
const MAX: usize = 1024;

/// See the [module](self). Never displayed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads it from a file: all of it, without white space at both ends.
    pub(crate) fn read(file: &AbsolutePath) -> Result<Self, Problem> {
        let text = fs::read_to_string(&**file)
            .map_err(|error| Problem::new("cannot be read").at(file).because(error))?;
        Self::new(text.trim()).map_err(|problem| problem.at(file))
    }

    fn new(text: &str) -> Result<Self, Problem> {
        if !(MIN..=MAX).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Problem::new(format_args!(
                "a token has {MIN} to {MAX} printable characters without spaces"
            ))
            .hint("make one with `openssl rand -hex 32`"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns whether a request has it (RFC 6750, section 2.1).
    pub(super) fn is_in(&self, request: &RequestHead) -> bool {
        let mut values = request.fields.values("Authorization");
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, given)) = value.split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && is_equal(given, self.0.as_bytes())
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use dockline::h1::{HostPolicy, RequestHeadReader};
    use dockline::limits::Limits;

    use super::*;

    #[test]
    fn a_token_has_a_least_and_a_largest_length() {
        for (length, is_ok) in [(MIN - 1, false), (MIN, true), (MIN + 1, true), (MAX, true), (MAX + 1, false)]
        {
            assert_eq!(Token::new(&"a".repeat(length)).is_ok(), is_ok, "{length}");
        }
        assert!(Token::new("sixteen characters").is_err());
    }

    #[test]
    fn only_the_whole_token_counts() {
        let token = Token::new("0123456789abcdef").unwrap();
        let asks = |fields: &str| {
            let head = format!("POST /kill HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
            token.is_in(&reader.read(head.as_bytes()).unwrap().unwrap().0)
        };
        assert!(asks("Authorization: Bearer 0123456789abcdef\r\n"));
        assert!(asks("authorization: bearer 0123456789abcdef\r\n"));
        for fields in [
            "",
            "Authorization: Bearer 0123456789abcde\r\n",
            "Authorization: Bearer 0123456789abcdeF\r\n",
            "Authorization: Bearer 0123456789abcdef0\r\n",
            "Authorization: Basic 0123456789abcdef\r\n",
            "Authorization: 0123456789abcdef\r\n",
            "Authorization: Bearer 0123456789abcdef\r\nAuthorization: Bearer x\r\n",
        ] {
            assert!(!asks(fields), "{fields}");
        }
    }
}
