//! The client with daemons that send scripted bytes.

mod json_sequence;
mod stream;
mod tls;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const LONG: Duration = Duration::from_secs(10);

/// Reads a request, and returns its head; `None` if the client has gone.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A daemon whose connections, one after the other, are served by these scripts: each a list of
/// responses. Behind the last one the connection is closed. What it was asked is sent to the
/// receiver, and an empty text for each connection.
fn daemon(connections: Vec<Vec<String>>) -> (Docker, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    thread::spawn(move || {
        for responses in connections {
            let (mut stream, _) = listener.accept().unwrap();
            let sender = sender.clone();
            // A test may have seen enough.
            let _ = sender.send(String::new());
            thread::spawn(move || {
                for response in responses {
                    let Some(head) = request(&mut stream) else { break };
                    let _ = sender.send(head);
                    let _ = stream.write_all(response.as_bytes());
                }
            });
        }
    });
    (Docker::new(Address::Tcp { host: "127.0.0.1".into(), port }).unwrap(), asked)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn response_to(bytes: &str) -> Result<Value, DockerError> {
    daemon(vec![vec![bytes.to_owned()]]).0.get("/x")
}

/// Returns the number of connections that were made, and the first lines of the requests.
fn log(docker: Docker, asked: &Receiver<String>) -> (usize, Vec<String>) {
    drop(docker);
    let all: Vec<String> = asked.iter().collect();
    let requests = all.iter().filter_map(|head| head.lines().next()).map(str::to_owned).collect();
    (all.iter().filter(|head| head.is_empty()).count(), requests)
}

#[test]
fn bodies_of_all_kinds_are_read() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n[1,2]",
        "HTTP/1.0 200 OK\r\n\r\n[1,2]",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]",
    ] {
        assert_eq!(response_to(bytes).unwrap(), json!([1, 2]), "{bytes}");
    }
}

#[test]
fn a_refusal_has_the_message_of_the_daemon() {
    let refused = response_to("HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n{\"message\":\"no web\"}");
    assert!(
        matches!(refused, Err(DockerError::Refused { status: 404, message }) if message.raw() == "no web")
    );
    let refused = response_to("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<html>");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the Docker daemon responded with status 403: whatever is in front of it, such as a socket proxy, has to allow \
         this operation"
    );
    let refused = response_to("HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n<html>");
    assert_eq!(refused.unwrap_err().to_string(), "the Docker daemon responded with status 500");
}

#[test]
fn what_is_no_response_is_named() {
    for bytes in [
        "SSH-2.0-x\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 101 UPGRADED\r\n\r\n",
        &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9),
    ] {
        assert!(matches!(response_to(bytes), Err(DockerError::Invalid { .. })), "{bytes}");
    }
    for bytes in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1,2]",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n",
    ] {
        assert!(matches!(response_to(bytes), Err(DockerError::Lost { .. })), "{bytes}");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for address in
        [Address::Tcp { host: "127.0.0.1".into(), port }, Address::Unix("/nowhere/docker.sock".into())]
    {
        let docker = Docker::new(address).unwrap();
        assert!(matches!(docker.get_bytes("/x", 1), Err(DockerError::Unreachable { .. })));
    }
}

#[test]
fn a_response_is_read_up_to_its_limit() {
    let docker = |body: String| daemon(vec![vec![ok(&body)]]).0;
    assert_eq!(docker("x".repeat(7)).get_bytes("/x", 7).unwrap().len(), 7);
    let error = docker("x".repeat(8)).get_bytes("/x", 7).unwrap_err();
    assert!(matches!(error, DockerError::Invalid { .. }), "{error}");
    let number = |length: usize| docker(format!("{}1", " ".repeat(length - 1))).get::<u8>("/x");
    assert_eq!(number(RESPONSE_MAX).unwrap(), 1);
    assert!(matches!(number(RESPONSE_MAX + 1), Err(DockerError::Invalid { .. })));
    let refused = |length: usize| {
        let body = "x".repeat(length);
        response_to(&format!("HTTP/1.1 500 No\r\nContent-Length: {length}\r\n\r\n{body}")).unwrap_err()
    };
    assert!(matches!(refused(64 * 1024), DockerError::Refused { status: 500, .. }));
    assert!(matches!(refused(64 * 1024 + 1), DockerError::Invalid { .. }));
}

#[test]
fn one_connection_serves_one_request_after_the_other() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n".to_owned();
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_owned();
    let (docker, asked) = daemon(vec![vec![ok("1"), chunked, missing, ok("4")]]);
    assert_eq!(docker.get::<u8>("/1").unwrap(), 1);
    assert_eq!(docker.get::<u8>("/2").unwrap(), 2);
    assert!(matches!(docker.get::<u8>("/3"), Err(DockerError::Refused { status: 404, .. })));
    assert_eq!(docker.clone().get::<u8>("/4").unwrap(), 4);
    let requests = ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /3 HTTP/1.1", "GET /4 HTTP/1.1"];
    assert_eq!(log(docker, &asked), (1, requests.map(str::to_owned).to_vec()));
}

#[test]
fn a_connection_is_not_used_again_without_proof() {
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3",
    ] {
        let never = ok("9");
        let (docker, asked) = daemon(vec![vec![first.to_owned(), never], vec![ok("2")]]);
        assert_eq!(docker.get::<u8>("/1").unwrap(), 1, "{first}");
        assert_eq!(docker.get::<u8>("/2").unwrap(), 2, "{first}");
        assert_eq!(log(docker, &asked).0, 2, "{first}");
    }
}

#[test]
fn what_comes_before_a_request_is_not_its_response() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let docker = Docker::new(Address::Tcp { host: "127.0.0.1".into(), port }).unwrap();
    let asking = docker.clone();
    let first = thread::spawn(move || asking.get::<u8>("/1"));
    let (mut stream, _) = listener.accept().unwrap();
    request(&mut stream).unwrap();
    stream.write_all(ok("1").as_bytes()).unwrap();
    assert_eq!(first.join().unwrap().unwrap(), 1);
    // As a proxy sends 408 to a connection that it closes.
    stream.write_all(ok("9").as_bytes()).unwrap();
    let second = thread::spawn(move || docker.get::<u8>("/2"));
    let (mut stream, _) = listener.accept().unwrap();
    request(&mut stream).unwrap();
    stream.write_all(ok("2").as_bytes()).unwrap();
    assert_eq!(second.join().unwrap().unwrap(), 2);
}

#[test]
fn a_kept_connection_that_the_daemon_has_closed_is_replaced() {
    // The second request is read, and gets no response.
    let (docker, asked) = daemon(vec![vec![ok("1"), String::new()], vec![ok("2")]]);
    assert_eq!(docker.get::<u8>("/1").unwrap(), 1);
    assert_eq!(docker.get::<u8>("/2").unwrap(), 2);
    assert_eq!(
        log(docker, &asked),
        (2, ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /2 HTTP/1.1"].map(str::to_owned).to_vec())
    );

    // A new one is not replaced.
    let (docker, asked) = daemon(vec![vec![String::new()], vec![ok("2")]]);
    assert!(matches!(docker.get::<u8>("/1"), Err(DockerError::Lost { .. })));
    assert_eq!(docker.get::<u8>("/2").unwrap(), 2);
    assert_eq!(log(docker, &asked).0, 2);
}

#[test]
fn a_post_is_sent_once_and_on_a_new_connection() {
    let nothing_to_do = "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned();
    let (docker, asked) = daemon(vec![vec![ok("1"), ok("2")], vec![nothing_to_do], vec![String::new()]]);
    assert_eq!(docker.get::<u8>("/1").unwrap(), 1);
    docker.post("/containers/web/start", LONG).unwrap();
    assert!(matches!(docker.post("/containers/web/stop", LONG), Err(DockerError::Lost { .. })));
    drop(docker);
    let heads: Vec<String> = asked.iter().filter(|head| !head.is_empty()).collect();
    assert_eq!(heads.len(), 3);
    assert_eq!(heads[1], "POST /containers/web/start HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn a_silent_daemon_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let docker = Docker::new(Address::Tcp { host: "127.0.0.1".into(), port }).unwrap();
    let error = docker.post("/x", Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, DockerError::Lost { source, .. } if source.kind() == ErrorKind::TimedOut));
}

#[test]
fn a_unix_socket_with_a_full_queue_is_tried_until_the_time_is_up() {
    let path = std::env::temp_dir().join(format!("dockline-client-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let docker = Docker::new(Address::Unix(path.clone())).unwrap();
    let waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let error = docker.post("/x", Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, DockerError::Unreachable { source, .. } if source.kind() == ErrorKind::TimedOut));

    let asking = thread::spawn(move || docker.get::<u8>("/x"));
    drop(waiting);
    let (_, mut stream) = (listener.accept().unwrap(), listener.accept().unwrap().0);
    request(&mut stream).unwrap();
    stream.write_all(ok("1").as_bytes()).unwrap();
    assert_eq!(asking.join().unwrap().unwrap(), 1);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn closing_ends_what_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let docker = Docker::new(Address::Tcp { host: "127.0.0.1".into(), port }).unwrap();
    let waiting = docker.clone();
    let asking = thread::spawn(move || waiting.get::<u8>("/x"));
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    request(&mut stream).unwrap();
    docker.close();
    for result in [asking.join().unwrap(), docker.get::<u8>("/x")] {
        let Err(DockerError::Lost { source, .. } | DockerError::Unreachable { source, .. }) = result else {
            panic!("{result:?}");
        };
        assert_eq!(source.kind(), ErrorKind::NotConnected);
    }
}

#[test]
fn the_kernel_probes_a_peer_that_is_silent_for_days() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Arc::new(EventFd::new().unwrap());
    let address = Address::Tcp { host: "localhost".into(), port };
    let connection = Connection::open(&address, None, &closed, Patience::new(LONG, LONG)).unwrap();
    assert!(rustix::net::sockopt::socket_keepalive(connection.socket().unwrap()).unwrap());
}

#[test]
fn names_that_need_escaping_are_none() {
    for (name, good) in [("web-1_a.b", true), ("", false), ("a/b", false), ("a?b", false), ("é", false)] {
        assert_eq!(is_name(name), good, "{name}");
    }
}
