#![forbid(unsafe_code)]
//! [`Docker`]: a small client of the Docker API, with one request per connection, on blocking
//! sockets.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dockline::engine::Address;
use dockline::h1::{
    BodyReader, BodyWriter, HeadWriter, MethodKind, ResponseHead, ResponseHeadReader, Version,
    response_framing,
};
use dockline::limits::Limits;
use dockline::untrusted::Untrusted;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::args::DockerArgs;
use crate::address::UpstreamAddress;
use crate::problem::Problem;

const SOCKET: &str = "unix:///var/run/docker.sock";
/// Timeout of each step of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Limit for a response that is read whole; a list of ten thousand containers is smaller.
const RESPONSE_MAX: u64 = 64 * 1024 * 1024;

/// A Docker daemon, by its address.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    address: Address,
}

/// Why a request has failed.
#[derive(Debug)]
pub(crate) enum DockerError {
    /// The daemon refused it, with this status and message.
    Refused(u16, Untrusted<String>),
    /// There is no daemon, or it is not a Docker daemon.
    Unreachable(Problem),
}

impl fmt::Display for DockerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_, message) => message.fmt(f),
            Self::Unreachable(problem) => problem.fmt(f),
        }
    }
}

impl From<DockerError> for Problem {
    fn from(error: DockerError) -> Self {
        match error {
            DockerError::Refused(_, message) => Self::new(message),
            DockerError::Unreachable(problem) => problem,
        }
    }
}

trait Connection: Read + Write + Send {
    /// Sets the timeout of reads.
    fn set_read_limit(&self, limit: Duration) -> io::Result<()>;
}

impl Connection for UnixStream {
    fn set_read_limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(TIMEOUT))
    }
}

impl Connection for TcpStream {
    fn set_read_limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(TIMEOUT))
    }
}

impl Docker {
    /// Takes the address of the daemon from the command line.
    pub(crate) fn new(args: &DockerArgs) -> Result<Self, Problem> {
        let UpstreamAddress { address, tls } = match &args.host {
            Some(host) => host.clone(),
            None => SOCKET.parse()?,
        };
        // Empty counts as not set, as it does for docker.
        if tls
            || std::env::var_os("DOCKER_TLS_VERIFY")
                .is_some_and(|value| !value.is_empty() && args.host.is_some())
        {
            return Err(Problem::new(
                "publish does not connect to the daemon by TLS: its containers can be reached from its own machine \
                 only, where it has a socket",
            )
            .hint("run this there, with --host unix:///var/run/docker.sock"));
        }
        Ok(Self { address })
    }

    #[cfg(test)]
    pub(crate) fn at(address: Address) -> Self {
        Self { address }
    }

    /// Requests an object. The target is that of the API's documentation, without a version.
    pub(crate) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, DockerError> {
        let mut bytes = Vec::new();
        let (head, body) = self.request(target).map_err(|error| self.unreachable(error))?;
        body.take(RESPONSE_MAX).read_to_end(&mut bytes).map_err(|error| self.unreachable(error))?;
        if !head.status().is_success() {
            return Err(refused(&head, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            let error = Untrusted::new(error.to_string());
            DockerError::Unreachable(
                Problem::new(format_args!("not a response of the Docker API: {error}")).at(&self.address),
            )
        })
    }

    /// Requests the stream of events, one object per line. A read times out after `limit`, which is
    /// no error: there may be no event for days.
    pub(crate) fn events(&self, target: &str, limit: Duration) -> Result<impl BufRead + use<>, DockerError> {
        let (head, body) = self.request(target).map_err(|error| self.unreachable(error))?;
        if !head.status().is_success() {
            let mut bytes = Vec::new();
            body.take(RESPONSE_MAX).read_to_end(&mut bytes).map_err(|error| self.unreachable(error))?;
            return Err(refused(&head, &bytes));
        }
        body.connection.set_read_limit(limit).map_err(|error| self.unreachable(error))?;
        Ok(BufReader::new(body))
    }

    fn unreachable(&self, error: io::Error) -> DockerError {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Some("start the daemon, or give its address with --host or DOCKER_HOST")
            }
            ErrorKind::PermissionDenied => Some("run this as root, or as a member of the group docker"),
            _ => None,
        };
        let message = format_args!("cannot connect to the Docker daemon at {}", self.address);
        let problem = Problem::new(message).because(error);
        DockerError::Unreachable(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        })
    }

    fn connect(&self) -> io::Result<Box<dyn Connection>> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path)?)),
            Address::Tcp { host, port } => {
                let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, TIMEOUT) {
                        Ok(stream) => return Ok(Box::new(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn request(&self, target: &str) -> io::Result<(ResponseHead, Body)> {
        let mut connection = self.connect()?;
        connection.set_read_limit(TIMEOUT)?;
        let mut request = Vec::new();
        HeadWriter::request(b"GET", target.as_bytes(), Version::Http11, &mut request)
            .field("Host", b"docker")
            .field("Connection", b"close")
            .end();
        connection.write_all(&request)?;
        let limits = Limits::default();
        let mut reader = ResponseHeadReader::new(&limits);
        let mut received = Vec::new();
        loop {
            if let Some((head, length)) = reader.read(&received).map_err(invalid)? {
                received.drain(..length);
                let framing =
                    response_framing(MethodKind::Ordinary, head.version, head.status(), &head.fields)
                        .map_err(invalid)?;
                let mut body =
                    Body { connection, reader: BodyReader::new(framing, &limits), data: Cursor::default() };
                body.received(&received)?;
                return Ok((head, body));
            }
            if read_more(&mut connection, &mut received)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn invalid(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Reads the error of a response whose status is not a success.
fn refused(head: &ResponseHead, body: &[u8]) -> DockerError {
    #[derive(Deserialize)]
    struct Refusal {
        message: Untrusted<String>,
    }
    let status = head.status().as_u16();
    let message = serde_json::from_slice::<Refusal>(body).map_or_else(
        |_| format!("the Docker daemon responded with status {status}").into(),
        |refusal| refusal.message,
    );
    DockerError::Refused(status, message)
}

fn read_more(connection: &mut impl Read, received: &mut Vec<u8>) -> io::Result<usize> {
    let mut buf = [0; 16 * 1024];
    let n = connection.read(&mut buf)?;
    received.extend_from_slice(&buf[..n]);
    Ok(n)
}

/// The body of a response.
struct Body {
    connection: Box<dyn Connection>,
    /// The reader of the body; `None` after its end.
    reader: Option<BodyReader>,
    /// Data that was not returned yet.
    data: Cursor<Vec<u8>>,
}

impl Body {
    /// Takes bytes of the connection, when all earlier data was returned.
    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data.set_position(0);
        self.data.get_mut().clear();
        if let Some(reader) = &mut self.reader {
            let moved = reader.pump(bytes, BodyWriter::Raw, self.data.get_mut()).map_err(invalid)?;
            if moved.ended {
                self.reader = None;
            }
        }
        Ok(())
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.data.read(buf)?;
            let Some(reader) = self.reader.as_ref().filter(|_| n == 0 && !buf.is_empty()) else {
                return Ok(n);
            };
            let mut bytes = Vec::new();
            if read_more(&mut self.connection, &mut bytes)? == 0 {
                return if reader.ends_with_connection() {
                    Ok(0)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
            self.received(&bytes)?;
        }
    }
}

/// Returns whether a text can be the name of a container, which needs no escaping in a path.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result of a request to a daemon that sends these bytes and closes.
    fn response_to(bytes: &'static str) -> Result<serde_json::Value, DockerError> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                read_more(&mut stream, &mut request).unwrap();
            }
            stream.write_all(bytes.as_bytes()).unwrap();
        });
        let docker = Docker::at(Address::Tcp { host: "127.0.0.1".into(), port });
        let got = docker.get("/x");
        server.join().unwrap();
        got
    }

    #[test]
    fn bodies_of_all_kinds() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n[1,2]",
        ] {
            assert_eq!(response_to(bytes).unwrap(), serde_json::json!([1, 2]), "{bytes}");
        }
    }

    #[test]
    fn invalid_responses() {
        let refused =
            response_to("HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n{\"message\":\"no web\"}");
        assert!(matches!(refused, Err(DockerError::Refused(404, text)) if text.raw() == "no web"));
        for bytes in [
            "SSH-2.0-x\r\n",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1,2]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            assert!(matches!(response_to(bytes), Err(DockerError::Unreachable(_))), "{bytes}");
        }
    }
}
