#![forbid(unsafe_code)]
//! [`Index`]: the claims of each route, and which routes have changed.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use dockline::routes::RouteKey;

use super::claim::{Claim, contenders};

/// The claims of a route.
#[derive(Debug, Default)]
struct Claims {
    /// In the order of their precedence.
    claims: Vec<Claim>,
    /// When the last of them went, as a number that grows.
    gone: Option<u64>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Index {
    routes: HashMap<RouteKey, Claims>,
    /// The routes without claims, the longest known first.
    gone: BTreeMap<u64, RouteKey>,
    /// How many have gone.
    clock: u64,
    /// What has changed since `take_changes`, with the claims that it had then.
    touched: HashMap<RouteKey, Vec<Claim>>,
}

impl Index {
    pub(super) fn add(&mut self, claim: Claim) {
        let key = &claim.record().key;
        // Most routes have one claim.
        let empty = || Claims { claims: Vec::with_capacity(1), gone: None };
        let route = self.routes.entry(key.clone()).or_insert_with(empty);
        touch(&mut self.touched, key, route);
        let place = route.claims.partition_point(|other| other.precedence(&claim).is_lt());
        route.claims.insert(place, claim);
    }

    pub(super) fn remove(&mut self, claim: &Claim) {
        let key = &claim.record().key;
        let Some(route) = self.routes.get_mut(key) else { return };
        let place = route.claims.partition_point(|other| other.precedence(claim).is_lt());
        if route.claims.get(place).is_some_and(|found| found.record().id == claim.record().id) {
            touch(&mut self.touched, key, route);
            route.claims.remove(place);
        }
    }

    /// Returns the claims of a route; `None` if it is not known.
    pub(super) fn claims(&self, key: &RouteKey) -> Option<&[Claim]> {
        self.routes.get(key).map(|route| &*route.claims)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&RouteKey, &[Claim])> {
        self.routes.iter().map(|(key, route)| (key, &*route.claims))
    }

    /// Returns the routes that are not what they were at the last call. At most `known` routes
    /// without claims are kept.
    pub(super) fn take_changes(&mut self, known: usize) -> Vec<RouteKey> {
        let start = self.clock;
        let mut changed = Vec::with_capacity(self.touched.len());
        for (key, before) in mem::take(&mut self.touched) {
            let Some(route) = self.routes.get_mut(&key) else { continue };
            if route.claims.is_empty() && before.is_empty() {
                if route.gone.is_none() {
                    self.routes.remove(&key);
                }
                continue;
            }
            if let Some(gone) = route.gone.take() {
                self.gone.remove(&gone);
            }
            if route.claims.is_empty() {
                route.gone = Some(self.clock);
                self.gone.insert(self.clock, key.clone());
                self.clock += 1;
            }
            if contenders(&route.claims) != contenders(&before) {
                changed.push(key);
            }
        }
        while self.gone.len() > known {
            let Some((gone, key)) = self.gone.pop_first() else { break };
            self.routes.remove(&key);
            if gone < start {
                changed.push(key);
            }
        }
        changed
    }
}

fn touch(touched: &mut HashMap<RouteKey, Vec<Claim>>, key: &RouteKey, route: &Claims) {
    if !touched.contains_key(key) {
        touched.insert(key.clone(), route.claims.clone());
    }
}
