"""Operating the gateway: reload, drain, upgrade, logs, metrics, revocation, and faults."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import tools
from support.cli import Docker
from support.endpoints import Endpoint
from support.fake_daemon import HIJACK_101, FakeDaemon, answer
from support.gateway import QUICK_POOL, Gateway, listen, upstream
from support.proc import poll, resident_kib
from support.wire import Stream, attach_request, request

PING = request("GET", "/_ping")
ATTACH = attach_request("x")


@pytest.fixture(scope="module")
def fake(tmp_path_factory, certificates):
    fake = FakeDaemon(tmp_path_factory.mktemp("fake-ops"), certificates.back_server)
    yield fake
    fake.stop()


@pytest.fixture
def start(tmp_path):
    """Start a gateway of the test's own, with one TCP listener called `plain`; it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def starter(target, **options):
            gateway = Gateway(
                tmp_path / "gateway", {"plain": "tcp"}, lambda at: plain_config(at["plain"], target), **options
            )
            stack.callback(gateway.stop)
            return gateway

        yield starter


def plain_config(address, target):
    return QUICK_POOL + listen(address) + upstream("docker", target)


@pytest.fixture
def docker_through(docker_config):
    """Debian's docker command, through a gateway."""
    return lambda gateway: Docker(tools.DEBIAN_DOCKER, Endpoint("plain", gateway.url("plain")), docker_config)


def connect(gateway, name="plain"):
    return Stream.connect(Endpoint(name, gateway.url(name)))


def echo(connection):
    while found := connection.read_request():
        if "upgrade" not in found[0]:
            connection.stream.send(answer(b"OK"))
            continue
        connection.stream.send(HIJACK_101)
        while connection.stream.more():
            connection.stream.send(connection.stream.take())
        return


def open_tunnel(gateway):
    stream = connect(gateway)
    stream.send(ATTACH)
    assert stream.read_head().status == 101
    say(stream, b"ping")
    return stream


def say(stream, words):
    stream.send(words)
    assert stream.read_exactly(len(words)) == words


def end(stream):
    stream.half_close()
    assert stream.read_all() == b""


# reload, drain, upgrade


def test_reload_keeps_tunnels(fake, start, daemon):
    """New requests are routed by the new configuration; an invalid one changes nothing."""
    fake.serve(echo)
    gateway = start(f"unix://{fake.socket}")
    with open_tunnel(gateway) as stream:
        said = gateway.reload("thread = 1\n" + gateway.config.read_text())
        assert "not reloaded" in said and "threads" in said, said
        with connect(gateway) as other:
            assert other.ask(PING)[1] == b"OK"
        say(stream, b"after the bad one")
        assert "not reloaded" not in gateway.reload(plain_config(gateway.addresses["plain"], daemon.url))
        with connect(gateway) as other:
            head, _ = other.ask(request("GET", "/v1.41/version"))
            assert "Docker" in head["server"]
        say(stream, b"after the good one")
        end(stream)
    assert gateway.metric("dockline_config_last_reload_successful") == 1


def test_termination_waits_for_an_exec(daemon, sleeper, start, docker_through):
    gateway = start(daemon.url)
    docker = docker_through(gateway)
    with docker.start("exec", "-i", sleeper, "sh", "-c", "read line; echo got $line; exit 5") as running:
        poll(lambda: gateway.metric("dockline_tunnels_open") == 1, "the tunnel is open")
        gateway.service.send_signal(signal.SIGTERM)
        poll(lambda: refuses(gateway), "nobody is let in any more")
        assert gateway.service.alive()
        running.send(b"a word\n")
        poll(lambda: bytes(running.out) == b"got a word\n", lambda: f"the answer, not {running.out}")
        running.kill()  # it would ask for the exit code next, on a new connection
    assert gateway.service.process.wait(10) == 0
    assert not gateway.errors()


def refuses(gateway):
    try:
        connect(gateway).close()
    except ConnectionRefusedError:
        return True
    return False


def test_drain_timeout_resets_the_tunnels_that_are_left(fake, start):
    fake.serve(echo)
    gateway = start(f"unix://{fake.socket}", options=("--drain-timeout", "300ms"))
    with open_tunnel(gateway) as stream:
        gateway.service.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            # A tunnel that is cut off must not look like a clean end.
            stream.read_all()
    assert gateway.service.process.wait(10) == 0
    assert tunnel_line(gateway)["close"] == "drain"


def test_upgrade_in_place_under_load(fake, start):
    """No connection is refused or lost while one process takes over from the other, and a tunnel outlives both."""
    fake.serve(echo)
    gateway = start(f"unix://{fake.socket}")
    stop, answered, lost = threading.Event(), [], []

    def load():
        while not stop.is_set():
            try:
                with connect(gateway) as stream:
                    answered.append(stream.ask(PING)[0].status)
            except OSError as error:
                lost.append(repr(error))

    with open_tunnel(gateway) as stream, ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(load)
        try:
            old = gateway.pid
            gateway.service.send_signal(signal.SIGUSR2)
            new = poll(lambda: gateway.successor(), "a new process serves")
            count = len(answered)
            poll(lambda: len(answered) > count + 200, "the new process answers")
        finally:
            stop.set()
        say(stream, b"still in the old process")
        assert gateway.service.alive() and new != old
        end(stream)
    assert gateway.service.process.wait(10) == 0, "the old process ends with its last tunnel"
    try:
        assert not lost and set(answered) == {200}, (lost[:5], set(answered))
        with connect(gateway) as other:
            assert other.ask(PING)[1] == b"OK"
    finally:
        os.kill(new, signal.SIGTERM)
        poll(lambda: not os.path.exists(f"/proc/{new}"), "the new process ends")


def test_kill_and_start_again(fake, tmp_path):
    """The socket file that a killed gateway leaves behind is replaced; one that is in use is not."""
    fake.serve(echo)
    gateway = Gateway(
        tmp_path / "gateway", {"unix": "unix"}, lambda at: plain_config(at["unix"], f"unix://{fake.socket}")
    )
    try:
        second = subprocess.run(
            [tools.gateway_binary(), "serve", "--config", gateway.config, "--admin", "off"],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert second.returncode == 1 and "cannot listen" in second.stderr, second.stderr
        gateway.service.stop(signal.SIGKILL)
        assert (tmp_path / "gateway" / "unix.sock").exists()
        gateway.start()
        with connect(gateway, "unix") as stream:
            assert stream.ask(PING)[1] == b"OK"
    finally:
        gateway.stop()
    assert not (tmp_path / "gateway" / "unix.sock").exists()


# logs and metrics


def tunnel_line(gateway, part="/attach"):
    """The line of the end of a tunnel, which comes after that of its request."""
    gateway.access(part, count=2)
    return next(entry for entry in gateway.accesses() if part in entry["path"] and "close" in entry)


def test_access_log_has_status_bytes_and_times(fake, start):
    fake.serve(echo)
    gateway = start(f"unix://{fake.socket}")
    with connect(gateway) as stream:
        stream.send(ATTACH)
        stream.read_head()
        entry = gateway.access("/attach")
        assert (entry["status"], entry["kind"], entry["end"]) == (101, "upgrade", "complete")
        assert stream.exchange(b"x" * 300_000) == b"x" * 300_000
    entry = tunnel_line(gateway)
    assert (entry["kind"], entry["close"], entry["first_closer"]) == ("upgrade", "eof", "client")
    assert (entry["bytes_up"], entry["bytes_down"]) == (300_000, 300_000)
    assert (entry["method"], entry["upstream"]) == ("POST", "docker")

    with connect(gateway) as stream:
        stream.ask(request("POST", "/v1.41/build", body=b"x" * 70_000))
    entry = gateway.access("/build")
    assert (entry["status"], entry["kind"], entry["end"]) == (200, "http", "complete")
    assert (entry["bytes_up"], entry["bytes_down"], entry["reused"]) == (70_000, 2, False)


@pytest.mark.parametrize(("ending", "reason"), [("client", "downstream-reset"), ("daemon", "upstream-reset")])
def test_access_log_names_the_side_that_ended_a_tunnel(fake, start, ending, reason):
    def script(connection):
        connection.read_request()
        connection.stream.send(HIJACK_101 + b"ping")
        if ending == "daemon":
            connection.stream.read_exactly(2)
            connection.stream.reset()
        else:
            with contextlib.suppress(ConnectionResetError):
                connection.stream.read_all()

    fake.serve(script)
    gateway = start(f"tcp://127.0.0.1:{fake.tcp_port}")
    with connect(gateway) as stream:
        stream.send(ATTACH)
        stream.read_head()
        stream.read_exactly(4)
        if ending == "client":
            stream.reset()
        else:
            stream.send(b"go")
            with pytest.raises(ConnectionResetError):
                stream.read_all()
    entry = tunnel_line(gateway)
    assert (entry["close"], entry["first_closer"]) == (reason, ending)
    assert entry["bytes_down"] == 4
    fake.check()


def test_metrics_are_well_formed_and_add_up(fake, start):
    fake.serve(echo)
    gateway = start(f"unix://{fake.socket}")
    with open_tunnel(gateway) as stream:
        for _ in range(3):
            with connect(gateway) as other:
                other.ask(PING)
        poll(lambda: gateway.metric("dockline_client_connections_open") == 2, "only the tunnel, and this, are open")
        assert gateway.metric("dockline_tunnels_open") == 1
        end(stream)
    poll(lambda: gateway.metric("dockline_tunnels_open") == 0, "the tunnel is over")
    page = gateway.metrics()
    assert page['dockline_tunnels_total{kind="upgrade",close="eof"}'] == 1
    assert page['dockline_relay_bytes_total{direction="up"}'] == 4
    assert page["dockline_panics_total"] == 0
    ok = sum(value for name, value in page.items() if name.startswith("dockline_requests_total") and '"2xx"' in name)
    assert ok >= 3
    assert page["dockline_access_log_dropped_total"] == 0


# errors


def test_docker_prints_the_error_of_the_gateway(start, tmp_path, docker_through):
    """The daemon is down, and docker shows the message of the gateway to its user."""
    gateway = start(f"unix://{tmp_path}/no-daemon.sock")
    docker = docker_through(gateway)
    for words in (("ps",), ("exec", "x", "true"), ("run", "--rm", "bb", "true")):
        result = docker(*words)
        assert result.code != 0 and b"cannot connect to the Docker daemon" in result.err, result
    assert "no-daemon.sock" in gateway.error_log.read_text()
    assert not gateway.errors()


def test_requests_succeed_as_soon_as_the_daemon_is_back(fake, start, tmp_path):
    """No state is kept of its absence."""
    path = tmp_path / "late.sock"
    gateway = start(f"unix://{path}")
    with connect(gateway) as stream:
        assert stream.ask(PING)[0].status == 502
        path.symlink_to(fake.socket)
        fake.serve(echo)
        assert stream.ask(PING)[0].status == 200


def test_revoked_certificate_after_a_reload(fake, tmp_path, certificates):
    fake.serve(echo)
    revocations = Revocations(tmp_path / "ca", certificates.front_client)
    crl = revocations.write()

    def config(at):
        tables = listen(at["tls"], tls=certificates.front_server).replace(" }", f", crl = {json.dumps(str(crl))} }}")
        return QUICK_POOL + tables + upstream("docker", f"unix://{fake.socket}")

    gateway = Gateway(tmp_path / "gateway", {"tls": "tls"}, config)
    endpoint = Endpoint("tls", gateway.url("tls"), certificates.front_client)
    try:
        with Stream.connect(endpoint) as before:
            assert before.ask(PING)[1] == b"OK"
            revocations.revoke()
            gateway.reload()
            with pytest.raises(OSError), Stream.connect(endpoint) as after:  # in TLS 1.3 the refusal comes late
                after.ask(PING)
            assert before.ask(PING)[1] == b"OK", "a connection that is open stays"
        assert "revoked" in gateway.error_log.read_text().lower()
        assert gateway.metric('dockline_tls_handshakes_total{result="failed"}') == 1
    finally:
        gateway.stop()


class Revocations:
    """The revocation list of the authority that issued a certificate, made by `openssl ca`."""

    def __init__(self, directory, identity):
        directory.mkdir()
        self.directory, self.identity = directory, identity
        (directory / "index.txt").touch()
        (directory / "crlnumber").write_text("01\n")
        (directory / "openssl.cnf").write_text(f"""
[ca]
default_ca = this
[this]
database = {directory}/index.txt
crlnumber = {directory}/crlnumber
default_md = sha256
default_crl_days = 30
certificate = {identity.ca}
private_key = {identity.ca.parent}/ca-key.pem
""")

    def _ca(self, *words):
        argv = ["openssl", "ca", "-config", self.directory / "openssl.cnf", *words]
        subprocess.run(list(map(str, argv)), check=True, capture_output=True)

    def write(self):
        path = self.directory / "crl.pem"
        self._ca("-gencrl", "-out", path)
        return path

    def revoke(self):
        self._ca("-revoke", self.identity.cert)
        return self.write()


# load and shortage


def test_forty_execs_at_once(daemon, sleeper, start, docker_through):
    gateway = start(daemon.url)
    before = gateway.health()
    docker = docker_through(gateway)
    blobs = [os.urandom(100_000) for _ in range(40)]
    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(lambda blob: docker("exec", "-i", sleeper, "cat", stdin=blob), blobs))
    assert [result.out == blob for result, blob in zip(results, blobs)] == [True] * 40
    gateway.check_health(before)
    opened = [entry for entry in gateway.accesses() if entry["kind"] == "upgrade" and "close" in entry]
    assert len(opened) == 40 and {entry["bytes_up"] for entry in opened} == {100_000}


def test_slow_reader_costs_no_memory(fake, start):
    """The daemon is stopped by back-pressure, not by a buffer that grows: in a tunnel and in an ordinary response."""
    size = 100 * 1024 * 1024
    block = b"z" * 65536

    def script(connection):
        head, _ = connection.read_request()
        length = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()
        connection.stream.send(HIJACK_101 if "upgrade" in head else length)
        connection.stream.sock.settimeout(60)
        for _ in range(size // len(block)):
            connection.stream.sock.sendall(block)

    fake.serve(script)
    gateway = start(f"unix://{fake.socket}")
    for data in (ATTACH, request("GET", "/v1.41/images/x/get"), request("GET", "/v1.41/images/x/get", version="1.0")):
        memory = resident_kib(gateway.worker())
        with connect(gateway) as stream:
            stream.send(data)
            stream.read_head()
            got, most = len(stream.take()), 0
            while got < size:
                assert stream.more(), f"the end, after {got} bytes"
                got += len(stream.take())
                most = max(most, resident_kib(gateway.worker()) - memory)
        assert most < 8 * 1024, f"{most} KiB more"
    fake.check(seconds=60)


def test_few_descriptors(fake, start):
    """The gateway accepts as many clients as its descriptors allow; the others wait, and are served later."""
    fake.serve(echo)
    gateway = start(f"unix://{fake.socket}", wrapper=("prlimit", "--nofile=400:400"))
    before = gateway.health()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connect(gateway)) for _ in range(100)]
        for client in crowd:
            client.send(PING)
        # A third of 400 − 64, over two threads.
        poll(lambda: "the limit of 34 connections is reached" in gateway.error_log.read_text(), "the log says so")
        # Clients that wait do not delay those that are accepted.
        for _ in range(2):
            assert crowd[0].read_response()[1] == b"OK"
            crowd[0].send(PING)
        for client in crowd[:50]:
            client.close()
        for client in crowd[50:]:
            assert client.read_response()[1] == b"OK"
    with connect(gateway) as stream:
        assert stream.ask(PING)[1] == b"OK"
    gateway.check_health(before)
    assert gateway.metric("dockline_accept_pauses_total") == 0
