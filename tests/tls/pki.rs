//! Certificates made for a test. Times are seconds since the epoch.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dockline::engine::tls::{Credentials, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

/// What a certificate is for.
pub(crate) enum Usage {
    Client,
    Server,
    Any,
}

/// Returns the time that many days from now.
pub(crate) fn days(days: i64) -> u64 {
    UnixTime::now().as_secs().checked_add_signed(days * 86_400).unwrap()
}

/// A certificate and its key, in the forms of dockline and of rustls.
pub(crate) struct Leaf {
    pub(crate) credentials: Credentials,
    pub(crate) der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Leaf {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serial: AtomicU64,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, serial: AtomicU64::new(1) }
    }

    pub(crate) fn pem(&self) -> Pem {
        Pem::new("ca.pem", self.text())
    }

    pub(crate) fn text(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn server(&self, names: &[&str]) -> Leaf {
        self.issue(names, &Usage::Server, days(-1), days(30))
    }

    /// Issues a certificate that is valid on the days given, relative to now.
    pub(crate) fn leaf(&self, usage: Usage, validity: Range<i64>) -> Leaf {
        self.issue(&["someone.test"], &usage, days(validity.start), days(validity.end))
    }

    pub(crate) fn client_until(&self, not_after: u64) -> Leaf {
        self.issue(&["someone.test"], &Usage::Client, days(-1), not_after)
    }

    fn issue(&self, names: &[&str], usage: &Usage, not_before: u64, not_after: u64) -> Leaf {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(not_before);
        params.not_after = epoch + Duration::from_secs(not_after);
        params.serial_number = Some(SerialNumber::from(self.serial.fetch_add(1, Ordering::Relaxed)));
        params.extended_key_usages = match usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Any => vec![],
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let credentials = Credentials {
            chain: Pem::new("cert.pem", certificate.pem()),
            key: Pem::new("key.pem", key.serialize_pem()),
        };
        Leaf { credentials, der: certificate.der().clone(), key: key.serialize_der() }
    }

    /// Issues a list that revokes the certificate with this serial number, valid on the days given.
    pub(crate) fn crl(&self, serial: u64, validity: Range<i64>) -> Pem {
        let epoch = date_time_ymd(1970, 1, 1);
        let this_update = epoch + Duration::from_secs(days(validity.start));
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update: epoch + Duration::from_secs(days(validity.end)),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Pem::new("crl.pem", params.signed_by(&self.issuer).unwrap().pem().unwrap())
    }

    /// Returns the serial number of the certificate issued last.
    pub(crate) fn last_serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed) - 1
    }
}

/// Accepts any certificate of a server.
#[derive(Debug)]
pub(crate) struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Offers every session to every server.
#[derive(Debug)]
pub(crate) struct OneForAll(ClientSessionMemoryCache);

impl OneForAll {
    pub(crate) fn new() -> Self {
        Self(ClientSessionMemoryCache::new(16))
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("all.test").unwrap()
    }
}

impl ClientSessionStore for OneForAll {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(Self::name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&Self::name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(Self::name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&Self::name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&Self::name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(Self::name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&Self::name())
    }
}
