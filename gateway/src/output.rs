#![forbid(unsafe_code)]
//! What people read: standard output and standard error.
//!
//! Text from outside is [`Untrusted`](dockline::untrusted::Untrusted) from where it comes in. Nothing else gets to a
//! terminal either: the lines here are ours, and what is in them is printable.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use dockline::untrusted::Line;

/// Returns the text with its own lines and tabs, and printable.
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

/// Prints what a generator has made of the command line: a manual page, a script.
pub(crate) fn print_page(page: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(page) {
        // Whoever reads it may have read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(error),
        _ => ExitCode::SUCCESS,
    }
}

/// Shows a text on standard error. There is nobody to tell if that fails.
pub(crate) fn show(text: impl Display) {
    let _ = io::stderr().lock().write_all(printable(text).as_bytes());
}

/// Tells people something.
pub(crate) fn tell(message: impl Display) {
    show(format_args!("dockline: {message}\n"));
}

/// Tells what went wrong.
pub(crate) fn fail(message: impl Display) -> ExitCode {
    tell(message);
    ExitCode::FAILURE
}

/// Returns the value as JSON (RFC 8259) of printable ASCII.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            // Only strings have others, and there they may be written so.
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
