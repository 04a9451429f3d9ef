#![forbid(unsafe_code)]
//! [`Drain`]: whether an engine drains, and until when.

use std::time::Instant;

/// Whether an engine finishes what it has begun, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It serves.
    No,
    /// It drains, and waits until everything has ended by itself.
    Unlimited,
    /// It drains, and cuts what is left at this time.
    Until(Instant),
}

impl Drain {
    /// Returns the state after a call to drain, with or without a limit. An earlier limit stays.
    #[must_use]
    pub(super) fn begun(self, limit: Option<Instant>) -> Self {
        [self.limit(), limit].into_iter().flatten().min().map_or(Self::Unlimited, Self::Until)
    }

    pub(super) fn is_draining(self) -> bool {
        self != Self::No
    }

    /// Returns the time at which what is left is cut.
    pub(super) fn limit(self) -> Option<Instant> {
        match self {
            Self::No | Self::Unlimited => None,
            Self::Until(limit) => Some(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_limit_is_only_ever_shortened() {
        let soon = Instant::now();
        let later = soon + Duration::from_secs(1);
        assert_eq!(Drain::No.begun(None), Drain::Unlimited);
        assert_eq!(Drain::No.begun(Some(later)), Drain::Until(later));
        assert_eq!(Drain::Unlimited.begun(Some(later)), Drain::Until(later));
        assert_eq!(Drain::Until(later).begun(Some(soon)), Drain::Until(soon));
        assert_eq!(Drain::Until(soon).begun(Some(later)), Drain::Until(soon));
        assert_eq!(Drain::Until(soon).begun(None), Drain::Until(soon));
    }
}
