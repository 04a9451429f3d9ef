#![forbid(unsafe_code)]
//! [`Rewrite`]: what a host changes in a request.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use super::conn::is_written_here;
use crate::h1::{Authority, FieldLine, RequestHead, RequestTarget, TargetForm, is_alias};

/// Changes to the head of a request on its way to the upstream. The record of the exchange has the
/// request as it was received, and what is decided by it is decided by that, such as which Docker
/// operation it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    target: Option<Bytes>,
    host: Option<Bytes>,
    fields: Vec<FieldLine>,
}

impl Rewrite {
    /// Returns a rewrite that changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the target: a path, which may have a query (RFC 9112, section 3.2.1). That of a
    /// CONNECT stays.
    ///
    /// # Errors
    /// [`RewriteError::Target`] if it does not begin with `/`, or has a byte that a request line
    /// cannot have.
    pub fn with_target(self, target: impl Into<Bytes>) -> Result<Self, RewriteError> {
        let target = target.into();
        if !RequestTarget::is_origin_form(&target) {
            return Err(RewriteError::Target);
        }
        Ok(Self { target: Some(target), ..self })
    }

    /// Replaces `Host`, also if the upstream has one of its own. That of a CONNECT stays.
    ///
    /// # Errors
    /// [`RewriteError::Host`] if [`Authority::parse`] does not understand it.
    pub fn with_host(self, host: impl Into<Bytes>) -> Result<Self, RewriteError> {
        let host = host.into();
        if Authority::parse(&host).is_none() {
            return Err(RewriteError::Host);
        }
        Ok(Self { host: Some(host), ..self })
    }

    /// Sets a field in place of those with the same name that the client has sent; a name counts as
    /// the same with `_` for `-`, as CGI takes it. Several lines with one name are all sent.
    ///
    /// # Errors
    /// [`RewriteError::Field`] if the proxy decides about the field itself: it frames the message,
    /// concerns one hop (RFC 9110, section 7.6.1), is `Host` or `Expect`, or is one that
    /// [`Forwarding`](super::Forwarding) writes.
    pub fn with_field(mut self, line: FieldLine) -> Result<Self, RewriteError> {
        if is_written_here(line.name()) {
            return Err(RewriteError::Field);
        }
        self.fields.push(line);
        Ok(self)
    }

    pub(super) fn target_of(&self, head: &RequestHead) -> Option<&[u8]> {
        self.target.as_deref().filter(|_| head.target().form() != TargetForm::Authority)
    }

    pub(super) fn host(&self) -> Option<&[u8]> {
        self.host.as_deref()
    }

    /// Returns whether it sets a field in place of those with this name.
    pub(super) fn sets(&self, name: &[u8]) -> bool {
        self.fields.iter().any(|line| is_alias(name, line.name()))
    }

    pub(super) fn fields(&self) -> &[FieldLine] {
        &self.fields
    }
}

/// Why a [`Rewrite`] refuses a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RewriteError {
    /// The target is not a path with an optional query.
    Target,
    /// `Host` does not name a host.
    Host,
    /// The proxy decides about the field itself.
    Field,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target => "the target is not a path that begins with / and fits a request line",
            Self::Host => "the host is neither a name nor an address, with an optional port",
            Self::Field => "the proxy decides about this field itself",
        })
    }
}

impl Error for RewriteError {}

#[cfg(test)]
mod tests;
