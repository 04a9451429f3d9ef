use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::names::Name;

const NOW: i64 = 1_764_000_000;
const DAY: i64 = 24 * 60 * 60;

/// A directory that is removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("dockline-certs-{}-{number}", std::process::id())))
    }

    fn store(&self) -> Store {
        Store::create(&self.0.join("ca"), "our authority", 3650, NOW).unwrap()
    }

    fn files(&self, dir: &str) -> Vec<String> {
        let files = fs::read_dir(self.0.join(dir)).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn request(kind: Kind, name: &str) -> Request {
    Request { kind, common_name: name.into(), names: vec![name.parse().unwrap()], days: 365 }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_authority_has_its_files_and_modes() {
    let dir = Dir::new();
    let store = dir.store();
    assert_eq!(dir.files("ca"), ["ca-key.pem", "ca.pem", "crl.pem", "issued"]);
    let at = |name: &str| dir.0.join("ca").join(name);
    assert_eq!((mode(&at("")), mode(&at("ca-key.pem")), mode(&at("ca.pem"))), (0o700, 0o600, 0o644));
    let certificate = Certificate::read(&at("ca.pem")).unwrap();
    assert_eq!(&certificate, store.authority().certificate());
    assert!(certificate.is_authority && certificate.kind.is_none());
    assert_eq!((&*certificate.common_name, &*certificate.issuer), ("our authority", "our authority"));
    assert_eq!((certificate.not_before, certificate.days_left(NOW)), (NOW - 300, 3650));
}

#[test]
fn an_authority_is_never_overwritten() {
    let dir = Dir::new();
    drop(dir.store());
    let before = fs::read(dir.0.join("ca/ca-key.pem")).unwrap();
    let error = Store::create(&dir.0.join("ca"), "other", 1, NOW).err().unwrap();
    assert!(matches!(error.reason(), Reason::Exists), "{error}");
    assert_eq!(fs::read(dir.0.join("ca/ca-key.pem")).unwrap(), before);
}

#[test]
fn each_kind_has_its_files_names_and_usages() {
    let dir = Dir::new();
    let store = dir.store();
    for (kind, names) in [
        (Kind::Server, ["ca.pem", "server-key.pem", "server.pem"]),
        (Kind::Client, ["ca.pem", "cert.pem", "key.pem"]),
        (Kind::Node, ["ca.pem", "cert.pem", "key.pem"]),
    ] {
        let (out, name) = (dir.0.join(kind.as_str()), format!("{}.example", kind.as_str()));
        let serial = store.issue(&request(kind, &name), &out, false, NOW).unwrap();
        assert_eq!(dir.files(kind.as_str()), names);
        let key = names.iter().find(|name| name.ends_with("key.pem")).unwrap();
        assert_eq!((mode(&out), mode(&out.join(key))), (0o700, 0o600));
        let cert = if kind == Kind::Server { "server.pem" } else { "cert.pem" };
        let certificate = Certificate::read(&out.join(cert)).unwrap();
        assert_eq!((certificate.kind, certificate.is_authority), (Some(kind), false));
        assert_eq!((&certificate.serial, serial.len()), (&serial, 32));
        assert_eq!(certificate.names, [Name::Dns(name)]);
        assert_eq!(certificate.issuer, "our authority");
        assert_eq!((certificate.not_before, certificate.not_after), (NOW - 300, NOW + 365 * DAY));
    }
    assert_eq!(store.list(NOW).unwrap().len(), 3);
}

#[test]
fn names_of_all_kinds_come_back() {
    let dir = Dir::new();
    let names: Vec<Name> = ["a.example", "*.b.example", "192.0.2.1", "2001:db8::1", "dockline://team/alice"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let request = Request { names: names.clone(), ..request(Kind::Client, "alice") };
    dir.store().issue(&request, &dir.0.join("out"), false, NOW).unwrap();
    assert_eq!(Certificate::read(&dir.0.join("out/cert.pem")).unwrap().names, names);
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let dir = Dir::new();
    let store = dir.store();
    let request = Request { days: u32::MAX, ..request(Kind::Client, "alice") };
    store.issue(&request, &dir.0.join("out"), false, NOW).unwrap();
    let certificate = Certificate::read(&dir.0.join("out/cert.pem")).unwrap();
    assert_eq!(certificate.not_after, store.authority().certificate().not_after);
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let dir = Dir::new();
    let store = dir.store();
    let (request, out) = (request(Kind::Client, "alice"), dir.0.join("out"));
    store.issue(&request, &out, false, NOW).unwrap();
    let key = fs::read(out.join("key.pem")).unwrap();
    let error = store.issue(&request, &out, false, NOW).unwrap_err();
    assert!(matches!(error.reason(), Reason::Exists), "{error}");
    assert_eq!(fs::read(out.join("key.pem")).unwrap(), key);
    assert_eq!(store.list(NOW).unwrap().len(), 1, "nothing is left of the other one");
    assert_eq!(dir.files("out"), ["ca.pem", "cert.pem", "key.pem"], "and no temporary file");
    store.issue(&request, &out, true, NOW).unwrap();
    assert_ne!(fs::read(out.join("key.pem")).unwrap(), key);
    // A server beside the client, with the same authority.
    let server = Request { kind: Kind::Server, ..request };
    store.issue(&server, &out, false, NOW).unwrap();
}

#[test]
fn what_is_there_comes_back_if_not_all_of_it_can_be_replaced() {
    let dir = Dir::new();
    let store = dir.store();
    let (request, out) = (request(Kind::Client, "alice"), dir.0.join("out"));
    store.issue(&request, &out, false, NOW).unwrap();
    let key = fs::read(out.join("key.pem")).unwrap();
    // The key is written before the certificate, which cannot take the place of a directory.
    fs::remove_file(out.join("cert.pem")).unwrap();
    fs::create_dir(out.join("cert.pem")).unwrap();
    let error = store.issue(&request, &out, true, NOW).unwrap_err();
    assert!(error.to_string().contains("cert.pem"), "{error}");
    assert_eq!(fs::read(out.join("key.pem")).unwrap(), key);
    assert_eq!(dir.files("out"), ["ca.pem", "cert.pem", "key.pem"]);
    assert_eq!(store.list(NOW).unwrap().len(), 1);
    // And what is new goes again.
    fs::remove_file(out.join("key.pem")).unwrap();
    store.issue(&request, &out, true, NOW).unwrap_err();
    assert_eq!(dir.files("out"), ["ca.pem", "cert.pem"]);
}

#[test]
fn a_store_that_another_process_changes_is_not_waited_for_without_end() {
    let dir = Dir::new();
    let store = dir.store();
    let error = Store::open(&dir.0.join("ca"), NOW).err().unwrap();
    assert!(matches!(error.reason(), Reason::Locked), "{error}");
    drop(store);
    Store::open(&dir.0.join("ca"), NOW).unwrap();
}

#[test]
fn a_client_of_another_authority_is_not_mixed_with_ours() {
    let (dir, other) = (Dir::new(), Dir::new());
    other.store().issue(&request(Kind::Client, "alice"), &dir.0.join("out"), false, NOW).unwrap();
    let server = request(Kind::Server, "docker.example");
    let error = dir.store().issue(&server, &dir.0.join("out"), false, NOW).unwrap_err();
    assert!(error.to_string().contains("ca.pem: exists already"), "{error}");
    assert_eq!(dir.files("out"), ["ca.pem", "cert.pem", "key.pem"]);
}

#[test]
fn revoked_certificates_are_in_the_list_for_ever() {
    let dir = Dir::new();
    let store = dir.store();
    let issue =
        |name: &str| store.issue(&request(Kind::Client, name), &dir.0.join(name), false, NOW).unwrap();
    let (alice, bob) = (issue("alice"), issue("bob"));
    let states = |now: i64| -> Vec<(String, State)> {
        let list = store.list(now).unwrap();
        list.into_iter().map(|entry| (entry.certificate.common_name, entry.state)).collect()
    };
    assert!(states(NOW).iter().all(|(_, state)| *state == State::Valid));
    assert!(states(NOW + 365 * DAY).iter().all(|(_, state)| *state == State::Expired));
    for (word, serial) in [("alice", &alice), (&bob[..8], &bob), ("alice", &alice)] {
        let revoked = store.revoke(word, NOW).unwrap();
        assert_eq!((revoked.state, &revoked.certificate.serial), (State::Revoked, serial));
    }
    assert!(states(NOW).iter().all(|(_, state)| *state == State::Revoked));
    // Of several of a name, the one that is valid is meant.
    fs::remove_dir_all(dir.0.join("alice")).unwrap();
    let second = issue("alice");
    assert_eq!(store.find("alice", NOW).unwrap().certificate.serial, second);
    let list = Revoked::parse(&store.crl(), &fs::read_to_string(store.crl()).unwrap()).unwrap();
    assert!(list.contains(&alice) && list.contains(&bob) && !list.contains(&second));
}

#[test]
fn a_word_for_none_or_for_several_is_refused() {
    let dir = Dir::new();
    let store = dir.store();
    for out in ["a", "b"] {
        store.issue(&request(Kind::Client, "alice"), &dir.0.join(out), false, NOW).unwrap();
    }
    assert!(matches!(store.find("bob", NOW).unwrap_err().reason(), Reason::Unknown));
    let error = store.revoke("alice", NOW).unwrap_err();
    assert!(matches!(error.reason(), Reason::Ambiguous(serials) if serials.len() == 2), "{error}");
}

#[test]
fn a_store_is_opened_again_or_says_what_is_wrong() {
    let dir = Dir::new();
    let (ca, other) = (dir.0.join("ca"), Dir::new());
    assert!(matches!(Store::open(&ca, NOW).err().unwrap().reason(), Reason::NoAuthority));
    drop((dir.store(), other.store()));
    let store = Store::open(&ca, NOW).unwrap();
    store.issue(&request(Kind::Client, "alice"), &dir.0.join("out"), false, NOW).unwrap();
    drop(store);
    let certificate = Certificate::read(&dir.0.join("out/cert.pem")).unwrap();
    assert_eq!(certificate.issuer, "our authority");

    let refused = |now: i64| Store::open(&ca, now).err().unwrap();
    assert!(matches!(refused(NOW + 3650 * DAY).reason(), Reason::Expired));
    let key = ca.join("ca-key.pem");
    fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    assert!(matches!(refused(NOW).reason(), Reason::KeyIsShared));
    fs::copy(other.0.join("ca/ca-key.pem"), &key).unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(refused(NOW).reason(), Reason::ForeignKey));
    fs::write(&key, "no key").unwrap();
    let error = refused(NOW);
    assert!(error.to_string().contains("ca-key.pem: there is no private key"), "{error}");
    fs::write(&key, vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(refused(NOW).reason(), Reason::TooLarge));
    fs::write(ca.join("ca.pem"), fs::read(dir.0.join("out/cert.pem")).unwrap()).unwrap();
    fs::write(&key, fs::read(dir.0.join("out/key.pem")).unwrap()).unwrap();
    assert!(matches!(refused(NOW).reason(), Reason::NotAnAuthority));
}
