#![forbid(unsafe_code)]
//! [`Certificate`]: what a certificate says.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use crate::error::{CertError, Reason};
use crate::files;
use crate::names::{Kind, Name};

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// The common name of its subject, which is for display only; may be empty.
    pub common_name: String,
    /// That of its issuer.
    pub issuer: String,
    /// What it is for, in the order of the certificate.
    pub names: Vec<Name>,
    /// What it is good for; `None`: it is that of an authority, or names no usage.
    pub kind: Option<Kind>,
    /// Whether it may issue others.
    pub is_authority: bool,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Certificate {
    /// Reads the first certificate of a file.
    ///
    /// # Errors
    /// If it cannot be read, or there is none.
    pub fn read(path: &Path) -> Result<Self, CertError> {
        Self::parse(&files::read(path)?).ok_or_else(|| CertError::new(path, Reason::NoCertificate))
    }

    /// Reads the first certificate of a text in PEM; `None`: there is none.
    #[must_use]
    pub fn parse(pem: &str) -> Option<Self> {
        let mut blocks = Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok);
        let block = blocks.find(|block| block.label == "CERTIFICATE")?;
        let certificate = block.parse_x509().ok()?;
        Some(Self {
            serial: serial_text(certificate.raw_serial()),
            common_name: common_name(certificate.subject()),
            issuer: common_name(certificate.issuer()),
            names: names(&certificate),
            kind: kind(&certificate),
            is_authority: certificate.is_ca(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Returns for how many whole days it is valid; negative once it has expired.
    #[must_use]
    pub fn days_left(&self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).div_euclid(SECONDS_PER_DAY)
    }

    /// Returns whether somebody may mean it by a word: its common name, one of its names, or the
    /// beginning of its serial number, of eight digits at least.
    #[must_use]
    pub fn is_called(&self, word: &str) -> bool {
        let is_serial = word.len() >= 8 && self.serial.starts_with(&word.to_ascii_lowercase());
        is_serial || self.common_name == word || self.names.iter().any(|name| name.to_string() == word)
    }
}

/// Returns a serial number in hexadecimal digits.
pub(crate) fn serial_text(bytes: &[u8]) -> String {
    // A leading zero only says that the number is positive.
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    };
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    name.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<Name> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let read = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
        GeneralName::URI(uri) => Some(Name::Uri((*uri).to_owned())),
        GeneralName::IPAddress(bytes) => ip(bytes).map(Name::Ip),
        _ => None,
    };
    names.iter().flat_map(|names| &names.value.general_names).filter_map(read).collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4().or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

fn kind(certificate: &X509Certificate<'_>) -> Option<Kind> {
    let usage = certificate.extended_key_usage().ok().flatten()?;
    match (usage.value.server_auth, usage.value.client_auth) {
        (true, true) => Some(Kind::Node),
        (true, false) => Some(Kind::Server),
        (false, true) => Some(Kind::Client),
        (false, false) => None,
    }
}
