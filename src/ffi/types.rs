//! Structs and buffers across the boundary.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use super::status::Failure;
use crate::error::Side;

/// A struct that crosses by pointer and size, so that it can grow at its end.
///
/// # Safety
/// All-zero bytes must be a valid value, and so must everything that C can write: integers and
/// pointers only, callbacks as `Option`. A `bool` is not allowed, since C may write a 2.
pub(super) unsafe trait CStruct: Copy {
    /// The size of its first version. A smaller one is refused.
    const FIRST_SIZE: usize;
}

/// Copies a struct in. Fields that the caller does not know become zero; bytes that this library
/// does not know have to be zero.
///
/// # Safety
/// `from` is NULL or points to `size` readable bytes.
pub(super) unsafe fn struct_from_c<T: CStruct>(from: *const T, size: usize) -> Result<T, Failure> {
    if from.is_null() {
        return Err(Failure::Null);
    }
    if size < T::FIRST_SIZE || size > isize::MAX.unsigned_abs() {
        return Err(Failure::Size);
    }
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise; u8 has no alignment and no invalid value.
    let bytes = unsafe { slice::from_raw_parts(from.cast::<u8>(), size) };
    if bytes[known..].iter().any(|&byte| byte != 0) {
        return Err(Failure::Size);
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both sides have room for `known` bytes, and `value` is our own.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast::<u8>(), known) };
    // SAFETY: CStruct says that any bytes make a valid value.
    Ok(unsafe { value.assume_init() })
}

/// A checked destination for a struct.
pub(super) struct StructOut<T> {
    to: *mut T,
    size: usize,
}

/// Checks the destination of a struct before anything is done.
pub(super) fn struct_out<T: CStruct>(to: *mut T, size: usize) -> Result<StructOut<T>, Failure> {
    if to.is_null() {
        return Err(Failure::Null);
    }
    if size < T::FIRST_SIZE || size > isize::MAX.unsigned_abs() {
        return Err(Failure::Size);
    }
    Ok(StructOut { to, size })
}

impl<T: CStruct> StructOut<T> {
    /// Writes as much as the caller has room for and zeroes the bytes that this library does not
    /// know.
    ///
    /// # Safety
    /// The pointer that was checked points to that many writable bytes.
    pub(super) unsafe fn write(self, value: &T) {
        let known = self.size.min(size_of::<T>());
        // SAFETY: the caller's promise covers `known` bytes, and `value` has as many.
        unsafe { ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), self.to.cast::<u8>(), known) };
        // SAFETY: `known` is within the caller's bytes.
        let tail = unsafe { self.to.cast::<u8>().add(known) };
        // SAFETY: the rest of the caller's bytes.
        unsafe { ptr::write_bytes(tail, 0, self.size - known) };
    }
}

/// Checks the destination of a handle or a number.
pub(super) fn check_out<T>(to: *mut T) -> Result<(), Failure> {
    match (to.is_null(), to.is_aligned()) {
        (true, _) => Err(Failure::Null),
        (false, false) => Err(Failure::Value),
        (false, true) => Ok(()),
    }
}

/// Borrows a buffer. NULL is allowed with length 0.
///
/// # Safety
/// `data` is NULL or points to `len` readable bytes that do not change while the result is in use.
pub(super) unsafe fn bytes_from_c<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: the caller's promise.
    unsafe { array_from_c(data.cast(), len) }
}

/// Borrows an array of plain values.
///
/// # Safety
/// `data` is NULL or points to `len` readable elements that do not change while the result is in
/// use.
pub(super) unsafe fn array_from_c<'a, T>(data: *const T, len: usize) -> Result<&'a [T], Failure> {
    if len > isize::MAX.unsigned_abs() / size_of::<T>() {
        return Err(Failure::Value);
    }
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::Null),
        (false, _) if !data.is_aligned() => Err(Failure::Value),
        // SAFETY: the caller's promise; aligned, and no longer than an object can be.
        (false, _) => Ok(unsafe { slice::from_raw_parts(data, len) }),
    }
}

/// The two sides of a proxied connection, and the proxy between them.
pub type dockline_side = i32;
/// Neither.
pub const DOCKLINE_SIDE_NONE: dockline_side = 0;
/// The client's side.
pub const DOCKLINE_SIDE_DOWNSTREAM: dockline_side = 1;
/// The daemon's side.
pub const DOCKLINE_SIDE_UPSTREAM: dockline_side = 2;
/// The proxy itself: a limit, its configuration, or its operator. Only in a dockline_failure.
pub const DOCKLINE_SIDE_PROXY: dockline_side = 3;

/// Returns the side that a number names.
pub(super) fn side_from_c(side: i32) -> Result<Side, Failure> {
    match side {
        DOCKLINE_SIDE_DOWNSTREAM => Ok(Side::Downstream),
        DOCKLINE_SIDE_UPSTREAM => Ok(Side::Upstream),
        _ => Err(Failure::Value),
    }
}

/// Returns the number of a side.
pub(super) fn side_to_c(side: Option<Side>) -> i32 {
    match side {
        None => DOCKLINE_SIDE_NONE,
        Some(Side::Downstream) => DOCKLINE_SIDE_DOWNSTREAM,
        Some(Side::Upstream) => DOCKLINE_SIDE_UPSTREAM,
    }
}

/// Returns an errno; `None` for 0, which says that there is none.
pub(super) fn errno_from_c(number: i32) -> Result<Option<i32>, Failure> {
    if number < 0 { Err(Failure::Value) } else { Ok((number != 0).then_some(number)) }
}
