//! The addresses of this machine.

use std::io;
use std::net::IpAddr;
use std::ptr;

use crate::address::SockAddr;

/// A list of getifaddrs(3), freed when it is dropped.
struct List(*mut libc::ifaddrs);

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the pointer is from getifaddrs, and nothing of the list is used any longer.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// Returns the addresses of all interfaces, those that are down included.
///
/// # Errors
/// Those of getifaddrs(3).
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first = ptr::null_mut();
    // SAFETY: the pointer is valid, and takes the head of a list.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let list = List(first);
    let mut addresses = Vec::new();
    let mut next = list.0;
    // SAFETY: each pointer of the list is null, at its end, or valid for as long as the list.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        addresses.extend(address(entry.ifa_addr));
    }
    Ok(addresses)
}

fn address(raw: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: it is null, or an address that begins with its family.
    let family = libc::c_int::from(unsafe { raw.as_ref() }?.sa_family);
    let mut address = SockAddr::EMPTY;
    let len = match family {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    // SAFETY: an address of this family has as many bytes, which a SockAddr has room for.
    unsafe { ptr::copy_nonoverlapping(raw.cast::<u8>(), (&raw mut address).cast::<u8>(), len) };
    address.get().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_among_them() {
        let all = interface_addresses().unwrap();
        assert!(all.contains(&"127.0.0.1".parse().unwrap()), "{all:?}");
    }
}
