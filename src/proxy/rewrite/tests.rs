//! What a rewrite refuses, and what becomes of the rest.

use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::error::Side;
use crate::h1::{Fields, HostPolicy, RequestHeadReader, request_framing};
use crate::limits::Limits;
use crate::proxy::conn::Client;
use crate::proxy::{ConnConfig, Forwarding, ProxyConn};

fn read(bytes: &[u8]) -> Option<RequestHead> {
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
    reader.read(bytes).ok().flatten().map(|(head, _)| head)
}

/// Returns the head that the upstream gets.
#[expect(clippy::disallowed_methods, reason = "some instant")]
fn sent(request: &[u8], rewrite: Option<Rewrite>) -> RequestHead {
    let now = Instant::now();
    let forwarding =
        Forwarding { via: Some("d".into()), x_forwarded: true, forwarded: true, ..Forwarding::default() };
    let config = ConnConfig { forwarding, allow_connect: true, ..ConnConfig::default() };
    let client = Client { address: Some("192.0.2.1".parse().unwrap()), tls: false };
    let mut conn = ProxyConn::new(Arc::new(config), client, now);
    conn.feed(Side::Downstream, request, now);
    if let Some(rewrite) = rewrite {
        conn.rewrite(rewrite);
    }
    conn.upstream_ready(Some("upstream"), false, now);
    read(conn.output(Side::Upstream)).unwrap()
}

fn line(name: &str, value: &str) -> FieldLine {
    FieldLine::new(name.to_owned(), value.to_owned()).unwrap()
}

fn values<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    fields.values(name).collect()
}

#[test]
fn fields_that_the_proxy_decides_about_are_refused() {
    for name in [
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "HTTP2-Settings",
        "Host",
        "Expect",
        "Via",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
    ] {
        for name in [name.to_owned(), name.to_uppercase(), name.replace('-', "_")] {
            assert_eq!(Rewrite::new().with_field(line(&name, "1")), Err(RewriteError::Field), "{name}");
        }
    }
    for name in ["X-Forwarded-Prefix", "Authorization", "Content-Type", "Cookie", "X-Client-Name"] {
        assert!(Rewrite::new().with_field(line(name, "1")).is_ok(), "{name}");
    }
}

#[test]
fn targets_and_hosts_that_could_be_read_otherwise_are_refused() {
    for bad in ["", "*", "x", "http://x/", "x:1", "/a b", "/a#b", "/a\r\nX: y", "/\u{e9}", "/a\0", "?a", " /"]
    {
        assert_eq!(Rewrite::new().with_target(bad), Err(RewriteError::Target), "{bad:?}");
    }
    for good in ["/", "//", "/a?b", "/?", "/%20", "/a?\u{e9}"] {
        assert!(Rewrite::new().with_target(good).is_ok(), "{good}");
    }
    assert_eq!(Rewrite::new().with_target(&b"/?\xff"[..]), Err(RewriteError::Target));
    for bad in ["", "a b", "user@host", "a/b", "a:", "a:0", "a,b", "a\r\n", "[::1"] {
        assert_eq!(Rewrite::new().with_host(bad), Err(RewriteError::Host), "{bad:?}");
    }
    for good in ["a", "a.example:8080", "192.0.2.1", "[2001:db8::1]:1"] {
        assert!(Rewrite::new().with_host(good).is_ok(), "{good}");
    }
}

#[test]
fn what_is_set_replaces_what_the_client_has_sent() {
    let request = b"PUT http://example.com/shop/a?b HTTP/1.1\r\nHost: example.com\r\nx_user: evil\r\n\
        X-User: evil\r\nConnection: close, x-user, x-kept\r\nX-Kept: 1\r\nContent-Length: 3\r\n\r\nabc";
    let rewrite = Rewrite::new().with_target("/a?b").unwrap().with_host("shop").unwrap();
    let rewrite = rewrite.with_field(line("X-User", "one")).unwrap();
    let head = sent(request, Some(rewrite.with_field(line("X-User", "two")).unwrap()));
    assert_eq!(head.target().as_bytes(), b"/a?b");
    assert_eq!(values(&head.fields, "Host"), [b"shop"]);
    assert_eq!(values(&head.fields, "X-User"), [b"one", b"two"]);
    assert_eq!(values(&head.fields, "X-Forwarded-Host"), [b"example.com"]);
    assert!(!head.fields.contains("x_user") && !head.fields.contains("X-Kept"));
    assert_eq!(values(&head.fields, "Content-Length"), [b"3"]);
}

#[test]
fn without_a_host_of_its_own_a_rewrite_leaves_that_of_the_upstream() {
    let request = b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let head = sent(request, Some(Rewrite::new().with_target("/b").unwrap()));
    assert_eq!(values(&head.fields, "Host"), [b"upstream"]);
}

/// Its target names the destination for the upstream, and `Host` has to agree with it.
#[test]
fn the_target_and_host_of_connect_stay() {
    let request = b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n";
    let rewrite = Rewrite::new().with_target("/x").unwrap().with_host("other").unwrap();
    let head = sent(request, Some(rewrite.with_field(line("X-User", "one")).unwrap()));
    assert_eq!((head.method(), head.target().as_bytes()), (&b"CONNECT"[..], &b"db:5432"[..]));
    assert_eq!(values(&head.fields, "Host"), [b"db:5432"]);
    assert_eq!(values(&head.fields, "X-User"), [b"one"]);
}

fn name() -> impl Strategy<Value = String> {
    let known = vec![
        "content-length",
        "Content_Length",
        "TRANSFER-ENCODING",
        "connection",
        "upgrade",
        "te",
        "host",
        "trailer",
        "x-user",
        "X_User",
        "via",
        "cookie",
        "expect",
        "x-forwarded-for",
        "x-forwarded-prefix",
    ];
    prop_oneof![select(known).prop_map(str::to_owned), "[A-Za-z_-]{1,12}"]
}

proptest! {
    #[test]
    fn a_target_is_accepted_if_a_reader_would_accept_it(
        raw in prop_oneof![
            "[/?#a%é \r\n\0*:.-]{0,12}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..8),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(|tail| [b"/?", &*tail].concat()),
        ],
    ) {
        let request = [b"GET ", &*raw, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        let is_read = read(&request).is_some_and(|head| {
            head.target().form() == TargetForm::Origin && head.target().as_bytes() == raw
        });
        prop_assert_eq!(Rewrite::new().with_target(raw).is_ok(), is_read);
    }

    /// Whatever a host sets: what it did not set is as without it, framing above all.
    #[test]
    fn a_rewrite_changes_nothing_but_what_it_names(
        lines in prop::collection::vec((name(), "[ -~]{0,8}"), 0..4),
        sent_by_client in prop::collection::vec((name(), "[a-z]{0,8}"), 0..4),
        body in select(vec!["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "\r\n"]),
    ) {
        let own = |name: &str| is_written_here(name.as_bytes());
        let fields: String = sent_by_client
            .iter()
            .filter(|(name, _)| !own(name))
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let request = format!("POST /x HTTP/1.1\r\nHost: x\r\n{fields}{body}");
        let mut rewrite = Rewrite::new();
        for (name, value) in &lines {
            rewrite = rewrite.clone().with_field(line(name, value)).unwrap_or(rewrite);
        }
        let plain = sent(request.as_bytes(), None);
        let changed = sent(request.as_bytes(), Some(rewrite.clone()));
        prop_assert_eq!(
            request_framing(changed.version, &changed.fields),
            request_framing(plain.version, &plain.fields)
        );
        let is_set = |name: &[u8]| {
            let fold = |name: &[u8]| name.to_ascii_lowercase().iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect::<Vec<_>>();
            rewrite.fields().iter().any(|line| fold(line.name()) == fold(name))
        };
        let rest = |head: &RequestHead| {
            head.fields.iter().filter(|line| !is_set(line.name())).map(|line| format!("{line:?}")).collect::<Vec<_>>()
        };
        prop_assert_eq!(rest(&changed), rest(&plain));
        let set: Vec<_> = changed.fields.iter().filter(|line| is_set(line.name())).map(|line| (line.name(), line.value())).collect();
        let wanted: Vec<_> = rewrite.fields().iter().map(|line| (line.name(), line.value())).collect();
        prop_assert_eq!(set, wanted);
    }
}
