"""The ways in which the front door of a cluster learns of the containers of the other hosts."""

import contextlib
import os

from . import tools
from .certs import Authority
from .cluster import DAEMON_PORT, GATEWAY_PORT
from .gateway import files, text
from .proc import Service, tail

FRONT_DOOR_PORT, REDIS_PORT = 2378, 6379


class Arrangement:
    """Each host has a gateway for its own containers; that of the first one is the front door."""

    #: Whether the front door is told that the daemon of another host is gone.
    tells_stale = True

    def __init__(self, cluster, certificates):
        self.cluster, self.certificates = cluster, certificates
        self.first, *self.others = cluster.hosts

    def prepare(self):
        """Starts what the gateways need."""

    def gateways(self):
        """Starts the gateway of each host. The keys of each come from `front` and `other`."""
        started = [host.gateway(self.other(host)) for host in self.others]
        return [self.first.gateway(self.front()), *started]

    def other(self, host):
        return f"docker = [{text(host.daemon.url)}]"

    def close(self):
        """Ends it."""


class Watching(Arrangement):
    """The front door watches all daemons."""

    def front(self):
        tls = f'{files(self.certificates.back_client, "ca")}, name = "localhost"'
        daemons = [text(self.first.daemon.url)]
        for host in self.others:
            address, gateway = f"tls://{host.address}:{DAEMON_PORT}", f"{host.address}:{GATEWAY_PORT}"
            daemons.append(
                f"{{ address = {text(address)}, node = {text(host.name)}, gateway = {text(gateway)}, tls = {{ {tls} }} }}"
            )
        return f"docker = [{', '.join(daemons)}]"


class Joining(Arrangement):
    """The other hosts push their routes to the front door."""

    def prepare(self):
        self.authority = Authority(self.cluster.directory / "nodes", "node ca")

    @property
    def address(self):
        return text(f"tls://{self.first.address}:{FRONT_DOOR_PORT}")

    def front(self):
        identity = self.authority.issue("front", "server", names=[f"IP:{self.first.address}"])
        door = f"front_door = {{ address = {self.address}, tls = {{ {files(identity, 'client_ca')} }} }}"
        return f"docker = [{text(self.first.daemon.url)}]\n{door}"

    def other(self, host):
        identity = self.authority.issue(host.name, "client", names=[f"DNS:{host.name}"])
        join = f"join = {{ address = {self.address}, tls = {{ {files(identity, 'ca')} }} }}"
        return f"{super().other(host)}\n{join}"


class Registry(Arrangement):
    """The other hosts write their routes to Redis, on the first one."""

    tells_stale = False

    def prepare(self):
        self.stack = contextlib.ExitStack()
        self.redis_log = self.cluster.directory / "redis.log"
        self.redis = self._redis()
        for host in self.others:
            log = host.directory / "discover.log"
            argv = [
                *host.wrapper, tools.gateway_binary(), "discover", "--redis", f"redis://{self.first.address}:{REDIS_PORT}",
                "--docker", host.daemon.url, "--node-name", host.name, "--node-address", host.address,
            ]  # fmt: skip
            kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKLINE_", "DOCKER_"))}
            service = Service(argv, log, env=kept)
            self.stack.callback(service.stop)

    def _redis(self):
        argv = [
            *self.first.wrapper, "redis-server", "--port", REDIS_PORT, "--bind", self.first.address, "--save", "",
            "--dir", self.cluster.directory, "--protected-mode", "no",
        ]  # fmt: skip
        service = Service(argv, self.redis_log)
        service.wait_ready(lambda: "Ready to accept connections" in tail(self.redis_log))
        return service

    def kill_redis(self):
        self.redis.process.kill()
        self.redis.process.wait()

    def start_redis(self):
        """Starts it again, empty."""
        self.redis_log.unlink()
        self.redis = self._redis()

    def front(self):
        redis = text(f"redis://{self.first.address}:{REDIS_PORT}")
        return f"docker = [{text(self.first.daemon.url)}]\nredis = {redis}"

    def close(self):
        self.stack.close()
        self.redis.stop()


ARRANGEMENTS = (Watching, Joining, Registry)
