use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(1);
const ONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);

type Asked = (Receiver<io::Result<Vec<SocketAddr>>>, Question);

fn ask(resolver: &Resolver, host: &str, port: u16) -> Asked {
    let (send, receive) = channel();
    let question = resolver.lookup(host, port, move |result| send.send(result).unwrap());
    (receive, question)
}

fn get(asked: &Asked) -> io::Result<Vec<SocketAddr>> {
    asked.0.recv_timeout(LONG).unwrap()
}

/// Makes a resolver whose look-ups send their name and then wait for their result.
fn held(idle: Duration) -> (Resolver, Receiver<String>, Sender<io::Result<Vec<SocketAddr>>>) {
    let (tell, told) = channel();
    let (end, ends) = channel();
    let ends = Mutex::new(ends);
    let resolver = Resolver::with(idle, move |host| {
        tell.send(host.to_owned()).unwrap();
        ends.lock().unwrap().recv().unwrap()
    });
    (resolver, told, end)
}

#[test]
fn literals_need_no_thread() {
    let resolver = Resolver::with(SHORT, |host| panic!("{host} was looked up"));
    for (host, ip) in
        [("127.0.0.1", IpAddr::V4(Ipv4Addr::LOCALHOST)), ("::1", IpAddr::V6(Ipv6Addr::LOCALHOST))]
    {
        // Answered before `lookup` returns.
        assert_eq!(ask(&resolver, host, 2375).0.try_recv().unwrap().unwrap(), [SocketAddr::new(ip, 2375)]);
    }
    assert_eq!(resolver.shared.lock().threads, 0);
}

#[test]
fn localhost_is_found() {
    let found = get(&ask(&Resolver::new(), "localhost", 80)).unwrap();
    assert!(
        !found.is_empty() && found.iter().all(|address| address.ip().is_loopback() && address.port() == 80)
    );
}

#[test]
fn a_name_that_is_not_there() {
    // Too long for a label (RFC 1035, section 2.3.4), so that no name server is asked.
    let host = format!("{}.invalid", "x".repeat(64));
    let error = get(&ask(&Resolver::new(), &host, 80)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot look up {host}: ")), "{error}");
}

#[test]
fn no_address_is_an_error() {
    let resolver = Resolver::with(SHORT, |_| Ok(Vec::new()));
    let error = get(&ask(&resolver, "empty.test", 80)).unwrap_err();
    assert_eq!(error.to_string(), "cannot look up empty.test: it has no address");
}

#[test]
fn questions_for_one_name_share_the_answer() {
    let (resolver, told, end) = held(SHORT);
    let first = ask(&resolver, "daemon.test", 1);
    assert_eq!(told.recv_timeout(LONG).unwrap(), "daemon.test");
    let second = ask(&resolver.clone(), "daemon.test", 2);
    end.send(Ok(vec![ONE])).unwrap();
    assert_eq!(get(&first).unwrap(), [SocketAddr::new(ONE.ip(), 1)]);
    assert_eq!(get(&second).unwrap(), [SocketAddr::new(ONE.ip(), 2)]);
    // The answer is cached.
    assert_eq!(
        ask(&resolver, "daemon.test", 3).0.try_recv().unwrap().unwrap(),
        [SocketAddr::new(ONE.ip(), 3)]
    );
    assert!(told.try_recv().is_err());
}

#[test]
fn four_at_a_time_and_no_more_than_the_queue_holds() {
    let (resolver, told, end) = held(SHORT);
    let asked: Vec<Asked> =
        (0..THREADS).map(|number| ask(&resolver, &format!("running-{number}.test"), 1)).collect();
    for _ in 0..THREADS {
        told.recv_timeout(LONG).unwrap();
    }
    let queued: Vec<Asked> = (0..QUEUE).map(|number| ask(&resolver, &format!("{number}.test"), 1)).collect();
    assert_eq!(resolver.shared.lock().threads, THREADS);
    let error = ask(&resolver, "too.much.test", 1).0.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("use IP addresses"), "{error}");
    // A name that waits already needs no room.
    let shared = ask(&resolver, "0.test", 1);
    for _ in 0..THREADS + QUEUE {
        end.send(Ok(vec![ONE])).unwrap();
    }
    for asked in asked.iter().chain(&queued).chain([&shared]) {
        get(asked).unwrap();
    }
}

#[test]
fn threads_end_without_work_and_start_again() {
    let resolver = Resolver::with(SHORT, |_| Ok(vec![ONE]));
    let deadline = now() + LONG;
    for number in 0..2 * THREADS {
        get(&ask(&resolver, &format!("{number}.test"), 1)).unwrap();
        // A thread that has ended no longer holds the resolver.
        while Arc::strong_count(&resolver.shared) > 1 {
            assert!(now() < deadline, "a thread without work goes on");
            thread::yield_now();
        }
        assert_eq!(resolver.shared.lock().threads, 0);
    }
}

#[test]
fn a_panic_of_an_asker_ends_no_thread() {
    let (resolver, told, end) = held(LONG);
    let first = resolver.lookup("daemon.test", 1, |_| panic!("on purpose"));
    told.recv_timeout(LONG).unwrap();
    let other = ask(&resolver, "daemon.test", 2);
    end.send(Ok(vec![ONE])).unwrap();
    get(&other).unwrap();
    drop(resolver.lookup("127.0.0.1", 1, |_| panic!("on purpose")));
    let next = ask(&resolver, "next.test", 1);
    end.send(Ok(vec![ONE])).unwrap();
    get(&next).unwrap();
    drop(first);
}

#[test]
fn askers_that_have_gone_are_removed() {
    let (resolver, told, end) = held(SHORT);
    let kept: Vec<Asked> = (0..100).map(|_| ask(&resolver, "slow.test", 1)).collect();
    told.recv_timeout(LONG).unwrap();
    let gone = Arc::new(());
    for _ in 0..10_000 {
        let held = Arc::clone(&gone);
        drop(resolver.lookup("slow.test", 1, move |_| panic!("nobody waits, and yet {held:?} is told")));
        assert!(Arc::strong_count(&gone) <= 1 + kept.len() + GONE + 1);
    }
    end.send(Ok(vec![ONE])).unwrap();
    for asked in &kept {
        get(asked).unwrap();
    }
}

#[test]
fn answers_stand_for_seconds() {
    let mut answers = Answers::default();
    let zero = now();
    answers.keep("good.test".into(), Ok([ONE].into()), zero);
    answers.keep("bad.test".into(), Err((ErrorKind::Other, "no".into())), zero);
    let short = Duration::from_nanos(1);
    assert!(answers.get("bad.test", zero + TTL_FAILURE - short).is_some());
    assert!(answers.get("bad.test", zero + TTL_FAILURE).is_none());
    assert!(answers.get("good.test", zero + TTL - short).is_some());
    assert!(answers.get("good.test", zero + TTL).is_none());
}

#[test]
fn answers_are_bounded() {
    let mut answers = Answers::default();
    let zero = now();
    for number in 0..2 * CACHE {
        answers.keep(format!("{number}.test").into(), Ok([ONE].into()), zero);
    }
    assert_eq!(answers.known.len(), CACHE);
    answers.keep("late.test".into(), Ok([ONE].into()), zero + TTL);
    assert_eq!(answers.known.len(), 1);
    assert!(answers.get("late.test", zero + TTL).is_some());
}
