use std::cell::Cell;
use std::io::ErrorKind;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn one_wake_up_for_all_that_come_before_the_loop_looks() {
    let (inbox, wakes) = (Inbox::new(), Cell::new(0));
    let wake = || {
        wakes.set(wakes.get() + 1);
        Ok(())
    };
    for round in 1..=3 {
        assert!(!inbox.is_waiting());
        for command in 0..3 {
            inbox.send(command, wake).unwrap();
            assert!(inbox.is_waiting());
        }
        assert_eq!((inbox.take(), wakes.get()), (vec![0, 1, 2], round));
    }
}

#[test]
fn what_is_closed_gives_back() {
    let inbox = Inbox::new();
    inbox.send(1, || Ok(())).unwrap();
    assert!(!inbox.close_if_empty());
    assert_eq!(inbox.take(), [1]);
    assert!(inbox.close_if_empty());
    assert_eq!(inbox.send(2, || panic!("nobody is there to be woken")), Err(2));
    assert!(inbox.take().is_empty());
}

/// A command that sends when it is dropped, as a socket's owner may.
struct Answering<'a>(&'a Inbox<Answering<'a>>);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(Answering(self.0), || Ok(())).map_err(mem::forget);
    }
}

#[test]
fn what_is_dropped_may_send() {
    let inbox = Box::leak(Box::new(Inbox::new()));
    assert!(inbox.send(Answering(inbox), || Ok(())).is_ok());
    inbox.close();
}

proptest! {
    /// Against the kernel's side of it, with any of the wake-ups failing: commands come out once and in order, and
    /// while some wait a wake-up is on its way unless the last one that was tried has failed.
    #[test]
    fn a_wake_up_that_failed_is_tried_again(steps in vec((any::<bool>(), any::<bool>()), 1..100)) {
        let (inbox, edge) = (Inbox::new(), Cell::new(false));
        let (mut sent, mut got) = (0, 0);
        for (send, works) in steps {
            if send {
                let before = edge.get();
                let tried = Cell::new(false);
                inbox.send(sent, || {
                    tried.set(true);
                    edge.set(before || works);
                    if works { Ok(()) } else { Err(ErrorKind::Interrupted.into()) }
                }).unwrap();
                sent += 1;
                prop_assert!(tried.get() != before, "a wake-up for each that none is on its way for, and no other");
                prop_assert_eq!(edge.get(), before || works);
            } else if edge.take() || works {
                // The loop was woken, by this or by something else.
                prop_assert_eq!(inbox.is_waiting(), sent > got);
                for command in inbox.take() {
                    prop_assert_eq!(command, got);
                    got += 1;
                }
                prop_assert_eq!(got, sent);
            }
        }
    }
}
