#![forbid(unsafe_code)]
//! Standard output and standard error.
//!
//! Text from outside is [`Untrusted`](dockline::untrusted::Untrusted) from where it comes in. As a
//! second line of defence, only printable text gets to a terminal from here.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use dockline::untrusted::Line;

/// Returns the text with everything but lines and tabs escaped that is not printable.
pub(crate) fn printable(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c => out += &Line(c).to_string(),
        }
    }
    out
}

/// Prints a result.
pub(crate) fn print(text: impl Display) -> ExitCode {
    print_page(printable(text).as_bytes())
}

/// Prints the output of a generator: a manual page, or a script.
pub(crate) fn print_page(page: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(page) {
        // The reader may have read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(error),
        _ => ExitCode::SUCCESS,
    }
}

/// Writes a text to standard error. A failure cannot be reported.
pub(crate) fn show(text: impl Display) {
    let _ = io::stderr().lock().write_all(printable(text).as_bytes());
}

/// Writes a message to standard error.
pub(crate) fn tell(message: impl Display) {
    show(format_args!("dockline: {message}\n"));
}

/// Writes an error to standard error, and returns the exit status of a failure.
pub(crate) fn fail(message: impl Display) -> ExitCode {
    tell(message);
    ExitCode::FAILURE
}

/// Returns the value as JSON (RFC 8259) of printable ASCII.
pub(crate) fn json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            // Only strings have other characters, and may have them in this form.
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_and_are_printable() {
        assert_eq!(printable("a\n\tb\x1b[m\r\n"), "a\n\tb\\u{1b}[m\\r\n");
    }

    #[test]
    fn json_is_ascii_and_means_the_same() {
        for text in ["\x1b]0;x\x07 \u{9b} \u{7f}", "é \u{202e} 👍 \"\\\n"] {
            let written = json(&text).unwrap();
            assert!(written.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{written}");
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
