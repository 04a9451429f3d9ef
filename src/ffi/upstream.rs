//! `dockline_upstream`: where an engine sends requests and connections.

use std::ffi::OsStr;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::boundary::{Guarded, Kind, boundary};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, check_out, struct_from_c};
use crate::engine::{Address, Upstream};
use crate::h1::FieldLine;
use crate::proxy::ProxyProtocol;

/// A server that receives requests or connections. Any thread may use it, and any number of
/// engines.
pub struct dockline_upstream {
    _opaque: [u8; 0],
}

/// The header of the PROXY protocol that an upstream expects.
pub type dockline_proxy_protocol = i32;
/// None.
pub const DOCKLINE_PROXY_PROTOCOL_NONE: dockline_proxy_protocol = 0;
/// A line of text.
pub const DOCKLINE_PROXY_PROTOCOL_V1: dockline_proxy_protocol = 1;
/// Binary.
pub const DOCKLINE_PROXY_PROTOCOL_V2: dockline_proxy_protocol = 2;

/// Where an upstream is and what it is sent. Text is copied. An engine does not connect to its own
/// listeners.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_upstream_options {
    /// "unix:///PATH", "unix://@NAME" (in the abstract namespace), or "tcp://HOST:PORT", IPv6
    /// addresses in brackets. Required.
    pub address: dockline_str,
    /// Its name in records and logs, in UTF-8; absent: the address.
    pub name: dockline_str,
    /// Replaces the Host of requests; absent: the client's is sent. A Docker daemon does not use
    /// it, but refuses some values that its own clients send: set it, to "docker" for instance.
    pub host: dockline_str,
    /// enum dockline_proxy_protocol: what each connection begins with, to name the client. Such a
    /// connection serves requests of that client's connection only.
    pub proxy_protocol: i32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_upstream_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Behind `dockline_upstream`.
pub(super) struct UpstreamHandle;

impl Kind for UpstreamHandle {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0004;
    type Shared = Mutex<Arc<Upstream>>;
}

/// Makes an upstream. Nothing is connected before there is a request for it.
///
/// @param options      copied
/// @param options_size sizeof(dockline_upstream_options)
/// @param out          set on success; free it with dockline_upstream_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE; _E_VALUE, also for an address of another form
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_upstream_new(
    options: *const dockline_upstream_options,
    options_size: usize,
    out: *mut *mut dockline_upstream,
) -> dockline_status {
    boundary(|| {
        check_out(out)?;
        // SAFETY: the caller's promise about `options`.
        let options = unsafe { struct_from_c(options, options_size) }?;
        // SAFETY: the caller's promise about the text in it.
        let address = unsafe { options.address.bytes() }?;
        // SAFETY: as above.
        let name = unsafe { options.name.utf8() }?;
        // SAFETY: as above.
        let host = unsafe { options.host.utf8() }?;
        let is_value = |host: &str| FieldLine::new("Host", host.to_owned()).is_ok();
        if !host.is_none_or(is_value) || options.reserved != 0 {
            return Err(Failure::Value);
        }
        let proxy_protocol = match options.proxy_protocol {
            DOCKLINE_PROXY_PROTOCOL_NONE => None,
            DOCKLINE_PROXY_PROTOCOL_V1 => Some(ProxyProtocol::V1),
            DOCKLINE_PROXY_PROTOCOL_V2 => Some(ProxyProtocol::V2),
            _ => return Err(Failure::Value),
        };
        let address = address_from_bytes(address).ok_or(Failure::Value)?;
        let name = name.map_or_else(|| address.to_string(), str::to_owned);
        let mut upstream = Upstream::new(name, vec![address]);
        upstream.host = host.map(Arc::from);
        upstream.proxy_protocol = proxy_protocol;
        let handle = Guarded::into_c_with(UpstreamHandle, Mutex::new(Arc::new(upstream)));
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(handle.cast()) };
        Ok(())
    })
}

/// Adds an address, which is tried when those before it cannot be reached. Only before the upstream
/// is used.
///
/// @param upstream from dockline_upstream_new
/// @param address  as in dockline_upstream_options, copied
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED; _E_STATE if a listener
///         or a request uses the upstream
/// @since 0.1
///
/// # Safety
/// `upstream` is NULL or a live upstream; `address` is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_upstream_add_address(
    upstream: *mut dockline_upstream,
    address: dockline_str,
) -> dockline_status {
    let call = |shared: &Mutex<Arc<Upstream>>| {
        // SAFETY: the caller's promise about `address`.
        let address = unsafe { address.bytes() }?;
        let address = address_from_bytes(address).ok_or(Failure::Value)?;
        let mut upstream = shared.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::get_mut(&mut upstream).ok_or(Failure::State)?.addresses.push(address);
        Ok(())
    };
    // SAFETY: the caller's promise about `upstream`.
    unsafe { Guarded::<UpstreamHandle>::share(upstream.cast_const().cast(), call) }
}

/// Returns how many requests and tunnels are in flight to an upstream now, over all engines. A
/// request is from when it was decided about until its exchange has ended or became a tunnel, or
/// until another upstream is tried for it.
///
/// @param upstream     any thread may call this
/// @param out_requests set on success; may be NULL
/// @param out_tunnels  set on success; may be NULL
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_VALUE, _E_HANDLE, _E_POISONED
/// @since 0.1
///
/// # Safety
/// `upstream` is NULL or a live upstream; the other pointers are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_upstream_in_flight(
    upstream: *const dockline_upstream,
    out_requests: *mut u64,
    out_tunnels: *mut u64,
) -> dockline_status {
    let call = |shared: &Mutex<Arc<Upstream>>| {
        let wanted = [out_requests, out_tunnels].into_iter().filter(|out| !out.is_null());
        wanted.clone().try_for_each(check_out)?;
        let in_flight = shared.lock().unwrap_or_else(PoisonError::into_inner).in_flight();
        for (out, count) in [(out_requests, in_flight.requests), (out_tunnels, in_flight.tunnels)] {
            if !out.is_null() {
                // SAFETY: checked, and the caller's promise.
                unsafe { out.write(count.into()) };
            }
        }
        Ok(())
    };
    // SAFETY: the caller's promise about `upstream`.
    unsafe { Guarded::<UpstreamHandle>::share(upstream.cast(), call) }
}

/// Frees an upstream. Engines that use it continue to do so.
///
/// @param upstream may be NULL
/// @since 0.1
///
/// # Safety
/// `upstream` is NULL, or came from dockline_upstream_new and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_upstream_free(upstream: *mut dockline_upstream) {
    // SAFETY: the caller's promise.
    unsafe { Guarded::<UpstreamHandle>::free(upstream.cast()) };
}

/// Returns the upstream behind a handle.
///
/// # Safety
/// `upstream` is NULL or a live upstream.
pub(super) unsafe fn upstream_from_c(upstream: *const dockline_upstream) -> Result<Arc<Upstream>, Failure> {
    let mut found = None;
    let call = |shared: &Mutex<Arc<Upstream>>| {
        found = Some(Arc::clone(&shared.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(())
    };
    // SAFETY: the caller's promise.
    let status = unsafe { Guarded::<UpstreamHandle>::share(upstream.cast(), call) };
    found.ok_or_else(|| Failure::of(status))
}

fn address_from_bytes(text: &[u8]) -> Option<Address> {
    if let Some(path) = text.strip_prefix(b"unix://") {
        let named = matches!(path, [b'/' | b'@', _, ..]);
        // sun_path has 108 bytes, one of them for the end.
        return (named && path.len() <= 107 && !path.contains(&0))
            .then(|| Address::Unix(PathBuf::from(OsStr::from_bytes(path))));
    }
    let (host, port) = std::str::from_utf8(text).ok()?.strip_prefix("tcp://")?.rsplit_once(':')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| !host.is_empty() && host.chars().all(is_name))?,
    };
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some(Address::Tcp { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let shown = |text: &str| address_from_bytes(text.as_bytes()).map(|address| address.to_string());
        for good in ["unix:///a", "unix://@a", "tcp://a:1", "tcp://127.0.0.1:65535", "tcp://[::1]:2375"] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        let long = format!("unix:///{}", "a".repeat(107));
        for bad in [
            "",
            "a",
            "a:1",
            "unix:/a",
            "unix://",
            "unix://a",
            "unix:///",
            "unix://@",
            "unix:///a\0b",
            &long,
            "tcp://",
            "tcp://a",
            "tcp://a:",
            "tcp://:1",
            "tcp://a:0",
            "tcp://a:65536",
            "tcp://a b:1",
            "tcp://a/b:1",
            "tcp://[a]:1",
            "tcp://[::1:1",
            "tcp://::1:1",
            "tls://a:1",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
