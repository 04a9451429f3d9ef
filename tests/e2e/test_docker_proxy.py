"""Ports published by a real dockerd whose --userland-proxy-path is dockline's docker-proxy."""

import hashlib
import os
import signal
import socket
import threading

import docker
import pytest

from support import ports
from support.ports import PublishingDaemon, make_socket
from support.proc import open_fds, poll

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.fixture(scope="module", params=["plain", "broker"])
def publisher(request, workspace, certificates):
    """One process for each port does the work, or one for all."""
    directory = workspace / f"publisher-{request.param}"
    directory.mkdir()
    name = f"dockline-e2e-{os.getpid()}"
    env = {"DOCKLINE_PROXY_BROKER": name} if request.param == "broker" else {}
    daemon = PublishingDaemon(directory, certificates.back_server, name, env)
    try:
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def container(publisher, request):
    """A fresh name; the container and its proxies are removed at the end of the test."""
    name = request.node.name.replace("[", "-").replace("]", "").replace(":", "-").rstrip("-")
    yield name
    publisher.remove(name)
    poll(lambda: not publisher.proxies(), "no proxy is left")


def echo_tcp(server):
    """Sends back what each connection has sent, once it has half-closed."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=echo_one, args=(connection,), daemon=True).start()


def echo_one(connection):
    with connection:
        connection.settimeout(ports.PATIENCE)
        connection.sendall(read_to_end(connection))


def echo_udp(server):
    server.settimeout(None)
    while True:
        try:
            data, peer = server.recvfrom(65536)
        except OSError:
            return
        server.sendto(data, peer)


def read_to_end(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def ask_tcp(publisher, address, data=b"are you there?"):
    with publisher.connect(TCP, address) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client)


def ask_udp(publisher, address, data=b"are you there?"):
    with publisher.connect(UDP, address) as client:
        client.send(data)
        return client.recv(65536)


def answers(publisher, address):
    try:
        return ask_tcp(publisher, address) == b"are you there?"
    except OSError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_tcp(publisher, container, host, bulk):
    publisher.publish(container, {"80/tcp": (host, 18080)})
    publisher.serve(container, TCP, 80, echo_tcp)
    loopback = "::1" if ":" in host else "127.0.0.1"
    got = ask_tcp(publisher, (loopback, 18080), bulk)
    assert hashlib.md5(got).digest() == hashlib.md5(bulk).digest()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_udp(publisher, container, host):
    publisher.publish(container, {"53/udp": (host, 18053)})
    publisher.serve(container, UDP, 53, echo_udp)
    loopback = "::1" if ":" in host else "127.0.0.1"
    for data in (b"", b"x", bytes(range(256)) * 100, b""):
        assert ask_udp(publisher, (loopback, 18053), data) == data


def test_udp_replies_come_from_the_address_of_the_request(publisher, container):
    publisher.publish(container, {"53/udp": [("0.0.0.0", 18053), ("::", 18053)]})
    publisher.serve(container, UDP, 53, echo_udp)
    for host in ("127.0.0.1", "172.31.251.1", "172.31.250.1", "::1", "fd00:d0d::1"):
        assert ask_udp(publisher, (host, 18053)) == b"are you there?"


def test_one_process_per_port_of_a_range(publisher, container):
    numbers = range(18100, 18105)
    publisher.publish(container, {f"{number}/tcp": ("127.0.0.1", number) for number in numbers})
    assert sorted(int(words[6]) for words in publisher.proxies().values()) == list(numbers)
    for number in numbers:
        publisher.serve(container, TCP, number, echo_tcp)
        assert answers(publisher, ("127.0.0.1", number))


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_conflict_names_the_port(publisher, container, proto):
    taken = make_socket(publisher.namespace, TCP if proto == "tcp" else UDP, ("127.0.0.1", 18090))
    with taken, pytest.raises(docker.errors.APIError) as caught:
        publisher.publish(container, {f"90/{proto}": ("127.0.0.1", 18090)})
    assert f"listen {proto}4 127.0.0.1:18090: bind: address already in use" in str(caught.value)
    publisher.api.start(container)  # now that the port is free
    assert len(publisher.proxies()) == 1


def test_sctp_is_refused_with_a_reason(publisher, container):
    with pytest.raises(docker.errors.APIError, match="sctp is not supported"):
        publisher.publish(container, {"90/sctp": ("127.0.0.1", 18090)})


def test_stop_and_start(publisher, container):
    publisher.publish(container, {"80/tcp": ("127.0.0.1", 18080)})
    for _ in range(2):
        publisher.serve(container, TCP, 80, echo_tcp)
        assert answers(publisher, ("127.0.0.1", 18080))
        publisher.api.stop(container, timeout=0)
        poll(lambda: not publisher.proxies(), "the proxy ends with the container")
        assert not answers(publisher, ("127.0.0.1", 18080))
        publisher.api.start(container)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_daemon_restart(publisher, container, number):
    restart = {"Name": "always"}
    publisher.publish(container, {"80/tcp": ("127.0.0.1", 18080)}, restart_policy=restart)
    publisher.restart(number)
    poll(lambda: publisher.running(container) and publisher.proxies(), "the container is back", seconds=30)
    publisher.serve(container, TCP, 80, echo_tcp)
    assert answers(publisher, ("127.0.0.1", 18080))


def polls(pid):
    """Returns whether a process waits for connections with a poller, and thus serves."""
    return any("[eventpoll]" in target for target in open_fds(pid).values())


def sockets(pid):
    return sum(target.startswith("socket:") for target in open_fds(pid).values())


only_with_broker = pytest.mark.parametrize("publisher", ["broker"], indirect=True)


@only_with_broker
def test_ports_are_served_by_the_broker(publisher, container):
    numbers = range(18100, 18103)
    publisher.publish(container, {f"{number}/tcp": ("127.0.0.1", number) for number in numbers})
    for number in numbers:
        publisher.serve(container, TCP, number, echo_tcp)
    broker = publisher.broker()
    assert polls(broker) and not any(polls(pid) for pid in publisher.proxies())
    idle = sockets(broker)
    with publisher.connect(TCP, ("127.0.0.1", numbers[0])) as client:
        client.sendall(b"x")
        poll(lambda: sockets(broker) == idle + 2, "the connection is the broker's")
    assert all(answers(publisher, ("127.0.0.1", number)) for number in numbers)
    publisher.remove(container)
    poll(lambda: publisher.broker() is None, "the broker ends with the last port")


@only_with_broker
def test_ports_stay_open_when_the_broker_is_killed(publisher, container):
    numbers = range(18100, 18103)
    publisher.publish(container, {f"{number}/tcp": ("127.0.0.1", number) for number in numbers})
    for number in numbers:
        publisher.serve(container, TCP, number, echo_tcp)
    before = set(publisher.proxies())
    os.kill(publisher.broker(), signal.SIGKILL)
    assert all(answers(publisher, ("127.0.0.1", number)) for number in numbers)  # at once, and later
    poll(lambda: all(map(polls, before)), "every proxy serves its own port")
    assert all(answers(publisher, ("127.0.0.1", number)) for number in numbers)
    assert set(publisher.proxies()) == before and publisher.broker() is None

    another = f"{container}-another"
    try:
        publisher.publish(another, {"80/tcp": ("127.0.0.1", 18080)})
        publisher.serve(another, TCP, 80, echo_tcp)
        assert answers(publisher, ("127.0.0.1", 18080))
        assert polls(publisher.broker())
    finally:
        publisher.remove(another)
