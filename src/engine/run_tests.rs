use super::*;

fn engine() -> Engine {
    Engine::new(EngineOptions::default(), Arc::new(())).unwrap()
}

#[test]
fn a_timer_that_was_replaced_is_followed_by_none() {
    let mut engine = engine();
    let token = engine.sessions.insert(Session::new(Kind::Gone));
    let now = engine.core.now;
    let (past, hour) = (Duration::from_millis(100), Duration::from_secs(3600));
    for (since, queued) in [(hour, 0), (past, 1)] {
        engine.sessions.get_mut(token).unwrap().timer = Some(Coarse::new(since));
        engine.core.timers.schedule(token, now);
        engine.core.now = now + past;
        engine.take_timers();
        assert_eq!(engine.queue.len(), queued);
    }
    assert!(engine.sessions.get_mut(token).unwrap().timer.is_none());
}

#[test]
fn a_loop_that_could_not_be_woken_looks_by_itself() {
    let mut engine = engine();
    let handle = engine.handle();
    assert_eq!(engine.timeout(), Some(LONGEST_SLEEP));
    let sent = handle.inbox().send(Command::Stop, || Err(ErrorKind::OutOfMemory.into()));
    assert!(sent.is_ok());
    assert_eq!(engine.poll(None).unwrap(), EngineState::Done);
}

#[test]
fn a_loop_that_nobody_can_send_to_sleeps_until_something_happens() {
    assert_eq!(engine().timeout(), None);
}
