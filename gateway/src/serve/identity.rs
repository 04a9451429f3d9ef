#![forbid(unsafe_code)]
//! The identity in a client certificate.

use std::fmt::Write;
use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The scheme of URIs among the subject alternative names that are identities:
/// `dockline://tenant/user`.
const SCHEME: &str = "dockline://";

/// Returns the identity in a verified certificate: its `dockline://` URI, else the common name,
/// else the serial number.
pub(crate) fn of_certificate(leaf: &[u8]) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) if uri.len() > SCHEME.len() && uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        })
    });
    let common_name = || certificate.subject().iter_common_name().next()?.as_str().ok();
    match uri.or_else(common_name).filter(|name| !name.is_empty()) {
        Some(name) => Some(name.into()),
        None => {
            let mut serial = String::from("serial:");
            for byte in certificate.raw_serial() {
                let _ = write!(serial, "{byte:02x}");
            }
            Some(serial.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};

    use super::*;

    fn identity(common_name: Option<&str>, uris: &[&str]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.serial_number = Some(SerialNumber::from(vec![1, 0xab]));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        of_certificate(certificate.der()).unwrap().as_ref().to_owned()
    }

    #[test]
    fn the_uri_wins_over_the_name_over_the_number() {
        assert_eq!(identity(Some("cn"), &["https://x", "dockline://team/alice"]), "dockline://team/alice");
        assert_eq!(identity(Some("cn"), &["https://x", "dockline://"]), "cn");
        assert_eq!(identity(Some(""), &[]), "serial:01ab");
        assert_eq!(identity(None, &[]), "serial:01ab");
    }

    #[test]
    fn an_invalid_certificate_has_no_identity() {
        assert_eq!(of_certificate(b"not a certificate"), None);
    }
}
