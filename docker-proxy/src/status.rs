#![forbid(unsafe_code)]
//! The status pipe, descriptor 3: dockerd waits for two bytes on it, or for the reason why not.

use std::fs::File;
use std::io::Write;

use dockline::process;
use dockline::untrusted::Line;

const NUMBER: i32 = 3;

/// The pipe; without one, as when somebody tries the program by hand, the reason goes to standard error.
pub(crate) struct Status(Option<File>);

impl Status {
    /// Takes the pipe from the parent. Anything else that is open under its number is left alone.
    pub(crate) fn inherit() -> Self {
        let pipe = process::take_inherited(NUMBER).ok();
        Self(pipe.filter(|pipe| process::is_pipe(pipe).unwrap_or(false)).map(File::from))
    }

    /// The port is bound: dockerd goes on.
    pub(crate) fn ready(self) {
        if let Some(mut pipe) = self.0 {
            // A parent that doesn't listen has its reasons.
            let _ = pipe.write_all(b"0\n");
        }
    }

    /// The port cannot be served: dockerd shows the text to its user.
    pub(crate) fn failed(self, text: &str) {
        match self.0 {
            Some(mut pipe) => {
                let _ = pipe.write_all(format!("1\n{}", Line(text)).as_bytes());
            }
            None => crate::log(format_args!("{text}")),
        }
    }
}
