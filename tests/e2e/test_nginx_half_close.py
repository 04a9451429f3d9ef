"""A client that half-closes after an ordinary request gets the response that dockerd gives it."""

import json
import threading

import pytest

from support import tools
from support.endpoints import Endpoint
from support.fake_daemon import FakeDaemon, answer
from support.nginx import Nginx, tls_listener, tls_upstream
from support.proc import poll
from support.wire import Stream, exec_request, request

pytestmark = pytest.mark.skipif(tools.stock(), reason="stock nginx does not respond")

PING = request("GET", "/_ping")
ENDINGS = ["half_close", "fin"]


@pytest.fixture
def wire(endpoint):
    with Stream.connect(endpoint) as stream:
        yield stream


def direct(daemon, data):
    """Returns the response of the daemon itself to a client that sends this and half-closes."""
    with Stream.connect(Endpoint("direct", daemon.url)) as stream:
        stream.send(data)
        stream.half_close()
        head, body = stream.read_response()
        assert stream.read_all() == b""
        return head, body


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("at_once", [True, False], ids=["one segment", "later"])
def test_ordinary_request(wire, ending, at_once):
    wire.send(PING)
    if not at_once:
        assert wire.read_response()[1] == b"OK"
        wire.send(PING)
    getattr(wire, ending)()
    head, body = wire.read_response()
    assert (head.status, body) == (200, b"OK")
    assert wire.read_all() == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_pipelined_requests(wire, ending):
    wire.send(PING + request("POST", "/v1.41/containers/nobody/start") + PING)
    getattr(wire, ending)()
    assert [wire.read_response()[0].status for _ in range(3)] == [200, 404, 200]
    assert wire.read_all() == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_behind_a_body(wire, daemon, name, ending):
    spec = json.dumps({"Image": "bb", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}).encode()
    data = request("POST", f"/v1.41/containers/create?name={name}", {"Content-Type": "application/json"}, spec)
    wire.send(data[:-5])
    wire.send(data[-5:])
    getattr(wire, ending)()
    assert wire.read_response()[0].status == 201
    assert wire.read_all() == b""


@pytest.mark.parametrize("ending", ENDINGS)
def test_operations_that_wait_end_with_the_client(endpoint, daemon, name, ending):
    """For the daemon the half-close is the end of the operation, as without a proxy."""
    daemon.start_container(name, ["sleep", "1000"])
    for data in (
        request("GET", f"/v1.41/containers/{name}/logs?stdout=1&follow=1"),
        request("GET", "/v1.41/events"),
        request("POST", f"/v1.41/containers/{name}/wait"),
    ):
        wanted_head, wanted_body = direct(daemon, data)
        with Stream.connect(endpoint) as stream:
            stream.send(data)
            getattr(stream, ending)()
            head, body = stream.read_response()
            assert (head.status, body) == (wanted_head.status, wanted_body)
            assert stream.read_all() == b""


# a scripted daemon


@pytest.fixture(scope="module")
def fake(tmp_path_factory, certificates):
    fake = FakeDaemon(tmp_path_factory.mktemp("fake-half-close"), certificates.back_server)
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory, fake, certificates):
    def http(ports):
        return f"""
    upstream pool {{ server 127.0.0.1:{fake.tcp_port}; keepalive 4; }}
    upstream second {{ server 127.0.0.1:{fake.tcp_port} max_fails=0; server unix:{fake.socket} max_fails=0; }}
    server {{
        listen 127.0.0.1:{ports["plain"]};
        location / {{ dockline on; proxy_pass http://127.0.0.1:{fake.tcp_port}; }}
        location /pool/ {{ dockline on; proxy_set_header Connection ""; proxy_pass http://pool; }}
        location /second/ {{ dockline on; proxy_pass http://second; proxy_next_upstream error http_503; }}
        location /buffered/ {{ dockline on; proxy_request_buffering on; proxy_pass http://127.0.0.1:{fake.tcp_port}; }}
        location /ignored/ {{ dockline on; proxy_ignore_client_abort on; proxy_pass http://127.0.0.1:{fake.tcp_port}; }}
        location /tls/ {{
            dockline on; {tls_upstream(certificates.back_client)} proxy_pass https://127.0.0.1:{fake.tls_port};
        }}
    }}
    server {{
        {tls_listener(ports["tls"], certificates.front_server)}
        location / {{ dockline on; proxy_pass http://127.0.0.1:{fake.tcp_port}; }}
    }}
"""

    nginx = Nginx(tmp_path_factory.mktemp("nginx"), ("plain", "tls"), http)
    yield nginx
    assert not nginx.errors()
    nginx.stop()


@pytest.fixture(params=["plain", "tls"])
def client(request, nginx, certificates):
    identity = certificates.front_client if request.param == "tls" else None
    with Stream.connect(Endpoint(request.param, f"tcp://127.0.0.1:{nginx.ports[request.param]}", identity)) as stream:
        yield stream


def ends(connection):
    """Reads one request and the half-close behind it, then responds."""
    connection.read_request()
    assert connection.stream.read_all() == b""
    connection.stream.send(answer(b"after the end"))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_half_close_reaches_the_daemon_behind_the_request(fake, client, method, ending):
    fake.serve(ends)
    client.send(request(method, "/v1.41/images/load", {}, b"x" * 300_000 if method == "POST" else b""))
    getattr(client, ending)()
    assert client.read_response()[1] == b"after the end"
    assert client.read_all() == b""
    fake.check()
    [(_, body)] = fake.requests()
    assert len(body) == (300_000 if method == "POST" else 0)


@pytest.mark.parametrize("way", ["/pool/", "/buffered/", "/tls/"])
def test_a_half_close_reaches_the_daemon_in_other_configurations(fake, nginx, way):
    fake.serve(ends)
    for _ in range(2):  # what has its end is not kept
        with Stream.connect(Endpoint("plain", nginx.url("plain"))) as stream:
            stream.send(request("POST", way, {}, b"x" * 50_000))
            stream.half_close()
            assert stream.read_response()[1] == b"after the end"
    fake.check()
    assert len(fake.connections) == 2


def test_a_half_close_reaches_the_next_server_as_well(fake, nginx):
    def script(connection):
        connection.read_request()
        assert connection.stream.read_all() == b""
        first = connection.number == 0
        connection.stream.send(answer(b"{}", "503 Service Unavailable" if first else "200 OK"))

    fake.serve(script)
    with Stream.connect(Endpoint("plain", nginx.url("plain"))) as stream:
        stream.send(request("GET", "/second/"))
        stream.half_close()
        assert stream.read_response()[0].status == 200
    fake.check()
    assert len(fake.connections) == 2


def test_a_half_close_is_ignored_if_it_is_configured_so(fake, nginx):
    def script(connection):
        connection.read_request()
        assert connection.stream.quiet(0.2)
        connection.stream.send(answer(b"{}"))

    fake.serve(script)
    with Stream.connect(Endpoint("plain", nginx.url("plain"))) as stream:
        stream.send(request("GET", "/ignored/"))
        stream.half_close()
        assert stream.read_response()[0].status == 200
    fake.check()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_half_close_during_a_large_response(fake, client, ending):
    """More than all buffers hold: the client half-closes before it has read."""
    pieces, size = 100, 100_000

    def script(connection):
        connection.read_request()
        connection.stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(pieces):
            connection.stream.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
        connection.stream.send(b"0\r\n\r\n")

    fake.serve(script)
    client.send(request("GET", "/v1.41/images/get"))
    head = client.read_head()
    getattr(client, ending)()
    assert client.read_body(head) == b"x" * pieces * size
    assert client.read_all() == b""
    fake.check()


@pytest.mark.parametrize("phase", ["before the answer", "within it", "after its end"])
def test_a_reset_aborts_the_request(fake, client, phase):
    asked, ended, aborted = threading.Event(), threading.Event(), threading.Event()

    def script(connection):
        connection.read_request()
        if phase == "within it":
            connection.stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n")
        asked.set()
        assert connection.stream.read_all() == b""
        ended.set()
        if phase == "after its end":  # only a write can tell now
            poll(lambda: broken(connection.stream), "nginx closes")
        aborted.set()

    def broken(stream):
        try:
            stream.sock.send(b"x")
        except OSError:
            return True
        return False

    fake.serve(script)
    client.send(request("GET", "/v1.41/events"))
    assert asked.wait(10)
    if phase == "within it":
        client.read_head()
    if phase == "after its end":
        client.fin()
        assert ended.wait(10)
    client.reset()
    assert aborted.wait(10)
    fake.check()


def test_a_half_close_behind_a_refused_switch(fake, client):
    fake.serve(lambda connection: (connection.read_request(), connection.stream.send(answer(b"{}", "404 Not Found"))))
    client.send(exec_request("x"))
    client.half_close()
    assert client.read_response()[0].status == 404
    assert client.read_all() == b""
