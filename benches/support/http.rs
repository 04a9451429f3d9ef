//! Large bodies over plain HTTP: one kept connection, one request at a time.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::client::{Target, connect};
use super::wire::{EndFinder, Framing, field, head_len};
use super::{CHUNK, Result};

pub(crate) struct HttpClient {
    sock: TcpStream,
    buf: Vec<u8>,
}

impl HttpClient {
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        Ok(Self { sock: connect(target.addr)?, buf: vec![0; CHUNK] })
    }

    /// Fetches a body of `len` bytes that the daemon frames in this way; the relay may reframe it.
    pub(crate) fn download(&mut self, framing: Framing, len: u64) -> Result<()> {
        write!(self.sock, "GET /v1.41/images/{}-{len}/get HTTP/1.1\r\nHost: docker\r\n\r\n", framing.name())?;
        let (head, mut got) = self.head()?;
        let early = head.len()..head.len() + got;
        let mut end = EndFinder::default();
        let (mut ended, mut taken) = (end.ends_with(&self.buf[early]), got as u64);
        let announced = field(&head, "Content-Length").map(str::parse::<u64>).transpose()?;
        while announced.map_or(!ended, |all| taken < all) {
            got = self.sock.read(&mut self.buf)?;
            if got == 0 {
                return Err(format!("the body was cut behind {taken} bytes").into());
            }
            ended = announced.is_none() && end.ends_with(&self.buf[..got]);
            taken += got as u64;
        }
        let exact = announced.is_none_or(|all| all == len && taken == len);
        if exact && taken >= len { Ok(()) } else { Err(format!("{taken} bytes of {len} came").into()) }
    }

    /// Sends a body of `len` bytes, made of `pattern`, and waits for the response.
    pub(crate) fn upload(&mut self, framing: Framing, len: u64, pattern: &[u8]) -> Result<()> {
        let field = framing.field(len);
        write!(
            self.sock,
            "POST /v1.41/images/load HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\n{field}\r\n"
        )?;
        let mut left = framing.wire_len(len);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(pattern.len());
            self.sock.write_all(&pattern[..part])?;
            left -= part as u64;
        }
        self.sock.write_all(framing.end())?;
        self.head().map(drop)
    }

    /// Reads the head of a response. Returns it, and how many bytes follow it in the buffer.
    fn head(&mut self) -> Result<(String, usize)> {
        let mut len = 0;
        loop {
            match self.sock.read(&mut self.buf[len..])? {
                0 => return Err("no answer".into()),
                n => len += n,
            }
            if let Some(end) = head_len(&self.buf[..len]) {
                let head = std::str::from_utf8(&self.buf[..end])?.to_owned();
                if !head.starts_with("HTTP/1.1 200") {
                    return Err(format!("no body: {head}").into());
                }
                return Ok((head, len - end));
            }
        }
    }
}
