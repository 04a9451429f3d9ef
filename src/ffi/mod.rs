//! The C ABI. Thin: every function checks its arguments, copies structs in and out, and calls the
//! safe API inside one panic boundary. `docs/ABI.md` has the promises, `include/dockline.h` the
//! manual.
#![allow(unsafe_code, reason = "C passes pointers; they are checked in types.rs, text.rs and boundary.rs")]
#![allow(non_camel_case_types, reason = "C names")]

mod boundary;
mod client;
mod conn;
mod conn_request;
mod conn_types;
mod engine;
mod engine_types;
mod failure;
mod hijack;
mod host_side;
mod message;
mod observe;
mod options;
mod record;
mod relay;
mod relay_types;
mod route;
mod routes;
mod status;
#[cfg(feature = "_test-hooks")]
mod test_hooks;
mod text;
mod types;
mod upstream;
mod version;
mod worker;

pub use client::*;
pub use conn::*;
pub use conn_request::*;
pub use conn_types::*;
pub use engine::*;
pub use engine_types::*;
pub use failure::*;
pub use hijack::*;
pub use message::*;
pub use observe::*;
pub use options::*;
pub use record::*;
pub use relay::*;
pub use relay_types::*;
pub use route::*;
pub use routes::*;
pub use status::*;
#[cfg(feature = "_test-hooks")]
pub use test_hooks::*;
pub use text::*;
pub use types::{
    DOCKLINE_SIDE_DOWNSTREAM, DOCKLINE_SIDE_NONE, DOCKLINE_SIDE_PROXY, DOCKLINE_SIDE_UPSTREAM, dockline_side,
};
pub use upstream::*;
pub use version::*;
pub use worker::*;
