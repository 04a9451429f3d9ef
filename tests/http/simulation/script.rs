//! Random requests of the client and responses of the daemon, and what each must lead to.

use dockline::proxy::hijack::HijackKind;

/// A random number generator (SplitMix64).
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap()
    }

    /// Returns true once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Returns a length: mostly short, sometimes beyond every limit.
    pub(crate) fn length(&mut self) -> usize {
        match self.below(10) {
            0 => 0,
            1..8 => self.below(200),
            8 => self.below(5_000),
            _ => self.below(100_000),
        }
    }

    /// Returns text that would do harm if it were read as HTTP.
    pub(crate) fn body(&mut self, len: usize) -> Vec<u8> {
        const HARM: &[u8] =
            b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0\r\n\r\n";
        let from = self.below(HARM.len());
        HARM.iter().copied().cycle().skip(from).take(len).collect()
    }
}

/// One request of the client.
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) target: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) wire: Vec<u8>,
    pub(crate) is_switch: bool,
    pub(crate) has_upgrade: bool,
    /// Bytes for the tunnel that are sent before the switch.
    pub(crate) early: Vec<u8>,
    /// Whether the reply of the proxy is 400.
    pub(crate) is_malformed: bool,
}

impl Ask {
    pub(crate) fn roll(dice: &mut Dice, number: usize) -> Self {
        let (method, target) = dice.pick(&[
            ("GET", "/_ping"),
            ("GET", "/v1.41/containers/json"),
            ("HEAD", "/_ping"),
            ("GET", "/events"),
            ("POST", "/containers/x/wait"),
            ("DELETE", "/containers/x"),
            ("POST", "/build"),
            ("PUT", "/containers/x/archive"),
            ("POST", "/exec/x/start"),
            ("POST", "/containers/x/attach"),
        ]);
        let is_switch = target.ends_with("/start") || target.ends_with("/attach");
        let is_http10 = dice.one_in(12);
        let has_upgrade = is_switch && dice.one_in(2);
        let mut head = format!("{method} {target} HTTP/1.{}\r\nX-Req: {number}\r\n", u8::from(!is_http10));
        if !is_http10 || dice.one_in(2) {
            head += "Host: x\r\n";
        }
        if has_upgrade {
            head += "Connection: upgrade\r\nUpgrade: tcp\r\n";
        } else if dice.one_in(15) {
            head += "Connection: close\r\n";
        }
        let body_may_be = method != "GET" && method != "HEAD";
        let length = dice.length().min(if is_switch { 3_000 } else { usize::MAX });
        let body = if body_may_be && dice.one_in(2) { dice.body(length) } else { Vec::new() };
        if !body.is_empty() && dice.one_in(4) {
            head += "Expect: 100-continue\r\n";
        }
        let mut wire;
        if !body.is_empty() && !is_http10 && dice.one_in(2) {
            wire = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            chunk(dice, &body, &mut wire);
        } else if !body.is_empty() || dice.one_in(3) {
            wire = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            wire.extend_from_slice(&body);
        } else {
            wire = format!("{head}\r\n").into_bytes();
        }
        let is_malformed = dice.one_in(25);
        if is_malformed {
            wire = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n".to_vec();
        }
        let early = if is_switch && dice.one_in(2) { dice.body(100) } else { Vec::new() };
        let method = if is_malformed { "GET" } else { method };
        Self { method, target, body, wire, is_switch, has_upgrade, early, is_malformed }
    }
}

pub(crate) fn chunk(dice: &mut Dice, mut body: &[u8], wire: &mut Vec<u8>) {
    while !body.is_empty() {
        let (front, rest) = body.split_at(1 + dice.below(body.len().min(3_000)));
        wire.extend_from_slice(format!("{:x}\r\n", front.len()).as_bytes());
        wire.extend_from_slice(front);
        wire.extend_from_slice(b"\r\n");
        body = rest;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Eof,
    Reset,
}

/// What the client has to receive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Truth {
    /// This response, complete.
    Whole,
    /// This response without its end; or 502, as long as nothing of it was forwarded.
    Cut,
    /// 502.
    Refused,
    Tunnel(HijackKind),
}

/// One response of the daemon.
pub(crate) struct Response {
    pub(crate) wire: Vec<u8>,
    /// How the daemon ends the connection after it, if at all.
    pub(crate) end: Option<End>,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) truth: Truth,
    /// Whether the connection may be used again, if the request was read completely.
    pub(crate) is_reusable: bool,
    /// How many bytes of `wire` belong to the response.
    pub(crate) len: usize,
}

impl Response {
    pub(crate) fn roll(dice: &mut Dice, ask: &Ask) -> Self {
        let mut wire = Vec::new();
        let interims = if dice.one_in(30) { 9 } else { dice.below(6).saturating_sub(3) };
        for _ in 0..interims {
            let status = dice.pick(&[100, 103, 102]);
            wire.extend_from_slice(format!("HTTP/1.1 {status} x\r\nX-A: b\r\n\r\n").as_bytes());
        }
        let status = dice.pick(&[200, 200, 200, 201, 404, 204, 304, 205, 500]);
        let body = dice.length();
        let body = dice.body(body);
        let head = format!("HTTP/1.1 {status} Fine\r\nContent-Type: application/json\r\n");
        let mut response =
            Self { wire, end: None, status, body, truth: Truth::Whole, is_reusable: true, len: 0 };
        match dice.below(if ask.is_switch { 14 } else { 10 }) {
            0 => {
                response.write(&[dice.pick(&[
                    &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"[..],
                    b"HTTP/1.1 200\r\n\r\n",
                    b"HTTP/1.1 600 x\r\n\r\n",
                    b"rubbish\r\n",
                    b"HTTP/1.1 200 OK\r\nA: b\n\n",
                    b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n",
                    b"",
                ])]);
                let is_switched = response.wire.ends_with(b"h2c\r\n\r\n") && ask.has_upgrade;
                let head_is_ignored = ask.method == "HEAD" && response.wire.ends_with(b"chunked\r\n\r\nx");
                response.truth = Truth::Refused;
                if is_switched {
                    (response.truth, response.status) = (Truth::Tunnel(HijackKind::Upgrade), 101);
                } else if head_is_ignored {
                    // A response to HEAD has no body, whatever its fields are; the byte behind it
                    // does not belong to it.
                    (response.truth, response.status) = (Truth::Whole, 200);
                    response.len = response.wire.len() - 1;
                }
                response.is_reusable = head_is_ignored;
                response.body.clear();
                response.end = Some(dice.pick(&[End::Eof, End::Reset]));
            }
            1 | 2 => {
                response.write(&[head.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n"]);
                if !response.is_bodiless(ask) {
                    chunk(dice, &response.body, &mut response.wire);
                }
                response.maybe_cut(dice, ask);
            }
            3 => {
                response.write(&[head.as_bytes(), b"\r\n"]);
                if !response.is_bodiless(ask) {
                    response.wire.extend_from_slice(&response.body);
                    response.end = Some(dice.pick(&[End::Eof, End::Eof, End::Reset]));
                    response.is_reusable = false;
                    if response.end == Some(End::Reset) {
                        response.truth = Truth::Cut;
                    }
                }
            }
            4 => {
                let version =
                    dice.pick(&["HTTP/1.0 200 Fine\r\n", "HTTP/1.1 200 Fine\r\nConnection: close\r\n"]);
                response.status = 200;
                response.write(&[
                    version.as_bytes(),
                    format!("Content-Length: {}\r\n\r\n", response.body.len()).as_bytes(),
                ]);
                if !response.is_bodiless(ask) {
                    response.wire.extend_from_slice(&response.body);
                }
                response.is_reusable = false;
            }
            10.. => {
                let (line, kind) = if ask.has_upgrade {
                    ("101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp", HijackKind::Upgrade)
                } else {
                    ("200 OK\r\nContent-Type: application/vnd.docker.raw-stream", HijackKind::RawStream)
                };
                response.status = if ask.has_upgrade { 101 } else { 200 };
                response.write(&[format!("HTTP/1.1 {line}\r\n\r\n").as_bytes()]);
                response.truth = Truth::Tunnel(kind);
                response.len = response.wire.len();
                response.wire.extend_from_slice(&response.body);
                response.is_reusable = false;
            }
            _ => {
                response.write(&[
                    head.as_bytes(),
                    format!("Content-Length: {}\r\n\r\n", response.body.len()).as_bytes(),
                ]);
                if !response.is_bodiless(ask) {
                    response.wire.extend_from_slice(&response.body);
                }
                response.maybe_cut(dice, ask);
            }
        }
        if response.is_bodiless(ask) && !matches!(response.truth, Truth::Tunnel(_)) {
            response.body.clear();
        }
        if response.len == 0 {
            response.len = response.wire.len();
            if response.is_reusable && dice.one_in(20) {
                response.wire.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad");
            }
        }
        if interims > 8 {
            (response.truth, response.is_reusable) = (Truth::Refused, false);
        }
        response
    }

    fn write(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.wire.extend_from_slice(part));
    }

    fn is_bodiless(&self, ask: &Ask) -> bool {
        ask.method == "HEAD" || matches!(self.status, 204 | 304)
    }

    /// Removes bytes from the end, sometimes.
    fn maybe_cut(&mut self, dice: &mut Dice, ask: &Ask) {
        if dice.one_in(8) && !self.body.is_empty() && !self.is_bodiless(ask) {
            self.wire.truncate(self.wire.len() - 1 - dice.below(self.body.len()));
            self.end = Some(dice.pick(&[End::Eof, End::Reset]));
            (self.truth, self.is_reusable) = (Truth::Cut, false);
        }
    }
}
