#![forbid(unsafe_code)]
//! `dockline healthcheck`: asks the admin listener of a running gateway.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dockline::untrusted::Untrusted;

use crate::address::ListenAddress;
use crate::problem::Problem;

/// Timeout of each step.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a response.
const RESPONSE_MAX: u64 = 64 * 1024;
const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: dockline\r\nConnection: close\r\n\r\n";

/// Asks whether the gateway is ready, and returns that with the text of the response.
pub(crate) fn ask(admin: &ListenAddress) -> Result<(bool, Untrusted<String>), Problem> {
    let response = match admin {
        ListenAddress::Unix { path, .. } => ask_unix(path),
        ListenAddress::Tcp { host, port, .. } => ask_tcp(host, *port),
        ListenAddress::Inherited(_) => {
            return Err(Problem::new("fd:// cannot be connected to").hint("give the address with --admin"));
        }
    };
    let response =
        response.map_err(Problem::wrap(format_args!("cannot query the admin listener {admin}")))?;
    read_response(&response).ok_or_else(|| {
        Problem::new(format_args!("the response of {admin} is not HTTP")).hint("is this the admin listener?")
    })
}

fn ask_unix(path: &Path) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    exchange(stream)
}

fn ask_tcp(host: &str, port: u16) -> io::Result<String> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return exchange(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(REQUEST)?;
    let mut response = Vec::new();
    stream.take(RESPONSE_MAX).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Parses a response; `None` if it is not HTTP.
fn read_response(response: &str) -> Option<(bool, Untrusted<String>)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    Some((status == "200", Untrusted::new(body.trim_end().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_ready() {
        let read = read_response;
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nA: b\r\n\r\nok\n"),
            Some((true, Untrusted::new("ok".to_owned())))
        );
        assert_eq!(
            read("HTTP/1.1 503 Service Unavailable\r\n\r\nno upstream\n"),
            Some((false, Untrusted::new("no upstream".to_owned())))
        );
        assert_eq!(read("SSH-2.0-x\r\n"), None);
        assert_eq!(read("220 hello\r\n\r\n"), None);
    }
}
