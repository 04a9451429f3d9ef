//! The messages for the parsers.

use std::fmt::Write as _;

pub(crate) struct Message {
    pub(crate) name: &'static str,
    pub(crate) part: Part,
    /// How many bytes arrive at a time.
    pub(crate) arrival: usize,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Request,
    Response,
    /// The body of a chunked response, for those that parse it apart; for llhttp a head comes
    /// before it.
    ChunkedBody,
}

const WHOLE: usize = usize::MAX;
const SEGMENT: usize = 1448;

const CLI_GET: &str = "GET /v1.41/containers/json?all=1 HTTP/1.1\r\nHost: docker\r\n\
    User-Agent: Docker-Client/20.10.24+dfsg1 (linux)\r\n\r\n";

const EXEC_POST: &str = "POST /v1.41/exec/4f1b2a9c7d3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8/start HTTP/1.1\r\n\
    Host: docker\r\nUser-Agent: Docker-Client/20.10.24+dfsg1 (linux)\r\nContent-Length: 31\r\nConnection: Upgrade\r\n\
    Content-Type: application/json\r\nUpgrade: tcp\r\n\r\n";

const BROWSER: &str = "GET /containers/4f1b2a9c7d3e/logs?stdout=1&stderr=1&tail=100 HTTP/1.1\r\n\
    Host: docker.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"126\", \"Not.A/Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark; sidebar=collapsed\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nDocker-Experimental: false\r\n\
    Ostype: linux\r\nServer: Docker/20.10.24+dfsg1 (linux)\r\nDate: Sat, 21 Nov 2026 08:00:00 GMT\r\n\
    Content-Length: 2170\r\n\r\n";

/// For parsers that read a chunked body only behind its head.
pub(crate) const CHUNKED_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(crate) fn all() -> Vec<Message> {
    let request = |name, arrival, text: &str| message(name, Part::Request, arrival, text.into());
    vec![
        request("docker GET", WHOLE, CLI_GET),
        request("docker exec POST", WHOLE, EXEC_POST),
        request("browser, 15 fields", WHOLE, BROWSER),
        request("64 KiB, 100 fields", WHOLE, &large()),
        message("daemon's answer", Part::Response, WHOLE, ANSWER.into()),
        request("docker GET, byte by byte", 1, CLI_GET),
        request("browser, byte by byte", 1, BROWSER),
        request("64 KiB, in segments", SEGMENT, &large()),
        message("1 MiB in 32 KiB chunks", Part::ChunkedBody, WHOLE, chunked(32 << 10)),
        message("1 MiB in 64-byte chunks", Part::ChunkedBody, WHOLE, chunked(64)),
        message("32 KiB chunks, in segments", Part::ChunkedBody, SEGMENT, chunked(32 << 10)),
    ]
}

fn message(name: &'static str, part: Part, arrival: usize, bytes: Vec<u8>) -> Message {
    Message { name, part, arrival, bytes }
}

/// A head as large as the default limits allow.
fn large() -> String {
    let mut head = String::from("GET /build HTTP/1.1\r\nHost: docker\r\n");
    for n in 0..99 {
        let value = "eyJhdXRocyI6e319".repeat(39);
        // Writing to a String cannot fail.
        let _ = write!(head, "X-Registry-Config-{n:02}: {value}\r\n");
    }
    head.push_str("\r\n");
    head
}

fn chunked(size: usize) -> Vec<u8> {
    let mut chunk = format!("{size:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + size, b'z');
    chunk.extend_from_slice(b"\r\n");
    let mut body = chunk.repeat((1 << 20) / size);
    body.extend_from_slice(b"0\r\n\r\n");
    body
}
