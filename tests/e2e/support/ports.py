"""A dockerd in a network namespace of its own that publishes ports by dockline's docker-proxy alone."""

import ctypes
import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from . import tools
from .daemon import IMAGE, Daemon
from .proc import Service, poll

BRIDGE = "dlbr0"
CLONE_NEWNET = 0x40000000
PATIENCE = 20

_libc = ctypes.CDLL(None, use_errno=True)


def proxy_binary():
    """DOCKLINE_DOCKER_PROXY, target/release/dockline-docker-proxy by default."""
    path = Path(os.environ.get("DOCKLINE_DOCKER_PROXY") or tools.ROOT / "target/release/dockline-docker-proxy")
    if not path.exists():
        raise RuntimeError(f"{path} is missing: run `make build`, or set DOCKLINE_DOCKER_PROXY")
    return path.resolve()


@contextmanager
def inside(namespace):
    """This thread's network is that of the namespace file; a socket made meanwhile stays there."""
    with open(namespace) as there, open("/proc/thread-self/ns/net") as here:
        for target in (there, here):
            if _libc.setns(target.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
            if target is there:
                try:
                    yield
                except BaseException:
                    _libc.setns(here.fileno(), CLONE_NEWNET)
                    raise


def make_socket(namespace, kind, address, connect=False):
    """A socket of that namespace, listening or bound to the address, or connected to it."""
    with inside(namespace):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        made = socket.socket(family, kind)
        made.settimeout(PATIENCE)
        if connect:
            made.connect(address)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            if kind == socket.SOCK_STREAM:
                made.listen(128)
    return made


class PublishingDaemon(Daemon):
    """Without iptables every byte to a published port goes through docker-proxy: dockline's, or `proxy`."""

    def __init__(self, directory, identity, name, env, proxy=None):
        self.namespace = Path("/run/netns") / name
        self.env = env
        self.proxy = Path(proxy or proxy_binary())
        subprocess.run(["ip", "netns", "add", name], check=True)
        for words in (
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"addr add 172.31.250.1/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
            "addr add 172.31.251.1/32 dev lo",
            "addr add fd00:d0d::1/128 dev lo nodad",
        ):
            subprocess.run(["ip", "-n", name, *words.split()], check=True)
        super().__init__(directory, identity)
        self.import_image()

    def _argv(self, identity):
        words = [f"--bridge={BRIDGE}" if word == "--bridge=none" else word for word in super()._argv(identity)]
        options = ["--userland-proxy=true", "--userland-proxy-path", self.proxy, "--ip-forward=false"]
        environment = ["env", *(f"{name}={value}" for name, value in self.env.items())]
        return ["nsenter", f"--net={self.namespace}", *environment, *words, *options]

    def publish(self, name, ports, **host):
        """A running container with published ports that serves nothing; the tests serve in its namespace."""
        config = self.api.create_host_config(port_bindings=ports, **host)
        exposed = [tuple(port.split("/")) for port in ports]
        created = self.api.create_container(IMAGE, ["sleep", "1000000"], name=name, host_config=config, ports=exposed)
        self.api.start(created["Id"])
        return name

    def inspect(self, container):
        return self.api.inspect_container(container)

    def serve(self, container, kind, port, answer, host="0.0.0.0"):
        """Runs `answer(socket)` in a thread: a server inside the container."""
        pid = self.inspect(container)["State"]["Pid"]
        server = make_socket(f"/proc/{pid}/ns/net", kind, (host, port))
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        return server

    def connect(self, kind, address):
        return make_socket(self.namespace, kind, address, connect=True)

    def proxies(self):
        """The docker-proxy processes, {pid: command line}."""
        found = {}
        # A child is listed with the thread that started it, and a program in Go has many.
        lists = [task.read_text() for task in Path(f"/proc/{self.service.pid}/task").glob("*/children")]
        for pid in " ".join(lists).split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            except FileNotFoundError:
                continue
            if words and words[0].decode() == str(self.proxy):
                found[int(pid)] = [word.decode() for word in words]
        return found

    def broker(self):
        """The pid of the broker that the proxies have been told to use, if there is one."""
        wanted = f"--broker\0{self.env['DOCKLINE_PROXY_BROKER']}\0".encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes().endswith(wanted):
                    return int(path.parent.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
        return None

    def restart(self, number=signal.SIGTERM):
        """Ends the daemon by a signal, and starts it again with the same state."""
        before = set(self.proxies())
        self.service.send_signal(number)
        self.service.process.wait(60)
        poll(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), "the proxies end with the daemon")
        self.service = Service(self.service.argv, self.log)
        self.service.wait_ready(self._answers, seconds=60)

    def stop(self):
        try:
            super().stop()
        finally:
            subprocess.run(["ip", "netns", "del", self.namespace.name])
