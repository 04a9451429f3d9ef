#![forbid(unsafe_code)]
//! A port that a [`broker`] serves. This process holds the socket, so that nothing is lost if the
//! broker dies.

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use dockline_sys::process;

use crate::broker::{self, Place};
use crate::tcp::Target;

/// Limit for a reply. dockerd gives up after 16 seconds, and this process has to serve the port
/// itself by then.
const REPLY_TIME: Duration = Duration::from_secs(4);

/// The connection to the broker that serves the port.
pub(crate) struct Stub(UnixStream);

impl Stub {
    /// Passes the socket to the broker of that name, which is started if it does not run.
    pub(crate) fn hand_over(name: &str, socket: &OwnedFd, target: Target) -> io::Result<Self> {
        match Self::try_hand_over(name, socket, target) {
            // The broker was about to end, or was killed: it serves nothing any more.
            Err(error) if is_end(&error) => Self::try_hand_over(name, socket, target),
            other => other,
        }
    }

    fn try_hand_over(name: &str, socket: &OwnedFd, target: Target) -> io::Result<Self> {
        let place = Place::of(name)?;
        let mut broker = match place.connect() {
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                start(name)?;
                place.connect()?
            }
            other => other?,
        };
        if broker::peer_uid(&broker)? != process::effective_uid() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        broker.set_read_timeout(Some(REPLY_TIME))?;
        broker::send(&mut broker, socket, target)?;
        broker.set_read_timeout(None)?;
        Ok(Self(broker))
    }

    /// Waits until the broker has ended.
    pub(crate) fn wait(mut self) {
        loop {
            match self.0.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

/// Starts a broker, and waits until it accepts connections, or has found that another one runs.
fn start(name: &str) -> io::Result<()> {
    // A socket rather than a pipe, because a read from it can have a time limit.
    let (mut reply, stdout) = UnixStream::pair()?;
    reply.set_read_timeout(Some(REPLY_TIME))?;
    let mut broker = Command::new("/proc/self/exe");
    // In its own process group, so that a signal for the group of one port does not end it.
    broker.arg0("dockline-docker-proxy").args(["--broker", name]).current_dir("/").process_group(0);
    broker.stdin(Stdio::null()).stdout(OwnedFd::from(stdout)).stderr(Stdio::null());
    let child = broker.spawn();
    // It holds the other end of the pair, which must close when the process ends.
    drop(broker);
    let mut child = child?;
    if reply.read_exact(&mut [0; 2]).is_err() {
        // It has ended, or must. Waiting leaves no zombie behind.
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Returns whether an error means that the other side has closed the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
