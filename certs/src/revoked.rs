#![forbid(unsafe_code)]
//! [`Revoked`]: a revocation list, to be continued.

use std::path::Path;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevocationReason, RevokedCertParams,
    SerialNumber,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::authority::date;
use crate::certificate::serial_text;
use crate::error::{CertError, Reason};

/// The certificates that are revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// Serial numbers, and since when.
    entries: Vec<(Vec<u8>, i64)>,
    /// How many lists there were before.
    number: u64,
}

impl Revoked {
    /// Reads a list in PEM.
    pub(crate) fn parse(path: &Path, pem: &str) -> Result<Self, CertError> {
        let failed = || CertError::new(path, Reason::NoCrl);
        let mut blocks = Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok);
        let block = blocks.find(|block| block.label == "X509 CRL").ok_or_else(failed)?;
        let (_, list) = CertificateRevocationList::from_der(&block.contents).map_err(|_| failed())?;
        let number = list.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
        let entries = list
            .iter_revoked_certificates()
            .map(|entry| (entry.raw_serial().to_vec(), entry.revocation_date.timestamp()))
            .collect();
        Ok(Self { entries, number })
    }

    /// Returns whether a certificate is revoked.
    pub(crate) fn contains(&self, serial: &str) -> bool {
        self.entries.iter().any(|(bytes, _)| serial_text(bytes) == serial)
    }

    /// Adds a certificate by its serial number, in hexadecimal digits.
    pub(crate) fn add(&mut self, serial: &str, now: i64) {
        let digits = serial.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
        let bytes: Vec<u8> = digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
        self.entries.push((bytes, now));
    }

    /// Returns the next list in PEM. It is valid until `end`: whoever has none is not let in, so
    /// one that expires early would lock everybody out.
    pub(crate) fn sign(
        &self,
        issuer: &Issuer<'_, KeyPair>,
        now: i64,
        end: i64,
    ) -> Result<String, rcgen::Error> {
        let entry = |(serial, since): &(Vec<u8>, i64)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date(*since),
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date(now),
            next_update: date(end),
            crl_number: SerialNumber::from(self.number + 1),
            issuing_distribution_point: None,
            revoked_certs: self.entries.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(issuer)?.pem()
    }
}
