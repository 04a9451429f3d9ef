//! The load generator's end of a UDP port whose other end sends back what it gets.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::Result;

/// Long enough for any echo, and short enough to try again while nothing listens yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// The payload of a datagram of a burst: as much as fits an Ethernet frame.
const PAYLOAD: usize = 1400;

pub(crate) struct Client {
    socket: UdpSocket,
    buf: [u8; PAYLOAD],
}

impl Client {
    pub(crate) fn new(port: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(port)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, buf: [0; PAYLOAD] })
    }

    /// One byte and its echo, so many times.
    pub(crate) fn ask(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.socket.send(&[1])?;
            if self.socket.recv(&mut self.buf)? != 1 {
                return Err("an echo of another length".into());
            }
        }
        Ok(())
    }

    /// Bursts of `width` datagrams, each followed by the echoes of all. None is lost: the sockets'
    /// buffers hold a burst.
    pub(crate) fn burst(&mut self, bursts: usize, width: usize) -> Result<()> {
        let payload = [1; PAYLOAD];
        for _ in 0..bursts {
            for _ in 0..width {
                self.socket.send(&payload)?;
            }
            for _ in 0..width {
                self.socket.recv(&mut self.buf).map_err(|e| format!("an echo of a burst: {e}"))?;
            }
        }
        Ok(())
    }
}
