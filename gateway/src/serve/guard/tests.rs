#![forbid(unsafe_code)]
use dockline::engine::{ClientInfo, Upstream};
use dockline::h1::{HostPolicy, RequestHeadReader};
use dockline::limits::Limits;

use super::*;

fn status(allowed: &Allowed, peer: PeerAddr, request: &str) -> Option<u16> {
    let mut reader = RequestHeadReader::new(&Limits::default(), HostPolicy::Opaque);
    let (head, _) = reader.read(request.as_bytes()).unwrap().unwrap();
    let client = ClientInfo::new(peer, "lan");
    let guard = Guard::new(Arc::new(Upstream::new("docker", Vec::new())), allowed.clone());
    match guard.route(&RouteRequest::new(&client, &head)) {
        Route::Reply(reply) => {
            assert!(format!("{reply:?}").contains("--allow-"), "{reply:?}");
            Some(reply.status().as_u16())
        }
        _ => None,
    }
}

fn tcp() -> PeerAddr {
    PeerAddr::Ip(([127, 0, 0, 1], 1).into())
}

fn answer(allowed: &Allowed, fields: &str) -> Option<u16> {
    status(allowed, tcp(), &format!("POST /containers/create HTTP/1.1\r\n{fields}\r\n"))
}

#[test]
fn names_of_this_machine_and_no_others() {
    let none = Allowed::default();
    for host in [
        "",
        "localhost",
        "LOCALHOST:2375",
        "localhost.",
        "api.moby.localhost",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]:2375",
        "[::ffff:127.0.0.1]",
        "docker",
    ] {
        assert_eq!(answer(&none, &format!("Host: {host}\r\n")), None, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:2375",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "[::]",
        "[2001:db8::1]:2375",
        "docker.evil.example",
        "/var/run/docker.sock",
    ] {
        assert_eq!(answer(&none, &format!("Host: {host}\r\n")), Some(403), "{host}");
    }
}

#[test]
fn pages_of_this_machine_and_no_others() {
    let none = Allowed::default();
    for origin in ["http://localhost", "http://localhost:8080", "https://127.0.0.1", "http://[::1]:3000"] {
        assert_eq!(answer(&none, &format!("Host: localhost\r\nOrigin: {origin}\r\n")), None, "{origin}");
    }
    for origin in [
        "https://evil.example",
        "http://localhost.evil.example",
        "null",
        "",
        "file://",
        "chrome-extension://x",
        "http://localhost@evil.example",
        "http://evil.example\r\nOrigin: http://localhost",
        "http://localhost\r\nOrigin: http://evil.example",
        "http://localhost, http://evil.example",
    ] {
        let fields = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        assert_eq!(answer(&none, &fields), Some(403), "{origin}");
    }
}

#[test]
fn whatever_the_request_is() {
    let none = Allowed::default();
    for (request, expected) in [
        ("GET http://evil.example/info HTTP/1.1\r\nHost: evil.example\r\n\r\n", Some(403)),
        ("GET http://localhost/info HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
        // The authority of the target wins.
        ("GET http://evil.example/info HTTP/1.0\r\n\r\n", Some(403)),
        ("GET /info HTTP/1.0\r\n\r\n", None),
        ("GET /info HTTP/1.0\r\nHost: evil.example\r\n\r\n", Some(403)),
        (
            "GET /containers/x/attach/ws HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            Some(403),
        ),
        ("GET /images/get HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n", Some(403)),
        ("GET /info HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site\r\n\r\n", None),
        ("GET /info HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none\r\n\r\n", None),
        (
            "GET /info HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1\r\n\
             Sec-Fetch-Site: cross-site\r\n\r\n",
            None,
        ),
        // What a proxy may have added says nothing.
        ("GET /info HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n", Some(403)),
    ] {
        assert_eq!(status(&none, tcp(), request), expected, "{request}");
    }
    let socket = PeerAddr::Unix { pid: 1, uid: 0, gid: 0 };
    let request = "GET /info HTTP/1.1\r\nHost: evil.example\r\nOrigin: https://evil.example\r\n\r\n";
    assert_eq!(status(&none, socket, request), None);
    assert_eq!(status(&none, PeerAddr::Unknown, request), Some(403));
}

#[test]
fn a_host_is_the_same_however_it_is_spelt() {
    for (allowed, host, same) in [
        ("[2001:db8:0:0::1]", "[2001:DB8::1]:2375", true),
        ("[::ffff:192.0.2.1]", "192.0.2.1", true),
        ("[2001:db8::1]", "[2001:db8::2]", false),
        (".example.com", "example.com", true),
        (".example.com", "a.b.Example.Com.:2375", true),
        (".example.com", "evilexample.com", false),
        (".example.com", "example.com.evil.example", false),
        ("example.com", "a.example.com", false),
    ] {
        let allowed = Allowed { hosts: vec![allowed.parse().unwrap()], ..Allowed::default() };
        let expected = if same { None } else { Some(403) };
        assert_eq!(answer(&allowed, &format!("Host: {host}\r\n")), expected, "{allowed:?} {host}");
    }
    for (allowed, origin) in
        [("https://ui.example:443", "https://ui.example"), ("http://ui.example:80", "http://ui.example")]
    {
        let allowed = Allowed { origins: vec![allowed.parse().unwrap()], ..Allowed::default() };
        let fields = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        assert_eq!(answer(&allowed, &fields), None, "{origin}");
    }
}

#[test]
fn what_an_operator_allows() {
    let allowed = Allowed {
        hosts: vec!["gateway.example".parse().unwrap(), AllowedHost::of_listener("2001:db8::1")],
        origins: vec!["https://ui.example:8443".parse().unwrap()],
    };
    for (fields, expected) in [
        ("Host: Gateway.Example:2375\r\n", None),
        ("Host: gateway.example.\r\n", None),
        ("Host: [2001:db8::1]:2375\r\n", None),
        ("Host: x.gateway.example\r\n", Some(403)),
        ("Host: localhost\r\nOrigin: https://ui.example:8443\r\n", None),
        ("Host: localhost\r\nOrigin: https://ui.example\r\n", Some(403)),
        ("Host: localhost\r\nOrigin: http://ui.example:8443\r\n", Some(403)),
    ] {
        assert_eq!(answer(&allowed, fields), expected, "{fields}");
    }
    let any = Allowed { hosts: vec!["*".parse().unwrap()], origins: vec!["*".parse().unwrap()] };
    assert_eq!(answer(&any, "Host: /odd\r\nOrigin: null\r\n"), None);
}

#[test]
fn what_can_be_allowed() {
    for host in ["gateway", "gateway.example", "192.0.2.1", "[2001:db8::1]", "*"] {
        assert!(host.parse::<AllowedHost>().is_ok(), "{host}");
    }
    for (host, says) in [
        ("gateway:2375", "without scheme and port"),
        ("https://gateway", "without scheme and port"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("", "not a host name"),
        (".", "not a host name"),
        ("*.example.com", ".example.com with all names below"),
        ("a b", "not a host name"),
    ] {
        assert!(host.parse::<AllowedHost>().unwrap_err().to_string().contains(says), "{host}");
    }
    for origin in ["https://ui.example", "http://ui.example:80", "null", "*"] {
        assert!(origin.parse::<AllowedOrigin>().is_ok(), "{origin}");
    }
    for origin in ["ui.example", "https://", "https://ui.example/", "ftp://ui.example", ""] {
        assert!(
            origin.parse::<AllowedOrigin>().unwrap_err().to_string().contains("as a browser sends it"),
            "{origin}"
        );
    }
}
