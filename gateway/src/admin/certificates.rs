#![forbid(unsafe_code)]
//! The certificates of the listeners, and how long they are valid: `GET /certificates.json`, and a
//! metric.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dockline::engine::ListenerSettings;
use dockline::engine::tls::ServerTls;
use dockline::proxy::Reply;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::serve::front_door::PlannedFrontDoor;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// The TLS of the listeners, which knows the certificates that are in use.
#[derive(Debug, Default)]
pub(crate) struct Certificates(ArcSwap<Vec<(Arc<str>, Arc<ServerTls>)>>);

/// What is shown of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Certificate {
    /// The listener that shows it.
    pub(crate) listener: String,
    /// The common name of its subject, else the first of `names`.
    pub(crate) name: String,
    /// The hosts and addresses that it is for.
    pub(crate) names: Vec<String>,
    /// Whole days for which it is valid; negative once it has expired.
    pub(crate) days_left: i64,
}

#[derive(Serialize)]
struct All {
    certificates: Vec<Certificate>,
}

impl Certificates {
    /// Takes the certificates of these listeners, and of a front door.
    pub(crate) fn set(&self, listeners: &[ListenerSettings], front_door: Option<&PlannedFrontDoor>) {
        let tls = |listener: &ListenerSettings| {
            listener.tls.as_ref().map(|tls| (Arc::clone(&listener.name), Arc::clone(tls)))
        };
        let front_door = front_door.map(|planned| (Arc::from("front door"), Arc::clone(&planned.terms.tls)));
        self.0.store(Arc::new(listeners.iter().filter_map(tls).chain(front_door).collect()));
    }

    /// Returns the certificates in the order of the listeners, and of each listener the default one
    /// first.
    pub(crate) fn list(&self) -> Vec<Certificate> {
        let now = now();
        let of_listener = |(listener, tls): &(Arc<str>, Arc<ServerTls>)| {
            let leaves = tls.certificates();
            leaves.iter().filter_map(|leaf| read(listener, leaf, now)).collect::<Vec<_>>()
        };
        self.0.load().iter().flat_map(of_listener).collect()
    }

    /// Replies with them as JSON.
    pub(super) fn describe(&self) -> Reply {
        match serde_json::to_vec(&All { certificates: self.list() }) {
            Ok(json) => Reply::new(200, super::JSON, json),
            Err(error) => Reply::error(500, &error.to_string()),
        }
    }
}

/// Reads a certificate, at a second since 1970; `None`: it is none.
fn read(listener: &str, leaf: &[u8], now: i64) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect();
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let name = common_name.map(str::to_owned).or_else(|| names.first().cloned()).unwrap_or_default();
    let seconds = certificate.validity().not_after.timestamp().saturating_sub(now);
    Some(Certificate {
        listener: listener.to_owned(),
        name,
        names,
        days_left: seconds.div_euclid(SECONDS_PER_DAY),
    })
}

/// Returns the address that a name has (RFC 5280, section 4.2.1.6).
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4().or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the time of day")]
fn now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use dockline::engine::tls::{Credentials, Pem, ServerTlsConfig};
    use dockline::engine::{Route, RouteRequest, Router, Service};
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    /// It is valid until 2030-01-02.
    fn params(common_name: Option<&str>, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.not_after = date_time_ymd(2030, 1, 2);
        params
    }

    fn read_at(params: &CertificateParams, now: i64) -> Certificate {
        let leaf = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        read("web", leaf.der(), now).unwrap()
    }

    #[test]
    fn a_certificate_has_a_name_and_all_its_names() {
        let both = read_at(&params(Some("shop"), &["a.test", "*.a.test", "192.0.2.1", "fd00::1"]), 0);
        assert_eq!(both.name, "shop");
        assert_eq!(both.names, ["a.test", "*.a.test", "192.0.2.1", "fd00::1"]);
        assert_eq!(read_at(&params(None, &["a.test"]), 0).name, "a.test");
        assert_eq!(read_at(&params(None, &[]), 0).name, "");
    }

    #[test]
    fn days_are_whole_and_negative_once_it_has_expired() {
        let end = 1_893_542_400;
        for (now, days) in [
            (end - 2 * SECONDS_PER_DAY, 2),
            (end - 2 * SECONDS_PER_DAY + 1, 1),
            (end - 1, 0),
            (end, 0),
            (end + 1, -1),
            (end + SECONDS_PER_DAY + 1, -2),
        ] {
            assert_eq!(read_at(&params(None, &[]), now).days_left, days, "{now}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_left_out() {
        assert_eq!(read("web", b"nonsense", 0), None);
        assert_eq!((ip(&[1, 2, 3]), ip(&[0; 5])), (None, None));
    }

    #[test]
    fn those_that_a_listener_uses_now_are_listed() {
        struct Nowhere;
        impl Router for Nowhere {
            fn route(&self, _: &RouteRequest<'_>) -> Route {
                Route::Reply(Reply::error(404, "nowhere"))
            }
        }
        let config = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let chain = params(Some(name), &[]).self_signed(&key).unwrap().pem();
            let (chain, key) = (Pem::new("cert", chain), Pem::new("key", key.serialize_pem()));
            ServerTlsConfig::new(Credentials { chain, key })
        };
        let listener = |name: &str| ListenerSettings::new(name, Service::Http(Arc::new(Nowhere)));
        let mut secure = listener("secure");
        let tls = Arc::new(ServerTls::new(&config("old")).unwrap());
        secure.tls = Some(Arc::clone(&tls));
        let certificates = Certificates::default();
        certificates.set(&[listener("plain"), secure], None);
        let names = || {
            let list = certificates.list();
            list.iter().map(|one| format!("{} {}", one.listener, one.name)).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["secure old"]);
        tls.reload(&config("new")).unwrap();
        assert_eq!(names(), ["secure new"]);
        certificates.set(&[], None);
        assert_eq!(names(), [""; 0]);
    }
}
