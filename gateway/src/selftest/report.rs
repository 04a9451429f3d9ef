#![forbid(unsafe_code)]
//! The scorecard, as text or as one JSON object per line.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::cases::Case;
use crate::access_log::write_json_string;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

/// The result of a case; `Fail` has the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Fail(String),
    Skip,
}

/// Writes each result, and counts them.
pub(super) struct Report<W> {
    out: W,
    format: Format,
    terminal: bool,
    colour: bool,
    topic: &'static str,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report<io::StdoutLock<'static>> {
    pub(super) fn stdout(format: Format) -> Self {
        let terminal = format == Format::Text && io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self::new(io::stdout().lock(), format, terminal, terminal && !plain)
    }
}

impl<W: Write> Report<W> {
    fn new(out: W, format: Format, terminal: bool, colour: bool) -> Self {
        Self { out, format, terminal, colour, topic: "", passed: 0, failed: 0, skipped: 0 }
    }

    /// Shows the current case on a terminal.
    pub(super) fn running(&mut self, topic: &'static str, case: &Case) -> io::Result<()> {
        if self.format == Format::Text && self.topic != topic {
            self.topic = topic;
            writeln!(self.out, "\n{topic}")?;
        }
        if self.terminal {
            write!(self.out, "  ....  {}", case.name)?;
            self.out.flush()?;
        }
        Ok(())
    }

    pub(super) fn result(&mut self, case: &Case, verdict: &Verdict, took: Duration) -> io::Result<()> {
        *match verdict {
            Verdict::Pass => &mut self.passed,
            Verdict::Fail(_) => &mut self.failed,
            Verdict::Skip => &mut self.skipped,
        } += 1;
        match self.format {
            Format::Text => self.text(case, verdict),
            Format::Json => self.json(case, verdict, took),
        }
    }

    fn text(&mut self, case: &Case, verdict: &Verdict) -> io::Result<()> {
        if self.terminal {
            write!(self.out, "\r\x1b[K")?;
        }
        let (word, colour) = match verdict {
            Verdict::Pass => ("pass", "32"),
            Verdict::Fail(_) => ("FAIL", "1;31"),
            Verdict::Skip => ("skip", "33"),
        };
        let word = if self.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        writeln!(self.out, "  {word}  {:<20}  {}", case.name, case.title)?;
        if let Verdict::Fail(reason) = verdict {
            writeln!(self.out, "        users see: {}", case.breaks)?;
            for line in folded(reason) {
                writeln!(self.out, "        {line}")?;
            }
        }
        Ok(())
    }

    fn json(&mut self, case: &Case, verdict: &Verdict, took: Duration) -> io::Result<()> {
        let (result, reason) = match verdict {
            Verdict::Pass => ("pass", "null".to_owned()),
            Verdict::Fail(reason) => ("fail", quoted(reason)),
            Verdict::Skip => ("skip", "null".to_owned()),
        };
        let (name, breaks) = (quoted(case.name), quoted(case.breaks));
        let ms = took.as_millis();
        writeln!(
            self.out,
            r#"{{"case":{name},"result":"{result}","breaks":{breaks},"reason":{reason},"ms":{ms}}}"#
        )
    }

    /// Writes the last line, and returns whether nothing has failed.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        let Self { passed, failed, skipped, .. } = self;
        let total = passed + failed;
        match self.format {
            Format::Text if skipped > 0 => {
                writeln!(self.out, "\n{passed} of {total}; {skipped} skipped, they need a proxy")?;
            }
            Format::Text => writeln!(self.out, "\n{passed} of {total}")?,
            Format::Json => writeln!(
                self.out,
                r#"{{"passed":{passed},"failed":{failed},"skipped":{skipped},"total":{total}}}"#
            )?,
        }
        self.out.flush()?;
        Ok(failed == 0)
    }
}

/// Wraps a text at 100 columns, including the indent.
fn folded(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 92 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_json_string(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::cases::TOPICS;
    use super::*;

    fn written(format: Format, terminal: bool) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, format, terminal, terminal);
        let (topic, cases) = TOPICS[0];
        for (case, verdict) in
            cases.iter().zip([Verdict::Pass, Verdict::Fail("a \"b\"\n".into()), Verdict::Skip])
        {
            report.running(topic, case).unwrap();
            report.result(case, &verdict, Duration::from_millis(7)).unwrap();
        }
        assert!(!report.finish().unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_text_has_no_escapes() {
        let text = written(Format::Text, false);
        assert!(!text.contains(['\x1b', '\r']), "{text}");
        assert!(text.ends_with("\n1 of 2; 1 skipped, they need a proxy\n"), "{text}");
    }

    #[test]
    fn a_terminal_gets_progress_and_colour() {
        let text = written(Format::Text, true);
        assert!(text.contains("  ....  attach-101\r\x1b[K  \x1b[32mpass\x1b[0m  attach-101"), "{text}");
    }

    #[test]
    fn long_reasons_are_folded() {
        let lines = folded("word ".repeat(40).trim());
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= 92), "{lines:?}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written(Format::Json, false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines.iter().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
        assert!(
            lines[1].contains(r#""result":"fail""#)
                && lines[1].contains(r#""reason":"a \"b\"\u000a","ms":7"#)
        );
        assert_eq!(lines[3], r#"{"passed":1,"failed":1,"skipped":1,"total":2}"#);
    }

    #[test]
    fn every_case_fits_the_page_and_has_a_name_of_its_own() {
        let cases: Vec<_> = TOPICS.iter().flat_map(|(_, cases)| *cases).collect();
        let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        for case in cases {
            assert!(case.name.len() <= 20, "{}", case.name);
            assert!(30 + case.title.len() <= 100, "{}", case.title);
            assert!(22 + case.breaks.len() <= 100, "{}", case.breaks);
        }
    }
}
