#![forbid(unsafe_code)]
//! [`TlsStream`]: a TLS connection on a non-blocking socket.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustls::{Connection, HandshakeKind, ProtocolVersion};

use super::record::RecordCursor;
use super::server::Generation;
use crate::drive::Transport;
use crate::sys;

/// The most bytes that a peer may send before its handshake is done.
pub const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// More than the length of any record (RFC 5246, section 6.2.3: 2^14 + 2048 + 5).
const RECORD_ROOM: usize = 19 * 1024;

/// Plaintext of a full record.
const RECORD_BYTES: usize = 16 * 1024;

/// AES-GCM is safe for 2^24 records under one key (RFC 8446, section 5.5); some were used for the
/// handshake.
const TLS12_RECORDS: u64 = (1 << 24) - 1024;

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It is complete.
    Done,
    /// Call again when the socket is readable.
    WantsRead,
    /// Call again when the socket is writable.
    WantsWrite,
}

/// A TLS connection on a non-blocking socket, made by
/// [`ServerTls::accept`](super::ServerTls::accept) or
/// [`ClientTls::connect`](super::ClientTls::connect). Owns the socket; dropping it closes the
/// socket without a close_notify, so that a peer sees a stream that was cut.
///
/// It keeps at most 64 KiB of ciphertext that the socket has not taken, and one incomplete record.
pub struct TlsStream {
    socket: OwnedFd,
    tls: Box<Connection>,
    /// The configuration, for the server's side.
    server: Option<Arc<Generation>>,
    identity: Option<Arc<str>>,
    records: RecordCursor,
    handshake_bytes: usize,
    records_sent: u64,
    established: bool,
    close_notify_sent: bool,
    end: End,
}

/// Whether and how the peer's stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    CloseNotify,
    Fin,
}

impl TlsStream {
    pub(super) fn new(socket: OwnedFd, tls: Connection, server: Option<Arc<Generation>>) -> Self {
        Self {
            socket,
            tls: Box::new(tls),
            server,
            identity: None,
            records: RecordCursor::default(),
            handshake_bytes: 0,
            records_sent: 0,
            established: false,
            close_notify_sent: false,
            end: End::Open,
        }
    }

    /// Takes the handshake as far as it goes now. [`Handshake::Done`] also means that all of it has
    /// been sent. The caller limits its time; [`HANDSHAKE_LIMIT`] is how much the peer may send.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] with the reason if the peer is not acceptable or does not speak
    /// TLS; the alert has been sent, if the socket took it. Otherwise the error of the socket. The
    /// stream is unusable then.
    pub fn handshake(&mut self) -> io::Result<Handshake> {
        loop {
            match self.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Handshake::WantsWrite),
                flushed => flushed?,
            }
            if !self.tls.is_handshaking() {
                self.establish()?;
                return Ok(Handshake::Done);
            }
            match self.receive() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Handshake::WantsRead),
                Err(error) => return Err(error),
                // The bytes that complete it may contain the peer's data, too, and its end.
                Ok(()) if self.end != End::Open && self.tls.is_handshaking() => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the peer left during the handshake",
                    ));
                }
                Ok(()) => {}
            }
        }
    }

    /// Returns the negotiated version for logs, `TLSv1.3` for instance.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        match self.tls.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// Returns the name that the client asked for, on the server's side.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        match &*self.tls {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// Returns the peer's own certificate, in DER.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        Some(self.tls.peer_certificates()?.first()?.as_ref())
    }

    /// Returns the identity in the client's verified certificate, on the server's side, once the
    /// handshake is done.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<str>> {
        self.identity.as_ref()
    }

    /// Returns whether an earlier session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns whether the peer has ended its stream with a close_notify. After a bare FIN, which
    /// reads as an end as well, the stream may have been truncated by anybody between (RFC 8446,
    /// section 6.1).
    #[must_use]
    pub fn end_was_clean(&self) -> bool {
        self.end == End::CloseNotify
    }

    fn establish(&mut self) -> io::Result<()> {
        if self.established {
            return Ok(());
        }
        if let Some(server) = &self.server {
            let chain = self.tls.peer_certificates().unwrap_or_default();
            if self.is_resumed() {
                server.verify_again(chain).map_err(invalid)?;
            }
            self.identity = chain.first().and_then(|leaf| server.identify(leaf));
        }
        self.established = true;
        Ok(())
    }

    /// Receives some ciphertext.
    fn receive(&mut self) -> io::Result<()> {
        let handshaking = self.tls.is_handshaking();
        let mut wire = Wire { socket: self.socket.as_fd(), records: &mut self.records };
        let n = self.tls.read_tls(&mut wire)?;
        if n == 0 {
            return self.ended();
        }
        if handshaking {
            self.handshake_bytes += n;
            if self.handshake_bytes > HANDSHAKE_LIMIT {
                return Err(io::Error::new(ErrorKind::InvalidData, "the handshake is longer than 64 KiB"));
            }
        }
        self.process()
    }

    /// Receives ciphertext in large pieces, with `buf` as the buffer, and decrypts it into the
    /// beginning of `buf`. The library reads 4 KiB at a time; this way a record costs less than one
    /// system call instead of five.
    fn receive_into(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = sys::recv(self.socket.as_fd(), &mut buf[RECORD_ROOM..])?;
        if n == 0 {
            return self.ended().map(|()| 0);
        }
        let (mut at, end) = (RECORD_ROOM, RECORD_ROOM + n);
        self.records.advance(&buf[at..end]);
        let mut decrypted = 0;
        while at < end && self.end == End::Open {
            at += self.tls.read_tls(&mut &buf[at..end])?;
            let processed = self.process();
            // There is room: plaintext is shorter than the ciphertext received so far, including a
            // record before.
            decrypted += self.take_decrypted(&mut buf[decrypted..at])?;
            if processed.is_err() && decrypted > 0 {
                break;
            }
            processed?;
        }
        Ok(decrypted)
    }

    fn process(&mut self) -> io::Result<()> {
        match self.tls.process_new_packets() {
            Ok(state) => {
                if state.peer_has_closed() {
                    self.end = End::CloseNotify;
                }
                Ok(())
            }
            Err(error) => {
                // Sends the alert, if there is one and the socket takes it.
                let _ = self.flush();
                Err(invalid(error))
            }
        }
    }

    fn ended(&mut self) -> io::Result<()> {
        if !self.records.is_between_records() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended inside a TLS record"));
        }
        self.end = End::Fin;
        Ok(())
    }

    /// Reads bytes that have been decrypted. Returns 0 if there are none now.
    fn take_decrypted(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.tls.reader().read(buf) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::UnexpectedEof) => Ok(0),
            result => result,
        }
    }

    /// Checks that the keys last for `len` more bytes. TLS 1.3 renews them by itself. Under TLS 1.2
    /// the library would end the stream, with a close_notify as if it were complete, and drop the
    /// rest.
    fn count_records(&mut self, len: usize) -> io::Result<()> {
        if self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
            self.records_sent += len.div_ceil(RECORD_BYTES) as u64;
            if self.records_sent > TLS12_RECORDS {
                return Err(io::Error::other("as many records sent as one TLS 1.2 key is good for"));
            }
        }
        Ok(())
    }

    fn check_established(&self) -> io::Result<()> {
        if self.established {
            Ok(())
        } else {
            Err(io::Error::new(ErrorKind::NotConnected, "the TLS handshake is not done"))
        }
    }
}

impl Transport for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.check_established()?;
        let mut n = self.take_decrypted(buf)?;
        while n == 0 && self.end == End::Open {
            // Returns an error that was found behind bytes of an earlier read.
            self.process()?;
            n = if buf.len() >= 2 * RECORD_ROOM {
                self.receive_into(buf)?
            } else {
                let received = self.receive();
                let n = self.take_decrypted(buf)?;
                // An error behind bytes is returned by the next read.
                if n == 0 {
                    received?;
                }
                n
            };
        }
        Ok(n)
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check_established()?;
        self.flush()?;
        self.count_records(buf.len())?;
        let n = self.tls.writer().write(buf)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock && !sys::is_starved(&error) => Err(error),
            // What was taken is kept.
            _ => Ok(n),
        }
    }

    /// Sends a close_notify and does not shut the socket: some peers take a FIN for the end of the
    /// connection.
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.check_established()?;
        if !self.close_notify_sent {
            self.close_notify_sent = true;
            self.tls.send_close_notify();
        }
        self.flush()
    }

    fn is_flushed(&self) -> bool {
        !self.tls.wants_write()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut Wire { socket: self.socket.as_fd(), records: &mut self.records })?;
        }
        Ok(())
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn is_plain(&self) -> bool {
        false
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("socket", &self.socket)
            .field("version", &self.version())
            .field("established", &self.established)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// The socket as the TLS library sees it.
struct Wire<'a> {
    socket: BorrowedFd<'a>,
    records: &'a mut RecordCursor,
}

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = sys::recv(self.socket, buf)?;
        self.records.advance(&buf[..n]);
        Ok(n)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        sys::send(self.socket, buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        sys::send_vectored(self.socket, bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
