//! System calls behind safe functions, one call each.
//!
//! The crate is to dockline what quinn-udp is to quinn: the place for `unsafe` that the kernel's
//! interface needs, so that the library, the gateway and docker-proxy need none. It has no state
//! and no policy. It is for Linux only: there is no portable equivalent of splice(2), and the
//! daemon that dockline serves runs there.
//!
//! What affects the whole process, such as a signal handler, is in [`process`]: it is for a
//! program's `main`, and the library does not use it.
//!
//! A call that a signal interrupts is repeated. Sockets, pipes and event counters that are made
//! here are non-blocking and close-on-exec.

mod address;
mod bound;
mod datagram;
mod epoll;
mod eventfd;
mod inet;
mod interfaces;
mod options;
mod pipe;
pub mod private_dir;
pub mod process;
mod rights;
mod sigpipe;
mod stream;

pub use address::local_address;
pub use bound::Bound;
pub use datagram::{
    Arrival, LocalAddr, SLOT_BYTES, SLOTS, enable_destination, recv_batch, send_batch, set_hops,
};
pub use epoll::watch_level;
pub use eventfd::EventFd;
pub use inet::{bind_datagram, connect_datagram, connect_stream, is_local, listen_stream, may_choose_source};
pub use interfaces::interface_addresses;
pub use options::{
    Inet, Protocol, inet_kind, is_dual, is_listening, is_nonblocking, is_unix, peer_credentials, save_syn,
    saved_hops, set_defer_accept, set_keepalive, set_nodelay, set_nonblocking, set_reset_on_close,
    stream_protocol, take_error,
};
pub use pipe::{Pipe, splice};
pub use process::max_open_files;
pub use rights::{recv_descriptor, send_descriptor};
pub use sigpipe::{SigpipeBlocked, sigpipe_is_ignored};
pub use stream::{
    has_failed, is_hang_up, is_starved, peek, poll_write, recv, send, send_vectored, shutdown_write, unsent,
};

use std::io;

/// Makes a call that returns -1 and sets errno on failure, again after `EINTR`.
fn check(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    uninterrupted(|| match call() {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    })
}

/// Makes a call that returns a length, or -1 and sets errno, again after `EINTR`.
#[inline]
fn check_len(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    uninterrupted(|| usize::try_from(call()).map_err(|_| io::Error::last_os_error()))
}

/// Repeats a call for as long as signals interrupt it.
///
/// # Errors
/// Any error of the call but [`Interrupted`](io::ErrorKind::Interrupted).
#[inline]
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
