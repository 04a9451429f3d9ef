"""Operating nginx with the module: reload, limits, logs, configuration."""

import contextlib
import json
import socket
import subprocess
import time

import pytest

from support import tools
from support.endpoints import Endpoint, through
from support.fake_daemon import HIJACK_101, FakeDaemon, answer
from support.nginx import Nginx, check_config, tls_listener
from support.proc import free_port, poll
from support.wire import Stream, attach_request, client_context, exec_request, request, unframe

pytestmark = pytest.mark.skipif(tools.stock(), reason="the directives are the module's")

ATTACH = attach_request("x")


@pytest.fixture(scope="module")
def fake(tmp_path_factory, certificates):
    fake = FakeDaemon(tmp_path_factory.mktemp("fake-ops"), certificates.back_server)
    yield fake
    fake.stop()


@pytest.fixture
def start(tmp_path):
    """Starts an nginx for one test; at its end the log is checked."""
    with contextlib.ExitStack() as stack:

        def starter(ports, http, main=""):
            nginx = Nginx(tmp_path / "nginx", ports, http, main)
            stack.callback(nginx.stop)
            return nginx

        yield starter


def one_server(location, server=""):
    def http(ports):
        return f"server {{ listen 127.0.0.1:{ports['plain']}; {server} location / {{ {location} }} }}"

    return http


def connect(nginx, port="plain"):
    return Stream.connect(Endpoint(port, f"tcp://127.0.0.1:{nginx.ports[port]}"))


def echo(connection):
    connection.read_request()
    connection.stream.send(HIJACK_101)
    while connection.stream.more():
        connection.stream.send(connection.stream.take())


def open_tunnel(nginx, port="plain"):
    stream = connect(nginx, port)
    stream.send(ATTACH)
    assert stream.read_head().status == 101
    stream.send(b"ping")
    assert stream.read_exactly(4) == b"ping"
    return stream


# reload and shutdown


def test_tunnel_survives_a_reload(fake, start):
    fake.serve(echo)
    nginx = start(("plain",), one_server(f"dockline on; proxy_pass http://unix:{fake.socket}:;"))
    with open_tunnel(nginx) as stream:
        old, new = nginx.reload()
        stream.send(b"still here")
        assert stream.read_exactly(10) == b"still here"
        assert old in nginx.workers() and new in nginx.workers()
        stream.half_close()
        assert stream.read_all() == b""
    poll(lambda: nginx.workers() == [new], "the old worker goes when its tunnel has ended")
    assert nginx.access("/attach")["reason"] == "eof"
    assert not nginx.errors()


def test_shutdown_timeout_drains_a_tunnel(fake, start):
    fake.serve(echo)
    location = f"dockline on; proxy_pass http://unix:{fake.socket}:;"
    nginx = start(("plain",), one_server(location), main="worker_shutdown_timeout 1s;")
    with open_tunnel(nginx) as stream:
        old, new = nginx.reload()
        with pytest.raises(ConnectionResetError):
            # A tunnel that is cut off must not look like a clean end.
            stream.read_all()
    poll(lambda: nginx.workers() == [new], "the old worker goes when the time is over")
    assert nginx.access("/attach")["reason"] == "drain"
    assert not nginx.errors()


# time limits


def test_idle_timeout(fake, start):
    fake.serve(echo)
    location = f"dockline on; dockline_idle_timeout 500ms; proxy_pass http://unix:{fake.socket}:;"
    nginx = start(("plain",), one_server(location))
    with open_tunnel(nginx) as stream, pytest.raises(ConnectionResetError):
        stream.read_all()
    entry = nginx.access("/attach")
    assert (entry["reason"], entry["status"]) == ("idle", 101)
    assert 0.5 <= float(entry["duration"]) < 5


def test_other_timeouts_of_nginx_do_not_cut_docker_off(daemon, start, docker_config, name):
    """The timeouts of nginx take silence for a fault; in Docker's streams it is none."""
    location = (
        "dockline on; proxy_read_timeout 1s; proxy_send_timeout 1s; send_timeout 1s; "
        f"client_body_timeout 1s; proxy_pass http://unix:{daemon.socket}:;"
    )
    nginx = start(("plain",), one_server(location))
    host = f"tcp://127.0.0.1:{nginx.ports['plain']}"
    argv = [tools.DEBIAN_DOCKER, "--config", str(docker_config), "-H", host]
    run = [*argv, "run", "--rm", "--network", "none", "bb", "sh", "-c", "sleep 3; echo late; exit 4"]
    done = subprocess.run(run, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (4, b"late\n", b"")
    daemon.start_container(name, ["sh", "-c", "sleep 3; echo logged"])
    done = subprocess.run([*argv, "logs", "-f", name], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"logged\n", b"")


# the body of a request that hijacks its connection

MIB = 1024 * 1024


def chunked(body, size=65536):
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    ("operator", "bound"),
    [("", MIB), ("client_max_body_size 1m;", MIB), ("client_max_body_size 0;", MIB), ("client_max_body_size 2m;", MIB),
     ("client_max_body_size 1000;", 1000)],
)  # fmt: skip
def test_body_of_a_switch_is_bounded(fake, start, operator, bound, framing):
    fake.serve(lambda connection: (connection.read_request(), connection.stream.send(answer(b"{}"))))
    nginx = start(("plain",), one_server(f"{operator} dockline on; proxy_pass http://unix:{fake.socket}:;"))
    for size in (bound - 1, bound, bound + 1):
        body = b"x" * size
        fields = {} if framing == "length" else {"Transfer-Encoding": "chunked"}
        data = request("POST", "/v1.41/exec/x/start", fields, body if framing == "length" else chunked(body))
        with connect(nginx) as stream:
            with contextlib.suppress(ConnectionError):  # refused before the end of it
                stream.send(data)
            assert stream.read_response()[0].status == (413 if size > bound else 200)
            assert stream.read_all() == b""
    assert [len(body) for _, body in fake.requests()] == [bound - 1, bound]
    with connect(nginx) as stream:  # an ordinary body has the operator's bound alone
        body = b"x" * (MIB + 1)
        stream.send(request("POST", "/v1.41/build", {}, body if bound == MIB else b"x"))
        assert stream.read_response()[0].status == 200


def test_body_of_a_switch_does_not_fill_the_disk(fake, start):
    fake.serve(lambda connection: None)
    nginx = start(("plain",), one_server(f"dockline on; proxy_pass http://unix:{fake.socket}:;"))

    def on_disk():
        return sum(path.stat().st_size for path in (nginx.directory / "tmp_client_body").rglob("*") if path.is_file())

    endless = request("POST", "/v1.41/exec/x/start", {"Content-Length": "1000000000000"})
    with connect(nginx) as stream:
        stream.send(endless + b"x" * MIB)
        assert stream.read_response()[0].status == 413
        assert on_disk() == 0
    endless = request("POST", "/v1.41/exec/x/start", {"Transfer-Encoding": "chunked"}) + b"10000000000\r\n"
    with connect(nginx) as stream:
        stream.send(endless + b"x" * MIB)
        assert stream.read_response()[0].status == 413
        assert on_disk() == 0
    trickle = request("POST", "/v1.41/exec/x/start", {"Transfer-Encoding": "chunked"})
    with connect(nginx) as stream:
        with contextlib.suppress(ConnectionError):
            stream.send(trickle)
            for _ in range(64):
                stream.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
                assert on_disk() <= MIB
        assert stream.read_response()[0].status == 413
    poll(lambda: on_disk() == 0, "what was written is removed")
    assert fake.requests() == []


# the access log


def test_access_log_has_status_bytes_and_times(fake, start):
    fake.serve(echo)
    nginx = start(("plain",), one_server(f"dockline on; proxy_pass http://unix:{fake.socket}:;"))
    began = time.monotonic()
    with connect(nginx) as stream:
        stream.send(ATTACH)
        raw_head = stream.read_head()
        stream.send(b"x" * 100_000)
        assert stream.read_exactly(100_000) == b"x" * 100_000
        assert not [entry for entry in nginx.accesses() if "/attach" in entry["uri"]], "logged before its end"
        assert stream.exchange(b"x" * 200_000) == b"x" * 200_000
    took = time.monotonic() - began
    entry = nginx.access("/attach")
    assert (entry["tunnel"], entry["status"], entry["reason"]) == ("upgrade", 101, "eof")
    assert (entry["up"], entry["down"]) == ("300000", "300000")
    assert entry["bytes_sent"] > 300_000 and raw_head.status == 101
    assert 0 <= float(entry["duration"]) <= took + 0.1

    with connect(nginx) as stream:
        fake.serve(lambda connection: (connection.read_request(), connection.stream.send(answer(b"{}"))))
        assert stream.ask(request("GET", "/info"))[0].status == 200
    entry = nginx.access("/info")
    assert (entry["tunnel"], entry["up"], entry["reason"]) == ("none", "", "")


# configuration


def inherits(fake):
    def http(ports):
        return f"""
    dockline on;
    proxy_set_header X-Outer outer;
    server {{
        listen 127.0.0.1:{ports["plain"]};
        location / {{ proxy_pass http://unix:{fake.socket}:; }}
        location /own/ {{ proxy_set_header X-Own own; proxy_pass http://unix:{fake.socket}:/; }}
        location /off/ {{ dockline off; proxy_pass http://unix:{fake.socket}:/; }}
    }}
"""

    return http


def test_inheritance(fake, start):
    heads = []

    def script(connection):
        while found := connection.read_request():
            heads.append(found[0])
            connection.stream.send(answer(b"{}"))

    fake.serve(script)
    nginx = start(("plain",), inherits(fake))
    for path in ("/", "/own/", "/off/"):
        with connect(nginx) as stream:
            stream.send(exec_request("x").replace(b"POST /", b"POST " + path.encode()))
            assert stream.read_response()[0].status == 200
    inherited, own, off = heads
    assert inherited["x-outer"] == "outer" and inherited["upgrade"] == "tcp"
    assert own["x-own"] == "own" and "x-outer" not in own and own["upgrade"] == "tcp"
    assert off["x-outer"] == "outer" and "upgrade" not in off and off["connection"] == "close"


def front_of(kind, socket):
    return {
        "websocket lines left in": f"""
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_buffering off;
            dockline on; proxy_pass http://unix:{socket}:;""",
        "buffering on": f"proxy_buffering on; dockline on; proxy_pass http://unix:{socket}:;",
        "HTTP/1.0 upstream": f"proxy_http_version 1.0; dockline on; proxy_pass http://unix:{socket}:;",
        "upstream with a dead server": "dockline on; proxy_pass http://daemons;",
        "variable": f'set $daemon "unix:{socket}"; dockline on; proxy_pass http://$daemon:;',
        "auth_request": f"auth_request /auth; dockline on; proxy_pass http://unix:{socket}:;",
        "gzip": f"gzip on; gzip_types *; gzip_min_length 0; dockline on; proxy_pass http://unix:{socket}:;",
    }[kind]


@pytest.mark.parametrize(
    "way",
    [
        "websocket lines left in",
        "buffering on",
        "HTTP/1.0 upstream",
        "upstream with a dead server",
        "variable",
        "auth_request",
        "gzip",
    ],
)
def test_exec_in_common_configurations(way, daemon, sleeper, start):
    """A complete exec with half-close, in each of the configurations that are in use."""

    dead = free_port()  # refuses, and nginx tries the next one

    def http(ports):
        return f"""
    upstream daemons {{ least_conn; server 127.0.0.1:{dead}; server unix:{daemon.socket}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{ports["plain"]};
        location / {{ {front_of(way, daemon.socket)} }}
        location = /auth {{ internal; return 204; }}
    }}
"""

    nginx = start(("plain",), http)
    for upgrade in (True, False):
        with connect(nginx) as stream:
            stream.send(exec_request(daemon.create_exec(sleeper, ["cat"]), upgrade=upgrade))
            assert stream.read_head().status == (101 if upgrade else 200)
            stream.send(b"through")
            stream.half_close()
            assert unframe(stream.read_all()) == [(1, b"through")]
    nginx.access("/start", count=2)
    assert [entry["tunnel"] for entry in nginx.accesses() if "/start" in entry["uri"]] == ["upgrade", "hijack"]
    assert not nginx.errors()


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("dockline maybe; proxy_pass http://127.0.0.1:1;", '"dockline"'),
        ("dockline on; dockline on; proxy_pass http://127.0.0.1:1;", '"dockline" directive is duplicate'),
        ("dockline; proxy_pass http://127.0.0.1:1;", '"dockline"'),
        ("dockline on; dockline_idle_timeout soon; proxy_pass http://127.0.0.1:1;", '"dockline_idle_timeout"'),
        ("dockline on; dockline_idle_timeout -1s; proxy_pass http://127.0.0.1:1;", '"dockline_idle_timeout"'),
        ("dockline on; dockline_idle_timeout 25d; proxy_pass http://127.0.0.1:1;", '"dockline_idle_timeout"'),
        ("dockline on; proxy_store on; proxy_pass http://127.0.0.1:1;", '"dockline on" conflicts with "proxy_store"'),
        ("dockline on; proxy_cache z; proxy_pass http://127.0.0.1:1;", '"dockline on" conflicts with "proxy_cache"'),
    ],
)
def test_bad_configuration(tmp_path, location, complaint):
    http = f"proxy_cache_path cache keys_zone=z:1m; server {{ listen 127.0.0.1:1; location / {{ {location} }} }}"
    code, output = check_config(tmp_path, http)
    assert code != 0 and complaint in output, output


def test_idle_timeout_limit(tmp_path):
    for value in ("1ms", "24d", "off", "0"):
        location = f"dockline on; dockline_idle_timeout {value}; proxy_pass http://127.0.0.1:1;"
        code, output = check_config(tmp_path, f"server {{ listen 127.0.0.1:1; location / {{ {location} }} }}")
        assert code == 0, output


# other clients


def test_http_2_is_refused_with_501(start, certificates, fake):
    def http(ports):
        version = tools.nginx_version()
        listen = " http2" if version < (1, 25, 1) else ""
        extra = "" if version < (1, 25, 1) else "http2 on;"
        return f"""
    server {{
        {tls_listener(ports["plain"], certificates.front_server, listen)} {extra}
        location / {{ dockline on; proxy_pass http://unix:{fake.socket}:; }}
    }}
"""

    fake.serve(lambda connection: (connection.read_request(), connection.stream.send(answer(b'{"ok":1}'))))
    nginx = start(("plain",), http)
    identity = certificates.front_client
    argv = [
        tools.program("curl"), "--silent", "--http2", "--max-time", "10", "--cacert", identity.ca, "--cert", identity.cert,
        "--key", identity.key, "--write-out", "\n%{http_version} %{http_code}", "--request", "POST",
    ]  # fmt: skip
    base = f"https://127.0.0.1:{nginx.ports['plain']}"
    for path in ("/v1.41/containers/x/attach?stream=1", "/v1.41/exec/x/start", "/session", "/grpc"):
        done = subprocess.run([*argv, base + path], capture_output=True, text=True, check=True)
        body, _, trailer = done.stdout.rpartition("\n")
        assert trailer == "2 501" and "HTTP/1.1" in json.loads(body)["message"]
    done = subprocess.run([*argv, base + "/v1.41/containers/create"], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("2 200")


def test_nothing_is_held_after_clients_were_killed(front, kind, certificates, daemon, sleeper):
    """Clients disappear at every point of an exchange."""
    before = front.health()
    for stage in range(4):
        with Stream.connect(through(front, kind, certificates)) as stream:
            wire = exec_request(daemon.create_exec(sleeper, ["sh", "-c", "cat >/dev/null"]))
            stream.send(wire[: len(wire) // 2] if stage == 0 else wire)
            if stage > 1:
                stream.read_head()
            if stage > 2:
                stream.send(b"x" * 100_000)
            stream.reset()
    front.check_health(before)


# an empty Host


def servers(listen, names, fake):
    """Servers on one port, each of which sends its name to the daemon."""
    return "".join(
        f"""server {{
            {listen(number)}
            server_name {name};
            location / {{ dockline on; proxy_set_header X-Server {number}; proxy_pass http://unix:{fake.socket}:; }}
        }}"""
        for number, name in enumerate(names)
    )


def tell_server(connection):
    head, _ = connection.read_request()
    connection.stream.send(answer(head["X-Server"].encode()))


@pytest.mark.parametrize("sni, expected", [("one.test", b"0"), ("two.test", b"1"), ("three.test", b"0"), (None, b"0")])
def test_an_empty_host_stays_with_the_server_of_the_handshake(fake, start, certificates, sni, expected):
    fake.serve(tell_server)
    names = ("one.test", "two.test", "localhost")
    nginx = start(
        ("tls",),
        lambda ports: servers(lambda _: tls_listener(ports["tls"], certificates.front_server), names, fake),
    )
    context = client_context(certificates.front_client)
    context.check_hostname = False
    for fields in ({}, {"Connection": "Upgrade", "Upgrade": "h2c"}):
        with socket.create_connection(("127.0.0.1", nginx.ports["tls"]), timeout=10) as sock:
            with context.wrap_socket(sock, server_hostname=sni) as stream:
                stream.sendall(request("POST", "/session", {**fields, "Connection": "close"}, host=""))
                got = b"".join(iter(lambda: stream.recv(4096), b""))
        assert got.endswith(expected), got
    assert not nginx.errors()


def test_an_empty_host_has_the_captures_of_the_name(fake, start, certificates):
    """A server whose name is a regular expression may choose its daemon by a part of it."""
    fake.serve(tell_server)

    def http(ports):
        return f"""server {{
            {tls_listener(ports["tls"], certificates.front_server)}
            server_name ~^(?<label>[a-z]+)\\.test$;
            location / {{ dockline on; proxy_set_header X-Server $label; proxy_pass http://unix:{fake.socket}:; }}
        }}"""

    nginx = start(("tls",), http)
    context = client_context(certificates.front_client)
    sock = socket.create_connection(("127.0.0.1", nginx.ports["tls"]), timeout=10)
    with Stream(context.wrap_socket(sock, server_hostname="seven.test")) as stream:
        for host in ("seven.test", ""):
            stream.send(request("POST", "/build", host=host))
            assert stream.read_response()[1] == b"seven", host


def test_an_empty_host_stays_with_the_default_server(fake, start):
    fake.serve(tell_server)
    names = ("one.test", "localhost", "~^.*$")
    nginx = start(("plain",), lambda ports: servers(lambda _: f"listen 127.0.0.1:{ports['plain']};", names, fake))
    with connect(nginx) as stream:
        stream.send(request("POST", "/session", host=""))
        assert stream.read_response()[1] == b"0"
    # Two Host fields are refused, also when both are empty.
    for more in ("Host: \r\nHost: one.test\r\n", "Host: one.test\r\nHost: \r\n", "Host: \r\nHost: \r\n"):
        with connect(nginx) as stream:
            stream.send(f"GET /_ping HTTP/1.1\r\n{more}\r\n".encode())
            assert stream.read_head().status == 400
