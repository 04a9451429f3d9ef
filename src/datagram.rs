#![forbid(unsafe_code)]
//! UDP for a relay of datagrams: several per system call, answered from the address that was asked.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use dockline::datagram::Batch;
//! use std::net::UdpSocket;
//!
//! let (server, client) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
//! dockline::datagram::enable_destination(&server)?;
//! client.send_to(b"echo", server.local_addr()?)?;
//!
//! let mut batch = Batch::new();
//! let received = batch.receive(&server)?;
//! for i in 0..received {
//!     let (_, peer, local) = batch.datagram(i);
//!     batch.send(&server, i..i + 1, peer, local)?;
//! }
//! # Ok(()) }
//! # main().unwrap();
//! ```

use std::array;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::sys::{self, Arrival, SLOT_BYTES, SLOTS};

pub use crate::sys::LocalAddr;

/// Makes a UDP socket tell the address that each datagram was sent to ([`Batch::datagram`]), and its hop limit
/// ([`Batch::hops`]).
///
/// # Errors
/// When it is no UDP socket.
pub fn enable_destination(socket: impl AsFd) -> io::Result<()> {
    sys::enable_destination(socket.as_fd())
}

/// Has what leaves a UDP socket from now on have this hop limit, at least 1.
///
/// # Errors
/// When it is no UDP socket.
pub fn set_hops(socket: impl AsFd, hops: u8) -> io::Result<()> {
    sys::set_hops(socket.as_fd(), hops)
}

/// The datagrams of one system call: room for eight, none of which is ever truncated.
///
/// The memory (512 KiB) becomes resident page by page, as datagrams come that fill it.
pub struct Batch {
    bytes: Box<[u8]>,
    arrivals: [Arrival; SLOTS],
    count: usize,
}

impl Batch {
    /// Datagrams that fit.
    pub const CAPACITY: usize = SLOTS;

    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        let bytes = vec![0; SLOTS * SLOT_BYTES].into_boxed_slice();
        Self { bytes, arrivals: [Arrival::default(); SLOTS], count: 0 }
    }

    /// Replaces what is in the batch by what waits in the socket; answers how many datagrams that are, at least one.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing waits. Others tell of datagrams sent before, above all
    /// [`io::ErrorKind::ConnectionRefused`]: the socket is as good as ever, and more may wait in it.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.count = 0;
        self.count = sys::recv_batch(socket.as_fd(), &mut self.bytes, &mut self.arrivals)?;
        Ok(self.count)
    }

    /// A datagram: its bytes, who sent it, and the address of this host that he sent it to, if the socket tells
    /// ([`enable_destination`]) and it can be answered from.
    ///
    /// # Panics
    /// When there is no datagram of that number.
    #[must_use]
    pub fn datagram(&self, number: usize) -> (&[u8], Option<SocketAddr>, Option<LocalAddr>) {
        let Arrival { len, from, to, .. } = self.arrivals[..self.count][number];
        (&self.bytes[number * SLOT_BYTES..][..len], from, to)
    }

    /// The hop limit that a datagram came with (TTL, in IPv6 Hop Limit), if the socket tells. Whoever sends it on from a
    /// socket of his own should do what a router does, and let it leave with one less ([`set_hops`]): then it does not
    /// go round for ever where relays lead to each other.
    ///
    /// # Panics
    /// When there is no datagram of that number.
    #[must_use]
    pub fn hops(&self, number: usize) -> Option<u8> {
        self.arrivals[..self.count][number].hops
    }

    /// Sends some of the datagrams on, to `peer` (`None`: whom the socket is connected to), and from `local` (`None`:
    /// as the kernel chooses). Answers how many were taken, at least one.
    ///
    /// # Errors
    /// When the first of them cannot be sent. [`io::ErrorKind::ConnectionRefused`] tells of an earlier one: this one
    /// was not tried.
    ///
    /// # Panics
    /// When the range is empty or goes beyond what was received.
    pub fn send(
        &self,
        socket: impl AsFd,
        range: Range<usize>,
        peer: Option<SocketAddr>,
        local: Option<LocalAddr>,
    ) -> io::Result<usize> {
        assert!(range.start < range.end && range.end <= self.count, "the range is of received datagrams");
        let all: [&[u8]; SLOTS] =
            array::from_fn(|i| if i < self.count { self.datagram(i).0 } else { Default::default() });
        sys::send_batch(socket.as_fd(), &all[range], peer, local)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.arrivals[..self.count]).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_hop_limit_is_told_with_the_address() {
        for ip in ["127.0.0.1", "::1"] {
            let (server, client) = (UdpSocket::bind((ip, 0)).unwrap(), UdpSocket::bind((ip, 0)).unwrap());
            server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let mut batch = Batch::new();
            // Loopback does not count: what was sent is there.
            client.send(b"?").unwrap();
            assert_eq!((batch.receive(&server).unwrap(), batch.hops(0)), (1, None), "it was not asked for");
            enable_destination(&server).unwrap();
            for hops in [1, 63, 64, 255] {
                set_hops(&client, hops).unwrap();
                client.send(b"?").unwrap();
                assert_eq!((batch.receive(&server).unwrap(), batch.hops(0)), (1, Some(hops)), "{ip}");
                assert!(batch.datagram(0).2.is_some());
            }
        }
    }
}
