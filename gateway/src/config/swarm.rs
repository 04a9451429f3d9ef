#![forbid(unsafe_code)]
//! The key `swarm` of a daemon: whether it is a manager, and of which swarm.

use std::fmt;

use dockline_discovery::NodeName;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// What a swarm is called that has no name.
const DEFAULT: &str = "swarm";

/// `true`, or the name of the swarm; `None`: its services are not asked for.
#[derive(Debug, PartialEq)]
pub(super) struct SwarmName(pub(super) Option<NodeName>);

impl<'de> Deserialize<'de> for SwarmName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = SwarmName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true if the daemon is a manager of a swarm, or the name of that")
            }

            fn visit_bool<E: Error>(self, is_on: bool) -> Result<SwarmName, E> {
                if is_on { self.visit_str(DEFAULT) } else { Ok(SwarmName(None)) }
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<SwarmName, E> {
                name.parse().map(|name| SwarmName(Some(name))).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}
