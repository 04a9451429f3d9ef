#![forbid(unsafe_code)]
//! [`RoutesFile`]: a snapshot of routes that another process replaces.

use std::error::Error;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::routes::{Snapshot, SnapshotError};

/// A file with a [`Snapshot`], as it was last read. It is looked at from time to time, and read if
/// it is another one. One that cannot be read leaves the routes as they are.
#[derive(Debug)]
pub struct RoutesFile {
    path: PathBuf,
    interval: Duration,
    checked: Option<Instant>,
    /// The file that was last read, whatever was in it. It is kept open, so that no other one gets
    /// its inode.
    seen: Option<(Seen, File)>,
    snapshot: Option<Snapshot>,
    problem: Option<RoutesFileError>,
}

impl RoutesFile {
    /// Bytes of a file at most.
    pub const SIZE_MAX: u64 = 256 << 20;

    /// Returns the file of a path, which has not been read. It is looked at once in
    /// `interval` at most.
    #[must_use]
    pub fn new(path: PathBuf, interval: Duration) -> Self {
        Self { path, interval, checked: None, seen: None, snapshot: None, problem: None }
    }

    /// Reads the file if it is another one than before. Returns what has changed; nothing where
    /// the last time was less than the interval ago.
    pub fn check(&mut self, now: Instant) -> RoutesChange {
        if self.checked.is_some_and(|checked| now.saturating_duration_since(checked) < self.interval) {
            return RoutesChange::None;
        }
        self.checked = Some(now);
        match self.read() {
            Ok(None) => RoutesChange::None,
            Ok(Some(snapshot)) => {
                self.snapshot = Some(snapshot);
                self.problem = None;
                RoutesChange::Read
            }
            Err(problem) => {
                // A file that is missing is missed each time.
                let is_known = self.seen.is_none() && self.problem.as_ref() == Some(&problem);
                self.problem = Some(problem);
                if is_known { RoutesChange::None } else { RoutesChange::Failed }
            }
        }
    }

    /// Returns the routes of the last file that could be read.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Returns why the file cannot be read now.
    #[must_use]
    pub fn problem(&self) -> Option<&RoutesFileError> {
        self.problem.as_ref()
    }

    /// Returns the routes of the file; `None` if it is the one that was read before.
    fn read(&mut self) -> Result<Option<Snapshot>, RoutesFileError> {
        let last = self.seen.take();
        let metadata = fs::metadata(&self.path)?;
        if last.as_ref().is_some_and(|(last, _)| *last == Seen::of(&metadata)) {
            self.seen = last;
            return Ok(None);
        }
        // A FIFO in its place would stop the host.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(RoutesFileError::NoFile);
        }
        if metadata.len() > Self::SIZE_MAX {
            return Err(RoutesFileError::TooLarge);
        }
        // As it was before it is read: one that is written in place meanwhile is read again.
        let (_, file) = self.seen.insert((Seen::of(&metadata), file));
        let mut bytes = Vec::new();
        file.take(Self::SIZE_MAX).read_to_end(&mut bytes)?;
        Snapshot::parse(bytes).map(Some).map_err(RoutesFileError::Snapshot)
    }
}

/// What [`RoutesFile::check`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutesChange {
    /// Nothing new.
    None,
    /// Other routes.
    Read,
    /// A file that cannot be read, or none: [`RoutesFile::problem`] says why. The routes are as
    /// before.
    Failed,
}

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Why the routes of a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutesFileError {
    /// A system call failed with this errno.
    System(i32),
    /// Something else than a file is there.
    NoFile,
    /// It has more than [`RoutesFile::SIZE_MAX`] bytes.
    TooLarge,
    /// It has no routes in it.
    Snapshot(SnapshotError),
}

impl From<io::Error> for RoutesFileError {
    fn from(error: io::Error) -> Self {
        Self::System(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for RoutesFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
            Self::NoFile => f.write_str("it is not a file"),
            Self::TooLarge => f.write_str("it is larger than 256 MiB"),
            Self::Snapshot(error) => error.fmt(f),
        }
    }
}

impl Error for RoutesFileError {}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant is a time")]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;
    use crate::routes::{HostPattern, Lookup, LookupOptions, PathPrefix, RouteKey, SnapshotRoute};

    const INTERVAL: Duration = Duration::from_millis(500);

    struct Bed {
        dir: PathBuf,
        file: RoutesFile,
        now: Instant,
    }

    impl Bed {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("dockline-routes-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let file = RoutesFile::new(dir.join("routes"), INTERVAL);
            Self { dir, file, now: Instant::now() }
        }

        fn path(&self) -> &Path {
            &self.file.path
        }

        /// Replaces the file, as a writer should.
        fn replace(&self, bytes: &[u8]) {
            let new = self.dir.join("new");
            fs::write(&new, bytes).unwrap();
            fs::rename(new, self.path()).unwrap();
        }

        fn check_after(&mut self, time: Duration) -> RoutesChange {
            self.now += time;
            self.file.check(self.now)
        }

        fn check(&mut self) -> RoutesChange {
            self.check_after(INTERVAL)
        }

        fn has(&self, name: &str) -> bool {
            let routes = self.file.snapshot();
            routes.is_some_and(|routes| matches!(routes.lookup(name.as_bytes(), b"/"), Lookup::Found { .. }))
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.dir).unwrap();
        }
    }

    fn snapshot(name: &str) -> Vec<u8> {
        let key = RouteKey { host: HostPattern::name(name).unwrap(), path: PathPrefix::root() };
        let options = LookupOptions::new([], true).unwrap();
        Snapshot::write(&options, 1, [SnapshotRoute { key, targets: vec![] }]).unwrap()
    }

    #[test]
    fn a_file_that_was_replaced_is_read_after_the_interval() {
        let mut bed = Bed::new("replaced");
        bed.replace(&snapshot("a"));
        assert_eq!(bed.check(), RoutesChange::Read);
        assert!(bed.has("a"));
        assert_eq!(bed.check(), RoutesChange::None);
        bed.replace(&snapshot("b"));
        assert_eq!(bed.check_after(INTERVAL - Duration::from_millis(1)), RoutesChange::None);
        assert!(bed.has("a"));
        assert_eq!(bed.check_after(Duration::from_millis(1)), RoutesChange::Read);
        assert!(bed.has("b") && !bed.has("a"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said_once_and_leaves_the_routes() {
        let mut bed = Bed::new("broken");
        let missing = RoutesFileError::System(libc::ENOENT);
        assert_eq!(bed.check(), RoutesChange::Failed);
        assert_eq!(bed.check(), RoutesChange::None);
        assert_eq!(bed.file.problem(), Some(&missing));
        assert!(bed.file.snapshot().is_none());

        bed.replace(&snapshot("a"));
        assert_eq!(bed.check(), RoutesChange::Read);
        assert_eq!(bed.file.problem(), None);

        for broken in [b"no snapshot".as_slice(), b"none either", &snapshot("b")[..80]] {
            bed.replace(broken);
            assert_eq!(bed.check(), RoutesChange::Failed);
            assert_eq!(bed.check(), RoutesChange::None);
            assert!(matches!(bed.file.problem(), Some(RoutesFileError::Snapshot(_))));
            assert!(bed.has("a"));
        }

        fs::rename(bed.path(), bed.dir.join("aside")).unwrap();
        assert_eq!(bed.check(), RoutesChange::Failed);
        assert_eq!(bed.file.problem(), Some(&missing));
        assert!(bed.has("a"));
        fs::write(bed.dir.join("aside"), snapshot("c")).unwrap();
        fs::rename(bed.dir.join("aside"), bed.path()).unwrap();
        assert_eq!(bed.check(), RoutesChange::Read);
        assert!(bed.has("c"));
    }

    /// As by a writer that is faster than the clock of the file system, and gets the inode of the
    /// file that it has removed.
    #[test]
    fn a_file_with_the_same_size_and_time_is_another_one() {
        let mut bed = Bed::new("same");
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        for name in ["a", "b", "c", "d"] {
            for _ in 0..2 {
                bed.replace(&snapshot(name));
                File::options().write(true).open(bed.path()).unwrap().set_times(time).unwrap();
            }
            assert_eq!(bed.check(), RoutesChange::Read, "{name}");
            assert!(bed.has(name));
        }
    }

    #[test]
    fn a_file_that_was_away_is_read_again() {
        let mut bed = Bed::new("away");
        bed.replace(&snapshot("a"));
        assert_eq!(bed.check(), RoutesChange::Read);
        fs::rename(bed.path(), bed.dir.join("aside")).unwrap();
        assert_eq!(bed.check(), RoutesChange::Failed);
        fs::rename(bed.dir.join("aside"), bed.path()).unwrap();
        assert_eq!(bed.check(), RoutesChange::Read);
        assert_eq!(bed.file.problem(), None);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let mut bed = Bed::new("fifo");
        fs::create_dir(bed.path()).unwrap();
        assert_eq!(bed.check(), RoutesChange::Failed);
        assert_eq!(bed.file.problem(), Some(&RoutesFileError::NoFile));
        assert_eq!(bed.check(), RoutesChange::None);
        fs::remove_dir(bed.path()).unwrap();

        let made = std::process::Command::new("mkfifo").arg(bed.path()).status().unwrap();
        assert!(made.success());
        assert_eq!(bed.check(), RoutesChange::None, "no file, as before");
        fs::remove_file(bed.path()).unwrap();

        let _listener = UnixListener::bind(bed.path()).unwrap();
        assert_eq!(bed.check(), RoutesChange::Failed);
        assert_eq!(bed.file.problem(), Some(&RoutesFileError::System(libc::ENXIO)));
    }

    #[test]
    fn a_file_has_256_mib_at_most() {
        let mut bed = Bed::new("large");
        let file = File::create(bed.path()).unwrap();
        for (size, problem) in [
            (RoutesFile::SIZE_MAX, RoutesFileError::Snapshot(SnapshotError::Magic)),
            (RoutesFile::SIZE_MAX + 1, RoutesFileError::TooLarge),
        ] {
            file.set_len(size).unwrap();
            assert_eq!(bed.check(), RoutesChange::Failed);
            assert_eq!(bed.file.problem(), Some(&problem));
        }
    }
}
