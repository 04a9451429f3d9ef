//! The strictness pass: sees each byte of a head once, in order, however it arrives.
//!
//! It decides about lines and bytes: where a line ends, which byte may stand where, how long
//! everything may be. Each verdict depends on the bytes up to it and on nothing else, so cutting
//! the input elsewhere cannot change it, and it is given at the first byte that makes the head
//! unacceptable.

#![forbid(unsafe_code)]

use super::fields::LineSpan;
use super::syntax::{is_target_byte, is_token_byte, target_run, token_run, value_run};
use crate::error::{Fault, LimitError, ParseError, PeerError};
use crate::limits::METHOD_BYTES;

/// Room for the lines of most heads at once.
const ORDINARY_LINES: usize = 16;

/// The bounds on one head.
#[derive(Clone, Copy)]
pub(crate) struct HeadBounds {
    /// Bytes in all.
    pub(crate) head: usize,
    /// Bytes of a request line.
    pub(crate) line: usize,
    /// Field lines.
    pub(crate) fields: usize,
}

/// Where in the input a head that passed is.
pub(crate) struct HeadSpan {
    /// Where the start line begins, behind an empty line.
    pub(crate) start: usize,
    /// Where the field lines begin.
    pub(crate) fields: usize,
    /// Where the body, or the next message, begins.
    pub(crate) end: usize,
    /// The field lines; zero is where they begin.
    pub(crate) lines: Vec<LineSpan>,
}

/// The scan of one head, from its first byte to the empty line behind its fields.
pub(crate) struct HeadScanner {
    bounds: HeadBounds,
    part: HeadPart,
}

enum HeadPart {
    StartLine(LineScanner),
    Fields { start: usize, fields: usize, scanner: FieldScanner },
}

impl HeadScanner {
    /// Returns a scanner at the first byte of a request.
    pub(crate) const fn request(bounds: HeadBounds) -> Self {
        Self { bounds, part: HeadPart::StartLine(LineScanner::new(LineState::RequestStart)) }
    }

    /// Returns a scanner at the first byte of a response.
    pub(crate) const fn response(bounds: HeadBounds) -> Self {
        let state = LineState::ResponseVersion { matched: 0 };
        Self { bounds, part: HeadPart::StartLine(LineScanner::new(state)) }
    }

    /// Scans what is new in `input`, which holds all bytes since the first.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Result<Option<HeadSpan>, ParseError> {
        loop {
            match &mut self.part {
                HeadPart::StartLine(line) => match line.scan(input, self.bounds)? {
                    Progress::More => return Ok(None),
                    Progress::Ended { end } => {
                        let scanner = FieldScanner::head(end, self.bounds);
                        self.part = HeadPart::Fields { start: line.start, fields: end, scanner };
                    }
                },
                HeadPart::Fields { start, fields, scanner } => {
                    let unseen = input.get(scanner.pos..).unwrap_or_default();
                    return match scanner.scan(unseen)? {
                        Progress::More => Ok(None),
                        Progress::Ended { end } => {
                            let lines = scanner.take_lines();
                            Ok(Some(HeadSpan { start: *start, fields: *fields, end, lines }))
                        }
                    };
                }
            }
        }
    }
}

/// The result of scanning some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of them were seen, and the end was not among them.
    More,
    /// The part ends before the byte at this position.
    Ended { end: usize },
}

/// The scan of field lines, in a head or a trailer section, up to and with the empty line.
pub(crate) struct FieldScanner {
    state: FieldState,
    start: usize,
    pos: usize,
    bound: usize,
    too_long: LimitError,
    /// The line in progress is the last one.
    lines: Vec<LineSpan>,
    max_lines: usize,
    too_many: LimitError,
}

#[derive(Clone, Copy)]
enum FieldState {
    LineStart,
    Name,
    Value,
    LineLf,
    EndLf,
}

impl FieldScanner {
    /// Returns a scanner for the fields of a head whose start line ended at `pos`.
    const fn head(pos: usize, bounds: HeadBounds) -> Self {
        Self {
            state: FieldState::LineStart,
            start: pos,
            pos,
            bound: bounds.head,
            too_long: LimitError::Head,
            lines: Vec::new(),
            max_lines: bounds.fields,
            too_many: LimitError::Fields,
        }
    }

    /// Returns a scanner for a trailer section of at most `bytes` bytes and `lines` lines.
    pub(crate) const fn trailer(bytes: usize, lines: usize) -> Self {
        Self {
            state: FieldState::LineStart,
            start: 0,
            pos: 0,
            bound: bytes,
            too_long: LimitError::Trailer,
            lines: Vec::new(),
            max_lines: lines,
            too_many: LimitError::TrailerFields,
        }
    }

    /// Returns the lines of a section that has ended; zero is where it began.
    pub(crate) fn take_lines(&mut self) -> Vec<LineSpan> {
        std::mem::take(&mut self.lines)
    }

    /// Scans bytes that follow those of the last call; positions continue.
    pub(crate) fn scan(&mut self, unseen: &[u8]) -> Result<Progress, ParseError> {
        let base = self.pos;
        let unseen = &unseen[..unseen.len().min(self.bound.saturating_sub(base))];
        loop {
            if matches!(self.state, FieldState::LineStart) {
                self.skip_whole_lines(&unseen[self.pos - base..]);
            }
            let rest = &unseen[self.pos - base..];
            self.pos += match self.state {
                FieldState::Name => token_run(rest),
                FieldState::Value => value_run(rest),
                FieldState::LineStart | FieldState::LineLf | FieldState::EndLf => 0,
            };
            if self.pos >= self.bound {
                return Err(fault_at(self.too_long, self.bound));
            }
            let Some(&byte) = unseen.get(self.pos - base) else { return Ok(Progress::More) };
            let next = self.next(byte).map_err(|fault| fault_at(fault, self.pos))?;
            self.pos += 1;
            match next {
                Some(state) => self.state = state,
                None => return Ok(Progress::Ended { end: self.pos }),
            }
        }
    }

    /// Takes each line at the front that is complete and valid at once; the others are scanned byte
    /// by byte, to the verdict.
    fn skip_whole_lines(&mut self, mut rest: &[u8]) {
        if self.lines.is_empty() {
            self.lines.reserve(ORDINARY_LINES.min(self.max_lines));
        }
        while self.lines.len() < self.max_lines {
            let name = token_run(rest);
            let Some((b':', behind)) = rest[name..].split_first() else { return };
            let value = value_run(behind);
            if name == 0 || !behind[value..].starts_with(b"\r\n") {
                return;
            }
            rest = &behind[value + 2..];
            let start = self.pos - self.start;
            let colon = start + name;
            self.lines.push(LineSpan { name: start..colon, value: colon + 1..colon + 1 + value });
            self.pos += name + 1 + value + 2;
        }
    }

    /// Returns the state behind `byte`; none behind the end of the section.
    fn next(&mut self, byte: u8) -> Result<Option<FieldState>, Fault> {
        let here = self.pos - self.start;
        let next = match (self.state, byte) {
            (FieldState::LineLf, b'\n') => FieldState::LineStart,
            (FieldState::EndLf, b'\n') => return Ok(None),
            (FieldState::LineLf | FieldState::EndLf, _) => return Err(PeerError::BareCr.into()),
            (_, b'\n') => return Err(PeerError::BareLf.into()),
            (FieldState::LineStart, b'\r') => FieldState::EndLf,
            (FieldState::LineStart, b' ' | b'\t') if self.lines.is_empty() => {
                return Err(PeerError::BlankBeforeFields.into());
            }
            (FieldState::LineStart, b' ' | b'\t') => return Err(PeerError::ObsoleteFold.into()),
            (FieldState::LineStart, b':') => return Err(PeerError::FieldNameEmpty.into()),
            (FieldState::LineStart, _) if !is_token_byte(byte) => return Err(PeerError::FieldNameByte.into()),
            (FieldState::LineStart, _) if self.lines.len() == self.max_lines => {
                return Err(self.too_many.into());
            }
            (FieldState::LineStart, _) => {
                self.lines.push(LineSpan { name: here..here, value: here..here });
                FieldState::Name
            }
            // A name's token bytes never come here: they are skipped in one run.
            (FieldState::Name, b':') => {
                if let Some(line) = self.lines.last_mut() {
                    line.name.end = here;
                    line.value.start = here + 1;
                }
                FieldState::Value
            }
            (FieldState::Name, b'\r') => return Err(PeerError::FieldColon.into()),
            (FieldState::Name, b' ' | b'\t') => return Err(PeerError::FieldNameBlank.into()),
            (FieldState::Name, _) => return Err(PeerError::FieldNameByte.into()),
            (FieldState::Value, b'\r') => {
                if let Some(line) = self.lines.last_mut() {
                    line.value.end = here;
                }
                FieldState::LineLf
            }
            (FieldState::Value, _) => return Err(PeerError::FieldValueByte.into()),
        };
        Ok(Some(next))
    }
}

/// The scan of a start line, up to and with its CR LF.
struct LineScanner {
    state: LineState,
    start: usize,
    pos: usize,
    /// Whether the target is known to have a query.
    in_query: bool,
}

#[derive(Clone, Copy)]
enum LineState {
    RequestStart,
    EmptyLineLf,
    SecondStart,
    Method,
    TargetStart,
    Target,
    /// Within a character of a query that is not ASCII: bytes that are missing, and what the next
    /// one may be.
    QueryUtf8 {
        missing: u8,
        from: u8,
        to: u8,
    },
    RequestVersion {
        matched: usize,
    },
    ResponseVersion {
        matched: usize,
    },
    Status {
        digits: u8,
    },
    Reason,
    Lf,
}

const VERSION_STEM: &[u8] = b"HTTP/1.";
const VERSION_BYTES: usize = VERSION_STEM.len() + 1;

/// How many bytes of `HTTP/` prove that this is a version, and not a stray word.
const VERSION_NAME_BYTES: usize = 5;

impl LineScanner {
    const fn new(state: LineState) -> Self {
        Self { state, start: 0, pos: 0, in_query: false }
    }

    fn scan(&mut self, input: &[u8], bounds: HeadBounds) -> Result<Progress, ParseError> {
        let input = &input[..input.len().min(bounds.head)];
        if let Some(end) = self.whole_line(input, bounds) {
            self.pos = end;
            return Ok(Progress::Ended { end });
        }
        loop {
            let rest = input.get(self.pos..).unwrap_or_default();
            self.pos += match self.state {
                LineState::Target => target_run(rest),
                LineState::Reason => value_run(rest),
                _ => 0,
            };
            self.check_bounds(bounds)?;
            let Some(&byte) = input.get(self.pos) else { return Ok(Progress::More) };
            if byte >= 0x80 && matches!(self.state, LineState::Target) {
                self.in_query = self.in_query || input[self.start..self.pos].contains(&b'?');
            }
            let next = self.next(byte).map_err(|error| fault_at(error, self.pos))?;
            self.pos += 1;
            match next {
                Some(state) => self.state = state,
                None => return Ok(Progress::Ended { end: self.pos }),
            }
        }
    }

    /// Returns the end of a line that is complete and valid; any other is scanned byte by byte, to
    /// the verdict.
    fn whole_line(&self, input: &[u8], bounds: HeadBounds) -> Option<usize> {
        match self.state {
            LineState::RequestStart => {
                let method = token_run(&input[..input.len().min(METHOD_BYTES)]);
                let behind = input[method..].strip_prefix(b" ").filter(|_| method > 0)?;
                let target = target_run(behind);
                let behind = behind[target..].strip_prefix(b" ").filter(|_| target > 0)?;
                let behind = behind.strip_prefix(VERSION_STEM)?;
                let behind = behind.strip_prefix(b"0\r\n").or_else(|| behind.strip_prefix(b"1\r\n"))?;
                let end = input.len() - behind.len();
                (end - b"\r\n".len() <= bounds.line).then_some(end)
            }
            LineState::ResponseVersion { matched: 0 } => {
                let behind = input.strip_prefix(VERSION_STEM)?;
                let [b'0' | b'1', b' ', b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ', behind @ ..] = behind
                else {
                    return None;
                };
                let behind = behind[value_run(behind)..].strip_prefix(b"\r\n")?;
                Some(input.len() - behind.len())
            }
            _ => None,
        }
    }

    fn check_bounds(&self, bounds: HeadBounds) -> Result<(), ParseError> {
        let in_request_line = matches!(
            self.state,
            LineState::Method
                | LineState::TargetStart
                | LineState::Target
                | LineState::QueryUtf8 { .. }
                | LineState::RequestVersion { .. }
        );
        if in_request_line && self.pos - self.start > bounds.line {
            return Err(fault_at(LimitError::RequestLine, self.start + bounds.line));
        }
        if self.pos >= bounds.head {
            let limit = if in_request_line { LimitError::RequestLine } else { LimitError::Head };
            return Err(fault_at(limit, bounds.head));
        }
        Ok(())
    }

    /// Returns the state behind `byte`; none behind the end of the line.
    fn next(&mut self, byte: u8) -> Result<Option<LineState>, PeerError> {
        let next = match (self.state, byte) {
            (LineState::EmptyLineLf, b'\n') => LineState::SecondStart,
            (LineState::Lf, b'\n') => return Ok(None),
            (LineState::EmptyLineLf | LineState::Lf, _) => return Err(PeerError::BareCr),
            (_, b'\n') => return Err(PeerError::BareLf),
            (LineState::RequestStart, b'\r') => LineState::EmptyLineLf,
            (LineState::SecondStart, b'\r') => return Err(PeerError::ExtraEmptyLine),
            (LineState::RequestStart | LineState::SecondStart, _) => {
                self.start = self.pos;
                method_byte(byte)?
            }
            (LineState::Method, b' ') => LineState::TargetStart,
            (LineState::Method, b'\r') => return Err(PeerError::RequestLineShort),
            (LineState::Method, _) if self.pos - self.start == METHOD_BYTES => {
                return Err(PeerError::MethodTooLong);
            }
            (LineState::Method, _) => method_byte(byte)?,
            (LineState::Target, b' ') => LineState::RequestVersion { matched: 0 },
            (LineState::TargetStart | LineState::Target, b'\r') => return Err(PeerError::RequestLineShort),
            (LineState::TargetStart | LineState::Target, b' ' | b'\t') => {
                return Err(PeerError::RequestLineBlank);
            }
            (LineState::TargetStart, _) if is_target_byte(byte) => LineState::Target,
            (LineState::Target, 0x80..) if self.in_query => {
                let (missing, from, to) = utf8_lead(byte).ok_or(PeerError::TargetByte)?;
                LineState::QueryUtf8 { missing, from, to }
            }
            (LineState::QueryUtf8 { missing: 1, from, to }, _) if (from..=to).contains(&byte) => {
                LineState::Target
            }
            (LineState::QueryUtf8 { missing, from, to }, _) if (from..=to).contains(&byte) => {
                LineState::QueryUtf8 { missing: missing - 1, from: 0x80, to: 0xbf }
            }
            (LineState::TargetStart | LineState::Target | LineState::QueryUtf8 { .. }, _) => {
                return Err(PeerError::TargetByte);
            }
            (LineState::RequestVersion { matched: VERSION_BYTES }, b'\r') => LineState::Lf,
            (LineState::RequestVersion { matched: 0 }, b'\r')
            | (LineState::RequestVersion { matched: 0 | VERSION_BYTES }, b' ' | b'\t') => {
                return Err(PeerError::RequestLineBlank);
            }
            (LineState::RequestVersion { matched }, _) if is_version_byte(matched, byte) => {
                LineState::RequestVersion { matched: matched + 1 }
            }
            (LineState::RequestVersion { matched }, _) if is_stray_word(matched, byte) => {
                return Err(PeerError::RequestLineBlank);
            }
            (LineState::ResponseVersion { matched: VERSION_BYTES }, b' ') => LineState::Status { digits: 0 },
            (LineState::ResponseVersion { matched }, _) if is_version_byte(matched, byte) => {
                LineState::ResponseVersion { matched: matched + 1 }
            }
            (LineState::RequestVersion { .. } | LineState::ResponseVersion { .. }, _) => {
                return Err(PeerError::UnsupportedVersion);
            }
            (LineState::Status { digits: 0 }, b'1'..=b'5') => LineState::Status { digits: 1 },
            (LineState::Status { digits: digits @ (1 | 2) }, b'0'..=b'9') => {
                LineState::Status { digits: digits + 1 }
            }
            (LineState::Status { digits: 3 }, b' ') => LineState::Reason,
            (LineState::Status { digits: 3 }, b'\r') => return Err(PeerError::ReasonSpace),
            (LineState::Status { .. }, _) => return Err(PeerError::StatusCode),
            // The bytes of a reason never come here: they are skipped in one run.
            (LineState::Reason, b'\r') => LineState::Lf,
            (LineState::Reason, _) => return Err(PeerError::ReasonByte),
        };
        Ok(Some(next))
    }
}

fn method_byte(byte: u8) -> Result<LineState, PeerError> {
    match byte {
        b' ' | b'\t' => Err(PeerError::RequestLineBlank),
        _ if is_token_byte(byte) => Ok(LineState::Method),
        _ => Err(PeerError::MethodByte),
    }
}

/// Returns how many bytes follow the first byte of a character that is not ASCII, and the range of
/// the next one (RFC 3629, section 4); none if no character begins so.
fn utf8_lead(byte: u8) -> Option<(u8, u8, u8)> {
    match byte {
        0xc2..=0xdf => Some((1, 0x80, 0xbf)),
        0xe0 => Some((2, 0xa0, 0xbf)),
        0xed => Some((2, 0x80, 0x9f)),
        0xe1..=0xef => Some((2, 0x80, 0xbf)),
        0xf0 => Some((3, 0x90, 0xbf)),
        0xf1..=0xf3 => Some((3, 0x80, 0xbf)),
        0xf4 => Some((3, 0x80, 0x8f)),
        _ => None,
    }
}

fn is_version_byte(matched: usize, byte: u8) -> bool {
    match VERSION_STEM.get(matched) {
        Some(&expected) => byte == expected,
        None => matched < VERSION_BYTES && (byte == b'0' || byte == b'1'),
    }
}

/// Returns whether the third part of a request line is not a version in any spelling, so that the
/// space was one too many.
fn is_stray_word(matched: usize, byte: u8) -> bool {
    matched < VERSION_NAME_BYTES && !byte.eq_ignore_ascii_case(&VERSION_STEM[matched])
}

fn fault_at(fault: impl Into<Fault>, at: usize) -> ParseError {
    ParseError { fault: fault.into(), at: at as u64 }
}
