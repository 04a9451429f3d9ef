#![forbid(unsafe_code)]
//! [`DockerError`]: why a request has failed.

use std::error::Error;
use std::fmt;
use std::io;

use dockline::engine::Address;
use dockline::untrusted::Untrusted;
use serde::Deserialize;

/// Why a request has failed.
#[derive(Debug)]
pub enum DockerError {
    /// The daemon has refused it.
    Refused {
        /// The status of its response.
        status: u16,
        /// Its message.
        message: Untrusted<String>,
    },
    /// There is no connection to the daemon. Nothing was sent.
    Unreachable {
        /// The address of the daemon.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The connection has failed or ended, or the daemon was silent for too long. It may have done
    /// what was asked.
    Lost {
        /// The address of the daemon.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// What responds is not a Docker daemon, or sends more than is accepted.
    Invalid {
        /// The address of the daemon.
        address: Address,
        /// What is wrong with the response.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl DockerError {
    /// Reads the error of a response whose status is not a success.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Refusal {
            message: Untrusted<String>,
        }
        let message = serde_json::from_slice::<Refusal>(body).map_or_else(
            |_| format!("the Docker daemon responded with status {status}").into(),
            |refusal| refusal.message,
        );
        Self::Refused { status, message }
    }
}

/// Displayed without what caused it, which is its source.
impl fmt::Display for DockerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status: 403, message } => {
                write!(
                    f,
                    "{message}: whatever is in front of it, such as a socket proxy, has to allow this operation"
                )
            }
            Self::Refused { message, .. } => message.fmt(f),
            Self::Unreachable { address, .. } => {
                write!(f, "cannot connect to the Docker daemon at {address}")
            }
            Self::Lost { address, .. } => {
                write!(f, "the connection to the Docker daemon at {address} is lost")
            }
            Self::Invalid { address, .. } => write!(f, "{address}: not a response of the Docker API"),
        }
    }
}

impl Error for DockerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused { .. } => None,
            Self::Unreachable { source, .. } | Self::Lost { source, .. } => Some(source),
            Self::Invalid { source, .. } => Some(&**source),
        }
    }
}
