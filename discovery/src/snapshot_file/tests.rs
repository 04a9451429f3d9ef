use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;

use dockline::routes::{HostPattern, Lookup};

use super::*;
use crate::record::tests::record;
use crate::record::{Node, Record, RecordState};
use crate::view::Readers;

const LONG: Duration = Duration::from_secs(20);

struct Directory(PathBuf);

fn directory() -> Directory {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("dockline-snapshot-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    Directory(path)
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(path: PathBuf, sources: &[&str]) -> SnapshotFileConfig {
    SnapshotFileConfig {
        path,
        lookup: LookupOptions::new(["example.com"], false).unwrap(),
        view: View { node: "one".parse().unwrap(), readers: Readers::Node(None) },
        sources: sources.iter().map(|&source| source.into()).collect(),
    }
}

fn start(path: &Path, sources: &[&str]) -> SnapshotFile {
    SnapshotFile::start(config(path.to_owned(), sources), |error| panic!("{error}")).unwrap()
}

fn apply(file: &SnapshotFile, source: &str, change: Change) {
    file.apply(Update { source: source.into(), change });
}

fn sync(records: Vec<Record>) -> Change {
    let nodes = vec![Node { name: "one".parse().unwrap(), gateway: None }];
    Change::Sync { nodes, records, unrouted: vec![] }
}

/// Returns the targets for `web.example.com/api`, each with whether it is live; `None`: not known.
fn look(path: &Path) -> Option<Vec<(String, bool)>> {
    let snapshot = Snapshot::parse(fs::read(path).ok()?).unwrap();
    match snapshot.lookup(b"web.example.com", b"/api") {
        Lookup::Found { value, .. } => {
            Some(value.targets().map(|target| (target.address.to_owned(), target.live)).collect())
        }
        _ => None,
    }
}

#[track_caller]
fn until(what: &str, mut check: impl FnMut() -> bool) {
    let end = now() + LONG;
    while !check() {
        assert!(now() < end, "{what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn live() -> Option<Vec<(String, bool)>> {
    Some(vec![("172.17.0.2:80".to_owned(), true)])
}

#[test]
fn the_file_follows_the_routes() {
    let dir = directory();
    let path = dir.0.join("routes");
    let file = start(&path, &["docker"]);
    let mut web = record("abc");
    apply(&file, "docker", sync(vec![web.clone()]));
    until("a live route", || look(&path) == live());
    web.state = RecordState::Down("unhealthy".into());
    let owner = web.id.clone();
    apply(&file, "docker", Change::Owner { owner: owner.clone(), records: vec![web], unrouted: None });
    until("a route that is down", || look(&path) == Some(vec![("172.17.0.2:80".to_owned(), false)]));
    apply(&file, "docker", Change::Owner { owner, records: vec![], unrouted: None });
    until("a known route without a target", || look(&path) == Some(vec![]));
    assert!(!dir.0.join("routes.new").exists());
}

#[test]
fn a_prefix_is_stripped_on_the_way_to_the_container_itself_only() {
    let dir = directory();
    let path = dir.0.join("routes");
    let file = start(&path, &["docker"]);
    let here = record("abc");
    let mut there = record("def");
    there.id.node = "two".parse().unwrap();
    there.key.host = HostPattern::name("far").unwrap();
    let gateway = Some(([192, 0, 2, 2], 80).into());
    let nodes = [("one", None), ("two", gateway)]
        .map(|(name, gateway)| Node { name: name.parse().unwrap(), gateway });
    assert!(here.strip && there.strip);
    apply(
        &file,
        "docker",
        Change::Sync { nodes: nodes.into(), records: vec![here, there], unrouted: vec![] },
    );
    until("both", || look(&path) == live());
    let snapshot = Snapshot::parse(fs::read(&path).unwrap()).unwrap();
    let first = |host: &str| match snapshot.lookup(host.as_bytes(), b"/api") {
        Lookup::Found { value, .. } => {
            value.targets().next().map(|target| (target.address.to_owned(), target.strip))
        }
        _ => None,
    };
    assert_eq!(first("web.example.com"), Some(("172.17.0.2:80".to_owned(), true)));
    assert_eq!(first("far.example.com"), Some(("192.0.2.2:80".to_owned(), false)));
}

#[test]
fn the_file_of_the_program_before_stays_until_every_source_has_spoken() {
    let dir = directory();
    let path = dir.0.join("routes");
    fs::write(&path, Snapshot::write(&config(path.clone(), &[]).lookup, 7, []).unwrap()).unwrap();
    let file = start(&path, &["a", "b"]);
    apply(&file, "a", sync(vec![record("abc")]));
    apply(&file, "b", Change::Stale("away".into()));
    thread::park_timeout(PAUSE * 3);
    assert_eq!(Snapshot::parse(fs::read(&path).unwrap()).unwrap().generation(), 7);
    let nodes = vec![Node { name: "two".parse().unwrap(), gateway: None }];
    apply(&file, "b", Change::Sync { nodes, records: vec![], unrouted: vec![] });
    until("both", || look(&path) == live());
    assert_eq!(Snapshot::parse(fs::read(&path).unwrap()).unwrap().generation(), 8);
}

#[test]
fn a_link_in_the_place_of_the_file_is_not_written_through() {
    let dir = directory();
    let path = dir.0.join("routes");
    let victim = dir.0.join("victim");
    fs::write(&victim, "precious").unwrap();
    for link in ["routes", "routes.new"] {
        std::os::unix::fs::symlink(&victim, dir.0.join(link)).unwrap();
    }
    let file = start(&path, &["docker"]);
    apply(&file, "docker", sync(vec![record("abc")]));
    until("a live route", || fs::symlink_metadata(&path).unwrap().is_file() && look(&path) == live());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_path_without_a_directory_is_an_error_at_the_start_and_later_told() {
    let dir = directory();
    let missing = config(dir.0.join("none/routes"), &[]);
    assert!(SnapshotFile::start(missing, |_| {}).is_err());
    let inner = dir.0.join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("routes");
    let (sender, errors) = sync_channel(1);
    let told = move |error: &io::Error| {
        let _ = sender.try_send(error.kind());
    };
    let file = SnapshotFile::start(config(path.clone(), &["docker"]), told).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    apply(&file, "docker", sync(vec![record("abc")]));
    assert_eq!(errors.recv_timeout(LONG), Ok(io::ErrorKind::NotFound));
    fs::create_dir(&inner).unwrap();
    until("another attempt", || look(&path) == live());
}
