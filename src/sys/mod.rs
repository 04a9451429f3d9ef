//! System calls behind safe functions. Together with `ffi` the only place for `unsafe`.
//!
//! Linux only: splice(2) has no portable cousin, and neither has the daemon that this crate serves.
#![allow(unsafe_code, reason = "one system call per block; nothing else of the crate but ffi may")]

#[cfg(feature = "engine")]
mod address;
#[cfg(feature = "engine")]
mod bind;
#[cfg(feature = "engine")]
mod datagram;
#[cfg(feature = "engine")]
mod epoll;
#[cfg(feature = "engine")]
mod eventfd;
#[cfg(feature = "engine")]
mod inherit;
mod pipe;
#[cfg(feature = "engine")]
mod process;
#[cfg(feature = "engine")]
mod rights;
mod sigpipe;
mod socket;

#[cfg(feature = "engine")]
pub(crate) use address::local_address;
#[cfg(feature = "engine")]
pub use bind::Inet;
#[cfg(feature = "engine")]
pub(crate) use bind::{
    bind_datagram, bind_stream, connect_datagram, connect_stream, inet_kind, is_dual, is_local,
    may_choose_source,
};
#[cfg(feature = "engine")]
pub use datagram::LocalAddr;
#[cfg(feature = "engine")]
pub(crate) use datagram::{Arrival, SLOT_BYTES, SLOTS, enable_destination, recv_batch, send_batch, set_hops};
#[cfg(feature = "engine")]
pub(crate) use epoll::watch_level;
#[cfg(feature = "engine")]
pub(crate) use eventfd::EventFd;
#[cfg(feature = "engine")]
pub(crate) use inherit::{
    is_listening, is_unix, max_open_files, peer_credentials, poll_write, save_syn, saved_hops,
    set_defer_accept, set_nonblocking, take_error,
};
pub(crate) use pipe::{Pipe, splice};
#[cfg(feature = "engine")]
pub(crate) use process::{
    effective_uid, exit_on_stop_signals, is_pipe, raise_descriptor_limit, take_inherited,
};
#[cfg(feature = "engine")]
pub(crate) use rights::{recv_descriptor, send_descriptor};
pub(crate) use sigpipe::{SigpipeBlocked, sigpipe_is_ignored};
#[cfg(feature = "tls")]
pub(crate) use socket::send_vectored;
pub(crate) use socket::{
    Protocol, has_failed, is_hang_up, is_nonblocking, is_starved, recv, send, set_keepalive, set_nodelay,
    set_reset_on_close, shutdown_write, stream_protocol, unsent,
};

use std::io;

/// The result of a call that returns -1 and sets errno. `EINTR` is retried: it is no answer.
fn check(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    uninterrupted(|| match call() {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    })
}

/// The same for calls that return a length.
fn check_len(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    uninterrupted(|| usize::try_from(call()).map_err(|_| io::Error::last_os_error()))
}

/// Repeats a call for as long as a signal interrupts it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
