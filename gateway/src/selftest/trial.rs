#![forbid(unsafe_code)]
//! One run of one case: its token, its deadline, and its two ends.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::cases::Case;
use super::daemon::{Daemon, Play, Seen, Then};
use super::wire::{Endpoint, Fault, Head, Outcome, Wire, ensure, now};

pub(super) struct Trial<'a> {
    daemon: &'a Daemon,
    proxy: &'a Endpoint,
    token: String,
    pub(super) deadline: Instant,
    play: OnceLock<Arc<Play>>,
}

impl<'a> Trial<'a> {
    /// `number` tells the trials of one run apart.
    pub(super) fn new(daemon: &'a Daemon, proxy: &'a Endpoint, number: usize, timeout: Duration) -> Self {
        let token = format!("selftest-{}-{number:03}", std::process::id());
        Self { daemon, proxy, token, deadline: now() + timeout, play: OnceLock::new() }
    }

    /// Runs the case to its end, which both sides must reach.
    pub(super) fn run(&self, case: &Case) -> Outcome {
        let client = (case.run)(self);
        let Some(play) = self.play.get() else { return client };
        if client.is_ok() {
            play.join();
        }
        let faults = client.err().into_iter().chain(play.fault());
        faults.min_by_key(|fault| fault.at).map_or(Ok(()), Err)
    }

    /// What the daemon does with each request of this case.
    pub(super) fn serve(&self, script: impl Fn(&mut Wire, &Head) -> Outcome<Then> + Send + Sync + 'static) {
        let play = self.play.get_or_init(|| Arc::new(Play::new(Box::new(script), self.deadline)));
        self.daemon.stage(&self.token, Arc::clone(play));
    }

    /// The daemon takes the connection over with this head; then the script has it.
    pub(super) fn tunnel(&self, head: &[u8], script: impl Fn(&mut Wire) -> Outcome + Send + Sync + 'static) {
        let answer = head.to_vec();
        self.serve(move |daemon, request| {
            take_over(daemon, request, &answer)?;
            script(daemon)?;
            Ok(Then::Close)
        });
    }

    /// The daemon reads the request whole, gives this answer, and closes the connection.
    pub(super) fn closing(&self, answer: Vec<u8>) {
        self.serve(move |daemon, head| {
            daemon.body(head)?;
            daemon.send(&answer)?;
            Ok(Then::Close)
        });
    }

    /// The daemon reads each request whole, gives this answer, and keeps the connection.
    pub(super) fn ordinary(&self, answer: Vec<u8>) {
        self.serve(move |daemon, head| {
            daemon.body(head)?;
            daemon.send(&answer)?;
            Ok(Then::Keep)
        });
    }

    /// A new connection to the proxy.
    pub(super) fn connect(&self) -> Outcome<Wire> {
        let socket =
            self.proxy.connect().map_err(|error| Fault::new(format!("client: cannot connect: {error}")))?;
        Ok(Wire::new(socket, "client", self.deadline))
    }

    /// Whether the client's side can be reset at all: a Unix socket only ends.
    pub(super) fn can_be_reset(&self) -> bool {
        matches!(self.proxy, Endpoint::Tcp(_))
    }

    /// What has reached the daemon.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.play.get().map(|play| play.seen()).unwrap_or_default()
    }

    /// The target with this case's token for `{}`.
    pub(super) fn target(&self, target: &str) -> String {
        target.replace("{}", &self.token)
    }

    /// A request with `Host: docker`, more field lines as given, and a length when there is a body.
    pub(super) fn request(&self, line: &str, fields: &str, body: &str) -> Vec<u8> {
        let length = match body.len() {
            0 => String::new(),
            n => format!("Content-Length: {n}\r\n"),
        };
        let line = self.target(line);
        format!("{line} HTTP/1.1\r\nHost: docker\r\n{fields}{length}\r\n{body}").into_bytes()
    }

    pub(super) fn get(&self, target: &str) -> Vec<u8> {
        self.request(&format!("GET {target}"), "", "")
    }

    pub(super) fn attach(&self, upgrade: bool) -> Vec<u8> {
        let target = "POST /v1.43/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1";
        self.request(target, &format!("{}Content-Length: 0\r\n", upgrade_fields(upgrade)), "")
    }

    pub(super) fn exec(&self, upgrade: bool) -> Vec<u8> {
        let fields = format!("{}Content-Type: application/json\r\n", upgrade_fields(upgrade));
        self.request("POST /v1.43/exec/{}/start", &fields, EXEC_BODY)
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.daemon.clear(&self.token);
    }
}

/// Reads the request whole and answers it with the head of a tunnel, 101 or bare 200. dockerd goes
/// by the presence of `Upgrade`; a proxy that changes it gets the other one, so that is where the
/// case ends. Returns the request's body.
pub(super) fn take_over(daemon: &mut Wire, request: &Head, answer: &[u8]) -> Outcome<Vec<u8>> {
    let body = daemon.body(request)?;
    let offered = request.get("upgrade").is_some();
    ensure(offered == answer.starts_with(b"HTTP/1.1 101"), || {
        format!("daemon: the proxy {} Upgrade field", if offered { "invented an" } else { "dropped the" })
    })?;
    daemon.send(answer)?;
    Ok(body)
}

/// What the docker command sends, with the line feed of Go's encoder.
pub(super) const EXEC_BODY: &str = "{\"Detach\":false,\"Tty\":false}\n";

fn upgrade_fields(upgrade: bool) -> &'static str {
    if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" }
}
