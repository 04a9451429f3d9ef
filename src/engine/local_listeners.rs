#![forbid(unsafe_code)]
//! [`LocalListeners`]: the sockets that the engines of one host listen on. A connection from one of
//! them to another would loop, or at best take a detour; it is refused before it is
//! made.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::sys::{self, Bound};

/// How long the result of whether an address belongs to this host is cached.
const MEMORY: Duration = Duration::from_secs(10);
/// Addresses in that cache.
const REMEMBERED: usize = 64;

/// The listening sockets of engines that are joined.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalListeners(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    places: RwLock<Vec<Place>>,
    /// Whether an address belongs to this host, and when that was checked.
    locals: Mutex<HashMap<IpAddr, (bool, Instant)>>,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Inet(Bound),
    /// Device and number of the file, independent of the path.
    File(u64, u64),
    Abstract(Box<[u8]>),
}

/// Keeps a socket in the list until it is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    local_listeners: LocalListeners,
    place: Option<Place>,
}

impl LocalListeners {
    /// Adds a listening socket for as long as the returned value lives.
    pub(super) fn add(&self, socket: BorrowedFd<'_>) -> Registered {
        // A socket without a name of its own is not found, which does no other harm.
        let place = place(socket).ok().flatten();
        if let Some(place) = &place {
            self.0.places.write().unwrap_or_else(PoisonError::into_inner).push(place.clone());
        }
        Registered { local_listeners: self.clone(), place }
    }

    /// Returns whether a connection to an address would reach one of the sockets.
    pub(super) fn has_inet(&self, target: SocketAddr, now: Instant) -> bool {
        let is_local = |ip| self.is_local(ip, now);
        self.any(|place| matches!(place, Place::Inet(bound) if bound.is_reached_by_with(target, is_local)))
    }

    /// Returns whether an address belongs to this host. Cached, because each connection asks if a
    /// published port has the number that it has in the container, as it often does.
    fn is_local(&self, ip: IpAddr, now: Instant) -> bool {
        let mut locals = self.0.locals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((is_local, asked)) = locals.get(&ip)
            && now.saturating_duration_since(*asked) < MEMORY
        {
            return *is_local;
        }
        if locals.len() >= REMEMBERED {
            locals.clear();
        }
        let is_local = sys::is_local(ip);
        locals.insert(ip, (is_local, now));
        is_local
    }

    /// Returns whether a connection to a path would reach one of the sockets. A path that begins
    /// with `@` is abstract.
    pub(super) fn has_unix(&self, path: &Path) -> bool {
        if !self.any(|place| !matches!(place, Place::Inet(_))) {
            return false;
        }
        let target = match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => Place::Abstract(name.into()),
            None => match fs::metadata(path) {
                Ok(found) => Place::File(found.dev(), found.ino()),
                Err(_) => return false,
            },
        };
        self.any(|place| *place == target)
    }

    fn any(&self, test: impl Fn(&Place) -> bool) -> bool {
        self.0.places.read().unwrap_or_else(PoisonError::into_inner).iter().any(test)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut all = self.local_listeners.0.places.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|place| Some(place) == self.place.as_ref()) {
            all.swap_remove(at);
        }
    }
}

fn place(socket: BorrowedFd<'_>) -> io::Result<Option<Place>> {
    if !sys::is_unix(socket)? {
        return Ok(Bound::of(socket)?.map(Place::Inet));
    }
    let name = UnixListener::from(socket.try_clone_to_owned()?).local_addr()?;
    Ok(match (name.as_pathname(), name.as_abstract_name()) {
        (Some(path), _) => {
            let found = fs::metadata(path)?;
            Some(Place::File(found.dev(), found.ino()))
        }
        (None, Some(name)) => Some(Place::Abstract(name.into())),
        (None, None) => None,
    })
}

/// Returns the error for a connection that would come back.
pub(super) fn refusal() -> io::Error {
    io::Error::other("it leads back to a listener here: connections would loop")
}
