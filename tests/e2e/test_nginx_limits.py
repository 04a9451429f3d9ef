"""Limits of nginx that do not suit Docker: rates, timeouts, sizes of heads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import tools
from support.endpoints import Endpoint
from support.fake_daemon import HIJACK_101, HIJACK_200, FakeDaemon, answer
from support.nginx import Nginx, check_config
from support.wire import Stream, attach_request, request

pytestmark = pytest.mark.skipif(tools.stock(), reason="the directives are the module's")


def script(connection):
    """Responds as the query of the request demands."""
    while found := connection.read_request():
        target = found[0].target
        if "slow" in target:
            quiet.wait(2)
        extra = f"X-Big: {'x' * 1000 * int(target.partition('big=')[2] or 0)}\r\n"
        if "accel" in target:
            extra += "X-Accel-Limit-Rate: 1\r\n"
        if "/attach" in target:
            head = HIJACK_101 if "upgrade" in found[0] else HIJACK_200
            connection.stream.send(head[:-2] + extra.encode() + b"\r\n")
            while connection.stream.more():
                connection.stream.send(connection.stream.take())
            return
        connection.stream.send(answer(b"{}", extra=extra))


quiet = threading.Event()


@pytest.fixture(scope="module")
def fake(tmp_path_factory, certificates):
    fake = FakeDaemon(tmp_path_factory.mktemp("fake-limits"), certificates.back_server)
    fake.serve(script)
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory, fake):
    on = f"dockline on; proxy_pass http://unix:{fake.socket}:/;"
    bare = f"dockline on; proxy_pass http://unix:{fake.socket};"

    def http(ports):
        return f"""
    proxy_read_timeout 1s;
    proxy_send_timeout 1s;
    server {{
        listen 127.0.0.1:{ports["plain"]};
        location / {{ {on} }}
        location /rate/ {{ limit_rate 1; {on} }}
        location /after/ {{ limit_rate 1; limit_rate_after 10; {on} }}
        location /set/ {{ set $limit_rate 1; {on} }}
        location /proxy/ {{ proxy_limit_rate 1; {on} }}
        location /chunk/ {{ sendfile_max_chunk 1; {on} }}
        location /limited/ {{
            proxy_read_timeout 1s;
            client_body_timeout 1s;
            {on}
            location /limited/inner/ {{ {on} }}
        }}
        location /small/ {{ proxy_buffer_size 16k; proxy_buffers 4 16k; {on} }}
    }}
    server {{
        listen 127.0.0.1:{ports["shared"]};
        server_name first;
        location / {{ return 200 "first"; }}
    }}
    server {{
        listen 127.0.0.1:{ports["shared"]};
        server_name docker;
        location / {{ {on} }}
    }}
    server {{
        listen 127.0.0.1:{ports["other"]};
        server_name docker;
        location / {{ return 200 "other"; }}
    }}
    server {{
        listen 127.0.0.1:{ports["named"]};
        location / {{ try_files /nonexistent @docker; }}
        location @docker {{ {bare} }}
    }}
    server {{
        listen 127.0.0.1:{ports["pattern"]};
        location ~ ^/ {{ proxy_read_timeout 1s; {bare} }}
    }}
    server {{
        listen 127.0.0.1:{ports["own"]};
        large_client_header_buffers 4 16k;
        location / {{ {on} }}
    }}
"""

    ports = ("plain", "shared", "other", "named", "pattern", "own")
    nginx = Nginx(tmp_path_factory.mktemp("nginx-limits"), ports, http)
    yield nginx
    nginx.stop()


def connect(nginx, port="plain"):
    return Stream.connect(Endpoint(port, f"tcp://127.0.0.1:{nginx.ports[port]}"))


def ask(nginx, wire, port="plain"):
    with connect(nginx, port) as stream:
        stream.send(wire)
        return stream.read_head().status


# rates


@pytest.mark.parametrize("big", ["0", "3"])
@pytest.mark.parametrize("where", ["/", "/rate/", "/after/", "/set/", "/proxy/", "/chunk/"])
def test_rate_limits_do_not_delay_a_switch(nginx, where, big):
    for upgrade in (True, False):
        with connect(nginx) as stream:
            wire = attach_request("x", query=f"accel&big={big}", upgrade=upgrade)
            stream.send(wire.replace(b"POST /", b"POST " + where.encode()))
            assert stream.read_head().status == (101 if upgrade else 200)
            assert stream.exchange(b"x" * 10_000) == b"x" * 10_000
    assert ask(nginx, request("GET", f"{where}v1.41/containers/x/logs?accel&big={big}")) == 200


# timeouts

OPERATIONS = """
GET /_ping
GET /info
GET /version
POST /auth
GET /containers/json?size=1
POST /containers/create
GET /containers/x/json
GET /containers/x/top
GET /containers/x/changes
POST /containers/x/start
POST /containers/x/stop
POST /containers/x/restart
POST /containers/x/kill
POST /containers/x/pause
POST /containers/x/unpause
POST /containers/x/rename?name=y
POST /containers/x/resize
POST /containers/x/update
POST /containers/x/wait
POST /containers/x/exec
POST /containers/prune
DELETE /containers/x
GET /containers/x/logs
POST /commit?container=x
GET /images/json
POST /images/create?fromImage=x
POST /images/x/tag?repo=y
DELETE /images/x
POST /images/prune
GET /images/search?term=x
POST /build
POST /networks/create
POST /networks/x/connect
DELETE /networks/x
POST /volumes/create
DELETE /volumes/x
GET /system/df
POST /swarm/init
POST /services/create
GET /distribution/x/json
""".split("\n")[1:-1]


def slow(operation, base=""):
    method, _, target = operation.partition(" ")
    return request(method, f"{base}/v1.41{target}{'&' if '?' in target else '?'}slow")


def test_timeouts_of_http_and_server_do_not_apply_to_operations(nginx):
    """They were not set with Docker in mind; those of a location were."""
    cases = [(slow(operation), 200) for operation in OPERATIONS]
    kill = slow("POST /containers/x/kill")
    cases += [(kill, 200, "named"), (kill, 504, "pattern")]
    for operation in ("POST /containers/create", "POST /images/prune", "DELETE /containers/x", "GET /info"):
        cases += [(slow(operation, "/limited"), 504), (slow(operation, "/limited/inner"), 504)]
    # Streams may be silent, whatever is set in the location.
    for operation in ("GET /containers/x/logs", "POST /containers/x/wait", "POST /build"):
        cases.append((slow(operation, "/limited"), 200))
    # Requests that are none of Docker's.
    cases.append((request("GET", "/healthz?slow"), 504))
    with ThreadPoolExecutor(len(cases)) as pool:
        found = list(pool.map(lambda case: ask(nginx, case[0], *case[2:]), cases))
    assert [case for case, got in zip(cases, found, strict=True) if got != case[1]] == []


@pytest.mark.parametrize(
    ("target", "may_pause"),
    [("images/load", True), ("build", True), ("containers/x/wait", False), ("images/prune", False)],
)
def test_only_an_upload_may_pause(nginx, target, may_pause):
    wire = request("POST", f"/limited/v1.41/{target}", body=b"12345")
    with connect(nginx) as stream:
        stream.send(wire[:-4])
        assert stream.quiet(3) == may_pause
        if may_pause:
            stream.send(wire[-4:])
            assert stream.read_head().status == 200
        else:
            assert stream.eof, "nginx closes without a response"


# heads


def build(size):
    """Returns a request line of exactly so many bytes, with its line end."""
    start, end = "POST /v1.41/build?buildargs=", " HTTP/1.1\r\n"
    return request("POST", start[5:] + "x" * (size - len(start) - len(end)))


def with_field(size, name="X-Registry-Config"):
    """Returns a field line of exactly so many bytes, with its line end."""
    return request("POST", "/v1.41/build", {name: "x" * (size - len(name) - 4)})


K = 1024


@pytest.mark.parametrize(
    ("port", "wire", "status"),
    [
        ("plain", build(60_000), 200),
        ("plain", build(192 * K), 200),
        ("plain", build(192 * K + 1), 414),
        ("plain", with_field(8_300), 200),
        ("plain", with_field(192 * K, "X-Registry-Auth"), 200),
        ("plain", with_field(192 * K + 2), 400),
        ("plain", request("GET", "/images/json?filters=" + "x" * 100_000, {"X-Registry-Auth": "y" * 100_000}), 200),
        # the default server of the address parses the request line
        ("shared", build(60_000), 200),
        ("shared", with_field(100_000), 200),
        # a server without the module keeps the limits of nginx
        ("other", build(8_300), 414),
        ("other", with_field(8_300), 400),
        # limits that are configured are kept
        ("own", build(16 * K), 200),
        ("own", build(16 * K + 1), 414),
        ("own", with_field(17 * K), 400),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value),
)
def test_heads_of_requests(nginx, port, wire, status):
    assert ask(nginx, wire, port) == status


def test_requests_to_both_servers_on_one_connection(nginx):
    """The buffers of one request are used again for the next."""
    with connect(nginx, "shared") as stream:
        for size in (100, 9_000, 100_000, 60_000, 100):
            for host in ("first", "docker"):
                wire = build(size).replace(b"Host: docker", b"Host: " + host.encode())
                assert stream.ask(wire)[0].status == 200
    assert not nginx.errors()


@pytest.mark.parametrize(("where", "big", "status"), [
    ("/", 12, 200), ("/", 63, 200), ("/", 66, 502), ("/small/", 15, 200), ("/small/", 17, 502),
])  # fmt: skip
def test_heads_of_responses(nginx, where, big, status):
    for target in ("containers/x/archive", "info"):
        assert ask(nginx, request("HEAD", f"{where}v1.41/{target}?big={big}")) == status


@pytest.mark.parametrize(
    ("server", "location", "complaint"),
    [
        ("", "", ""),
        ("large_client_header_buffers 4 192k;", "", ""),
        ("large_client_header_buffers 2 256k;", "proxy_buffer_size 16k; proxy_buffers 4 16k;", ""),
        ("large_client_header_buffers 4 191k;", "", "large_client_header_buffers"),
        ("large_client_header_buffers 1 192k;", "", "large_client_header_buffers"),
        ("large_client_header_buffers 8 8k;", "", "large_client_header_buffers"),
        ("", "proxy_buffer_size 8k;", "proxy_buffer_size"),
        ("proxy_buffer_size 4k;", "", "proxy_buffer_size"),
    ],
)
def test_settings_too_small_for_docker_cause_a_warning(tmp_path, server, location, complaint):
    on = f"dockline on; {location} proxy_pass http://127.0.0.1:1;"
    code, output = check_config(tmp_path, f"server {{ listen 127.0.0.1:1; {server} location / {{ {on} }} }}")
    assert code == 0 and output.count("[warn]") == (1 if complaint else 0) and complaint in output, output
