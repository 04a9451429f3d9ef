//! llhttp, the parser of Node.js, from any library on this machine that has it, loaded at run time:
//! no header, no crate.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::Result;

type Parser = [u64; 64];
type Settings = [Option<unsafe extern "C" fn() -> c_int>; 64];

type Init = unsafe extern "C" fn(*mut Parser, c_int, *const Settings);
type Execute = unsafe extern "C" fn(*mut Parser, *const c_char, usize) -> c_int;

/// HPE_OK, and HPE_PAUSED_UPGRADE: the message is over and something else begins.
const FINE: [c_int; 2] = [0, 22];

/// What the callbacks do: the least that shows that they are called.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Every callback: it ignores its arguments, and zero means "go on" from each of them.
unsafe extern "C" fn called() -> c_int {
    CALLS.store(CALLS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    0
}

#[derive(Clone, Copy)]
pub(crate) struct Llhttp {
    init: Init,
    execute: Execute,
}

/// A parser in the middle of a message. Both structs are larger than llhttp's in any version.
pub(crate) struct Message {
    api: Llhttp,
    parser: Box<Parser>,
    settings: Box<Settings>,
}

impl Llhttp {
    /// `None`: no library here has it.
    pub(crate) fn load() -> Option<Self> {
        let named = std::env::var("LLHTTP_LIBRARY").ok().and_then(|name| std::ffi::CString::new(name).ok());
        let known =
            [c"libllhttp.so", c"libllhttp.so.9.2", c"libllhttp.so.9.3", c"libnode.so.115", c"libnode.so.108"];
        named.as_deref().into_iter().chain(known).find_map(|name| {
            // SAFETY: a terminated name; the initialisers of these libraries have no precondition.
            let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
            if library.is_null() {
                return None;
            }
            // SAFETY: the type is the one that llhttp's header gives for this name.
            let init = unsafe { symbol::<Init>(library, c"llhttp_init") }?;
            // SAFETY: as above.
            let execute = unsafe { symbol::<Execute>(library, c"llhttp_execute") }?;
            Some(Self { init, execute })
        })
    }

    pub(crate) fn message(self, is_request: bool) -> Message {
        let mut message =
            Message { api: self, parser: Box::new([0; 64]), settings: Box::new([Some(called); 64]) };
        message.restart(is_request);
        message
    }
}

impl Message {
    pub(crate) fn restart(&mut self, is_request: bool) {
        let kind = if is_request { 1 } else { 2 };
        // SAFETY: both are larger than what llhttp writes or keeps, and live as long as the parser
        // is used.
        unsafe { (self.api.init)(&raw mut *self.parser, kind, &raw const *self.settings) };
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        // SAFETY: an initialised parser; it reads `len` bytes.
        let code = unsafe { (self.api.execute)(&raw mut *self.parser, bytes.as_ptr().cast(), bytes.len()) };
        if FINE.contains(&code) { Ok(()) } else { Err(format!("llhttp: error {code}").into()) }
    }

    pub(crate) fn calls() -> u64 {
        CALLS.load(Ordering::Relaxed)
    }
}

/// # Safety
/// `T` must be the function pointer type that fits the symbol.
unsafe fn symbol<T: Copy>(library: *mut c_void, name: &CStr) -> Option<T> {
    const { assert!(size_of::<T>() == size_of::<*mut c_void>()) };
    // SAFETY: a handle from `dlopen` that is never closed, and a terminated name.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    // SAFETY: same size, and the caller vouches for the type.
    (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
}
