#![forbid(unsafe_code)]
//! Refuses ports that lead back to themselves: connections would be forwarded without end.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use dockline::untrusted::Untrusted;
use dockline_sys::Bound;

use super::ports::{Mapping, Proto};
use super::status::PortStatus;
use crate::problem::Problem;

/// A published port, and its target.
struct Hop {
    name: String,
    bound: Bound,
    target: SocketAddr,
    /// The publication, if it is not this one.
    other: Option<Untrusted<String>>,
}

const HINT: &str = "publish another port, or choose another target";

/// Ports by protocol and number.
#[derive(Default)]
struct Hops(HashMap<(Proto, u16), Vec<Hop>>);

impl Hops {
    fn of(mappings: &[Mapping], target: IpAddr) -> Self {
        let mut all = Self::default();
        for mapping in mappings {
            all.add(mapping.proto, mapping.listen, SocketAddr::new(target, mapping.port), None);
        }
        all
    }

    fn add(
        &mut self,
        proto: Proto,
        listen: SocketAddr,
        target: SocketAddr,
        other: Option<Untrusted<String>>,
    ) {
        let name = format!("{listen}/{}", proto.name());
        let hop = Hop { name, bound: Bound::at(listen), target, other };
        self.0.entry((proto, listen.port())).or_default().push(hop);
    }

    /// Returns the port at which traffic to the target arrives.
    fn at(&self, proto: Proto, target: SocketAddr) -> Option<&Hop> {
        self.0.get(&(proto, target.port()))?.iter().find(|hop| hop.bound.is_reached_by(target))
    }
}

/// Refuses ports that lead to one of themselves.
pub(crate) fn refuse_own(mappings: &[Mapping], target: IpAddr) -> Result<(), Problem> {
    let hops = Hops::of(mappings, target);
    for mapping in mappings {
        let target = SocketAddr::new(target, mapping.port);
        if let Some(hop) = hops.at(mapping.proto, target) {
            return Err(Problem::new(format_args!(
                "{mapping} leads to {target}, which is {} of the same publication: connections would loop",
                hop.name
            ))
            .hint(HINT));
        }
    }
    Ok(())
}

/// Refuses ports that lead back to themselves by way of other publications, whose ports are
/// `others`.
pub(crate) fn refuse_by_way_of(
    others: &[PortStatus],
    mappings: &[Mapping],
    target: IpAddr,
) -> Result<(), Problem> {
    let mut hops = Hops::of(mappings, target);
    for port in others {
        if let Some(target) = port.target {
            hops.add(port.proto, port.listen, target, Some(port.id.clone()));
        }
    }
    for mapping in mappings {
        let mut next = SocketAddr::new(target, mapping.port);
        let (mut seen, mut way) = (HashSet::new(), Vec::new());
        while let Some(hop) = hops.at(mapping.proto, next) {
            let Some(other) = &hop.other else {
                return Err(Problem::new(format_args!(
                    "{mapping} leads back here by way of {}: connections would loop",
                    way.join(", ")
                ))
                .hint("end that publication, or choose another target"));
            };
            if !seen.insert(hop.name.as_str()) {
                break;
            }
            way.push(format!("{} of the publication {other}", hop.name));
            next = hop.target;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ports::PortSpec;
    use super::super::status::By;
    use super::*;

    fn mappings(words: &str, first: Option<u16>) -> Vec<Mapping> {
        let specs = words.split(' ').map(|word| word.parse::<PortSpec>().unwrap());
        specs.flat_map(|spec| spec.mappings(Proto::Tcp, first).unwrap()).collect()
    }

    #[test]
    fn a_port_does_not_lead_to_one_published_with_it() {
        for (words, to, first, loops) in [
            ("8000", "127.0.0.1", None, true),
            ("8000", "::1", None, true),
            ("8000", "0.0.0.0", None, true),
            ("8000", "::ffff:127.0.0.1", None, true),
            ("8000", "127.0.0.2", None, false),
            ("8000", "192.0.2.1", None, false),
            ("8000:8001", "127.0.0.1", None, false),
            ("8000", "127.0.0.1", Some(8001), false),
            ("0.0.0.0:8000", "127.0.0.2", None, true),
            ("0.0.0.0:8000", "::1", None, false),
            ("[::]:8000", "::1", None, true),
            ("[::]:8000", "127.0.0.1", None, false),
            ("0.0.0.0:8000", "192.0.2.1", None, false),
            // Two that lead to each other, and ranges that cross.
            ("8000:8001 8001:8000", "127.0.0.1", None, true),
            ("8000-8010", "127.0.0.1", Some(8005), true),
            ("8000-8010", "127.0.0.1", Some(8011), false),
            ("8000-8010:9000-9010 9010:1", "127.0.0.1", None, true),
            // Not of the same protocol.
            ("8000:8001 8001:9/udp", "127.0.0.1", None, false),
            ("8000/udp", "127.0.0.1", None, true),
        ] {
            let result = refuse_own(&mappings(words, first), to.parse().unwrap());
            assert_eq!(result.is_err(), loops, "{words} to {to} {first:?}: {result:?}");
        }
        let said = refuse_own(&mappings("8000:8001 8001:9", None), "127.0.0.1".parse().unwrap()).unwrap_err();
        let said = said.to_string();
        let wanted =
            "127.0.0.1:8000/tcp leads to 127.0.0.1:8001, which is 127.0.0.1:8001/tcp of the same publication";
        assert!(said.starts_with(wanted), "{said}");
    }

    #[test]
    fn nor_back_to_itself_by_way_of_others() {
        let other = |listen: &str, target: Option<&str>| PortStatus {
            by: By::Dockline,
            id: "00ffab12".to_owned().into(),
            proto: Proto::Tcp,
            listen: listen.parse().unwrap(),
            container: None,
            target: target.map(|target| target.parse().unwrap()),
            port: 0,
            served: None,
        };
        let to = |port: &str| Some(format!("127.0.0.1:{port}"));
        for (others, loops) in [
            (vec![("127.0.0.1:9000", to("8000"))], true),
            (vec![("0.0.0.0:9000", to("8000"))], true),
            (vec![("127.0.0.1:9000", to("9001")), ("127.0.0.1:9001", to("8000"))], true),
            (vec![("127.0.0.1:9000", to("7000"))], false),
            (vec![("127.0.0.1:9000", None)], false),
            (vec![("127.0.0.1:9001", to("8000"))], false),
            // A loop of other publications is not detected here.
            (vec![("127.0.0.1:9000", to("9001")), ("127.0.0.1:9001", to("9000"))], false),
        ] {
            let ports: Vec<_> =
                others.iter().map(|(listen, target)| other(listen, target.as_deref())).collect();
            let own = mappings("8000:9000", None);
            let result = refuse_by_way_of(&ports, &own, "127.0.0.1".parse().unwrap());
            assert_eq!(result.is_err(), loops, "{others:?}: {result:?}");
        }
        let ports = [other("127.0.0.1:9000", Some("127.0.0.1:8000"))];
        let said = refuse_by_way_of(&ports, &mappings("8000:9000", None), "127.0.0.1".parse().unwrap());
        let wanted = "leads back here by way of 127.0.0.1:9000/tcp of the publication 00ffab12:";
        assert!(said.unwrap_err().to_string().contains(wanted));
    }
}
