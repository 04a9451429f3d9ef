#![forbid(unsafe_code)]
//! [`Readiness`]: what one side is ready for, and how long that holds.

/// What a poller saw of one side; and, kept by whoever does I/O on that side, what it is ready for
/// until an operation proves otherwise.
///
/// The rules of the kept one:
/// - An event adds to it and never takes away.
/// - A hang-up makes a read worthwhile, which finds the end or the error. It says nothing about
///   writing: a peer that has only half-closed takes no more than before, and a failed connection
///   is reported as writable, too.
/// - A short read proves that a socket is dry, so that the next read would block. That saves a
///   system call per message. After a hang-up it proves nothing: no further edge will come, so
///   reads go on until one blocks or returns the end.
/// - A read that blocks proves that the socket is dry, also after a hang-up.
/// - A write that blocks proves that the socket is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reading may succeed.
    pub read: bool,
    /// Writing may succeed.
    pub write: bool,
    /// The peer shut its writing side or the connection failed: until a read would block, a short
    /// read does not prove that nothing is left, because no further edge will come.
    pub hup: bool,
}

impl Readiness {
    /// Everything at once: the value for a host that cannot tell.
    pub const ALL: Self = Self { read: true, write: true, hup: true };

    /// Adds an event of the poller.
    pub(crate) fn note(&mut self, seen: Self) {
        self.read |= seen.read || seen.hup;
        self.write |= seen.write;
        self.hup |= seen.hup;
    }

    /// Notes that a read returned less than there was room for.
    pub(crate) fn short_read(&mut self) {
        if !self.hup {
            self.read = false;
        }
    }

    /// Notes that a read would block.
    pub(crate) fn read_blocked(&mut self) {
        self.read = false;
        self.hup = false;
    }

    /// Notes that a write would block, or took less than there was.
    pub(crate) fn write_blocked(&mut self) {
        self.write = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Readiness = Readiness { read: true, write: false, hup: false };
    const WRITE: Readiness = Readiness { read: false, write: true, hup: false };
    const HUP: Readiness = Readiness { read: false, write: false, hup: true };

    fn after(events: &[Readiness]) -> Readiness {
        let mut ready = Readiness::default();
        events.iter().for_each(|event| ready.note(*event));
        ready
    }

    #[test]
    fn events_add_up() {
        assert_eq!(after(&[READ, WRITE]), Readiness { read: true, write: true, hup: false });
        assert_eq!(after(&[READ, WRITE, Readiness::default()]), after(&[WRITE, READ]));
    }

    #[test]
    fn a_hang_up_makes_a_read_worthwhile_and_no_write() {
        assert_eq!(after(&[HUP]), Readiness { read: true, write: false, hup: true });
    }

    #[test]
    fn a_short_read_proves_that_a_socket_is_dry() {
        let mut ready = after(&[READ, WRITE]);
        ready.short_read();
        assert_eq!(ready, WRITE);
    }

    #[test]
    fn after_a_hang_up_only_a_read_that_blocks_does() {
        let mut ready = after(&[READ, HUP]);
        ready.short_read();
        assert_eq!(ready, Readiness { read: true, write: false, hup: true });
        ready.read_blocked();
        assert_eq!(ready, Readiness::default());
        // The next message is an ordinary one again.
        ready.note(READ);
        ready.short_read();
        assert_eq!(ready, Readiness::default());
    }

    #[test]
    fn a_write_that_blocks_says_nothing_about_reads() {
        let mut ready = after(&[READ, WRITE, HUP]);
        ready.write_blocked();
        assert_eq!(ready, Readiness { read: true, write: false, hup: true });
    }
}
