#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use dockline::routes::{HostPattern, PathPrefix};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// Keys that are read, and others.
fn label() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("enable"),
        Just("name"),
        Just("host"),
        Just("port"),
        Just("scheme"),
        Just("path"),
        Just("strip"),
        Just("network"),
        Just("weight"),
        Just("proxy-protocol"),
        Just("drain"),
        Just("service"),
        Just("start"),
        Just("stop-after"),
        Just("nmae"),
    ];
    prop_oneof![
        3 => key.clone().prop_map(|key| format!("dockline.{key}")),
        2 => ("[ab]", key).prop_map(|(id, key)| format!("dockline.routes.{id}.{key}")),
        1 => "dockline\\.\\PC{0,8}",
        1 => "traefik\\.http\\.(routers|services)\\.[ab]\\.(rule|service|middlewares|loadbalancer\\.server\\.(port|scheme))",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "true|false|web|a\\.example|\\*\\.b\\.example,c|80|8080|http|https|/api|/|bridge|far|7|v1|30s|never|on-demand",
        1 => "\\PC{0,16}",
        1 => any::<String>(),
        1 => "(Host\\(`[ab]`\\)|PathPrefix\\(`/[ab]`\\)|&&|\\|\\||\\(|\\)| ){0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_container_asks_for_it_gets_valid_routes_to_its_own_addresses_or_a_reason(
        labels in btree_map(label(), value(), 0..8),
        env in vec("(DPROXY_FORWARD_NAME|VIRTUAL_HOST|VIRTUAL_PORT|VIRTUAL_PATH)=(web|80|/a|\\PC{0,4})", 0..3),
        mode in "bridge|host|none|container:a",
    ) {
        let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        let labels: Vec<_> = labels.into_iter().collect();
        let container = with(container(&labels), "/Config/Env", json!(env));
        let container = with(container, "/HostConfig/NetworkMode", json!(mode));
        let mut reader = reader();
        (reader.options.virtual_host, reader.options.traefik) = (true, true);
        let read = read_by(&reader, &container);
        for (record, index) in read.records.iter().zip(0..) {
            prop_assert_eq!(record.id.index, index);
            let written = match &record.key.host {
                HostPattern::Name(name) => HostPattern::name(name),
                host => HostPattern::host(&host.to_string()),
            };
            prop_assert_eq!(written.as_ref(), Ok(&record.key.host));
            let path = record.key.path.as_str().parse::<PathPrefix>();
            prop_assert_eq!(path.as_ref(), Ok(&record.key.path));
            prop_assert!((1..=1000).contains(&record.weight));
            let address = record.target.as_ref().unwrap().address.to_string();
            let is_own = address.starts_with("172.17.0.2:") || (mode == "host" && address.starts_with("192.0.2.1:"));
            prop_assert!(is_own, "{}", address);
        }
        let mut keys: Vec<_> = read.records.iter().map(|record| &record.key).collect();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), read.records.len());
        if let Some(unrouted) = &read.unrouted {
            let reason = unrouted.reason.to_string();
            prop_assert!(!reason.is_empty() && reason.chars().all(dockline::untrusted::is_printable), "{}", reason);
        }
        // The same answer, the same records: nothing changes for the directory.
        prop_assert_eq!(&read_by(&reader, &container), &read);
    }

    #[test]
    fn any_bytes_are_the_json_of_a_container_or_an_error(bytes in vec(any::<u8>(), 0..64)) {
        let _ = reader().read(&bytes);
    }

    #[test]
    fn any_text_is_a_rule_or_an_error(text in "(Host\\(|PathPrefix\\(|`[a/]`|&&|\\|\\||\\(|\\)|,| |\\PC){0,16}") {
        if let Ok(routes) = rule::parse(&text) {
            prop_assert!(routes.iter().all(|(hosts, _)| !hosts.is_empty()));
        }
    }
}
