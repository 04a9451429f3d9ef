#![forbid(unsafe_code)]
//! What a failed request to a Docker daemon means for the person who runs the program.

use std::io::{self, ErrorKind};

use dockline_docker_client::DockerError;

use crate::problem::Problem;

impl From<DockerError> for Problem {
    fn from(error: DockerError) -> Self {
        let problem = Self::new(&error);
        match error {
            DockerError::Refused { .. } => problem,
            DockerError::Unreachable { source, .. } => match hint(&source) {
                Some(hint) => problem.because(source).hint(hint),
                None => problem.because(source),
            },
            DockerError::Lost { source, .. } => problem.because(source),
            DockerError::Invalid { source, .. } => problem.because(source),
        }
    }
}

fn hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Some("start the daemon, or give its address with --host or DOCKER_HOST")
        }
        ErrorKind::PermissionDenied => Some("run this as root, or as a member of the group docker"),
        _ => None,
    }
}
