//! Bytes on a TLS stream: handshakes, data, malformed records, and ends.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use dockline::drive::Transport;
use dockline::engine::tls::{HANDSHAKE_LIMIT, Handshake};
use rustls::ClientConnection;

use super::peers::*;
use super::pki::Ca;

#[test]
fn bytes_pass_both_ways_in_both_versions_of_tls() {
    let ca = Ca::new();
    let (server, _) = plain_config(&ca);
    for (version, name) in VERSIONS {
        let config = Arc::new(client_config(&ca, &[version], None));
        let (stream, mut client) = shake(&server, &config, "localhost");
        let mut stream = stream.unwrap();
        assert_eq!((stream.version(), stream.sni()), (Some(name), Some("localhost")));
        assert_eq!((stream.identity(), stream.peer_certificate()), (None, None));
        client.tls.writer().write_all(b"ping").unwrap();
        client.step().unwrap();
        assert_eq!(reads(&mut stream), b"ping");
        assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(stream.write(b"pong").unwrap(), 4);
        client.step().unwrap();
        let mut pong = [0; 4];
        client.tls.reader().read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"pong");
    }
}

#[test]
fn reads_and_writes_fail_before_the_handshake() {
    let ca = Ca::new();
    let (server, _) = plain_config(&ca);
    let mut stream = server.accept(sockets().0.into()).unwrap();
    assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(stream.write(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(stream.shutdown_write().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn a_client_hello_may_arrive_byte_by_byte() {
    let ca = Ca::new();
    let (server, _) = plain_config(&ca);
    let (ours, mut socket) = sockets();
    let mut stream = server.accept(ours.into()).unwrap();
    let mut tls = ClientConnection::new(config_of(&ca, None), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    for byte in hello {
        assert_eq!(stream.handshake().unwrap(), Handshake::WantsRead);
        socket.write_all(&[byte]).unwrap();
    }
    let mut client = Client { tls, socket };
    for _ in 0..10 {
        let done = client.step().unwrap();
        if stream.handshake().unwrap() == Handshake::Done && done {
            return;
        }
    }
    panic!("the handshake does not end");
}

#[test]
fn a_handshake_of_more_than_64_kib_is_refused() {
    let ca = Ca::new();
    let (server, _) = plain_config(&ca);
    // A hello that announces 16 MiB, in records of one byte; and one of 60 KiB of unknown bytes,
    // repeated.
    let claims = [&[22, 3, 1, 0, 4, 1, 255, 255, 255][..], &[22, 3, 1, 0, 4, 1, 0, 255, 0]];
    for claim in claims {
        let (ours, mut socket) = sockets();
        let mut stream = server.accept(ours.into()).unwrap();
        let mut sent = claim.to_vec();
        while sent.len() < 2 * HANDSHAKE_LIMIT {
            sent.extend([22, 3, 1, 0, 1, 0]);
        }
        let mut at = 0;
        let error = loop {
            match socket.write(&sent[at..]) {
                Ok(n) => at += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            match stream.handshake() {
                Ok(step) => assert_eq!(step, Handshake::WantsRead),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn plaintext_http_is_refused_with_an_alert() {
    let ca = Ca::new();
    let (server, _) = plain_config(&ca);
    let (ours, mut socket) = sockets();
    let mut stream = server.accept(ours.into()).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(stream.handshake().unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::NotConnected);
    let mut alert = [0; 7];
    socket.read_exact(&mut alert).unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 50], "decode_error");
}

#[test]
fn the_end_of_the_connection_ends_the_handshake_with_an_error() {
    let ca = Ca::new();
    let (server, _) = plain_config(&ca);
    let (ours, socket) = sockets();
    drop(socket);
    let error = server.accept(ours.into()).unwrap().handshake().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn an_end_is_clean_with_close_notify_only() {
    let ca = Ca::new();
    let (server, client) = plain_config(&ca);
    for (notify, small) in [(true, true), (true, false), (false, true), (false, false)] {
        let (a, b) = sockets();
        let raw = b.try_clone().unwrap();
        let (mut server, mut client) = joined(&server, &client, (a.into(), b.into())).unwrap();
        assert_eq!(client.write(b"last words").unwrap(), 10);
        if notify {
            client.shutdown_write().unwrap();
            client.shutdown_write().unwrap();
        } else {
            raw.shutdown(Shutdown::Write).unwrap();
        }
        // There are two ways to read: in the small pieces of the TLS library, and in large ones.
        let mut buf = vec![0; if small { 100 } else { 64 * 1024 }];
        assert_eq!(server.read(&mut buf).unwrap(), 10);
        for _ in 0..2 {
            assert_eq!(server.read(&mut buf).unwrap(), 0);
        }
        assert_eq!(server.end_was_clean(), notify);
        // The other direction is still open, and no TCP shutdown follows the close_notify.
        assert_eq!(server.write(b"answer").unwrap(), 6);
        assert_eq!(reads(&mut client), b"answer");
        if notify {
            assert_eq!((&raw).write(b"x").unwrap(), 1);
        }
    }
}

#[test]
fn the_end_of_the_connection_within_a_record_is_an_error() {
    let ca = Ca::new();
    let (server, client) = plain_config(&ca);
    for size in [100, 64 * 1024] {
        let (a, b) = sockets();
        let mut raw = b.try_clone().unwrap();
        let (mut server, mut client) = joined(&server, &client, (a.into(), b.into())).unwrap();
        assert_eq!(client.write(b"whole").unwrap(), 5);
        raw.write_all(&[23, 3, 3, 0, 100, 1, 2, 3]).unwrap();
        raw.shutdown(Shutdown::Write).unwrap();
        let mut buf = vec![0; size];
        assert_eq!(server.read(&mut buf).unwrap(), 5);
        assert_eq!(server.read(&mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

#[test]
fn decrypted_bytes_are_read_before_an_error() {
    let ca = Ca::new();
    let (server, client) = plain_config(&ca);
    for size in [5, 64 * 1024] {
        let (a, b) = sockets();
        let mut raw = b.try_clone().unwrap();
        let (mut server, mut client) = joined(&server, &client, (a.into(), b.into())).unwrap();
        assert_eq!(client.write(b"whole").unwrap(), 5);
        raw.write_all(&[23, 3, 3, 0, 30]).unwrap();
        raw.write_all(&[0; 30]).unwrap();
        let mut buf = vec![0; size];
        assert_eq!(server.read(&mut buf).unwrap(), 5);
        for _ in 0..2 {
            assert_eq!(server.read(&mut buf).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        // The client gets an alert.
        assert_eq!(client.read(&mut buf).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn bytes_that_the_socket_does_not_accept_are_kept_up_to_a_limit() {
    let ca = Ca::new();
    let (mut server, mut client) = tls_pair(&ca);
    let piece = noise(200_000, 1);
    let mut sent = Vec::new();
    while server.is_flushed() {
        let n = server.write(&piece).unwrap();
        assert!((1..=64 * 1024).contains(&n), "{n}");
        sent.extend_from_slice(&piece[..n]);
        assert!(sent.len() < 16 << 20, "the socket takes everything");
    }
    assert_eq!(server.write(&piece).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(server.flush().unwrap_err().kind(), ErrorKind::WouldBlock);
    for _ in 0..2 {
        assert_eq!(server.shutdown_write().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let mut got = Vec::new();
    let mut buf = vec![0; 50_000];
    while !client.end_was_clean() {
        match client.read(&mut buf) {
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                let _ = server.shutdown_write();
            }
        }
    }
    assert!(server.is_flushed() && server.flush().is_ok() && server.shutdown_write().is_ok());
    assert!(got == sent);
}
