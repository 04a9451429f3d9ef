#![forbid(unsafe_code)]
//! [`Source`]: the text of the configuration file, and problems with places in it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use dockline::untrusted::{Line, Untrusted};

use crate::problem::Problem;
use crate::suggest;

/// A configuration file that was read.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `file:line:column` of a byte.
    pub(super) fn place(&self, at: usize) -> String {
        let (line, column, _) = self.locate(at);
        format!("{}:{line}:{column}", Untrusted::path(&self.path))
    }

    /// Makes a problem with `key`, whose text is at `span`.
    pub(super) fn problem(&self, span: Range<usize>, key: &str, message: impl fmt::Display) -> Problem {
        let (line, column, text) = self.locate(span.start);
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        // Escaped text is wider than the original: the marks are as wide as what is shown.
        let width = |text: &str| text.chars().count();
        let shown = |text: &str| Line(text.replace('\t', "    ")).to_string();
        let start = text.char_indices().nth(column - 1).map_or(text.len(), |(at, _)| at);
        let (before, rest) = text.split_at(start);
        let marked = self.text.get(span).and_then(|it| it.lines().next()).unwrap_or_default();
        let (indent, room) = (" ".repeat(width(&shown(before))), width(&shown(rest)));
        let marks = "^".repeat(width(&shown(marked)).min(room).max(1));
        let key = if key.is_empty() { String::new() } else { format!("{}: ", Untrusted::new(key)) };
        Problem::new(format_args!("{key}{message}"))
            .at(format_args!("{}:{line}:{column}", Untrusted::path(&self.path)))
            .excerpt(format!(" {number} | {}\n {gutter} | {indent}{marks}", shown(text)))
    }

    /// Makes a problem from an error of the TOML parser.
    pub(super) fn invalid(&self, mut error: toml::de::Error) -> Problem {
        let span = error.span().unwrap_or(0..0);
        // Without its input the error names the key instead of the line.
        error.set_input(None);
        let text = error.to_string();
        let key = text.lines().rev().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
        self.problem(span, key.unwrap_or(""), explain(error.message()))
    }

    /// Returns line and column of a byte, both from 1, and the text of the line.
    fn locate(&self, at: usize) -> (usize, usize, &str) {
        let at = at.min(self.text.len());
        let before = self.text.get(..at).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let text = self.text[start..].lines().next().unwrap_or("");
        (line, before[start..].chars().count() + 1, text)
    }
}

/// Shortens serde's "unknown field `x`, expected one of `a`, `b`" to the key that was probably
/// meant.
fn explain(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    match names.next() {
        Some(word) if message.starts_with("unknown ") => match suggest::nearest(word, names) {
            Some(found) => format!("unknown key `{}`; did you mean `{found}`?", Untrusted::new(word)),
            None => message.replacen("unknown field", "unknown key", 1),
        },
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_line_column_and_marks() {
        let source = Source::new(Path::new("d.toml"), "a = 1\n\n[log]\n\tlevel = \"x\" # c\n".into());
        let at = source.text().find("\"x\"").unwrap();
        assert_eq!(source.place(at), "d.toml:4:10");
        assert_eq!(
            source.problem(at..at + 3, "log.level", "is odd").to_string(),
            "d.toml:4:10: log.level: is odd\n 4 |     level = \"x\" # c\n   |             ^^^"
        );
        assert_eq!(source.place(usize::MAX), "d.toml:5:1");
    }

    #[test]
    fn an_unknown_key_gets_a_suggestion() {
        let list = "unknown field `levle`, expected one of `level`, `format`";
        assert_eq!(explain(list), "unknown key `levle`; did you mean `level`?");
        let far = "unknown field `colour`, expected one of `level`, `format`";
        assert_eq!(explain(far), "unknown key `colour`, expected one of `level`, `format`");
        assert_eq!(explain("missing field `address`"), "missing field `address`");
    }
}
