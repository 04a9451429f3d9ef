#![forbid(unsafe_code)]
//! `dockline healthcheck`: asks a running gateway whether it is ready.

use dockline::untrusted::Untrusted;

use super::client::AdminClient;
use crate::address::ListenAddress;
use crate::problem::Problem;

/// Asks whether the gateway is ready, and returns that with the text of the response.
pub(crate) fn ask(admin: &ListenAddress) -> Result<(bool, Untrusted<String>), Problem> {
    let answer = AdminClient::new(admin.clone(), None).get("/readyz")?;
    Ok((answer.status == 200, answer.body))
}
