#![forbid(unsafe_code)]
//! A small client of the Docker API: one request per connection, on blocking sockets.

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
use dockline::untrusted::{Line, Untrusted};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::args::DockerArgs;
use crate::address::UpstreamAddress;

const SOCKET: &str = "unix:///var/run/docker.sock";
/// For each step of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than an answer that is read whole has: a list of some ten thousand containers.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Where a daemon is.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    address: Address,
}

#[derive(Debug)]
pub(crate) enum DockerError {
    /// The daemon said no: the status, and its message.
    Refused(u16, Untrusted<String>),
    /// There is no daemon, or it is no Docker daemon.
    Unreachable(String),
}

impl fmt::Display for DockerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_, message) => message.fmt(f),
            Self::Unreachable(message) => Line(message).fmt(f),
        }
    }
}

trait Connection: Read + Write + Send {
    /// How long a read may take.
    fn set_patience(&self, patience: Duration) -> io::Result<()>;
}

impl Connection for UnixStream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

impl Connection for TcpStream {
    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

impl Docker {
    pub(crate) fn new(args: &DockerArgs) -> Result<Self, String> {
        let UpstreamAddress { address, tls } = match &args.host {
            Some(host) => host.clone(),
            None => SOCKET.parse()?,
        };
        // Empty counts as unset, as it does for docker.
        if tls
            || std::env::var_os("DOCKER_TLS_VERIFY")
                .is_some_and(|value| !value.is_empty() && args.host.is_some())
        {
            return Err(
                "publish does not speak TLS with the daemon: containers can be reached from its own machine only, \
                 and there it has a socket; run this there, with --host unix:///var/run/docker.sock"
                    .into(),
            );
        }
        Ok(Self { address })
    }

    #[cfg(test)]
    pub(crate) fn at(address: Address) -> Self {
        Self { address }
    }

    /// Reads an object. The target is as the API's documentation has it, without a version.
    pub(crate) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, DockerError> {
        let mut bytes = Vec::new();
        let (head, body) = self.request(target).map_err(|error| self.unreachable(&error))?;
        body.take(ANSWER_MAX).read_to_end(&mut bytes).map_err(|error| self.unreachable(&error))?;
        if !head.status().is_success() {
            return Err(refused(&head, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            DockerError::Unreachable(format!("{}: not the Docker API: {error}", self.address))
        })
    }

    /// Opens the stream of events: an object a line. Reading times out when nothing has come for `patience`, which means
    /// nothing: there may be none for days.
    pub(crate) fn events(
        &self,
        target: &str,
        patience: Duration,
    ) -> Result<impl BufRead + use<>, DockerError> {
        let (head, body) = self.request(target).map_err(|error| self.unreachable(&error))?;
        if !head.status().is_success() {
            let mut bytes = Vec::new();
            body.take(ANSWER_MAX).read_to_end(&mut bytes).map_err(|error| self.unreachable(&error))?;
            return Err(refused(&head, &bytes));
        }
        body.connection.set_patience(patience).map_err(|error| self.unreachable(&error))?;
        Ok(BufReader::new(body))
    }

    fn unreachable(&self, error: &io::Error) -> DockerError {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "; is the daemon running? --host or DOCKER_HOST says where"
            }
            ErrorKind::PermissionDenied => "; run this as root, or as a member of the group docker",
            _ => "",
        };
        DockerError::Unreachable(format!("cannot reach the Docker daemon at {}: {error}{hint}", self.address))
    }

    fn connect(&self) -> io::Result<Box<dyn Connection>> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path)?)),
            Address::Tcp { host, port } => {
                let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
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
        connection.set_patience(PATIENCE)?;
        let mut question = Vec::new();
        HeadWriter::request(b"GET", target.as_bytes(), Version::Http11, &mut question)
            .field("Host", b"docker")
            .field("Connection", b"close")
            .end();
        connection.write_all(&question)?;
        let malformed = |error: &dyn fmt::Display| io::Error::new(ErrorKind::InvalidData, error.to_string());
        let limits = Limits::default();
        let mut reader = ResponseHeadReader::new(&limits);
        let mut received = Vec::new();
        loop {
            if let Some((head, length)) = reader.read(&received).map_err(|error| malformed(&error))? {
                received.drain(..length);
                let framing =
                    response_framing(MethodKind::Ordinary, head.version, head.status(), &head.fields)
                        .map_err(|error| malformed(&error))?;
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

/// What a daemon says with a status that is no success.
fn refused(head: &ResponseHead, body: &[u8]) -> DockerError {
    #[derive(Deserialize)]
    struct Refusal {
        message: Untrusted<String>,
    }
    let status = head.status().as_u16();
    let message = serde_json::from_slice::<Refusal>(body).map_or_else(
        |_| format!("the daemon answers with status {status}").into(),
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

/// The body of an answer.
struct Body {
    connection: Box<dyn Connection>,
    /// Finds the end of it; `None` once it was found.
    reader: Option<BodyReader>,
    /// Read, and not yet given on.
    data: Cursor<Vec<u8>>,
}

impl Body {
    /// Takes bytes of the connection, once those before them were given on.
    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data.set_position(0);
        self.data.get_mut().clear();
        if let Some(reader) = &mut self.reader {
            let moved = reader
                .pump(bytes, BodyWriter::Raw, self.data.get_mut())
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
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

/// The name of a container as a part of a path. Docker's own names need no escaping; anything else finds nothing.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that sends these bytes and closes.
    fn answer(bytes: &'static str) -> Result<serde_json::Value, DockerError> {
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
            assert_eq!(answer(bytes).unwrap(), serde_json::json!([1, 2]), "{bytes}");
        }
    }

    #[test]
    fn what_is_no_answer() {
        let refused = answer("HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n{\"message\":\"no web\"}");
        assert!(matches!(refused, Err(DockerError::Refused(404, text)) if text.raw() == "no web"));
        for bytes in [
            "SSH-2.0-x\r\n",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1,2]",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            assert!(matches!(answer(bytes), Err(DockerError::Unreachable(_))), "{bytes}");
        }
    }
}
