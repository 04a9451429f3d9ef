#![forbid(unsafe_code)]
//! [`Cause`]s of what the operating system and the TLS library report.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use crate::error::{Cause, Failure, Phase, Side, Timeout};
use crate::relay::CloseReason;
use crate::sys;
#[cfg(feature = "tls")]
use {
    crate::error::{TlsFailure, TlsReason},
    rustls::{AlertDescription, CertificateError, Error as TlsError},
};

/// Returns the cause of an error on an established connection.
pub(crate) fn of_connection(error: &io::Error) -> Cause {
    #[cfg(feature = "tls")]
    if let Some(error) = tls_error(error) {
        let alert = match error {
            TlsError::AlertReceived(alert) => Some(u8::from(*alert)),
            _ => None,
        };
        return Cause::TlsStream { alert };
    }
    match of_connect(error) {
        // The peer has no part in it: there is no memory, or the poller refused the socket.
        cause @ Cause::OutOfResources { .. } => cause,
        _ => Cause::of_io(error),
    }
}

/// Returns the cause of a client's connection that was found dead without a read or write.
pub(super) fn of_vanished(socket: BorrowedFd<'_>) -> Cause {
    let error = sys::take_error(socket).ok().flatten();
    error.map_or(Cause::ClosedEarly, |error| of_connection(&error))
}

/// Returns the cause of an attempt to connect that failed.
pub(super) fn of_connect(error: &io::Error) -> Cause {
    let errno = error.raw_os_error();
    match errno {
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::ENOSPC // of the poller: fs.epoll.max_user_watches
            | libc::EADDRNOTAVAIL,
        ) => Cause::OutOfResources { errno },
        _ if error.kind() == ErrorKind::TimedOut => Cause::Timeout(Timeout::Connect),
        _ => Cause::ConnectFailed { errno },
    }
}

/// Returns the cause of a name lookup that failed.
pub(super) fn of_resolve(error: &io::Error) -> Cause {
    match of_connect(error) {
        Cause::Timeout(_) => Cause::Timeout(Timeout::Resolve),
        cause @ Cause::OutOfResources { .. } => cause,
        _ => Cause::ResolveFailed,
    }
}

/// Returns the cause of a TLS handshake that failed.
#[cfg(feature = "tls")]
pub(super) fn of_handshake(error: &io::Error) -> Cause {
    let failed = |reason, alert: Option<AlertDescription>| {
        Cause::Tls(TlsFailure { reason, alert: alert.map(u8::from) })
    };
    let Some(inner) = tls_error(error) else {
        return match error.kind() {
            ErrorKind::UnexpectedEof => Cause::ClosedEarly,
            ErrorKind::InvalidData => failed(TlsReason::TooLong, None),
            // The server's name cannot be used, for instance.
            ErrorKind::TimedOut => Cause::Timeout(Timeout::Handshake),
            _ if error.raw_os_error().is_none() => failed(TlsReason::Other, None),
            _ => match of_connect(error) {
                Cause::ConnectFailed { .. } => Cause::of_io(error),
                cause => cause,
            },
        };
    };
    match inner {
        TlsError::AlertReceived(alert) => failed(TlsReason::Alert, Some(*alert)),
        TlsError::InvalidMessage(message) => failed(TlsReason::NotTls, Some((*message).into())),
        TlsError::PeerIncompatible(_) => failed(TlsReason::Incompatible, None),
        TlsError::PeerMisbehaved(_)
        | TlsError::InappropriateMessage { .. }
        | TlsError::InappropriateHandshakeMessage { .. }
        | TlsError::DecryptError
        | TlsError::PeerSentOversizedRecord => failed(TlsReason::Misbehaved, None),
        TlsError::NoCertificatesPresented => failed(TlsReason::NoCertificate, None),
        TlsError::InvalidCertificate(error) => failed(certificate_reason(error), Some(error.clone().into())),
        TlsError::InvalidCertRevocationList(_) => failed(TlsReason::Revocation, None),
        _ => failed(TlsReason::Other, None),
    }
}

#[cfg(feature = "tls")]
fn certificate_reason(error: &CertificateError) -> TlsReason {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsReason::Expired,
        CertificateError::Revoked => TlsReason::Revoked,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsReason::UnknownIssuer,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => TlsReason::Revocation,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsReason::WrongName
        }
        _ => TlsReason::BadCertificate,
    }
}

#[cfg(feature = "tls")]
fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// Returns why a tunnel ended, if not by the ends of both directions. `error_of` returns the last
/// error of a side's connection.
pub(super) fn of_tunnel<'e>(
    reason: Option<CloseReason>,
    error_of: impl Fn(Side) -> Option<&'e io::Error>,
) -> Option<Failure> {
    let reset = |side| error_of(side).map_or(Cause::Reset { errno: None }, of_connection);
    let (side, cause) = match reason? {
        CloseReason::Eof | CloseReason::Linger => return None,
        CloseReason::DownstreamReset => (Side::Downstream, reset(Side::Downstream)),
        CloseReason::UpstreamReset => (Side::Upstream, reset(Side::Upstream)),
        CloseReason::Idle => (Side::Downstream, Cause::Timeout(Timeout::TunnelIdle)),
        CloseReason::Drain => (Side::Downstream, Cause::Drained),
        CloseReason::Killed => (Side::Downstream, Cause::Killed),
    };
    Some(Failure::new(side, Phase::Tunnel, cause))
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use rustls::{CertRevocationListError, InvalidMessage, PeerIncompatible, PeerMisbehaved};

    use super::*;
    use crate::error::FailedSide;

    /// What the TLS library says, for each reason.
    fn error_of(reason: TlsReason) -> io::Error {
        let certificate = |error| TlsError::InvalidCertificate(error);
        let error = match reason {
            TlsReason::Alert => TlsError::AlertReceived(AlertDescription::UnknownCA),
            TlsReason::NotTls => TlsError::InvalidMessage(InvalidMessage::InvalidContentType),
            TlsReason::Incompatible => PeerIncompatible::NoCipherSuitesInCommon.into(),
            TlsReason::Misbehaved => PeerMisbehaved::BadCertChainExtensions.into(),
            TlsReason::NoCertificate => TlsError::NoCertificatesPresented,
            TlsReason::UnknownIssuer => certificate(CertificateError::UnknownIssuer),
            TlsReason::Expired => certificate(CertificateError::Expired),
            TlsReason::Revoked => certificate(CertificateError::Revoked),
            TlsReason::Revocation => TlsError::InvalidCertRevocationList(CertRevocationListError::ParseError),
            TlsReason::WrongName => certificate(CertificateError::NotValidForName),
            TlsReason::BadCertificate => certificate(CertificateError::BadEncoding),
            TlsReason::TooLong => return io::Error::new(ErrorKind::InvalidData, "too long"),
            TlsReason::Other => TlsError::FailedToGetRandomBytes,
        };
        io::Error::new(ErrorKind::InvalidData, error)
    }

    #[test]
    fn each_tls_error_has_its_reason() {
        for cause in Cause::all() {
            let Cause::Tls(TlsFailure { reason, .. }) = cause else { continue };
            assert_eq!(of_handshake(&error_of(reason)).name(), cause.name());
        }
    }

    /// The status that a client gets depends on it: 502, 503 or 504.
    #[test]
    fn errors_of_the_system_keep_their_class() {
        let error = io::Error::from_raw_os_error;
        let full = Cause::OutOfResources { errno: Some(libc::EMFILE) };
        assert_eq!([of_connect, of_resolve, of_handshake].map(|of| of(&error(libc::EMFILE))), [full; 3]);
        assert_eq!(of_connect(&error(libc::ETIMEDOUT)), Cause::Timeout(Timeout::Connect));
        assert_eq!(of_resolve(&ErrorKind::TimedOut.into()), Cause::Timeout(Timeout::Resolve));
        assert_eq!(of_handshake(&error(libc::ETIMEDOUT)), Cause::Timeout(Timeout::Handshake));
        assert_eq!(of_handshake(&error(libc::ECONNRESET)), Cause::Reset { errno: Some(libc::ECONNRESET) });
        assert_eq!(of_resolve(&ErrorKind::NotFound.into()), Cause::ResolveFailed);
    }

    #[test]
    fn a_tunnel_that_ends_for_lack_of_resources_is_no_fault_of_its_peers() {
        let error = io::Error::from_raw_os_error(libc::ENOMEM);
        let failure = of_tunnel(Some(CloseReason::UpstreamReset), |_| Some(&error)).unwrap();
        let cause = Cause::OutOfResources { errno: Some(libc::ENOMEM) };
        assert_eq!(failure, Failure::new(Side::Upstream, Phase::Tunnel, cause));
        assert_eq!(failure.side, FailedSide::Proxy);
    }

    #[test]
    fn a_connection_that_fails_for_lack_of_resources_is_no_fault_of_its_peer() {
        let of = |number| of_connection(&io::Error::from_raw_os_error(number));
        for number in [libc::ENOMEM, libc::ENOBUFS, libc::ENOSPC, libc::EMFILE, libc::ENFILE] {
            assert_eq!(of(number), Cause::OutOfResources { errno: Some(number) });
        }
        assert_eq!(of(libc::ETIMEDOUT), Cause::Lost { errno: Some(libc::ETIMEDOUT) });
        assert_eq!(of(libc::ECONNRESET), Cause::Reset { errno: Some(libc::ECONNRESET) });
    }

    #[test]
    fn alerts_are_kept() {
        let alert = |reason| of_handshake(&error_of(reason)).alert();
        assert_eq!(alert(TlsReason::Alert), Some(48));
        assert_eq!(alert(TlsReason::UnknownIssuer), Some(48));
        assert_eq!(alert(TlsReason::Expired), Some(45));
        assert_eq!(of_connection(&error_of(TlsReason::Alert)), Cause::TlsStream { alert: Some(48) });
        assert_eq!(of_connection(&error_of(TlsReason::Misbehaved)), Cause::TlsStream { alert: None });
    }
}
