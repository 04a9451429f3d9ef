#![forbid(unsafe_code)]
//! Why a relay cannot be set up.

use std::error::Error;
use std::fmt;
use std::io;

use crate::error::Side;

/// Why a relay cannot be made of two transports.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// A plain socket is in blocking mode: one silent peer would stop the whole loop.
    Blocking(Side),
    /// A descriptor is not a stream socket.
    NotStream(Side),
    /// A system call on a socket failed.
    System(Side, io::Error),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocking(side) => {
                write!(f, "the {side:?} socket is in blocking mode; set O_NONBLOCK first")
            }
            Self::NotStream(side) => write!(f, "the {side:?} descriptor is not a stream socket"),
            Self::System(side, error) => write!(f, "the {side:?} socket: {error}"),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(_, error) => Some(error),
            Self::Blocking(_) | Self::NotStream(_) => None,
        }
    }
}

/// Why bytes were not taken as prefilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefillError {
    /// The relay has been pumped: the bytes would overtake others.
    Started,
    /// More than [`PREFILL_LIMIT`](super::PREFILL_LIMIT) in all on this side.
    TooMuch,
}

impl fmt::Display for PrefillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "bytes can be prefilled before the first pump only",
            Self::TooMuch => "more bytes prefilled than PREFILL_LIMIT allows",
        })
    }
}

impl Error for PrefillError {}
