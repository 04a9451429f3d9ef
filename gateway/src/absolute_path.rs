#![forbid(unsafe_code)]
//! [`AbsolutePath`]: a path that does not depend on the working directory.

use std::env;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::builder::{PathBufValueParser, TryMapValueParser, TypedValueParser, ValueParserFactory};
use dockline::untrusted::Untrusted;
use serde::Deserialize;

use crate::problem::Problem;

/// A path from the command line, the environment or the configuration file. A relative one is
/// completed when it is read, by the directory in which the program was started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct AbsolutePath(PathBuf);

/// Returns the directory in which the program was started, by its name at that time. Must be called
/// first of all.
pub(crate) fn start_directory() -> Option<&'static Path> {
    static START: OnceLock<Option<PathBuf>> = OnceLock::new();
    START.get_or_init(|| env::current_dir().ok()).as_deref()
}

impl AbsolutePath {
    /// Completes a path by [`start_directory`].
    ///
    /// # Errors
    /// If the path is empty, or relative to a directory that did not exist.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Result<Self, Problem> {
        let path = path.into();
        if path.as_os_str().is_empty() {
            return Err(Problem::new("the path is empty"));
        }
        let start = start_directory();
        let path = start.map_or_else(|| path.clone(), |start| start.join(&path));
        std::path::absolute(&path)
            .map(Self)
            .map_err(|error| Problem::wrap("no working directory")(error).hint("write an absolute path"))
    }

    /// Returns the path of a file in this directory.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = Problem;

    fn try_from(path: PathBuf) -> Result<Self, Problem> {
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
    type Parser = TryMapValueParser<PathBufValueParser, fn(PathBuf) -> Result<Self, Problem>>;

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
        assert!(AbsolutePath::new("").unwrap_err().to_string().contains("empty"));
    }
}
