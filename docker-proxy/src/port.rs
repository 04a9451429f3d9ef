#![forbid(unsafe_code)]
//! The published port: its address, and its socket, bound here or by dockerd.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use dockline::untrusted::Untrusted;
use dockline_sys::{self as sys, Inet};

use crate::args::Args;
use crate::error::Error;

/// The descriptor of the socket that dockerd (28.0 and later) has bound.
pub(crate) const LISTENER: i32 = 4;

const EINVAL: i32 = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

/// A port to publish. Displayed as Go displays networks and addresses, because users search for
/// these texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishedPort {
    pub(crate) proto: Proto,
    ip: IpAddr,
    number: i64,
}

impl PublishedPort {
    pub(crate) fn new(args: &Args) -> Result<Self, Error> {
        let proto = match args.proto.as_str() {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            "sctp" => return Err(Error::Sctp),
            other => return Err(Error::UnknownProtocol(Untrusted::new(other.to_owned()))),
        };
        Ok(Self { proto, ip: args.host_ip, number: args.host_port })
    }

    /// Binds the address, and nothing wider.
    pub(crate) fn bind(&self) -> Result<OwnedFd, Error> {
        // The original leaves a port out of range to bind(2), which refuses it in these words.
        let invalid = io::Error::from_raw_os_error(EINVAL);
        let port = u16::try_from(self.number).map_err(|_| invalid);
        let bind = |port| match self.proto {
            Proto::Tcp => sys::listen_stream(SocketAddr::new(self.ip, port)),
            Proto::Udp => sys::bind_datagram(SocketAddr::new(self.ip, port)),
        };
        port.and_then(bind).map_err(|error| Error::Bind(*self, error))
    }

    /// Takes the socket that dockerd has bound.
    pub(crate) fn inherit(&self) -> Result<OwnedFd, Error> {
        let socket = sys::process::take_inherited(LISTENER).map_err(Error::NoListener)?;
        let found = match (sys::inet_kind(socket.as_fd()).map_err(Error::NoListener)?, self.proto) {
            (Some(Inet::Tcp { listening: true }), Proto::Tcp) | (Some(Inet::Udp), Proto::Udp) => {
                return Ok(socket);
            }
            (Some(Inet::Tcp { listening: true }), _) => "tcp",
            (Some(Inet::Tcp { listening: false }), _) => "tcp, not listening",
            (Some(Inet::Udp), _) => "udp",
            (None, _) => "neither tcp nor udp",
        };
        Err(Error::WrongListener { found })
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proto = match self.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        };
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{proto}4 {ip}:{}", self.number),
            IpAddr::V6(ip) => write!(f, "{proto}6 [{ip}]:{}", self.number),
        }
    }
}
