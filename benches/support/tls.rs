//! A TLS client on the system's libssl, the one nginx itself uses, loaded at run time: no header,
//! no crate.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;
use std::rc::Rc;

use super::Result;

type Ptr = *mut c_void;

struct Api {
    ctx_free: unsafe extern "C" fn(Ptr),
    new: unsafe extern "C" fn(Ptr) -> Ptr,
    free: unsafe extern "C" fn(Ptr),
    set_fd: unsafe extern "C" fn(Ptr, c_int) -> c_int,
    connect: unsafe extern "C" fn(Ptr) -> c_int,
    read: unsafe extern "C" fn(Ptr, Ptr, c_int) -> c_int,
    write: unsafe extern "C" fn(Ptr, *const c_void, c_int) -> c_int,
    get_error: unsafe extern "C" fn(Ptr, c_int) -> c_int,
    cipher: unsafe extern "C" fn(Ptr) -> Ptr,
    cipher_name: unsafe extern "C" fn(Ptr) -> *const c_char,
    clear_errors: unsafe extern "C" fn(),
}

const WANT_READ: c_int = 2;
const WANT_WRITE: c_int = 3;
const ZERO_RETURN: c_int = 6;
const CTRL_MODE: c_int = 33;
/// Partial writes, and the buffer may move between two tries of one write.
const MODE: c_long = 1 | 2;

/// # Safety
/// `T` must be the function pointer type that fits the symbol.
unsafe fn symbol<T: Copy>(library: Ptr, name: &CStr) -> Result<T> {
    const { assert!(size_of::<T>() == size_of::<Ptr>()) };
    // SAFETY: a handle from `dlopen` that is never closed, and a terminated name.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("libssl has no {}", name.to_string_lossy()).into());
    }
    // SAFETY: same size, and the caller vouches for the type.
    Ok(unsafe { std::mem::transmute_copy(&found) })
}

macro_rules! symbol {
    ($library:expr, $name:literal) => {
        // SAFETY: the type is the one libssl documents for this name; it is stable since 1.1.0.
        unsafe { symbol($library, $name) }
    };
}

/// A client context; the server's certificate is not checked.
#[derive(Clone)]
pub(crate) struct Context(Rc<Inner>);

struct Inner {
    api: Api,
    ctx: Ptr,
}

impl Context {
    pub(crate) fn new() -> Result<Self> {
        let names = [c"libssl.so.3", c"libssl.so.1.1", c"libssl.so"];
        let library = names
            .iter()
            // SAFETY: a terminated name; libssl's initialisers have no precondition.
            .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) })
            .find(|l| !l.is_null())
            .ok_or("no libssl found: install OpenSSL's runtime library")?;
        let api = Api {
            ctx_free: symbol!(library, c"SSL_CTX_free")?,
            new: symbol!(library, c"SSL_new")?,
            free: symbol!(library, c"SSL_free")?,
            set_fd: symbol!(library, c"SSL_set_fd")?,
            connect: symbol!(library, c"SSL_connect")?,
            read: symbol!(library, c"SSL_read")?,
            write: symbol!(library, c"SSL_write")?,
            get_error: symbol!(library, c"SSL_get_error")?,
            cipher: symbol!(library, c"SSL_get_current_cipher")?,
            cipher_name: symbol!(library, c"SSL_CIPHER_get_name")?,
            clear_errors: symbol!(library, c"ERR_clear_error")?,
        };
        let method: unsafe extern "C" fn() -> Ptr = symbol!(library, c"TLS_client_method")?;
        let ctx_new: unsafe extern "C" fn(Ptr) -> Ptr = symbol!(library, c"SSL_CTX_new")?;
        let ctx_ctrl: unsafe extern "C" fn(Ptr, c_int, c_long, Ptr) -> c_long =
            symbol!(library, c"SSL_CTX_ctrl")?;
        // SAFETY: takes nothing.
        let method = unsafe { method() };
        // SAFETY: the method is a static of libssl.
        let ctx = unsafe { ctx_new(method) };
        if ctx.is_null() {
            return Err("libssl gave no context".into());
        }
        // SAFETY: a live context; this control takes a number and no pointer.
        unsafe { ctx_ctrl(ctx, CTRL_MODE, MODE, ptr::null_mut()) };
        Ok(Self(Rc::new(Inner { api, ctx })))
    }

    /// The handshake, on a blocking socket that must outlive the session.
    pub(crate) fn connect(&self, sock: &TcpStream) -> Result<Session> {
        let api = &self.0.api;
        // SAFETY: a live context.
        let ssl = unsafe { (api.new)(self.0.ctx) };
        if ssl.is_null() {
            return Err("libssl gave no session".into());
        }
        let session = Session { ssl, context: self.clone() };
        // SAFETY: a live session and an open descriptor.
        unsafe { (api.set_fd)(ssl, sock.as_raw_fd()) };
        // SAFETY: a live session that has its descriptor.
        let done = unsafe { (api.connect)(ssl) };
        if done == 1 { Ok(session) } else { Err("TLS handshake failed".into()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the last user of the context is gone.
        unsafe { (self.api.ctx_free)(self.ctx) };
    }
}

pub(crate) struct Session {
    ssl: Ptr,
    context: Context,
}

impl Session {
    fn outcome(&self, ret: c_int) -> io::Result<usize> {
        if let Ok(n @ 1..) = usize::try_from(ret) {
            return Ok(n);
        }
        // SAFETY: a live session; called on the thread of the operation, right behind it.
        match unsafe { (self.context.0.api.get_error)(self.ssl, ret) } {
            ZERO_RETURN => Ok(0),
            WANT_READ | WANT_WRITE => Err(io::ErrorKind::WouldBlock.into()),
            code => Err(io::Error::other(format!("TLS error {code}"))),
        }
    }

    fn clear_errors(&self) {
        // SAFETY: takes nothing.
        unsafe { (self.context.0.api.clear_errors)() };
    }

    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.clear_errors();
        let len = c_int::try_from(buf.len()).unwrap_or(c_int::MAX);
        // SAFETY: a live session; it writes at most `len` bytes of `buf`.
        let ret = unsafe { (self.context.0.api.read)(self.ssl, buf.as_mut_ptr().cast(), len) };
        self.outcome(ret)
    }

    pub(crate) fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.clear_errors();
        let len = c_int::try_from(buf.len()).unwrap_or(c_int::MAX);
        // SAFETY: a live session; it reads at most `len` bytes of `buf`.
        let ret = unsafe { (self.context.0.api.write)(self.ssl, buf.as_ptr().cast(), len) };
        self.outcome(ret)
    }

    pub(crate) fn cipher(&self) -> String {
        let api = &self.context.0.api;
        // SAFETY: a live session.
        let cipher = unsafe { (api.cipher)(self.ssl) };
        // SAFETY: a cipher of libssl, or null, which it names "(NONE)".
        let name = unsafe { (api.cipher_name)(cipher) };
        // SAFETY: a static, terminated string.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session is used by nobody else.
        unsafe { (self.context.0.api.free)(self.ssl) };
    }
}
