#![forbid(unsafe_code)]
//! Where `dockline serve` listens when nobody says where: on sockets that only its own user can connect to.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Problem;
use crate::address::{ListenAddress, SocketAccess};

/// Root's, and that of a service whose unit makes it (`RuntimeDirectory=dockline`).
const SYSTEM_FOLDER: &str = "/run/dockline";

/// Returns the address of a socket of this name.
pub(super) fn address(name: &str) -> Result<ListenAddress, Problem> {
    let user = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(SYSTEM_FOLDER).ok().map(|folder| folder.uid());
    folder(user, owner, env::var_os("XDG_RUNTIME_DIR"))
        .map(|folder| ListenAddress::Unix { path: folder.join(name), access: SocketAccess::default() })
        .ok_or_else(|| {
            Problem::new(
                "no --listen",
                "there is no folder for a socket of this user: neither /run/dockline nor $XDG_RUNTIME_DIR is its own; \
                 say where to listen, as in --listen unix:///home/me/docker.sock",
            )
        })
}

/// Chooses the folder for a user, by the owner of the system's folder, if there is one, and the user's own.
fn folder(user: u32, owner: Option<u32>, own: Option<OsString>) -> Option<PathBuf> {
    if user == 0 || owner == Some(user) {
        return Some(SYSTEM_FOLDER.into());
    }
    // A relative one is not valid (XDG Base Directory Specification).
    let own = PathBuf::from(own?);
    own.is_absolute().then(|| Path::new(&own).join("dockline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_user() {
        let own = || Some(OsString::from("/run/user/7"));
        for (user, owner, own, wanted) in [
            (0, None, None, Some("/run/dockline")),
            (0, Some(7), own(), Some("/run/dockline")),
            (7, Some(7), None, Some("/run/dockline")),
            (7, Some(7), own(), Some("/run/dockline")),
            (7, Some(0), own(), Some("/run/user/7/dockline")),
            (7, None, own(), Some("/run/user/7/dockline")),
            (7, None, Some("run".into()), None),
            (7, None, Some("".into()), None),
            (7, Some(0), None, None),
        ] {
            assert_eq!(folder(user, owner, own).as_deref(), wanted.map(Path::new), "{user} {owner:?}");
        }
    }
}
