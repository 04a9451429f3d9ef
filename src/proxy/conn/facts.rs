#![forbid(unsafe_code)]
//! The facts of heads that the hijack decision needs.

use std::borrow::Cow;

use crate::h1::{Fields, RequestHead, ResponseHead};
use crate::proxy::config::ConnConfig;
use crate::proxy::hijack::{self, Decision, RequestFacts, RequestKind, RequestPlan, ResponseFacts};

/// Decides how a request is passed on.
pub(super) fn plan(head: &RequestHead, config: &ConnConfig) -> RequestPlan {
    with_facts(head, config, hijack::plan)
}

/// Decides what a response head means, given the plan of its request.
pub(super) fn decide(
    request: &RequestHead,
    plan: &RequestPlan,
    response: &ResponseHead,
    config: &ConnConfig,
) -> Decision {
    // Only a request that proposes a switch can get one: for most responses the facts need not be
    // gathered.
    if plan.kind != RequestKind::Switch && !response.status().is_interim() {
        return Decision::Message;
    }
    let fields = &response.fields;
    let upgrade = joined(fields, "Upgrade");
    let facts = ResponseFacts {
        status: response.status().as_u16(),
        content_type: fields.values("Content-Type").next(),
        upgrade: upgrade.as_deref(),
        has_length: fields.contains("Content-Length"),
        has_transfer_encoding: fields.contains("Transfer-Encoding"),
    };
    with_facts(request, config, |request| hijack::decide(request, &facts))
}

fn with_facts<T>(head: &RequestHead, config: &ConnConfig, ask: impl FnOnce(&RequestFacts<'_>) -> T) -> T {
    let upgrade = joined(&head.fields, "Upgrade");
    let connection = joined(&head.fields, "Connection");
    ask(&RequestFacts {
        method: head.method(),
        api: config.api,
        target: head.target().as_bytes(),
        base: &config.base,
        version: head.version.into(),
        upgrade: upgrade.as_deref(),
        connection: connection.as_deref(),
        allow_connect: config.allow_connect,
    })
}

/// Returns the value of a list field over all its lines (RFC 9110, section 5.3).
fn joined<'f>(fields: &'f Fields, name: &str) -> Option<Cow<'f, [u8]>> {
    let mut values = fields.values(name);
    let first = values.next()?;
    Some(values.fold(Cow::Borrowed(first), |mut all, value| {
        all.to_mut().extend_from_slice(b", ");
        all.to_mut().extend_from_slice(value);
        all
    }))
}
