use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::super::{ListenerSettings, Service};
use super::*;

fn engine() -> Engine {
    Engine::new(EngineOptions::default(), Arc::new(())).unwrap()
}

/// Each wants 300 s, and is gone long before.
#[test]
fn connections_that_are_closed_leave_no_timer() {
    let mut engine = engine();
    let address = SocketAddr::from_abstract_name(format!("dockline-timers-{}", std::process::id())).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let upstream = Arc::new(Upstream::new("nowhere", Vec::new()));
    let settings = ListenerSettings::new("main", Service::Http(Arc::new(upstream)));
    engine.handle().listen(Listener::new(listener.into(), settings));
    let turn = |engine: &mut Engine, sessions| {
        while engine.sessions.len() != sessions {
            engine.poll(None).unwrap();
        }
        engine.core.timers.len()
    };
    for _ in 0..500 {
        let clients = [(); 3].map(|()| UnixStream::connect_addr(&address).unwrap());
        assert_eq!(turn(&mut engine, 3), 3);
        drop(clients);
        assert_eq!((turn(&mut engine, 0), engine.core.timers.room()), (0, 0));
    }
    assert_eq!(engine.core.timers.next(), None);
}

#[test]
fn a_loop_that_could_not_be_woken_looks_by_itself() {
    let mut engine = engine();
    let handle = engine.handle();
    assert_eq!(engine.timeout(), Some(LONGEST_SLEEP));
    let sent = handle.inbox().send(Command::Stop, || Err(ErrorKind::OutOfMemory.into()));
    assert!(sent.is_ok());
    // As at the end of that time: nothing has happened.
    assert_eq!(engine.poll(Some(Duration::ZERO)).unwrap(), EngineState::Done);
}

#[test]
fn a_loop_that_nobody_can_send_to_sleeps_until_something_happens() {
    assert_eq!(engine().timeout(), None);
}
