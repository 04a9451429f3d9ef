#![forbid(unsafe_code)]
//! TLS by rustls.

/// How clients of a listener speak TLS.
#[derive(Debug)]
pub struct ServerTls {}

/// How TLS is spoken with an upstream.
#[derive(Debug)]
pub struct ClientTls {}
