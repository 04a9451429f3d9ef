#![forbid(unsafe_code)]
//! Integers in the syntax of Go's source code: `80`, `0x50`, `0o120`, `0120`, `0b1010000`, `+80`,
//! `1_024`.

use std::fmt;

/// Why a text is not an integer, in the words of Go's flag package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnInteger {
    Syntax,
    Range,
}

impl fmt::Display for NotAnInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "parse error",
            Self::Range => "value out of range",
        })
    }
}

/// Parses an integer.
pub(crate) fn parse_int(text: &str) -> Result<i64, NotAnInteger> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        // Only a prefix may come before an underscore.
        _ if digits.starts_with('_') => return Err(NotAnInteger::Syntax),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.ends_with('_') || digits.contains("__") {
        return Err(NotAnInteger::Syntax);
    }
    let mut value = Some(0_i64);
    for digit in digits.chars().filter(|c| *c != '_') {
        let digit = i64::from(digit.to_digit(radix).ok_or(NotAnInteger::Syntax)?);
        let shifted = value.and_then(|value| value.checked_mul(i64::from(radix)));
        value = shifted
            .and_then(|value| if negative { value.checked_sub(digit) } else { value.checked_add(digit) });
    }
    value.ok_or(NotAnInteger::Range)
}

#[cfg(test)]
mod tests {
    use super::NotAnInteger::{Range, Syntax};
    use super::*;

    #[test]
    fn go_syntax() {
        for (text, wanted) in [
            ("0", Ok(0)),
            ("80", Ok(80)),
            ("+80", Ok(80)),
            ("-1", Ok(-1)),
            ("0x50", Ok(80)),
            ("0X5f", Ok(95)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("0b101", Ok(5)),
            ("1_000", Ok(1000)),
            ("0x_5", Ok(5)),
            ("0_7", Ok(7)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Range)),
            ("99999999999999999999", Err(Range)),
            ("", Err(Syntax)),
            ("-", Err(Syntax)),
            ("0x", Err(Syntax)),
            ("08", Err(Syntax)),
            ("_1", Err(Syntax)),
            ("1_", Err(Syntax)),
            ("1__0", Err(Syntax)),
            ("8o", Err(Syntax)),
            (" 8", Err(Syntax)),
            ("1e3", Err(Syntax)),
            ("é", Err(Syntax)),
            ("0é", Err(Syntax)),
        ] {
            assert_eq!(parse_int(text), wanted, "{text:?}");
        }
    }
}
