//! Request heads, and replies that the host writes.

use std::ffi::c_void;

use bytes::Bytes;

use super::boundary::boundary;
use super::hijack::{DOCKLINE_HTTP_10, DOCKLINE_HTTP_11};
use super::status::{Failure, dockline_status};
use super::text::dockline_str;
use super::types::{CStruct, array_from_c, bytes_from_c, check_out, struct_from_c};
use crate::h1::{FieldLine, RequestHead, Version};
use crate::proxy::Reply;

/// One field line of a head. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_field {
    /// The name, as sent; compare it without regard to case.
    pub name: dockline_str,
    /// The value, without the whitespace around it.
    pub value: dockline_str,
}

/// A request head. All of it is borrowed, for as long as the function that returned it says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_request {
    /// The method, as sent.
    pub method: dockline_str,
    /// The request target, as sent.
    pub target: dockline_str,
    /// The field lines, in the order in which they were received.
    pub fields: *const dockline_field,
    /// How many there are.
    pub field_count: usize,
    /// DOCKLINE_HTTP_10 or DOCKLINE_HTTP_11
    pub version: i32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_request {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// A reply that the host writes. Everything is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_reply {
    /// 200 to 599
    pub status: u32,
    /// 0
    pub reserved: u32,
    /// Content-Type. Absent: body is a message in UTF-8 and is sent in the form that the Docker
    /// Engine API has for errors, {"message": ...}, which docker prints.
    pub content_type: dockline_str,
    /// The body; none with status 204, 205 and 304.
    pub body: *const c_void,
    /// Bytes of body.
    pub body_len: usize,
    /// More fields. Connection, Content-Length, Content-Type, Transfer-Encoding and Upgrade are
    /// refused.
    pub fields: *const dockline_field,
    /// How many there are.
    pub field_count: usize,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_reply {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Looks up a field of a request by name, without regard to case. Pure: any thread, no state.
///
/// @param request      as the library returned it, while that is valid
/// @param request_size sizeof(dockline_request)
/// @param name         the name of the field
/// @param nth          0 for the first line of this name, 1 for the second, and so on
/// @param out_value    set on success: borrowed as the request is; absent if there is no such line
/// @return DOCKLINE_OK, also if there is no such line; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_request_field(
    request: *const dockline_request,
    request_size: usize,
    name: dockline_str,
    nth: usize,
    out_value: *mut dockline_str,
) -> dockline_status {
    boundary(|| {
        check_out(out_value)?;
        // SAFETY: the caller's promise about `request`.
        let request = unsafe { struct_from_c(request, request_size) }?;
        // SAFETY: the caller's promise about `name`.
        let name = unsafe { name.bytes() }?;
        // SAFETY: the request is as the library returned it.
        let fields = unsafe { array_from_c(request.fields, request.field_count) }?;
        let mut found = dockline_str::ABSENT;
        let mut left = nth;
        for field in fields {
            // SAFETY: as above.
            let own = unsafe { field.name.bytes() }?;
            if own.eq_ignore_ascii_case(name) {
                if left == 0 {
                    found = field.value;
                    break;
                }
                left -= 1;
            }
        }
        // SAFETY: checked, and the caller's promise.
        unsafe { out_value.write(found) };
        Ok(())
    })
}

/// Converts a head. The result points into `head` and `fields`.
pub(super) fn request_to_c(head: &RequestHead, fields: &mut Vec<dockline_field>) -> dockline_request {
    fields.clear();
    fields.extend(head.fields.iter().map(|line| dockline_field {
        name: dockline_str::new(line.name()),
        value: dockline_str::new(line.value()),
    }));
    dockline_request {
        method: dockline_str::new(head.method()),
        target: dockline_str::new(head.target().as_bytes()),
        fields: fields.as_ptr(),
        field_count: fields.len(),
        version: match head.version {
            Version::Http10 => DOCKLINE_HTTP_10,
            Version::Http11 => DOCKLINE_HTTP_11,
        },
        reserved: 0,
    }
}

/// Fields that frame a reply, which the library writes itself.
const OWN_FIELDS: [&str; 5] =
    ["Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Upgrade"];

/// # Safety
/// `reply` is NULL or points to `size` readable bytes, and so does what is in it.
pub(super) unsafe fn reply_from_c(reply: *const dockline_reply, size: usize) -> Result<Reply, Failure> {
    // SAFETY: the caller's promise.
    let reply = unsafe { struct_from_c(reply, size) }?;
    // SAFETY: the caller's promise about what is in it.
    let content_type = unsafe { reply.content_type.optional() }?;
    // SAFETY: as above.
    let body = unsafe { bytes_from_c(reply.body, reply.body_len) }?;
    // SAFETY: as above.
    let fields = unsafe { array_from_c(reply.fields, reply.field_count) }?;
    let status = u16::try_from(reply.status).map_err(|_| Failure::Value)?;
    let has_no_body = matches!(status, 204 | 205 | 304);
    if !(200..600).contains(&status) || reply.reserved != 0 || (has_no_body && !body.is_empty()) {
        return Err(Failure::Value);
    }
    let mut out = match content_type {
        Some(text) => {
            FieldLine::new("Content-Type", Bytes::copy_from_slice(text)).map_err(|_| Failure::Value)?;
            Reply::new(status, Bytes::copy_from_slice(text), Bytes::copy_from_slice(body))
        }
        None if has_no_body => Reply::new(status, Bytes::new(), Bytes::new()),
        None => Reply::error(status, std::str::from_utf8(body).map_err(|_| Failure::Value)?),
    };
    for field in fields {
        // SAFETY: the caller's promise.
        let line = unsafe { field_from_c(field) }?;
        if OWN_FIELDS.iter().any(|own| line.is(own)) {
            return Err(Failure::Value);
        }
        out = out.with_field(line);
    }
    Ok(out)
}

/// Copies a field line.
///
/// # Safety
/// Its text is readable.
pub(super) unsafe fn field_from_c(field: &dockline_field) -> Result<FieldLine, Failure> {
    // SAFETY: the caller's promise.
    let name = unsafe { field.name.bytes() }?;
    // SAFETY: the caller's promise.
    let value = unsafe { field.value.bytes() }?;
    FieldLine::new(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)).map_err(|_| Failure::Value)
}
