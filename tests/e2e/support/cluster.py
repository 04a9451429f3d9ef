"""Several hosts, each a network namespace with a dockerd of its own, and a client outside."""

import contextlib
import http.client
import subprocess
from pathlib import Path

from .daemon import IMAGE, Daemon
from .gateway import Gateway
from .lab import TCP, ip
from .ports import make_socket
from .proc import Service, has_ended, poll

DOMAIN = "apps.test"
CLIENT = "192.0.2.2"
#: Where the daemon of each host listens, with client certificates, and its gateway.
DAEMON_PORT, GATEWAY_PORT = 2376, 80
#: Serves one page, which says who serves it.
SERVE = "mkdir -p /www && echo {page} >/www/index.html && exec httpd -f -p {port} -h /www"


class Host:
    """One machine of a cluster."""

    def __init__(self, cluster, number):
        self.name = f"host{number}"
        self.address = f"192.0.2.{10 + number}"
        self.subnet = f"172.31.{200 + number}.1/24"
        self.namespace = cluster.add(self.name, self.address)
        self.directory = cluster.directory / self.name
        self.directory.mkdir()
        self.is_swarm = cluster.is_swarm
        self.gateways = 0
        self.daemon = HostDaemon(self, cluster.identity)

    def has(self, name):
        """Whether there is a container of this name."""
        return bool(self.daemon.api.containers(all=True, filters={"name": f"^/{name}$"}))

    def web(self, name):
        """A container that is to be reached by its name. Its page is `NAME HOST`."""
        api = self.daemon.api
        command = ["sh", "-c", SERVE.format(page=f"{name} {self.name}", port=80)]
        # init: the first process of a container ignores SIGTERM.
        api.create_container(
            IMAGE, command, name=name, ports=[80], environment={"DPROXY_FORWARD_NAME": name},
            host_config=api.create_host_config(init=True), stop_signal="SIGKILL",
        )  # fmt: skip
        api.start(name)

    def gateway(self, config, admin=None):
        """`dockline serve` on the host, with a router of these keys that clients outside reach at GATEWAY_PORT."""
        listen = f'[[listen]]\naddress = "tcp://0.0.0.0:{GATEWAY_PORT}"\nrouter = true\n'
        table = f'[router]\ndomains = ["{DOMAIN}"]\nnode = "{self.name}"\n{config}\n'
        # Each has a log of its own, so that what an earlier one has said is not taken for its words.
        self.gateways += 1
        directory = self.directory / f"gateway{self.gateways}"
        return Gateway(directory, {}, lambda _: table + listen, self.wrapper, admin=admin)

    @property
    def wrapper(self):
        """Runs a command on the host."""
        return ["nsenter", f"--net={self.namespace}"]


class HostDaemon(Daemon):
    """A dockerd on a host of a cluster, with a bridge and rules of its own."""

    def __init__(self, host, identity):
        self.host = host
        super().__init__(host.directory, identity)
        self.import_image()

    def _argv(self, identity):
        left_out = ("--bridge=none", "--iptables=false", "--ip-masq=false")
        words = [str(word) for word in super()._argv(identity) if word not in left_out]
        words[words.index(f"tcp://127.0.0.1:{self.tls_port}")] = f"tcp://{self.host.address}:{DAEMON_PORT}"
        words += [f"--bip={self.host.subnet}", "--userland-proxy=false"]
        if not self.host.is_swarm:
            return [*self.host.wrapper, *words, "--live-restore"]
        # A swarm refuses --live-restore, and its nodes are called by their host names.
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.host.name]
        return [*self.host.wrapper, *named, *words]

    def kill(self):
        """Ends the daemon by SIGKILL. Its containers go on."""
        containerd = self.directory / "exec/containerd/containerd.pid"
        pid = int(containerd.read_text())
        self.service.process.kill()
        self.service.process.wait()
        # It ends with the daemon. The next one would take a process that nobody has waited for as one that runs.
        poll(lambda: has_ended(pid), "containerd has ended")
        for file in (containerd, self.directory / "pid"):
            file.unlink()

    def start(self):
        """Starts it again, after kill."""
        self.service = Service(self.service.argv, self.log)
        self.service.wait_ready(self._answers)


class Cluster:
    """The namespaces `NAME-lan`, `NAME-client`, and one for each host.

    With `is_swarm` the daemons can be nodes of a swarm; to make it is left to the test.
    """

    def __init__(self, name, directory, identity, hosts, is_swarm=False):
        self.is_swarm = is_swarm
        self.name, self.directory, self.identity = name, Path(directory), identity
        self.directory.mkdir(parents=True, exist_ok=True)
        self.made, self.hosts = [], []
        self._namespace("lan")
        ip(f"-n {name}-lan link add br0 type bridge")
        ip(f"-n {name}-lan link set br0 up")
        try:
            self.client = self.add("client", CLIENT)
            for number in range(1, hosts + 1):
                self.hosts.append(Host(self, number))
        except BaseException:
            self.close()
            raise

    def _namespace(self, role):
        ip(f"netns add {self.name}-{role}")
        self.made.append(f"{self.name}-{role}")
        ip(f"-n {self.name}-{role} link set lo up")
        return Path("/run/netns") / f"{self.name}-{role}"

    def add(self, role, address):
        """A machine on the network."""
        namespace = self._namespace(role)
        ip(f"link add {role} netns {self.name}-lan type veth peer name eth0 netns {self.name}-{role}")
        ip(f"-n {self.name}-lan link set {role} master br0 up")
        ip(f"-n {self.name}-{role} addr add {address}/24 dev eth0")
        ip(f"-n {self.name}-{role} link set eth0 up")
        return namespace

    def get(self, address, name, port=GATEWAY_PORT):
        """Requests the page of a name from outside. Returns status and body."""
        connection = http.client.HTTPConnection(address)
        connection.sock = make_socket(self.client, TCP, (address, port), connect=True)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Host": f"{name}.{DOMAIN}"})
            response = connection.getresponse()
            return response.status, response.read().decode().strip()

    def close(self):
        for host in self.hosts:
            host.daemon.stop()
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name])
