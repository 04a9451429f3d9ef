//! The C ABI. Thin: every function checks its arguments, copies structs in and out, and calls the safe
//! API inside one panic boundary. `docs/ABI.md` has the promises, `include/dockline.h` the manual.
#![allow(unsafe_code, reason = "C hands over pointers; each is looked at once, in types.rs or boundary.rs")]
#![allow(non_camel_case_types, reason = "C names")]

mod boundary;
mod hijack;
mod relay;
mod status;
mod types;
mod version;
mod worker;

pub use hijack::*;
pub use relay::*;
pub use status::*;
pub use types::{DOCKLINE_SIDE_DOWNSTREAM, DOCKLINE_SIDE_NONE, DOCKLINE_SIDE_UPSTREAM};
pub use version::*;
pub use worker::*;
