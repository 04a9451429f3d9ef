"""The proxy in front of a scripted daemon: faults, unusual responses, and the exact bytes that reach the daemon."""

import random
import threading

import pytest

from support.endpoints import Endpoint, through
from support.fake_daemon import HIJACK_101, HIJACK_200, FakeDaemon, answer
from support.fronts import fake_front
from support.wire import UPGRADE, Stream, attach_request, exec_request, request

ATTACH = attach_request("x")
PING = request("GET", "/_ping")
BLOB = random.Random(3).randbytes(2_000_000)


@pytest.fixture(scope="module")
def fake(tmp_path_factory, certificates):
    fake = FakeDaemon(tmp_path_factory.mktemp("fake"), certificates.back_server)
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, fake, certificates):
    """What is under test; `plain` is TCP on both sides."""
    proxy = fake_front(tmp_path_factory.mktemp("fake-front"), fake, certificates)
    try:
        yield proxy
    finally:
        proxy.stop()


@pytest.fixture(scope="module", autouse=True)
def idle(proxy, fake):
    """Health of the proxy before the first test; at the end it has to be the same."""
    before = proxy.health()
    yield before
    fake.drop()
    proxy.check_health(before)


@pytest.fixture
def client(proxy, kind, certificates):
    with Stream.connect(through(proxy, kind, certificates)) as stream:
        yield stream


def serve_hijack(fake, after, head=HIJACK_101):
    """Serve connections that read one request, send a hijack head, and go on with `after(stream)`."""

    def script(connection):
        connection.read_request()
        connection.stream.send(head)
        after(connection.stream)

    fake.serve(script)


def echo_until_eof(stream):
    while stream.more():
        stream.send(stream.take())


# switching protocols, or not


def test_101_reaches_the_client_and_opens_a_tunnel(fake, client):
    serve_hijack(fake, echo_until_eof)
    client.send(ATTACH)
    head = client.read_head()
    assert head.first == "HTTP/1.1 101 UPGRADED" or head.status == 101
    assert head["content-type"] == "application/vnd.docker.raw-stream"
    assert (head["connection"].lower(), head["upgrade"]) == ("upgrade", "tcp")
    client.send(b"both ways")
    client.half_close()
    assert client.read_all() == b"both ways"
    fake.check()


def test_101_that_was_not_requested_is_a_502(fake, client):
    """The daemon's connection is closed. Bytes after the 101 are discarded."""

    def leaked(stream):
        try:
            stream.send(b"not for you")
            assert stream.read_all() == b""
        except (BrokenPipeError, ConnectionResetError):
            pass

    serve_hijack(fake, leaked)
    client.send(attach_request("x", upgrade=False))
    head, body = client.read_response()
    assert head.status == 502 and b"not for you" not in body
    fake.check()


def test_200_opens_a_tunnel_without_upgrade(fake, client):
    serve_hijack(fake, echo_until_eof, HIJACK_200)
    client.send(attach_request("x", upgrade=False))
    head = client.read_head()
    assert head.status == 200 and "transfer-encoding" not in head and "content-length" not in head
    client.send(b"raw")
    client.half_close()
    assert client.read_all() == b"raw"
    fake.check()


def test_multiplexed_stream_opens_a_tunnel(fake, client):
    serve_hijack(fake, echo_until_eof, HIJACK_200.replace(b"raw-stream", b"multiplexed-stream"))
    client.send(exec_request("x", upgrade=False))
    assert client.read_head()["content-type"] == "application/vnd.docker.multiplexed-stream"
    client.send(b"raw")
    client.half_close()
    assert client.read_all() == b"raw"
    fake.check()


@pytest.mark.parametrize("data", [ATTACH, exec_request("x", upgrade=False)], ids=["attach", "exec"])
def test_raw_stream_type_with_a_length_is_ordinary(fake, client, data):
    def script(connection):
        while connection.read_request():
            connection.stream.send(answer(b"12345", content_type="application/vnd.docker.raw-stream"))

    fake.serve(script)
    assert client.ask(data)[1] == b"12345"
    assert client.read_all() == b""


def test_raw_stream_type_on_chunked_logs_is_ordinary(fake, client):
    """`logs` of daemons from 23.0 on: the media type of a hijack on a chunked response, delivered as written."""
    go_on = threading.Event()

    def script(connection):
        while connection.read_request():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
            connection.stream.send(head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            assert go_on.wait(20)
            connection.stream.send(b"6\r\nsecond\r\n0\r\n\r\n")

    fake.serve(script)
    logs = request("GET", "/v1.43/containers/x/logs?follow=1&stdout=1")
    client.send(logs)
    head = client.read_head()
    assert head.chunked
    assert client.read_until(b"first").endswith(b"first")  # and the end is still to come
    go_on.set()
    assert b"second" in client.read_until(b"0\r\n\r\n")
    assert client.ask(logs)[1] == b"firstsecond"


def test_unframed_logs_are_ordinary(fake, client):
    """As in HTTP/1.0: everything but the path looks like a hijack."""

    def script(connection):
        connection.read_request()
        connection.stream.send(HIJACK_200 + b"log lines")
        connection.stream.half_close()  # under TLS, no other end is one (RFC 9112, section 9.8)

    fake.serve(script)
    head, body = client.ask(request("GET", "/v1.43/containers/x/logs?stdout=1"))
    assert (head.status, body) == (200, b"log lines")
    fake.check()


def test_refusal_keeps_its_body(fake, client):
    """Errors of attach: the media type of a hijack, no framing, and a status other than 200."""

    def script(connection):
        connection.read_request()
        head = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        connection.stream.send(head + b"paused\r\n")
        connection.stream.half_close()

    fake.serve(script)
    head, body = client.ask(ATTACH)
    assert (head.status, body) == (409, b"paused\r\n")
    fake.check()


def test_websocket(fake, client):
    """attach/ws and any other websocket: the bytes behind the handshake are not changed."""
    handshake = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    serve_hijack(fake, echo_until_eof, handshake)
    fields = {
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    client.send(request("GET", "/v1.41/containers/x/attach/ws?stream=1", fields))
    head = client.read_head()
    assert (head.status, head["upgrade"]) == (101, "websocket")
    assert head["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    frame = bytes([0x82, 0x83, 1, 2, 3, 4]) + b"\x00\xff\r"
    client.send(frame)
    assert client.read_exactly(len(frame)) == frame
    [(seen, _)] = fake.requests()
    assert seen["upgrade"] == "websocket" and seen["sec-websocket-key"] == fields["Sec-WebSocket-Key"]
    client.half_close()
    client.read_all()
    fake.check()


# bytes


def test_head_in_single_bytes(fake, client):
    def script(connection):
        connection.read_request()
        connection.stream.send_slowly(HIJACK_101 + b"behind the head")
        echo_until_eof(connection.stream)

    fake.serve(script)
    client.send(ATTACH)
    assert client.read_head().status == 101
    assert client.read_exactly(15) == b"behind the head"
    client.send(b"and back")
    client.half_close()
    assert client.read_all() == b"and back"
    fake.check()


@pytest.mark.parametrize("head", [HIJACK_101, HIJACK_200], ids=["101", "200"])
def test_bytes_behind_a_hijack_head_arrive(fake, client, head):
    serve_hijack(fake, lambda stream: echo_until_eof(stream), head + BLOB[:70_000])
    client.send(attach_request("x", upgrade=head is HIJACK_101))
    client.read_head()
    assert client.read_exactly(70_000) == BLOB[:70_000]
    client.half_close()
    assert client.read_all() == b""
    fake.check()


def test_client_bytes_are_held_until_the_daemon_decides(fake, client):
    """Before its 101 the daemon gets nothing but the request; afterwards every byte once."""

    def script(connection):
        head, body = connection.read_request()
        assert connection.stream.quiet(0.4), f"the daemon got {bytes(connection.stream.pending)!r} before its 101"
        connection.stream.send(HIJACK_101)
        assert connection.stream.read_all() == b"early" + BLOB[:300_000]
        connection.stream.send(b"all there")

    fake.serve(script)
    client.send(ATTACH + b"early")
    client.send(BLOB[:300_000])
    client.half_close()
    assert client.read_head().status == 101
    assert client.read_all() == b"all there"
    fake.check()


@pytest.mark.parametrize("status", ["404 Not Found", "200 OK"])
def test_held_bytes_never_become_a_request(fake, client, status):
    def script(connection):
        connection.read_request()
        connection.stream.send(answer(b"{}", status))
        assert connection.read_request() is None

    fake.serve(script)
    client.send(exec_request("x") + request("DELETE", "/v1.41/containers/y?force=1"))
    head, body = client.read_response()
    assert (head.status, body) == (int(status[:3]), b"{}")
    assert client.read_all() == b""
    assert [head.first.split()[0] for head, _ in fake.requests()] == ["POST"]


def test_bulk_both_ways_at_once(fake, client):
    """More than all buffers hold, in both directions; neither may block the other for ever."""
    received = []

    def script(connection):
        connection.read_request()
        connection.stream.send(HIJACK_101)
        received.append(connection.stream.exchange(BLOB * 3))

    fake.serve(script)
    client.send(ATTACH)
    assert client.read_head().status == 101
    got = client.exchange(BLOB * 2)
    fake.check()
    assert got == BLOB * 3
    assert received == [BLOB * 2]


def test_daemon_half_closes_while_the_client_sends(fake, client):
    """The client sees a clean end, and what it sends after it still arrives."""

    def script(connection):
        connection.read_request()
        connection.stream.send(HIJACK_101 + b"last words")
        connection.stream.half_close()
        assert connection.stream.read_all() == BLOB[:200_000]

    fake.serve(script)
    client.send(ATTACH)
    assert client.read_head().status == 101
    assert client.read_all() == b"last words"
    client.send(BLOB[:200_000])
    client.half_close()
    fake.check()


def test_output_after_the_clients_half_close_arrives(fake, client):
    def script(connection):
        connection.read_request()
        connection.stream.send(HIJACK_101)
        assert connection.stream.read_all() == b"question"
        connection.stream.send(BLOB)

    fake.serve(script)
    client.send(ATTACH)
    assert client.read_head().status == 101
    client.send(b"question")
    client.half_close()
    assert client.read_all() == BLOB
    fake.check()


# abrupt ends


@pytest.mark.kinds("plain", "tls_both")
def test_reset_by_the_daemon_reaches_the_client(fake, client):
    serve_hijack(fake, lambda stream: (stream.send(b"cut "), stream.read_exactly(2), stream.reset()))
    client.send(ATTACH)
    assert client.read_head().status == 101
    assert client.read_exactly(4) == b"cut "
    client.send(b"go")
    with pytest.raises(ConnectionResetError):
        client.read_all()
    fake.check()


@pytest.mark.kinds("plain", "tls_both")
def test_reset_by_the_client_reaches_the_daemon(fake, client):
    def script(connection):
        connection.read_request()
        connection.stream.send(HIJACK_101)
        try:
            connection.stream.read_all()
        except ConnectionResetError:
            pass

    fake.serve(script)
    client.send(ATTACH)
    assert client.read_head().status == 101
    client.send(b"something")
    client.reset()
    fake.check(seconds=5)


@pytest.mark.parametrize("ending", ["reset", "close"])
def test_client_leaves_before_the_response(fake, client, ending):
    """The daemon's connection is closed; nothing crashes (checked at the end of this module)."""
    asked = threading.Event()

    def script(connection):
        connection.read_request()
        asked.set()
        try:
            if connection.stream.more(timeout=3):
                raise AssertionError(f"bytes from nowhere: {connection.stream.take()!r}")
            connection.stream.send(HIJACK_101 + BLOB)
            connection.stream.read_all()
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass

    fake.serve(script)
    client.send(ATTACH)
    assert asked.wait(10)
    (client.reset if ending == "reset" else client.close)()
    fake.check()


def test_daemon_leaves_before_the_response(fake, client):
    fake.serve(lambda connection: connection.read_request())
    head, _ = client.ask(ATTACH)
    assert head.status == 502
    fake.check()


def test_reset_during_an_ordinary_response(fake, client):
    """A chunked response that is cut off must not look complete."""

    def script(connection):
        connection.read_request()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.stream.send(head + b"5\r\nfirst\r\n")

    fake.serve(script)
    client.send(request("GET", "/v1.41/events"))
    client.read_head()
    with pytest.raises((ConnectionError, ValueError)):
        while True:
            assert client.read_until(b"\r\n") != b"0\r\n"


# requests as the daemon gets them


def seen(fake, client, data):
    """Sends one request, responds with 200, and returns the request as the daemon got it."""

    def script(connection):
        while connection.read_request():
            connection.stream.send(answer())

    fake.serve(script)
    assert client.ask(data)[0].status == 200
    [(head, body)] = fake.requests()
    return head, body


def test_switch_request_has_one_clean_connection_token(fake, client):
    fields = {"Connection": "keep-alive, Upgrade", "Upgrade": "tcp", "Keep-Alive": "timeout=5"}
    head, _ = seen(fake, client, request("POST", "/v1.41/containers/x/attach", fields))
    assert head.all("connection") == ["Upgrade"] and head.all("upgrade") == ["tcp"]
    assert head.first.endswith("HTTP/1.1")


def test_upgrade_is_not_added(fake, client):
    head, _ = seen(fake, client, attach_request("x", upgrade=False))
    assert "upgrade" not in head and head.get("connection", "").lower() != "upgrade"


def test_h2c_is_removed_from_ordinary_requests(fake, client):
    fields = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    head, _ = seen(fake, client, request("GET", "/v1.41/info", fields))
    assert "upgrade" not in head and "http2-settings" not in head
    assert "upgrade" not in head.get("connection", "").lower()


def test_h2c_is_kept_for_buildkit_and_repeated_fields_too(fake, client):
    methods = [f"/moby.filesync.v1.FileSync/Method{n % 11}" for n in range(12)]
    fields = [("Connection", "Upgrade"), ("Upgrade", "h2c")]
    fields += [("X-Docker-Expose-Session-Grpc-Method", method) for method in methods]
    head, _ = seen(fake, client, request("POST", "/session", fields))
    assert (head["connection"], head["upgrade"]) == ("Upgrade", "h2c")
    assert head.all("x-docker-expose-session-grpc-method") == methods


def test_empty_host_of_go_clients(fake, client):
    """Go sends `Host:` without a value with /session and /grpc; nginx alone responds with 400."""
    fields = {"Connection": "Upgrade", "Upgrade": "h2c"}
    head, _ = seen(fake, client, request("POST", "/session", fields, host=""))
    assert head["upgrade"] == "h2c"


def test_http2_preface_behind_the_101_reaches_the_client(fake, client):
    """On /session the daemon is the HTTP/2 client and sends first, in the segment of its 101."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    serve_hijack(fake, echo_until_eof, head + preface)
    client.send(request("POST", "/session", {"Connection": "Upgrade", "Upgrade": "h2c"}))
    assert client.read_head()["upgrade"] == "h2c"
    assert client.read_exactly(len(preface)) == preface
    client.half_close()
    assert client.read_all() == b""
    fake.check()


@pytest.mark.parametrize(
    "target", ["/v1.41/containers/a%2Fb/attach?stream=1", "/v1.41/images/r/n:t/push", "/v1.41/containers//start", "/a/../b%20c"]
)
def test_path_is_not_rewritten(fake, client, target):
    head, _ = seen(fake, client, request("POST", target, UPGRADE if "attach" in target else {}))
    assert head.target == target


def test_seventy_kilobyte_field(fake, client):
    value = "A" * 70_000
    head, _ = seen(fake, client, request("POST", "/v1.41/build", {"X-Registry-Config": value}, b"{}"))
    assert head["x-registry-config"] == value


def test_chunked_exec_body_reaches_the_daemon_in_one_piece(fake, client):
    """The last chunk arrives late; the daemon must get nothing of the request before it, and then all of it at once."""
    first = []

    def script(connection):
        assert connection.stream.pending or connection.stream.more()
        first.append(bytes(connection.stream.pending))
        head, body = connection.read_request()
        connection.stream.send(HIJACK_101)
        assert connection.stream.read_all() == b"stdin"
        assert (body, "transfer-encoding" in head) == (b'{"Detach":false}', False)

    fake.serve(script)
    fields = {**UPGRADE, "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    client.send(request("POST", "/v1.41/exec/x/start", fields, b'10\r\n{"Detach":false}\r\n'))
    assert client.quiet(0.15) and not first
    client.send(b"0\r\n\r\nstdin")
    assert client.read_head().status == 101
    client.half_close()
    client.read_all()
    fake.check()
    if not client._tls or b"Detach" in first[0]:
        assert first[0].endswith(b'{"Detach":false}')


def test_attach_body_is_not_stdin(fake, client):
    """dockerode sends its options as a body; in a later segment the daemon would take it for stdin."""

    def script(connection):
        head, body = connection.read_request()
        assert body in (b"", b'{"stream":true}')
        connection.stream.send(HIJACK_101)
        assert connection.stream.read_all() == b"stdin"

    fake.serve(script)
    whole = request("POST", "/v1.41/containers/x/attach?stream=1&stdin=1", UPGRADE, b'{"stream":true}')
    client.send(whole[:-5])
    assert client.quiet(0.05)
    client.send(whole[-5:])
    assert client.read_head().status == 101
    client.send(b"stdin")
    client.half_close()
    client.read_all()
    fake.check()


def test_upload_is_streamed(fake, client):
    """The daemon sees the body while the client still sends it, without any buffering directive."""
    go_on = threading.Event()

    def script(connection):
        head = connection.stream.read_head()
        connection.stream.read_until(b"first part")
        go_on.set()
        connection.stream.read_until(b"last part")
        connection.stream.send(answer())

    fake.serve(script)
    fields = {"Transfer-Encoding": "chunked", "Content-Type": "application/x-tar"}
    client.send(request("POST", "/v1.41/build", fields, b"a\r\nfirst part\r\n"))
    assert go_on.wait(10), "the first part of the body waits in the proxy"
    client.send(b"9\r\nlast part\r\n0\r\n\r\n")
    assert client.read_response()[0].status == 200
    fake.check()


# idle connections to the daemon


@pytest.fixture
def pooled(proxy, fake, idle):
    """A client of the server with a pool of upstream connections, empty at first."""
    fake.drop()
    proxy.check_health(idle)
    with Stream.connect(Endpoint("pool", proxy.url("pool"))) as stream:
        yield stream


def test_ordinary_requests_share_an_idle_connection(fake, pooled):
    def script(connection):
        while connection.read_request():
            connection.stream.send(answer(b"OK"))

    fake.serve(script)
    for _ in range(4):
        assert pooled.ask(PING)[1] == b"OK"
    assert [len(connection.requests) for connection in fake.connections] == [4]


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "426 Upgrade Required"])
def test_connection_of_a_refused_switch_is_not_used_again(fake, proxy, pooled, status):
    def script(connection):
        while request_ := connection.read_request():
            refused = "upgrade" in request_[0]
            connection.stream.send(answer(b"{}", status if refused else "200 OK"))

    fake.serve(script)
    with Stream.connect(Endpoint("pool", proxy.url("pool"))) as stream:
        assert stream.ask(exec_request("x"))[0].status == int(status[:3])
    for _ in range(2):
        assert pooled.ask(PING)[0].status == 200
    paths = [[head.target for head, _ in connection.requests] for connection in fake.connections]
    assert paths[0] == ["/v1.41/exec/x/start"], paths
    assert sum(len(path) for path in paths) == 3


def test_connection_of_a_tunnel_is_not_used_again(fake, pooled):
    def script(connection):
        head, _ = connection.read_request()
        if "upgrade" not in head:
            connection.stream.send(answer(b"OK"))
            return
        connection.stream.send(HIJACK_101)
        echo_until_eof(connection.stream)

    fake.serve(script)
    pooled.send(ATTACH)
    pooled.read_head()
    pooled.half_close()
    assert pooled.read_all() == b""
    fake.check()
    [connection] = fake.connections
    assert len(connection.requests) == 1
