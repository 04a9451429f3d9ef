#![forbid(unsafe_code)]
//! The status pipe, descriptor 3, on which dockerd waits for two bytes or for the reason of a
//! failure.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use dockline::untrusted::Line;
use dockline_sys::process;

use crate::error::Error;

const NUMBER: i32 = 3;

/// The pipe. Without one, as when the program is run by hand, the reason goes to standard error.
pub(crate) struct Status(Option<File>);

impl Status {
    /// Takes the pipe from the parent. Anything else that has its number is left alone.
    pub(crate) fn inherit() -> Self {
        let pipe = process::take_inherited(NUMBER).ok();
        Self(pipe.filter(|pipe| process::is_pipe(pipe.as_fd()).unwrap_or(false)).map(File::from))
    }

    /// Reports that the port is bound: dockerd goes on.
    pub(crate) fn ready(self) {
        if let Some(mut pipe) = self.0 {
            // There is nobody to report a failure to.
            let _ = pipe.write_all(b"0\n");
        }
    }

    /// Reports that the port cannot be served, and why.
    pub(crate) fn failed(self, error: &Error) {
        match self.0 {
            Some(mut pipe) => {
                let _ = pipe.write_all(format!("1\n{}", Line(error)).as_bytes());
            }
            None => crate::log(format_args!("{error}")),
        }
    }
}
