//! Replays the cases in `tests/corpus/*.md`: whole, byte by byte, cut at every offset, and followed
//! by bytes that do not belong to the message, which have to be left alone.
//! `tests/corpus/README.md` has the format.

use std::fmt::Write as _;

use dockline::error::{ParseError, PeerError, Side};
use dockline::h1::{
    BodyFraming, ChunkEvent, ChunkedDecoder, Fields, HostPolicy, MethodKind, RequestHeadReader,
    ResponseHeadReader, request_framing, response_framing,
};
use dockline::limits::Limits;

use super::case_files::{self, Section, bytes_of, show};
use super::deliveries::Delivery;

/// Bytes that follow a message and do not belong to it: neither HTTP nor text.
const FOREIGN: &[u8] = b"\x00\xff GET /foreign HTTP/1.1\r\n\n0\r\n\r\n";

#[test]
fn every_case_reads_the_same_in_every_delivery() {
    let mut count = 0;
    for (file, text) in case_files::read("corpus") {
        let cases = parse_cases(&text).unwrap_or_else(|problem| panic!("{file}: {problem}"));
        assert!(!cases.is_empty(), "{file} has no case");
        for case in cases {
            check(&file, &case);
            count += 1;
        }
    }
    assert!(count >= 280, "only {count} cases were found");
}

/// A test that cannot fail proves nothing: an error in any line of a log has to be noticed.
#[test]
fn a_wrong_log_is_noticed() {
    let case = |log: &str| Case {
        title: String::new(),
        role: Role::Request(HostPolicy::Strict),
        wire: b"POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\nokX".to_vec(),
        log: log.to_owned(),
    };
    let right = "request POST / HTTP/1.1\nfield Host: d\nfield Content-Length: 2\nbody length 2\ndata ok\nend\nrest X\n";
    check("right", &case(right));
    for line in right.lines() {
        let wrong = case(&right.replace(line, ""));
        assert_ne!(replay(&wrong, &[&wrong.wire]).log, wrong.log, "without {line}");
    }
}

#[test]
fn malformed_cases_are_noticed() {
    for text in [
        "## No marker\n```http\nx\n```\n```log\nend\n```\n",
        "## Unknown role\n<!-- role=proxy -->\n```http\nx\n```\n```log\nend\n```\n",
        "## Unknown option\n<!-- role=request host=opaque -->\n```http\nx\n```\n```log\nend\n```\n",
        "## No log\n<!-- role=request -->\n```http\nx\n```\n",
        "## Open block\n<!-- role=request -->\n```http\nx\n```\n```log\nend\n",
        "## Unknown escape\n<!-- role=request -->\n```http\n\\q\n```\n```log\nend\n```\n",
        "## Nothing varies\n<!-- role=request -->\n```with\na\n```\n```http\nx\n```\n```log\nend\n```\n",
        "## Offset missing\n<!-- role=request -->\n```with\na\n```\n```http\n{}\n```\n```log\nerror at={at}\n```\n",
        "## Offset unused\n<!-- role=request -->\n```with\na => 1\n```\n```http\n{}\n```\n```log\nend\n```\n",
        "## Two option lines\n<!-- role=request -->\n<!-- role=request -->\n```http\nx\n```\n```log\nend\n```\n",
        "## Unknown block\n<!-- role=request -->\n```http\nx\n```\n```log\nend\n```\n```text\n```\n",
        "## Two logs\n<!-- role=request -->\n```http\nx\n```\n```log\nend\n```\n```log\nend\n```\n",
    ] {
        assert!(parse_cases(text).is_err(), "{text}");
    }
}

struct Case {
    title: String,
    role: Role,
    wire: Vec<u8>,
    log: String,
}

#[derive(Clone, Copy)]
enum Role {
    Request(HostPolicy),
    Response(MethodKind),
}

impl Role {
    fn side(self) -> Side {
        match self {
            Self::Request(_) => Side::Downstream,
            Self::Response(_) => Side::Upstream,
        }
    }
}

fn check(file: &str, case: &Case) {
    let name = format!("{file}: {}", case.title);
    for delivery in Delivery::all(case.wire.len()) {
        let replayed = replay(case, &delivery.pieces(&case.wire));
        assert_eq!(replayed.log, case.log, "{name}, {delivery:?}");
    }
    let whole = replay(case, &[&case.wire]);
    if whole.has_end {
        let rest = [whole.rest.as_slice(), FOREIGN].concat();
        for pieces in [&[&case.wire[..], FOREIGN][..], &[&[&case.wire[..], FOREIGN].concat()]] {
            assert_eq!(replay(case, pieces).rest, rest, "{name}, with bytes behind");
        }
    }
}

struct Replayed {
    log: String,
    /// The bytes that did not belong to the message.
    rest: Vec<u8>,
    /// Whether the message ended, without the end of the connection.
    has_end: bool,
}

enum Part {
    RequestHead(RequestHeadReader),
    ResponseHead(ResponseHeadReader, MethodKind),
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    Ended,
}

/// A reader of one message that keeps the bytes it could not use yet, as a connection does.
struct Replay {
    part: Part,
    pending: Vec<u8>,
    log: String,
    data: Vec<u8>,
}

fn replay(case: &Case, pieces: &[&[u8]]) -> Replayed {
    let limits = Limits::default();
    let part = match case.role {
        Role::Request(hosts) => Part::RequestHead(RequestHeadReader::new(&limits, hosts)),
        Role::Response(request) => Part::ResponseHead(ResponseHeadReader::new(&limits), request),
    };
    let mut replay = Replay { part, pending: Vec::new(), log: String::new(), data: Vec::new() };
    for piece in pieces {
        replay.pending.extend_from_slice(piece);
        if let Err(refusal) = replay.drain() {
            replay.flush_data();
            let (error, at) = match refusal {
                Refusal::Syntax(error) => {
                    let kind = match error.fault {
                        dockline::error::Fault::Peer(peer) => format!("{peer:?}"),
                        dockline::error::Fault::Limit(limit) => format!("{limit:?}"),
                    };
                    ((kind, error.status_hint(case.role.side())), format!(" at={}", error.at))
                }
                Refusal::Framing(error) => {
                    ((format!("{error:?}"), error.status_hint(case.role.side())), String::new())
                }
            };
            let (kind, status) = error;
            replay.log(format_args!("error {kind}{at} status={status}"));
            return Replayed { log: replay.log, rest: Vec::new(), has_end: false };
        }
    }
    replay.flush_data();
    let has_end = match replay.part {
        Part::Ended => true,
        Part::UntilClose => {
            replay.log(format_args!("open"));
            false
        }
        _ => {
            replay.log(format_args!("incomplete"));
            false
        }
    };
    if has_end {
        replay.log(format_args!("end"));
        if !replay.pending.is_empty() {
            let rest = show(&replay.pending);
            replay.log(format_args!("rest {rest}"));
        }
    }
    Replayed { log: replay.log, rest: replay.pending, has_end }
}

enum Refusal {
    Syntax(ParseError),
    Framing(PeerError),
}

impl Replay {
    fn log(&mut self, line: std::fmt::Arguments<'_>) {
        // Blanks at the end of a line would not be visible in a case file.
        writeln!(self.log, "{}", line.to_string().trim_end()).unwrap();
    }

    fn flush_data(&mut self) {
        if !self.data.is_empty() {
            let data = show(&std::mem::take(&mut self.data));
            self.log(format_args!("data {data}"));
        }
    }

    fn log_fields(&mut self, kind: &str, fields: &Fields) {
        for line in fields.iter() {
            let (name, value) = (show(line.name()), show(line.value()));
            self.log(format_args!("{kind} {name}: {value}"));
        }
    }

    fn begin_body(&mut self, framing: Result<BodyFraming, PeerError>) -> Result<(), Refusal> {
        match framing.map_err(Refusal::Framing)? {
            BodyFraming::Empty => {
                self.log(format_args!("body empty"));
                self.part = Part::Ended;
            }
            BodyFraming::Length(length) => {
                self.log(format_args!("body length {length}"));
                self.part = if length == 0 { Part::Ended } else { Part::Length(length) };
            }
            BodyFraming::Chunked => {
                self.log(format_args!("body chunked"));
                self.part = Part::Chunked(ChunkedDecoder::new(&Limits::default()));
            }
            BodyFraming::CloseDelimited => {
                self.log(format_args!("body until close"));
                self.part = Part::UntilClose;
            }
        }
        Ok(())
    }

    /// Reads as much as possible of the pending bytes.
    fn drain(&mut self) -> Result<(), Refusal> {
        loop {
            match &mut self.part {
                Part::RequestHead(reader) => {
                    let Some((head, used)) = reader.read(&self.pending).map_err(Refusal::Syntax)? else {
                        return Ok(());
                    };
                    self.pending.drain(..used);
                    let (method, target) = (show(head.method()), show(head.target().as_bytes()));
                    self.log(format_args!("request {method} {target} {}", head.version.as_str()));
                    self.log_fields("field", &head.fields);
                    self.begin_body(request_framing(head.version, &head.fields))?;
                }
                Part::ResponseHead(reader, request) => {
                    let request = *request;
                    let Some((head, used)) = reader.read(&self.pending).map_err(Refusal::Syntax)? else {
                        return Ok(());
                    };
                    self.pending.drain(..used);
                    let (status, reason) = (head.status(), show(head.reason()));
                    self.log(format_args!("response {} {} {reason}", head.version.as_str(), status.as_u16()));
                    self.log_fields("field", &head.fields);
                    self.begin_body(response_framing(request, head.version, status, &head.fields))?;
                }
                Part::Length(left) => {
                    let taken = self.pending.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    self.data.extend(self.pending.drain(..taken));
                    *left -= taken as u64;
                    if *left > 0 {
                        return Ok(());
                    }
                    self.flush_data();
                    self.part = Part::Ended;
                }
                Part::Chunked(decoder) => {
                    let (used, event) = decoder.step(&self.pending).map_err(Refusal::Syntax)?;
                    match event {
                        ChunkEvent::NeedMore => {
                            self.pending.drain(..used);
                            return Ok(());
                        }
                        ChunkEvent::Data(range) => self.data.extend_from_slice(&self.pending[range]),
                        ChunkEvent::Trailers(trailers) => {
                            self.flush_data();
                            self.log_fields("trailer", &trailers);
                        }
                        ChunkEvent::End => {
                            self.flush_data();
                            self.part = Part::Ended;
                        }
                    }
                    self.pending.drain(..used);
                }
                Part::UntilClose => {
                    self.data.append(&mut self.pending);
                    return Ok(());
                }
                Part::Ended => return Ok(()),
            }
        }
    }
}

/// The cases of a file. One with a `with` block is as many cases as the block has lines.
fn parse_cases(text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for section in Section::all(text)? {
        cases.extend(parse_section(&section).map_err(|problem| format!("{}: {problem}", section.title))?);
    }
    Ok(cases)
}

fn parse_section(section: &Section<'_>) -> Result<Vec<Case>, String> {
    let role = parse_role(section.options()?)?;
    let wire = section.block("http")?.ok_or("no http block")?;
    let log = section.block("log")?.ok_or("no log block")?;
    let Some(variants) = section.block("with")? else {
        let wire = parse_wire(wire)?;
        return Ok(vec![Case { title: section.title.to_owned(), role, wire, log: log.to_owned() }]);
    };
    if !wire.contains("{}") {
        return Err("a with block without {} in the message".to_owned());
    }
    let variant = |line: &str| {
        let (text, offset) = line.rsplit_once(" => ").unwrap_or((line, ""));
        if log.contains("{at}") == offset.is_empty() {
            return Err(format!("an offset for {{at}} in each line of the with block, or in none: {line}"));
        }
        let log = log.replace("{}", &show(&bytes_of(text)?)).replace("{at}", offset);
        // As in the log of a replay.
        let log = log.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let title = format!("{} [{text}]", section.title);
        Ok(Case { title, role, wire: parse_wire(&wire.replace("{}", text))?, log })
    };
    variants.lines().map(variant).collect()
}

fn parse_role(options: &str) -> Result<Role, String> {
    match options.split(' ').collect::<Vec<_>>()[..] {
        ["role=request"] => Ok(Role::Request(HostPolicy::Strict)),
        ["role=request", "host=docker"] => Ok(Role::Request(HostPolicy::Opaque)),
        ["role=response"] => Ok(Role::Response(MethodKind::Ordinary)),
        ["role=response", "to=HEAD"] => Ok(Role::Response(MethodKind::Head)),
        ["role=response", "to=CONNECT"] => Ok(Role::Response(MethodKind::Connect)),
        _ => Err(format!("unknown options {options:?}")),
    }
}

fn parse_wire(block: &str) -> Result<Vec<u8>, String> {
    let mut wire = Vec::new();
    for line in block.lines() {
        let (line, end) = match line.strip_suffix("\\c") {
            Some(line) => (line, &b""[..]),
            None => (line, &b"\r\n"[..]),
        };
        wire.extend_from_slice(&bytes_of(line)?);
        wire.extend_from_slice(end);
    }
    Ok(wire)
}
