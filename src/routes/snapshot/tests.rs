use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::routes::samples::{any_host, any_key, any_path};
use crate::routes::{HostPattern, RouteTable};

fn options() -> LookupOptions {
    LookupOptions::new(["apps.example.com", "example.org"], true).unwrap()
}

fn target(port: u16, weight: u16, live: bool) -> SnapshotTarget {
    SnapshotTarget { address: ([192, 0, 2, 1], port).into(), weight, live, strip: false }
}

fn route(host: &str, path: &str, targets: &[SnapshotTarget]) -> SnapshotRoute {
    let host = if host.contains('.') { HostPattern::host(host) } else { HostPattern::name(host) };
    let key = RouteKey { host: host.unwrap(), path: path.parse().unwrap() };
    SnapshotRoute { key, targets: targets.to_vec() }
}

fn sample() -> Vec<u8> {
    let targets = [target(80, 1, true), target(81, 1000, false)];
    let routes = [
        route("web", "/", &targets),
        route("web", "/api", &targets[..1]),
        route("shop.example.com", "/", &[]),
        route("*.example.com", "/docs", &targets[1..]),
    ];
    Snapshot::write(&options(), 7, routes).unwrap()
}

#[test]
fn what_was_written_is_found() {
    let mut v6 = target(0, 3, true);
    v6.address = "[2001:db8::1]:8080".parse().unwrap();
    v6.strip = true;
    let routes = [
        route("web", "/api", &[target(80, 1, true), v6]),
        route("*.example.com", "/", &[target(81, 1000, false)]),
        route("*.example.com", "/down", &[]),
    ];
    let snapshot = Snapshot::parse(Snapshot::write(&options(), u64::MAX, routes).unwrap()).unwrap();
    assert_eq!((snapshot.generation(), snapshot.len(), snapshot.is_empty()), (u64::MAX, 3, false));
    assert_eq!(snapshot.options(), &options());
    let find = |host: &str, path: &str| match snapshot.lookup(host.as_bytes(), path.as_bytes()) {
        Lookup::Found { value, prefix } => {
            let targets: Vec<_> = value.targets().map(|t| (t.address, t.weight, t.live, t.strip)).collect();
            Some((value.name(), targets, prefix))
        }
        _ => None,
    };
    let both = vec![("192.0.2.1:80", 1, true, false), ("[2001:db8::1]:8080", 3, true, true)];
    assert_eq!(find("web.apps.example.com", "/api/x"), Some(("web/api", both, 4)));
    let down = vec![("192.0.2.1:81", 1000, false, false)];
    assert_eq!(find("x.example.com", "/"), Some(("*.example.com", down, 0)));
    assert_eq!(find("x.example.com", "/down"), Some(("*.example.com/down", vec![], 5)));
    assert_eq!(snapshot.lookup(b"web", b"/"), Lookup::UnknownPath);
    assert_eq!(snapshot.lookup(b"db", b"/"), Lookup::UnknownHost);
    assert_eq!(snapshot.lookup(b"", b"/"), Lookup::NoHost);
}

#[test]
fn a_snapshot_may_have_no_route() {
    let snapshot = Snapshot::parse(Snapshot::write(&LookupOptions::default(), 0, []).unwrap()).unwrap();
    assert!(snapshot.is_empty());
    assert_eq!(snapshot.lookup(b"web", b"/"), Lookup::UnknownHost);
}

#[test]
fn each_of_many_routes_is_found() {
    let routes = (0..3000).map(|at| route(&format!("web-{at}"), "/", &[target(at, 1, true)]));
    let snapshot = Snapshot::parse(Snapshot::write(&options(), 0, routes).unwrap()).unwrap();
    for at in 0..3000 {
        let Lookup::Found { value, .. } = snapshot.lookup(format!("web-{at}").as_bytes(), b"/") else {
            panic!()
        };
        assert_eq!(value.name(), format!("web-{at}"));
        assert!(value.targets().all(|target| target.address == format!("192.0.2.1:{at}")));
    }
    assert_eq!(snapshot.lookup(b"web-3000", b"/"), Lookup::UnknownHost);
}

#[test]
fn of_routes_with_the_same_key_the_first_is_kept() {
    let routes = [route("web", "/", &[target(80, 1, true)]), route("web", "/", &[])];
    let snapshot = Snapshot::parse(Snapshot::write(&options(), 0, routes).unwrap()).unwrap();
    assert_eq!(snapshot.len(), 1);
    let Lookup::Found { value, .. } = snapshot.lookup(b"web", b"/") else { panic!() };
    assert_eq!(value.targets().count(), 1);
}

#[test]
fn a_route_has_1024_targets_with_weights_up_to_1000_at_most() {
    let write = |targets: &[SnapshotTarget]| Snapshot::write(&options(), 0, [route("web", "/", targets)]);
    let mut long = target(65535, 1000, true);
    long.address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
    let snapshot = Snapshot::parse(write(&[long; 1024]).unwrap()).unwrap();
    let Lookup::Found { value, .. } = snapshot.lookup(b"web", b"/") else { panic!() };
    assert_eq!(value.targets().count(), 1024);
    assert_eq!(write(&[long; 1025]), Err(SnapshotError::Route));
    assert!(write(&[target(80, 1, true)]).is_ok());
    assert_eq!(write(&[target(80, 0, true)]), Err(SnapshotError::Route));
    assert_eq!(write(&[target(80, 1001, true)]), Err(SnapshotError::Route));
}

#[test]
fn what_is_no_snapshot_is_refused_with_the_reason() {
    let sample = sample();
    let changed = |at: usize, byte: u8| {
        let mut bytes = sample.clone();
        bytes[at] = byte;
        Snapshot::parse(bytes).err()
    };
    assert_eq!(changed(0, b'x'), Some(SnapshotError::Magic));
    assert_eq!(changed(8, 2), Some(SnapshotError::Version(2)));
    assert_eq!(changed(12, 2), Some(SnapshotError::Header));
    assert_eq!(changed(40, sample[40].wrapping_add(1)), Some(SnapshotError::Length));
    assert_eq!(changed(46, 0xff), Some(SnapshotError::Length), "base domains longer than the file");
    assert_eq!(changed(48, 25), Some(SnapshotError::Header));
    assert_eq!(changed(48, 24), Some(SnapshotError::Length));
    assert_eq!(changed(54, 0xff), Some(SnapshotError::Length), "more routes than there is room for");
    assert_eq!(changed(64, 0xff), Some(SnapshotError::Header), "a domain longer than all of them");
    assert_eq!(changed(66, b' '), Some(SnapshotError::Header), "a domain that is none");
    for len in 0..sample.len() {
        assert!(Snapshot::parse(&sample[..len]).is_err(), "{len}");
    }
    let longer = [sample.as_slice(), b"x"].concat();
    assert_eq!(Snapshot::parse(longer).err(), Some(SnapshotError::Length));
}

#[test]
fn an_address_or_name_that_is_none_is_never_given_to_the_host() {
    let found = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(&sample()).into_owned();
        assert!(text.contains(from));
        let mut bytes = sample();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        let snapshot = Snapshot::parse(bytes).unwrap();
        match snapshot.lookup(b"web.example.org", b"/api") {
            Lookup::Found { value, .. } => Some((value.name().to_owned(), value.targets().count())),
            _ => None,
        }
    };
    assert_eq!(found("web/api", "web-api"), Some(("web-api".to_owned(), 1)));
    assert_eq!(found("web/api", "web\napi"), None);
    assert_eq!(found("192.0.2.1:80", "evil.test:80"), Some(("web/api".to_owned(), 0)));
    assert_eq!(found("192.0.2.1:80", "192.0.2.1;80"), Some(("web/api".to_owned(), 0)));
}

proptest! {
    #[test]
    fn a_snapshot_answers_as_a_table_does(
        keys in vec(any_key(), 0..60),
        requests in vec((any_host(), any_path()), 1..40),
        first_label: bool,
    ) {
        let options = LookupOptions::new(["apps.example.com", "example.org", "a"], first_label).unwrap();
        let changes = keys.iter().map(|key| (key.clone(), Some(key.to_string())));
        let table = RouteTable::new(options.clone()).with_changes(changes);
        let routes = keys.iter().map(|key| SnapshotRoute { key: key.clone(), targets: vec![] });
        let snapshot = Snapshot::parse(Snapshot::write(&options, 1, routes).unwrap()).unwrap();
        prop_assert_eq!(snapshot.len(), table.len());
        for (host, path) in requests {
            let (host, path) = (host.replace('*', "b").into_bytes(), path.into_bytes());
            let expected = table.lookup(&host, &path).and_then(|name| Some(name.as_str()));
            let found = snapshot.lookup(&host, &path).and_then(|route| Some(route.name()));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_damaged_snapshot_is_read_without_a_panic(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        requests in vec((any_host(), any_path()), 1..20),
    ) {
        let mut bytes = sample();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(snapshot) = Snapshot::parse(bytes) {
            for (host, path) in requests {
                if let Lookup::Found { value, .. } = snapshot.lookup(host.as_bytes(), path.as_bytes()) {
                    prop_assert!(value.targets().all(|target| target.address.parse::<SocketAddr>().is_ok()));
                }
            }
        }
    }
}
