#![forbid(unsafe_code)]
//! Folders for local sockets: who can reach a socket in a private folder, or put one there first, is this user.
//!
//! Permissions of the sockets themselves, and the peer's credentials, come second: an abstract name can be taken by
//! anybody in the network namespace, root of a container on the host's network included; so can a path in `/tmp`.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use dockline::process;
use dockline::untrusted::Untrusted;
use rustix::fs::FlockOperation;

/// Write access for the group or others.
const SHARED: u32 = 0o022;
/// In a folder with this bit nobody may move or remove what is somebody else's.
const STICKY: u32 = 0o1000;

const WRITABLE: &str = "can be changed by other users (chmod go-w)";

/// Where this user's running programs meet: `$XDG_RUNTIME_DIR/dockline`, or for root without one `/run/dockline`. It need
/// not exist.
///
/// # Errors
/// For another user without `XDG_RUNTIME_DIR`, in words for that user.
pub fn runtime_dir() -> Result<PathBuf, &'static str> {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => Ok(Path::new(&dir).join("dockline")),
        _ if process::effective_uid() == 0 => Ok("/run/dockline".into()),
        _ => Err("there is no XDG_RUNTIME_DIR"),
    }
}

/// Makes a folder of mode 0700, and what is missing above it with mode 0755, whatever the umask; answers as
/// [`verify`] does.
///
/// # Errors
/// What mkdir(2) says, and those of [`verify`].
pub fn create(path: &Path) -> io::Result<PathBuf> {
    make(path)?;
    verify(path)
}

/// The same for a folder that the user has chosen; answers as [`verify_own`] does.
///
/// # Errors
/// What mkdir(2) says, and those of [`verify_own`].
pub fn create_own(path: &Path) -> io::Result<PathBuf> {
    make(path)?;
    verify_own(path)
}

/// The path of a folder that only this user can reach into, and nobody else can replace: it and each folder above it
/// belongs to this user or to root, nobody else may write above it, and its mode is 0700 or less. No link is left in the
/// answer, so that it means the same folder each time.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), or what is wrong with the folder, in words for its user.
pub fn verify(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused(path, "is not the path of a folder"));
    };
    let path = parent.canonicalize()?.join(name);
    verify_above(&path)?;
    if verify_owner(&path)?.mode() & 0o077 != 0 {
        return Err(refused(&path, "can be reached into by other users (chmod 0700)"));
    }
    Ok(path)
}

/// The path of a folder that only this user can write into: others may look into it, and it may be named by a link.
/// Otherwise as [`verify`].
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound), or what is wrong with the folder, in words for its user.
pub fn verify_own(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    verify_above(&path)?;
    if verify_owner(&path)?.mode() & SHARED != 0 {
        return Err(refused(&path, WRITABLE));
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

/// Sees that nobody else can put something in the place of what is at a path without links.
fn verify_above(path: &Path) -> io::Result<()> {
    // From the root down: what is above cannot be changed any more by the time that one below is looked at.
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    // In a user namespace the root may be that of nobody.
    let root = fs::metadata("/")?.uid();
    for folder in above.iter().rev() {
        let found = fs::symlink_metadata(folder)?;
        if ![0, root, process::effective_uid()].contains(&found.uid()) {
            return Err(refused(folder, "belongs to another user"));
        }
        if found.mode() & SHARED != 0 && found.mode() & STICKY == 0 {
            return Err(refused(folder, WRITABLE));
        }
    }
    Ok(())
}

fn verify_owner(path: &Path) -> io::Result<fs::Metadata> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(refused(path, "is no folder"));
    }
    if found.uid() != process::effective_uid() {
        return Err(refused(path, "belongs to another user"));
    }
    Ok(found)
}

/// Waits until no other process has the folder locked, and locks it until the answer is dropped. Only for folders that
/// passed [`verify`]: anybody who can read a folder can lock it.
///
/// # Errors
/// What open(2) and flock(2) say.
pub fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
    Ok(file)
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, format!("{} {why}", Untrusted::path(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// A folder of this test's own, removed at the end.
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

    fn refusal(path: &Path) -> String {
        let (made, verified) = (create(path), verify(path));
        assert_eq!(made.as_ref().unwrap_err().to_string(), verified.unwrap_err().to_string());
        made.unwrap_err().to_string()
    }

    #[test]
    fn a_new_folder_is_private_and_what_is_above_it_is_not_writable() {
        let dir = TempDir::new("new");
        let path = dir.0.join("above/private");
        assert_eq!(verify(&path).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(create(&path).unwrap(), path);
        assert_eq!((mode(&path), mode(&dir.0.join("above")) & SHARED), (0o700, 0));
        // It stays as it is.
        assert_eq!(create(&path).unwrap(), path);
        assert_eq!(verify(&path).unwrap(), path);
        set_mode(&path, 0o500);
        assert_eq!(verify(&path).unwrap(), path);
    }

    #[test]
    fn a_folder_that_others_reach_is_refused() {
        let dir = TempDir::new("reach");
        let path = dir.0.join("private");
        create(&path).unwrap();
        for wide in [0o710, 0o701, 0o755, 0o770, 0o777, 0o1777] {
            set_mode(&path, wide);
            assert!(refusal(&path).ends_with("can be reached into by other users (chmod 0700)"), "{wide:o}");
        }
    }

    #[test]
    fn a_folder_that_others_can_replace_is_refused() {
        let dir = TempDir::new("replace");
        let path = dir.0.join("above/private");
        create(&path).unwrap();
        for (wide, fine) in [(0o775, false), (0o757, false), (0o777, false), (0o1777, true), (0o755, true)] {
            set_mode(&dir.0.join("above"), wide);
            assert_eq!(verify(&path).is_ok(), fine, "{wide:o}");
        }
        set_mode(&dir.0.join("above"), 0o777);
        assert!(refusal(&path).ends_with("can be changed by other users (chmod go-w)"));
    }

    #[test]
    fn a_link_is_not_a_folder() {
        let dir = TempDir::new("link");
        create(&dir.0.join("real/private")).unwrap();
        symlink(dir.0.join("real/private"), dir.0.join("link")).unwrap();
        assert!(refusal(&dir.0.join("link")).ends_with("is no folder"));
        // One above it is followed once.
        symlink(dir.0.join("real"), dir.0.join("above")).unwrap();
        assert_eq!(verify(&dir.0.join("above/private")).unwrap(), dir.0.join("real/private"));
        fs::write(dir.0.join("file"), "").unwrap();
        assert!(refusal(&dir.0.join("file")).ends_with("is no folder"));
    }

    #[test]
    fn a_folder_that_the_user_has_chosen_may_be_looked_into() {
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
        assert!(
            verify_own(&path)
                .unwrap_err()
                .to_string()
                .ends_with("above can be changed by other users (chmod go-w)")
        );
        if process::effective_uid() == 0 {
            set_mode(&dir.0.join("above"), 0o755);
            chown(&path, Some(12345), None).unwrap();
            assert!(verify_own(&path).unwrap_err().to_string().ends_with("own belongs to another user"));
        }
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        if process::effective_uid() != 0 {
            eprintln!("skipped: only root can make a folder of somebody else");
            return;
        }
        let dir = TempDir::new("foreign");
        let path = dir.0.join("above/private");
        create(&path).unwrap();
        chown(&path, Some(12345), None).unwrap();
        assert!(refusal(&path).ends_with("private belongs to another user"));
        chown(&path, Some(0), None).unwrap();
        assert!(verify(&path).is_ok());
        chown(dir.0.join("above"), Some(12345), None).unwrap();
        assert!(refusal(&path).ends_with("above belongs to another user"));
    }
}
