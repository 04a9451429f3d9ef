"""A manager of classic Swarm in front of two daemons: its `Node` says where a container is, and how it is reached.

The router watches nothing but the manager, and is on the first host. Containers publish a port.
"""

import os

import pytest

from support.classic_swarm import ClassicManager
from support.cluster import SERVE, Cluster
from support.daemon import IMAGE
from support.gateway import text
from support.proc import poll, tail

PORT = 8080


@pytest.fixture(scope="module")
def cluster(workspace, certificates):
    cluster = Cluster(f"cs{os.getpid()}", workspace / "classic", certificates.back_server, hosts=2)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def gateway(cluster):
    socket = cluster.directory / "manager.sock"
    manager = ClassicManager(socket, cluster.hosts)
    gateway = cluster.hosts[0].gateway(f"docker = [{text(f'unix://{socket}')}]")
    try:
        yield gateway
    finally:
        gateway.stop()
        manager.close()
        assert not gateway.errors()


def start(host, name):
    """A container with a published port, whose page is `NAME HOST`."""
    api = host.daemon.api
    config = api.create_host_config(init=True, port_bindings={80: (host.address, PORT)})
    command = ["sh", "-c", SERVE.format(page=f"{name} {host.name}", port=80)]
    api.create_container(
        IMAGE, command, name=name, ports=[80], environment={"DPROXY_FORWARD_NAME": name}, host_config=config,
        stop_signal="SIGKILL",
    )  # fmt: skip
    api.start(name)


def test_containers_of_all_nodes_are_reached_and_followed(cluster, gateway):
    first, second = cluster.hosts

    def get(name):
        return cluster.get(first.address, name)

    def until(name, *wanted):
        poll(lambda: get(name)[: len(wanted)] == wanted, lambda: f"{name}: {get(name)}\n{tail(gateway.error_log)}")

    assert get("near")[0] == 404
    start(first, "near")
    start(second, "far")
    until("near", 200, "near host1")
    until("far", 200, "far host2")
    second.daemon.api.stop("far")
    until("far", 503)
    assert get("near") == (200, "near host1")
    second.daemon.api.start("far")
    until("far", 200, "far host2")
    # To the other host, under the same name.
    second.daemon.remove("far")
    until("far", 503)
    first.daemon.remove("near")
    start(first, "far")
    until("far", 200, "far host1")
