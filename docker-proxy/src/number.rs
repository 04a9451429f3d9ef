#![forbid(unsafe_code)]
//! Integers as Go writes them in source: `80`, `0x50`, `0o120`, `0120`, `0b1010000`, `+80`, `1_024`.

const SYNTAX: &str = "parse error";
const RANGE: &str = "value out of range";

/// Reads an integer. The error is the text that Go's flag package shows.
pub(crate) fn parse_int(text: &str) -> Result<i64, &'static str> {
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
        // A first underscore needs a prefix before it.
        _ if digits.starts_with('_') => return Err(SYNTAX),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.ends_with('_') || digits.contains("__") {
        return Err(SYNTAX);
    }
    let mut value = Some(0_i64);
    for digit in digits.chars().filter(|c| *c != '_') {
        let digit = i64::from(digit.to_digit(radix).ok_or(SYNTAX)?);
        let shifted = value.and_then(|value| value.checked_mul(i64::from(radix)));
        value = shifted
            .and_then(|value| if negative { value.checked_sub(digit) } else { value.checked_add(digit) });
    }
    value.ok_or(RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
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
            ("9223372036854775808", Err(RANGE)),
            ("99999999999999999999", Err(RANGE)),
            ("", Err(SYNTAX)),
            ("-", Err(SYNTAX)),
            ("0x", Err(SYNTAX)),
            ("08", Err(SYNTAX)),
            ("_1", Err(SYNTAX)),
            ("1_", Err(SYNTAX)),
            ("1__0", Err(SYNTAX)),
            ("8o", Err(SYNTAX)),
            (" 8", Err(SYNTAX)),
            ("1e3", Err(SYNTAX)),
            ("é", Err(SYNTAX)),
            ("0é", Err(SYNTAX)),
        ] {
            assert_eq!(parse_int(text), wanted, "{text:?}");
        }
    }
}
