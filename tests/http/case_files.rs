//! What the case files of both corpora have in common: how they are found, their headings and
//! blocks, and how bytes are written in them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Name and text of every file of cases in a folder of `tests/`, sorted by name.
pub(crate) fn read(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "README.md" {
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// One `## heading` and what is below it.
pub(crate) struct Section<'t> {
    pub(crate) title: &'t str,
    body: &'t str,
}

impl<'t> Section<'t> {
    pub(crate) fn all(text: &'t str) -> Result<Vec<Self>, String> {
        let sections = text.split("\n## ").skip(usize::from(!text.starts_with("## ")));
        let sections = sections.map(|section| {
            let (title, body) = section.split_once('\n').ok_or("a heading without a case")?;
            let unknown = body
                .lines()
                .filter_map(|line| line.strip_prefix("```"))
                .find(|kind| !["", "with", "http", "proxy", "log"].contains(kind));
            match unknown {
                Some(kind) => Err(format!("{title}: a block of unknown kind {kind:?}")),
                None => Ok(Self { title: title.trim_start_matches("## "), body }),
            }
        });
        sections.collect()
    }

    /// The options in `<!-- … -->`, on a line of their own.
    pub(crate) fn options(&self) -> Result<&'t str, String> {
        let options = |line: &'t str| line.strip_prefix("<!-- ")?.strip_suffix(" -->");
        let mut lines = self.body.lines().filter_map(options);
        let first = lines.next().ok_or("no option line")?;
        if lines.next().is_some() { Err("two option lines".to_owned()) } else { Ok(first) }
    }

    /// The lines of the only block of this kind, each with its end; `None` if there is no such
    /// block.
    pub(crate) fn block(&self, kind: &str) -> Result<Option<&'t str>, String> {
        let fence = format!("```{kind}\n");
        let mut blocks = self.body.split(&fence).skip(1);
        let Some(rest) = blocks.next() else { return Ok(None) };
        if blocks.next().is_some() {
            return Err(format!("two {kind} blocks"));
        }
        let end = if rest.starts_with("```") { Some(0) } else { rest.find("\n```").map(|at| at + 1) };
        Ok(Some(&rest[..end.ok_or(format!("an open {kind} block"))?]))
    }
}

/// Text to bytes: `⏎` is CR LF; `\r`, `\n`, `\t`, `\\`, `\xHH`; `\*N(text)` is `text` N times.
pub(crate) fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let text = text.replace('⏎', "\\r\\n");
    let mut bytes = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let kind = rest.chars().next();
        rest = rest.get(1..).unwrap_or_default();
        match kind {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits = rest.get(..2).ok_or("\\x without digits")?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?);
                rest = &rest[2..];
            }
            Some('*') => {
                let (count, tail) = rest.split_once('(').ok_or("\\* without text")?;
                let (piece, tail) = tail.split_once(')').ok_or("\\* without an end")?;
                let count = count.parse().map_err(|_| format!("\\*{count} is no number"))?;
                bytes.extend_from_slice(&bytes_of(piece)?.repeat(count));
                rest = tail;
            }
            other => return Err(format!("unknown escape {other:?}")),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Bytes to visible text, in the same escapes. A long run of one byte is shortened.
pub(crate) fn show(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        let byte = match run[0] {
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\\' => "\\\\".to_owned(),
            byte @ b' '..=b'~' => char::from(byte).to_string(),
            byte => format!("\\x{byte:02x}"),
        };
        if run.len() > 20 {
            write!(text, "\\*{}({byte})", run.len()).unwrap();
        } else {
            text.push_str(&byte.repeat(run.len()));
        }
    }
    text.replace("\\r\\n", "⏎")
}
