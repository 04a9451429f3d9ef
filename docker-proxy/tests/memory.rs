#![forbid(unsafe_code)]
//! The memory of an idle process: dockerd starts one for each published port, so a host has
//! hundreds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so by failing")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use support::{ORIGINAL, PROXY, Proxy, Start, flags, free_port, words};

/// Limit of private memory of a process, in KiB.
const LIMIT: u64 = 1024;

const PROCESSES: usize = 8;

fn start(program: &str, proto: &str) -> Vec<Proxy> {
    let container = SocketAddr::from(([127, 0, 0, 1], 9));
    let start = |_| {
        let host = SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")));
        let mut proxy = Start { program, ..Start::default() }.run(&words(&flags(proto, host, container)));
        assert_eq!(proxy.status(), "0\n");
        if proto == "udp" {
            // The memory of a loop that has been in use, not of a new one.
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            (0..64).for_each(|_| assert!(client.send_to(&[0; 1400], host).is_ok()));
        }
        proxy
    };
    (0..PROCESSES).map(start).collect()
}

#[test]
fn idle_processes_are_small() {
    for proto in ["tcp", "udp"] {
        for program in [PROXY, ORIGINAL].into_iter().filter(|program| Path::new(program).exists()) {
            let processes = start(program, proto);
            let memory: Vec<(u64, u64)> = processes.iter().map(Proxy::memory).collect();
            let private = memory.iter().map(|(private, _)| *private).max().unwrap();
            let fair: u64 = memory.iter().map(|(_, fair)| *fair).sum::<u64>() / memory.len() as u64;
            println!("{proto}: private {private} KiB at most, PSS {fair} KiB: {program}");
            assert!(program != PROXY || private <= LIMIT, "{proto}: {private} KiB");
        }
    }
}
