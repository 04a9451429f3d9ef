//! What an engine reports to its host.

use std::ffi::c_void;

use super::client::{client_to_c, dockline_client};
use super::record::{dockline_exchange_record, dockline_tunnel_record, exchange_to_c, tunnel_record_to_c};
use super::worker::{DOCKLINE_LOG_ERROR, DOCKLINE_LOG_INFO, DOCKLINE_LOG_WARN, HostLog};
use crate::engine::{Event, Exchange, Observer, Tunnel};

/// Receives an exchange that ended or became a tunnel. The structs are borrowed for the call. The
/// sizes are those that the library knows: a program built against a newer header checks them
/// before it reads newer fields.
pub type dockline_exchange_callback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        client: *const dockline_client,
        client_size: usize,
        record: *const dockline_exchange_record,
        record_size: usize,
    ),
>;

/// Receives a tunnel that ended; otherwise like dockline_exchange_callback.
pub type dockline_tunnel_callback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        client: *const dockline_client,
        client_size: usize,
        record: *const dockline_tunnel_record,
        record_size: usize,
    ),
>;

/// The host's callbacks.
pub(super) struct HostObserver {
    pub(super) exchange_ended: dockline_exchange_callback,
    pub(super) tunnel_ended: dockline_tunnel_callback,
    pub(super) log: Option<HostLog>,
    pub(super) user: *mut c_void,
}

// SAFETY: the host promises that the callbacks may be called on whatever thread drives the engine.
unsafe impl Send for HostObserver {}
// SAFETY: as above; an engine calls them from one thread at a time.
unsafe impl Sync for HostObserver {}

impl Observer for HostObserver {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let Some(call) = self.exchange_ended else { return };
        let (client, record) = (client_to_c(exchange.client), exchange_to_c(exchange));
        // SAFETY: the host gave the function and its argument together; the structs live for the
        // call.
        unsafe {
            call(self.user, &raw const client, size_of_val(&client), &raw const record, size_of_val(&record))
        };
    }

    fn tunnel(&self, tunnel: &Tunnel<'_>) {
        let Some(call) = self.tunnel_ended else { return };
        let (client, record) = (client_to_c(tunnel.client), tunnel_record_to_c(tunnel));
        // SAFETY: as in `exchange`.
        unsafe {
            call(self.user, &raw const client, size_of_val(&client), &raw const record, size_of_val(&record))
        };
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = &self.log else { return };
        let (level, text) = match event {
            Event::Relay(event) => return log.report(event),
            Event::AcceptFailed { listener, error, paused } => {
                let then = if *paused { "; accepting pauses for a moment" } else { "" };
                (DOCKLINE_LOG_ERROR, format!("listener \"{listener}\": {error}{then}"))
            }
            Event::Full { connections } => (
                DOCKLINE_LOG_WARN,
                format!("{connections} connections, the maximum: new ones wait until some are closed"),
            ),
            Event::ProxyHeaderFailed { client, failure } => {
                (DOCKLINE_LOG_INFO, format!("client {}: {failure}", client.peer))
            }
            Event::HandshakeFailed { client, reason, .. } => {
                (DOCKLINE_LOG_INFO, format!("client {}: TLS handshake: {reason}", client.peer))
            }
            Event::ConnectFailed { upstream, address, error, .. } => {
                (DOCKLINE_LOG_ERROR, format!("upstream \"{}\" at {address}: {error}", upstream.name))
            }
            Event::ForwardFailed { client, upstream, failure } => (
                DOCKLINE_LOG_INFO,
                format!("client {}: upstream \"{}\": {failure}", client.peer, upstream.name),
            ),
            Event::Reset { side, error } => (DOCKLINE_LOG_INFO, format!("{side:?} connection: {error}")),
            Event::Panicked => (
                DOCKLINE_LOG_ERROR,
                "dockline failed inside a connection, which is closed; please report it".into(),
            ),
        };
        log.write(level, &text);
    }
}
