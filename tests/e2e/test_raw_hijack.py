"""Raw sockets against a real daemon through the proxy: behaviour of docker clients other than the command."""

import hashlib
import random
import time

import pytest

from support import tools
from support.wire import Frames, Stream, attach_request, exec_request, request, unframe

@pytest.fixture
def wire(endpoint):
    """A connection through the proxy."""
    with Stream.connect(endpoint) as stream:
        yield stream


@pytest.fixture(scope="module")
def echo(daemon):
    """A container that echoes its stdin and outlives any number of attaches."""
    daemon.start_container("echo", ["cat"], stdin_open=True)
    yield "echo"
    daemon.remove("echo")


@pytest.fixture
def command(daemon, sleeper):
    """Creates an exec that is ready to be started."""
    return lambda *words, **options: daemon.create_exec(sleeper, list(words), **options)


def is_hijack(head, upgrade):
    """Checks the fields of a hijack head that matter to a client."""
    assert head.first.startswith("HTTP/1.1 101" if upgrade else "HTTP/1.1 200"), head.raw
    assert head.get("content-type") == "application/vnd.docker.raw-stream", head.raw
    assert "content-length" not in head and "transfer-encoding" not in head, head.raw
    if upgrade:
        assert head["connection"].lower() == "upgrade" and head["upgrade"] == "tcp", head.raw
    return True


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_attach(wire, echo, upgrade):
    wire.send(attach_request(echo, upgrade=upgrade))
    assert is_hijack(wire.read_head(), upgrade)
    frames = Frames(wire)
    for word in (b"one\n", b"two\n"):
        wire.send(word)
        assert frames.read_payload(4) == word
    wire.half_close()  # this container was not made by `run -i`: the daemon takes it for a detach
    assert wire.read_all() == b""


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_exec(wire, command, upgrade):
    wire.send(exec_request(command("sh", "-c", "cat; sleep 0.5; echo late; echo err >&2"), upgrade=upgrade))
    assert is_hijack(wire.read_head(), upgrade)
    wire.send(b"input ")
    wire.half_close()
    frames = unframe(wire.read_all())
    assert b"".join(data for stream, data in frames if stream == 1) == b"input late\n"
    assert b"".join(data for stream, data in frames if stream == 2) == b"err\n"


def test_exec_with_terminal_is_not_framed(wire, command):
    wire.send(exec_request(command("sh", "-c", "read x; echo got $x", tty=True), tty=True))
    assert is_hijack(wire.read_head(), True)
    wire.send(b"word\n")
    assert wire.read_all() == b"word\r\ngot word\r\n"


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_stdin_in_the_same_segment_as_the_request(wire, command, upgrade):
    """Without a proxy these bytes are lost; the proxy has to hold them until the daemon has responded."""
    wire.send(exec_request(command("head", "-c", "5"), upgrade=upgrade) + b"EARLY")
    assert is_hijack(wire.read_head(), upgrade)
    assert unframe(wire.read_all()) == [(1, b"EARLY")]


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_request_stdin_and_half_close_at_once(wire, command, upgrade):
    wire.send(exec_request(command("cat"), upgrade=upgrade) + b"all at once")
    wire.half_close()
    assert is_hijack(wire.read_head(), upgrade)
    assert unframe(wire.read_all()) == [(1, b"all at once")]


def test_half_close_right_after_the_request(wire, command):
    wire.send(exec_request(command("sh", "-c", "sleep 0.5; echo output"), upgrade=False))
    wire.half_close()
    assert is_hijack(wire.read_head(), False)
    assert unframe(wire.read_all()) == [(1, b"output\n")]


def test_much_early_stdin(wire, command, bulk):
    """More than any buffer in front of the daemon holds."""
    early = bulk[:1_000_000]
    wire.send(exec_request(command("sh", "-c", "head -c 1000000 | md5sum")) + early[:200_000])
    wire.send(early[200_000:])
    assert is_hijack(wire.read_head(), True)
    [(stream, text)] = unframe(wire.read_all())
    assert (stream, text.split()[0].decode()) == (1, hashlib.md5(early).hexdigest())


def test_early_bytes_two_hundred_times(endpoint, echo):
    """Stdin that follows the request after 0 to 1 ms, the window in which a daemon loses the first byte."""
    delays = random.Random(7)
    wrong = []
    for n in range(200):
        word = b"EARLY-%03d\n" % n
        with Stream.connect(endpoint) as stream:
            if n % 10 == 0:
                stream.send(attach_request(echo) + word)
            else:
                stream.send(attach_request(echo))
                time.sleep(delays.random() / 1000)
                stream.send(word)
            is_hijack(stream.read_head(), True)
            got = Frames(stream).next()
            if got != (1, word):
                wrong.append((n, got))
            stream.half_close()
            stream.read_all()
    assert not wrong


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_http_1_0_client(wire, command, upgrade):
    """The daemon gives such a client a stream as well, by 101 or by 200."""
    wire.send(exec_request(command("sh", "-c", "cat; echo end"), upgrade=upgrade, version="1.0"))
    head = wire.read_head()
    assert head.status in ((101, 200) if upgrade else (200,)), head.raw
    assert "transfer-encoding" not in head
    wire.send(b"old ")
    wire.half_close()
    assert b"".join(data for _, data in unframe(wire.read_all())) == b"old end\n"


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_refused_attach_with_a_request_behind_it(wire, daemon, name, upgrade):
    """Bytes behind a refused attach may be stdin: they must never be served as a request, so the connection closes."""
    daemon.start_container(name, ["sleep", "1000"])
    behind = request("DELETE", f"/v1.41/containers/{name}?force=1")
    wire.send(attach_request("no-such-container", upgrade=upgrade) + behind)
    head, body = wire.read_response()
    assert head.status == 404 and b"No such container: no-such-container" in body
    assert wire.read_all() == b""
    assert daemon.running(name)


def test_refused_exec_with_a_request_behind_it(wire, daemon, name):
    daemon.start_container(name, ["sleep", "1000"])
    wire.send(exec_request("no-such-exec") + request("DELETE", f"/v1.41/containers/{name}?force=1"))
    head, body = wire.read_response()
    assert head.status == 404 and b"No such exec" in body
    assert wire.read_all() == b""
    assert daemon.running(name)


def test_refused_exec_ends_the_connection(wire):
    """Bytes for the tunnel may still be on their way."""
    head, _ = wire.ask(exec_request("no-such-exec"))
    assert (head.status, head["connection"]) == (404, "close")
    assert wire.read_all() == b""


@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "bare"])
def test_detached_exec_ends_the_connection(wire, command, upgrade):
    head, body = wire.ask(exec_request(command("true", stdin=False), upgrade=upgrade, detach=True))
    assert (head.status, head["connection"], body) == (200, "close", b"")
    assert wire.read_all() == b""


def test_hijack_as_a_later_request(wire, command):
    """A connection that was used for ordinary requests becomes a tunnel."""
    for _ in range(3):
        assert wire.ask(request("GET", "/_ping"))[1] == b"OK"
    wire.send(exec_request(command("cat")))
    assert is_hijack(wire.read_head(), True)
    wire.send(b"later")
    wire.half_close()
    assert unframe(wire.read_all()) == [(1, b"later")]


def test_exec_with_expect_continue(wire, command):
    """At most one 100, then the switch."""
    whole = exec_request(command("cat"))
    head, _, body = whole.partition(b"\r\n\r\n")
    wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    answer = wire.read_head()
    assert answer.status == 100
    wire.send(body)
    assert is_hijack(wire.read_head(), True)
    wire.send(b"after")
    wire.half_close()
    assert unframe(wire.read_all()) == [(1, b"after")]


def test_late_body_is_not_stdin(wire, command):
    """The line feed at the end of the body arrives late: it belongs to the body, and is not the first byte of stdin."""
    whole = exec_request(command("cat"))
    wire.send(whole[:-1])
    assert wire.quiet(0.1)
    wire.send(whole[-1:])
    assert is_hijack(wire.read_head(), True)
    wire.send(b"stdin")
    wire.half_close()
    assert unframe(wire.read_all()) == [(1, b"stdin")]


def test_late_chunked_body_is_not_stdin(wire, command):
    whole = exec_request(command("cat"), upgrade=True)
    head, _, body = whole.partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    wire.send(head + b"\r\n\r\n%x\r\n%s\r\n" % (len(body), body))
    assert wire.quiet(0.1)
    wire.send(b"0\r\n\r\n")
    assert is_hijack(wire.read_head(), True)
    wire.send(b"stdin")
    wire.half_close()
    assert unframe(wire.read_all()) == [(1, b"stdin")]


def test_logs_with_upgrade_are_an_ordinary_response(wire, daemon, name):
    daemon.start_container(name, ["echo", "logged"])
    daemon.api.wait(name)
    fields = {"Connection": "Upgrade", "Upgrade": "tcp"}
    head, body = wire.ask(request("GET", f"/v1.41/containers/{name}/logs?stdout=1", fields))
    assert head.status == 200 and unframe(body) == [(1, b"logged\n")]
    if not tools.stock():  # What follows might be input for the tunnel that was proposed.
        assert head["connection"] == "close"


def test_attach_before_the_container_starts(wire, endpoint, daemon, name):
    """The tunnel is open and silent; the start arrives on another connection and is not delayed."""
    host = daemon.api.create_host_config(network_mode="none")
    daemon.api.create_container("bb", ["echo", "started"], name=name, host_config=host)
    wire.send(attach_request(name, "stream=1&stdout=1"))
    assert is_hijack(wire.read_head(), True)
    with Stream.connect(endpoint) as other:
        head, _ = other.ask(request("POST", f"/v1.41/containers/{name}/start"))
        assert head.status == 204
    assert unframe(wire.read_all()) == [(1, b"started\n")]


def test_the_head_of_wait_arrives_at_once(wire, daemon, name):
    daemon.start_container(name, ["sleep", "1000"])
    wire.send(request("POST", f"/v1.41/containers/{name}/wait"))
    head = wire.read_head()
    assert head.status == 200
    daemon.api.kill(name)
    assert b'"StatusCode":137' in wire.read_body(head)


def test_both_connections_close_when_an_interactive_client_leaves(front, endpoint, echo):
    before = front.health()
    for ending in ("reset", "close", "half_close_and_close"):
        stream = Stream.connect(endpoint)
        stream.send(attach_request(echo))
        assert is_hijack(stream.read_head(), True)
        stream.send(b"x\n")
        assert Frames(stream).next() == (1, b"x\n")
        if ending == "half_close_and_close":
            stream.half_close()
        (stream.reset if ending == "reset" else stream.close)()
    front.check_health(before)


@pytest.mark.kinds("tls", "tls_both")
def test_tls_half_close_keeps_the_other_direction(wire, command, bulk):
    """close_notify ends stdin; 5 MB of output arrive after it, and end in a close_notify, too."""
    wire.send(exec_request(command("sh", "-c", "wc -c; sleep 0.5; dd if=/dev/zero bs=1048576 count=5 2>/dev/null")))
    assert is_hijack(wire.read_head(), True)
    wire.send(bulk[:3_000_000])
    wire.half_close()
    [(stream, text)] = unframe(wire.read_all())
    assert text == b"3000000\n" + bytes(5 * 1024 * 1024)
    assert wire.saw_close_notify


@pytest.mark.kinds("tls", "tls_both")
def test_tls_bare_fin_counts_as_half_close(wire, command):
    """Old clients shut down the socket below TLS."""
    wire.send(exec_request(command("sh", "-c", "cat; sleep 0.3; echo end")))
    assert is_hijack(wire.read_head(), True)
    wire.send(b"before the FIN ")
    wire.fin()
    assert b"".join(data for _, data in unframe(wire.read_all())) == b"before the FIN end\n"
