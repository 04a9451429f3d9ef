#![forbid(unsafe_code)]
//! Finds the process that uses a port.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;

use dockline::untrusted::Untrusted;

use super::ports::Proto;

/// The state of a listening TCP socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Describes the process that uses the port, as far as this user may know.
pub(crate) fn describe(address: SocketAddr, proto: Proto) -> String {
    let inodes: Vec<u64> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/net/{}{family}", proto.name())).ok())
        .flat_map(|table| {
            table.lines().skip(1).filter_map(|line| conflict(line, address, proto)).collect::<Vec<_>>()
        })
        .collect();
    match inodes.first() {
        None => "another program uses it".into(),
        Some(_) => match inodes.iter().find_map(|inode| process(*inode)) {
            Some((pid, name)) => format!("`{name}` (pid {pid}) uses it"),
            None => "a program of another user or container uses it (root can see which)".into(),
        },
    }
}

/// Returns the inode of the socket in a line of the table, if it conflicts with the address.
fn conflict(line: &str, wanted: SocketAddr, proto: Proto) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let ip = parse_ip(ip)?;
    let same_port = u16::from_str_radix(port, 16).ok()? == wanted.port();
    let meets = ip == wanted.ip()
        || ip.is_unspecified()
        || (wanted.ip().is_unspecified() && ip.is_ipv4() == wanted.is_ipv4());
    (same_port && meets && (proto == Proto::Udp || state == LISTEN)).then_some(inode)
}

/// Parses an address: words of 32 bits in the byte order of the host, in hexadecimal digits.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

/// Returns the process that has the socket open, and its name.
fn process(inode: u64) -> Option<(u32, Untrusted<Vec<u8>>)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str().as_bytes() == wanted.as_bytes()))
            .then(|| (pid, Untrusted::new(name_of(pid))))
    })
}

/// Returns the name of a process. A process can give itself any name of 15 bytes.
fn name_of(pid: u32) -> Vec<u8> {
    let mut name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.pop_if(|end| *end == b'\n');
    name
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_found() {
        for any in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let socket = TcpListener::bind(any).unwrap();
            let port = socket.local_addr().unwrap().port();
            let said = describe(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), Proto::Tcp);
            assert!(said.contains(&format!("(pid {})", std::process::id())), "{any}: {said}");
        }
    }

    #[test]
    fn lines_of_the_table() {
        let line = |state| {
            format!(
                "  0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0  0 4242 1 0"
            )
        };
        let at = |text: &str| text.parse().unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(conflict(&line("0A"), at("127.0.0.1:8080"), Proto::Tcp), Some(4242));
            assert_eq!(conflict(&line("0A"), at("0.0.0.0:8080"), Proto::Tcp), Some(4242));
            assert_eq!(conflict(&line("0A"), at("127.0.0.2:8080"), Proto::Tcp), None);
            assert_eq!(conflict(&line("01"), at("127.0.0.1:8080"), Proto::Tcp), None);
            assert_eq!(conflict(&line("07"), at("127.0.0.1:8080"), Proto::Udp), Some(4242));
            assert_eq!(conflict(&line("0A"), at("127.0.0.1:8081"), Proto::Tcp), None);
        }
    }
}
