//! Who is at the other end of a client connection: `dockline_client`.

use std::net::IpAddr;

use super::text::dockline_str;
use super::types::CStruct;
use crate::engine::{ClientInfo, PeerAddr};

/// Client flag: the connection is TLS.
pub const DOCKLINE_CLIENT_TLS: u32 = 0x01;
/// Client flag: it came over a Unix socket, and pid, uid and gid are known (SO_PEERCRED).
pub const DOCKLINE_CLIENT_UNIX: u32 = 0x02;

/// The peer of a client connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_client {
    /// Its address in network byte order, ip_len bytes of it.
    pub ip: [u8; 16],
    /// 4, 16, or 0 if there is no address.
    pub ip_len: u32,
    /// Its port.
    pub port: u32,
    /// DOCKLINE_CLIENT_*
    pub flags: u32,
    /// The process that connected. For logs only: the number may have been reused since.
    pub pid: i32,
    /// The user of that process.
    pub uid: u32,
    /// The group of that process.
    pub gid: u32,
    /// The name of the engine's listener.
    pub listener: dockline_str,
    /// If the peer is a trusted proxy, the address of its client that the request states, in
    /// network byte order, forwarded_for_len bytes of it. Set by the engine.
    pub forwarded_for: [u8; 16],
    /// 4, 16, or 0 if there is no such address.
    pub forwarded_for_len: u32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers and text; all zero is valid.
unsafe impl CStruct for dockline_client {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Converts what an engine knows of a client.
pub(super) fn client_to_c(info: &ClientInfo) -> dockline_client {
    let mut client = dockline_client {
        ip: [0; 16],
        ip_len: 0,
        port: 0,
        flags: if info.tls { DOCKLINE_CLIENT_TLS } else { 0 },
        pid: 0,
        uid: 0,
        gid: 0,
        listener: dockline_str::new(info.listener.as_bytes()),
        forwarded_for: [0; 16],
        forwarded_for_len: 0,
        reserved: 0,
    };
    if let Some(address) = info.forwarded_for {
        (client.forwarded_for, client.forwarded_for_len) = ip_to_c(address);
    }
    match info.peer {
        PeerAddr::Ip(address) => {
            (client.ip, client.ip_len) = ip_to_c(address.ip());
            client.port = address.port().into();
        }
        PeerAddr::Unix { pid, uid, gid } => {
            client.flags |= DOCKLINE_CLIENT_UNIX;
            (client.pid, client.uid, client.gid) = (pid, uid, gid);
        }
        PeerAddr::Unknown => {}
    }
    client
}

fn ip_to_c(ip: IpAddr) -> ([u8; 16], u32) {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            (bytes, 4)
        }
        IpAddr::V6(ip) => (ip.octets(), 16),
    }
}
