//! A head that is changed on its way.

use std::sync::Arc;

use dockline::engine::{Destination, Upstream};
use dockline::h1::FieldLine;
use dockline::proxy::Rewrite;

use super::super::support::{ATTACH, OK, SWITCHED, Setup, accept, listen, read_head, read_until, send, tcp};
use super::{Fixed, app};

fn rewrite() -> Rewrite {
    let prefix = FieldLine::new("X-Forwarded-Prefix", "/shop").unwrap();
    let rewrite = Rewrite::new().with_target("/list?all=1").unwrap();
    rewrite.with_host("shop.internal:8080").unwrap().with_field(prefix).unwrap()
}

#[test]
fn the_upstream_gets_the_changed_head_and_the_record_has_the_original() {
    let (listener, at) = listen();
    let destination = app([tcp(at)]);
    let mut upstream = Upstream::new("named", vec![tcp(at)]);
    upstream.host = Some("of-the-upstream".into());
    let destination =
        Destination { upstream: Arc::new(upstream), rewrite: Some(Arc::new(rewrite())), ..destination };
    let engine = Setup::routed(Arc::new(Fixed(destination))).start();
    let mut client = engine.connect();
    let mut daemon = None;
    // The second request goes to the same connection of the daemon, the third is sent again.
    for round in 0..3 {
        send(
            &mut client,
            "GET /shop/list?all=1 HTTP/1.1\r\nHost: example.com\r\nX_Forwarded_Prefix: /evil\r\n\
             Connection: x-forwarded-prefix\r\nX-Other: 1\r\n\r\n",
        );
        let mut stream = daemon.take().unwrap_or_else(|| accept(&listener));
        let expected = "GET /list?all=1 HTTP/1.1\r\nHost: shop.internal:8080\r\nX-Other: 1\r\n\
                        X-Forwarded-Prefix: /shop\r\n\r\n";
        assert_eq!(read_head(&mut stream), expected);
        if round == 2 {
            drop(stream);
            stream = accept(&listener);
            assert_eq!(read_head(&mut stream), expected);
        }
        send(&mut stream, OK);
        assert_eq!(read_until(&mut client, "\r\n\r\nOK"), OK);
        engine.until("it is kept", |stats| stats.pooled_now == 1);
        let record = engine.sees("exchange");
        assert_eq!(record, "exchange complete Some(200) named by app /shop/list?all=1");
        daemon = Some(stream);
    }
    drop((client, daemon));
    engine.close();
}

#[test]
fn the_request_that_opens_a_tunnel_is_changed_like_any_other() {
    let (listener, at) = listen();
    let destination = Destination { rewrite: Some(Arc::new(rewrite())), ..app([tcp(at)]) };
    let engine = Setup::routed(Arc::new(Fixed(destination))).start();
    let mut client = engine.connect();
    send(&mut client, ATTACH);
    let mut daemon = accept(&listener);
    let expected = "POST /list?all=1 HTTP/1.1\r\nHost: shop.internal:8080\r\nConnection: Upgrade\r\n\
                    Upgrade: tcp\r\nX-Forwarded-Prefix: /shop\r\n\r\n";
    assert_eq!(read_head(&mut daemon), expected);
    send(&mut daemon, SWITCHED);
    read_head(&mut client);
    drop((client, daemon));
    assert!(engine.sees("tunnel").ends_with("by app /containers/x/attach"));
    engine.close();
}
