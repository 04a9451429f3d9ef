"""The router of `dockline serve`, with the containers of a real dockerd: names, hosts and paths, as they come and go."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import socket
import threading
import time

import pytest

from support.lab import OUTSIDE
from support.ports import make_socket
from support.proc import poll, tail
from support.router import DOMAIN, WEB, Router


@pytest.fixture(scope="module")
def lab(router_lab):
    return router_lab


@pytest.fixture(scope="module")
def docker(router_docker):
    return router_docker


@pytest.fixture(scope="module")
def router(lab, docker, workspace):
    router = Router(lab, docker.url, workspace / "router")
    try:
        yield router
    finally:
        router.stop()


_numbers = itertools.count(1)


@pytest.fixture
def web(docker):
    """Starts containers, which are removed with the test."""
    started = []

    def start(name=None, labels=None, route=True, **options):
        name = name or f"web{next(_numbers)}"
        env = {"DPROXY_FORWARD_NAME": name} if route and labels is None else {}
        started.append(name)
        docker.run_web(name, labels=labels, env={**env, **options.pop("env", {})}, **options)
        return name

    yield start
    for name in started:
        docker.remove(name)


def test_a_container_is_reached_by_its_name(router, web):
    name = web()
    router.reaches(name)
    assert router.name(name.upper()) == (200, name)
    assert router.routes()[name]["state"] == "live"
    assert name in router.text()


# ---- what comes and goes


def stays_down(router, name):
    """A known name without a target: the request waits, then gets 503."""
    status, headers, _ = router.ask(f"{name}.{DOMAIN}")
    assert (status, headers["Retry-After"]) == (503, "2"), router.text()


def test_a_name_that_was_never_seen_is_404(router):
    began = time.monotonic()
    for host in (f"never.{DOMAIN}", "other.example", "127.0.0.1", DOMAIN):
        status, _, body = router.ask(host)
        assert status == 404 and b"127.0.0.1" not in body, body
    assert time.monotonic() - began < 1.5, "it does not wait"


@pytest.mark.parametrize("way", ["stop", "kill", "pause", "remove", "disconnect"])
def test_a_container_that_goes_leaves_503_and_one_that_is_back_answers(router, docker, web, way):
    name = web()
    router.reaches(name)
    end, back = {
        "stop": (lambda: docker.api.stop(name, timeout=1), lambda: docker.api.start(name)),
        "kill": (lambda: docker.api.kill(name), lambda: docker.api.start(name)),
        "pause": (lambda: docker.api.pause(name), lambda: docker.api.unpause(name)),
        "remove": (lambda: docker.remove(name), lambda: web(name)),
        "disconnect": (
            lambda: docker.api.disconnect_container_from_network(name, "bridge"),
            lambda: docker.api.connect_container_to_network(name, "bridge"),
        ),
    }[way]
    end()
    poll(lambda: not [it for it in router.routes()[name]["targets"] if it["state"] == "live"], "its target is gone")
    stays_down(router, name)
    back()
    router.reaches(name)


def test_a_request_waits_for_a_container_that_is_starting(router, docker, web):
    name = web()
    router.reaches(name)
    docker.api.stop(name, timeout=1)
    poll(lambda: router.routes()[name]["state"] == "down", "its target is gone")
    waited = []
    thread = threading.Thread(target=lambda: waited.append(router.name(name)))
    thread.start()
    poll(lambda: "dockline_router_waiting 1" in router.fetch("/metrics")[1], "it waits")
    docker.api.start(name)
    thread.join(10)
    assert waited == [(200, name)]


def test_a_container_with_rm_is_gone_with_its_end(router, docker, web):
    name = web(command=WEB, auto_remove=True)
    router.reaches(name)
    docker.api.kill(name)
    poll(lambda: not router.routes()[name]["targets"], "its target is gone")
    stays_down(router, name)


def test_a_renamed_container_keeps_its_route_and_its_connections(router, docker, web):
    name = web()
    router.reaches(name)
    docker.api.rename(name, f"{name}-new")
    poll(lambda: f"{name}-new" in router.text(), router.text)
    assert router.name(name) == (200, name)
    docker.api.rename(f"{name}-new", name)


def test_a_container_with_a_health_check_is_live_when_it_is_healthy(router, docker, web):
    check = {"test": ["CMD", "test", "-e", "/tmp/healthy"], "interval": 10**9, "retries": 1}
    name = web(healthcheck=check)
    poll(lambda: router.routes().get(name, {}).get("targets"), "it is known")
    assert router.routes()[name]["targets"][0]["state"] == "starting"
    docker.api.exec_start(docker.create_exec(name, ["touch", "/tmp/healthy"], stdin=False))
    router.reaches(name)
    docker.api.exec_start(docker.create_exec(name, ["rm", "/tmp/healthy"], stdin=False))
    poll(lambda: router.routes()[name]["targets"][0]["state"] == "unhealthy", router.text)


def test_what_has_no_route_has_a_reason(router, web):
    name = web(ports=())
    poll(lambda: "set `dockline.port`" in router.unrouted().get(name, ""), router.text)
    wrong = web(labels={"dockline.nmae": "x"})
    poll(lambda: "dockline.name" in router.unrouted().get(wrong, ""), router.text)


# ---- which container


def test_hosts_and_paths_choose_the_container(router, web):
    site = web(labels={"dockline.host": "www.example.test,*.wild.test"})
    api = web(labels={"dockline.host": "www.example.test", "dockline.path": "/api"})
    cut = web(labels={"dockline.host": "www.example.test", "dockline.path": "/cut", "dockline.strip": "true"})
    for name in (site, api, cut):
        poll(lambda: f"{name} on one" in router.text() and " live " in router.text(), router.text)

    def gets(host, path):
        return router.ask(host, path)[2].decode().strip()

    poll(lambda: gets("www.example.test", "/cut/file") == f"{cut} file", router.text)
    poll(lambda: gets("www.example.test", "/api/") == f"{api} api", router.text)
    for host, path, wanted in (
        ("www.example.test", "/", site),
        ("WWW.example.test.", "/", site),
        ("www.example.test", "/file", f"{site} file"),
        ("a.wild.test", "/", site),
        ("www.example.test", "/api/?x=/", f"{api} api"),
        ("www.example.test", "/cut", cut),
        ("www.example.test", "/cut/", cut),
    ):
        assert gets(host, path) == wanted, (host, path)
    assert router.ask("a.b.wild.test")[0] == 404
    assert router.ask("wild.test")[0] == 404


def test_replicas_take_turns_and_one_stands_in_for_the_other(router, docker, web):
    one, two = (web(labels={"dockline.name": "pair", "dockline.service": "pair"}) for _ in range(2))
    poll(lambda: len([it for it in router.routes()["pair"]["targets"] if it["state"] == "live"]) == 2, router.text)
    answers = [router.name("pair")[1] for _ in range(6)]
    assert answers.count(one) == answers.count(two) == 3
    docker.api.kill(one)
    for _ in range(20):
        assert router.name("pair") == (200, two)


def test_the_first_container_has_a_name_that_two_want(router, web):
    first = web(labels={"dockline.name": "wanted"})
    router.reaches("wanted", text=first)
    second = web(labels={"dockline.name": "wanted"})
    poll(lambda: [it["title"] for it in router.routes()["wanted"]["losers"]] == [second], router.text)
    assert router.name("wanted") == (200, first)
    assert f"{second} on one: `{first}`" in router.text()


# ---- applications that a fake one plays


class Application:
    """An HTTP server in the network of a container."""

    def __init__(self, docker, name, handle):
        self.server = make_socket(docker.namespace(name), socket.SOCK_STREAM, ("0.0.0.0", 80))
        self.server.settimeout(None)
        self.handle = handle
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.server.accept()[0],), daemon=True).start()

    def _serve(self, made):
        with made, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = made.recv(65536)
                if not part:
                    return
                head += part
            self.handle(made, head.decode())

    def close(self):
        # It wakes the thread that accepts.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def mirror(made, head):
    """Answers with the head of the request."""
    made.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(head)}\r\n\r\n{head}".encode())


def echo(made, head):
    """Switches to the protocol that is asked for, and sends everything back."""
    wanted = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("upgrade: "))
    made.sendall(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {wanted}\r\n\r\n".encode())
    while part := made.recv(65536):
        made.sendall(part)


@pytest.fixture
def play(docker, web):
    """Starts a container whose application is played by a function."""
    playing = []

    def start(handle, labels=None):
        name = web(command="exec sleep 1000000", labels=labels)
        playing.append(Application(docker, name, handle))
        return name

    yield start
    for application in playing:
        application.close()


def upgrade(router, host, protocol="websocket", path="/"):
    made = router.connect()
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = made.recv(1)
        assert part, head
        head += part
    assert head.startswith(b"HTTP/1.1 101 "), head
    return made


def says(tunnel, words):
    tunnel.sendall(words)
    got = b""
    while len(got) < len(words):
        part = tunnel.recv(65536)
        if not part:
            return False
        got += part
    return got == words


def test_the_application_is_told_who_asks(router, play):
    name = play(mirror)
    poll(lambda: router.name(name)[0] == 200, router.text)
    _, head = router.name(name, "/x?y", headers={"X-Real-IP": "10.9.9.9", "X-Forwarded-For": "10.9.9.9"})
    lines = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head.splitlines()[1:]}
    assert head.startswith("GET /x?y HTTP/1.1")
    host = f"{name}.{DOMAIN}"
    assert lines["host"] == lines["x-forwarded-host"] == host
    assert lines["x-real-ip"] == lines["x-forwarded-for"] == "127.0.0.1"
    assert lines["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("protocol", ["websocket", "something/2"])
def test_applications_switch_protocols_on_paths_of_dockers_api_too(router, play, protocol):
    name = play(echo)
    poll(lambda: router.routes().get(name, {}).get("state") == "live", router.text)
    for path in ("/", "/events", "/containers/x/attach"):
        with upgrade(router, f"{name}.{DOMAIN}", protocol, path) as tunnel:
            assert says(tunnel, b"hello")
            listed = [it for it in router.json("/tunnels.json")["tunnels"] if it.get("route") == name]
            assert [it["bytes_up"] for it in listed] == [5]
        poll(lambda: not router.json("/tunnels.json")["tunnels"], "the tunnel has ended")


def test_a_tunnel_outlives_its_route_and_is_killed_on_request(router, docker, web, play):
    name = play(echo)
    poll(lambda: router.routes().get(name, {}).get("state") == "live", router.text)
    with upgrade(router, f"{name}.{DOMAIN}") as tunnel:
        docker.api.pause(name)
        poll(lambda: router.routes()[name]["state"] == "down", router.text)
        docker.api.unpause(name)
        for number in range(20):
            web(f"{name}-{number}", command="exec sleep 1000000", start=False)
        assert says(tunnel, b"still here")
        ended = router.json("/tunnels.json")["tunnels"][0]["id"]
        assert router.fetch(f"/kill?tunnel={ended + 1}", "POST")[0] == 404
        assert router.fetch("/kill", "POST")[0] == 400
        assert router.fetch(f"/kill?tunnel={ended}", "POST") == (200, '{"killed":1}\n')
        with contextlib.suppress(ConnectionResetError):
            assert tunnel.recv(1) == b""


def test_a_drained_tunnel_is_cut_after_its_time(router, docker, play):
    name = play(echo, labels={"dockline.name": "drained", "dockline.drain": "1s"})
    poll(lambda: router.routes().get("drained", {}).get("state") == "live", router.text)
    with upgrade(router, f"drained.{DOMAIN}") as tunnel:
        assert says(tunnel, b"hello")
        began = time.monotonic()
        docker.api.pause(name)
        with contextlib.suppress(ConnectionResetError):
            assert tunnel.recv(1) == b""
        assert 0.8 < time.monotonic() - began < 6
    docker.api.unpause(name)


def test_a_container_is_started_on_demand_and_stopped_when_nobody_uses_it(router, docker, web):
    name = web(labels={"dockline.name": "demand", "dockline.start": "on-demand", "dockline.stop-after": "1s"}, start=False)
    poll(lambda: "demand" in router.routes(), router.text)
    assert not docker.running(name)
    assert router.name("demand", timeout=30) == (200, name)
    poll(lambda: not docker.running(name), "it is stopped", seconds=20)
    assert router.name("demand", timeout=30) == (200, name)


def test_what_runs_already_is_known_from_the_first_request_on(lab, docker, router, web, tmp_path):
    name = web()
    router.reaches(name)
    fresh = Router(lab, docker.url, tmp_path / "fresh", port=8084, node="fresh")
    try:
        assert fresh.name(name) == (200, name)
        # The next program takes over.
        pid = fresh.service.pid
        seen = fresh.log.read_text().count("info  ready")
        fresh.service.send_signal(signal.SIGUSR2)
        poll(lambda: fresh.log.read_text().count("info  ready") > seen, lambda: tail(fresh.log))
        for _ in range(50):
            assert fresh.name(name) == (200, name)
        successor = int(re.search(r"upgrade: process (\d+) serves", poll_text(fresh, "upgrade: process"))[1])
        assert successor != pid
        os.kill(successor, signal.SIGTERM)
    finally:
        fresh.stop()


def poll_text(router, words):
    return poll(lambda: words in router.log.read_text() and router.log.read_text(), lambda: tail(router.log))


def test_after_a_restart_a_stopped_container_is_known_by_its_name(lab, docker, web, tmp_path):
    name, never, removed = web(), web(start=False), web(auto_remove=True)
    docker.api.stop(name, timeout=1)
    docker.api.kill(removed)
    poll(lambda: not docker.api.containers(all=True, filters={"name": removed}), "it is removed")
    fresh = Router(lab, docker.url, tmp_path / "fresh", port=8085, node="fresh")
    try:
        for known in (name, never):
            stays_down(fresh, known)
            assert [it["state"] for it in fresh.routes()[known]["targets"]] == ["stopped"]
        for unknown in (removed, "nobody"):
            assert fresh.name(unknown)[0] == 404
        docker.api.start(name)
        fresh.reaches(name)
        # Its name is free for another one while it does not run.
        other = web(labels={"dockline.name": never})
        fresh.reaches(never, text=other)
        assert "file:" not in fresh.log.read_text()
    finally:
        fresh.stop()


# ---- the operator


def test_the_operator_has_routes_pages_and_challenges_of_his_own(docker, router, web, tmp_path):
    name = web()
    router.reaches(name)
    pages, acme = tmp_path / "pages", tmp_path / "acme"
    pages.mkdir()
    acme.mkdir()
    (pages / "404.html").write_text("<p>nobody is here")
    (pages / "502.html").write_text("<p>broken")
    address = docker.address(name)
    tables = (
        f'[[route]]\nhost = "fixed.test"\npath = "/f"\nstrip = true\ntargets = ["127.0.0.1:9", "{address}:80"]\n'
        '[[route]]\nhost = "named.test"\ntargets = ["localhost:9"]\n'
        '[[route]]\nhost = "loop.test"\ntargets = ["127.0.0.1:80"]\n'
    )
    router.reload(f'error_pages = "{pages}"\nacme_dir = "{acme}"\nhold = "100ms"\n', tables)
    try:
        assert router.ask("nobody.test")[2] == b"<p>nobody is here"
        for _ in range(4):
            assert router.ask("fixed.test", "/f/file")[2].decode().strip() == f"{name} file", "the next target is tried"
        assert router.ask("named.test")[::2] == (502, b"<p>broken")
        assert router.ask("loop.test")[0] == 508
        (acme / "token-1").write_text("token-1.thumb")
        assert router.ask("any.test", "/.well-known/acme-challenge/token-1")[::2] == (200, b"token-1.thumb")
        assert router.ask("any.test", "/.well-known/acme-challenge/none")[0] == 404
        assert router.name(name) == (200, name)
    finally:
        router.reload()


def test_a_daemon_that_is_away_leaves_its_routes(lab, docker, web, workspace, tmp_path):
    """By a proxy in between, which ends all connections: the containers live on."""
    name = web()
    path = tmp_path / "between.sock"
    gate = Gate(path, docker.socket)

    router = Router(lab, f"unix://{path}", workspace / "router-gate", port=8081)
    try:
        router.reaches(name)
        gate.close()
        poll(lambda: router.source_is("stale"), router.text)
        assert router.name(name) == (200, name)
        assert "stale" in router.text()
        other = web()
        gate = Gate(path, docker.socket)
        router.reaches(other)
        assert router.name(name) == (200, name)
    finally:
        gate.close()
        router.stop()


@pytest.fixture
def hops(lab, docker, tmp_path):
    """A front door, and the router of the worker `two`, which has the containers."""
    made = []

    def start(worker_gateway=None):
        for port, node, gateway in ((8082, "two" if not worker_gateway else "three", worker_gateway), (8083, "front", f"{OUTSIDE}:8082")):
            made.append(Router(lab, docker.url, tmp_path / node, port=port, node=node, gateway=gateway))
        return made

    yield start
    for router in made:
        router.stop()


def test_the_front_door_reaches_containers_by_the_router_of_their_machine(hops, web, play):
    name, mirrored, echoing = web(labels={"dockline.name": "far", "dockline.path": "/cut", "dockline.strip": "true"}), play(mirror), play(echo)
    worker, front = hops()
    poll(lambda: front.name("far", "/cut/file") == (200, f"{name} file"), front.text)
    assert f"by {OUTSIDE}:8082" in front.text()
    poll(lambda: front.name(mirrored)[0] == 200, front.text)
    _, head = front.name(mirrored)
    lines = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head.splitlines()[1:]}
    assert lines["host"] == f"{mirrored}.{DOMAIN}"
    assert len(lines["dockline-hops"].split(", ")) == 2
    poll(lambda: front.routes().get(echoing, {}).get("state") == "live", front.text)
    with upgrade(front, f"{echoing}.{DOMAIN}") as tunnel:
        assert says(tunnel, b"through both")
        assert [len(router.json("/tunnels.json")["tunnels"]) for router in (worker, front)] == [1, 1]


def test_two_routers_that_send_to_each_other_see_the_loop(hops, web):
    name = web()
    worker, front = hops(worker_gateway=f"{OUTSIDE}:8083")
    poll(lambda: name in front.routes() and name in worker.routes(), front.text)
    poll(lambda: front.name(name)[0] == 508, front.text)


class Gate:
    """Joins connections to a Unix socket with the daemon's; closing it cuts them all."""

    def __init__(self, path, target):
        self.path, self.target, self.open = path, str(target), []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.server.accept()[0]
                daemon = socket.socket(socket.AF_UNIX)
                daemon.connect(self.target)
                self.open += [client, daemon]
                for source, target in ((client, daemon), (daemon, client)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source, target):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        for made in [self.server, *self.open]:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()
        self.path.unlink(missing_ok=True)


def test_no_answer_is_wrong_while_containers_move(router, docker, web):
    """Each container answers for its own name only, whatever address it has got from another one."""
    names = [web() for _ in range(4)]
    for name in names:
        router.reaches(name)
    stop, wrong, counts = threading.Event(), [], dict.fromkeys(names, 0)
    kept = [tuple(names), web()]
    router.reaches(kept[1])

    def ask(name):
        while not stop.is_set():
            try:
                status, text = router.name(name, timeout=20)
            except (ConnectionError, http.client.HTTPException, TimeoutError) as error:
                status, text = 0, repr(error)
            if status == 200 and text != name or status == 404:
                wrong.append((name, status, text))
            if name == kept[1] and status != 200:
                wrong.append((name, status, text))
            counts[name] = counts.get(name, 0) + (status == 200)

    threads = [threading.Thread(target=ask, args=(name,)) for name in [*names, kept[1]]]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(6):
            for name in names:
                docker.api.kill(name)
            # The next ones to start get the addresses of those before.
            for name in names[round_ % 4 :] + names[: round_ % 4]:
                docker.api.start(name)
        for name in names:
            seen = counts[name]
            poll(lambda: counts[name] > seen, lambda: f"{name} answers again: {counts}\n{router.text()}")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not wrong, wrong[:5]
    assert all(counts.values()), counts
