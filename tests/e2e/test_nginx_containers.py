"""The containers of a real dockerd behind nginx: `dockline discover` writes the file, nginx looks requests up in it."""

import contextlib
import http.client
import os
import re

import pytest

from support import tools
from support.cluster import DOMAIN, GATEWAY_PORT, Cluster
from support.daemon import IMAGE
from support.lab import TCP
from support.nginx import Nginx
from support.ports import make_socket
from support.proc import Service, poll, tail

pytestmark = pytest.mark.skipif(tools.stock(), reason="the directives are the module's")

#: Serves its own name at its root. The server may end while the container goes on.
SERVE = "mkdir -p /www && echo $NAME >/www/index.html && { httpd -f -p 80 -h /www & exec sleep 1000000; }"


class HostNginx(Nginx):
    """nginx on a host of a cluster, with the second server block of nginx-module/README.md."""

    def __init__(self, host, routes):
        self.host = host
        blocks = re.findall(r"```nginx\n(.*?)```", (tools.ROOT / "nginx-module/README.md").read_text(), re.DOTALL)
        (block,) = [block for block in blocks if "dockline_targets" in block]
        block = block.replace("*.apps.example.com", f"*.{DOMAIN}").replace("/run/dockline/routes", str(routes))
        tried = "add_header X-Tried $upstream_addr always;"
        http = block.replace("listen 80;", f"listen {host.address}:{GATEWAY_PORT}; {tried}")
        super().__init__(host.directory / "nginx", (), lambda _: http)

    def _argv(self):
        return ["nsenter", f"--net={self.host.namespace}", *super()._argv()]


class Site:
    def __init__(self, cluster):
        self.cluster, (self.host,) = cluster, cluster.hosts
        routes = self.host.directory / "routes"
        self.log = self.host.directory / "discover.log"
        argv = ["nsenter", f"--net={self.host.namespace}", tools.gateway_binary(), "discover", "--snapshot", routes]
        argv += ["--domain", DOMAIN, "--docker", self.host.daemon.url]
        self.discover = Service(argv, self.log, env={"PATH": os.environ["PATH"]})
        self.nginx = HostNginx(self.host, routes)

    def run(self, container, **labels):
        api = self.host.daemon.api
        api.create_container(
            IMAGE, ["sh", "-c", SERVE], name=container, ports=[80], environment={"NAME": container}, stop_signal="SIGKILL",
            labels={f"dockline.{name}": value for name, value in labels.items()}, host_config=api.create_host_config(init=True),
        )  # fmt: skip
        api.start(container)

    def refuse(self, container):
        """Ends the server in a container."""
        api = self.host.daemon.api
        api.exec_start(api.exec_create(container, ["killall", "httpd"])["Id"])

    def address(self, container):
        found = self.host.daemon.api.inspect_container(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        return f"{found}:80"

    def ask(self, name, path="/"):
        """Status, body, and headers of the answer for a name, as a client outside gets it."""
        connection = http.client.HTTPConnection(self.host.address)
        connection.sock = make_socket(self.cluster.client, TCP, (self.host.address, GATEWAY_PORT), connect=True)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": f"{name}.{DOMAIN}"})
            response = connection.getresponse()
            return response.status, response.read().decode().strip(), response.headers

    def waits_for(self, name, status, body=None, path="/"):
        """Waits until a name is answered as it should be."""

        def told():
            return f"{self.ask(name, path)[:2]}\n{tail(self.log)}\n{tail(self.nginx.error_log)}"

        def is_there():
            found = self.ask(name, path)
            return found[0] == status and body in (None, found[1])

        poll(is_there, told)

    def stop(self):
        self.nginx.stop()
        self.discover.stop()


@pytest.fixture(scope="module")
def cluster(workspace, certificates):
    cluster = Cluster(f"nc{os.getpid()}", workspace / "nginx-containers", certificates.back_server, hosts=1)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def site(cluster):
    # Workers of nginx that are not root have to get at the file.
    for directory in (cluster.directory, *cluster.directory.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o055)
    site = Site(cluster)
    try:
        yield site
    finally:
        site.stop()
        for container in site.host.daemon.api.containers(all=True):
            site.host.daemon.remove(container["Id"])


def test_a_name_follows_its_container(site):
    site.run("web", name="web")
    site.waits_for("web", 200, "web")
    assert site.ask("other")[0] == 404
    site.host.daemon.api.stop("web")
    site.waits_for("web", 503)
    assert site.ask("web")[2]["Retry-After"] == "2"
    site.host.daemon.api.start("web")
    site.waits_for("web", 200, "web")


def test_a_replica_that_refuses_connections_is_passed_over(site):
    for replica in ("one", "two"):
        site.run(replica, name="web", service="web")
        site.waits_for("web", 200, replica)
    site.refuse("one")
    one, two = site.address("one"), site.address("two")
    poll(lambda: site.ask("web")[2]["X-Tried"] == f"{one}, {two}", "the second is tried after the first")
    assert {site.ask("web")[:2] for _ in range(10)} == {(200, "two")}
    site.refuse("two")
    poll(lambda: site.ask("web")[0] == 502, "both refuse")


def test_the_prefix_is_removed_where_a_label_says_so(site):
    site.run("plain", name="web")
    site.run("shop", name="web", path="/shop", strip="true")
    site.run("kept", name="web", path="/kept")
    for path in ("/shop", "/shop/", "/shop/index.html?x"):
        site.waits_for("web", 200, "shop", path)
    assert site.ask("web", "/shop/none")[0] == 404
    poll(lambda: site.ask("web", "/kept/")[2]["X-Tried"] == site.address("kept"), "the other one is reached")
    assert site.ask("web", "/kept/")[0] == 404
    assert site.ask("web")[:2] == (200, "plain")
