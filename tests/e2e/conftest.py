"""Fixtures: one real daemon and one proxy for the whole session, docker clients for each way to the daemon.

Run `make test-e2e`, or `make test-e2e-gateway` to go through the gateway. `pytest tests/e2e`, as root, runs with what
they have built. support/tools.py lists the environment variables.
"""

import hashlib
import itertools
import os
import random
import shutil

import pytest

from support import tools
from support.certs import Certificates
from support.cli import Docker
from support.daemon import IMAGE, Daemon
from support.endpoints import KINDS, Endpoint, through
from support.fronts import docker_front
from support.lab import Lab
from support.proc import tail
from support.router import RouterDaemon

# Tests for one of the proxies only. Tests that use neither run once, with those of nginx.
collect_ignore_glob = (
    ["test_gateway_*"]
    if tools.front() == "nginx"
    else ["test_nginx_*", "test_docker_proxy*", "test_publish*", "test_lua_*", "test_router*"]
)

BULK_BYTES = 20 * 1024 * 1024


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the end-to-end suite starts a dockerd: run it as root", returncode=2)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        # They would override the CA that docker-py is given.
        os.environ.pop(name, None)


def pytest_report_header(config):
    return [f"through {_front_text()}", f"docker: {tools.docker_clis()}"]


def _front_text():
    if tools.front() == "gateway":
        return str(tools.gateway_binary())
    version = ".".join(map(str, tools.nginx_version()))
    way = "stock, websocket lines" if tools.stock() else tools.load_module_line() or "module built in"
    return f"nginx {version} ({way})"


def pytest_generate_tests(metafunc):
    mark = metafunc.definition.get_closest_marker
    if "cli" in metafunc.fixturenames:
        clis = tools.docker_clis()
        if mark("debian_docker"):
            clis = {name: path for name, path in clis.items() if path == tools.DEBIAN_DOCKER}
        metafunc.parametrize("cli", list(clis.values()), ids=list(clis), scope="session")
    if "kind" in metafunc.fixturenames:
        only = mark("kinds")
        metafunc.parametrize("kind", only.args if only else KINDS, scope="session")


_services = []  # (name, log) of what runs, for the report of a failure
_watched = []  # (proxy, its health when it was fresh)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the ends of the logs with a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name, path in _services:
            report.sections.append((f"end of {name}", tail(path, 25)))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def certificates(workspace):
    return Certificates.make(workspace / "certs")


@pytest.fixture(scope="session")
def daemon(workspace, certificates):
    directory = workspace / "dockerd"
    directory.mkdir()
    _services.append(("dockerd.log", directory / "dockerd.log"))
    daemon = Daemon(directory, certificates.back_server)
    try:
        daemon.import_image()
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(scope="session")
def front(workspace, daemon, certificates):
    """The proxy that most tests go through."""
    proxy = docker_front(workspace / "front", daemon, certificates)
    _services.append((f"the log of {proxy.name}", proxy.error_log))
    _watched.append((proxy, proxy.health()))
    try:
        yield proxy
    finally:
        _watched.clear()
        proxy.stop()
        assert not proxy.errors(), "in the error log:\n" + "\n".join(proxy.errors())


@pytest.fixture(scope="module", autouse=True)
def no_leaks():
    """Checks after each test module: the same worker, nothing held, no error in the log."""
    yield
    for proxy, before in _watched:
        proxy.check_health(before)


@pytest.fixture(scope="session")
def endpoint(front, kind, certificates):
    """One way through the proxy."""
    return through(front, kind, certificates)


@pytest.fixture(scope="session")
def docker_config(workspace):
    """An empty docker configuration folder, so that the user's own is not used."""
    directory = workspace / "docker-config"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def direct(cli, daemon, docker_config):
    """docker, straight to the daemon."""
    return Docker(cli, Endpoint("direct", daemon.url), docker_config)


@pytest.fixture(scope="session")
def proxied(cli, endpoint, docker_config):
    """docker, through the proxy."""
    return Docker(cli, endpoint, docker_config)


@pytest.fixture
def same(direct, proxied):
    """Runs a command both ways, asserts that the results are equal, and returns the result."""

    def check(*words, stdin=None, timeout=90, env=None, clean=lambda result: result):
        wanted = clean(direct(*words, stdin=stdin, timeout=timeout, env=env))
        got = clean(proxied(*words, stdin=stdin, timeout=timeout, env=env))
        assert got == wanted
        return got

    return check


@pytest.fixture(scope="session")
def router_lab():
    """The host of the tests of the router."""
    lab = Lab(f"rt{os.getpid()}")
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def router_docker(router_lab, workspace, certificates):
    """The dockerd there."""
    directory = workspace / "router-docker"
    directory.mkdir()
    daemon = RouterDaemon(router_lab, directory, certificates.back_server)
    try:
        yield daemon
    finally:
        daemon.stop()


_numbers = itertools.count(1)


@pytest.fixture
def name(daemon):
    """A fresh container name; the container is removed afterwards."""
    fresh = f"t{next(_numbers)}"
    yield fresh
    daemon.remove(fresh)


@pytest.fixture(scope="session")
def sleeper(daemon):
    """A container that does nothing, to run exec in."""
    daemon.start_container("sleeper", ["sleep", "1000000"])
    yield "sleeper"
    daemon.remove("sleeper")


@pytest.fixture(scope="session")
def bulk():
    """20 MB that don't compress, the same in every run."""
    return random.Random(2).randbytes(BULK_BYTES)


@pytest.fixture(scope="session")
def bulk_md5(bulk):
    return hashlib.md5(bulk).hexdigest().encode()


@pytest.fixture(scope="session")
def image():
    return IMAGE


@pytest.fixture
def private_dir(tmp_path):
    """A folder for one test, removed at its end because bulk files would pile up."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)
