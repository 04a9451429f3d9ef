"""A real swarm of two nodes, and a router that knows its services by the manager on the first.

The router is in a container that is attached to the overlay network of the services; another one is on the host, and
reaches published ports. Clients outside request the names while services are scaled, updated and removed.
"""

import contextlib
import http.client
import json
import os
import threading
from collections import Counter

import docker
import pytest

from support import proc, tools
from support.cluster import DOMAIN, Cluster
from support.daemon import IMAGE
from support.endpoints import Endpoint
from support.gateway import text
from support.proc import tail
from support.wire import Stream, request

SWARM_PORT = 2377
#: Where the router in the container is published on the first host.
OVERLAY_PORT = 8000
SECOND = 1_000_000_000
#: The page of a task: its name, node, slot, and the version of its service.
SERVE = 'mkdir -p /www && echo "$NAME $NODE $SLOT $VERSION" >/www/index.html && exec httpd -f -p 80 -h /www'


def poll(condition, what):
    """The agent of a swarm tells the manager what its tasks do with seconds of delay."""
    return proc.poll(condition, what, seconds=40)


class Swarm:
    """Two nodes, the first of which is the manager."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.manager, worker = cluster.hosts
        self.api = self.manager.daemon.api
        # A node that says nothing for three times as long is down.
        spec = self.api.create_swarm_spec(dispatcher_heartbeat_period=SECOND)
        own = self._address(self.manager)
        self.api.init_swarm(advertise_addr=self.manager.address, listen_addr=own, swarm_spec=spec)
        token = self.api.inspect_swarm()["JoinTokens"]["Worker"]
        worker.daemon.api.join_swarm(
            [own], token, advertise_addr=worker.address, listen_addr=self._address(worker)
        )  # fmt: skip
        self.api.create_network("front", driver="overlay", attachable=True)

    @staticmethod
    def _address(host):
        return f"{host.address}:{SWARM_PORT}"

    def _parts(self, name, replicas, version, ports):
        types = docker.types
        environment = [
            f"DPROXY_FORWARD_NAME={name}", f"NAME={name}", f"VERSION={version}",
            "NODE={{.Node.Hostname}}", "SLOT={{.Task.Slot}}",
        ]  # fmt: skip
        container = types.ContainerSpec(
            IMAGE, command=["sh", "-c", SERVE], env=environment, init=True, stop_grace_period=SECOND
        )
        restart = types.RestartPolicy(condition="any", delay=SECOND)
        return {
            "task_template": types.TaskTemplate(container, networks=[{"Target": "front"}], restart_policy=restart),
            "name": name,
            "labels": {"dockline.port": "80"},
            "mode": types.ServiceMode("replicated", replicas),
            "update_config": types.UpdateConfig(parallelism=1, order="start-first", monitor=SECOND),
            "endpoint_spec": types.EndpointSpec(ports=ports) if ports else None,
        }

    def create(self, name, replicas=2, version=1, ports=None):
        self.api.create_service(**self._parts(name, replicas, version, ports))

    def update(self, name, replicas=2, version=1, ports=None):
        index = self.api.inspect_service(name)["Version"]["Index"]
        self.api.update_service(name, index, **self._parts(name, replicas, version, ports))

    def set_availability(self, host, availability):
        node = next(node for node in self.api.nodes() if node["Description"]["Hostname"] == host.name)
        spec = {**node["Spec"], "Availability": availability}
        self.api.update_node(node["ID"], node["Version"]["Index"], spec)

    def close(self):
        """Removes the services, and waits until their containers are gone: nobody else can remove those meanwhile."""
        for service in self.api.services():
            self.api.remove_service(service["ID"])
        tasks = {"label": "com.docker.swarm.task.id"}
        for host in self.cluster.hosts:
            api = host.daemon.api
            poll(lambda api=api: not api.containers(all=True, filters=tasks), f"no tasks on {host.name}")


@pytest.fixture(scope="module")
def swarm(workspace, certificates):
    cluster = Cluster(f"sw{os.getpid()}", workspace / "swarm", certificates.back_server, hosts=2, is_swarm=True)
    try:
        swarm = Swarm(cluster)
        swarm.create("shop")
        swarm.create("open", ports={8080: (80, "tcp", "host")})
        yield swarm
        swarm.close()
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def on_host(swarm):
    """The router on the host of the manager."""
    daemon = f"{{ address = {text(swarm.manager.daemon.url)}, swarm = true }}"
    gateway = swarm.manager.gateway(f"docker = [{daemon}]")
    try:
        yield gateway
    finally:
        gateway.stop()
        assert not gateway.errors()


@pytest.fixture(scope="module")
def router(swarm):
    """The router in a container of the overlay network; it has the libraries of this machine."""
    host, api = swarm.manager, swarm.api
    config = host.directory / "router.toml"
    config.write_text(
        f'[router]\ndomains = ["{DOMAIN}"]\n'
        'docker = [{ address = "unix:///run/docker.sock", swarm = true }]\n'
        '[[listen]]\naddress = "tcp://0.0.0.0:80"\nrouter = true\n'
    )
    binds = [
        f"{tools.gateway_binary()}:/dockline:ro", f"{config}:/dockline.toml:ro",
        f"{host.daemon.socket}:/run/docker.sock", "/lib:/lib:ro", "/lib64:/lib64:ro",
    ]  # fmt: skip
    api.create_container(
        IMAGE, ["/dockline", "serve", "--config", "/dockline.toml"], name="router", ports=[80],
        host_config=api.create_host_config(binds=binds, port_bindings={80: OVERLAY_PORT}, init=True),
        networking_config=api.create_networking_config({"front": api.create_endpoint_config()}),
    )  # fmt: skip
    api.start("router")

    def log():
        return api.logs("router").decode()

    try:
        poll(lambda: "ready" in log(), log)
        yield log
    finally:
        host.daemon.remove("router")


@pytest.fixture(scope="module")
def front(swarm, router):
    """Returns the status and page of a name, at the router in the container."""
    return lambda name: swarm.cluster.get(swarm.manager.address, name, OVERLAY_PORT)


def pages(get, name, number=12):
    """Returns what a few requests get."""
    return {get(name) for _ in range(number)}


@contextlib.contextmanager
def load(get, name):
    """Requests a page again and again meanwhile. Yields how many got which status."""
    counts, ends = Counter(), threading.Event()

    def run():
        while not ends.wait(0.01):
            try:
                status, body = get(name)
            except (OSError, http.client.HTTPException) as error:
                status, body = repr(error), ""
            counts[status if status != 200 or body.split()[0] == name else body] += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield counts
    finally:
        ends.set()
        thread.join()


BOTH = {"host1", "host2"}


def nodes_of(answers):
    return {body.split()[1] for status, body in answers if status == 200}


def test_the_replicas_of_both_nodes_share_a_name(router, front):
    poll(lambda: nodes_of(pages(front, "shop")) == BOTH, lambda: f"{pages(front, 'shop')} {router()}")
    assert len(pages(front, "shop")) == 2
    assert front("black")[0] == 404


def test_a_router_on_the_host_reaches_published_ports_and_says_what_is_not_shared(swarm, on_host):
    def get(name):
        return swarm.cluster.get(swarm.manager.address, name)

    poll(lambda: nodes_of(pages(get, "open")) == BOTH, lambda: f"{pages(get, 'open')} {tail(on_host.error_log)}")
    with Stream.connect(Endpoint("admin", f"unix://{on_host.admin}")) as stream:
        head, body = stream.ask(request("GET", "/routes.json"))
    assert head.status == 200, head.raw
    told = json.loads(body)
    # The container of each task is not there a second time.
    assert sorted((target["node"], target["address"]) for target in told["routes"][0]["targets"]) == [
        ("swarm", "192.0.2.11:8080"), ("swarm", "192.0.2.12:8080"),
    ]  # fmt: skip
    (reason,) = [one["reason"] for one in told["unrouted"]]
    assert "`front` is an overlay network, which only containers reach" in reason


def test_a_service_is_scaled_and_its_name_stays_known(swarm, front):
    swarm.update("shop", replicas=3)
    poll(lambda: len(pages(front, "shop")) == 3, lambda: f"{pages(front, 'shop')}")
    swarm.update("shop", replicas=0)
    poll(lambda: front("shop")[0] == 503, lambda: f"{front('shop')}")
    swarm.update("shop", replicas=2)
    poll(lambda: len(nodes_of(pages(front, "shop"))) == 2, lambda: f"{pages(front, 'shop')}")


def test_an_update_fails_no_request(swarm, front):
    with load(front, "shop") as counts:
        swarm.update("shop", version=2)

        def versions():
            return {body.split()[-1] for status, body in pages(front, "shop") if status == 200}

        poll(lambda: versions() == {"2"}, lambda: f"{versions()}")
        poll(lambda: swarm.api.inspect_service("shop")["UpdateStatus"]["State"] == "completed", "it is updated")
    assert set(counts) == {200} and counts[200] > 20, counts


def test_the_tasks_of_a_node_that_is_drained_move(swarm, front):
    worker = swarm.cluster.hosts[1]
    with load(front, "shop") as counts:
        swarm.set_availability(worker, "drain")
        poll(
            lambda: nodes_of(pages(front, "shop")) == {"host1"} and len(pages(front, "shop")) == 2,
            lambda: f"{pages(front, 'shop')}",
        )
    assert 404 not in counts, counts


def test_a_node_that_is_down_takes_its_tasks_with_it(swarm, front):
    worker = swarm.cluster.hosts[1]
    swarm.set_availability(worker, "active")
    swarm.create("two")
    poll(lambda: nodes_of(pages(front, "two")) == BOTH, lambda: f"{pages(front, 'two')}")
    worker.daemon.kill()
    with load(front, "two") as counts:
        poll(
            lambda: nodes_of(pages(front, "two")) == {"host1"} and len(pages(front, "two")) == 2,
            lambda: f"{pages(front, 'two')}",
        )
    assert set(counts) == {200}, counts
    worker.daemon.start()


def test_a_service_that_is_removed_is_503(swarm, front):
    with load(front, "shop") as counts:
        swarm.api.remove_service("shop")
        poll(lambda: front("shop")[0] == 503, lambda: f"{front('shop')}")
    assert 404 not in counts, counts
    assert front("black")[0] == 404
