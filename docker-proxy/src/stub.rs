#![forbid(unsafe_code)]
//! A port that a [`broker`] serves: keeps the socket, so that nothing is lost when the broker dies.

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use dockline::process;
use dockline::sockets;

use crate::broker::{self, Place};
use crate::tcp::Target;

/// dockerd gives up after 16 seconds; by then this process has to serve the port itself.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// A port in the hands of a broker.
pub(crate) struct Stub(UnixStream);

impl Stub {
    /// Hands the socket over to the broker of that name, which is started if there is none.
    pub(crate) fn hand_over(name: &str, socket: &OwnedFd, target: Target) -> io::Result<Self> {
        match Self::try_hand_over(name, socket, target) {
            // A broker that was about to end, or was killed: it serves nothing any more.
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
        if sockets::peer_uid(&broker)? != process::effective_uid() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        broker.set_read_timeout(Some(ANSWER_TIME))?;
        broker::send(&mut broker, socket, target)?;
        broker.set_read_timeout(None)?;
        Ok(Self(broker))
    }

    /// Waits until the broker has gone.
    pub(crate) fn wait(mut self) {
        loop {
            match self.0.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

/// Starts a broker, and waits until it can be connected to, or has found that there is another already.
fn start(name: &str) -> io::Result<()> {
    // A socket, because one can wait for it with a limit.
    let (mut answer, stdout) = UnixStream::pair()?;
    answer.set_read_timeout(Some(ANSWER_TIME))?;
    let mut broker = Command::new("/proc/self/exe");
    // In a process group of its own, because it is not for one port that a signal for this group may end.
    broker.arg0("dockline-docker-proxy").args(["--broker", name]).current_dir("/").process_group(0);
    broker.stdin(Stdio::null()).stdout(OwnedFd::from(stdout)).stderr(Stdio::null());
    let child = broker.spawn();
    // It has the other end of the pair: that the process ends must be seen.
    drop(broker);
    let mut child = child?;
    if answer.read_exact(&mut [0; 2]).is_err() {
        // It has ended, or is to; it is not left as a zombie for as long as the port lives.
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Whether the other side of a connection has gone.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
