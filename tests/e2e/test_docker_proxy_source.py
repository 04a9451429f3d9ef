"""Containers see the addresses of their clients: DOCKLINE_PROXY_TRANSPARENT, with the routes of docs/DOCKER-PROXY.md."""

import os
import socket
import subprocess

import pytest

from support.ports import BRIDGE, PublishingDaemon, inside, make_socket, proxy_binary
from support.proc import Service, poll

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM

GATEWAY = "172.31.250.1"
CLIENT, HOST = "192.0.2.2", "192.0.2.1"
CLIENT6, HOST6 = "fd00:c11e::2", "fd00:c11e::1"
CONTAINER6, GATEWAY6 = "fd00:c0::2", "fd00:c0::1"

# Packets addressed to a client in whose name a proxy has sent belong to the proxy.
RULES = """table inet dockline {
    chain answers {
        type filter hook prerouting priority mangle
        socket transparent 1 meta mark set 0xd0c
    }
}"""


def ip(namespace, *lines):
    for line in lines:
        subprocess.run(["ip", "-n", namespace, *line.split()], check=True)


@pytest.fixture(scope="module", params=["plain", "broker"])
def publisher(request, workspace, certificates):
    """A daemon with a network of its own, and beside it a network with a client."""
    directory = workspace / f"transparent-{request.param}"
    directory.mkdir()
    name = f"dockline-e2e-{os.getpid()}t"
    env = {"DOCKLINE_PROXY_TRANSPARENT": "1"}
    if request.param == "broker":
        env["DOCKLINE_PROXY_BROKER"] = name
    daemon = PublishingDaemon(directory, certificates.back_server, name, env)
    daemon.client = f"{name}-client"
    subprocess.run(["ip", "netns", "add", daemon.client], check=True)
    try:
        ip(
            name,
            f"link add dlveth0 type veth peer name eth0 netns {daemon.client}",
            f"addr add {HOST}/24 dev dlveth0",
            f"addr add {HOST6}/64 dev dlveth0 nodad",
            "link set dlveth0 up",
            f"addr add {GATEWAY6}/64 dev {BRIDGE} nodad",
            "rule add fwmark 0xd0c lookup 100",
            "route add local default dev lo table 100",
            "-6 rule add fwmark 0xd0c lookup 100",
            "-6 route add local default dev lo table 100",
        )
        ip(
            daemon.client,
            f"addr add {CLIENT}/24 dev eth0",
            f"addr add {CLIENT6}/64 dev eth0 nodad",
            "link set eth0 up",
        )
        subprocess.run(["ip", "netns", "exec", name, "nft", "-f", "-"], input=RULES, text=True, check=True)
        yield daemon
    finally:
        daemon.stop()
        subprocess.run(["ip", "netns", "del", daemon.client])


@pytest.fixture
def container(publisher, request):
    name = request.node.name.replace("[", "-").replace("]", "")
    yield name
    publisher.remove(name)
    poll(lambda: not publisher.proxies(), "no proxy is left")


def tell_peer(server):
    """Sends each client the address that it connects from."""
    server.settimeout(None)
    while True:
        try:
            if server.type == UDP:
                _, peer = server.recvfrom(65536)
                server.sendto(peer[0].encode(), peer)
            else:
                connection, peer = server.accept()
                with connection:
                    connection.sendall(peer[0].encode())
        except OSError:
            return


def ask(namespace, kind, address):
    with make_socket(namespace, kind, address, connect=True) as client:
        client.send(b"who am I?")
        return client.recv(100).decode()


def client_of(publisher):
    return f"/run/netns/{publisher.client}"


@pytest.mark.parametrize("socket_type, proto", [(TCP, "tcp"), (UDP, "udp")], ids=["tcp", "udp"])
def test_the_container_sees_the_address_of_the_client(publisher, container, socket_type, proto):
    publisher.publish(container, {f"80/{proto}": [("0.0.0.0", 18080), ("::", 18080)]})
    publisher.serve(container, socket_type, 80, tell_peer)
    for _ in range(20):
        assert ask(client_of(publisher), socket_type, (HOST, 18080)) == CLIENT
    # Loopback addresses are of no use to the container: it sees the host, as without this mode.
    for address in ("127.0.0.1", "::1"):
        assert ask(publisher.namespace, socket_type, (address, 18080)) == GATEWAY
    assert ask(client_of(publisher), socket_type, (HOST6, 18080)) == GATEWAY


@pytest.mark.parametrize("socket_type, proto", [(TCP, "tcp"), (UDP, "udp")], ids=["tcp", "udp"])
def test_ipv6(publisher, container, socket_type, proto):
    """This daemon gives its containers no IPv6, so the proxy is started by hand."""
    publisher.publish(container, {})
    pid = publisher.inspect(container)["State"]["Pid"]
    with inside(f"/proc/{pid}/ns/net"):
        for words in (
            "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0",
            f"ip addr add {CONTAINER6}/64 dev eth0 nodad",
            f"ip -6 route add default via {GATEWAY6}",
        ):
            subprocess.run(words.split(), check=True)
    publisher.serve(container, socket_type, 80, tell_peer, host=CONTAINER6)
    flags = f"-proto {proto} -host-ip :: -host-port 18080 -container-ip {CONTAINER6} -container-port 80".split()
    words = ["nsenter", f"--net={publisher.namespace}", "env", "DOCKLINE_PROXY_TRANSPARENT=1", proxy_binary(), *flags]
    proxy = Service(words, publisher.directory / "by-hand.log")
    try:
        address = poll(lambda: ask_if_served(client_of(publisher), socket_type, (HOST6, 18080)), "the port is served")
        assert address == CLIENT6
    finally:
        proxy.stop()


def ask_if_served(namespace, kind, address):
    try:
        return ask(namespace, kind, address)
    except ConnectionRefusedError:
        return None
