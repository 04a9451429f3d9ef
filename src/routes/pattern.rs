#![forbid(unsafe_code)]
//! [`RouteKey`]: which requests a route serves.

use std::error::Error;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Bytes of a host name at most (RFC 1035, section 2.3.4, without the final dot).
pub const HOST_MAX: usize = 253;

/// Bytes of a label at most (RFC 1035, section 2.3.4).
pub(super) const LABEL_MAX: usize = 63;

/// Bytes of a path prefix at most.
pub const PATH_MAX: usize = 1024;

/// Which hosts a route serves. All text is in lower case and has no final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// A name below each of the base domains; in first-label mode also the first label of any host.
    Name(Box<str>),
    /// This host.
    Exact(Box<str>),
    /// Each host with one label more than this: `example.com` of `*.example.com`.
    Wildcard(Box<str>),
}

impl HostPattern {
    /// Returns the pattern for a name: one label.
    ///
    /// # Errors
    /// If it is not a label of letters, digits, hyphens and underscores, or is too long.
    pub fn name(name: &str) -> Result<Self, PatternError> {
        if name.is_empty() {
            return Err(PatternError::Empty);
        }
        let name = name.to_ascii_lowercase();
        check_label(&name)?;
        Ok(Self::Name(name.into()))
    }

    /// Returns the pattern for a host, or for `*.` and a host.
    ///
    /// # Errors
    /// If it is not a host name or an IP address, or is too long.
    pub fn host(text: &str) -> Result<Self, PatternError> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.len() > HOST_MAX {
            return Err(PatternError::TooLong);
        }
        match text.strip_prefix("*.") {
            Some(parent) => {
                check_name(parent)?;
                Ok(Self::Wildcard(parent.into()))
            }
            None => {
                check_host(&text)?;
                Ok(Self::Exact(ip6_literal(&text).unwrap_or(text).into()))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Exact(text) => f.write_str(text),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// The start of the paths that a route serves, at the boundary of a segment: `/api` serves `/api`,
/// `/api/x` and `/api?x`, not `/apix`. Compared byte by byte: an escaped letter differs from the
/// letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(Box<str>);

impl PathPrefix {
    /// Returns the prefix of all paths.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Returns the text: `/`, or a path without a final `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is the prefix of all paths.
    #[must_use]
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }
}

impl Default for PathPrefix {
    fn default() -> Self {
        Self::root()
    }
}

impl FromStr for PathPrefix {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let path = text.trim_end_matches('/');
        if path.is_empty() && text.starts_with('/') {
            return Ok(Self::root());
        }
        if path.len() > PATH_MAX {
            return Err(PatternError::TooLong);
        }
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte);
        if !path.starts_with('/') || path.contains("//") || !path.bytes().all(is_plain) {
            return Err(PatternError::Path);
        }
        Ok(Self(path.into()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a route serves. Displayed as host and path; `/` is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The hosts.
    pub host: HostPattern,
    /// The paths.
    pub path: PathPrefix,
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        if self.path.is_root() { Ok(()) } else { self.path.fmt(f) }
    }
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It is empty.
    Empty,
    /// It, or a label of it, is too long.
    TooLong,
    /// A label has another character than letters, digits, hyphens and underscores, or begins or
    /// ends with a hyphen.
    Label,
    /// It is not a path without query, empty segments, spaces, quotes and backslashes.
    Path,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is too long: a host has up to 253 characters, a label 63, a path 1024",
            Self::Label => {
                "a host name has letters, digits, hyphens and underscores, and no label begins or ends with a hyphen"
            }
            Self::Path => "a path begins with `/`, and has no query, `//`, spaces, quotes or backslashes",
        })
    }
}

impl Error for PatternError {}

fn check_label(label: &str) -> Result<(), PatternError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if label.len() > LABEL_MAX {
        return Err(PatternError::TooLong);
    }
    if label.is_empty() || label.starts_with('-') || label.ends_with('-') || !label.bytes().all(is_allowed) {
        return Err(PatternError::Label);
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), PatternError> {
    if host.is_empty() {
        return Err(PatternError::Empty);
    }
    if ip6_literal(host).is_some() { Ok(()) } else { check_name(host) }
}

fn check_name(name: &str) -> Result<(), PatternError> {
    name.split('.').try_for_each(check_label)
}

/// Returns an IPv6 address in brackets in the form that all texts of this address have in common.
fn ip6_literal(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_labels_in_lower_case() {
        assert_eq!(HostPattern::name("Web_1"), Ok(HostPattern::Name("web_1".into())));
        assert_eq!(HostPattern::name(&"a".repeat(63)), Ok(HostPattern::Name("a".repeat(63).into())));
        for (text, error) in [
            ("", PatternError::Empty),
            ("a.b", PatternError::Label),
            ("-a", PatternError::Label),
            ("a-", PatternError::Label),
            ("a b", PatternError::Label),
            ("é", PatternError::Label),
            ("*", PatternError::Label),
        ] {
            assert_eq!(HostPattern::name(text), Err(error), "{text}");
        }
        assert_eq!(HostPattern::name(&"a".repeat(64)), Err(PatternError::TooLong));
    }

    #[test]
    fn hosts_are_exact_or_wildcards() {
        assert_eq!(HostPattern::host("WWW.Example.com."), Ok(HostPattern::Exact("www.example.com".into())));
        assert_eq!(HostPattern::host("*.example.com"), Ok(HostPattern::Wildcard("example.com".into())));
        assert_eq!(HostPattern::host("192.0.2.1"), Ok(HostPattern::Exact("192.0.2.1".into())));
        assert_eq!(HostPattern::host("[2001:DB8:0::1]"), Ok(HostPattern::Exact("[2001:db8::1]".into())));
        for text in ["a..b", ".a", "*", "*.", "a.*.b", "a:80", "a/b", "[::1", "[x]", "*.[::1]", "user@a"] {
            assert!(HostPattern::host(text).is_err(), "{text}");
        }
        let longest = format!("{}.{}", ["a".repeat(63).as_str(); 3].join("."), "b".repeat(61));
        assert_eq!(longest.len(), HOST_MAX);
        assert!(HostPattern::host(&longest).is_ok());
        assert_eq!(HostPattern::host(&format!("{longest}b")), Err(PatternError::TooLong));
    }

    #[test]
    fn prefixes_are_paths_without_a_final_slash() {
        assert_eq!("/".parse(), Ok(PathPrefix::root()));
        assert_eq!("/api/".parse::<PathPrefix>().unwrap().as_str(), "/api");
        for text in ["", "api", "/a?b", "/a#b", "/a//b", "/a b", "/a\\b", "/a\"b"] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
        assert!(format!("/{}", "a".repeat(PATH_MAX - 1)).parse::<PathPrefix>().is_ok());
        assert_eq!(format!("/{}", "a".repeat(PATH_MAX)).parse::<PathPrefix>(), Err(PatternError::TooLong));
    }
}
