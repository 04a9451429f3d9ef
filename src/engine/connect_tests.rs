use std::net::Ipv4Addr;

use super::super::resolve::Resolver;
use super::*;

#[expect(clippy::disallowed_methods, reason = "some deadline")]
fn asking_for(name: &str) -> Connect {
    Connect {
        upstream: Arc::new(Upstream::new("daemon", Vec::new())),
        owner: Token::NOTHING,
        client: None,
        hops: None,
        time: Duration::ZERO,
        #[cfg(feature = "tls")]
        handshake_time: Duration::ZERO,
        next: 1,
        found: VecDeque::new(),
        stage: Stage::Resolving {
            name: name.into(),
            question: Resolver::new().lookup("127.0.0.1", 1, |_| {}),
        },
        deadline: Instant::now(),
        cause: Cause::NoAddress,
    }
}

/// One session may have asked for another upstream before, and have given up.
#[test]
fn a_late_answer_is_none_to_the_next_question() {
    let answer = |name: &str| Resolved {
        ticket: 0,
        name: name.into(),
        result: Ok(vec![(Ipv4Addr::LOCALHOST, 1).into()]),
    };
    let mut connect = asking_for("tcp://new:1");
    connect.resolved(answer("tcp://old:1"));
    assert!(matches!(connect.stage, Stage::Resolving { .. }), "{connect:?}");
    connect.resolved(answer("tcp://new:1"));
    assert!(matches!(connect.stage, Stage::Resolved { result: Ok(_), .. }), "{connect:?}");
}
