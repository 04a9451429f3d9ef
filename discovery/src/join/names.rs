#![forbid(unsafe_code)]
//! The nodes that a certificate names.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The scheme of URIs that name a node: `dockline://node/NAME`.
const SCHEME: &str = "dockline://node/";

/// Returns the nodes that may speak with a verified certificate: its DNS names, and the URIs that
/// name a node. The common name is a display name and counts for nothing (RFC 9525, section 2).
pub(super) fn of_certificate(leaf: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let Some(names) = certificate.subject_alternative_name().ok().flatten() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME).map(str::to_owned),
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn dns_names_and_uris_of_nodes_count_and_the_common_name_does_not() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "common");
        params.subject_alt_names = vec![
            SanType::DnsName("one.example".try_into().unwrap()),
            SanType::URI("dockline://node/two".try_into().unwrap()),
            SanType::URI("dockline://node/".try_into().unwrap()),
            SanType::URI("dockline://team/alice".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
        ];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(of_certificate(certificate.der()), ["one.example", "two"]);
        assert_eq!(of_certificate(b"not a certificate"), [""; 0]);
    }
}
