//! Structs, buffers and text across the boundary.

use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use super::status::Failure;
use crate::error::Side;

/// A struct that crosses by pointer and size, so that it can grow at its end.
///
/// # Safety
/// All-zero bytes must be a valid value, and every value that C can write must be one: integers and
/// pointers only, callbacks as `Option`.
pub(super) unsafe trait CStruct: Copy {
    /// The size of its first version; less is refused.
    const FIRST_SIZE: usize;
}

/// Copies a struct in. Fields that the caller does not know are zero; fields that this library does not
/// know must be.
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

/// A checked place for a result.
pub(super) struct StructOut<T> {
    to: *mut T,
    size: usize,
}

/// Checks the place for a struct that goes out, before anything is done.
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
    /// Writes as much as the caller has room for, and zeroes what this library does not know.
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

/// Checks the place for a handle or a number that goes out.
pub(super) fn check_out<T>(to: *mut T) -> Result<(), Failure> {
    match (to.is_null(), to.is_aligned()) {
        (true, _) => Err(Failure::Null),
        (false, false) => Err(Failure::Value),
        (false, true) => Ok(()),
    }
}

/// Borrows a buffer. NULL is fine with length 0.
///
/// # Safety
/// `data` is NULL or points to `len` readable bytes that do not change while the result is in use.
pub(super) unsafe fn bytes_from_c<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: the caller's promise.
    unsafe { array_from_c(data, len) }
}

/// The same for an array of plain structs.
///
/// # Safety
/// `data` is NULL or points to `len` readable elements that do not change while the result is in use.
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

/// Borrows text that has to be UTF-8; `None` if it is absent, which NULL says.
///
/// # Safety
/// As [`bytes_from_c`].
pub(super) unsafe fn optional_text_from_c<'a>(
    data: *const u8,
    len: usize,
) -> Result<Option<&'a str>, Failure> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { optional_bytes_from_c(data, len) }?;
    bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| Failure::Value)).transpose()
}

/// The same for a value that may be absent, which NULL says. Absent is not the same as empty.
///
/// # Safety
/// As [`bytes_from_c`].
pub(super) unsafe fn optional_bytes_from_c<'a>(
    data: *const u8,
    len: usize,
) -> Result<Option<&'a [u8]>, Failure> {
    if data.is_null() && len == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { bytes_from_c(data, len) }.map(Some)
}

/// No side.
pub const DOCKLINE_SIDE_NONE: i32 = 0;
/// The side of the client.
pub const DOCKLINE_SIDE_DOWNSTREAM: i32 = 1;
/// The side of the daemon.
pub const DOCKLINE_SIDE_UPSTREAM: i32 = 2;

/// A side by its number.
pub(super) fn side_from_c(side: i32) -> Result<Side, Failure> {
    match side {
        DOCKLINE_SIDE_DOWNSTREAM => Ok(Side::Downstream),
        DOCKLINE_SIDE_UPSTREAM => Ok(Side::Upstream),
        _ => Err(Failure::Value),
    }
}

/// The number of a side.
pub(super) fn side_to_c(side: Option<Side>) -> i32 {
    match side {
        None => DOCKLINE_SIDE_NONE,
        Some(Side::Downstream) => DOCKLINE_SIDE_DOWNSTREAM,
        Some(Side::Upstream) => DOCKLINE_SIDE_UPSTREAM,
    }
}
