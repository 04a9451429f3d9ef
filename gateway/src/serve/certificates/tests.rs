#![forbid(unsafe_code)]

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A directory that is removed with its content.
struct TempDir(PathBuf);

impl TempDir {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dockline-certificates-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As tools do it: a new file takes the place of the old one.
        let new = self.0.join(".new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn issue(&self, cert: &str, key: &str) {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        self.write(cert, &made.cert.pem());
        self.write(key, &made.signing_key.serialize_pem());
    }

    fn open(&self) -> Directory {
        Directory::new(AbsolutePath::new(&self.0).unwrap())
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads a directory. Returns whether it has changed, and what is wrong.
fn read(directory: &mut Directory) -> (bool, Vec<String>) {
    let (changed, problems) = directory.read();
    (changed, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn pairs_are_found_by_their_names() {
    let dir = TempDir::new("names");
    for name in [
        "a.crt",
        "a.key",
        "b.pem",
        "b-key.pem",
        "c.pem",
        "c.key",
        "d.test/fullchain.pem",
        "d.test/privkey.pem",
        "e.example.test.crt",
        "e.example.test.key",
        "lonely.pem",
        "half/fullchain.pem",
        "README",
        "a.chain.txt",
        "other/cert.pem",
        "..data/fullchain.pem",
        ".hidden.crt",
    ] {
        dir.write(name, "");
    }
    symlink("a.crt", dir.0.join("link.crt")).unwrap();
    symlink("missing", dir.0.join("dangling.crt")).unwrap();
    let mut found: Vec<_> = find(&dir.0)
        .unwrap()
        .into_iter()
        .map(|pair| {
            let within = |path: &Path| path.strip_prefix(&dir.0).unwrap().to_str().unwrap().to_owned();
            (pair.name, within(&pair.cert), pair.key.map_or("-".to_owned(), |key| within(&key)))
        })
        .collect();
    found.sort();
    let wanted = [
        ("a", "a.crt", "a.key"),
        ("b", "b.pem", "b-key.pem"),
        ("c", "c.pem", "c.key"),
        ("d.test", "d.test/fullchain.pem", "d.test/privkey.pem"),
        ("e.example.test", "e.example.test.crt", "e.example.test.key"),
        ("half", "half/fullchain.pem", "-"),
        ("link", "link.crt", "-"),
        ("lonely", "lonely.pem", "-"),
    ];
    assert_eq!(found, wanted.map(|(name, cert, key)| (name.to_owned(), cert.to_owned(), key.to_owned())));
}

#[test]
fn only_what_has_changed_is_read_again() {
    let dir = TempDir::new("changes");
    dir.issue("a.crt", "a.key");
    let mut directory = dir.open();
    assert_eq!(read(&mut directory), (true, vec![]));
    assert_eq!(read(&mut directory), (false, vec![]));
    let first = directory.credentials();
    dir.issue("a.crt", "a.key");
    assert_eq!(read(&mut directory), (true, vec![]));
    assert_ne!(directory.credentials(), first);
    dir.issue("b/fullchain.pem", "b/privkey.pem");
    assert_eq!(read(&mut directory), (true, vec![]));
    assert_eq!(directory.credentials().len(), 2);
    fs::remove_file(dir.0.join("a.crt")).unwrap();
    assert_eq!(read(&mut directory), (true, vec![]));
    assert_eq!(directory.credentials().len(), 1);
}

#[test]
fn a_broken_pair_is_reported_once_and_the_old_one_stays() {
    let dir = TempDir::new("broken");
    dir.issue("a.crt", "a.key");
    dir.issue("b.crt", "b.key");
    let mut directory = dir.open();
    assert_eq!(read(&mut directory), (true, vec![]));
    let good = directory.credentials();
    let expect = |directory: &mut Directory, words: &str| {
        let (changed, problems) = read(directory);
        assert!(!changed && problems.len() == 1 && problems[0].contains(words), "{words}: {problems:?}");
        assert_eq!(read(directory), (false, vec![]), "{words}");
        assert_eq!(directory.credentials(), good, "{words}");
    };
    // Half of a renewal.
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    dir.write("a.crt", &made.cert.pem());
    expect(&mut directory, "does not belong to the certificate");
    dir.write("a.crt", "rubbish");
    expect(&mut directory, "no certificate");
    fs::remove_file(dir.0.join("a.key")).unwrap();
    expect(&mut directory, "has no private key beside it");
    dir.write("a.key", &made.signing_key.serialize_pem());
    fs::set_permissions(dir.0.join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    expect(&mut directory, "chmod 600");
    // The other half.
    dir.write("a.key", &made.signing_key.serialize_pem());
    dir.write("a.crt", &made.cert.pem());
    assert_eq!(read(&mut directory), (true, vec![]));
    assert_ne!(directory.credentials(), good);
    // A new one that is broken is left out.
    dir.write("c.crt", "rubbish");
    dir.write("c.key", "rubbish");
    assert!(!read(&mut directory).0);
    assert_eq!(directory.credentials().len(), 2);
}

#[test]
fn a_directory_that_cannot_be_read_changes_nothing() {
    let dir = TempDir::new("unreadable");
    dir.issue("a.crt", "a.key");
    let mut directory = dir.open();
    assert_eq!(read(&mut directory), (true, vec![]));
    let aside = dir.0.with_extension("aside");
    fs::rename(&dir.0, &aside).unwrap();
    let (changed, problems) = read(&mut directory);
    assert!(!changed && problems[0].contains("cannot be read"), "{problems:?}");
    assert_eq!(read(&mut directory), (false, vec![]));
    assert_eq!(directory.credentials().len(), 1);
    fs::rename(&aside, &dir.0).unwrap();
    assert_eq!(read(&mut directory), (false, vec![]));
}

#[test]
fn the_default_comes_first() {
    let dir = TempDir::new("default");
    for name in ["a", "default", "z"] {
        dir.issue(&format!("{name}.crt"), &format!("{name}.key"));
    }
    let mut directory = dir.open();
    read(&mut directory);
    let wanted = ["default", "a", "z"].map(|name| {
        let path = |extension: &str| dir.0.join(format!("{name}.{extension}"));
        Credentials::read(path("crt"), path("key")).unwrap()
    });
    assert_eq!(directory.credentials(), wanted);
}

#[test]
fn a_directory_without_certificates_is_refused() {
    let dir = TempDir::new("empty");
    let open = || {
        let path = AbsolutePath::new(&dir.0).unwrap();
        WatchedTls::new(ServerTlsConfig::with(Vec::new()), path).unwrap_err().to_string()
    };
    assert!(open().contains("there is no certificate with its key in this directory"), "{}", open());
    dir.write("a.crt", "rubbish");
    assert!(open().contains("has no private key beside it"), "{}", open());
}
