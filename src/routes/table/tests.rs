use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::routes::samples::{any_host, any_key, any_path};
use crate::routes::{Host, HostPattern, PathPrefix, PatternError};

fn key(host: &str, path: &str) -> RouteKey {
    let host = if host.contains('.') { HostPattern::host(host) } else { HostPattern::name(host) };
    RouteKey { host: host.unwrap(), path: path.parse().unwrap() }
}

fn table<'k>(first_label: bool, keys: &[(&'k str, &'k str)]) -> RouteTable<(&'k str, &'k str)> {
    let options = LookupOptions::new(["apps.example.com", "Example.org."], first_label).unwrap();
    RouteTable::new(options)
        .with_changes(keys.iter().map(|&(host, path)| (key(host, path), Some((host, path)))))
}

/// The host and path of the route for a request.
fn find<'t>(table: &'t RouteTable<(&'t str, &'t str)>, host: &str, path: &str) -> (&'t str, &'t str) {
    match table.lookup(host.as_bytes(), path.as_bytes()) {
        Lookup::Found { value: &(host, path), prefix } => {
            assert_eq!(prefix, path.trim_end_matches('/').len());
            (host, path)
        }
        Lookup::UnknownPath => ("unknown", "path"),
        Lookup::UnknownHost => ("unknown", "host"),
        Lookup::NoHost => ("no", "host"),
    }
}

#[test]
fn a_name_is_found_below_each_base_domain_and_nowhere_else() {
    let table = table(false, &[("web", "/")]);
    for host in ["web.apps.example.com", "WEB.Apps.Example.com.:80", "web.example.org"] {
        assert_eq!(find(&table, host, "/"), ("web", "/"), "{host}");
    }
    for host in
        ["web", "web.example.com", "x.web.apps.example.com", "apps.example.com", "web.apps.example.com.au"]
    {
        assert_eq!(find(&table, host, "/"), ("unknown", "host"), "{host}");
    }
}

#[test]
fn in_first_label_mode_a_name_is_found_by_the_first_label_of_any_host() {
    let table = table(true, &[("web", "/"), ("192", "/")]);
    for host in ["web", "web.192.0.2.4.nip.io", "web.localhost:8080", "web.apps.example.com"] {
        assert_eq!(find(&table, host, "/"), ("web", "/"), "{host}");
    }
    for host in ["x.web.localhost", "192.0.2.4", "[::1]"] {
        assert_eq!(find(&table, host, "/"), ("unknown", "host"), "{host}");
    }
}

#[test]
fn the_most_exact_host_is_taken() {
    let keys = [
        ("web", "/"),
        ("web.apps.example.com", "/"),
        ("*.apps.example.com", "/"),
        ("*.example.com", "/"),
        ("192.0.2.1", "/"),
    ];
    let all = table(true, &keys);
    assert_eq!(find(&all, "web.apps.example.com", "/"), ("web.apps.example.com", "/"));
    assert_eq!(find(&all, "web.example.org", "/"), ("web", "/"));
    assert_eq!(find(&all, "db.apps.example.com", "/"), ("*.apps.example.com", "/"));
    assert_eq!(find(&all, "web.example.com", "/"), ("*.example.com", "/"));
    assert_eq!(find(&all, "web.example.net", "/"), ("web", "/"));
    assert_eq!(find(&all, "192.0.2.1:80", "/"), ("192.0.2.1", "/"));
    let without_exact = table(true, &[("web", "/"), ("*.apps.example.com", "/")]);
    assert_eq!(find(&without_exact, "web.apps.example.com", "/"), ("web", "/"));
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let table = table(false, &[("*.example.com", "/")]);
    assert_eq!(find(&table, "a.example.com", "/"), ("*.example.com", "/"));
    for host in ["example.com", "a.b.example.com", ".example.com", "example.co", "com", "m"] {
        assert_ne!(find(&table, host, "/").0, "*.example.com", "{host}");
    }
}

#[test]
fn the_longest_prefix_that_ends_with_a_segment_is_taken() {
    let table = table(
        false,
        &[
            ("web", "/"),
            ("web", "/api"),
            ("web", "/api-v1"),
            ("web", "/api/v2/x"),
            ("web", "/api/v20"),
            ("db", "/a"),
        ],
    );
    for (path, prefix) in [
        ("/", "/"),
        ("/apix", "/"),
        ("/ap", "/"),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api?x=/api/v20", "/api"),
        ("/api#x", "/api"),
        ("/api/v2", "/api"),
        ("/api/v2/x/y", "/api/v2/x"),
        ("/api/v2/xy", "/api"),
        ("/api/v20/x", "/api/v20"),
        ("/api-v1", "/api-v1"),
        ("/api-v1/x", "/api-v1"),
        ("/api-v10", "/"),
        ("/API", "/"),
        ("*", "/"),
        ("", "/"),
    ] {
        assert_eq!(find(&table, "web.example.org", path), ("web", prefix), "{path}");
    }
    assert_eq!(find(&table, "db.example.org", "/a/"), ("db", "/a"));
    for path in ["/", "/ab", "", "*", "/b", "/0"] {
        assert_eq!(find(&table, "db.example.org", path), ("unknown", "path"), "{path}");
    }
}

#[test]
fn a_host_without_a_route_for_the_path_leaves_it_to_a_less_exact_one() {
    let table = table(false, &[("a.example.com", "/api"), ("*.example.com", "/")]);
    assert_eq!(find(&table, "a.example.com", "/api"), ("a.example.com", "/api"));
    assert_eq!(find(&table, "a.example.com", "/"), ("*.example.com", "/"));
}

#[test]
fn long_prefixes_are_found_in_longer_paths() {
    let longest = format!("/{}", "a".repeat(1023));
    let keys = [("web", longest.as_str())];
    let table = table(false, &keys);
    assert_eq!(find(&table, "web.example.org", &format!("{longest}/{longest}")).1, longest);
    assert_eq!(find(&table, "web.example.org", &longest).1, longest);
    assert_eq!(find(&table, "web.example.org", &format!("{longest}a")), ("unknown", "path"));
}

#[test]
fn a_request_without_a_host_has_no_route() {
    let table = table(true, &[("web", "/")]);
    for host in ["", ":80", "web:x", "we b", "web..a", "web@a"] {
        assert_eq!(find(&table, host, "/"), ("no", "host"), "{host}");
    }
}

#[test]
fn a_change_leaves_the_table_it_was_made_from() {
    let one = table(false, &[("web", "/")]);
    let two = one.with(key("web", "/"), ("two", "/")).with(key("db", "/"), ("db", "/"));
    let three = two.without(&key("web", "/")).without(&key("web", "/"));
    assert_eq!((one.len(), two.len(), three.len()), (1, 2, 1));
    assert_eq!(one.get(&key("web", "/")), Some(&("web", "/")));
    assert_eq!(two.get(&key("web", "/")), Some(&("two", "/")));
    assert_eq!(three.get(&key("web", "/")), None);
    assert_eq!(three.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(), ["db"]);
    assert!(three.without(&key("db", "/")).is_empty());
}

#[test]
fn each_of_many_routes_is_found() {
    let changes = (0..3000).map(|at| (key(&format!("web-{at}"), "/"), Some(at)));
    let table = RouteTable::new(LookupOptions::new([], true).unwrap()).with_changes(changes);
    assert_eq!((table.len(), table.iter().count()), (3000, 3000));
    for at in 0..3000 {
        let found = table.lookup(format!("web-{at}").as_bytes(), b"/");
        assert_eq!(found, Lookup::Found { value: &at, prefix: 0 });
    }
    assert_eq!(table.lookup(b"web-3000", b"/"), Lookup::UnknownHost);
}

#[test]
fn domains_are_host_names_and_not_too_many() {
    let options = |domains: &[&str]| LookupOptions::new(domains.iter().copied(), false);
    assert_eq!(options(&["Example.org."]).unwrap().domains(), &["example.org".into()]);
    for domain in ["*.example.org", "", "192.0.2.1", "[::1]", "a b"] {
        assert!(options(&[domain]).is_err(), "{domain}");
    }
    assert!(options(&["a"; LookupOptions::DOMAINS_MAX]).is_ok());
    assert_eq!(options(&["a"; LookupOptions::DOMAINS_MAX + 1]), Err(PatternError::TooLong));
}

/// What the documentation says, word for word.
fn model<'t>(
    routes: &'t BTreeMap<RouteKey, u32>,
    options: &LookupOptions,
    host: &str,
    path: &str,
) -> Lookup<&'t u32> {
    let Some(host) = Host::parse(host.as_bytes()) else { return Lookup::NoHost };
    let host = String::from_utf8(host.as_bytes().to_vec()).unwrap();
    let is_address = host.rsplit('.').next().unwrap().parse::<u32>().is_ok();
    let (label, parent) = host.split_once('.').unwrap_or((&host, ""));
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(text) => (**text == *host).then_some(0),
        HostPattern::Name(text) if **text == *label && !is_address => {
            let is_below = options.domains().iter().any(|domain| **domain == *parent);
            if is_below { Some(1) } else { options.first_label().then_some(3) }
        }
        HostPattern::Wildcard(text) => (**text == *parent && !is_address).then_some(2),
        HostPattern::Name(_) => None,
    };
    let serves = |prefix: &PathPrefix| {
        let rest = path.strip_prefix(prefix.as_str());
        prefix.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    };
    let of_host = routes.iter().filter_map(|(key, value)| Some((rank(&key.host)?, key, value)));
    let best = of_host
        .clone()
        .filter(|(_, key, _)| serves(&key.path))
        .min_by_key(|(rank, key, _)| (*rank, usize::MAX - key.path.as_str().len()));
    match best {
        Some((_, key, value)) => {
            Lookup::Found { value, prefix: if key.path.is_root() { 0 } else { key.path.as_str().len() } }
        }
        None if of_host.count() > 0 => Lookup::UnknownPath,
        None => Lookup::UnknownHost,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_table_answers_as_a_list_of_its_routes_would(
        batches in vec(vec((any_key(), prop::option::weighted(0.8, any::<u32>())), 0..40), 1..5),
        requests in vec((any_host(), any_path()), 1..40),
        first_label: bool,
    ) {
        let options = LookupOptions::new(["apps.example.com", "example.org", "a"], first_label).unwrap();
        let mut table = RouteTable::new(options.clone());
        let mut routes = BTreeMap::new();
        for batch in batches {
            for (key, value) in batch.clone() {
                match value {
                    Some(value) => routes.insert(key, value),
                    None => routes.remove(&key),
                };
            }
            table = table.with_changes(batch);
        }
        prop_assert_eq!(table.len(), routes.len());
        let listed: BTreeMap<_, _> = table.iter().map(|(key, value)| (key.clone(), *value)).collect();
        prop_assert_eq!(&listed, &routes);
        for (host, path) in requests {
            let host = host.replace('*', "b");
            let found = table.lookup(host.as_bytes(), path.as_bytes());
            prop_assert_eq!(found, model(&routes, &options, &host, &path), "{} {}", host, path);
        }
    }

    #[test]
    fn any_request_is_looked_up_without_a_panic(host: Vec<u8>, path: Vec<u8>) {
        let table = table(true, &[("a", "/"), ("*.a.b", "/a"), ("a.b", "/b")]);
        let _ = table.lookup(&host, &path);
    }
}
