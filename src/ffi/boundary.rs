//! Where C calls become Rust calls: panics stop here, and handles are checked here.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::status::{DOCKLINE_OK, Failure, dockline_status};

/// Runs a call that needs no handle. A failed system call is left in errno.
pub(super) fn boundary(call: impl FnOnce() -> Result<(), Failure>) -> dockline_status {
    let failure = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return DOCKLINE_OK,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::Panic,
    };
    if let Failure::System(number) = failure {
        // Last, since dropping what the call owned may have made system calls of its own.
        set_errno(number);
    }
    failure.status()
}

fn set_errno(number: i32) {
    // SAFETY: the C library returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { errno.write(number) };
}

/// How a handle type is recognised.
pub(super) trait Kind {
    /// A number that no other type has and that ordinary memory is unlikely to contain.
    const MAGIC: u64;
    /// What any thread may use at any time.
    type Shared: Sync;
}

/// The content of every handle: a value that one call at a time may use, and a part that any thread
/// may use. The first three fields stay in this order, so that the magic of one type is where that
/// of another is looked for.
#[repr(C)]
pub(super) struct Guarded<T: Kind> {
    magic: AtomicU64,
    busy: AtomicBool,
    poisoned: AtomicBool,
    shared: T::Shared,
    value: UnsafeCell<T>,
}

impl<T: Kind<Shared = ()>> Guarded<T> {
    /// Moves a value behind a pointer that C can hold.
    pub(super) fn into_c(value: T) -> *mut Self {
        Self::into_c_with(value, ())
    }
}

impl<T: Kind> Guarded<T> {
    /// Does the same with a part that any thread may use.
    pub(super) fn into_c_with(value: T, shared: T::Shared) -> *mut Self {
        Box::into_raw(Box::new(Self::new(value, shared)))
    }

    /// Makes a handle on the stack, for the duration of a callback.
    pub(super) fn new(value: T, shared: T::Shared) -> Self {
        Self {
            magic: AtomicU64::new(T::MAGIC),
            busy: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            shared,
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the value out of a handle on the stack.
    pub(super) fn into_value(self) -> T {
        self.magic.store(0, Ordering::Relaxed);
        self.value.into_inner()
    }

    /// Runs a call on the value behind a handle. A panic poisons the handle.
    ///
    /// # Safety
    /// `handle` is NULL or points to readable memory of a live object of the library.
    pub(super) unsafe fn enter(
        handle: *const Self,
        call: impl FnOnce(&mut T) -> Result<(), Failure>,
    ) -> dockline_status {
        // SAFETY: the caller's promise.
        let handle = match unsafe { Self::look(handle) } {
            Ok(handle) => handle,
            Err(failure) => return failure.status(),
        };
        if handle.poisoned.load(Ordering::Relaxed) {
            return Failure::Poisoned.status();
        }
        if handle.busy.swap(true, Ordering::Acquire) {
            return Failure::Busy.status();
        }
        // SAFETY: `busy` was clear and is ours now, so nobody else holds a reference to the value.
        let value = unsafe { &mut *handle.value.get() };
        let status = boundary(|| call(value));
        if status == Failure::Panic.status() {
            handle.poisoned.store(true, Ordering::Relaxed);
        }
        handle.busy.store(false, Ordering::Release);
        status
    }

    /// Runs a call on the part that any thread may use, whether or not another call has the value.
    ///
    /// # Safety
    /// As [`Guarded::enter`].
    pub(super) unsafe fn share(
        handle: *const Self,
        call: impl FnOnce(&T::Shared) -> Result<(), Failure>,
    ) -> dockline_status {
        // SAFETY: the caller's promise.
        let handle = match unsafe { Self::look(handle) } {
            Ok(handle) => handle,
            Err(failure) => return failure.status(),
        };
        if handle.poisoned.load(Ordering::Relaxed) {
            return Failure::Poisoned.status();
        }
        let status = boundary(|| call(&handle.shared));
        if status == Failure::Panic.status() {
            handle.poisoned.store(true, Ordering::Relaxed);
        }
        status
    }

    /// Frees a handle. One that is in use, as inside its own callback, is leaked rather than freed
    /// while its caller still needs it.
    ///
    /// # Safety
    /// As [`Guarded::enter`], and the handle is not used again.
    pub(super) unsafe fn free(handle: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { Self::free_if(handle, |_| true) };
    }

    /// Frees a handle if it is one that `into_c` made, which its shared part tells.
    ///
    /// # Safety
    /// As [`Guarded::free`].
    pub(super) unsafe fn free_if(handle: *mut Self, is_owned: impl FnOnce(&T::Shared) -> bool) {
        // SAFETY: the caller's promise.
        let Ok(found) = (unsafe { Self::look(handle) }) else { return };
        if !is_owned(&found.shared) || found.busy.swap(true, Ordering::Acquire) {
            return;
        }
        found.magic.store(0, Ordering::Relaxed);
        // SAFETY: `into_c` made it of a box; the cleared magic keeps a second call from getting
        // here.
        let owned = unsafe { Box::from_raw(handle) };
        // A panic while dropping must not cross into C either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(owned)));
    }

    /// # Safety
    /// As [`Guarded::enter`].
    unsafe fn look<'a>(handle: *const Self) -> Result<&'a Self, Failure> {
        let handle = NonNull::new(handle.cast_mut()).ok_or(Failure::Null)?;
        if !handle.is_aligned() {
            return Err(Failure::Handle);
        }
        // SAFETY: the caller's promise; atomics and cells allow others to look as well.
        let handle = unsafe { handle.as_ref() };
        if handle.magic.load(Ordering::Relaxed) == T::MAGIC { Ok(handle) } else { Err(Failure::Handle) }
    }
}
