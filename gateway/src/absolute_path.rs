#![forbid(unsafe_code)]
//! Paths that lead to the same file for as long as the process lives, whatever becomes of its working directory.

use std::env;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::builder::{PathBufValueParser, TryMapValueParser, TypedValueParser, ValueParserFactory};
use dockline::untrusted::Untrusted;
use serde::Deserialize;

/// A path that somebody has written: on the command line, in the environment, or in the configuration file. A relative
/// one begins at the directory in which the program was started, and is completed when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct AbsolutePath(PathBuf);

/// Returns the directory in which the program was started, by the name that it had then. To be called first of all.
pub(crate) fn start_directory() -> Option<&'static Path> {
    static START: OnceLock<Option<PathBuf>> = OnceLock::new();
    START.get_or_init(|| env::current_dir().ok()).as_deref()
}

impl AbsolutePath {
    /// Completes a path by [`start_directory`].
    ///
    /// # Errors
    /// When the path is empty, or relative and that directory was gone; in words for whoever wrote it.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Result<Self, String> {
        let path = path.into();
        if path.as_os_str().is_empty() {
            return Err("the path is empty".into());
        }
        let start = start_directory();
        let path = start.map_or_else(|| path.clone(), |start| start.join(&path));
        std::path::absolute(&path)
            .map(Self)
            .map_err(|error| format!("the working directory has no name ({error}); write an absolute path"))
    }

    /// The path of something in this directory.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        Self::new(path)
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Untrusted::path(self).fmt(f)
    }
}

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl ValueParserFactory for AbsolutePath {
    type Parser = TryMapValueParser<PathBufValueParser, fn(PathBuf) -> Result<Self, String>>;

    fn value_parser() -> Self::Parser {
        PathBufValueParser::new().try_map(Self::try_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_begins_at_the_working_directory() {
        let here = env::current_dir().unwrap();
        for (written, wanted) in [
            ("a", here.join("a")),
            ("./a/b", here.join("a/b")),
            ("../a", here.join("../a")),
            ("/a/../b", "/a/../b".into()),
        ] {
            assert_eq!(*AbsolutePath::new(written).unwrap(), *wanted, "{written}");
        }
        assert!(AbsolutePath::new("").unwrap_err().contains("empty"));
    }
}
