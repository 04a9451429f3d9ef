//! What a call returns.

use std::ffi::{CStr, c_char};
use std::io;

use crate::drive::{PrefillError, SetupError};

/// What a call returns: 0, or a negative number that says what went wrong. "Would block" is never a
/// status.
///
/// -1xx: the call was wrong, and nothing changed. -3xx: a limit. -4xx: the system. -9xx: a bug in
/// dockline.
pub type dockline_status = i32;

/// The values of a dockline_status.
pub type dockline_status_code = i32;
/// Success.
pub const DOCKLINE_OK: dockline_status_code = 0;
/// A pointer that must not be NULL is NULL.
pub const DOCKLINE_E_NULL: dockline_status_code = -100;
/// A struct is smaller than its first version, or larger than this library knows and not zero
/// there.
pub const DOCKLINE_E_SIZE: dockline_status_code = -101;
/// An argument or a field has an invalid value.
pub const DOCKLINE_E_VALUE: dockline_status_code = -102;
/// The call is not allowed in this state.
pub const DOCKLINE_E_STATE: dockline_status_code = -103;
/// The handle, or its worker, is in use: by the caller of a callback or by another thread.
pub const DOCKLINE_E_BUSY: dockline_status_code = -104;
/// The pointer is not a handle of this type.
pub const DOCKLINE_E_HANDLE: dockline_status_code = -105;
/// The descriptor is in blocking mode; set O_NONBLOCK first.
pub const DOCKLINE_E_BLOCKING: dockline_status_code = -106;
/// The descriptor is not a stream socket.
pub const DOCKLINE_E_NOT_STREAM: dockline_status_code = -107;
/// The socket does not listen.
pub const DOCKLINE_E_NOT_LISTENING: dockline_status_code = -108;
/// More than the library accepts.
pub const DOCKLINE_E_LIMIT: dockline_status_code = -300;
/// A system call failed; errno says why.
pub const DOCKLINE_E_SYSTEM: dockline_status_code = -400;
/// The library failed inside this call, which is a bug. The handle is poisoned; free it.
pub const DOCKLINE_E_PANIC: dockline_status_code = -900;
/// An earlier call on this handle returned DOCKLINE_E_PANIC; it can only be freed.
pub const DOCKLINE_E_POISONED: dockline_status_code = -901;

/// A status that is not `DOCKLINE_OK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Null,
    Size,
    Value,
    State,
    Busy,
    Handle,
    Blocking,
    NotStream,
    NotListening,
    Limit,
    /// With the errno.
    System(i32),
    Panic,
    Poisoned,
}

impl Failure {
    const ALL: [Self; 13] = [
        Self::Null,
        Self::Size,
        Self::Value,
        Self::State,
        Self::Busy,
        Self::Handle,
        Self::Blocking,
        Self::NotStream,
        Self::NotListening,
        Self::Limit,
        Self::System(0),
        Self::Panic,
        Self::Poisoned,
    ];

    /// Returns number, identifier and sentence. A new failure does not compile without them.
    const fn row(self) -> (dockline_status, &'static CStr, &'static CStr) {
        match self {
            Self::Null => (DOCKLINE_E_NULL, c"DOCKLINE_E_NULL", c"a required pointer is NULL"),
            Self::Size => {
                (DOCKLINE_E_SIZE, c"DOCKLINE_E_SIZE", c"a struct has a size that this library does not know")
            }
            Self::Value => (DOCKLINE_E_VALUE, c"DOCKLINE_E_VALUE", c"an argument has an invalid value"),
            Self::State => (DOCKLINE_E_STATE, c"DOCKLINE_E_STATE", c"the call is not allowed in this state"),
            Self::Busy => (
                DOCKLINE_E_BUSY,
                c"DOCKLINE_E_BUSY",
                c"the handle is in use, by the caller of a callback or by another thread",
            ),
            Self::Handle => {
                (DOCKLINE_E_HANDLE, c"DOCKLINE_E_HANDLE", c"the pointer is not a handle of this type")
            }
            Self::Blocking => (
                DOCKLINE_E_BLOCKING,
                c"DOCKLINE_E_BLOCKING",
                c"the descriptor is in blocking mode; set O_NONBLOCK first",
            ),
            Self::NotStream => {
                (DOCKLINE_E_NOT_STREAM, c"DOCKLINE_E_NOT_STREAM", c"the descriptor is not a stream socket")
            }
            Self::NotListening => {
                (DOCKLINE_E_NOT_LISTENING, c"DOCKLINE_E_NOT_LISTENING", c"the socket does not listen")
            }
            Self::Limit => (DOCKLINE_E_LIMIT, c"DOCKLINE_E_LIMIT", c"more than the library accepts"),
            Self::System(_) => (DOCKLINE_E_SYSTEM, c"DOCKLINE_E_SYSTEM", c"a system call failed, see errno"),
            Self::Panic => {
                (DOCKLINE_E_PANIC, c"DOCKLINE_E_PANIC", c"dockline failed inside this call; free the handle")
            }
            Self::Poisoned => (
                DOCKLINE_E_POISONED,
                c"DOCKLINE_E_POISONED",
                c"dockline failed inside an earlier call on this handle; free it",
            ),
        }
    }

    pub(super) const fn status(self) -> dockline_status {
        self.row().0
    }

    /// Returns the failure behind a status that is not `DOCKLINE_OK`.
    pub(super) fn of(status: dockline_status) -> Self {
        find(status).unwrap_or(Self::Panic)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Blocking(_) => Self::Blocking,
            SetupError::NotStream(_) => Self::NotStream,
            SetupError::System(_, error) => Self::from(error),
        }
    }
}

impl From<PrefillError> for Failure {
    fn from(error: PrefillError) -> Self {
        match error {
            PrefillError::Started => Self::State,
            PrefillError::TooMuch => Self::Limit,
        }
    }
}

fn find(status: dockline_status) -> Option<Failure> {
    Failure::ALL.into_iter().find(|failure| failure.status() == status)
}

/// Returns the identifier of a status, for logs.
///
/// @return a static string, such as "DOCKLINE_E_NULL"; "DOCKLINE_E_UNKNOWN" for a number without a
///         name
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_status_name(status: dockline_status) -> *const c_char {
    let name = match find(status) {
        Some(failure) => failure.row().1,
        None if status == DOCKLINE_OK => c"DOCKLINE_OK",
        None => c"DOCKLINE_E_UNKNOWN",
    };
    name.as_ptr()
}

/// Returns what a status means, in English, without a final full stop.
///
/// @return a static string
/// @since 0.1
#[unsafe(no_mangle)]
pub extern "C" fn dockline_status_text(status: dockline_status) -> *const c_char {
    let text = match find(status) {
        Some(failure) => failure.row().2,
        None if status == DOCKLINE_OK => c"success",
        None => c"a status that this library does not know",
    };
    text.as_ptr()
}
