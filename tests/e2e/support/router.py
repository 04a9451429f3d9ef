"""`dockline serve` with a router, and a dockerd with containers that it finds."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from . import tools
from .daemon import IMAGE, Daemon
from .lab import BRIDGE
from .ports import make_socket
from .proc import Service, poll, tail

DOMAIN = "apps.test"
#: Serves its own name at every path that exists in it.
WEB = "mkdir -p /www/api; echo $NAME >/www/index.html; echo $NAME api >/www/api/index.html; echo $NAME file >/www/file; exec httpd -f -p 80 -h /www"


class RouterDaemon(Daemon):
    """A dockerd in the network namespace of a lab, with a bridge."""

    def __init__(self, lab, directory, identity):
        self.lab = lab
        super().__init__(directory, identity)
        self.import_image()

    def _argv(self, identity):
        left_out = ("--bridge=none",)
        words = [word for word in super()._argv(identity) if word not in left_out]
        return ["nsenter", f"--net={self.lab.host}", *words, f"--bridge={BRIDGE}", "--userland-proxy=false"]

    def run_web(self, name, command=WEB, labels=None, env=None, healthcheck=None, ports=(80,), start=True, **host):
        config = self.api.create_host_config(init=True, **host)
        created = self.api.create_container(
            IMAGE, ["sh", "-c", command], name=name, host_config=config, labels=labels or {}, healthcheck=healthcheck,
            environment={"NAME": name, **(env or {})}, stop_signal="SIGKILL", ports=list(ports),
        )  # fmt: skip
        if start:
            self.api.start(created["Id"])
        return created["Id"]

    def namespace(self, name):
        return Path(f"/proc/{self.api.inspect_container(name)['State']['Pid']}/ns/net")

    def address(self, name, network="bridge"):
        return self.api.inspect_container(name)["NetworkSettings"]["Networks"][network]["IPAddress"]


class Router:
    """`dockline serve` with a router, in the network namespace of the daemon."""

    def __init__(self, lab, url, directory, config="", tables="", port=80, node="one", gateway=None):
        self.lab, self.directory, self.port, self.node = lab, Path(directory), port, node
        self.daemon = f'{{ address = "{url}", node = "two", gateway = "{gateway}" }}' if gateway else f'"{url}"'
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / "error.log"
        self.admin = self.directory / "admin.sock"
        self.config = self.directory / "dockline.toml"
        self.configure(config, tables)
        argv = ["nsenter", f"--net={lab.host}", tools.gateway_binary(), "serve", "--config", self.config]
        self.service = Service(argv, self.log, env={"PATH": os.environ["PATH"], "DOCKLINE_LOG_LEVEL": "debug"})
        self.service.wait_ready(lambda: "info  ready" in self.log.read_text())

    def configure(self, config="", tables=""):
        self.config.write_text(
            f'threads = 2\n[router]\ndomains = ["{DOMAIN}"]\ndocker = [{self.daemon}]\nnode = "{self.node}"\n{config}\n'
            f'[[listen]]\naddress = "tcp://0.0.0.0:{self.port}"\nrouter = true\n[admin]\naddress = "unix://{self.admin}"\n{tables}'
        )

    def connect(self, timeout=10):
        made = make_socket(self.lab.host, socket.SOCK_STREAM, ("127.0.0.1", self.port), connect=True)
        made.settimeout(timeout)
        return made

    def ask(self, host, path="/", method="GET", headers=None, timeout=10):
        """Returns status, headers and body of the response."""
        connection = http.client.HTTPConnection(host)
        connection.sock = self.connect(timeout)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def name(self, name, path="/", **options):
        """Returns status and body of the response for a name below the domain."""
        status, _, body = self.ask(f"{name}.{DOMAIN}", path, **options)
        return status, body.decode().strip()

    def reaches(self, name, path="/", text=None):
        poll(lambda: self.name(name, path)[1] == (text or name), lambda: f"{self.name(name, path)}\n{self.text()}")

    def fetch(self, path, method="GET", headers=""):
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(10)
            made.connect(str(self.admin))
            made.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n".encode())
            answer = b"".join(iter(lambda: made.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def json(self, path):
        status, body = self.fetch(path)
        assert status == 200, body
        return json.loads(body)

    def routes(self):
        return {route.get("name") or route["host"]: route for route in self.json("/routes.json")["routes"]}

    def unrouted(self):
        return {one["title"]: one["reason"] for one in self.json("/routes.json")["unrouted"]}

    def source_is(self, state):
        return any(it["name"].startswith("docker:") and it["state"].startswith(state) for it in self.json("/routes.json")["sources"])

    def text(self):
        """What `dockline routes` prints."""
        argv = [tools.gateway_binary(), "routes", "--admin", f"unix://{self.admin}"]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout

    def reload(self, config="", tables=""):
        self.configure(config, tables)
        seen = self.log.read_text().count("info  reloaded")
        self.service.send_signal(signal.SIGHUP)
        poll(lambda: self.log.read_text().count("info  reloaded") > seen, lambda: f"reloaded:\n{tail(self.log)}")

    def stop(self):
        self.service.stop()
        log = self.log.read_text()
        assert "panicked" not in log, log
