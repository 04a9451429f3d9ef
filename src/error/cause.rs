#![forbid(unsafe_code)]
//! [`Failure`]: which side failed, in which phase, and why.

use std::fmt;
use std::io::{self, ErrorKind};

use super::{ParseError, Side};

/// Why an exchange, a handshake, a connect or a tunnel ended prematurely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whose fault it is.
    pub side: FailedSide,
    /// What was going on.
    pub phase: Phase,
    /// Why.
    pub cause: Cause,
}

impl Failure {
    /// Returns a failure on the connection of a side; of the proxy itself where the cause is one of
    /// its own.
    #[must_use]
    pub const fn new(side: Side, phase: Phase, cause: Cause) -> Self {
        let side = match (side, cause) {
            (_, Cause::OutOfResources { .. } | Cause::OwnListener | Cause::Drained)
            | (_, Cause::Killed | Cause::Panicked)
            | (_, Cause::Timeout(Timeout::TunnelIdle)) => FailedSide::Proxy,
            (Side::Downstream, _) => FailedSide::Downstream,
            (Side::Upstream, _) => FailedSide::Upstream,
        };
        Self { side, phase, cause }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.side.name(), self.phase.name(), self.cause)
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailedSide {
    /// The client's, or that of the network to it.
    Downstream,
    /// The daemon's, or that of the network to it.
    Upstream,
    /// The proxy's: its limits, its configuration, or its operator.
    Proxy,
}

impl FailedSide {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Downstream, Self::Upstream, Self::Proxy];

    /// Returns the word that logs and metrics use; stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downstream => "client",
            Self::Upstream => "daemon",
            Self::Proxy => "proxy",
        }
    }

    /// Returns the number that the C interface uses; stable. That of the two connections is
    /// `DOCKLINE_SIDE_*`.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Downstream => 1,
            Self::Upstream => 2,
            Self::Proxy => 3,
        }
    }
}

/// What was going on when something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The header of the PROXY protocol was being read.
    ProxyHeader,
    /// The TLS handshake of a client.
    Handshake,
    /// The request head was being read.
    RequestHead,
    /// The request body was being read, or passed on.
    RequestBody,
    /// An upstream connection was being made: name lookup, connect, and the TLS handshake with the
    /// upstream.
    Connect,
    /// The response head was waited for.
    ResponseHead,
    /// The response body was being read, or passed on.
    ResponseBody,
    /// The connection was a tunnel.
    Tunnel,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ProxyHeader,
        Self::Handshake,
        Self::RequestHead,
        Self::RequestBody,
        Self::Connect,
        Self::ResponseHead,
        Self::ResponseBody,
        Self::Tunnel,
    ];

    /// Returns the word that logs and metrics use; stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy-header",
            Self::Handshake => "handshake",
            Self::RequestHead => "request-head",
            Self::RequestBody => "request-body",
            Self::Connect => "connect",
            Self::ResponseHead => "response-head",
            Self::ResponseBody => "response-body",
            Self::Tunnel => "tunnel",
        }
    }

    /// Returns the number that the C interface uses; stable.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Handshake => 1,
            Self::RequestHead => 2,
            Self::RequestBody => 3,
            Self::Connect => 4,
            Self::ResponseHead => 5,
            Self::ResponseBody => 6,
            Self::Tunnel => 7,
            Self::ProxyHeader => 8,
        }
    }
}

/// What stands in `docs/REASONS.md` about a cause.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) number: u16,
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    /// Whose fault it can be.
    pub(super) sides: &'static [FailedSide],
    /// What an operator can do.
    pub(super) advice: &'static str,
}

const CLIENT: &[FailedSide] = &[FailedSide::Downstream];
const DAEMON: &[FailedSide] = &[FailedSide::Upstream];
const PROXY: &[FailedSide] = &[FailedSide::Proxy];
const PEER: &[FailedSide] = &[FailedSide::Downstream, FailedSide::Upstream];

/// Defines an enum of reasons by one table. The variants of the first block have reasons of their
/// own inside.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$inner_doc:meta])* $inner:ident($inner_type:ty) => $delegate:expr;)*
    } {
        $($(#[$doc:meta])* $variant:ident $({ $(#[$field_doc:meta])* $field:ident: $field_type:ty })? = $number:literal, $word:literal, $sides:expr, $text:literal, $advice:literal;)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$inner_doc])* $inner($inner_type),)*
            $(
                #[doc = concat!("`", $word, "`: ", $text, ".")]
                $(#[$doc])*
                $variant $({ $(#[$field_doc])* $field: $field_type })?,
            )+
        }

        impl $name {
            /// One of each of those that have no reasons of their own inside.
            pub(super) const PLAIN: &'static [Self] = &[$(Self::$variant $({ $field: None })?,)+];

            /// Returns the word that logs and metrics use; stable.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$inner(inner) => $delegate(inner).0,)*
                    $(Self::$variant { .. } => $word,)+
                }
            }

            /// Returns the number that the C interface uses; stable.
            #[must_use]
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$inner(inner) => $delegate(inner).1,)*
                    $(Self::$variant { .. } => $number,)+
                }
            }

            pub(super) const fn reason(self) -> Option<Reason> {
                match self {
                    $(Self::$inner(_) => None,)*
                    $(Self::$variant { .. } => Some(Reason {
                        number: $number,
                        name: $word,
                        text: $text,
                        sides: $sides,
                        advice: $advice,
                    }),)+
                }
            }
        }
    };
}

reasons! {
    /// Why something failed.
    #[non_exhaustive]
    Cause {
        /// A message breaks a rule, or exceeds a limit. The offset counts from the start of the
        /// head or body that the phase names.
        Parse(ParseError) => (|error: ParseError| (error.fault.name(), error.fault.number()));
        /// A time limit has passed.
        Timeout(Timeout) => (|timeout: Timeout| (timeout.name(), timeout.number()));
        /// A TLS handshake failed.
        Tls(TlsFailure) => (|failure: TlsFailure| (failure.reason.name(), failure.reason.number()));
    } {
        ClosedEarly = 1, "closed-early", PEER,
            "the connection was closed before the message was complete",
            "Client: it was interrupted, or gave up waiting; nothing to do. Daemon: look at its log, it may have been restarted or have crashed.";
        Reset {
            /// The error number of the system call, if the owner of the connection knows it.
            errno: Option<i32>
        } = 2, "reset", PEER,
            "the connection was reset",
            "ECONNRESET, or EPIPE when written to. Client: it was killed, or closed the connection before it had read the response. Daemon: look at its log.";
        Lost {
            /// The error number of the system call, if the owner of the connection knows it.
            errno: Option<i32>
        } = 3, "lost", PEER,
            "the connection failed",
            "The errno says how; ETIMEDOUT and EHOSTUNREACH mean that the peer cannot be reached any more: check the network to it.";
        TlsTruncated = 4, "tls-truncated", PEER,
            "the TLS stream ended without a close_notify, so it may have been cut",
            "Find out what closes the connection: a crash of the peer, or a middlebox.";
        TlsStream {
            /// The alert that was received (RFC 8446, section 6).
            alert: Option<u8>
        } = 5, "tls-stream", PEER,
            "the TLS stream broke after the handshake: a fatal alert, or a record that cannot be decrypted",
            "Look up the alert number (RFC 8446, section 6); without one, suspect a middlebox or a defective peer.";
        MethodNotOffered = 10, "method-not-offered", CLIENT,
            "CONNECT is not enabled",
            "Nothing, unless the client is meant to use CONNECT: then allow it.";
        ProxyHeader = 15, "proxy-header-malformed", CLIENT,
            "the connection does not begin with a header of the PROXY protocol (version 1 or 2, at most 4096 bytes)",
            "Let the load balancer send the header, or switch `proxy_protocol` of the listener off.";
        UntrustedPeer = 16, "untrusted-peer", CLIENT,
            "the client is none of the proxies that may connect to a listener with the PROXY protocol",
            "Nothing, if it is a stranger; add the load balancer to `proxy_protocol` of the listener.";
        UnrequestedSwitch = 20, "unrequested-switch", DAEMON,
            "the response switches protocols although the request did not offer that protocol",
            "Check that the upstream is a Docker daemon, and that no other proxy in between removes `Upgrade`.";
        TooManyInterim = 21, "too-many-interim", DAEMON,
            "more interim responses (1xx) than `interim_responses` allows",
            "Look at what the daemon sends; raise `interim_responses` if it is right.";
        Truncated = 22, "truncated", DAEMON,
            "the connection was closed within the response body",
            "Look at the daemon's log; it may have been restarted or have crashed.";
        ConnectFailed {
            /// The error number of the system call, if the owner of the connection knows it.
            errno: Option<i32>
        } = 30, "connect-failed", DAEMON,
            "connect(2) failed",
            "ECONNREFUSED: start the daemon. ENOENT: correct the path of its socket. EACCES: let the proxy's user access the socket (group `docker`).";
        ResolveFailed = 31, "resolve-failed", DAEMON,
            "the upstream's host name cannot be resolved",
            "Correct the name, or the machine's name service; the proxy's log has the resolver's message.";
        NoAddress = 32, "no-address", DAEMON,
            "the upstream has no address",
            "Configure an address for the upstream.";
        OwnListener = 33, "own-listener", PROXY,
            "the upstream's address leads back to a listener of this proxy, or the connection has passed too many proxies",
            "Correct the upstream's address.";
        OutOfResources {
            /// The error number of the system call, if the owner of the connection knows it.
            errno: Option<i32>
        } = 34, "out-of-resources", PROXY,
            "the proxy has no descriptor, port or memory left for a connection",
            "Raise the limit of open files (`LimitNOFILE=`), or add addresses or memory; the errno says what is missing.";
        Drained = 40, "drained", PROXY,
            "the proxy is shutting down, and `drain_timeout` has passed",
            "Nothing, or a longer `drain_timeout`.";
        Killed = 41, "killed", PROXY,
            "the tunnel or the request was ended by the operator or the host program",
            "Nothing.";
        Panicked = 42, "panicked", PROXY,
            "a defect of the proxy, or of the program that it is a part of, ended the connection",
            "Report it, with the message that the panic left on the standard error.";
    }
}

reasons! {
    /// Which time limit has passed.
    #[non_exhaustive]
    Timeout {} {
        RequestHead = 50, "request-head-timeout", CLIENT,
            "the request head was not complete within `head_time`",
            "Nothing, if it is a scanner or a dead client; raise `head_time` for very slow ones.";
        RequestBody = 51, "request-body-timeout", CLIENT,
            "the client sent nothing of the request body for `body_progress`",
            "Check the client and its network; raise `body_progress` for slow ones.";
        ResponseDelivery = 52, "response-delivery-timeout", CLIENT,
            "the client accepted nothing of the response for `body_progress`",
            "Check the client and its network; raise `body_progress` for slow ones.";
        RequestDelivery = 53, "request-delivery-timeout", DAEMON,
            "the daemon accepted nothing of the request for `response_time`",
            "Check whether the daemon hangs; raise or unset `response_time`.";
        ResponseHead = 54, "response-head-timeout", DAEMON,
            "the daemon sent no response head within `response_time`",
            "Check whether the daemon hangs; raise or unset `response_time`.";
        ResponseBody = 55, "response-body-timeout", DAEMON,
            "the daemon sent nothing of the response body for `response_time`",
            "Check whether the daemon hangs; raise or unset `response_time`.";
        StreamIdle = 56, "stream-idle-timeout", PEER,
            "nothing moved in either direction of a stream for `stream_idle`; the side is the one that was to continue",
            "Raise or unset `stream_idle`.";
        TunnelIdle = 57, "tunnel-idle-timeout", PROXY,
            "the tunnel carried nothing for `tunnel_idle`",
            "Raise or unset `tunnel_idle`.";
        Resolve = 58, "resolve-timeout", DAEMON,
            "the upstream's host name was not resolved within `connect_time`",
            "Check the machine's name service.";
        Connect = 59, "connect-timeout", DAEMON,
            "no connection was established within `connect_time`",
            "Check that the daemon runs and that no firewall drops the packets; on a Unix socket, the daemon's backlog is full.";
        Handshake = 60, "handshake-timeout", PEER,
            "the TLS handshake was not complete within `handshake_time`",
            "Client: nothing, if it is a scanner. Daemon: check that the address is a TLS port.";
        ProxyHeader = 61, "proxy-header-timeout", CLIENT,
            "the header of the PROXY protocol was not complete within `head_time`",
            "Let the load balancer send the header, or switch `proxy_protocol` of the listener off.";
    }
}

/// A TLS handshake that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsFailure {
    /// Why.
    pub reason: TlsReason,
    /// The alert (RFC 8446, section 6) that was received, for [`TlsReason::Alert`], or else the one
    /// that was sent, as far as it is known.
    pub alert: Option<u8>,
}

reasons! {
    /// Why a TLS handshake failed.
    #[non_exhaustive]
    TlsReason {} {
        Alert = 70, "tls-alert", PEER,
            "the peer refused the handshake with an alert",
            "Look up the alert number: 42, 45, 46 and 48 mean that the peer does not accept this side's certificate, 116 that it demands one.";
        NotTls = 71, "tls-malformed", PEER,
            "what was received is not TLS",
            "Client: it speaks plain HTTP to a TLS port, or is a scanner. Daemon: its port has no TLS, use `tcp://`.";
        Incompatible = 72, "tls-incompatible", PEER,
            "the peer supports no protocol version, cipher suite or key exchange that this side allows",
            "Update the peer: TLS 1.2 with ECDHE and AEAD, or TLS 1.3, is required.";
        Misbehaved = 73, "tls-misbehaved", PEER,
            "the peer violated the protocol",
            "Update the peer, or look for a middlebox.";
        NoCertificate = 74, "tls-no-certificate", PEER,
            "the peer has sent no certificate, although one is required",
            "Configure a certificate on the client (`--tlscert`, `--tlskey`).";
        UnknownIssuer = 75, "tls-unknown-issuer", PEER,
            "the peer's certificate is not issued by a trusted authority",
            "Use the right certificate, or configure its authority (`tls.client_ca`; for the daemon `tls.ca`).";
        Expired = 76, "tls-expired", PEER,
            "the peer's certificate has expired or is not valid yet",
            "Renew the certificate; check the clocks of both machines.";
        Revoked = 77, "tls-revoked", PEER,
            "the peer's certificate is revoked",
            "Nothing, or issue a new certificate.";
        Revocation = 78, "tls-revocation-unknown", PEER,
            "the revocation list has expired, or does not cover the peer's certificate",
            "Renew the file of `tls.crl`.";
        WrongName = 79, "tls-wrong-name", PEER,
            "the peer's certificate is for another name",
            "Set `tls.name` to the name in the daemon's certificate, or reissue it.";
        BadCertificate = 80, "tls-bad-certificate", PEER,
            "the peer's certificate is malformed, or not usable for this purpose",
            "Reissue the certificate; the proxy's log has the details.";
        TooLong = 81, "tls-handshake-too-long", PEER,
            "the peer sent more than 64 KiB before the handshake was complete",
            "Shorten the peer's certificate chain.";
        Other = 82, "tls-failed", PEER,
            "TLS failed otherwise",
            "The proxy's log has the details.";
    }
}

impl Cause {
    /// Returns the cause of an I/O error on an established connection.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Self::Reset { errno }
            }
            ErrorKind::UnexpectedEof if errno.is_none() => Self::TlsTruncated,
            _ => Self::Lost { errno },
        }
    }

    /// Returns the offset of the error in the head or body.
    #[must_use]
    pub fn offset(self) -> Option<u64> {
        match self {
            Self::Parse(error) => Some(error.at),
            _ => None,
        }
    }

    /// Returns the error number of the system call that failed.
    #[must_use]
    pub fn errno(self) -> Option<i32> {
        match self {
            Self::Reset { errno }
            | Self::Lost { errno }
            | Self::ConnectFailed { errno }
            | Self::OutOfResources { errno } => errno,
            _ => None,
        }
    }

    /// Returns the TLS alert that was received or sent.
    #[must_use]
    pub fn alert(self) -> Option<u8> {
        match self {
            Self::Tls(failure) => failure.alert,
            Self::TlsStream { alert } => alert,
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => return error.fmt(f),
            Self::Timeout(timeout) => write_text(timeout.reason(), f),
            Self::Tls(failure) => write_text(failure.reason.reason(), f),
            plain => write_text(plain.reason(), f),
        }?;
        match (self.errno(), self.alert()) {
            (Some(errno), _) => write!(f, " (errno {errno})"),
            (None, Some(alert)) => write!(f, " (alert {alert})"),
            (None, None) => Ok(()),
        }
    }
}

fn write_text(reason: Option<Reason>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(reason.map_or("", |reason| reason.text))
}
