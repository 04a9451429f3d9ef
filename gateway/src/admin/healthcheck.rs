#![forbid(unsafe_code)]
//! `dockline healthcheck`: asks the admin listener of a running gateway.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dockline::untrusted::Untrusted;

use crate::address::ListenAddress;

/// Timeout of each step.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a response.
const RESPONSE_MAX: u64 = 64 * 1024;
const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: dockline\r\nConnection: close\r\n\r\n";

/// Asks whether the gateway is ready, and returns that with the text of the response.
pub(crate) fn ask(admin: &ListenAddress) -> io::Result<(bool, Untrusted<String>)> {
    match admin {
        ListenAddress::Unix { path, .. } => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream)
        }
        ListenAddress::Tcp { host, port, .. } => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in (host.as_str(), *port).to_socket_addrs()? {
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
        ListenAddress::Inherited(_) => {
            Err(io::Error::other("fd:// cannot be connected to; give the address with --admin"))
        }
    }
}

fn exchange(mut stream: impl Read + Write) -> io::Result<(bool, Untrusted<String>)> {
    stream.write_all(REQUEST)?;
    let mut response = Vec::new();
    stream.take(RESPONSE_MAX).read_to_end(&mut response)?;
    read_response(&String::from_utf8_lossy(&response))
}

fn read_response(response: &str) -> io::Result<(bool, Untrusted<String>)> {
    let malformed = || io::Error::other("the response is not HTTP; is this the admin listener?");
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(malformed)?;
    Ok((status == "200", Untrusted::new(body.trim_end().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_ready() {
        let read = |text| read_response(text).ok();
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
