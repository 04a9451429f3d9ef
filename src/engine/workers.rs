#![forbid(unsafe_code)]
//! [`Workers`]: several engines, each on a thread of its own.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::engine::default_connections;
use super::handle::Handle;
use super::local_listeners::LocalListeners;
use super::observe::Observer;
use super::service::{Listener, ListenerHandle};
use super::{Engine, EngineOptions, Pair, Stats};

/// Engines on threads of their own. A connection that one accepts goes to the one with the fewest
/// connections.
#[derive(Debug)]
pub struct Workers {
    handles: Arc<[Handle]>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts `threads` engines.
    ///
    /// # Errors
    /// If an engine or a thread cannot be made. Those that were made are stopped.
    pub fn start(
        threads: NonZeroUsize,
        options: &EngineOptions,
        observer: &Arc<dyn Observer>,
    ) -> io::Result<Self> {
        let mut options = *options;
        if options.connections.is_none() {
            // The descriptors belong to the process, not to an engine.
            options.connections = Some((default_connections()? / threads).max(1));
        }
        let engines: Vec<Engine> = (0..threads.get())
            .map(|_| Engine::new(options, Arc::clone(observer)))
            .collect::<io::Result<_>>()?;
        let handles: Arc<[Handle]> = engines.iter().map(Engine::handle).collect();
        let mut workers = Self { handles, threads: Vec::new(), next: AtomicUsize::new(0) };
        let local_listeners = LocalListeners::default();
        for (number, mut engine) in engines.into_iter().enumerate() {
            engine.join_peers(Arc::clone(&workers.handles), &local_listeners);
            let all = Arc::clone(&workers.handles);
            let thread = thread::Builder::new().name(format!("dockline-{number}"));
            let spawned = thread.spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| engine.run()))
                    .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")));
                if result.is_err() {
                    all.iter().for_each(Handle::stop);
                }
                result
            });
            match spawned {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    workers.stop();
                    return Err(error);
                }
            }
        }
        Ok(workers)
    }

    /// Serves a listener; one of the workers owns it, all serve its connections.
    pub fn listen(&self, listener: Listener) {
        self.next_handle().listen(listener);
    }

    /// Closes a listener; see [`Handle::close`].
    pub fn close(&self, listener: &ListenerHandle) {
        for handle in &*self.handles {
            handle.close(listener);
        }
    }

    /// Joins two connected sockets; see [`Handle::adopt`].
    pub fn adopt(&self, pair: Pair) {
        self.next_handle().adopt(pair);
    }

    /// Drains all engines; see [`Handle::drain`].
    pub fn drain(&self, limit: Option<Duration>) {
        for handle in &*self.handles {
            handle.drain(limit);
        }
    }

    /// Stops all engines at once.
    pub fn stop(&self) {
        for handle in &*self.handles {
            handle.stop();
        }
    }

    /// Returns the sums of the counters of all workers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handles.iter().map(Handle::stats).fold(Stats::default(), Stats::plus)
    }

    /// Returns one handle per worker.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Returns whether all workers have ended.
    #[must_use]
    pub fn are_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all workers have ended. If one fails, the others stop at once, because nobody
    /// would accept from its listeners.
    ///
    /// # Errors
    /// If the loop of a worker failed. A panic outside the code for one connection counts as a
    /// failure.
    pub fn join(self) -> io::Result<()> {
        let ends: Vec<io::Result<()>> = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked"))))
            .collect();
        ends.into_iter().collect()
    }

    fn next_handle(&self) -> &Handle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        &self.handles[number % self.handles.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process that waits for them has to know, and so does its supervisor.
    #[test]
    fn a_worker_that_fails_takes_the_others_with_it() {
        let (three, observer) = (NonZeroUsize::new(3).unwrap(), Arc::new(()) as Arc<dyn Observer>);
        let options = EngineOptions { connections: Some(1), ..EngineOptions::default() };
        let workers = Workers::start(three, &options, &observer).unwrap();
        workers.handles()[1].tunnels(|_| panic!("on the thread of the loop"));
        assert_eq!(workers.join().unwrap_err().to_string(), "a worker panicked");
    }
}
