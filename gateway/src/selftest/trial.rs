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
    /// Makes the trial with a number that is unique in the run.
    pub(super) fn new(daemon: &'a Daemon, proxy: &'a Endpoint, number: usize, timeout: Duration) -> Self {
        let token = format!("selftest-{}-{number:03}", std::process::id());
        Self { daemon, proxy, token, deadline: now() + timeout, play: OnceLock::new() }
    }

    /// Runs the case until both sides have ended.
    pub(super) fn run(&self, case: &Case) -> Outcome {
        let client = (case.run)(self);
        let Some(play) = self.play.get() else { return client };
        if client.is_ok() {
            play.join();
        }
        let faults = client.err().into_iter().chain(play.fault());
        faults.min_by_key(|fault| fault.at).map_or(Ok(()), Err)
    }

    /// Sets what the daemon does with each request of this case.
    pub(super) fn serve(&self, script: impl Fn(&mut Wire, &Head) -> Outcome<Then> + Send + Sync + 'static) {
        let play = self.play.get_or_init(|| Arc::new(Play::new(Box::new(script), self.deadline)));
        self.daemon.stage(&self.token, Arc::clone(play));
    }

    /// Makes the daemon hijack the connection with this head; the script goes on.
    pub(super) fn tunnel(&self, head: &[u8], script: impl Fn(&mut Wire) -> Outcome + Send + Sync + 'static) {
        let response = head.to_vec();
        self.serve(move |daemon, request| {
            take_over(daemon, request, &response)?;
            script(daemon)?;
            Ok(Then::Close)
        });
    }

    /// Makes the daemon read the whole request, send this response, and close the connection.
    pub(super) fn closing(&self, response: Vec<u8>) {
        self.serve(move |daemon, head| {
            daemon.body(head)?;
            daemon.send(&response)?;
            Ok(Then::Close)
        });
    }

    /// Makes the daemon read each whole request, send this response, and keep the connection.
    pub(super) fn ordinary(&self, response: Vec<u8>) {
        self.serve(move |daemon, head| {
            daemon.body(head)?;
            daemon.send(&response)?;
            Ok(Then::Keep)
        });
    }

    /// Opens a connection to the proxy.
    pub(super) fn connect(&self) -> Outcome<Wire> {
        let socket =
            self.proxy.connect().map_err(|error| Fault::new(format!("client: cannot connect: {error}")))?;
        Ok(Wire::new(socket, "client", self.deadline))
    }

    /// Returns whether the client's side can be reset: a Unix socket cannot.
    pub(super) fn can_be_reset(&self) -> bool {
        matches!(self.proxy, Endpoint::Tcp(_))
    }

    /// Returns the requests that have reached the daemon.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.play.get().map(|play| play.seen()).unwrap_or_default()
    }

    /// Returns the target with this case's token for `{}`.
    pub(super) fn target(&self, target: &str) -> String {
        target.replace("{}", &self.token)
    }

    /// Returns a request with `Host: docker`, these field lines, and a length if it has a body.
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

/// Reads the whole request, responds with the head of a tunnel, 101 or a bare 200, and returns the
/// body. dockerd decides by the presence of `Upgrade`; a proxy that changes it gets the other one,
/// and fails the case there.
pub(super) fn take_over(daemon: &mut Wire, request: &Head, response: &[u8]) -> Outcome<Vec<u8>> {
    let body = daemon.body(request)?;
    let offered = request.get("upgrade").is_some();
    ensure(offered == response.starts_with(b"HTTP/1.1 101"), || {
        format!("daemon: the proxy {} Upgrade field", if offered { "invented an" } else { "dropped the" })
    })?;
    daemon.send(response)?;
    Ok(body)
}

/// The body of the docker command, with the line feed of Go's encoder.
pub(super) const EXEC_BODY: &str = "{\"Detach\":false,\"Tty\":false}\n";

fn upgrade_fields(upgrade: bool) -> &'static str {
    if upgrade { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" }
}
