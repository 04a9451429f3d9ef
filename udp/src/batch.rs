//! [`Batch`]: the datagrams of one system call.

use std::array;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsFd;

use dockline_sys::{self as sys, Arrival, LocalAddr, SLOT_BYTES, SLOTS};

/// The datagrams of one system call, at most eight, none of which is ever truncated.
///
/// The buffer (512 KiB) becomes resident page by page, as datagrams fill it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::net::UdpSocket;
/// use std::os::fd::AsFd;
///
/// use dockline_udp::Batch;
///
/// let (server, client) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// dockline_sys::enable_destination(server.as_fd())?;
/// client.send_to(b"echo", server.local_addr()?)?;
///
/// let mut batch = Batch::new();
/// let received = batch.receive(&server)?;
/// for i in 0..received {
///     let (_, peer, local) = batch.datagram(i);
///     batch.send(&server, i..i + 1, peer, local)?;
/// }
/// # Ok(()) }
/// # main().unwrap();
/// ```
pub struct Batch {
    bytes: Box<[u8]>,
    arrivals: [Arrival; SLOTS],
    count: usize,
}

impl Batch {
    /// The number of datagrams that fit.
    pub const CAPACITY: usize = SLOTS;

    /// Makes an empty batch.
    #[must_use]
    pub fn new() -> Self {
        let bytes = vec![0; SLOTS * SLOT_BYTES].into_boxed_slice();
        Self { bytes, arrivals: [Arrival::default(); SLOTS], count: 0 }
    }

    /// Replaces the contents with the datagrams that wait in the socket, and returns their number,
    /// at least 1.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none waits. Others are about datagrams that were sent
    /// before, above all [`io::ErrorKind::ConnectionRefused`]: the socket remains usable, and more
    /// datagrams may wait.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.count = 0;
        self.count = sys::recv_batch(socket.as_fd(), &mut self.bytes, &mut self.arrivals)?;
        Ok(self.count)
    }

    /// Returns the bytes of a datagram, its sender, and the address of this host that it was sent
    /// to, if the socket reports it ([`enable_destination`](sys::enable_destination)) and a reply
    /// can be sent from it.
    ///
    /// # Panics
    /// If there is no datagram of that number.
    #[must_use]
    pub fn datagram(&self, number: usize) -> (&[u8], Option<SocketAddr>, Option<LocalAddr>) {
        let Arrival { len, from, to, .. } = self.arrivals[..self.count][number];
        (&self.bytes[number * SLOT_BYTES..][..len], from, to)
    }

    /// Returns the hop limit (TTL) with which a datagram arrived, if the socket reports it. A
    /// program that forwards it should do as a router does and decrement it
    /// ([`set_hops`](sys::set_hops)), so that the datagram does not circulate without end where
    /// forwarders lead to each other.
    ///
    /// # Panics
    /// If there is no datagram of that number.
    #[must_use]
    pub fn hops(&self, number: usize) -> Option<u8> {
        self.arrivals[..self.count][number].hops
    }

    /// Sends some of the datagrams to `peer` (`None`: the peer of a connected socket) and from
    /// `local` (`None`: an address that the kernel chooses). Returns how many were sent, at least
    /// 1.
    ///
    /// # Errors
    /// Those of sendmmsg(2) for the first of them. [`io::ErrorKind::ConnectionRefused`] is about an
    /// earlier datagram: this one was not tried.
    ///
    /// # Panics
    /// If the range is empty or exceeds what was received.
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

    use dockline_sys::{enable_destination, set_hops};

    use super::*;

    #[test]
    fn the_hop_limit_comes_with_the_address() {
        for ip in ["127.0.0.1", "::1"] {
            let (server, client) = (UdpSocket::bind((ip, 0)).unwrap(), UdpSocket::bind((ip, 0)).unwrap());
            server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let mut batch = Batch::new();
            // Loopback does not decrement it.
            client.send(b"?").unwrap();
            assert_eq!((batch.receive(&server).unwrap(), batch.hops(0)), (1, None), "not requested");
            enable_destination(server.as_fd()).unwrap();
            for hops in [1, 63, 64, 255] {
                set_hops(client.as_fd(), hops).unwrap();
                client.send(b"?").unwrap();
                assert_eq!((batch.receive(&server).unwrap(), batch.hops(0)), (1, Some(hops)), "{ip}");
                assert!(batch.datagram(0).2.is_some());
            }
        }
    }
}
