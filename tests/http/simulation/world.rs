//! The three parties, what they may do next, and the rules that hold after each step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::error::{Cause, Side, Timeout};
use dockline::h1::ResponseHead;
use dockline::limits::Limits;
use dockline::proxy::conn::{Client, ConnEvent, EndKind, ExchangeEnd, ExchangeSummary, OUTPUT_BOUND, Reuse};
use dockline::proxy::{ConnConfig, ProxyConn, Reply};

use super::script::{Ask, Dice, End, Response, Truth};
use crate::reader;

/// How a connection fails here.
const RESET: Cause = Cause::Reset { errno: Some(104) };

/// The most bytes of one read.
const READ: usize = 16 * 1024;

/// A connection to the daemon, for the time of one exchange.
struct Daemon {
    got: Vec<u8>,
    response: Response,
    fed: usize,
    /// Whether it responds before it has the request.
    is_eager: bool,
    is_reused: bool,
    refuses: bool,
    half_closed: bool,
    /// Whether it ended in another way than its response says.
    gave_up: bool,
}

impl Daemon {
    fn may_respond(&self) -> bool {
        self.is_eager || self.refuses || reader::request(&self.got).is_some_and(|got| got.is_whole)
    }
}

/// An exchange that has ended, with the response that the daemon tried to send last.
struct Past {
    summary: Box<ExchangeSummary>,
    response: Option<Response>,
    gave_up: bool,
}

pub(crate) struct World {
    dice: Dice,
    conn: Option<ProxyConn>,
    now: Instant,
    limits: Limits,
    asks: Vec<Ask>,
    /// The client's place in its script.
    ask: usize,
    offset: usize,
    fed: usize,
    /// Whether the client does everything that it can before time passes.
    is_prompt: bool,
    client_ended: bool,
    client_lost: bool,
    client_got: Vec<u8>,
    stopped: bool,
    needs: Option<bool>,
    kept: usize,
    daemon: Option<Daemon>,
    last: Option<(Response, bool)>,
    /// Whether the last connection was an idle one that closed without a response.
    was_dead: bool,
    past: Vec<Past>,
    closed: Option<bool>,
    tags: Vec<String>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut config = ConnConfig::default();
        config.limits.held = 8 * 1024;
        config.limits.response_time = dice.one_in(3).then_some(Duration::from_secs(30));
        let limits = config.limits;
        let asks = (0..1 + dice.below(6)).map(|number| Ask::roll(&mut dice, number)).collect();
        let now = Instant::now();
        let client = Client { address: None, tls: false };
        Self {
            conn: Some(ProxyConn::new(Arc::new(config), client, now)),
            now,
            limits,
            asks,
            ask: 0,
            offset: 0,
            fed: 0,
            is_prompt: dice.one_in(2),
            client_ended: false,
            client_lost: false,
            client_got: Vec::new(),
            stopped: false,
            needs: None,
            kept: 0,
            daemon: None,
            last: None,
            was_dead: false,
            past: Vec::new(),
            closed: None,
            tags: Vec::new(),
            dice,
        }
    }

    pub(crate) fn run(mut self) -> Vec<String> {
        for _ in 0..self.dice.below(600) {
            if self.is_over() {
                break;
            }
            self.step();
        }
        for rounds in 0.. {
            if self.is_over() {
                break;
            }
            assert!(rounds < 30_000, "the run does not end");
            self.wind_down();
        }
        self.check_client();
        self.tags
    }

    fn is_over(&self) -> bool {
        self.closed.is_some() || self.conn.is_none()
    }

    fn conn(&mut self) -> &mut ProxyConn {
        self.conn.as_mut().unwrap()
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..25 => _ = self.client_sends(),
            25..45 => _ = self.client_takes(),
            45..60 => _ = self.daemon_takes(),
            60..80 => _ = self.daemon_responds(),
            80..86 => _ = self.connects(),
            86..90 => _ = self.shuts(),
            90..94 => _ = self.bypasses(),
            94 | 95 => self.time_passes(),
            96 if self.dice.one_in(4) => self.client_leaves(),
            97 if self.dice.one_in(4) => self.daemon_refuses(),
            98 if self.dice.one_in(20) => {
                let now = self.now;
                self.conn().drain(now);
                self.settle();
            }
            99 if self.dice.one_in(20) => {
                let now = self.now;
                self.stopped = true;
                self.conn().abandon(ExchangeEnd::Stopped, now);
                self.settle();
            }
            _ => {}
        }
    }

    /// Lets all parties do what is left to do, and time pass when there is nothing.
    fn wind_down(&mut self) {
        let deeds: [fn(&mut Self) -> bool; 6] = [
            Self::client_takes,
            Self::daemon_takes,
            Self::shuts,
            Self::connects,
            Self::client_sends,
            Self::daemon_responds,
        ];
        let mut moved = false;
        for deed in deeds {
            moved |= !self.is_over() && deed(self);
        }
        if moved || self.is_over() {
            return;
        }
        if !self.client_ended && self.conn().wants(Side::Downstream).read {
            return self.client_ends();
        }
        if self.daemon.is_some() && self.conn().wants(Side::Upstream).read {
            // It was waiting for a request that will not come.
            let now = self.now;
            self.daemon.as_mut().unwrap().gave_up = true;
            self.conn().feed_eof(Side::Upstream, now);
            return self.settle();
        }
        let at = self.conn().poll_timeout().expect("no event and no deadline is awaited");
        self.now = self.now.max(at);
        self.handle_timeouts();
    }

    // ---- the client

    /// Returns what it would send next: requests up to one whose response it has to see first.
    fn client_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (mut number, mut offset) = (self.ask, self.offset);
        while let Some(ask) = self.asks.get(number).filter(|_| bytes.len() < READ) {
            let is_answered = self.past.len() > number;
            bytes.extend_from_slice(ask.wire.get(offset..).unwrap_or_default());
            if ask.is_switch && !is_answered {
                let early = offset.saturating_sub(ask.wire.len());
                bytes.extend_from_slice(ask.early.get(early..).unwrap_or_default());
                break;
            }
            (number, offset) = (number + 1, 0);
        }
        bytes
    }

    fn client_sends(&mut self) -> bool {
        if self.client_ended || !self.conn().wants(Side::Downstream).read {
            return false;
        }
        let bytes = self.client_bytes();
        let most = if self.dice.one_in(3) { READ } else { 1 + self.dice.below(100) };
        let n = bytes.len().min(most);
        if n == 0 {
            return false;
        }
        let now = self.now;
        self.conn.as_mut().unwrap().feed(Side::Downstream, &bytes[..n], now);
        self.client_moved(n);
        self.settle();
        true
    }

    fn client_moved(&mut self, mut n: usize) {
        self.fed += n;
        while n > 0 {
            let ask = &self.asks[self.ask];
            let is_held = ask.is_switch && self.past.len() <= self.ask;
            let left =
                (ask.wire.len() + if is_held { ask.early.len() } else { 0 }).saturating_sub(self.offset);
            if n < left || (n == left && is_held) {
                self.offset += n;
                return;
            }
            n -= left;
            (self.ask, self.offset) = (self.ask + 1, 0);
        }
    }

    fn client_takes(&mut self) -> bool {
        let n = self.conn().output(Side::Downstream).len();
        if n == 0 || self.client_lost {
            return false;
        }
        let n = if self.dice.one_in(2) { n } else { 1 + self.dice.below(n.min(5_000)) };
        let now = self.now;
        let conn = self.conn.as_mut().unwrap();
        self.client_got.extend_from_slice(&conn.output(Side::Downstream)[..n]);
        conn.output_sent(Side::Downstream, n, now);
        self.settle();
        true
    }

    fn client_ends(&mut self) {
        self.client_ended = true;
        let now = self.now;
        self.conn().feed_eof(Side::Downstream, now);
        self.settle();
    }

    fn client_leaves(&mut self) {
        let now = self.now;
        match self.dice.below(4) {
            0 => {
                (self.client_ended, self.client_lost) = (true, true);
                self.conn().feed_error(Side::Downstream, RESET, now);
                self.settle();
            }
            1 => {
                self.client_lost = true;
                self.conn().output_refused(Side::Downstream, RESET, now);
                self.settle();
            }
            _ if self.conn().wants(Side::Downstream).read && !self.client_ended => self.client_ends(),
            _ => {}
        }
    }

    /// Returns whether its end can only be the end of an incomplete request.
    fn ended_within_request(&self) -> bool {
        self.client_ended
            && self.asks.get(self.ask).is_some_and(|ask| (1..ask.wire.len()).contains(&self.offset))
    }

    // ---- the daemon

    fn connects(&mut self) -> bool {
        let Some(may_reuse) = self.needs.take() else { return false };
        let now = self.now;
        match self.dice.below(25) {
            0 => {
                let failures = [
                    Cause::ConnectFailed { errno: None },
                    Cause::Timeout(Timeout::Connect),
                    Cause::OutOfResources { errno: None },
                ];
                let failure = self.dice.pick(&failures);
                self.conn().upstream_failed(failure, now);
            }
            1 => self.conn().reply(&Reply::error(403, "no"), now),
            _ => {
                let is_reused = may_reuse && self.kept > 0;
                self.kept -= usize::from(is_reused);
                let mut response = Response::roll(&mut self.dice, &self.asks[self.past.len()]);
                if is_reused && self.dice.one_in(3) {
                    response.wire.clear();
                    response.end = Some(End::Eof);
                    (response.truth, response.is_reusable) = (Truth::Refused, false);
                }
                let is_eager = self.dice.one_in(4);
                self.daemon = Some(Daemon {
                    got: Vec::new(),
                    response,
                    fed: 0,
                    is_eager,
                    is_reused,
                    refuses: false,
                    half_closed: false,
                    gave_up: false,
                });
                self.conn().upstream_ready(Some("docker"), is_reused, now);
            }
        }
        self.settle();
        true
    }

    fn daemon_takes(&mut self) -> bool {
        let n = self.conn().output(Side::Upstream).len();
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| n > 0 && !daemon.refuses) else {
            return false;
        };
        let n = if self.dice.one_in(2) { n } else { 1 + self.dice.below(n.min(5_000)) };
        let conn = self.conn.as_mut().unwrap();
        daemon.got.extend_from_slice(&conn.output(Side::Upstream)[..n]);
        conn.output_sent(Side::Upstream, n, self.now);
        self.settle();
        true
    }

    fn daemon_responds(&mut self) -> bool {
        let reads = self.conn().wants(Side::Upstream).read;
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| reads && daemon.may_respond()) else {
            return false;
        };
        let rest = &daemon.response.wire[daemon.fed..];
        let most = if self.dice.one_in(3) { READ } else { 1 + self.dice.below(100) };
        let n = rest.len().min(most);
        let conn = self.conn.as_mut().unwrap();
        if n > 0 {
            daemon.fed += n;
            conn.feed(Side::Upstream, &rest[..n], self.now);
        } else {
            match daemon.response.end {
                Some(End::Eof) => conn.feed_eof(Side::Upstream, self.now),
                Some(End::Reset) => conn.feed_error(Side::Upstream, RESET, self.now),
                None => return false,
            }
        }
        self.settle();
        true
    }

    fn daemon_refuses(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.refuses = true;
            self.conn.as_mut().unwrap().output_refused(Side::Upstream, RESET, self.now);
            self.settle();
        }
    }

    // ---- both

    fn shuts(&mut self) -> bool {
        let now = self.now;
        for side in [Side::Downstream, Side::Upstream] {
            if self.conn().wants(side).shut_write {
                if side == Side::Upstream {
                    assert!(self.client_ended, "half-closed without a reason");
                    self.daemon.as_mut().unwrap().half_closed = true;
                }
                self.conn().shut_done(side, now);
                self.settle();
                return true;
            }
        }
        false
    }

    /// Moves a piece of a body without showing it to the machine, as splice does.
    fn bypasses(&mut self) -> bool {
        let from = self.dice.pick(&[Side::Downstream, Side::Upstream]);
        let most = usize::try_from(self.conn().passthrough(from)).unwrap_or(usize::MAX);
        if most == 0 || !self.conn().wants(from).read || self.client_lost {
            return false;
        }
        let n;
        let daemon = self.daemon.as_mut().expect("a bypass needs two ends");
        match from {
            Side::Downstream => {
                let bytes = self.client_bytes();
                n = bytes.len().min(most);
                let daemon = self.daemon.as_mut().unwrap();
                if n == 0 || daemon.refuses {
                    return false;
                }
                daemon.got.extend_from_slice(&bytes[..n]);
                self.client_moved(n);
            }
            Side::Upstream => {
                let rest = &daemon.response.wire[daemon.fed..];
                n = rest.len().min(most).min(READ);
                if n == 0 {
                    return false;
                }
                self.client_got.extend_from_slice(&rest[..n]);
                daemon.fed += n;
            }
        }
        self.tags.push("passed".into());
        self.conn.as_mut().unwrap().passed(from, n as u64, self.now);
        self.settle();
        true
    }

    fn time_passes(&mut self) {
        if self.is_prompt {
            while !self.is_over() && (self.client_takes() || self.client_sends()) {}
        }
        if !self.is_over() {
            self.now += Duration::from_millis(self.dice.pick(&[1, 1, 1_000, 20_000, 400_000]));
            self.handle_timeouts();
        }
    }

    fn handle_timeouts(&mut self) {
        for _ in 0..4 {
            if self.is_over() || self.conn().poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
            let now = self.now;
            self.conn().handle_timeout(now);
            self.settle();
        }
        let now = self.now;
        assert!(
            self.is_over() || self.conn().poll_timeout().is_none_or(|at| at > now),
            "a deadline that stays"
        );
    }

    /// Takes the events, and checks the state after them.
    fn settle(&mut self) {
        while let Some(event) = self.conn.as_mut().and_then(ProxyConn::poll_event) {
            assert!(self.closed.is_none(), "{event:?} after the end");
            match event {
                ConnEvent::NeedUpstream { may_reuse, again } => self.needs_upstream(may_reuse, again),
                ConnEvent::ReleaseUpstream(reuse) => self.released(reuse),
                ConnEvent::ExchangeEnded(summary) => self.exchange_ended(summary),
                ConnEvent::Tunnel(kind) => self.tunnel(kind),
                ConnEvent::Closed { reset } => {
                    assert!(self.daemon.is_none(), "closed with a connection to the daemon");
                    if reset {
                        self.tags.push("reset".into());
                    }
                    self.closed = Some(reset);
                }
            }
        }
        if self.conn.is_some() {
            self.check_state();
        }
    }

    fn needs_upstream(&mut self, may_reuse: bool, again: bool) {
        let number = self.past.len();
        assert!(self.needs.is_none() && self.daemon.is_none(), "two upstreams at once");
        let request = self.conn().request().expect("a request to route");
        assert_eq!(number_of(request.fields.values("X-Req").next()), Some(number), "out of order");
        let ask = &self.asks[number];
        let is_repeatable = ["GET", "HEAD", "PUT", "DELETE"].contains(&ask.method);
        assert!(!(may_reuse || again) || (is_repeatable && ask.body.is_empty() && !ask.is_switch));
        assert!(!(may_reuse && again));
        if again {
            assert!(self.was_dead, "asked again, although there was a response");
            self.tags.push("again".into());
        }
        self.needs = Some(may_reuse);
    }

    fn released(&mut self, reuse: Reuse) {
        let daemon = self.daemon.take().expect("a connection to release");
        let number = self.past.len();
        let is_whole = self.check_request(number, &daemon.got);
        let is_proven = is_whole
            && daemon.response.is_reusable
            && daemon.fed == daemon.response.len
            && !daemon.half_closed
            && !daemon.refuses
            && !daemon.gave_up
            && !self.asks[number].is_switch;
        match reuse {
            Reuse::Keep => {
                assert!(is_proven, "kept although it may not be reusable");
                self.kept += 1;
                self.tags.push("Keep".into());
            }
            Reuse::Close(reason) => self.tags.push(format!("{reason:?}")),
        }
        self.was_dead = daemon.is_reused && daemon.fed == 0;
        self.last = Some((daemon.response, daemon.gave_up));
    }

    /// Checks that the daemon got nothing but the beginning of this request. Returns whether it got
    /// all of it.
    fn check_request(&self, number: usize, got: &[u8]) -> bool {
        let ask = &self.asks[number];
        let Some(request) = reader::request(got) else { return false };
        assert_eq!(number_of(request.head.fields.values("X-Req").next()), Some(number));
        assert_eq!(request.head.method(), ask.method.as_bytes());
        assert_eq!(request.head.target().as_bytes(), ask.target.as_bytes());
        assert_eq!(request.len, got.len(), "bytes behind the request");
        assert!(ask.body.starts_with(&request.body), "another body");
        assert!(!request.is_whole || request.body == ask.body, "a cut body looks whole");
        request.is_whole
    }

    fn exchange_ended(&mut self, summary: Box<ExchangeSummary>) {
        assert!(
            self.daemon.is_none() || summary.tunnel.is_some(),
            "an exchange over with its upstream in use"
        );
        assert!(self.needs.is_none() || summary.end != ExchangeEnd::Complete);
        self.needs = None;
        let number = self.past.len();
        if let Some(head) = &summary.request {
            let is_malformed = self.asks[number].is_malformed;
            assert_eq!(number_of(head.fields.values("X-Req").next()), (!is_malformed).then_some(number));
        }
        self.tags.push(summary.end.name().into());
        let (response, gave_up) = self.last.take().unzip();
        self.past.push(Past { summary, response, gave_up: gave_up == Some(true) });
    }

    fn tunnel(&mut self, kind: dockline::proxy::hijack::HijackKind) {
        let past = self.past.last().expect("the exchange ends before its tunnel begins");
        assert_eq!((past.summary.end, past.summary.tunnel), (ExchangeEnd::Complete, Some(kind)));
        let number = self.past.len() - 1;
        let daemon = self.daemon.take().expect("a tunnel has two ends");
        assert_eq!(daemon.response.truth, Truth::Tunnel(kind));
        let ask = &self.asks[number];
        let parts = self.conn.take().unwrap().into_tunnel();
        if daemon.refuses {
            return;
        }
        // The rest of the request, if the daemon responded early, then what the client sent after
        // it.
        let to_daemon = [daemon.got, parts.to_upstream].concat();
        let request = reader::request(&to_daemon).expect("the request before the tunnel");
        assert!(request.is_whole && request.body == ask.body);
        let sent = if self.ask == number { self.offset - ask.wire.len() } else { 0 };
        assert!(ask.early[..sent] == to_daemon[request.len..], "bytes for the tunnel");
        let mut head_len = daemon.response.len;
        if head_len == 0 {
            head_len = daemon.response.wire.len();
        }
        assert!(daemon.response.wire[head_len..daemon.fed] == parts.to_downstream, "bytes from the tunnel");
        self.tags.push(format!("{kind:?}"));
    }

    fn check_state(&mut self) {
        let held = self.limits.held;
        let number = self.past.len();
        let (is_over, needs, fed) = (self.closed.is_some(), self.needs.is_some(), self.fed);
        let discards = !needs && self.daemon.as_ref().is_none_or(|daemon| daemon.refuses);
        let ends = self.asks.iter().scan(0, |at, ask| {
            *at += ask.wire.len();
            Some(*at)
        });
        let end = ends.clone().nth(number).unwrap_or(usize::MAX);
        let start = if number == 0 { 0 } else { ends.clone().nth(number - 1).unwrap_or(usize::MAX) };
        let conn = self.conn();
        let [down, up] = [Side::Downstream, Side::Upstream].map(|side| conn.wants(side));
        if is_over {
            assert!(!down.read && !down.write && !up.read && !up.write && conn.poll_timeout().is_none());
            return;
        }
        assert!(
            conn.output(Side::Downstream).len() <= OUTPUT_BOUND + 2 * READ + 2_000,
            "too much for the client"
        );
        assert!(
            conn.output(Side::Upstream).len() <= OUTPUT_BOUND + 2 * READ + 2_000,
            "too much for the daemon"
        );
        if conn.request().is_some() {
            // What follows an abandoned request is dropped until the response is sent.
            assert!(
                discards || fed.saturating_sub(end) <= held.max(OUTPUT_BOUND) + READ,
                "too much read ahead"
            );
            let waiting = if needs { fed.saturating_sub(start) } else { 0 };
            assert!(waiting <= OUTPUT_BOUND + held + 2 * READ, "too much read without an upstream");
        }
        let is_alive = [down, up].iter().any(|wants| wants.read || wants.write || wants.shut_write);
        assert!(is_alive || needs || conn.poll_timeout().is_some(), "no event and no deadline is awaited");
    }

    /// Reads what the client got, one response after another.
    fn check_client(&mut self) {
        let in_peace = self.closed != Some(true);
        let mut at = 0;
        for (number, past) in self.past.iter().enumerate() {
            let is_last = number + 1 == self.past.len();
            let Past { summary, response, gave_up } = past;
            let ask = &self.asks[number];
            let method = if summary.request.is_some() { ask.method } else { "GET" };
            let got = final_response(&self.client_got[at..], method, in_peace && is_last);
            let status = got.as_ref().map(|got| got.head.status().as_u16());
            assert!(got.as_ref().is_none_or(|got| got.trailers.is_empty()));
            let is_whole = got.as_ref().is_some_and(|got| got.is_whole);
            let body = got.as_ref().map(|got| got.body.clone()).unwrap_or_default();
            let truth = response.as_ref().map(|response| response.truth);
            let what = format!("request {number}: {} {status:?}", summary.end.name());
            match summary.end.kind() {
                EndKind::Complete if summary.tunnel.is_some() => {
                    let is_upgrade = status == Some(101);
                    assert!(is_upgrade || status == Some(200), "{what}");
                    assert!(is_last && self.client_got.ends_with(b"\r\n\r\n"), "{what}: the head goes alone");
                    return;
                }
                EndKind::Complete => {
                    let response = response.as_ref().unwrap();
                    assert!(response.truth == Truth::Whole && !gave_up, "{what}");
                    assert_eq!((status, is_whole), (Some(response.status), true), "{what}");
                    assert!(body == response.body, "{what}: {} of {}", body.len(), response.body.len());
                }
                EndKind::Truncated => {
                    let response = response.as_ref().unwrap();
                    assert!(response.truth == Truth::Cut || *gave_up, "{what}");
                    assert!(!is_whole && response.body.starts_with(&body), "{what}: looks whole");
                }
                EndKind::BadResponse => {
                    assert!(matches!(truth, Some(Truth::Refused | Truth::Cut)) || *gave_up, "{what}");
                    assert_eq!((status, is_whole), (Some(502), true), "{what}");
                }
                EndKind::Replied => assert_eq!((status, is_whole), (Some(403), true), "{what}"),
                // It stopped within its response.
                EndKind::UpstreamTimeout if status != Some(504) => {
                    let full = response.as_ref().map(|response| &response.body[..]).unwrap_or_default();
                    assert!(!is_whole && full.starts_with(&body), "{what}: looks whole");
                }
                EndKind::Unreachable | EndKind::UpstreamTimeout => {
                    assert_eq!((status, is_whole), (summary.status, true), "{what}");
                }
                EndKind::BadRequest => {
                    assert!(ask.is_malformed, "{what}");
                    assert!(is_last && (status == Some(400) || status.is_none()), "{what}");
                }
                EndKind::ClientAborted | EndKind::ClientTimeout | EndKind::Stopped => {
                    assert!(is_last, "{what}");
                    let is_own = response.as_ref().is_none_or(|response| {
                        status != Some(response.status) || response.truth == Truth::Refused
                    });
                    let full = response.as_ref().map(|response| &response.body[..]).unwrap_or_default();
                    assert!(is_own || full.starts_with(&body), "{what}");
                    assert!(!is_whole || is_own || body == full, "{what}: looks whole");
                }
            }
            assert!(
                summary.end.kind() != EndKind::ClientTimeout || !self.is_prompt,
                "{what}: the client was prompt"
            );
            let may_abort = self.client_lost || self.ended_within_request();
            assert!(
                summary.end.kind() != EndKind::ClientAborted || may_abort,
                "{what}: the client did not leave"
            );
            assert!(summary.end != ExchangeEnd::Stopped || self.stopped, "{what}");
            at += got.map_or(self.client_got.len() - at, |got| got.len);
        }
        // Interim responses at most, or the 408 or 400 to what never became a request.
        assert!(
            final_response(&self.client_got[at..], "GET", false).is_none(),
            "more responses than requests"
        );
    }
}

fn number_of(value: Option<&[u8]>) -> Option<usize> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// Returns the final response, with the interim ones before it skipped.
fn final_response(wire: &[u8], method: &str, ended: bool) -> Option<reader::Got<ResponseHead>> {
    let mut at = 0;
    loop {
        let got = reader::response(&wire[at..], method, ended)?;
        let status = got.head.status();
        if !status.is_interim() || status.as_u16() == 101 {
            return Some(reader::Got { len: at + got.len, ..got });
        }
        at += got.len;
    }
}
