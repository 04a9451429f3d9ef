#![forbid(unsafe_code)]
//! [`AdminClient`]: asks the admin listener of a running gateway.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use serde::de::DeserializeOwned;

use crate::address::ListenAddress;
use crate::problem::Problem;

/// Timeout of each step.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a response: ten thousand routes are some 4 MiB.
const RESPONSE_MAX: u64 = 64 * 1024 * 1024;

/// The admin listener of a gateway, by its address.
#[derive(Clone, Debug)]
pub(crate) struct AdminClient {
    address: ListenAddress,
    /// Sent with each request, for a listener on TCP.
    token: Option<String>,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Untrusted<String>,
}

impl AdminClient {
    /// Returns a client for an admin listener.
    pub(crate) fn new(address: ListenAddress, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// Requests a resource.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Problem> {
        self.ask("GET", path)
    }

    /// Requests JSON, which must be there.
    pub(crate) fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        let answer = self.get(path)?;
        let problem = |message: &dyn std::fmt::Display| Problem::new(message).at(&self.address);
        if answer.status != 200 {
            return Err(problem(&format_args!("{path}: status {}: {}", answer.status, answer.body))
                .hint("is this the admin listener of a gateway of this version?"));
        }
        serde_json::from_str(answer.body.raw())
            .map_err(|error| problem(&format_args!("{path} cannot be read")).because(error))
    }

    /// Makes a request that changes something.
    pub(crate) fn post(&self, path: &str) -> Result<Answer, Problem> {
        self.ask("POST", path)
    }

    fn ask(&self, method: &str, path: &str) -> Result<Answer, Problem> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        request += "\r\n";
        let response = match &self.address {
            ListenAddress::Unix { path, .. } => ask_unix(path, &request),
            ListenAddress::Tcp { host, port, .. } => ask_tcp(host, *port, &request),
            ListenAddress::Inherited(_) => {
                return Err(
                    Problem::new("fd:// cannot be connected to").hint("give the address with --admin")
                );
            }
        };
        let response = response.map_err(|error| {
            let missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
            let problem = Problem::new(format_args!("cannot query the admin listener {}", self.address));
            let problem = problem.because(error);
            if missing {
                problem.hint("is the gateway running? `--admin` names another address")
            } else {
                problem
            }
        })?;
        read_response(&response).ok_or_else(|| {
            Problem::new(format_args!("the response of {} is not HTTP", self.address))
                .hint("is this the admin listener?")
        })
    }
}

fn ask_unix(path: &Path, request: &str) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(stream, request)
}

fn ask_tcp(host: &str, port: u16, request: &str) -> io::Result<String> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return exchange(stream, request);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.take(RESPONSE_MAX).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Parses a response with a length; `None` if it is not HTTP, or not whole.
fn read_response(response: &str) -> Option<Answer> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("Content-Length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = length.is_none_or(|length| length == body.len());
    whole.then(|| Answer { status, body: Untrusted::new(body.trim_end().to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_whole_or_not_at_all() {
        let answer = |status, body: &str| Some(Answer { status, body: body.to_owned().into() });
        let read = read_response;
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\nok\n"), answer(200, "ok"));
        assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"), answer(200, "ok"));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok\n"), None);
        assert_eq!(read("HTTP/1.1 503 Service Unavailable\r\n\r\nno upstream\n"), answer(503, "no upstream"));
        for text in ["SSH-2.0-x\r\n", "220 hello\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
