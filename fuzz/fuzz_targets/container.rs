//! What a daemon says of a container, which has chosen most of it: it gets valid routes to its own
//! addresses, or a reason of one printable line.
#![no_main]

use dockline::routes::{HostPattern, PathPrefix};
use dockline::untrusted::is_printable;
use dockline_discovery::address::AddressPolicy;
use dockline_discovery::container::{ContainerReader, Host, LabelOptions};
use dockline_discovery::{Node, Origin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let reader = ContainerReader {
        node: Node { name: "one".parse().unwrap(), gateway: None },
        options: LabelOptions { virtual_host: true, traefik: true, ..LabelOptions::default() },
        host: Host {
            own_addresses: vec!["172.17.0.1".parse().unwrap()],
            address: Some("192.0.2.1".parse().unwrap()),
            ..Host::default()
        },
    };
    let Ok(read) = reader.read(json) else { return };
    for record in &read.records {
        let host = match &record.key.host {
            HostPattern::Name(name) => HostPattern::name(name),
            host => HostPattern::host(&host.to_string()),
        };
        assert_eq!(host.as_ref(), Ok(&record.key.host));
        let path = record.key.path.as_str().parse::<PathPrefix>();
        assert_eq!(path.as_ref(), Ok(&record.key.path));
        match record.target.as_ref().map(|target| &target.address) {
            Some(Origin::Ip(address)) => {
                assert!(AddressPolicy::default().check(&record.id.node, *address).is_ok(), "{address}");
            }
            Some(Origin::Host(..)) => panic!("a container named a host"),
            None => {}
        }
    }
    if let Some(unrouted) = &read.unrouted {
        assert!(unrouted.reason.to_string().chars().all(is_printable));
    }
});
