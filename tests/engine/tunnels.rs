//! Tunnels: half-closes, bytes sent before the switch, the list of open tunnels, and pairs that a
//! host hands over.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use dockline::drive::PREFILL_LIMIT;
use dockline::engine::{Engine, EngineOptions, Pair, PeerAddr};

use super::support::{ATTACH, Bed, PATIENCE, SWITCHED, limits, read_head, send};

/// Plays a daemon that reads its input to the end, and then sends it back reversed.
fn send_back_reversed(mut daemon: TcpStream) {
    let mut input = Vec::new();
    daemon.read_to_end(&mut input).unwrap();
    input.reverse();
    daemon.write_all(&input).unwrap();
}

#[test]
fn a_half_close_reaches_the_daemon_and_its_output_the_client() {
    let bed = Bed::new();
    let (mut client, daemon) = bed.tunnel();
    let server = thread::spawn(move || send_back_reversed(daemon));
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    client.write_all(&input).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut output = Vec::new();
    client.read_to_end(&mut output).unwrap();
    output.reverse();
    assert_eq!(output, input);
    server.join().unwrap();
    bed.close();
}

#[test]
fn a_half_close_before_the_switch_reaches_the_daemon() {
    let bed = Bed::new();
    let mut client = bed.connect();
    send(&mut client, &format!("{ATTACH}stdin"));
    client.shutdown(Shutdown::Write).unwrap();
    let mut daemon = bed.accept();
    read_head(&mut daemon);
    send(&mut daemon, SWITCHED);
    let server = thread::spawn(move || send_back_reversed(daemon));
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    let mut output = String::new();
    client.read_to_string(&mut output).unwrap();
    assert_eq!(output, "nidts");
    server.join().unwrap();
    bed.close();
}

/// The sizes are around the most that a relay accepts from a host of its own, and far above it.
#[test]
fn all_bytes_sent_before_the_switch_reach_the_daemon() {
    for held in [0, 1, PREFILL_LIMIT - 1, PREFILL_LIMIT, PREFILL_LIMIT + 1, 3 * PREFILL_LIMIT] {
        let bed = Bed::with(limits(|limits| limits.held = held));
        let (mut client, mut daemon) = bed.request(ATTACH);
        let mut bytes = vec![b'x'; held];
        bytes.resize(held + 4 * PREFILL_LIMIT, b'y');
        // When nothing more can be written, the engine holds as much as it may, and the rest waits
        // in the kernel.
        client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut early = 0;
        while early < bytes.len()
            && let Ok(n) = client.write(&bytes[early..])
        {
            early += n;
        }
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let sender = thread::spawn(move || {
            client.write_all(&bytes[early..]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        send(&mut daemon, SWITCHED);
        let mut got = Vec::new();
        daemon.read_to_end(&mut got).unwrap();
        drop((sender.join().unwrap(), daemon));
        assert_eq!(got.len(), held + 4 * PREFILL_LIMIT, "held {held}");
        assert!(got[..held].iter().all(|&byte| byte == b'x'), "held {held}");
        bed.close();
    }
}

#[test]
fn open_tunnels_are_listed_with_their_peers_and_bytes() {
    let bed = Bed::forward();
    let mut client = bed.connect();
    let mut daemon = bed.accept();
    client.write_all(b"four").unwrap();
    daemon.read_exact(&mut [0; 4]).unwrap();
    daemon.write_all(b"seven77").unwrap();
    client.read_exact(&mut [0; 7]).unwrap();

    let (sender, listed) = channel();
    bed.workers.handles()[0].tunnels(move |tunnels| sender.send(tunnels).unwrap());
    let all = listed.recv().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((&*all[0].listener, &*all[0].upstream.name), ("test", "daemon"));
    assert_eq!(all[0].peer, PeerAddr::Ip(client.local_addr().unwrap()));
    assert_eq!((all[0].stats.up.delivered, all[0].stats.down.delivered), (4, 7));
    drop((client, daemon));
    bed.close();
}

#[test]
fn an_engine_that_has_ended_drops_the_request_for_a_list() {
    let engine = Engine::new(EngineOptions::default(), Arc::new(())).unwrap();
    let handle = engine.handle();
    drop(engine);
    let (sender, listed) = channel();
    handle.tunnels(move |tunnels| sender.send(tunnels).unwrap());
    assert!(listed.recv().is_err());
}

#[test]
fn an_engine_that_has_ended_closes_a_pair_that_is_handed_over() {
    let engine = Engine::new(EngineOptions::default(), Arc::new(())).unwrap();
    let handle = engine.handle();
    drop(engine);
    let (mut client, downstream) = UnixStream::pair().unwrap();
    let (_daemon, upstream) = UnixStream::pair().unwrap();
    handle.adopt(Pair {
        downstream: downstream.into(),
        upstream: upstream.into(),
        downstream_early: Vec::new(),
        upstream_early: Vec::new(),
        name: "daemon".into(),
    });
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
