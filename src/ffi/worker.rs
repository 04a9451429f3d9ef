//! `dockline_worker`: what the relays of one thread share.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::boundary::{Guarded, Kind, boundary};
use super::status::{Failure, dockline_status};
use super::types::{CStruct, check_out, struct_from_c};
use crate::drive::{Event, Worker, WorkerOptions};

/// What the relays of one thread share: a scratch buffer, pipes for bulk transfers, the log. Make one
/// for each thread that drives relays, after fork(2).
pub struct dockline_worker {
    _opaque: [u8; 0],
}

/// Log level: somebody has to act.
pub const DOCKLINE_LOG_ERROR: i32 = 1;
/// Log level: it works, but less well.
pub const DOCKLINE_LOG_WARN: i32 = 2;
/// Log level: worth knowing.
pub const DOCKLINE_LOG_INFO: i32 = 3;

/// Bounds and log of a worker. All zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_worker_options {
    /// Called from within dockline_relay_pump with a DOCKLINE_LOG_* level and a text of len bytes, not
    /// NUL-terminated, borrowed for the call. NULL: no log. It must not unwind or longjmp.
    pub log: Option<unsafe extern "C" fn(user: *mut c_void, level: i32, text: *const u8, len: usize)>,
    /// The first argument of log.
    pub log_user: *mut c_void,
    /// Pipes that may be lent at a time, two descriptors each. 0: 64.
    pub max_pipes: u32,
    /// Bytes asked for each pipe; the kernel may grant less. 0: 1 MiB.
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

/// The host's millisecond clock as `Instant`s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// What the host's time 0 is taken for: any instant will do, since only differences count.
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

    /// Rounded up, so that a deadline has passed when its millisecond is reached.
    pub(super) fn ms(self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.origin);
        u64::try_from(passed.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// The host's log callback.
pub(super) struct HostLog {
    pub(super) log: unsafe extern "C" fn(*mut c_void, i32, *const u8, usize),
    pub(super) user: *mut c_void,
}

// SAFETY: the host promises that the callback may be called on whatever thread drives the worker.
unsafe impl Send for HostLog {}

impl HostLog {
    pub(super) fn write(&self, level: i32, text: &str) {
        // SAFETY: the host gave the function and its argument together; the text lives for the call.
        unsafe { (self.log)(self.user, level, text.as_ptr(), text.len()) };
    }

    /// What a relay has to say.
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
/// Whether the process ignores SIGPIPE is looked up now. If it does not, splicing keeps the signal back
/// for the thread, at the cost of some system calls for each pump.
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

/// Frees a worker. Relays made from it stay valid; what they share goes with the last of them.
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
