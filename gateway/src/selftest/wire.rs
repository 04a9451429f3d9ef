#![forbid(unsafe_code)]
//! One end of a connection, for either side of the test. It parses leniently, to see what a bad
//! proxy sends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use dockline::untrusted::{Line, Untrusted};

use crate::problem::Problem;

/// The result of a case.
pub(super) type Outcome<T = ()> = Result<T, Fault>;

/// A failure and its time: the earlier of two faults explains the later one.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) at: Instant,
    pub(super) text: String,
}

impl Fault {
    /// Makes a fault. The text may quote the other end.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self { at: now(), text: Line(text.as_ref()).to_string() }
    }
}

/// Reads the clock of the test.
#[expect(clippy::disallowed_methods, reason = "a program's own clock; no library code runs on it")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Sleeps, where silence is under test.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, with nothing to wait for")]
pub(super) fn pause(span: Duration) {
    thread::sleep(span);
}

/// Fails with `text` unless `condition` holds.
pub(super) fn ensure(condition: bool, text: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(Fault::new(text())) }
}

/// `tcp://HOST:PORT`, `HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(Problem::new("the path of a Unix socket must be absolute")
                    .hint("write as in unix:///run/docker.sock"))
            };
        }
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
            return Err(Problem::new("expected tcp://HOST:PORT, HOST:PORT or unix:///PATH"));
        }
        Ok(Self::Tcp(address.into()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{}", Untrusted::new(address)),
            Self::Unix(path) => write!(f, "unix://{}", Untrusted::path(path)),
        }
    }
}

impl Endpoint {
    pub(super) fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => {
                let connect = |address| TcpStream::connect_timeout(&address, Duration::from_secs(5));
                let mut attempts = address.to_socket_addrs()?.map(connect);
                let first = attempts.next().unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()));
                // One of several addresses suffices, such as those of localhost.
                let stream = first.or_else(|error| attempts.find_map(Result::ok).ok_or(error))?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(path) => UnixStream::connect(path).map(Socket::Unix),
        }
    }
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn read(&mut self, into: &mut [u8], patience: Duration) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(patience)).and_then(|()| stream.read(into)),
            Self::Unix(stream) => stream.set_read_timeout(Some(patience)).and_then(|()| stream.read(into)),
        }
    }

    fn write(&mut self, data: &[u8], patience: Duration) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(patience)).and_then(|()| stream.write(data)),
            Self::Unix(stream) => stream.set_write_timeout(Some(patience)).and_then(|()| stream.write(data)),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }
}

/// Why reading has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    Reset,
    Silence,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::End => "the connection ended",
            Self::Reset => "the connection was reset",
            Self::Silence => "nothing came in time",
        })
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silence,
            _ => Self::Reset,
        }
    }
}

/// A connection with its unread data. Nothing waits longer than its deadline.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    side: &'static str,
    pending: Vec<u8>,
    pub(super) deadline: Instant,
}

impl Wire {
    pub(super) fn new(socket: Socket, side: &'static str, deadline: Instant) -> Self {
        Self { socket, side, pending: Vec::new(), deadline }
    }

    fn patience(&self) -> Duration {
        // A timeout of zero would mean none.
        self.deadline.saturating_duration_since(now()).max(Duration::from_millis(1))
    }

    fn fault(&self, saw: impl fmt::Display, expected: &str) -> Fault {
        Fault::new(format!("{}: expected {expected}, but {saw}", self.side))
    }

    /// Reads once into `pending`.
    fn more(&mut self, patience: Duration) -> Result<(), Stop> {
        let mut buffer = [0; 65536];
        loop {
            match self.socket.read(&mut buffer, patience) {
                Ok(0) => return Err(Stop::End),
                Ok(n) => {
                    self.pending.extend_from_slice(&buffer[..n]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn send(&mut self, data: &[u8]) -> Outcome {
        let mut sent = 0;
        while sent < data.len() {
            match self.socket.write(&data[sent..], self.patience()) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let saw = match Stop::from(error) {
                        Stop::Silence => "the other side stopped reading",
                        _ => "the connection was closed",
                    };
                    let expected = format!("to send {} bytes", data.len());
                    return Err(self.fault(format_args!("{saw} after {sent}"), &expected));
                }
            }
        }
        Ok(())
    }

    /// Half-closes the connection.
    pub(super) fn half_close(&mut self) -> Outcome {
        self.socket.shutdown().map_err(|_| self.fault("the connection was gone", "to half-close"))
    }

    /// Returns a second handle for writing while this one reads.
    pub(super) fn writer(&self) -> Outcome<Self> {
        let socket =
            self.socket.try_clone().map_err(|error| Fault::new(format!("{}: {error}", self.side)))?;
        Ok(Self::new(socket, self.side, self.deadline))
    }

    /// Reads one byte past everything else, so that dropping this end resets the connection: a
    /// socket that is closed with bytes unread is reset, which needs no socket option. The peer
    /// must have sent two bytes or more in one piece.
    pub(super) fn leave_unread(&mut self, expected: &str) -> Outcome {
        match self.socket.read(&mut [0], self.patience()) {
            Ok(1) => Ok(()),
            Ok(_) => Err(self.fault(Stop::End, expected)),
            Err(error) => Err(self.fault(Stop::from(error), expected)),
        }
    }

    /// Reads exactly `n` bytes.
    pub(super) fn take(&mut self, n: usize, expected: &str) -> Outcome<Vec<u8>> {
        self.fetch(n, expected)?;
        Ok(self.pending.drain(..n).collect())
    }

    /// Waits for `n` bytes for a limited time. They remain unread.
    pub(super) fn fetch_within(&mut self, n: usize, span: Duration, expected: &str) -> Outcome {
        let deadline = std::mem::replace(&mut self.deadline, now() + span);
        let fetched = self.fetch(n, expected);
        self.deadline = deadline;
        fetched
    }

    fn fetch(&mut self, n: usize, expected: &str) -> Outcome {
        while self.pending.len() < n {
            if let Err(stop) = self.more(self.patience()) {
                let saw = format!("{stop} after {} of {n} bytes", self.pending.len());
                return Err(self.fault(saw, expected));
            }
        }
        Ok(())
    }

    /// Expects exactly these bytes.
    pub(super) fn expect(&mut self, bytes: &[u8], expected: &str) -> Outcome {
        let got = self.take(bytes.len(), expected)?;
        ensure(got == bytes, || format!("{}: expected {expected}, but got {}", self.side, shown(&got)))
    }

    /// Expects exactly these bytes, and a clean end.
    pub(super) fn expect_last(&mut self, bytes: &[u8], expected: &str) -> Outcome {
        self.expect(bytes, expected)?;
        self.expect_end(&format!("the end behind {expected}"))
    }

    pub(super) fn expect_end(&mut self, expected: &str) -> Outcome {
        match self.stop() {
            (0, Stop::End) => Ok(()),
            (0, stop) => Err(self.fault(stop, expected)),
            (n, _) => Err(self.fault(format_args!("{n} more bytes came"), expected)),
        }
    }

    /// Reads until reading stops, and returns the number of bytes and the reason.
    pub(super) fn stop(&mut self) -> (usize, Stop) {
        let mut count = self.pending.len();
        loop {
            self.pending.clear();
            match self.more(self.patience()) {
                Ok(()) => count += self.pending.len(),
                Err(stop) => return (count, stop),
            }
        }
    }

    /// Reads for a limited time.
    pub(super) fn stop_within(&mut self, span: Duration) {
        self.deadline = self.deadline.min(now() + span);
        self.stop();
    }

    /// Expects silence for this time.
    pub(super) fn quiet(&mut self, span: Duration, why: &str) -> Outcome {
        let stop = if self.pending.is_empty() { self.more(span) } else { Ok(()) };
        match stop {
            Err(Stop::Silence) => Ok(()),
            Err(stop) => Err(self.fault(stop, why)),
            Ok(()) => Err(self.fault(format_args!("got {}", shown(&self.pending)), why)),
        }
    }

    /// Reads a whole head, including the empty line.
    pub(super) fn head(&mut self, expected: &str) -> Outcome<Head> {
        let mut searched = 0;
        loop {
            if let Some(end) = head_end(&self.pending, searched) {
                return Ok(Head::parse(self.pending.drain(..end).collect()));
            }
            searched = self.pending.len().saturating_sub(3);
            ensure(searched < 1 << 20, || format!("{}: a head without end", self.side))?;
            if let Err(stop) = self.more(self.patience()) {
                let saw = match self.pending.len() {
                    0 => stop.to_string(),
                    n => format!("{stop} after {n} bytes"),
                };
                return Err(self.fault(saw, expected));
            }
        }
    }

    /// Reads the head of the final response, and skips interim ones.
    pub(super) fn response_head(&mut self) -> Outcome<Head> {
        loop {
            let head = self.head("a response")?;
            if head.status() == 101 || head.status() >= 200 {
                return Ok(head);
            }
        }
    }

    /// Reads a response and its body.
    pub(super) fn response(&mut self) -> Outcome<(Head, Vec<u8>)> {
        let head = self.response_head()?;
        let body = self.body(&head)?;
        Ok((head, body))
    }

    /// Reads the body of the message with this head.
    pub(super) fn body(&mut self, head: &Head) -> Outcome<Vec<u8>> {
        if head.is_chunked() {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        if let Some(length) = head.get("content-length") {
            let length =
                length.parse().map_err(|_| self.fault(format_args!("got {length:?}"), "a Content-Length"))?;
            return self.take(length, "a body of that length");
        }
        if head.is_request() || matches!(head.status(), 100..200 | 204 | 304) {
            return Ok(Vec::new());
        }
        loop {
            match self.more(self.patience()) {
                Ok(()) => {}
                Err(Stop::End) => return Ok(std::mem::take(&mut self.pending)),
                Err(stop) => return Err(self.fault(stop, "the end of the body")),
            }
        }
    }

    /// Reads the next chunk; none after the last one, whose trailers are skipped.
    pub(super) fn chunk(&mut self) -> Outcome<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| self.fault(format_args!("got {line:?}"), "the size of a chunk"))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        let chunk = self.take(size, "a whole chunk")?;
        self.expect(b"\r\n", "the end of a chunk")?;
        Ok(Some(chunk))
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.take(1, "the next line of a chunked body")?);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends the first `n` bytes of the pattern.
    pub(super) fn send_pattern(&mut self, n: usize) -> Outcome {
        let block = pattern();
        for start in (0..n).step_by(block.len()) {
            self.send(&block[..block.len().min(n - start)])?;
        }
        Ok(())
    }

    /// Reads `n` bytes, and compares them with the pattern.
    pub(super) fn expect_pattern(&mut self, n: usize, expected: &str) -> Outcome {
        let block = pattern();
        let mut at = 0;
        while at < n {
            let want = &block[at % block.len()..];
            if self.pending.is_empty()
                && let Err(stop) = self.more(self.patience())
            {
                return Err(self.fault(format_args!("{stop} after {at} of {n} bytes"), expected));
            }
            let run = want.len().min(self.pending.len()).min(n - at);
            if want[..run] != self.pending[..run] {
                let good = want.iter().zip(&self.pending).take_while(|(want, got)| want == got).count();
                return Err(self.fault(format_args!("byte {} of {n} is wrong", at + good), expected));
            }
            self.pending.drain(..run);
            at += run;
        }
        Ok(())
    }

    /// Sends and receives `n` bytes of the pattern at the same time.
    pub(super) fn exchange(&mut self, n: usize, expected: &str) -> Outcome {
        let mut writer = self.writer()?;
        thread::scope(|scope| {
            let sending = scope.spawn(move || writer.send_pattern(n));
            let received = self.expect_pattern(n, expected);
            let sent = sending.join().unwrap_or_else(|_| Err(Fault::new("the sending thread panicked")));
            received.and(sent)
        })
    }
}

/// Returns the repeated block. Its length is a prime, so that no buffer size hides a shift.
fn pattern() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(65_521).collect()
}

/// A request or response head, unparsed.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) raw: Vec<u8>,
    first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields =
            fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Self { raw, first, fields }
    }

    fn is_request(&self) -> bool {
        !self.first.starts_with("HTTP/")
    }

    /// Returns the status, or 0 if there is none.
    pub(super) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(super) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    pub(super) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// Returns whether the other side closes the connection after this exchange.
    pub(super) fn is_last(&self) -> bool {
        let close = |value: &&str| value.to_ascii_lowercase().contains("close");
        self.first.ends_with("HTTP/1.0") || self.all("connection").iter().any(close)
    }

    /// Returns the values of the field with this lower-case name, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    /// Fails unless the response has this status.
    pub(super) fn expect_status(&self, status: u16) -> Outcome {
        ensure(self.status() == status, || format!("client: expected {status}, but got {:?}", self.first))
    }
}

/// Returns the end of the head: an empty line, with or without CR.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).filter(|&i| bytes[i] == b'\n').find_map(|i| match bytes.get(i + 1..) {
        Some([b'\n', ..]) => Some(i + 2),
        Some([b'\r', b'\n', ..]) => Some(i + 3),
        _ => None,
    })
}

/// Formats bytes for a message, at most forty.
fn shown(bytes: &[u8]) -> String {
    let dots = if bytes.len() > 40 { "…" } else { "" };
    format!("\"{}{dots}\"", bytes[..bytes.len().min(40)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_end_has_sent_is_quoted_safely() {
        assert_eq!(
            Fault::new("got \"\x1b[31m\u{9b}\n\u{202e}\"").text,
            r#"got "\u{1b}[31m\u{9b}\n\u{202e}""#
        );
    }

    fn pair() -> (Wire, Wire) {
        let (a, b) = UnixStream::pair().unwrap();
        let deadline = now() + Duration::from_secs(5);
        (Wire::new(Socket::Unix(a), "client", deadline), Wire::new(Socket::Unix(b), "daemon", deadline))
    }

    #[test]
    fn endpoints() {
        for good in ["tcp://127.0.0.1:2390", "localhost:80", "[::1]:2375", "unix:///run/docker.sock"] {
            good.parse::<Endpoint>().unwrap();
        }
        for bad in
            ["", "localhost", "tcp://:80", "tcp://h:99999", "unix://run/x", "http://h:80", "tcp://h:80/"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_head_ends_at_an_empty_line_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(head_end(&head[..cut], 0), None);
            assert_eq!(head_end(head, cut.min(head.len() - 4)), Some(head.len()));
        }
        assert_eq!(head_end(b"GET / HTTP/1.1\nA: b\n\nrest", 0), Some(21));
    }

    #[test]
    fn bodies_by_length_by_chunks_and_by_the_end() {
        let (mut a, mut b) = pair();
        a.send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        a.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: v\r\n\r\n",
        )
        .unwrap();
        a.send(b"HTTP/1.1 200 OK\r\n\r\nto the end").unwrap();
        a.half_close().unwrap();
        assert_eq!(b.response().unwrap().1, b"ok");
        assert_eq!(b.response().unwrap().1, b"abc");
        assert_eq!(b.response().unwrap().1, b"to the end");
    }

    #[test]
    fn a_cut_body_is_a_fault() {
        let (mut a, mut b) = pair();
        a.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").unwrap();
        drop(a);
        assert!(b.response().unwrap_err().text.contains("2 of 5"));
    }

    #[test]
    fn the_pattern_shows_what_is_wrong() {
        let (mut a, mut b) = pair();
        let mut bytes = pattern();
        a.send(&bytes[..100]).unwrap();
        b.expect_pattern(100, "all").unwrap();
        bytes[70] ^= 1;
        a.send(&bytes[..100]).unwrap();
        assert!(b.expect_pattern(100, "all").unwrap_err().text.ends_with("byte 70 of 100 is wrong"));
    }

    #[test]
    fn a_socket_closed_with_bytes_unread_is_reset() {
        let (mut a, mut b) = pair();
        a.send(b"two").unwrap();
        b.leave_unread("two bytes").unwrap();
        drop(b);
        assert_eq!(a.stop(), (0, Stop::Reset));
    }
}
