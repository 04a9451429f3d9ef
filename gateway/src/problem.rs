#![forbid(unsafe_code)]
//! [`Problem`]: why the program cannot do what it was asked to do.

use std::error::Error;
use std::fmt;

use dockline::untrusted::Line;

/// What is wrong, where, why, and what to do about it, for the person who runs the program. It is
/// displayed as one line, `PLACE: MESSAGE: CAUSE; HINT`, and the lines of the file that it is
/// about.
#[derive(Debug)]
pub(crate) struct Problem {
    place: Option<String>,
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    excerpt: Option<String>,
}

impl Problem {
    /// Makes a problem from what is wrong.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { place: None, message: message.to_string(), cause: None, hint: None, excerpt: None }
    }

    /// Returns a function that makes a problem from its cause, for `map_err`.
    pub(crate) fn wrap<E: Error + Send + Sync + 'static>(
        message: impl fmt::Display,
    ) -> impl FnOnce(E) -> Self {
        move |cause| Self::new(message).because(cause)
    }

    /// Adds where it is: an option, a place in a file, an address. It comes before places that were
    /// added earlier.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(match self.place {
            Some(inner) => format!("{place}: {inner}"),
            None => place.to_string(),
        });
        self
    }

    /// Adds the error that caused it.
    pub(crate) fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds lines of the file, whose text must be printable.
    pub(crate) fn excerpt(mut self, lines: String) -> Self {
        self.excerpt = Some(lines);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}: ", Line(place))?;
        }
        Line(&self.message).fmt(f)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {}", Line(cause))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {}", Line(hint))?;
        }
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        Ok(())
    }
}

/// It has no source, because its cause is displayed with it.
impl Error for Problem {}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_parts_are_in_one_line() {
        let cause = io::Error::other("refused\n");
        let problem =
            Problem::new("cannot listen").at("--listen x").because(cause).hint("choose another\taddress");
        assert_eq!(problem.to_string(), "--listen x: cannot listen: refused\\n; choose another\\taddress");
        assert_eq!(Problem::new("a").excerpt(" 1 | b".into()).to_string(), "a\n 1 | b");
    }
}
