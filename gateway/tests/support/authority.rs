#![forbid(unsafe_code)]
//! [`Authority`]: certificates for a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::TempDir;

pub(crate) struct Authority(Issuer<'static, KeyPair>, pub(crate) String);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// Issues a certificate for a name. Returns it and its key.
    pub(crate) fn server(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Writes `cert.pem`, `key.pem` and `ca.pem`, the names of Docker's documentation.
    pub(crate) fn issue(&self, dir: &TempDir, purpose: ExtendedKeyUsagePurpose) {
        self.issue_for(dir, purpose, &["localhost", "127.0.0.1"]);
    }

    /// The same, for these names.
    pub(crate) fn issue_for(&self, dir: &TempDir, purpose: ExtendedKeyUsagePurpose, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        dir.write("cert.pem", &params.signed_by(&key, &self.0).unwrap().pem());
        dir.write("key.pem", &key.serialize_pem());
        fs::set_permissions(dir.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        dir.write("ca.pem", &self.1);
    }
}
