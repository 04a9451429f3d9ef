//! Streams of events.

use super::*;

const FILTER: EventFilter<'_> = EventFilter { types: &["container"], actions: &["die", "start"] };

/// Opens the stream of a daemon that sends these bytes.
fn events(bytes: &str) -> Result<(Events, Receiver<String>), DockerError> {
    let (docker, asked) = daemon(vec![vec![bytes.to_owned()]]);
    Ok((docker.events(&FILTER, None)?, asked))
}

fn event(text: &str) -> Received {
    Received::Event(text.as_bytes().to_vec())
}

#[test]
fn events_do_not_depend_on_chunks() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "3\r\n{\"a\r\n6\r\n\":1}\n{\r\n2\r\n}\n\r\n0\r\n\r\n";
    let (mut events, _) = events(&format!("{head}{body}")).unwrap();
    assert_eq!(events.next(LONG).unwrap(), event("{\"a\":1}"));
    assert_eq!(events.next(LONG).unwrap(), event("{}"));
    let end = events.next(LONG).unwrap_err();
    assert!(matches!(end, DockerError::Lost { source, .. } if source.kind() == ErrorKind::UnexpectedEof));
}

#[test]
fn a_pause_is_no_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let docker = Docker::new(Address::Tcp { host: "127.0.0.1".into(), port }).unwrap();
    let opening = thread::spawn(move || docker.events(&FILTER, None));
    let (mut stream, _) = listener.accept().unwrap();
    request(&mut stream).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"a\"").unwrap();
    let mut events = opening.join().unwrap().unwrap();
    assert_eq!(events.next(Duration::from_millis(1)).unwrap(), Received::Nothing);
    assert_eq!(events.next(Duration::ZERO).unwrap(), Received::Nothing);
    stream.write_all(b":1}").unwrap();
    assert_eq!(events.next(LONG).unwrap(), event("{\"a\":1}"));
}

#[test]
fn an_oversized_event_is_skipped() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024));
    let (mut events, _) = events(&format!("HTTP/1.1 200 OK\r\n\r\n{long}{{}}")).unwrap();
    assert_eq!(events.next(LONG).unwrap(), Received::Oversized);
    assert_eq!(events.next(LONG).unwrap(), event("{}"));
}

#[test]
fn a_stream_of_something_else_is_invalid() {
    let (mut events, _) = events("HTTP/1.1 200 OK\r\n\r\n{}hello").unwrap();
    assert_eq!(events.next(LONG).unwrap(), event("{}"));
    assert!(matches!(events.next(LONG), Err(DockerError::Invalid { .. })));
}

#[test]
fn a_refused_subscription_is_an_error() {
    let refused = events("HTTP/1.1 403 Forbidden\r\nContent-Length: 17\r\n\r\n{\"message\":\"no!\"}");
    assert!(matches!(refused, Err(DockerError::Refused { status: 403, .. })));
}

#[test]
fn filters_and_the_time_are_in_the_query() {
    let (docker, asked) = daemon(vec![vec![ok("")]]);
    docker.events(&FILTER, Some(1_700_000_000_000_000_042)).unwrap();
    drop(docker);
    let head = asked.iter().find(|head| !head.is_empty()).unwrap();
    let filters: String = r#"{"event":["die","start"],"type":["container"]}"#
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let line = format!("GET /events?filters={filters}&since=1700000000.000000042 HTTP/1.1\r\n");
    assert!(head.starts_with(&line), "{head}");
}
