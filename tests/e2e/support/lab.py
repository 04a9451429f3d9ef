"""Network namespaces with veth pairs: a host with a bridge, a client outside, and containers on the bridge."""

import errno
import json
import os
import re
import select
import socket
import subprocess
import threading
from pathlib import Path

from . import tools
from .ports import PATIENCE, inside, make_socket
from .proc import Service, poll

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
BRIDGE = "dlbr0"
#: The host's addresses: for clients outside, and for containers.
OUTSIDE, GATEWAY = "192.0.2.1", "172.31.250.1"
CLIENT = "192.0.2.2"
OUTSIDE6, GATEWAY6 = "fd77::1", "fd55::1"
#: A rule of an operator that has dropped something, as iptables-save and nft show it.
COUNTED = re.compile(r"^\[[1-9]\d*:\d+\] -A (?!DOCKER-FORWARD).* -j DROP$|packets [1-9]\d* .*drop", re.MULTILINE)


def ip(*words):
    subprocess.run(["ip", *" ".join(words).split()], check=True)


class Lab:
    """The namespaces `NAME-host` and `NAME-client`; containers are added to them."""

    def __init__(self, name):
        self.name = name
        self.made = []
        self.host, self.client = self._namespace("host"), self._namespace("client")
        ip(f"link add {name}-c netns {name}-host type veth peer name eth0 netns {name}-client")
        for words in (
            # With a fixed MAC address, as Docker's bridge: otherwise it changes with the ports, and neighbours keep the old one.
            f"link add {BRIDGE} address 02:42:ac:1f:fa:01 type bridge",
            f"addr add {GATEWAY}/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
            f"addr add {OUTSIDE}/24 dev {name}-c",
            f"link set {name}-c up",
            f"addr add {GATEWAY6}/64 dev {BRIDGE} nodad",
            f"addr add {OUTSIDE6}/64 dev {name}-c nodad",
        ):
            ip(f"-n {name}-host", words)
        ip(f"-n {name}-client addr add {CLIENT}/24 dev eth0")
        ip(f"-n {name}-client addr add fd77::2/64 dev eth0 nodad")
        ip(f"-n {name}-client link set eth0 up")
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def _namespace(self, role):
        ip(f"netns add {self.name}-{role}")
        self.made.append(f"{self.name}-{role}")
        ip(f"-n {self.name}-{role} link set lo up")
        return Path("/run/netns") / f"{self.name}-{role}"

    def add_container(self, role, *addresses):
        """A namespace on the bridge whose way out is the host."""
        namespace = self._namespace(role)
        ip(f"link add {self.name}-{role} netns {self.name}-host type veth peer name eth0 netns {self.name}-{role}")
        ip(f"-n {self.name}-host link set {self.name}-{role} master {BRIDGE} up")
        for address in addresses:
            length, nodad = (64, "nodad") if ":" in address else (24, "")
            ip(f"-n {self.name}-{role} addr add {address}/{length} dev eth0 {nodad}")
        ip(f"-n {self.name}-{role} link set eth0 up")
        for gateway in (GATEWAY, GATEWAY6):
            ip(f"-n {self.name}-{role} route add default via {gateway}")
        return namespace

    def run(self, *argv, check=True, **options):
        """Runs a command on the host."""
        argv = ["nsenter", f"--net={self.host}", *map(str, argv)]
        return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=PATIENCE, **options)

    def rules(self, *tools):
        """All rules of the host, without counters; or those that these tools know."""
        lists = [] if tools else [["nft", "-s", "list", "ruleset"]]
        lists += [[tool, "-t", table, "-S"] for tool in tools or ("iptables", "ip6tables") for table in ("nat", "filter")]
        return "".join(self.run(*words).stdout for words in lists)

    def is_dropped(self, namespace, kind, address, counters):
        """Waits until a first packet from the namespace was counted by a rule. Returns whether nothing else happened."""
        with inside(namespace):
            made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, kind)
        with made:
            made.setblocking(False)
            made.connect_ex(address)
            if kind == UDP:
                made.send(b"is anybody there?")
            self.wait_counted(counters)
            return made.connect_ex(address) == errno.EALREADY if kind == TCP else not select.select([made], [], [], 0)[0]

    def wait_counted(self, counters):
        """Waits until a rule of an operator has dropped something."""
        poll(lambda: COUNTED.search(self.run(*counters).stdout), lambda: f"nothing is counted: {self.run(*counters).stdout}")

    def close(self):
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name])


class Publications:
    """`dockline publish` on the host of a lab."""

    def __init__(self, lab, directory, docker_host="unix:///nowhere"):
        self.lab = lab
        self.directory = Path(directory)
        self.env = {"PATH": os.environ["PATH"], "DOCKLINE_STATE_DIR": str(self.directory / "state"), "DOCKER_HOST": docker_host}
        self.running = []

    def command(self, *words, check=True):
        return self.lab.run(tools.gateway_binary(), *words, check=check, env=self.env)

    def start(self, *words):
        """Starts a publication in the foreground, and waits until it serves, which its first lines show."""
        log = self.directory / f"publish-{len(self.running)}.log"
        argv = ["nsenter", f"--net={self.lab.host}", tools.gateway_binary(), "publish", *words]
        service = Service(argv, log, env=self.env)
        self.running.append(service)
        service.wait_ready(lambda: " -> " in log.read_text())
        return service

    def ports(self, by="dockline"):
        listed = [json.loads(line) for line in self.command("ports", "--format", "json").stdout.splitlines()]
        return [port for port in listed if port["by"] == by]

    def stop(self):
        for service in self.running:
            service.stop()
        self.running.clear()


def serve(namespace, kind, port, host="0.0.0.0"):
    """A server that sends each client its address, and then what the client has sent."""
    server = make_socket(namespace, kind, (host, port))
    server.settimeout(None)
    threading.Thread(target=_serve_tcp if kind == TCP else _serve_udp, args=(server,), daemon=True).start()
    return server


def _serve_tcp(server):
    while True:
        try:
            connection, peer = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve_one, args=(connection, peer), daemon=True).start()


def _serve_one(connection, peer):
    with connection:
        connection.settimeout(PATIENCE)
        connection.sendall(f"{peer[0]} ".encode())
        while data := connection.recv(65536):
            connection.sendall(data)


def _serve_udp(server):
    while True:
        try:
            data, peer = server.recvfrom(65536)
        except OSError:
            return
        server.sendto(f"{peer[0]} ".encode() + data, peer)


def ask(namespace, kind, address, data=b"are you there?"):
    """Connects from a namespace. Returns the address that the server saw, once it has sent everything back."""
    with make_socket(namespace, kind, address, connect=True) as client:
        client.send(data)
        if kind == TCP:
            client.shutdown(socket.SHUT_WR)
        parts = [client.recv(65536)]
        while kind == TCP and parts[-1]:
            parts.append(client.recv(65536))
        seen, _, rest = b"".join(parts).partition(b" ")
        assert rest == data
        return seen.decode()
