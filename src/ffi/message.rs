//! Requests that are looked at, and answers of the host's own.

use std::ptr;

use bytes::Bytes;

use super::boundary::boundary;
use super::hijack::{DOCKLINE_HTTP_10, DOCKLINE_HTTP_11};
use super::status::{Failure, dockline_status};
use super::types::{CStruct, array_from_c, bytes_from_c, check_out, optional_bytes_from_c, struct_from_c};
use crate::h1::{FieldLine, RequestHead, Version};
use crate::proxy::Reply;

/// One field line of a head. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_field {
    /// The name, as sent; compare it without regard to case.
    pub name: *const u8,
    /// Bytes of name.
    pub name_len: usize,
    /// The value, without blanks around it.
    pub value: *const u8,
    /// Bytes of value.
    pub value_len: usize,
}

/// A request head. All of it is borrowed, for as long as the function that gave it says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_request {
    /// The method, as sent.
    pub method: *const u8,
    /// Bytes of method.
    pub method_len: usize,
    /// The request target, as sent.
    pub target: *const u8,
    /// Bytes of target.
    pub target_len: usize,
    /// The field lines, in the order in which they came.
    pub fields: *const dockline_field,
    /// How many there are.
    pub field_count: usize,
    /// DOCKLINE_HTTP_10 or DOCKLINE_HTTP_11
    pub version: u32,
    /// 0
    pub reserved: u32,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_request {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// An answer of the host's own. Everything is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dockline_reply {
    /// 200 to 599
    pub status: u32,
    /// 0
    pub reserved: u32,
    /// Content-Type. NULL: body is a message in UTF-8, and is sent as the Docker Engine API sends errors,
    /// {"message": ...}: docker prints it.
    pub content_type: *const u8,
    /// Bytes of content_type.
    pub content_type_len: usize,
    /// The body; none with status 204, 205 and 304.
    pub body: *const u8,
    /// Bytes of body.
    pub body_len: usize,
    /// More fields. Connection, Content-Length, Content-Type, Transfer-Encoding and Upgrade are not taken.
    pub fields: *const dockline_field,
    /// How many there are.
    pub field_count: usize,
}

// SAFETY: integers and pointers; all zero is valid.
unsafe impl CStruct for dockline_reply {
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Looks a field of a request up by its name, without regard to case. Pure: any thread, no state.
///
/// @param request      as the library gave it, and as long as that is good
/// @param request_size sizeof(dockline_request)
/// @param name         name_len bytes
/// @param nth          0 for the first line of this name, 1 for the second, and so on
/// @param out_value    set on success: borrowed as the request is; NULL if there is no such line
/// @param out_len      set on success: bytes of the value
/// @return DOCKLINE_OK, also if there is no such line; DOCKLINE_E_NULL, _E_SIZE, _E_VALUE
/// @since 0.1
///
/// # Safety
/// The pointers are NULL or point to as many bytes as the sizes say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dockline_request_field(
    request: *const dockline_request,
    request_size: usize,
    name: *const u8,
    name_len: usize,
    nth: usize,
    out_value: *mut *const u8,
    out_len: *mut usize,
) -> dockline_status {
    boundary(|| {
        check_out(out_value)?;
        check_out(out_len)?;
        // SAFETY: the caller's promise about `request`.
        let request = unsafe { struct_from_c(request, request_size) }?;
        // SAFETY: the caller's promise about `name`.
        let name = unsafe { bytes_from_c(name, name_len) }?;
        // SAFETY: the request is as the library gave it.
        let fields = unsafe { array_from_c(request.fields, request.field_count) }?;
        let mut found = (ptr::null(), 0);
        let mut left = nth;
        for field in fields {
            // SAFETY: as above.
            let own = unsafe { bytes_from_c(field.name, field.name_len) }?;
            if own.eq_ignore_ascii_case(name) {
                if left == 0 {
                    found = (field.value, field.value_len);
                    break;
                }
                left -= 1;
            }
        }
        // SAFETY: checked, and the caller's promise.
        unsafe { out_value.write(found.0) };
        // SAFETY: as above.
        unsafe { out_len.write(found.1) };
        Ok(())
    })
}

/// The head as C sees it; `fields` has the lines, and both must outlive the result.
pub(super) fn request_to_c(head: &RequestHead, fields: &mut Vec<dockline_field>) -> dockline_request {
    fields.clear();
    fields.extend(head.fields.iter().map(|line| dockline_field {
        name: line.name().as_ptr(),
        name_len: line.name().len(),
        value: line.value().as_ptr(),
        value_len: line.value().len(),
    }));
    let target = head.target().as_bytes();
    dockline_request {
        method: head.method().as_ptr(),
        method_len: head.method().len(),
        target: target.as_ptr(),
        target_len: target.len(),
        fields: fields.as_ptr(),
        field_count: fields.len(),
        version: match head.version {
            Version::Http10 => DOCKLINE_HTTP_10,
            Version::Http11 => DOCKLINE_HTTP_11,
        },
        reserved: 0,
    }
}

/// What frames an answer is for the library to say.
const OWN_FIELDS: [&str; 5] =
    ["Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Upgrade"];

/// # Safety
/// `reply` is NULL or points to `size` readable bytes, and so does what is in it.
pub(super) unsafe fn reply_from_c(reply: *const dockline_reply, size: usize) -> Result<Reply, Failure> {
    // SAFETY: the caller's promise.
    let reply = unsafe { struct_from_c(reply, size) }?;
    // SAFETY: the caller's promise about what is in it.
    let content_type = unsafe { optional_bytes_from_c(reply.content_type, reply.content_type_len) }?;
    // SAFETY: as above.
    let body = unsafe { bytes_from_c(reply.body, reply.body_len) }?;
    // SAFETY: as above.
    let fields = unsafe { array_from_c(reply.fields, reply.field_count) }?;
    let status = u16::try_from(reply.status).map_err(|_| Failure::Value)?;
    let has_no_body = matches!(status, 204 | 205 | 304);
    if !(200..600).contains(&status) || reply.reserved != 0 || (has_no_body && !body.is_empty()) {
        return Err(Failure::Value);
    }
    let line = |name: &[u8], value: &[u8]| {
        FieldLine::new(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value))
            .map_err(|_| Failure::Value)
    };
    let mut out = match content_type {
        Some(text) => {
            line(b"Content-Type", text)?;
            Reply::new(status, Bytes::copy_from_slice(text), Bytes::copy_from_slice(body))
        }
        None if has_no_body => Reply::new(status, Bytes::new(), Bytes::new()),
        None => Reply::error(status, std::str::from_utf8(body).map_err(|_| Failure::Value)?),
    };
    for field in fields {
        // SAFETY: the caller's promise.
        let name = unsafe { bytes_from_c(field.name, field.name_len) }?;
        // SAFETY: the caller's promise.
        let value = unsafe { bytes_from_c(field.value, field.value_len) }?;
        let line = line(name, value)?;
        if OWN_FIELDS.iter().any(|own| line.is(own)) {
            return Err(Failure::Value);
        }
        out = out.with_field(line);
    }
    Ok(out)
}
