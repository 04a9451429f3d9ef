//! Snapshots of routes: whatever a file has in it, looking up ends, within its bytes, and gives the
//! host nothing but addresses and printable names.
#![no_main]

use std::net::SocketAddr;

use arbitrary::Arbitrary;
use dockline::routes::{
    HostPattern, Lookup, LookupOptions, PathPrefix, RouteKey, Snapshot, SnapshotRoute, SnapshotTarget, Turns,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Routes of a whole snapshot; the names have one letter.
    routes: Vec<(u8, bool, u8, bool)>,
    /// What is written over it: where, and which byte.
    damage: Vec<(u16, u8)>,
    /// The file itself, instead of all that.
    raw: Option<&'a [u8]>,
    host: &'a [u8],
    path: &'a [u8],
}

fn whole(routes: &[(u8, bool, u8, bool)]) -> Vec<u8> {
    let route = |&(name, has_path, weight, live): &(u8, bool, u8, bool)| {
        let host = HostPattern::name(&char::from(b'a' + name % 26).to_string()).unwrap();
        let path = if has_path { "/a".parse().unwrap() } else { PathPrefix::root() };
        let address = ([192, 0, 2, 1], 80).into();
        let target = SnapshotTarget { address, weight: u16::from(weight) + 1, live, strip: has_path };
        SnapshotRoute { key: RouteKey { host, path }, targets: vec![target; usize::from(weight % 4)] }
    };
    let options = LookupOptions::new(["example.org"], true).unwrap();
    Snapshot::write(&options, 1, routes.iter().map(route)).unwrap()
}

fuzz_target!(|input: Input<'_>| {
    let mut bytes = input.raw.map_or_else(|| whole(&input.routes), <[u8]>::to_vec);
    for &(at, byte) in &input.damage {
        if let Some(old) = bytes.get_mut(usize::from(at)) {
            *old = byte;
        }
    }
    let is_whole = input.raw.is_none() && input.damage.is_empty();
    let Ok(snapshot) = Snapshot::parse(bytes) else {
        assert!(!is_whole);
        return;
    };
    let mut turns = Turns::new();
    let names = (b'a'..=b'z').map(|name| vec![name]);
    for host in names.chain([input.host.to_vec()]) {
        let found = snapshot.lookup(&host, input.path);
        let Lookup::Found { value: route, prefix } = found else {
            let has = |&&(name, has_path, ..): &&(u8, bool, u8, bool)| host == [b'a' + name % 26] && !has_path;
            assert!(!is_whole || !input.routes.iter().any(|route| has(&route)));
            continue;
        };
        assert!(prefix <= input.path.len());
        assert!(route.name().bytes().all(|byte| byte.is_ascii_graphic()));
        for target in route.targets().take(8).chain(turns.order(&route)) {
            assert!(target.address.parse::<SocketAddr>().is_ok());
        }
    }
});
