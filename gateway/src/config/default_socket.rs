#![forbid(unsafe_code)]
//! Where `dockline serve` listens by default: on sockets that only its own user can connect to.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::address::{ListenAddress, SocketAccess};
use crate::problem::Problem;

/// The directory of root, and of a service whose unit creates it (`RuntimeDirectory=dockline`).
const SYSTEM_DIR: &str = "/run/dockline";

/// Returns the address of the default socket of this name.
pub(super) fn address(name: &str) -> Result<ListenAddress, Problem> {
    let user = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(SYSTEM_DIR).ok().map(|dir| dir.uid());
    directory(user, owner, env::var_os("XDG_RUNTIME_DIR"))
        .map(|dir| ListenAddress::Unix { path: dir.join(name), access: SocketAccess::default() })
        .ok_or_else(|| {
            Problem::new(
                "no directory for the default socket: /run/dockline does not belong to this user, and XDG_RUNTIME_DIR names none",
            )
            .hint("give an address, such as --listen unix:///home/me/docker.sock")
        })
}

/// Chooses the directory for a user, given the owner of the system's directory, if it exists, and
/// `XDG_RUNTIME_DIR`.
fn directory(user: u32, owner: Option<u32>, own: Option<OsString>) -> Option<PathBuf> {
    if user == 0 || owner == Some(user) {
        return Some(SYSTEM_DIR.into());
    }
    // A relative path is invalid (XDG Base Directory Specification).
    let own = PathBuf::from(own?);
    own.is_absolute().then(|| Path::new(&own).join("dockline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_user() {
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
            assert_eq!(directory(user, owner, own).as_deref(), wanted.map(Path::new), "{user} {owner:?}");
        }
    }
}
