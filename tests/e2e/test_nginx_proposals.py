"""A request that proposes a switch and ends without one: bytes behind it are never served as a request."""

import contextlib

import pytest

from support import tools
from support.endpoints import Endpoint
from support.fake_daemon import FakeDaemon, answer
from support.nginx import Nginx
from support.proc import free_port
from support.wire import UPGRADE, Stream, request

pytestmark = pytest.mark.skipif(tools.stock(), reason="the directives are the module's")

WEBSOCKET = {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}
H2C = {"Connection": "Upgrade", "Upgrade": "h2c"}


def script(connection):
    """Does what the name in the path demands, and responds with 200 to anything else."""
    while found := connection.read_request():
        target = found[0].target
        if "/closes/" in target:
            return
        if "/unasked/" in target:
            connection.stream.send(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: chess\r\n\r\n")
        elif "/broken/" in target:
            connection.stream.send(b"SSH-2.0-OpenSSH\r\n")
        elif "/accel/" in target:
            connection.stream.send(answer(b"{}", extra="X-Accel-Redirect: /page\r\n"))
        elif "/accel-named/" in target:
            connection.stream.send(answer(b"{}", extra="X-Accel-Redirect: @page\r\n"))
        elif "/404/" in target:
            connection.stream.send(answer(b"{}", "404 Not Found"))
        else:
            connection.stream.send(answer(b"{}"))


def locations(daemon, dead):
    """The locations, one for each way to end a request without a switch, with the status of the response."""
    on = f"dockline on; proxy_pass {daemon};"
    return {
        # the daemon responds, or does not
        "404": (404, on),
        "200": (200, on),
        "closes": (502, on),
        "broken": (502, on),
        "dead": (502, f"dockline on; proxy_pass http://127.0.0.1:{dead};"),
        "next": (200, "dockline on; proxy_pass http://group;"),
        "no-live": (502, "dockline on; proxy_pass http://down;"),
        "unresolved": (502, 'set $d nobody.invalid; dockline on; proxy_pass http://$d$uri;'),
        "accel": (200, on),
        "accel-named": (200, on),
        "intercepted/404": (404, f"{on} proxy_intercept_errors on; error_page 404 /page;"),
        "named/404": (200, f"{on} proxy_intercept_errors on; error_page 404 =200 @daemon;"),
        "page/closes": (502, f"{on} error_page 502 /page;"),
        "page/dead": (200, f"dockline on; proxy_pass http://127.0.0.1:{dead}; error_page 502 =200 /page;"),
        "elsewhere/dead": (302, f"dockline on; proxy_pass http://127.0.0.1:{dead}; error_page 502 http://x/;"),
        # nginx responds before the daemon
        "return": (403, f"return 403; {on}"),
        "return-text": (200, f'return 200 "text"; {on}'),
        "return-page": (403, f"return 403; error_page 403 /page; {on}"),
        "redirect": (302, f"return 302 /elsewhere; {on}"),
        "rewritten": (302, f"rewrite ^ /elsewhere redirect; {on}"),
        "deny": (403, f"deny all; {on}"),
        "deny-page": (403, f"deny all; error_page 403 /page; {on}"),
        "deny-named": (200, f"deny all; error_page 403 =200 @page; {on}"),
        "basic": (401, f'auth_basic "who"; auth_basic_user_file /dev/null; {on}'),
        "satisfy": (401, f'satisfy any; deny all; auth_basic "who"; auth_basic_user_file /dev/null; {on}'),
        "auth-no": (403, f"auth_request /auth-no; {on}"),
        "auth-401": (401, f"auth_request /auth-401; {on}"),
        "auth-broken": (500, f"auth_request /auth-500; {on}"),
        "auth-page": (200, f"auth_request /auth-no; error_page 403 =200 /page; {on}"),
        "limit-req": (503, f"limit_req zone=one; {on}"),
        "limit-conn": (503, f"limit_conn two 1; limit_req zone=one; {on}"),
        "limit-except": (403, f"limit_except GET {{ deny all; }} {on}"),
        "too-large": (413, f"client_max_body_size 1; {on}"),
        "try": (200, f"try_files /nothing /page; {on}"),
        "try-status": (404, f"try_files /nothing =404; {on}"),
        "try-named": (200, f"try_files /nothing @page; {on}"),
        "mirror": (404, f"mirror /mirrored; proxy_pass {daemon}/404/; dockline on;"),
        # a location without a daemon, in a server that has one
        "off": (200, f"proxy_pass {daemon};"),
        "to-off": (200, f"rewrite ^/to-off(/.*)$ /off$1 last; {on}"),
        "static": (404, "root /nonexistent;"),
        "lingers-not": (502, f"lingering_close off; dockline on; proxy_pass http://127.0.0.1:{dead};"),
        "own-name": (403, f"rewrite ^/own-name/(.*)$ /v1.41/containers/x/attach break; deny all; {on}"),
        "renamed": (403, f"rewrite ^/renamed/(.*)$ /denied/v1.41/containers/x/attach last; {on}"),
        "returned": (403, f"rewrite ^ /v1.41/containers/x/attach; return 403; {on}"),
        "denied": (403, f"return 403; error_page 403 /page; {on}"),
    }


# What a client may propose, below any path.
REQUESTS = {
    "attach": ("POST", "/v1.41/containers/x/attach?stream=1&stdin=1", UPGRADE, b""),
    "bare attach": ("POST", "/containers/x/attach?stream=1&stdin=1", {}, b""),
    "exec": ("POST", "/v1.41/exec/x/start", UPGRADE, b"{}"),
    "websocket": ("GET", "/v1.41/containers/x/attach/ws", WEBSOCKET, b""),
    "session": ("POST", "/session", H2C, b""),
    # The proxy does not forward these, but the client need not know that.
    "upgrade of what has none": ("GET", "/v1.41/containers/x/logs", UPGRADE, b""),
    "session without an upgrade": ("POST", "/session", {}, b""),
}

WAYS = list(locations("http://x", 1))


@pytest.fixture(scope="module")
def fake(tmp_path_factory, certificates):
    fake = FakeDaemon(tmp_path_factory.mktemp("fake-proposals"), certificates.back_server)
    fake.serve(script)
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def table(fake):
    return locations(f"http://127.0.0.1:{fake.tcp_port}", free_port())


@pytest.fixture(scope="module")
def nginx(tmp_path_factory, fake, table):
    daemon = f"http://127.0.0.1:{fake.tcp_port}"
    shared = f"""
        location = /page {{ return 200 "a page"; }}
        location @page {{ return 200 "a page"; }}
        location @daemon {{ proxy_pass {daemon}; }}
        location /auth-no {{ internal; return 403; }}
        location /auth-401 {{ internal; return 401; }}
        location /auth-500 {{ internal; return 500; }}
        location /mirrored {{ internal; proxy_pass {daemon}; }}
        location / {{ dockline on; proxy_pass {daemon}; }}
    """

    def http(ports):
        ways = "\n".join(f"location /{name}/ {{ {body} }}" for name, (_, body) in table.items())
        return f"""
    resolver 127.0.0.1:{free_port()};
    resolver_timeout 1ms;
    limit_req_zone $server_name zone=one:1m rate=1r/m;
    limit_conn_zone $server_name zone=two:1m;
    upstream group {{ server 127.0.0.1:{free_port()}; server 127.0.0.1:{fake.tcp_port}; keepalive 4; }}
    upstream down {{ server 127.0.0.1:{fake.tcp_port} down; }}
    server {{ listen 127.0.0.1:{ports["ways"]}; server_name ways; {shared} {ways} }}
    server {{ listen 127.0.0.1:{ports["returns"]}; server_name returns; return 403; {shared} }}
    server {{ listen 127.0.0.1:{ports["pages"]}; server_name pages; return 403; error_page 403 /page; {shared} }}
    server {{ listen 127.0.0.1:{ports["other"]}; server_name other; location / {{ return 200 "a page"; }} }}
"""

    nginx = Nginx(tmp_path_factory.mktemp("nginx"), ("ways", "returns", "pages", "other"), http)
    yield nginx
    nginx.stop()


@pytest.fixture(scope="module", autouse=True)
def nothing_smuggled(nginx, fake):
    """The state of the log and of the daemon at the end, when everything has arrived."""
    yield
    logged = [entry["uri"] for entry in nginx.accesses() if "smuggled" in entry["request"]]
    reached = [head.target for head, _ in fake.requests() if "smuggled" in head.raw.decode("latin-1")]
    assert (logged, reached) == ([], [])
    assert not nginx.errors()


def connect(nginx, port):
    return Stream.connect(Endpoint(port, f"tcp://127.0.0.1:{nginx.ports[port]}"))


def smuggled(nginx, fake, marker):
    return [entry["request"] for entry in nginx.accesses() if marker in entry["request"]] + [
        head.target for head, _ in fake.requests() if marker in head.target
    ]


def propose(nginx, fake, data, marker, port="ways", late=False):
    """Sends a request and, with it or after the head of its response, another one. Returns the response."""
    behind = request("POST", f"/v1.41/containers/create?name=smuggled-{marker}", {"Content-Type": "application/json"}, b"{}")
    with connect(nginx, port) as stream:
        stream.send(data if late else data + behind)
        head = stream.read_head()
        if late:
            with contextlib.suppress(ConnectionError):
                stream.send(behind)
        body = stream.read_body(head)
        with contextlib.suppress(ConnectionError):
            assert stream.read_all() == b"", "a second response"
    assert smuggled(nginx, fake, f"smuggled-{marker}") == []
    return head, body


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_end_without_a_switch(nginx, fake, table, way, late):
    status, _ = table[way]
    if way.startswith("limit"):  # the first one passes
        with connect(nginx, "ways") as stream:
            stream.ask(request("GET", f"/{way}/info"))
    data = request("POST", f"/{way}/v1.41/containers/x/attach?stream=1&stdin=1", UPGRADE, b"")
    if way == "too-large":
        data = request("POST", f"/{way}/v1.41/exec/x/start", UPGRADE, b"{}")
    head, body = propose(nginx, fake, data, f"{way.replace('/', '-')}-{late}", late=late)
    assert head.status == status
    assert head["connection"] == "close"
    if "content-length" in head:
        assert len(body) == int(head["content-length"])


@pytest.mark.parametrize("port", ["ways", "returns", "pages"])
@pytest.mark.parametrize("operation", REQUESTS)
def test_every_request_that_proposes_one(nginx, fake, operation, port):
    method, target, fields, body = REQUESTS[operation]
    for number, base in enumerate(("", "/deny", "/return-page", "/dead")):
        data = request(method, base + target, fields, body)
        marker = f"{operation.replace(' ', '-')}-{port}-{number}"
        head, _ = propose(nginx, fake, data, marker, port)
        if port != "ways":
            assert head.status == 403
        assert head["connection"] == "close"


def test_proposals_of_other_clients(nginx, fake):
    attach = ("POST", "/dead/v1.41/containers/x/attach")
    kept = {"Connection": "keep-alive"}
    head, _ = propose(nginx, fake, request(*attach, kept, version="1.0"), "http-1.0")
    assert head.status == 502
    session = request("POST", "/unasked/session", H2C)
    assert propose(nginx, fake, session, "unasked")[0].status == 502
    escaped = request("POST", "/dead//v1.41/./containers/x/%61ttach", UPGRADE)
    assert propose(nginx, fake, escaped, "escaped")[0].status == 502
    unsupported = request(*attach, {**UPGRADE, "Transfer-Encoding": "gzip, chunked"})
    assert propose(nginx, fake, unsupported, "unsupported")[0].status == 501
    chunked = request("POST", "/dead/v1.41/exec/x/start", {**UPGRADE, "Transfer-Encoding": "chunked"}) + b"2\r\n{}\r\n0\r\n\r\n"
    assert propose(nginx, fake, chunked, "chunked")[0].status == 502
    bad_chunk = request("POST", "/dead/v1.41/exec/x/start", {**UPGRADE, "Transfer-Encoding": "chunked"}) + b"no chunk\r\n"
    assert propose(nginx, fake, bad_chunk, "bad-chunk")[0].status == 400


@pytest.mark.parametrize("way", ["own-name", "renamed", "returned"])
def test_targets_that_the_configuration_rewrites_to_an_operation(nginx, fake, way):
    assert propose(nginx, fake, request("POST", f"/{way}/x"), f"only-{way}")[0].status == 403


def test_below_a_path_of_any_depth(nginx, fake):
    for operation, (method, target, fields, body) in REQUESTS.items():
        data = request(method, "/dead" + "/a" * 40 + target, fields, body)
        assert propose(nginx, fake, data, f"deep-{operation.replace(' ', '-')}")[0].status == 502


def test_behind_a_pipelined_request(nginx, fake):
    attach = request("POST", "/dead/v1.41/containers/x/attach", UPGRADE)
    with connect(nginx, "ways") as stream:
        stream.send(request("GET", "/info") + attach + request("POST", "/v1.41/containers/create?name=smuggled-third"))
        assert stream.read_response()[0].status == 200
        assert stream.read_response()[0].status == 502
        assert stream.read_all() == b""
    assert smuggled(nginx, fake, "smuggled-third") == []


def test_response_without_a_head(nginx, fake):
    """Stock nginx takes it for HTTP/0.9, and responds without a head as well."""
    for data in (request("GET", "/broken/info"), request("GET", "/broken/info", version="1.0")):
        with connect(nginx, "ways") as stream:
            assert stream.ask(data)[0].status == 502


def test_requests_that_propose_no_switch_keep_their_connection(nginx):
    """Neither other requests nor other servers are affected."""
    cases = [
        ("ways", request("POST", "/v1.41/containers/x/start")),
        ("ways", request("POST", "/off/v1.41/containers/create", {}, b"{}")),
        ("ways", request("GET", "/deny/v1.41/containers/x/attach")),
        ("ways", request("GET", "/page", H2C)),
        ("other", request("POST", "/v1.41/containers/x/attach", UPGRADE)),
    ]
    for port, data in cases:
        with connect(nginx, port) as stream:
            for _ in range(2):
                assert stream.ask(data)[0].get("connection") == "keep-alive"
