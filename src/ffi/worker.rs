//! `dockline_worker`: what the relays of one thread share.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::boundary::{Guarded, Kind, boundary};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, check_out, struct_from_c};
use crate::drive::{Event, Worker, WorkerOptions};

/// What the relays of one thread share: a scratch buffer, pipes for bulk transfers, the log. Make
/// one for each thread that drives relays, after fork(2).
pub struct dockline_worker {
    _opaque: [u8; 0],
}

/// Levels of log messages.
pub type dockline_log_level = i32;
/// The operator has to act.
pub const DOCKLINE_LOG_ERROR: dockline_log_level = 1;
/// It works, but less well.
pub const DOCKLINE_LOG_WARN: dockline_log_level = 2;
/// Worth knowing.
pub const DOCKLINE_LOG_INFO: dockline_log_level = 3;

/// Receives a log message: enum dockline_log_level and one line of text, borrowed for the call. It
/// must not unwind or longjmp.
pub type dockline_log_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, level: i32, text: dockline_str)>;

/// Bounds and log of a worker.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_worker_options {
    /// Called from within dockline_relay_pump. NULL: no log.
    pub log: dockline_log_callback,
    /// The first argument of log.
    pub log_user: *mut c_void,
    /// Pipes in use at a time, two descriptors each. 0: 64.
    pub max_pipes: u32,
    /// The size to request for each pipe; the kernel may grant less. 0: 1 MiB.
    pub pipe_bytes: u32,
}

// SAFETY: integers, a pointer and an optional function pointer; all zero is valid.
unsafe impl CStruct for dockline_worker_options {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Behind `dockline_worker`.
pub(super) struct WorkerHandle {
    pub(super) shared: Arc<Mutex<Worker>>,
    pub(super) clock: Clock,
}

impl Kind for WorkerHandle {
    const MAGIC: u64 = 0xd0c2_11e5_0000_0001;
    type Shared = ();
}

/// Converts the host's millisecond clock to `Instant` and back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// The instant of the host's time 0. Any will do, since only differences count.
    origin: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "an origin for the host's clock; nothing waits for it")]
        let origin = Instant::now();
        Self { origin }
    }

    pub(super) fn at(self, ms: u64) -> Result<Instant, Failure> {
        self.origin.checked_add(std::time::Duration::from_millis(ms)).ok_or(Failure::Value)
    }

    /// Rounds up, so that a deadline has passed when its millisecond is reached.
    pub(super) fn ms(self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.origin);
        u64::try_from(passed.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// The host's log callback.
pub(super) struct HostLog {
    pub(super) log: unsafe extern "C" fn(*mut c_void, i32, dockline_str),
    pub(super) user: *mut c_void,
}

// SAFETY: the host promises that the callback may be called on whatever thread drives the worker.
unsafe impl Send for HostLog {}

impl HostLog {
    pub(super) fn write(&self, level: i32, text: &str) {
        // SAFETY: the host gave the function and its argument together; the text lives for the
        // call.
        unsafe { (self.log)(self.user, level, dockline_str::new(text.as_bytes())) };
    }

    /// Logs an event of a relay.
    pub(super) fn report(&self, event: &Event<'_>) {
        let level = match event {
            Event::SpliceUnavailable(_) => DOCKLINE_LOG_WARN,
            _ => DOCKLINE_LOG_INFO,
        };
        self.write(level, &event.to_string());
    }
}

/// Makes a worker. It owns no descriptor until a transfer turns out to be long.
///
/// Whether the process ignores SIGPIPE is determined now. If it does not, the signal is blocked for
/// the thread while splicing, at the cost of some system calls in each pump.
///
/// @param options      NULL for the default, and then options_size is 0
/// @param options_size sizeof(dockline_worker_options)
/// @param out          set on success; free it with dockline_worker_free
/// @return DOCKLINE_OK; DOCKLINE_E_NULL, _E_SIZE
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_worker_new(
    options: *const dockline_worker_options,
    options_size: usize,
    out: *mut *mut dockline_worker,
) -> dockline_status {
    boundary(|| {
        check_out(out)?;
        let mut bounds = WorkerOptions::default();
        let mut log = None;
        if !options.is_null() || options_size != 0 {
            // SAFETY: the caller's promise about `options`.
            let options = unsafe { struct_from_c(options, options_size) }?;
            if options.max_pipes != 0 {
                bounds.max_pipes = usize::try_from(options.max_pipes).map_err(|_| Failure::Value)?;
            }
            if options.pipe_bytes != 0 {
                bounds.pipe_bytes = usize::try_from(options.pipe_bytes).map_err(|_| Failure::Value)?;
            }
            log = options.log.map(|log| HostLog { log, user: options.log_user });
        }
        let mut worker = Worker::new(bounds);
        if let Some(log) = log {
            worker = worker.with_log(Box::new(move |event| log.report(event)));
        }
        let handle =
            Guarded::into_c(WorkerHandle { shared: Arc::new(Mutex::new(worker)), clock: Clock::new() });
        // SAFETY: checked, and the caller's promise.
        unsafe { out.write(handle.cast()) };
        Ok(())
    })
}

/// Frees a worker. Relays made from it stay valid; what they share is freed with the last of them.
///
/// @param worker may be NULL
/// @since 0.1
///
/// # Safety
/// `worker` is NULL, or came from dockline_worker_new and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_worker_free(worker: *mut dockline_worker) {
    // SAFETY: the caller's promise.
    unsafe { Guarded::<WorkerHandle>::free(worker.cast()) };
}
