"""docker-py, a client that reads the head through a buffer and never checks for 101."""

import gc

import docker
import pytest

from support.proc import poll
from support.wire import unframe


@pytest.fixture(scope="module")
def client(endpoint):
    client = docker.DockerClient(**endpoint.docker_py_options(), timeout=60)
    yield client
    client.close()
    # Sockets that docker-py has returned are closed with the last response that refers to them.
    gc.collect()


def socket_of(stream):
    """Returns the raw socket: docker-py returns that, or a wrapper around it."""
    return getattr(stream, "_sock", stream)


def read_until(sock, wanted):
    data = b""
    while wanted not in data:
        piece = sock.recv(65536)
        assert piece, f"the end came before {wanted!r}, after {data!r}"
        data += piece
    return data


def test_run(client, image):
    output = client.containers.run(image, ["echo", "hello"], network_mode="none", remove=True)
    assert output == b"hello\n"


def test_exec_run(client, sleeper):
    done = client.containers.get(sleeper).exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
    assert (done.exit_code, done.output) == (3, (b"out\n", b"err\n"))


def test_exec_streams_as_it_is_written(client, sleeper):
    command = ["sh", "-c", "for i in 1 2 3; do echo $i; done"]
    stream = client.containers.get(sleeper).exec_run(command, stream=True).output
    assert b"".join(stream) == b"1\n2\n3\n"


def test_exec_with_a_socket(client, sleeper):
    stream = client.containers.get(sleeper).exec_run(["cat"], stdin=True, socket=True).output
    sock = socket_of(stream)
    sock.sendall(b"there and back\n")
    assert unframe(read_until(sock, b"back\n")) == [(1, b"there and back\n")]
    # The wrapper's close leaves the socket to docker-py's pool, which never uses it again.
    sock.close()


def test_attach_socket(client, image, name):
    container = client.containers.create(image, ["cat"], name=name, network_mode="none", stdin_open=True, tty=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    sock = socket_of(stream)
    sock.sendall(b"typed\n")
    read_until(sock, b"typed\r\ntyped\r\n")
    sock.close()


def test_logs_follow(client, image, name):
    command = ["sh", "-c", "echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two"]
    container = client.containers.run(image, command, name=name, network_mode="none", detach=True)
    lines = container.logs(stream=True, follow=True)
    assert next(lines).strip() == b"one"
    container.exec_run(["touch", "/tmp/go"])
    assert b"".join(lines).strip() == b"two"


def test_events_arrive_while_the_stream_is_open(client, image, name):
    events = client.events(decode=True, filters={"container": name})
    container = client.containers.create(image, ["true"], name=name, network_mode="none")
    assert next(events)["Action"] == "create"
    container.start()
    assert next(events)["Action"] == "start"
    events.close()


def test_wait(client, image, name):
    container = client.containers.run(image, ["sh", "-c", "exit 7"], name=name, network_mode="none", detach=True)
    assert container.wait()["StatusCode"] == 7
    poll(lambda: client.containers.get(name).status == "exited", "the container has exited")
