//! Replays the cases in `tests/corpus/proxy/*.md` against a [`ProxyConn`]: each step whole, byte by
//! byte, and cut at every offset. `tests/corpus/proxy/README.md` has the format.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline::error::{Cause, Side, Timeout};
use dockline::h1::{Fields, RequestHead};
use dockline::proxy::conn::{Client, ConnEvent, EndKind, ExchangeSummary, IntoTunnel, Reuse};
use dockline::proxy::{ConnConfig, ProxyConn, TrustedPeers};

use super::case_files::{self, Section, bytes_of, show};
use super::deliveries::Delivery;
use super::reader;

/// How a connection fails here.
const RESET: Cause = Cause::Reset { errno: Some(104) };

/// A longer step is cut at as many offsets, spread evenly.
const MOST_CUTS: usize = 600;

#[test]
fn every_case_ends_the_same_in_every_delivery() {
    let mut count = 0;
    for (file, text) in case_files::read("corpus/proxy") {
        for case in cases(&text).unwrap_or_else(|problem| panic!("{file}: {problem}")) {
            for variant in &case.variants {
                check(&case, variant);
                count += 1;
            }
        }
    }
    assert!(count >= 150, "only {count} variants were found");
}

#[test]
fn a_wrong_log_is_noticed() {
    let text = "## x\n```proxy\nC: GET / HTTP/1.1⏎Host: a⏎⏎\nD: HTTP/1.1 204 x⏎⏎\n```\n```log\nconnect\nkeep\nend complete 204\ndaemon GET / HTTP/1.1 | Host: docker\nclient 204 x\n```\n";
    let case = &cases(text).unwrap()[0];
    check(case, "");
    for line in case.log.lines() {
        let wrong = case.log.replace(&format!("{line}\n"), "");
        assert_ne!(replay(case, "", |_| Delivery::Whole), wrong, "without {line}");
    }
}

#[test]
fn malformed_cases_are_noticed() {
    for text in [
        "## no script\n```log\nconnect\n```\n",
        "## no log\n```proxy\nC eof\n```\n",
        "## unknown step\n```proxy\nC: x\nX: y\n```\n```log\n```\n",
        "## unknown option\n```proxy\nset nonsense\n```\n```log\n```\n",
        "## unknown escape\n```proxy\nC: \\q\n```\n```log\n```\n",
        "## open block\n```proxy\nC eof\n",
    ] {
        assert!(cases(text).is_err(), "{text}");
    }
}

// ---- what a case is

struct Case {
    title: String,
    config: ConnConfig,
    /// Whether the script says how connecting to the daemon ends.
    connects: bool,
    /// The texts that replace `{}`, one after the other.
    variants: Vec<String>,
    steps: Vec<Step>,
    log: String,
}

#[derive(Clone)]
enum Step {
    Send(Side, String),
    Eof(Side),
    Reset(Side),
    Refuse(Side),
    Connect,
    Fail(Cause),
    Wait(Duration),
    Drain,
}

fn cases(text: &str) -> Result<Vec<Case>, String> {
    let sections = Section::all(text)?;
    let cases = sections
        .iter()
        .map(|section| parse_section(section).map_err(|problem| format!("{}: {problem}", section.title)));
    cases.collect()
}

fn parse_section(section: &Section<'_>) -> Result<Case, String> {
    let mut case = Case {
        title: section.title.to_owned(),
        config: ConnConfig::default(),
        connects: false,
        variants: Vec::new(),
        steps: Vec::new(),
        log: section.block("log")?.ok_or("no log block")?.to_owned(),
    };
    for line in section.block("proxy")?.ok_or("no proxy block")?.lines() {
        let step = match line.split_once(' ').unwrap_or((line, "")) {
            ("C:", bytes) => Step::Send(Side::Downstream, bytes.to_owned()),
            ("D:", bytes) => Step::Send(Side::Upstream, bytes.to_owned()),
            ("C", "eof") => Step::Eof(Side::Downstream),
            ("D", "eof") => Step::Eof(Side::Upstream),
            ("C", "reset") => Step::Reset(Side::Downstream),
            ("D", "reset") => Step::Reset(Side::Upstream),
            ("D", "refuses") => Step::Refuse(Side::Upstream),
            ("D", "connects") => Step::Connect,
            ("D", "unreachable") => Step::Fail(Cause::ConnectFailed { errno: None }),
            ("D", "late") => Step::Fail(Cause::Timeout(Timeout::Connect)),
            ("wait", seconds) => {
                Step::Wait(Duration::from_secs(seconds.parse().map_err(|_| format!("wait {seconds}"))?))
            }
            ("drain", "") => Step::Drain,
            ("set", option) => {
                option_of(&mut case.config, option)?;
                continue;
            }
            ("with", variant) => {
                case.variants.push(variant.to_owned());
                continue;
            }
            _ => return Err(format!("unknown step {line:?}")),
        };
        if let Step::Send(_, text) = &step {
            bytes_of(text)?;
        }
        case.connects |= matches!(step, Step::Connect | Step::Fail(_));
        case.steps.push(step);
    }
    if case.variants.is_empty() {
        case.variants.push(String::new());
    }
    Ok(case)
}

fn option_of(config: &mut ConnConfig, option: &str) -> Result<(), String> {
    match option.split_once(' ').unwrap_or((option, "")) {
        ("any-api", "") => config.api = dockline::proxy::hijack::Api::Any,
        ("connect", "") => config.allow_connect = true,
        ("strict-host", "") => config.hosts = dockline::h1::HostPolicy::Strict,
        ("via", name) => config.forwarding.via = Some(name.to_owned().into()),
        ("x-forwarded", "") => config.forwarding.x_forwarded = true,
        ("forwarded", "") => config.forwarding.forwarded = true,
        ("trusted", "") => config.forwarding.trusted = TrustedPeers::All,
        ("trusted", peers) => {
            let all = peers.split(' ').map(|peer| peer.parse().map_err(|error| format!("{peer}: {error}")));
            config.forwarding.trusted = TrustedPeers::Listed(all.collect::<Result<_, _>>()?);
        }
        ("keep-alive-hint", "") => config.keep_alive_hint = true,
        ("response-time", seconds) => {
            let seconds = seconds.parse().map_err(|_| format!("response-time {seconds}"))?;
            config.limits.response_time = Some(Duration::from_secs(seconds));
        }
        _ => return Err(format!("unknown option {option:?}")),
    }
    Ok(())
}

// ---- how it is played

fn check(case: &Case, variant: &str) {
    let name = format!("{} {variant:?}", case.title);
    assert_eq!(replay(case, variant, |_| Delivery::Whole), case.log, "{name}");
    for (number, step) in case.steps.iter().enumerate() {
        let Step::Send(_, text) = step else { continue };
        let len = bytes_of(&text.replace("{}", variant)).unwrap().len();
        for delivery in Delivery::sampled(len, MOST_CUTS) {
            let deliver = |step| if step == number { delivery.clone() } else { Delivery::Whole };
            assert_eq!(replay(case, variant, deliver), case.log, "{name}, step {number}: {delivery:?}");
        }
    }
    assert_eq!(replay(case, variant, |_| Delivery::ByteByByte), case.log, "{name}, byte by byte");
}

/// Plays a case. `deliver` gives the delivery of each step that sends.
fn replay(case: &Case, variant: &str, deliver: impl Fn(usize) -> Delivery) -> String {
    let mut stage = Play::new(case);
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Send(side, text) => {
                let bytes = bytes_of(&text.replace("{}", variant)).unwrap();
                deliver(number).pieces(&bytes).into_iter().for_each(|piece| stage.send(*side, piece));
            }
            other => stage.act(other),
        }
    }
    stage.finish()
}

struct Play {
    conn: Option<ProxyConn>,
    now: Instant,
    connects: bool,
    is_wanted: Option<bool>,
    is_connected: bool,
    log: String,
    client_got: Vec<u8>,
    daemon_got: Vec<u8>,
    requests: Vec<Option<RequestHead>>,
    is_reset: bool,
    /// Bytes that were sent and not read yet, by side.
    unread: [Vec<u8>; 2],
    tunnel: Option<IntoTunnel>,
}

impl Play {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary start for the virtual clock")]
    fn new(case: &Case) -> Self {
        let client = Client { address: Some("192.0.2.1".parse().unwrap()), tls: true };
        let now = Instant::now();
        Self {
            conn: Some(ProxyConn::new(Arc::new(case.config.clone()), client, now)),
            now,
            connects: case.connects,
            is_wanted: None,
            is_connected: false,
            log: String::new(),
            client_got: Vec::new(),
            daemon_got: Vec::new(),
            requests: Vec::new(),
            is_reset: false,
            unread: Default::default(),
            tunnel: None,
        }
    }

    fn log(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.log, "{line}").unwrap();
    }

    fn send(&mut self, side: Side, bytes: &[u8]) {
        if side == Side::Downstream || self.is_connected {
            self.unread[side as usize].extend_from_slice(bytes);
            self.turn();
        }
    }

    fn act(&mut self, step: &Step) {
        let Some(conn) = &mut self.conn else { return };
        match step {
            Step::Send(..) => {}
            Step::Eof(side) => conn.feed_eof(*side, self.now),
            Step::Reset(side) => conn.feed_error(*side, RESET, self.now),
            Step::Refuse(side) => conn.output_refused(*side, RESET, self.now),
            Step::Connect => {
                // After the client has left, nothing waits for it.
                self.is_connected = conn.request().is_some();
                conn.upstream_ready(Some("docker"), self.is_wanted.take().unwrap(), self.now);
            }
            Step::Fail(cause) => conn.upstream_failed(*cause, self.now),
            Step::Wait(time) => {
                self.now += *time;
                conn.handle_timeout(self.now);
            }
            Step::Drain => conn.drain(self.now),
        }
        self.turn();
    }

    fn turn(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(event) = self.conn.as_mut().and_then(ProxyConn::poll_event) {
                is_quiet = false;
                self.event(event);
            }
            let Some(conn) = &mut self.conn else { return };
            for (side, got) in
                [(Side::Downstream, &mut self.client_got), (Side::Upstream, &mut self.daemon_got)]
            {
                let n = conn.output(side).len();
                if n > 0 {
                    is_quiet = false;
                    got.extend_from_slice(conn.output(side));
                    conn.output_sent(side, n, self.now);
                }
                if conn.wants(side).shut_write {
                    is_quiet = false;
                    self.log.push_str(if side == Side::Upstream { "half-close daemon\n" } else { "" });
                    conn.shut_done(side, self.now);
                }
                let unread = &mut self.unread[side as usize];
                if !unread.is_empty() && conn.wants(side).read {
                    is_quiet = false;
                    conn.feed(side, &std::mem::take(unread), self.now);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn event(&mut self, event: ConnEvent) {
        match event {
            ConnEvent::NeedUpstream { may_reuse, again } => {
                self.log(format_args!("connect{}", if again { " again" } else { "" }));
                if self.connects {
                    self.is_wanted = Some(may_reuse);
                } else {
                    self.is_connected = true;
                    let conn = self.conn.as_mut().unwrap();
                    conn.upstream_ready(Some("docker"), may_reuse, self.now);
                }
            }
            ConnEvent::ReleaseUpstream(reuse) => {
                self.is_connected = false;
                self.unread[Side::Upstream as usize].clear();
                match reuse {
                    Reuse::Keep => self.log(format_args!("keep")),
                    Reuse::Close(why) => self.log(format_args!("drop {why:?}")),
                }
            }
            ConnEvent::ExchangeEnded(summary) => {
                let ExchangeSummary { request, status, end, .. } = *summary;
                let status = status.map_or_else(String::new, |status| format!(" {status}"));
                self.log(format_args!("end {}{status}", end.name()));
                let is_answered = end.kind() != EndKind::ClientAborted || !status.is_empty();
                self.requests.extend(is_answered.then_some(request));
            }
            ConnEvent::Tunnel(kind) => {
                self.log(format_args!("tunnel {kind:?}"));
                self.tunnel = self.conn.take().map(ProxyConn::into_tunnel);
            }
            ConnEvent::Closed { reset } => {
                self.is_reset = reset;
                self.log(format_args!("closed{}", if reset { " by reset" } else { "" }));
            }
        }
    }

    /// Reads what both sides got, and returns the complete log.
    fn finish(mut self) -> String {
        if let Some(IntoTunnel { to_upstream, to_downstream }) = self.tunnel.take() {
            let [from_client, from_daemon] = std::mem::take(&mut self.unread);
            for (name, bytes) in [
                ("daemon", [to_upstream, from_client].concat()),
                ("client", [to_downstream, from_daemon].concat()),
            ] {
                if !bytes.is_empty() {
                    self.log(format_args!("raw to {name} {}", show(&bytes)));
                }
            }
        }
        let mut wire = std::mem::take(&mut self.daemon_got);
        // A request that was abandoned half-way is not shown: how much of it was forwarded depends
        // on the delivery.
        while let Some(got) = reader::request(&wire).filter(|got| got.is_whole) {
            let (method, target) = (show(got.head.method()), show(got.head.target().as_bytes()));
            let message =
                format!("{method} {target} {}{}", got.head.version.as_str(), fields(&got.head.fields));
            self.log(format_args!("daemon {message}{}{}", body(&got.body), trailers(&got.trailers)));
            wire.drain(..got.len);
        }
        let mut wire = std::mem::take(&mut self.client_got);
        let mut requests = std::mem::take(&mut self.requests).into_iter().peekable();
        loop {
            let method = requests.peek().and_then(Option::as_ref).map_or(&b"GET"[..], RequestHead::method);
            let method = String::from_utf8(method.to_vec()).unwrap();
            let Some(got) = reader::response(&wire, &method, !self.is_reset) else { break };
            if !got.head.status().is_interim() {
                requests.next();
            }
            self.log(format_args!("client {}", response(&got)));
            wire.drain(..got.len);
        }
        self.log
    }
}

fn response(got: &reader::Got<dockline::h1::ResponseHead>) -> String {
    let status = got.head.status().as_u16();
    let own = std::str::from_utf8(&got.body).ok().and_then(|body| body.strip_prefix("{\"message\":\""));
    // The texts of replies are tested in `error.rs`.
    if own.is_some() {
        let close = if got.head.fields.has_token("Connection", "close") { " and close" } else { "" };
        return format!("{status} of the proxy{close}");
    }
    let reason = show(got.head.reason());
    let cut = if got.is_whole { "" } else { " | cut" };
    format!(
        "{status} {reason}{}{cut}{}{}",
        fields(&got.head.fields),
        body(&got.body),
        trailers(&got.trailers)
    )
}

fn fields(fields: &Fields) -> String {
    fields.iter().map(|line| format!(" | {}: {}", show(line.name()), show(line.value()))).collect()
}

fn trailers(fields: &Fields) -> String {
    fields.iter().map(|line| format!(" | trailer {}: {}", show(line.name()), show(line.value()))).collect()
}

fn body(bytes: &[u8]) -> String {
    if bytes.is_empty() { String::new() } else { format!(" | body {}", show(bytes)) }
}
