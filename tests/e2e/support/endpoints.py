"""The ways to reach a daemon: directly, and through each kind of listener of the proxy."""

from dataclasses import dataclass

from . import tools
from .certs import Identity

KINDS = {"nginx": ("plain", "tls", "tls_both"), "gateway": ("plain", "unix", "tls", "tls_both")}[tools.front()]


@dataclass(frozen=True)
class Endpoint:
    """Where a docker client connects to, and with which certificate."""

    name: str
    host: str
    identity: Identity | None = None

    @property
    def address(self):
        """For a socket: a path, or an (address, port) pair."""
        scheme, _, rest = self.host.partition("://")
        if scheme == "unix":
            return rest
        address, _, port = rest.rpartition(":")
        return (address, int(port))

    def docker_options(self):
        """Global options for the docker command."""
        words = ["-H", self.host]
        if self.identity:
            words += [
                "--tlsverify",
                "--tlscacert", str(self.identity.ca),
                "--tlscert", str(self.identity.cert),
                "--tlskey", str(self.identity.key),
            ]  # fmt: skip
        return words

    def docker_py_options(self):
        """Keyword arguments for docker.DockerClient."""
        import docker.tls

        if not self.identity:
            return {"base_url": self.host}
        tls = docker.tls.TLSConfig(
            client_cert=(str(self.identity.cert), str(self.identity.key)), ca_cert=str(self.identity.ca), verify=True
        )
        return {"base_url": self.host, "tls": tls}


def through(front, kind, certificates):
    """The endpoint of one kind in front of the daemon."""
    identity = certificates.front_client if kind.startswith("tls") else None
    return Endpoint(kind, front.url(kind), identity)
