#![forbid(unsafe_code)]
//! The upgrade in place: the listening sockets pass to a new process of the program, and none is
//! closed meanwhile.
//!
//! The new process has one end of a socket pair as its standard input, and receives there one
//! message for each listening socket (its key, and the descriptor by `SCM_RIGHTS`), then [`END`].
//! When it serves, it replies [`READY`]. So nothing is inherited by accident, and either process
//! notices the end of the other.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use dockline::untrusted::Untrusted;
use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::absolute_path::start_directory;
use crate::problem::Problem;

/// Set for the new process, whose standard input is the socket pair.
const VARIABLE: &str = "DOCKLINE_HANDOVER";
/// Follows the last socket. No key has this form.
const END: &[u8] = b"end";
/// The reply.
const READY: &[u8] = b"ready";
/// Limit for the new process to serve.
const READY_TIME: Duration = Duration::from_secs(60);
/// Limit for a process to end after it has closed its end.
const END_TIME: Duration = Duration::from_secs(5);
/// Interval of the checks.
const END_PAUSE: Duration = Duration::from_millis(10);
/// Limit for a key: a Unix path has at most 107 bytes, a host name 253.
const KEY_MAX: usize = 512;

/// Listening sockets, each with its [`ListenAddress::key`](crate::address::ListenAddress::key).
pub(crate) type Sockets = Vec<(String, OwnedFd)>;

/// How this program was started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Reads it from the environment. Call it at the start: the working directory or the file may
    /// change.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next().map(PathBuf::from).unwrap_or_default();
        // A symbolic link is kept: it may lead to another version by the time of an upgrade.
        let path =
            if name.components().count() > 1 { std::path::absolute(name)? } else { env::current_exe()? };
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// Starts it again.
    pub(crate) fn start(&self) -> Result<Successor, Problem> {
        let (ours, theirs) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(Problem::wrap("no socket pair"))?;
        let mut command = Command::new(&self.path);
        // By name: the configuration is read from whatever directory has that name now.
        if let Some(start) = start_directory().filter(|start| start.is_dir()) {
            command.current_dir(start);
        }
        let child = command
            .args(&self.arguments)
            .env(VARIABLE, "stdin")
            // They are about this process.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .stdin(Stdio::from(theirs))
            .spawn();
        // It holds the new process's end of the socket pair, which must close when that process
        // ends.
        drop(command);
        let name = Untrusted::path(&self.path);
        let child = child.map_err(Problem::wrap(format_args!("cannot start {name}")))?;
        Ok(Successor { child, peer: ours })
    }
}

/// The new process, which does not serve yet.
#[derive(Debug)]
pub(crate) struct Successor {
    child: Child,
    peer: OwnedFd,
}

impl Successor {
    /// Returns a way to send signals to it while [`hand_over`](Self::hand_over) waits for it.
    pub(crate) fn signals(&self) -> io::Result<SuccessorSignals> {
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        Ok(SuccessorSignals(process))
    }

    /// Passes the sockets to it, waits until it serves, and returns its process ID.
    pub(crate) fn hand_over(mut self, sockets: &[(String, OwnedFd)]) -> Result<u32, Problem> {
        match hand_over(&self.peer, sockets) {
            Ok(()) => Ok(self.child.id()),
            Err(error) => Err(failure(&mut self.child, error)),
        }
    }
}

/// Sends signals to a [`Successor`], and to no other process that may have its number later.
#[derive(Debug)]
pub(crate) struct SuccessorSignals(OwnedFd);

impl SuccessorSignals {
    /// Sends a signal. A process that has ended needs none.
    pub(crate) fn send(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.0, signal);
    }
}

fn hand_over(peer: &OwnedFd, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    set_socket_timeout(peer, Timeout::Send, Some(READY_TIME))?;
    set_socket_timeout(peer, Timeout::Recv, Some(READY_TIME))?;
    for (key, socket) in sockets {
        send(peer, key.as_bytes(), Some(socket))?;
    }
    send(peer, END, None)?;
    let mut reply = [0; READY.len()];
    let (length, _) = retry_on_intr(|| net::recv(peer, &mut reply[..], RecvFlags::empty()))?;
    match &reply[..length] {
        READY => Ok(()),
        [] => Err(ErrorKind::UnexpectedEof.into()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Ends a new process that has failed, and describes the failure.
fn failure(child: &mut Child, error: io::Error) -> Problem {
    let late = error.kind() == ErrorKind::WouldBlock;
    // A process that has closed its end is about to end.
    let ended = !late && error.kind() != ErrorKind::InvalidData && ends(child);
    if !ended {
        let _ = child.kill();
    }
    match child.wait() {
        _ if late => {
            Problem::new(format_args!("the new process was not ready within {} s", READY_TIME.as_secs()))
        }
        Ok(status) if ended => {
            Problem::new(format_args!("the new process ended before it was ready ({status})"))
                .hint("its log has the reason")
        }
        _ => Problem::new("the new process did not reply as expected").because(error),
    }
}

/// Returns whether a process ends within [`END_TIME`].
fn ends(child: &mut Child) -> bool {
    (0..END_TIME.as_millis() / END_PAUSE.as_millis()).any(|_| match child.try_wait() {
        Ok(None) => {
            thread::park_timeout(END_PAUSE);
            false
        }
        _ => true,
    })
}

fn send(peer: &OwnedFd, text: &[u8], socket: Option<&OwnedFd>) -> io::Result<()> {
    let fds: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    retry_on_intr(|| net::sendmsg(peer, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The process that this one replaces.
#[derive(Debug)]
pub(crate) struct Predecessor(OwnedFd);

impl Predecessor {
    /// Receives the sockets of the process that this one replaces; `None` if there is none.
    /// Standard input is `/dev/null` afterwards.
    pub(crate) fn greet() -> io::Result<Option<(Self, Sockets)>> {
        if env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let peer = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        set_socket_timeout(&peer, Timeout::Recv, Some(READY_TIME))?;
        let mut sockets = Sockets::new();
        while let Some(received) = receive(&peer)? {
            sockets.push(received);
        }
        Ok(Some((Self(peer), sockets)))
    }

    /// Reports that this process serves.
    pub(crate) fn dismiss(self) -> io::Result<()> {
        net::send(&self.0, READY, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Receives the next socket; `None` after the last one.
fn receive(peer: &OwnedFd) -> io::Result<Option<(String, OwnedFd)>> {
    let mut text = [0; KEY_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // With a timeout set, the kernel does not restart the call after the process was stopped or
    // frozen.
    let received = retry_on_intr(|| {
        net::recvmsg(peer, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(ErrorKind::InvalidData.into());
    }
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (&text[..received.bytes], socket) {
        (END, None) => Ok(None),
        ([], None) => Err(ErrorKind::UnexpectedEof.into()),
        (key, Some(socket)) => Ok(Some((String::from_utf8_lossy(key).into_owned(), socket))),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn sockets_arrive_with_their_keys() {
        let (old, new) = pair();
        let (mut far, near) = UnixStream::pair().unwrap();
        send(&old, b"unix:///a", Some(&near.into())).unwrap();
        send(&old, END, None).unwrap();
        let (key, socket) = receive(&new).unwrap().unwrap();
        assert_eq!(key, "unix:///a");
        drop(socket);
        // No other descriptor is left, so the other end sees the end.
        assert_eq!(far.read(&mut [0; 1]).unwrap(), 0);
        assert!(receive(&new).unwrap().is_none());
    }

    #[test]
    fn a_vanished_predecessor_is_an_error() {
        let (old, new) = pair();
        drop(old);
        assert_eq!(receive(&new).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_successor_must_say_ready() {
        let (old, new) = pair();
        net::send(&new, b"no", SendFlags::empty()).unwrap();
        assert_eq!(hand_over(&old, &[]).unwrap_err().kind(), ErrorKind::InvalidData);
        let (old, new) = pair();
        Predecessor(new.try_clone().unwrap()).dismiss().unwrap();
        hand_over(&old, &[]).unwrap();
    }
}
