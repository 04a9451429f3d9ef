"""`dockline serve` under test: configuration, life cycle and logs."""

import json
import os
import re
import signal
from pathlib import Path

from . import tools
from .endpoints import Endpoint
from .front import Front
from .proc import Service, free_port, poll, tail
from .wire import Stream, request

GRAVE = re.compile(r"Z error |panicked")

# Idle connections to the daemon are closed soon, so that a test can tell them from leaked ones.
QUICK_POOL = '[limits]\npool_time = "1s"\n'


def listen(address, upstream=None, tls=None, name=None):
    """A [[listen]] table; with `tls`, clients must show a certificate."""
    lines = ["[[listen]]", f"address = {text(address)}"]
    lines += [f"name = {text(name)}"] if name else []
    lines += [f"upstream = {text(upstream)}"] if upstream else []
    lines += [f"tls = {{ {files(tls, 'client_ca')} }}"] if tls else []
    return "\n".join(lines) + "\n"


def upstream(name, *addresses, tls=None):
    """An [[upstream]] table; with `tls`, our certificate is shown."""
    lines = ["[[upstream]]", f"name = {text(name)}", f"addresses = [{', '.join(map(text, addresses))}]"]
    lines += [f"tls = {{ {files(tls, 'ca')} }}"] if tls else []
    return "\n".join(lines) + "\n"


def files(identity, ca):
    return f"{ca} = {text(identity.ca)}, cert = {text(identity.cert)}, key = {text(identity.key)}"


def text(value):
    """A TOML string; JSON's are a subset of its basic ones."""
    return json.dumps(str(value))


class Gateway(Front):
    """One gateway. `config` is a function from the addresses of the endpoints to the tables of dockline.toml.

    An endpoint is named in `endpoints` with its scheme: tcp, tls or unix.
    """

    name = "dockline"
    target_key = "path"
    spare_pipe_ends = 2 * 64 * 2  # two threads

    def __init__(self, directory, endpoints, config, wrapper=(), options=(), admin=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "dockline.toml"
        self.error_log = self.directory / "error.log"
        self.access_log = self.directory / "access.log"
        self.admin = self.directory / "admin.sock"
        admin = admin or f"unix://{self.admin}"
        self.argv = [
            *wrapper, tools.gateway_binary(), "serve", "--config", self.config, "--threads", "2",
            "--access-log", self.access_log, "--access-log-format", "json", "--admin", admin, *options,
        ]  # fmt: skip
        for attempt in range(3):
            self.addresses = {name: self._address(name, scheme) for name, scheme in endpoints.items()}
            self.config.write_text(config(self.addresses))
            try:
                self.start()
                break
            except AssertionError:
                self.service.stop()
                if attempt == 2 or "another program listens there" not in tail(self.error_log):
                    raise

    def _address(self, name, scheme):
        return f"unix://{self.directory / name}.sock" if scheme == "unix" else f"{scheme}://127.0.0.1:{free_port()}"

    def url(self, name):
        return self.addresses[name].replace("tls://", "tcp://")

    def worker(self):
        """The process itself."""
        return self.pid

    # life cycle

    def start(self):
        """Start the program, and wait until it is ready."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKLINE_", "NOTIFY_"))}
        seen = self.logged("ready")
        self.service = Service(self.argv, self.error_log, env=kept)
        self.service.wait_ready(lambda: self.logged("ready") > seen, seconds=20)

    def reload(self, config=None):
        """SIGHUP, with a new configuration if there is one. Returns what the log says of it."""
        if config is not None:
            self.config.write_text(config)
        seen = len(self.log())
        self.service.send_signal(signal.SIGHUP)

        def told():
            return [line for line in self.log()[seen:] if re.search(r"(info  reloaded|not reloaded)", line)]

        return poll(told, lambda: f"a word about the reload:\n{tail(self.error_log)}")[0]

    def stop(self):
        """Ends the process in order; connections that are still open then are cut off."""
        self.service.send_signal(signal.SIGTERM)
        self.service.stop(signal.SIGTERM)

    def successor(self):
        """The process that took over from this one, once it serves."""
        told = re.search(r"upgrade: process (\d+) serves", self.error_log.read_text())
        return int(told[1]) if told else None

    # metrics

    def metrics(self):
        """The metrics page: {sample: value}. Every line must be a comment or a sample."""
        with Stream.connect(Endpoint("admin", f"unix://{self.admin}")) as stream:
            head, body = stream.ask(request("GET", "/metrics"))
        assert head.status == 200 and head["content-type"].startswith("text/plain; version=0.0.4"), head.raw
        samples = {}
        for line in body.decode().splitlines():
            match = re.fullmatch(r"# (?:HELP|TYPE) .*|([a-z_]+(?:\{[^}]*\})?) (\S+)", line)
            assert match, f"no line of the text format: {line!r}"
            if match[1]:
                assert match[1] not in samples, f"twice: {line}"
                samples[match[1]] = float(match[2])
        return samples

    def metric(self, sample):
        return self.metrics()[sample]

    # logs

    def log(self):
        return self.error_log.read_text(errors="replace").splitlines() if self.error_log.exists() else []

    def logged(self, words):
        """Returns how many lines of the log end like this."""
        return sum(line.endswith(words) for line in self.log())

    def errors(self):
        return [line for line in self.log() if GRAVE.search(line)]


def docker_front(directory, daemon, certificates):
    """The gateway that the docker clients of the suite go through: one listener per kind of endpoint."""

    def config(at):
        return QUICK_POOL + "".join([
            listen(at["plain"], "docker"),
            listen(at["unix"], "docker"),
            listen(at["tls"], "docker", certificates.front_server),
            listen(at["tls_both"], "docker-tls", certificates.front_server),
            upstream("docker", daemon.url),
            upstream("docker-tls", f"tls://127.0.0.1:{daemon.tls_port}", tls=certificates.back_client),
        ])  # fmt: skip

    return Gateway(directory, {"plain": "tcp", "unix": "unix", "tls": "tls", "tls_both": "tls"}, config)


def fake_front(directory, fake, certificates):
    """The gateway in front of the scripted daemon. plain: TCP to TCP. unix: sockets on both sides. tls: TLS to a unix
    socket. tls_both: TLS to TLS. pool: connections to a unix socket that are used again."""

    def config(at):
        return QUICK_POOL + "".join([
            listen(at["plain"], "tcp"),
            listen(at["unix"], "unix"),
            listen(at["tls"], "unix", certificates.front_server),
            listen(at["tls_both"], "tls", certificates.front_server),
            listen(at["pool"], "unix"),
            upstream("tcp", f"tcp://127.0.0.1:{fake.tcp_port}"),
            upstream("unix", f"unix://{fake.socket}"),
            upstream("tls", f"tls://127.0.0.1:{fake.tls_port}", tls=certificates.back_client),
        ])  # fmt: skip

    schemes = {"plain": "tcp", "unix": "unix", "tls": "tls", "tls_both": "tls", "pool": "tcp"}
    return Gateway(directory, schemes, config)
