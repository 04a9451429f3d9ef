"""nginx looks up where a request goes, in a file that is replaced while it runs."""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support import tools
from support.nginx import Nginx, check_config
from support.proc import children, poll
from support.snapshot import Route, replace, snapshot

pytestmark = pytest.mark.skipif(tools.stock(), reason="the directives are the module's")

DOMAIN = "apps.example.com"
ERRORS = re.compile(r"\[error\]")


class Target:
    """A small HTTP server that says who it is and what it was asked. It may break off at the second request of a connection."""

    def __init__(self, name, breaks_off=False, tls=None):
        self.requests = self.connections = 0
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                self.answered = 0
                target.connections += 1

            def do_GET(self):
                target.requests += 1
                if breaks_off and self.answered:
                    self.close_connection = True
                    return
                self.answered += 1
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                fields = ("Host", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Prefix")
                body = " ".join([name, self.path, *(self.headers[field] or "-" for field in fields)]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def one():
    target = Target("one")
    yield target
    target.stop()


@pytest.fixture(scope="module")
def two():
    target = Target("two")
    yield target
    target.stop()


@pytest.fixture
def file(tmp_path):
    # Workers are not root.
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    return tmp_path / "routes"


def write(file, *routes, **options):
    replace(file, snapshot(routes, domains=[DOMAIN], **options))


def server_block(file, more="", listen="", targets=False, keepalive=False):
    """A server block of nginx-module/README.md, the one with `dockline_targets` or the other, with another port and file, and more lines."""
    blocks = re.findall(r"```nginx\n(.*?)```", (tools.ROOT / "nginx-module/README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "dockline_routes" in block and ("dockline_targets" in block) == targets]
    own = "add_header X-Worker $pid always; add_header X-Tried $upstream_addr always;"

    def http(ports):
        changes = {
            "listen 80;": f"listen 127.0.0.1:{ports['web']} {listen}; {own} {more}",
            "/run/dockline/routes": str(file),
        }
        if keepalive:
            changes |= {"dockline_targets;": "dockline_targets; keepalive 4;", "'' close;": "'' '';"}
        changed = block
        for old, new in changes.items():
            assert changed.count(old) == 1
            changed = changed.replace(old, new)
        return changed

    return http


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def starter(http, workers=1):
            nginx = Nginx(tmp_path / "nginx", ("web",), lambda ports: http(ports))
            stack.callback(nginx.stop)
            if workers > 1:
                config = nginx.config.read_text().replace("worker_processes 1;", f"worker_processes {workers};")
                nginx.config.write_text(config)
                old, _ = nginx.reload()
                poll(lambda: len(nginx.workers()) == workers and old not in nginx.workers(), "all workers run")
            return nginx

        yield starter


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.worker = response.getheader("X-Worker")
        self.tried = (response.getheader("X-Tried") or "").split(", ")
        self.retry_after = response.getheader("Retry-After")
        self.body = response.read().decode()

    @property
    def target(self):
        return self.body.split()[0] if self.status == 200 else self.status


def get(nginx, host, path="/", connection=None, method="GET", body=None, **fields):
    link = connection or http.client.HTTPConnection("127.0.0.1", nginx.ports["web"], timeout=10)
    link.request(method, path, body, headers={"Host": host, **{name.replace("_", "-"): value for name, value in fields.items()}})
    answer = Answer(link.getresponse())
    if not connection:
        link.close()
    return answer


def settles(ask, expected):
    """Asks until all is as it should be. After a second nobody may answer otherwise."""
    changed = begun = time.monotonic()
    done = False
    while not done:
        begun = time.monotonic()
        done, target = ask()
        assert target == expected or begun - changed < 1, f"{target} after {begun - changed:.3f} s"
        assert begun - changed < 20, "not all have answered"


def test_each_name_reaches_its_targets(file, start, one, two):
    write(
        file,
        Route("web", [one.address, two.address]),
        Route("web", [two.address], "/api"),
        Route("shop.example.net", [two.address]),
        Route("*.example.net", [one.address]),
    )
    nginx = start(server_block(file))
    assert get(nginx, "shop.example.net").target == "two"
    assert get(nginx, "SHOP.example.net.:80").target == "two"
    assert get(nginx, "www.example.net").target == "one"
    answer = get(nginx, f"web.{DOMAIN}", "/api/%78?y=/z")
    assert answer.body == f"two /api/%78?y=/z web.{DOMAIN} 127.0.0.1 web.{DOMAIN} 127.0.0.1 http -"
    assert sorted(get(nginx, f"web.{DOMAIN}").target for _ in range(10)) == 5 * ["one"] + 5 * ["two"]
    assert not nginx.errors(ERRORS)


def test_an_unknown_name_is_404_and_one_without_a_live_target_503(file, start, one):
    write(
        file,
        Route("web", [one.address], "/only"),
        Route("down", [(one.address, 1, False)]),
        Route("none"),
        Route("half", [(one.address, 1, True), ("192.0.2.1:1", 1000, False)]),
    )
    nginx = start(server_block(file))
    before = one.requests
    for host in ("never", "web.web", "a_b"):
        unknown = get(nginx, f"{host}.{DOMAIN}")
        assert (unknown.status, unknown.retry_after) == (404, None)
    assert get(nginx, f"web.{DOMAIN}").status == 404
    for host in ("127.0.0.1", "[::1]", DOMAIN, "web.example.org"):
        assert get(nginx, host).status == 404
    with socket.create_connection(("127.0.0.1", nginx.ports["web"])) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert plain.makefile("rb").readline().split()[1] == b"404"
    assert not nginx.errors(ERRORS)
    for host in ("down", "none"):
        down = get(nginx, f"{host}.{DOMAIN}")
        assert (down.status, down.retry_after) == (503, "2")
    assert [re.search(r'route "(\w+)" has no live target', line)[1] for line in nginx.errors(ERRORS)] == ["down", "none"]
    assert one.requests == before
    assert {get(nginx, f"half.{DOMAIN}").target for _ in range(10)} == {"one"}


def test_a_changed_file_is_seen_by_every_worker_within_a_second_without_a_reload(file, start, one, two):
    write(file, Route("web", [one.address]))
    # The kernel spreads connections over the workers.
    nginx = start(server_block(file, listen="reuseport"), workers=3)
    workers = set(nginx.workers())
    for routes, expected in (
        ([Route("web", [two.address])], "two"),
        ([Route("web")], 503),
        ([Route("web", [one.address])], "one"),
        ([], 404),
    ):
        write(file, *routes)
        seen = set()

        def all_answer():
            answer = get(nginx, f"web.{DOMAIN}")
            if answer.target == expected:
                seen.add(int(answer.worker))
            return answer.target == expected and seen == workers, answer.target

        settles(all_answer, expected)
    assert set(nginx.workers()) == workers


def test_a_change_holds_for_the_next_request_of_a_kept_connection(file, start, one, two):
    write(file, Route("web", [one.address]))
    nginx = start(server_block(file))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", nginx.ports["web"], timeout=10)) as kept:
        assert get(nginx, f"web.{DOMAIN}", connection=kept).target == "one"
        write(file, Route("web", [two.address]))
        def answer():
            target = get(nginx, f"web.{DOMAIN}", connection=kept).target
            return target == "two", target

        settles(answer, "two")


def test_a_reload_keeps_the_routes(file, start, one):
    write(file, Route("web", [one.address]))
    nginx = start(server_block(file))
    answers, done = [], threading.Event()

    def ask():
        while not done.is_set():
            answers.append(get(nginx, f"web.{DOMAIN}").target)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(3):
            old, new = nginx.reload()
            poll(lambda: children(nginx.pid) == [new], "the old worker goes")
    finally:
        done.set()
        asking.join()
    assert set(answers) == {"one"}
    assert not nginx.errors(ERRORS)


def test_without_a_file_requests_get_503_and_the_log_says_once_why(file, start, one):
    nginx = start(server_block(file))
    unread = rf'routes "{file}" cannot be read: No such file or directory .*; requests get 503 until they can'
    poll(lambda: nginx.errors(re.compile(unread)), "the log says so before there is a request")
    for _ in range(3):
        unread_yet = get(nginx, f"web.{DOMAIN}")
        assert (unread_yet.status, unread_yet.retry_after) == (503, "2")
        time.sleep(0.6)
    assert len(nginx.errors(re.compile(unread))) == 1
    write(file, Route("web", [one.address]))
    poll(lambda: get(nginx, f"web.{DOMAIN}").target == "one", "the file is read")
    assert nginx.errors(re.compile(rf'\[notice\].* routes "{file}" were read: 1 of them, generation 1'))


def test_a_broken_file_leaves_the_routes_and_the_log_says_once_why(file, start, one):
    write(file, Route("web", [one.address]))
    nginx = start(server_block(file))
    assert get(nginx, f"web.{DOMAIN}").target == "one"
    whole = file.read_bytes()
    kept = "; those that were read before are used"
    for broken, reason in (
        (b"", "it is no snapshot of routes"),
        (whole[:-1], "it is not whole: it has another length than it says"),
        (whole[:8] + b"\2" + whole[9:], "it has version 2 of the format, this program reads version 1"),
    ):
        replace(file, broken)
        line = re.compile(re.escape(reason + kept))
        poll(lambda: get(nginx, f"web.{DOMAIN}").target == "one" and nginx.errors(line), reason)
        time.sleep(0.6)
        assert get(nginx, f"web.{DOMAIN}").target == "one"
        assert len(nginx.errors(line)) == 1
    file.unlink()
    poll(lambda: get(nginx, f"web.{DOMAIN}").target == "one" and nginx.errors(re.compile("No such file")), "missing")


def test_error_pages_subrequests_and_other_locations_need_no_route(file, start, one):
    write(file, Route("web", [one.address]), Route("down"))
    more = f"""
        dockline_routes {file};
        error_page 404 /unknown;
        error_page 503 = @down;
        location = /unknown {{ proxy_pass http://{one.address}/unknown-page; }}
        location @down {{ return 503 "$dockline_route_name is down\\n"; }}
        location = /status {{ dockline_routes off; return 200 "status $dockline_upstream."; }}
        location = /auth {{ internal; proxy_pass http://{one.address}/auth; }}
        location = /name {{ return 200 "name $dockline_route_name"; }}
        location /private {{ auth_request /auth; proxy_pass http://$dockline_upstream; }}
"""
    nginx = start(server_block(file, more))
    unknown = get(nginx, f"never.{DOMAIN}")
    assert (unknown.status, unknown.body.split()[:2]) == (404, ["one", "/unknown-page"])
    down = get(nginx, f"down.{DOMAIN}")
    assert (down.status, down.body, down.retry_after) == (503, "down is down\n", "2")
    assert get(nginx, f"never.{DOMAIN}", "/status").body == "status ."
    assert get(nginx, f"web.{DOMAIN}", "/private").body.startswith("one /private")
    assert get(nginx, f"never.{DOMAIN}", "/private").status == 404
    assert get(nginx, f"web.{DOMAIN}", "/name").body == "name web"


def test_the_target_is_the_same_wherever_the_request_asks_for_it(file, start, one, two):
    write(file, Route("web", [one.address, two.address]))
    more = f"""
        dockline_routes {file};
        location /redirected {{ set $first $dockline_upstream; rewrite ^ /inner last; }}
        location = /inner {{ error_page 418 /shown; set $second $dockline_upstream; return 418; }}
        location = /shown {{ add_header X-Worker "$first $second $dockline_upstream" always; return 204; }}
"""
    nginx = start(server_block(file, more))
    seen = {get(nginx, f"web.{DOMAIN}", "/redirected").worker for _ in range(4)}
    assert seen == {" ".join([target.address] * 3) for target in (one, two)}


def test_a_location_may_have_a_file_of_its_own(file, start, one, two):
    other = file.with_name("other")
    write(file, Route("web", [one.address]))
    write(other, Route("web", [two.address]))
    more = f"""
        dockline_routes {file};
        set $outer $dockline_upstream;
        location = /other {{ dockline_routes {other}; return 200 "$outer $dockline_upstream"; }}
"""
    nginx = start(server_block(file, more))
    assert get(nginx, f"web.{DOMAIN}", "/other").body == f"{one.address} {two.address}"
    assert get(nginx, f"web.{DOMAIN}").target == "one"


@pytest.fixture
def refusing():
    """Addresses that nobody listens at."""
    with contextlib.ExitStack() as stack:

        def addresses(count):
            # Bound, so that nobody else gets the port.
            made = [stack.enter_context(socket.socket()) for _ in range(count)]
            for one in made:
                one.bind(("127.0.0.1", 0))
            return ["127.0.0.1:%d" % one.getsockname()[1] for one in made]

        yield addresses


def test_another_target_gets_the_request_if_the_first_cannot_be_reached(file, start, one, refusing):
    (dead,) = refusing(1)
    write(file, Route("web", [dead, one.address]), Route("gone", [dead]), Route("both", refusing(2)))
    nginx = start(server_block(file, targets=True))
    before = one.requests
    answers = [get(nginx, f"web.{DOMAIN}", method="POST", body="x" * 100_000) for _ in range(10)]
    assert {answer.target for answer in answers} == {"one"}
    assert sorted((answer.tried for answer in answers), key=len) == 5 * [[one.address]] + 5 * [[dead, one.address]]
    assert one.requests == before + 10, "once each"
    gone = get(nginx, f"gone.{DOMAIN}")
    assert (gone.status, gone.tried, gone.retry_after) == (502, [dead], None)
    both = get(nginx, f"both.{DOMAIN}")
    assert (both.status, len(set(both.tried))) == (502, 2)
    assert not nginx.errors(re.compile(r"temporarily disabled|no live upstreams"))


def test_eight_targets_are_tried_at_most(file, start, one, refusing):
    dead = refusing(8)
    write(file, Route("eight", [*dead[1:], one.address]), Route("nine", [*dead, one.address]))
    nginx = start(server_block(file, targets=True))
    assert {get(nginx, f"eight.{DOMAIN}").target for _ in range(8)} == {"one"}
    answers = [get(nginx, f"nine.{DOMAIN}") for _ in range(9)]
    assert max(len(answer.tried) for answer in answers) == 8
    assert sorted(answer.status for answer in answers) == 8 * [200] + [502]


def test_connections_to_targets_are_kept_and_one_that_breaks_off_is_replaced(file, start):
    target = Target("kept", breaks_off=True)
    try:
        write(file, Route("web", [target.address]))
        nginx = start(server_block(file, targets=True, keepalive=True))
        assert [get(nginx, f"web.{DOMAIN}").target for _ in range(4)] == 4 * ["kept"]
        assert (target.connections, target.requests) == (4, 7)
    finally:
        target.stop()


def test_the_prefix_of_a_route_is_removed_where_the_target_wants_that(file, start, one, two):
    write(
        file,
        Route("web", [(one.address, 1, True, True)], "/api"),
        Route("web", [one.address], "/kept"),
        Route("mixed", [(one.address, 1, True, True), two.address], "/api"),
        Route("root", [(one.address, 1, True, True)]),
    )
    nginx = start(server_block(file, targets=True))

    def asked(path, host="web"):
        answer = get(nginx, f"{host}.{DOMAIN}", path, X_Forwarded_Prefix="/forged")
        name, path, *_, prefix = answer.body.split()
        return path, prefix

    for path, wanted in (
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?x=/y", "/?x=/y"),
        ("/api/a//b/../%2e%78?y=/z#f", "/a//b/../%2e%78?y=/z#f"),
        ("/api/api", "/api"),
    ):
        assert asked(path) == (wanted, "/api"), path
    assert asked("/kept/%78?y") == ("/kept/%78?y", "-")
    assert asked("/api/x", "root") == ("/api/x", "-")
    assert {asked("/api/x", "mixed") for _ in range(4)} == {("/x", "/api"), ("/api/x", "-")}
    with socket.create_connection(("127.0.0.1", nginx.ports["web"])) as plain:
        plain.sendall(f"GET http://root.{DOMAIN}?x HTTP/1.1\r\nHost: root.{DOMAIN}\r\nConnection: close\r\n\r\n".encode())
        assert b"\r\n\r\none /?x " in b"".join(iter(lambda: plain.recv(65536), b""))
    assert not nginx.errors(ERRORS)


def test_targets_may_speak_tls(file, start, certificates):
    target = Target("tls", tls=certificates.back_server)
    try:
        write(file, Route("web", [target.address]))
        more = f"location /tls {{ dockline_routes {file}; proxy_pass https://containers; }}"
        nginx = start(server_block(file, more, targets=True))
        assert [get(nginx, f"web.{DOMAIN}", "/tls").target for _ in range(3)] == 3 * ["tls"]
        assert not nginx.errors(ERRORS)
    finally:
        target.stop()


def test_a_location_without_routes_has_no_targets(file, start, one):
    write(file, Route("web", [one.address]))
    more = "location /other { proxy_pass http://containers; }"
    nginx = start(server_block(file, more, targets=True))
    assert get(nginx, f"web.{DOMAIN}", "/other").status == 500
    assert nginx.errors(re.compile(r'no targets for upstream "containers": a location .* has to have "dockline_routes"'))


def test_a_group_of_targets_has_no_other_servers(tmp_path):
    for lines, error in (
        ("dockline_targets; dockline_targets;", '"dockline_targets" directive is duplicate'),
        ("dockline_targets a;", "invalid number of arguments"),
        ("dockline_targets; server 127.0.0.1;", '"server" cannot be used with "dockline_targets" in upstream "all"'),
        ("server 127.0.0.1; dockline_targets;", '"server" cannot be used with "dockline_targets" in upstream "all"'),
        ("zone all 64k; dockline_targets;", '"zone" cannot be used with "dockline_targets" in upstream "all"'),
        ("dockline_targets; least_conn;", "no servers in upstream"),
    ):
        code, output = check_config(tmp_path / "bad", f"upstream all {{ {lines} }}")
        assert code == 1 and error in output, output
    code, output = check_config(tmp_path / "good", "upstream all { dockline_targets; keepalive 1; }")
    assert code == 0 and "warn" not in output, output


def test_the_directive_takes_one_path(tmp_path):
    for line, error in (
        ('dockline_routes "";', 'empty path in "dockline_routes" directive'),
        ("dockline_routes a b;", "invalid number of arguments"),
        ("dockline_routes a; dockline_routes b;", '"dockline_routes" directive is duplicate'),
    ):
        code, output = check_config(tmp_path / "bad", f"server {{ listen 127.0.0.1:1; {line} }}")
        assert code == 1 and error in output, output
    code, output = check_config(tmp_path / "good", "dockline_routes /nonexistent; server { listen 127.0.0.1:1; }")
    assert code == 0, output
