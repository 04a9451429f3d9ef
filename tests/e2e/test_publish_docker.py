"""`dockline publish` of containers of a real dockerd, which keeps its own rules of iptables on the host."""

import os
import signal

import pytest

from support import tools
from support.daemon import IMAGE, Daemon
from support.lab import BRIDGE, CLIENT, GATEWAY, OUTSIDE, TCP, UDP, Lab, Publications, ask, serve
from support.ports import make_socket
from support.proc import Service, poll


class LabDaemon(Daemon):
    """A dockerd on the host of a lab."""

    def __init__(self, lab, directory, identity):
        self.lab = lab
        super().__init__(directory, identity)
        self.import_image()

    def _argv(self, identity):
        left_out = ("--bridge=none", "--iptables=false", "--ip-masq=false")
        words = [word for word in super()._argv(identity) if word not in left_out]
        return ["nsenter", f"--net={self.lab.host}", *words, f"--bridge={BRIDGE}", "--userland-proxy=false"]

    def run_container(self, name, network_mode=None, **host):
        config = self.api.create_host_config(network_mode=network_mode, **host)
        ports = [tuple(port.split("/")) for port in host.get("port_bindings", {})]
        self.api.create_container(IMAGE, ["sleep", "1000000"], name=name, host_config=config, ports=ports)
        self.api.start(name)

    def namespace(self, name):
        return f"/proc/{self.api.inspect_container(name)['State']['Pid']}/ns/net"

    def address(self, name):
        return self.api.inspect_container(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

    def restart(self):
        self.service.send_signal(signal.SIGTERM)
        self.service.process.wait(60)
        self.service = Service(self.service.argv, self.log)
        self.service.wait_ready(self._answers, seconds=60)


@pytest.fixture(scope="module")
def lab():
    lab = Lab(f"dk{os.getpid()}")
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="module")
def docker(lab, workspace, certificates):
    directory = workspace / "publish-docker"
    directory.mkdir()
    daemon = LabDaemon(lab, directory, certificates.back_server)
    # As the daemon does if it enables forwarding itself.
    lab.run("iptables", "-P", "FORWARD", "DROP")
    try:
        daemon.run_container("other")
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
def web(docker):
    docker.run_container("web")
    serve(docker.namespace("web"), TCP, 80)
    serve(docker.namespace("web"), UDP, 80)
    yield "web"
    docker.remove("web")


@pytest.fixture
def dockline(lab, docker, web, tmp_path):
    publications = Publications(lab, tmp_path, docker.url)
    try:
        yield publications
    finally:
        publications.stop()
    assert "dockline" not in lab.rules().lower()
    assert not list((tmp_path / "state").glob("*"))


@pytest.mark.parametrize("proto", ["tcp", "udp"])
@pytest.mark.parametrize("way", [[], ["--dnat"]], ids=["relay", "dnat"])
def test_a_published_port_is_reached_from_everywhere(lab, docker, dockline, way, proto):
    kind = TCP if proto == "tcp" else UDP
    rules = lab.rules()
    service = dockline.start(*way, "--proto", proto, "web", "0.0.0.0:8080:80")
    # Docker's rules drop unknown packets; forwarded by the kernel, clients keep their address.
    assert ask(lab.client, kind, (OUTSIDE, 8080)) == (CLIENT if way else GATEWAY)
    for name in ("other", "web"):
        assert ask(docker.namespace(name), kind, (GATEWAY, 8080)) == GATEWAY
    for address in ("127.0.0.1", OUTSIDE, GATEWAY):
        assert ask(lab.host, kind, (address, 8080)) == GATEWAY
    service.stop()
    assert lab.rules() == rules


def test_rules_of_the_operator_are_effective_as_for_docker_ports(lab, docker, dockline):
    docker.run_container("db", port_bindings={"80/tcp": 18080})
    serve(docker.namespace("db"), TCP, 80)
    rule = f"DOCKER-USER -s {CLIENT} -j DROP".split()
    lab.run("iptables", "-I", *rule)
    try:
        rules = lab.rules()
        service = dockline.start("--dnat", "web", "0.0.0.0:8080:80")
        for port in (18080, 8080):
            assert lab.is_dropped(lab.client, TCP, (OUTSIDE, port), ["iptables-save", "-c", "-t", "filter"])
            lab.run("iptables", "-Z", "DOCKER-USER")
        assert ask(docker.namespace("other"), TCP, (OUTSIDE, 8080)) == GATEWAY
        service.stop()
        assert lab.rules() == rules
    finally:
        lab.run("iptables", "-D", *rule)
        docker.remove("db")


def move(docker, name):
    """Starts a container again after another one has taken its address. Returns the new one."""
    before = docker.address(name)
    docker.api.stop(name, timeout=0)
    docker.run_container("squatter")
    docker.api.start(name)
    now = docker.address(name)
    docker.remove("squatter")
    assert now != before
    return now


@pytest.mark.parametrize("way", [[], ["--dnat"]], ids=["relay", "dnat"])
def test_a_restart_with_another_address_is_followed(lab, docker, dockline, way):
    dockline.start(*way, "--proto", "tcp,udp", "web", "0.0.0.0:8080:80")
    talker = make_socket(lab.client, UDP, (OUTSIDE, 8080), connect=True)
    talker.send(b"hello")
    assert talker.recv(100).endswith(b"hello")
    now = move(docker, "web")
    for kind in (TCP, UDP):
        serve(docker.namespace("web"), kind, 80)
    poll(lambda: all(port["target"] == f"{now}:80" for port in dockline.ports()), "the new address is known")
    for kind in (TCP, UDP):
        ask(lab.client, kind, (OUTSIDE, 8080))
        ask(lab.host, kind, ("127.0.0.1", 8080))
    # The kernel tracked this flow to the old address.
    talker.send(b"and now?")
    assert talker.recv(100).endswith(b"and now?")
    talker.close()


def test_the_port_is_reserved_while_the_container_is_stopped(lab, docker, dockline):
    dockline.start("--dnat", "web", "0.0.0.0:8080:80")
    docker.api.stop("web", timeout=0)
    poll(lambda: all(port["target"] is None for port in dockline.ports()), "it is known to be stopped")
    assert "web:80 (stopped)" in dockline.command("ports").stdout
    assert "8080" not in lab.rules()
    with pytest.raises(OSError, match="in use"):
        make_socket(lab.host, TCP, ("0.0.0.0", 8080))
    with pytest.raises(ConnectionResetError), make_socket(lab.client, TCP, (OUTSIDE, 8080), connect=True) as client:
        client.recv(1)
    docker.api.start("web")
    serve(docker.namespace("web"), TCP, 80)
    poll(lambda: "PREROUTING -m comment --comment dockline-" in lab.rules(), "the rules are back")
    assert ask(lab.client, TCP, (OUTSIDE, 8080)) == CLIENT


def test_a_new_container_of_the_same_name_is_followed(lab, docker, dockline):
    dockline.start("web", "8080:80")
    docker.remove("web")
    poll(lambda: all(port["target"] is None for port in dockline.ports()), "it is known to be gone")
    docker.run_container("web")
    serve(docker.namespace("web"), TCP, 80)
    poll(lambda: all(port["target"] for port in dockline.ports()), "it is found")
    assert ask(lab.host, TCP, ("127.0.0.1", 8080)) == GATEWAY


def test_a_publication_survives_a_restart_of_the_daemon(lab, docker, dockline):
    service = dockline.start("--dnat", "web", "0.0.0.0:8080:80")
    docker.restart()
    log = service.log_path.read_text
    poll(lambda: "the Docker daemon can be reached again" in log(), log)
    docker.api.start("other")
    docker.api.start("web")
    serve(docker.namespace("web"), TCP, 80)
    poll(lambda: all(port["target"] == f"{docker.address('web')}:80" for port in dockline.ports()), "it is followed")
    assert ask(lab.client, TCP, (OUTSIDE, 8080)) == CLIENT


def test_ports_lists_those_of_docker_too(lab, docker, dockline):
    docker.run_container("db", port_bindings={"53/udp": ("127.0.0.1", 18053)})
    try:
        dockline.start("web", "127.0.0.1:8080:80")
        [port] = dockline.ports(by="docker")
        assert (port["container"], port["proto"], port["listen"], port["port"]) == ("db", "udp", "127.0.0.1:18053", 53)
        table = dockline.command("ports").stdout
        assert "db:53" in table and f"web ({docker.address('web')}:80)" in table
    finally:
        docker.remove("db")


def test_detach_and_unpublish_by_name(lab, docker, dockline):
    dockline.command("publish", "--detach", "web", "8080:80")
    assert ask(lab.host, TCP, ("127.0.0.1", 8080)) == GATEWAY
    dockline.command("unpublish", "web")
    assert dockline.ports() == []


def test_errors_explain_why_a_container_cannot_be_published(lab, docker, dockline):
    docker.api.create_network("second", driver="bridge")
    docker.run_container("hosted", network_mode="host")
    docker.run_container("alone", network_mode="none")
    docker.api.create_container(IMAGE, name="asleep")
    docker.api.connect_container_to_network("web", "second")
    try:
        for words, told in [
            (["nobody", "80"], "there is no container `nobody`"),
            (["wen", "80"], "did you mean `web`?"),
            (["hosted", "80"], "ports of the host already"),
            (["alone", "80"], "docker network connect"),
            (["asleep", "80"], "docker start asleep"),
            (["web", "80"], "choose one with --network: bridge, second"),
            (["--network", "secund", "web", "80"], "did you mean `second`?"),
        ]:
            refused = dockline.command("publish", *words, check=False)
            assert refused.returncode == 1 and told in refused.stderr, words
        dockline.start("--network", "bridge", "web", "8080:80")
        assert ask(lab.host, TCP, ("127.0.0.1", 8080)) == GATEWAY
    finally:
        dockline.stop()
        for name in ("hosted", "alone", "asleep", "web"):
            docker.remove(name)
        docker.api.remove_network("second")
