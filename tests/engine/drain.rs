//! Draining: what is finished, what is cut off, and when.

use std::net::TcpStream;
use std::time::Duration;

use super::support::{Bed, Ending, GET, OK, read_head, read_rest, read_until, send};

#[test]
fn draining_lets_requests_finish_and_cuts_tunnels_at_the_deadline() {
    let bed = Bed::new();
    let (mut idle, mut daemon) = bed.exchange();
    let (mut tunnel, mut tunnel_end) = bed.tunnel();
    let mut waiting = bed.connect();
    send(&mut waiting, GET);
    read_head(&mut daemon);

    bed.workers.drain(None);
    assert_eq!(read_rest(&mut idle), (String::new(), Ending::Clean));
    assert!(TcpStream::connect(bed.at).is_err(), "it still listens");
    send(&mut daemon, OK);
    let response = read_rest(&mut waiting);
    assert!(response.0.contains("Connection: close\r\n") && response.0.ends_with("OK"), "{response:?}");
    send(&mut tunnel, "still here");
    read_until(&mut tunnel_end, "still here");
    assert!(!bed.workers.are_done());

    bed.workers.drain(Some(Duration::from_millis(100)));
    // What was cut off must not look like a clean end.
    assert_eq!(read_rest(&mut tunnel), (String::new(), Ending::Reset));
    assert_eq!(bed.sees("tunnel"), "tunnel drain 10 0");
    drop(waiting);
    bed.close();
}
