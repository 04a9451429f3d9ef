#![forbid(unsafe_code)]
//! [`Workers`]: a few threads for requests that are made at the same time.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Threads that come when there is more to do than the others can, and go when there is nothing.
/// Dropping it ends them, after the jobs that they have begun.
pub(super) struct Workers<J> {
    shared: Arc<Shared<J>>,
    max: usize,
}

struct Shared<J> {
    state: Mutex<State<J>>,
    wake: Condvar,
    idle_time: Duration,
    run: Box<dyn Fn(J) + Send + Sync>,
}

struct State<J> {
    jobs: VecDeque<J>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl<J: Send + 'static> Workers<J> {
    /// Makes at most `max` threads, each of which calls `run` with one job after the other, and
    /// ends when there was none for `idle_time`.
    pub(super) fn new(max: usize, idle_time: Duration, run: impl Fn(J) + Send + Sync + 'static) -> Self {
        let state = State { jobs: VecDeque::new(), threads: 0, idle: 0, closed: false };
        let shared = Shared { state: Mutex::new(state), wake: Condvar::new(), idle_time, run: Box::new(run) };
        Self { shared: Arc::new(shared), max }
    }

    /// Hands over a job. The caller limits how many wait.
    ///
    /// # Errors
    /// If there is no thread, and none can be made; the job is not done then.
    pub(super) fn push(&self, job: J) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.jobs.len() >= state.idle && state.threads < self.max {
            let shared = Arc::clone(&self.shared);
            let spawned = thread::Builder::new().name("docker-request".into()).spawn(move || shared.work());
            match spawned {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(error),
                // The others do it later.
                Err(_) => {}
            }
        }
        state.jobs.push_back(job);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl<J> Drop for Workers<J> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.jobs.clear();
        self.shared.wake.notify_all();
    }
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.take() {
            (self.run)(job);
        }
    }

    /// Waits for a job; `None`: the thread is not needed.
    fn take(&self) -> Option<J> {
        let mut state = self.lock();
        state.idle += 1;
        let waited = self
            .wake
            .wait_timeout_while(state, self.idle_time, |state| state.jobs.is_empty() && !state.closed);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// A job tells where to send that it shall end.
    type Job = Sender<Sender<()>>;

    fn workers(idle_time: Duration) -> Workers<Job> {
        Workers::new(2, idle_time, |job: Job| {
            let (end, ended) = channel();
            let _ = job.send(end);
            let _ = ended.recv();
        })
    }

    fn push(workers: &Workers<Job>) -> Receiver<Sender<()>> {
        let (job, begun) = channel();
        workers.push(job).unwrap();
        begun
    }

    fn begin(workers: &Workers<Job>) -> Sender<()> {
        push(workers).recv_timeout(LONG).unwrap()
    }

    fn until(holds: impl Fn() -> bool) {
        while !holds() {
            thread::yield_now();
        }
    }

    #[test]
    fn there_are_as_many_threads_as_jobs_up_to_the_limit() {
        let workers = workers(LONG);
        let (first, _second) = (begin(&workers), begin(&workers));
        let third = push(&workers);
        assert_eq!(workers.shared.lock().threads, 2);
        assert!(third.try_recv().is_err());
        drop(first);
        third.recv_timeout(LONG).unwrap();
        assert_eq!(workers.shared.lock().threads, 2);
    }

    #[test]
    fn a_thread_without_a_job_takes_the_next_one() {
        let workers = workers(LONG);
        for _ in 0..3 {
            drop(begin(&workers));
            until(|| workers.shared.lock().idle == 1);
        }
        assert_eq!(workers.shared.lock().threads, 1);
    }

    #[test]
    fn threads_that_are_not_needed_end_and_come_again() {
        let workers = workers(Duration::from_millis(1));
        for _ in 0..3 {
            drop((begin(&workers), begin(&workers)));
            until(|| workers.shared.lock().threads == 0);
        }
    }

    #[test]
    fn after_the_end_nothing_is_begun() {
        let workers = workers(LONG);
        let (first, second, third) = (begin(&workers), begin(&workers), push(&workers));
        drop(second);
        let third = third.recv_timeout(LONG).unwrap();
        let fourth = push(&workers);
        let shared = Arc::downgrade(&workers.shared);
        drop(workers);
        assert!(fourth.recv_timeout(LONG).is_err());
        drop((first, third));
        until(|| shared.strong_count() == 0);
    }
}
