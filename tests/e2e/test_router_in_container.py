"""The router in a container of the daemon whose containers it routes to."""

import http.client
import threading
from pathlib import Path

import pytest

from support import tools
from support.daemon import IMAGE
from support.haproxy import SocketProxy
from support.lab import GATEWAY
from support.ports import make_socket
from support.proc import poll, tail
from support.router import Router

#: Where the program finds its libraries.
LIBRARIES = ["/lib", "/lib64", "/usr/lib"]


class ContainedRouter(Router):
    """`dockline serve` in a container of the image of the suite."""

    def __init__(self, docker, directory, url="unix:///docker.sock"):
        self.docker, self.directory, self.port, self.node = docker, Path(directory), 80, "one"
        self.daemon = f'"{url}"'
        self.directory.mkdir(parents=True)
        self.log, self.admin = self.directory / "error.log", self.directory / "admin.sock"
        self.config = self.directory / "dockline.toml"
        self.configure()
        # The paths are the same inside and outside.
        binds = [f"{path}:{path}:ro" for path in LIBRARIES if Path(path).exists()]
        binds += [f"{self.directory}:{self.directory}", f"{tools.gateway_binary()}:/dockline:ro", f"{docker.socket}:/docker.sock"]
        command = f"exec /dockline serve --config {self.config} 2>{self.log}"
        self.id = docker.api.create_container(
            IMAGE, ["sh", "-c", command], name="router", host_config=docker.api.create_host_config(binds=binds),
        )["Id"]  # fmt: skip
        docker.api.start(self.id)
        poll(lambda: self.log.exists() and "info  ready" in self.log.read_text(), lambda: tail(self.log), seconds=60)

    def connect(self, timeout=10):
        made = make_socket(self.docker.lab.host, 1, (self.docker.address("router"), self.port), connect=True)
        made.settimeout(timeout)
        return made

    def stop(self):
        self.docker.remove("router")
        log = self.log.read_text()
        assert "panicked" not in log, log


@pytest.fixture
def apart(router_docker):
    """A network of containers that the router is not in."""
    api = router_docker.api
    network = api.create_network("apart", driver="bridge")["Id"]
    yield "apart"
    for container in api.inspect_network(network)["Containers"]:
        api.disconnect_container_from_network(container, network, force=True)
    api.remove_network(network)


@pytest.fixture
def web(router_docker, apart):
    """Starts a container in a network."""
    started = []

    def start(name, network="bridge"):
        started.append(name)
        router_docker.run_web(name, env={"DPROXY_FORWARD_NAME": name}, network_mode=network)
        return name

    yield start
    for name in started:
        router_docker.remove(name)


def test_a_network_that_the_router_is_connected_to_later_is_reached(router_docker, web, apart, tmp_path):
    near, far = web("near"), web("far", apart)
    router = ContainedRouter(router_docker, tmp_path / "router")
    failed, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                answer = router.name(near)
            except (OSError, http.client.HTTPException) as error:
                answer = error
            if answer != (200, near):
                failed.append(answer)

    try:
        assert router.name(near) == (200, near)
        assert "it is in `apart`, and the gateway is not: `docker network connect" in router.unrouted()[far]
        asking = threading.Thread(target=ask)
        asking.start()
        router_docker.api.connect_container_to_network("router", apart)
        router.reaches(far)
        assert not router.unrouted()
        router_docker.api.disconnect_container_from_network("router", apart)
        poll(lambda: far in router.unrouted(), router.text)
        assert router.name(far)[0] == 503
        stop.set()
        asking.join()
        assert not failed, failed[:3]
    finally:
        stop.set()
        router.stop()


def test_behind_a_socket_proxy_it_is_in_its_networks_all_the_same(router_docker, web, apart, tmp_path):
    """The address of the proxy is not one of this machine, as in a compose project."""
    near, far = web("near"), web("far", apart)
    proxy = SocketProxy(router_docker.lab.host, tmp_path / "proxy", router_docker, "EVENTS", "CONTAINERS", address=GATEWAY)
    try:
        router = ContainedRouter(router_docker, tmp_path / "router", proxy.url)
        try:
            assert router.name(near) == (200, near)
            assert "the gateway is not" in router.unrouted()[far]
            router_docker.api.connect_container_to_network("router", apart)
            router.reaches(far)
        finally:
            router.stop()
    finally:
        proxy.stop()
