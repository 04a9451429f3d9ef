#![forbid(unsafe_code)]
//! [`SnapshotFile`]: the routes in a file, which nginx reads. docs/ROUTES.md has the format.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dockline::routes::{LookupOptions, Snapshot, SnapshotRoute, SnapshotTarget};

use crate::directory::{Directory, DirectoryOptions, RouteState, Trust};
use crate::now;
use crate::update::{Change, Source, Update};
use crate::view::{View, Way};

/// The shortest time from one write to the next: changes in it are written together.
const PAUSE: Duration = Duration::from_millis(100);

/// The wait before another attempt, if the file cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// The longest wait for the first account of each source. Until then the file of the program before
/// is better than one without its routes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is written.
#[derive(Clone, Debug)]
pub struct SnapshotFileConfig {
    /// Its path. The file beside it whose name ends in `.new` is replaced on the way.
    pub path: PathBuf,
    /// How routes are looked up.
    pub lookup: LookupOptions,
    /// For whom.
    pub view: View,
    /// The daemons that are watched.
    pub sources: Vec<Source>,
}

/// Writes the file whenever a route changes, on a thread of its own, which ends when this is
/// dropped. The file stays.
#[derive(Debug)]
pub struct SnapshotFile {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    directory: Directory,
    /// The sources that have not said yet what they have.
    missing: BTreeSet<Source>,
    is_changed: bool,
    is_stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotFile {
    /// Starts the thread. `failed` is told whenever the file cannot be written; it is tried again.
    ///
    /// # Errors
    /// If there cannot be a thread, or no file at the path.
    pub fn start(
        config: SnapshotFileConfig,
        mut failed: impl FnMut(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let SnapshotFileConfig { path, lookup, view, sources } = config;
        let temporary = temporary_of(&path)?;
        // Before anything else is started.
        create(&temporary)?;
        let trust: HashMap<Source, Trust> =
            sources.iter().map(|source| (source.clone(), Trust::Daemon)).collect();
        let state = State {
            directory: Directory::new(DirectoryOptions { trust, ..DirectoryOptions::default() }),
            missing: sources.into_iter().collect(),
            is_changed: true,
            is_stopping: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let from = Arc::clone(&shared);
        thread::Builder::new().name("snapshot-file".into()).spawn(move || {
            let end_of_patience = now() + PATIENCE;
            let before = fs::read(&path).ok().and_then(|bytes| Snapshot::parse(bytes).ok());
            let mut generation = before.map_or(0, |snapshot| snapshot.generation());
            let mut pause = Duration::ZERO;
            while let Some(routes) = next(&from, &view, end_of_patience, pause) {
                generation = generation.wrapping_add(1);
                let bytes = Snapshot::write(&lookup, generation, routes).map_err(io::Error::other);
                pause = match bytes.and_then(|bytes| replace(&path, &temporary, &bytes)) {
                    Ok(()) => PAUSE,
                    Err(error) => {
                        failed(&error);
                        from.lock().is_changed = true;
                        RETRY
                    }
                };
            }
        })?;
        Ok(Self { shared })
    }

    /// Takes an update of a source.
    pub fn apply(&self, update: Update) {
        let mut state = self.shared.lock();
        if matches!(update.change, Change::Sync { .. } | Change::Gone) {
            state.missing.remove(&update.source);
        }
        let is_changed = !state.directory.apply(update).is_empty();
        state.is_changed |= is_changed;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
    }
}

/// Waits for a change, at least for `pause`. Returns all routes; `None` at the end.
fn next(
    shared: &Shared,
    view: &View,
    end_of_patience: Instant,
    pause: Duration,
) -> Option<Vec<SnapshotRoute>> {
    let end_of_pause = now() + pause;
    let mut state = shared.lock();
    loop {
        if state.is_stopping {
            return None;
        }
        let at = now();
        let ready_at =
            if state.missing.is_empty() { end_of_pause } else { end_of_patience.max(end_of_pause) };
        if state.is_changed && at >= ready_at {
            state.is_changed = false;
            return Some(routes(&state.directory, view));
        }
        state = if state.is_changed {
            let left = ready_at.saturating_duration_since(at);
            shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
        } else {
            shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
        };
    }
}

fn routes(directory: &Directory, view: &View) -> Vec<SnapshotRoute> {
    let route = |(key, state): (&dockline::routes::RouteKey, RouteState)| SnapshotRoute {
        key: key.clone(),
        targets: targets(&state, view),
    };
    directory.routes().map(route).collect()
}

/// Returns the targets of a route. A known route without any is answered with 503.
fn targets(state: &RouteState, view: &View) -> Vec<SnapshotTarget> {
    let mut targets: Vec<SnapshotTarget> = Vec::new();
    for claim in &state.serving {
        let record = claim.record();
        let Some(Way { address, is_direct }) = view.way(record, claim.gateway()) else { continue };
        let (weight, live) = (record.weight, record.live_target().is_some());
        // A gateway needs the prefix to find the route.
        let strip = record.strip && is_direct;
        let is_same = |target: &&mut SnapshotTarget| {
            (target.address, target.live, target.strip) == (address, live, strip)
        };
        // Replicas of another node are all behind the same gateway.
        if let Some(known) = targets.iter_mut().find(is_same) {
            known.weight = known.weight.saturating_add(weight).min(SnapshotTarget::WEIGHT_MAX);
        } else if targets.len() < SnapshotRoute::TARGETS_MAX {
            targets.push(SnapshotTarget { address, weight, live, strip });
        }
    }
    targets
}

fn temporary_of(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
    name.push(".new");
    Ok(path.with_file_name(name))
}

/// Creates a file that everybody may read: routes are no secret from the workers of nginx.
fn create(path: &Path) -> io::Result<fs::File> {
    // Whatever is there is not ours to write through: it may be a link.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// Replaces the file as a whole: who opens it sees the routes before or those after.
fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    create(temporary)?.write_all(bytes)?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests;
