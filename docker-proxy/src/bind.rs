#![forbid(unsafe_code)]
//! The published port: which one, and its socket, bound here or by dockerd.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use dockline::process;
use dockline::sockets::{self, Inet};
use dockline::untrusted::Untrusted;

use crate::args::Args;

/// The descriptor of the socket that dockerd (28.0 and later) has bound.
const LISTENER: i32 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

/// What is published. Displayed as Go names networks and addresses, because users search for these texts.
pub(crate) struct Port<'a> {
    args: &'a Args,
    pub(crate) proto: Proto,
}

impl<'a> Port<'a> {
    pub(crate) fn new(args: &'a Args) -> Result<Self, String> {
        let proto = match args.proto.as_str() {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            "sctp" => {
                let way_out = "publish it with Docker's own docker-proxy, or set \"userland-proxy\": false";
                return Err(format!("protocol sctp is not supported by dockline-docker-proxy: {way_out}"));
            }
            other => return Err(format!("unsupported protocol {}", Untrusted::new(other))),
        };
        Ok(Self { args, proto })
    }

    /// Binds the address, and nothing wider.
    pub(crate) fn bind(&self) -> Result<OwnedFd, String> {
        // The original leaves a port out of range to bind(2), which refuses it in these words.
        let invalid = io::Error::from_raw_os_error(EINVAL);
        let port = u16::try_from(self.args.host_port).map_err(|_| invalid);
        let bind = |port| match self.proto {
            Proto::Tcp => sockets::listen_tcp(SocketAddr::new(self.args.host_ip, port)),
            Proto::Udp => sockets::bind_udp(SocketAddr::new(self.args.host_ip, port)),
        };
        port.and_then(bind).map_err(|error| format!("listen {self}: bind: {}", lowercase(&error)))
    }

    /// Takes the socket that dockerd has bound, if it is one.
    pub(crate) fn inherit(&self) -> Result<OwnedFd, String> {
        let socket = process::take_inherited(LISTENER);
        let kind = socket
            .as_ref()
            .map_err(lowercase)
            .and_then(|fd| sockets::inet_kind(fd).map_err(|e| lowercase(&e)));
        let found = match (kind, self.proto) {
            (Ok(Some(Inet::Tcp { listening: true })), Proto::Tcp) | (Ok(Some(Inet::Udp)), Proto::Udp) => {
                return socket.map_err(|error| lowercase(&error));
            }
            (Ok(Some(Inet::Tcp { listening: true })), _) => "tcp",
            (Ok(Some(Inet::Tcp { listening: false })), _) => "tcp, not listening",
            (Ok(Some(Inet::Udp)), _) => "udp",
            (Ok(None), _) => "neither tcp nor udp",
            (Err(error), _) => return Err(format!("listener fd {LISTENER}: {error}")),
        };
        Err(format!("unexpected socket type for listener fd: {found}"))
    }
}

impl fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proto = match self.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        };
        match self.args.host_ip {
            IpAddr::V4(ip) => write!(f, "{proto}4 {ip}:{}", self.args.host_port),
            IpAddr::V6(ip) => write!(f, "{proto}6 [{ip}]:{}", self.args.host_port),
        }
    }
}

const EINVAL: i32 = 22;

/// The kernel's reason as Go writes it: `address already in use`.
pub(crate) fn lowercase(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(reason, _)| reason);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
