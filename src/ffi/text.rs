//! Text across the boundary: `dockline_str`.

use std::ffi::c_char;

use super::status::Failure;
use super::types::array_from_c;

/// Text by pointer and length, without a NUL at its end. It is borrowed: who passes it keeps it
/// alive and unchanged for the call, and what the library returns lives as long as the function
/// says. This struct never grows.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct dockline_str {
    /// Its first byte. NULL, with len 0: absent, which is the default and not the same as empty.
    pub data: *const c_char,
    /// Its length in bytes.
    pub len: usize,
}

impl dockline_str {
    /// No text.
    pub(super) const ABSENT: Self = Self { data: std::ptr::null(), len: 0 };

    /// Borrows text for C. Empty text is not NULL, since that would be absent.
    pub(super) fn new(text: &[u8]) -> Self {
        let data = if text.is_empty() { c"".as_ptr() } else { text.as_ptr().cast() };
        Self { data, len: text.len() }
    }

    /// Borrows the bytes of text from C; absent text has none.
    ///
    /// # Safety
    /// `data` is NULL or points to `len` readable bytes that do not change while the result is in
    /// use.
    pub(super) unsafe fn bytes<'a>(self) -> Result<&'a [u8], Failure> {
        // SAFETY: the caller's promise.
        unsafe { array_from_c(self.data.cast::<u8>(), self.len) }
    }

    /// Borrows the bytes of text that may be absent.
    ///
    /// # Safety
    /// As [`dockline_str::bytes`].
    pub(super) unsafe fn optional<'a>(self) -> Result<Option<&'a [u8]>, Failure> {
        if self.data.is_null() && self.len == 0 {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe { self.bytes() }.map(Some)
    }

    /// Borrows text that may be absent and otherwise has to be UTF-8.
    ///
    /// # Safety
    /// As [`dockline_str::bytes`].
    pub(super) unsafe fn utf8<'a>(self) -> Result<Option<&'a str>, Failure> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.optional() }?;
        bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| Failure::Value)).transpose()
    }
}
