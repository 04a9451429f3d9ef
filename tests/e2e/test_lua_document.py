"""nginx with Lua and Redis, as it was set up with a Python script once, with `dockline discover` in the place of the script.

The same configuration of nginx, and the script's own environment variables.
"""

import os
import signal
import subprocess

import pytest

from support import tools
from support.daemon import IMAGE, Daemon
from support.lab import BRIDGE, OUTSIDE, Lab
from support.proc import Service, poll

CONFIGURATION = tools.ROOT / "discovery/tests/redis/document.conf"
REDIS_PORT, API_PORT = 6379, 2375


class LabDaemon(Daemon):
    """A dockerd on the host of a lab, with containers that serve their own name."""

    def __init__(self, lab, directory, identity):
        self.lab = lab
        super().__init__(directory, identity)
        self.import_image()

    def _argv(self, identity):
        words = [word for word in super()._argv(identity) if word != "--bridge=none"]
        return ["nsenter", f"--net={self.lab.host}", *words, f"--bridge={BRIDGE}", "--userland-proxy=false"]

    def run(self, name, forward_name, says):
        serve = f"echo {says} > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
        host = self.api.create_host_config(network_mode="bridge")
        self.api.create_container(
            IMAGE, ["sh", "-c", serve], name=name, host_config=host, ports=[8080],
            environment={"DPROXY_FORWARD_NAME": forward_name},
        )  # fmt: skip
        self.api.start(name)


class Setup:
    """Redis, nginx and `dockline discover` on the host of a lab."""

    def __init__(self, lab, daemon, directory):
        self.lab, self.directory, self.services = lab, directory, {}
        self.dockline = tools.gateway_binary()
        self.start("api", self.dockline, "serve", "--listen", f"tcp://127.0.0.1:{API_PORT}", "--upstream", daemon.url, "--admin", "off")
        self.start_redis()
        configuration = CONFIGURATION.read_text().replace("127.0.0.1:@LISTEN@", f"{OUTSIDE}:80").replace("@REDIS@", str(REDIS_PORT))
        (directory / "nginx.conf").write_text(configuration)
        self.start("nginx", "/usr/sbin/nginx", "-p", f"{directory}/", "-c", "nginx.conf", "-e", "error.log")
        self.start_discover()

    def start(self, name, *argv, **env):
        argv = ["nsenter", f"--net={self.lab.host}", *argv]
        env = {"PATH": os.environ["PATH"], **env}
        self.services[name] = Service(argv, self.directory / f"{name}.log", env=env)

    def start_redis(self):
        redis = tools.program("redis-server")
        self.start("redis", redis, "--port", str(REDIS_PORT), "--save", "", "--dir", str(self.directory))

    def start_discover(self):
        self.start(
            "discover", self.dockline, "discover",
            HOST_IP=OUTSIDE,
            DOCKER_HOST=f"127.0.0.1:{API_PORT}",
            REDIS_PORT_6379_TCP_ADDR="127.0.0.1",
            REDIS_PORT_6379_TCP_PORT=str(REDIS_PORT),
            DOCKER_NETWORK_ADDR="172.31.0.0",
        )  # fmt: skip

    def kill(self, name):
        self.services[name].send_signal(signal.SIGKILL)
        self.services.pop(name).process.wait(20)

    def get(self, host):
        """Status and body, as a client outside gets them."""
        argv = ["curl", "-s", "-m", "10", "-w", "%{http_code}", "-H", f"Host: {host}", f"http://{OUTSIDE}/"]
        text = subprocess.run(["nsenter", f"--net={self.lab.client}", *argv], capture_output=True, text=True, timeout=20).stdout
        return int(text[-3:]), text[:-3].strip()

    def serves(self, host, status, body=None):
        def state():
            found = self.get(host)
            return found[0] == status and body in (None, found[1])

        poll(state, lambda: f"{host} is {self.get(host)}", seconds=20, every=0.05)

    def stop(self):
        # The gateway waits for the stream of events to end.
        for service in reversed(self.services.values()):
            service.stop()


@pytest.fixture(scope="module")
def lab():
    lab = Lab(f"dl{os.getpid()}")
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def docker(lab, workspace, certificates):
    directory = workspace / "lua-docker"
    directory.mkdir()
    daemon = LabDaemon(lab, directory, certificates.back_server)
    try:
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def setup(lab, docker, tmp_path):
    # The workers of nginx are not root.
    tmp_path.chmod(0o755)
    setup = Setup(lab, docker, tmp_path)
    try:
        yield setup
    finally:
        setup.stop()
        for container in docker.api.containers(all=True):
            docker.remove(container["Id"])


def test_names_follow_their_containers(setup, docker):
    docker.run("one", "web", "first")
    docker.run("two", "api", "second")
    setup.serves("web.example.com", 200, "first")
    setup.serves("api.192.0.2.1.nip.io", 200, "second")
    assert setup.get("other.example.com")[0] == 404

    # Ends that the script never saw.
    docker.api.kill("one")
    setup.serves("web.example.com", 404)
    docker.api.start("one")
    setup.serves("web.example.com", 200, "first")
    docker.api.pause("one")
    setup.serves("web.example.com", 404)
    docker.api.unpause("one")
    setup.serves("web.example.com", 200, "first")
    docker.remove("one")
    setup.serves("web.example.com", 404)
    assert setup.get("api.example.com") == (200, "second")

    # The name moves to another container.
    docker.run("three", "web", "third")
    setup.serves("web.example.com", 200, "third")


def test_nothing_is_lost_when_a_part_is_started_again(setup, docker):
    docker.run("one", "web", "first")
    setup.serves("web.example.com", 200, "first")

    setup.kill("discover")
    assert setup.get("web.example.com") == (200, "first")
    docker.run("two", "api", "second")
    setup.start_discover()
    setup.serves("api.example.com", 200, "second")
    assert setup.get("web.example.com") == (200, "first")

    setup.kill("redis")
    assert setup.get("web.example.com")[0] == 503
    setup.start_redis()
    setup.serves("web.example.com", 200, "first")
    setup.serves("api.example.com", 200, "second")
