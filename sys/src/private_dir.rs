//! Private directories for local sockets: only this user can reach a socket in one, or be the first
//! to create it.
//!
//! The mode of the socket and the credentials of the peer are only a second line of defence: an
//! abstract name can be taken by anybody in the network namespace, including root of a container on
//! the host's network, and so can a path in `/tmp`.

use std::env;
use std::error;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::check;
use crate::process::effective_uid;

/// Write access for the group or others.
const SHARED: u32 = 0o022;
/// In a directory with this bit only the owner of a file may rename or remove it.
const STICKY: u32 = 0o1000;

/// Why a private directory cannot be used.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    Io(io::Error),
    /// It could be used by others, or is not a directory.
    Refused {
        /// The directory, or one above it.
        path: PathBuf,
        /// What is wrong with it.
        reason: Reason,
    },
}

/// What is wrong with a directory. Displayed as a predicate, to follow its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The path has no last component.
    NotADirectoryPath,
    /// Something else is there, possibly a symbolic link.
    NotADirectory,
    /// The owner is neither this user nor, above the directory itself, root.
    Foreign,
    /// Others may write to it.
    Writable,
    /// Others may look into it.
    Accessible,
}

impl Error {
    /// Returns whether the directory does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == ErrorKind::NotFound)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotADirectoryPath => "is not the path of a directory",
            Self::NotADirectory => "is not a directory",
            Self::Foreign => "belongs to another user",
            Self::Writable => "is writable by other users (chmod go-w)",
            Self::Accessible => "is accessible to other users (chmod 0700)",
        })
    }
}

/// The path is displayed with control and format characters escaped.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused { path, reason } => {
                write!(f, "{} {reason}", path.to_string_lossy().escape_debug())
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Refused { .. } => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            refused @ Error::Refused { .. } => Self::new(ErrorKind::PermissionDenied, refused),
        }
    }
}

/// Returns the runtime directory of this user's programs: `$XDG_RUNTIME_DIR/dockline`, or
/// `/run/dockline` for root if that variable is not set. `None` for any other user without it. The
/// directory need not exist.
#[must_use]
pub fn runtime_dir() -> Option<PathBuf> {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => Some(Path::new(&dir).join("dockline")),
        _ if effective_uid() == 0 => Some("/run/dockline".into()),
        _ => None,
    }
}

/// Creates a directory of mode 0700, and missing ones above it with mode 0755 at most, then does as
/// [`verify`].
///
/// # Errors
/// Those of mkdir(2) and of [`verify`].
pub fn create(path: &Path) -> Result<PathBuf, Error> {
    make(path)?;
    verify(path)
}

/// As [`create`], for a directory that the user has chosen: it does as [`verify_own`].
///
/// # Errors
/// Those of mkdir(2) and of [`verify_own`].
pub fn create_own(path: &Path) -> Result<PathBuf, Error> {
    make(path)?;
    verify_own(path)
}

/// Checks that only this user can access a directory and that nobody else can replace it: it and
/// each directory above it belong to this user or to root, nobody else may write above it, and its
/// mode is 0700 or narrower. Returns its path without symbolic links, so that it names the same
/// directory each time.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), or what is wrong with the directory.
pub fn verify(path: &Path) -> Result<PathBuf, Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused(path, Reason::NotADirectoryPath));
    };
    let path = parent.canonicalize()?.join(name);
    verify_above(&path)?;
    if verify_owner(&path)?.mode() & 0o077 != 0 {
        return Err(refused(&path, Reason::Accessible));
    }
    Ok(path)
}

/// As [`verify`], for a directory that the user has chosen: others may read it, and the path may be
/// a symbolic link.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), or what is wrong with the directory.
pub fn verify_own(path: &Path) -> Result<PathBuf, Error> {
    let path = path.canonicalize()?;
    verify_above(&path)?;
    if verify_owner(&path)?.mode() & SHARED != 0 {
        return Err(refused(&path, Reason::Writable));
    }
    Ok(path)
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Checks that nobody else can replace what is at a path without symbolic links.
fn verify_above(path: &Path) -> Result<(), Error> {
    // From the root down: by the time a directory is checked, nobody can replace those above it.
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    // In a user namespace the root directory may belong to nobody.
    let root = fs::metadata("/")?.uid();
    for dir in above.iter().rev() {
        let found = fs::symlink_metadata(dir)?;
        if ![0, root, effective_uid()].contains(&found.uid()) {
            return Err(refused(dir, Reason::Foreign));
        }
        if found.mode() & SHARED != 0 && found.mode() & STICKY == 0 {
            return Err(refused(dir, Reason::Writable));
        }
    }
    Ok(())
}

fn verify_owner(path: &Path) -> Result<fs::Metadata, Error> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(refused(path, Reason::NotADirectory));
    }
    if found.uid() != effective_uid() {
        return Err(refused(path, Reason::Foreign));
    }
    Ok(found)
}

/// Waits until no other process has locked the directory, and locks it until the returned file is
/// dropped. Only for directories that passed [`verify`]: everybody who can read a directory can
/// lock it.
///
/// # Errors
/// Those of open(2) and flock(2).
pub fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    // SAFETY: flock touches no memory of ours.
    check(|| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) })?;
    Ok(file)
}

fn refused(path: &Path, reason: Reason) -> Error {
    Error::Refused { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// A directory of the test, removed at its end.
    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("dockline-private-{}-{name}", std::process::id()));
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns which directory is refused, and why.
    fn refused(result: Result<PathBuf, Error>) -> (PathBuf, Reason) {
        match result.unwrap_err() {
            Error::Refused { path, reason } => (path, reason),
            Error::Io(error) => panic!("{error}"),
        }
    }

    fn refusal(path: &Path) -> (PathBuf, Reason) {
        let made = refused(create(path));
        assert_eq!(made, refused(verify(path)));
        made
    }

    #[test]
    fn a_new_directory_is_private_and_what_is_above_it_is_not_writable() {
        let dir = TempDir::new("new");
        let path = dir.0.join("above/private");
        assert!(verify(&path).unwrap_err().is_not_found());
        assert_eq!(create(&path).unwrap(), path);
        assert_eq!((mode(&path), mode(&dir.0.join("above")) & SHARED), (0o700, 0));
        // It stays as it is.
        assert_eq!(create(&path).unwrap(), path);
        assert_eq!(verify(&path).unwrap(), path);
        set_mode(&path, 0o500);
        assert_eq!(verify(&path).unwrap(), path);
    }

    #[test]
    fn a_directory_that_others_can_access_is_refused() {
        let dir = TempDir::new("reach");
        let path = dir.0.join("private");
        create(&path).unwrap();
        for wide in [0o710, 0o701, 0o755, 0o770, 0o777, 0o1777] {
            set_mode(&path, wide);
            assert_eq!(refusal(&path), (path.clone(), Reason::Accessible), "{wide:o}");
        }
    }

    #[test]
    fn a_directory_that_others_can_replace_is_refused() {
        let dir = TempDir::new("replace");
        let path = dir.0.join("above/private");
        create(&path).unwrap();
        for (wide, fine) in [(0o775, false), (0o757, false), (0o777, false), (0o1777, true), (0o755, true)] {
            set_mode(&dir.0.join("above"), wide);
            assert_eq!(verify(&path).is_ok(), fine, "{wide:o}");
        }
        set_mode(&dir.0.join("above"), 0o777);
        assert_eq!(refusal(&path), (dir.0.join("above"), Reason::Writable));
    }

    #[test]
    fn a_link_is_not_a_directory() {
        let dir = TempDir::new("link");
        create(&dir.0.join("real/private")).unwrap();
        symlink(dir.0.join("real/private"), dir.0.join("link")).unwrap();
        assert_eq!(refusal(&dir.0.join("link")).1, Reason::NotADirectory);
        // One above it is followed once.
        symlink(dir.0.join("real"), dir.0.join("above")).unwrap();
        assert_eq!(verify(&dir.0.join("above/private")).unwrap(), dir.0.join("real/private"));
        fs::write(dir.0.join("file"), "").unwrap();
        assert_eq!(refusal(&dir.0.join("file")).1, Reason::NotADirectory);
    }

    #[test]
    fn a_directory_that_the_user_has_chosen_may_be_readable() {
        let dir = TempDir::new("own");
        let path = dir.0.join("above/own");
        assert_eq!(create_own(&path).unwrap(), path);
        assert_eq!(mode(&path), 0o700);
        for (wide, fine) in [(0o755, true), (0o711, true), (0o775, false), (0o757, false), (0o1777, false)] {
            set_mode(&path, wide);
            assert_eq!(verify_own(&path).is_ok(), fine, "{wide:o}");
        }
        set_mode(&path, 0o755);
        symlink(&path, dir.0.join("link")).unwrap();
        assert_eq!(create_own(&dir.0.join("link")).unwrap(), path);
        set_mode(&dir.0.join("above"), 0o777);
        assert_eq!(refused(verify_own(&path)), (dir.0.join("above"), Reason::Writable));
        if effective_uid() == 0 {
            set_mode(&dir.0.join("above"), 0o755);
            chown(&path, Some(12345), None).unwrap();
            assert_eq!(refused(verify_own(&path)), (path, Reason::Foreign));
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        if effective_uid() != 0 {
            eprintln!("skipped: only root can create a directory of another user");
            return;
        }
        let dir = TempDir::new("foreign");
        let path = dir.0.join("above/private");
        create(&path).unwrap();
        chown(&path, Some(12345), None).unwrap();
        assert_eq!(refusal(&path), (path.clone(), Reason::Foreign));
        chown(&path, Some(0), None).unwrap();
        assert!(verify(&path).is_ok());
        chown(dir.0.join("above"), Some(12345), None).unwrap();
        assert_eq!(refusal(&path), (dir.0.join("above"), Reason::Foreign));
    }
}
