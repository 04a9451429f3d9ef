//! What a router may ask for: several upstreams, a changed head, time to decide; what is in flight,
//! and how it is ended.

mod alternatives;
mod deferral;
mod in_flight;
mod kill;
mod rewriting;

use std::sync::Arc;

use dockline::engine::{Address, Destination, Route, RouteRequest, Router, Upstream};

/// Sends every request to the same destination.
pub(super) struct Fixed(pub(super) Destination);

impl Router for Fixed {
    fn route(&self, _: &RouteRequest<'_>) -> Route {
        Route::To(self.0.clone())
    }
}

pub(super) fn upstream(name: &str, address: Address) -> Arc<Upstream> {
    Arc::new(Upstream::new(name, vec![address]))
}

/// A route with the name `app`, that leads to upstreams with the names `0`, `1`, and so on.
pub(super) fn app(addresses: impl IntoIterator<Item = Address>) -> Destination {
    let mut upstreams = (0..).zip(addresses).map(|(n, address)| upstream(&format!("{n}"), address));
    let first = upstreams.next().unwrap();
    Destination { others: upstreams.collect(), route: Some("app".into()), ..Destination::new(first) }
}
