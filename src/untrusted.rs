#![forbid(unsafe_code)]
//! Text from outside, which can be displayed safely.
//!
//! Terminals execute escape sequences, and a newline forges a log entry: a process may be named
//! `\x1b]0;owned\x07`, a daemon may respond with a message of two lines, a certificate may name a
//! client in characters that are displayed from right to left. [`Untrusted`] is for all text from
//! another process, another machine or a file.

use std::convert::Infallible;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

/// The number of bytes of a text that are displayed. The rest of a longer one is replaced by `...`.
pub const SHOWN_BYTES: usize = 1024;

/// Invisible letters, which Unicode does not classify as such.
const FILLERS: [char; 4] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}'];

/// Text from outside. It is compared, sorted and stored unchanged, and displayed as one line of
/// printable characters: control and format characters (including C1 and those that change the
/// direction of text), newlines, unusual spaces, combining marks, bytes that are not UTF-8, and the
/// backslash are escaped.
///
/// ```
/// use dockline::untrusted::Untrusted;
///
/// let name = Untrusted::new("web\x1b[2J");
/// assert_eq!(format!("no container {name}"), r"no container web\u{1b}[2J");
/// assert_eq!(*name.raw(), "web\x1b[2J");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Untrusted<T>(T);

impl<T> Untrusted<T> {
    /// Marks a text as untrusted.
    pub const fn new(text: T) -> Self {
        Self(text)
    }

    /// Returns the original text: to compare, parse or forward it, but not to display it.
    pub const fn raw(&self) -> &T {
        &self.0
    }

    /// Returns the original text.
    pub fn into_raw(self) -> T {
        self.0
    }
}

impl<'a> Untrusted<&'a [u8]> {
    /// Marks a path as untrusted.
    #[must_use]
    pub fn path(path: &'a (impl AsRef<Path> + ?Sized)) -> Self {
        Self(path.as_ref().as_os_str().as_bytes())
    }
}

impl<T> From<T> for Untrusted<T> {
    fn from(text: T) -> Self {
        Self(text)
    }
}

impl FromStr for Untrusted<String> {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl<T: AsRef<[u8]>> fmt::Display for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = SHOWN_BYTES;
        for chunk in self.0.as_ref().utf8_chunks() {
            for c in chunk.valid().chars() {
                match room.checked_sub(c.len_utf8()) {
                    Some(left) => room = left,
                    None => return f.write_str("..."),
                }
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c => write_char(f, c)?,
                }
            }
            for byte in chunk.invalid() {
                match room.checked_sub(1) {
                    Some(left) => room = left,
                    None => return f.write_str("..."),
                }
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Displayed in quotes.
impl<T: AsRef<[u8]>> fmt::Debug for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A message to be displayed as one line, in which text from outside is [`Untrusted`] already. What
/// was not marked by mistake, or comes from an error of a library, is escaped here, and nothing
/// else.
#[derive(Clone, Copy, Debug)]
pub struct Line<T>(pub T);

impl<T: fmt::Display> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

        impl Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| write_char(self.0, c))
            }
        }

        write!(Filter(f), "{}", self.0)
    }
}

/// Returns whether a character can be displayed unchanged: it is visible, and affects no other.
#[must_use]
pub fn is_printable(c: char) -> bool {
    // The standard library has the table. It escapes the backslash and quotes for another reason.
    matches!(c, ' '..='~') || (!c.is_ascii() && !FILLERS.contains(&c) && c.escape_debug().len() == 1)
}

/// Writes a character, escaped unless it is printable.
fn write_char(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        c if is_printable(c) => out.write_char(c),
        '\n' | '\r' | '\t' => write!(out, "{}", c.escape_default()),
        c => write!(out, "{}", c.escape_unicode()),
    }
}

#[cfg(feature = "serde")]
impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Untrusted<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// Serialized unchanged: a data format has its own escapes.
#[cfg(feature = "serde")]
impl<T: serde::Serialize> serde::Serialize for Untrusted<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: impl AsRef<[u8]>) -> String {
        Untrusted::new(text).to_string()
    }

    #[test]
    fn what_a_terminal_obeys_is_spelt_out() {
        for (text, wanted) in [
            ("web-1 'a' \"b\" `c`", "web-1 'a' \"b\" `c`"),
            ("Jürgen 東京 👍", "Jürgen 東京 👍"),
            ("\x1b]0;x\x07\x1b[31m", r"\u{1b}]0;x\u{7}\u{1b}[31m"),
            // CSI of C1, as the second byte of UTF-8.
            ("\u{9b}31m\u{80}\u{9f}", r"\u{9b}31m\u{80}\u{9f}"),
            ("\x00\x08\x7f", r"\u{0}\u{8}\u{7f}"),
            ("one\r\n\ttwo", r"one\r\n\ttwo"),
            ("\u{202e}\u{2066}\u{200f}\u{61c}", r"\u{202e}\u{2066}\u{200f}\u{61c}"),
            ("\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}", r"\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}"),
            ("\u{2028}\u{2029}\u{85}\u{a0}\u{3000}", r"\u{2028}\u{2029}\u{85}\u{a0}\u{3000}"),
            ("e\u{301}\u{fe0f}", r"e\u{301}\u{fe0f}"),
            ("\u{3164}\u{e0041}\u{e000}\u{fff9}", r"\u{3164}\u{e0041}\u{e000}\u{fff9}"),
            ("\\u{1b} \\", r"\\u{1b} \\"),
        ] {
            assert_eq!(shown(text), wanted);
        }
        assert_eq!(shown(b"\x9b31m\xff\xc3(\xe2\x80"), r"\x9b31m\xff\xc3(\xe2\x80");
        assert_eq!(format!("{:?}", Untrusted::new("a\n")), "\"a\\n\"");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let full = "a".repeat(SHOWN_BYTES);
        assert_eq!(shown(&full[1..]), full[1..]);
        assert_eq!(shown(&full), full);
        assert_eq!(shown(format!("{full}b")), format!("{full}..."));
        assert_eq!(shown(format!("{}é", &full[1..])), format!("{}...", &full[1..]));
        assert_eq!(shown([b"a".repeat(SHOWN_BYTES), vec![0xff]].concat()), format!("{full}..."));
    }

    /// Undoes the escapes.
    fn read_back(shown: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = shown;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c != '\\' {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                continue;
            }
            let (kind, tail) = rest.split_at(1);
            rest = tail;
            let mut push = |c: char| out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            match kind {
                "n" => push('\n'),
                "r" => push('\r'),
                "t" => push('\t'),
                "\\" => push('\\'),
                "x" => {
                    out.push(u8::from_str_radix(&tail[..2], 16).unwrap());
                    rest = &tail[2..];
                }
                _ => {
                    let (digits, tail) = tail[1..].split_once('}').unwrap();
                    push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
                    rest = tail;
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn only_printable_text_comes_out_and_nothing_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let shown = shown(&bytes);
            prop_assert!(shown.chars().all(is_printable), "{shown:?}");
            prop_assert_eq!(read_back(&shown), bytes);
        }

        #[test]
        fn the_same_of_text(text in "\\PC*|[\u{0}-\u{2ff}\u{2000}-\u{206f}]*") {
            let shown = shown(&text);
            prop_assert!(shown.chars().all(is_printable), "{shown:?}");
            if text.len() <= SHOWN_BYTES {
                prop_assert_eq!(read_back(&shown), text.as_bytes());
            }
        }

    }

    #[test]
    fn no_character_is_printable_and_takes_no_place() {
        for c in '\0'..=char::MAX {
            assert!(!is_printable(c) || !(c.is_control() || (c.is_whitespace() && c != ' ')), "{c:?}");
        }
    }

    #[test]
    fn a_line_spells_out_what_nobody_has_marked() {
        let message = format!("{} and \x1b[m\n\u{202e}\\", Untrusted::new("\\\n"));
        assert_eq!(Line(message).to_string(), "\\\\\\n and \\u{1b}[m\\n\\u{202e}\\");
    }
}
