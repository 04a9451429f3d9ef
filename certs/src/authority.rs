#![forbid(unsafe_code)]
//! [`Authority`]: issues certificates.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustix::rand::{GetRandomFlags, getrandom};
use time::OffsetDateTime;
use x509_parser::pem::Pem;

use crate::certificate::{Certificate, serial_text};
use crate::error::{CertError, Reason};
use crate::names::{Kind, Name};
use crate::revoked::Revoked;

/// How long before its issue a certificate is valid: the clocks of others may be late.
const SKEW: i64 = 5 * 60;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the certificate is to be good for.
    pub kind: Kind,
    /// The common name, for display.
    pub common_name: String,
    /// What it is to be for.
    pub names: Vec<Name>,
    /// For how many days; it does not outlive the authority.
    pub days: u32,
}

/// A certificate that was issued, with its new key.
pub struct Issued {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: String,
}

/// An authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    certificate: Certificate,
}

impl Authority {
    /// Makes a new one. Returns it with its private key in PEM.
    ///
    /// # Errors
    /// If there are no random numbers, or the name cannot be in a certificate.
    pub fn create(common_name: &str, days: u32, now: i64) -> Result<(Self, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(common_name, now, now.saturating_add(seconds(days)))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        let secret = key.serialize_pem();
        let certificate = Certificate::parse(&pem).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok((Self { issuer: Issuer::new(params, key), pem, certificate }, secret))
    }

    /// Takes an authority from its two files, whose texts are given.
    ///
    /// # Errors
    /// If it is none, if the key is another one's, or if it has expired.
    pub fn of_files(
        (path, pem): (&Path, String),
        (key_path, key): (&Path, &str),
        now: i64,
    ) -> Result<Self, CertError> {
        let failed = |reason| CertError::new(path, reason);
        let key_failed = |reason| CertError::new(key_path, reason);
        let certificate = Certificate::parse(&pem).ok_or_else(|| failed(Reason::NoCertificate))?;
        if !certificate.is_authority {
            return Err(failed(Reason::NotAnAuthority));
        }
        let key = KeyPair::from_pem(key).map_err(|_| key_failed(Reason::NoKey))?;
        if !is_key_of(&key, &pem) {
            return Err(key_failed(Reason::ForeignKey));
        }
        if certificate.not_after <= now {
            return Err(failed(Reason::Expired));
        }
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).map_err(|error| failed(Reason::Generation(error)))?;
        Ok(Self { issuer, pem, certificate })
    }

    /// Returns its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns what its certificate says.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Issues a certificate with a new key.
    ///
    /// # Errors
    /// If there are no random numbers, or a name cannot be in a certificate.
    pub fn issue(&self, request: &Request, now: i64) -> Result<Issued, rcgen::Error> {
        let end = now.saturating_add(seconds(request.days)).min(self.certificate.not_after);
        let mut params = params(&request.common_name, now, end)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        params.extended_key_usages = match request.kind {
            Kind::Server => vec![server],
            Kind::Client => vec![client],
            Kind::Node => vec![server, client],
        };
        params.subject_alt_names =
            request.names.iter().map(alternative_name).collect::<Result<_, rcgen::Error>>()?;
        params.use_authority_key_identifier_extension = true;
        let serial = random_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { serial: serial_text(&serial), certificate, key: key.serialize_pem() })
    }

    /// Returns a revocation list, PEM.
    pub(crate) fn revoke(&self, revoked: &Revoked, now: i64) -> Result<String, rcgen::Error> {
        revoked.sign(&self.issuer, now, self.certificate.not_after)
    }
}

fn params(common_name: &str, now: i64, end: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date(now.saturating_sub(SKEW));
    params.not_after = date(end);
    Ok(params)
}

fn seconds(days: u32) -> i64 {
    i64::from(days) * SECONDS_PER_DAY
}

/// Returns a date; the last one that there is if it is beyond (RFC 5280, section 4.1.2.5).
pub(crate) fn date(seconds: i64) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799;
    OffsetDateTime::from_unix_timestamp(seconds.clamp(0, LAST)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn alternative_name(name: &Name) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Name::Ip(address) => SanType::IpAddress(*address),
        Name::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
    })
}

/// Returns a positive number of 128 bits, of which 126 are random.
fn random_serial() -> Result<[u8; 16], rcgen::Error> {
    let mut serial = [0; 16];
    let mut filled = 0;
    while filled < serial.len() {
        match getrandom(&mut serial[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(rcgen::Error::RingUnspecified),
        }
    }
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn is_key_of(key: &KeyPair, pem: &str) -> bool {
    let mut blocks = Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok);
    let Some(block) = blocks.find(|block| block.label == "CERTIFICATE") else { return false };
    block
        .parse_x509()
        .is_ok_and(|certificate| certificate.public_key().subject_public_key.data.as_ref() == key.der_bytes())
}
