"""Certificates of `dockline cert`: dockerd, the docker command line, openssl and the gateway take them."""

import os
import subprocess

import pytest

from support import tools
from support.certs import Identity
from support.daemon import Daemon
from support.gateway import Gateway, text, upstream


class Authority:
    """An authority that `dockline cert` has made."""

    def __init__(self, directory):
        self.directory = directory
        self.ca = directory / "ca"
        self.run("init", "--name", "our authority")
        self.server = self.issue("server", "localhost", "127.0.0.1")
        self.clients = {name: self.issue("client", name, f"dockline://team/{name}") for name in ("alice", "bob")}

    def run(self, command, *words):
        """The output of a command that succeeds."""
        argv = [tools.gateway_binary(), "cert", command, *words, "--ca-dir", self.ca]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def issue(self, kind, *names):
        """The directory of a certificate with its key."""
        out = self.directory / names[0]
        self.run("issue", kind, *names, "--out", out)
        return out

    def identity(self):
        """The server's, with the authority of its clients."""
        return Identity(ca=self.ca / "ca.pem", cert=self.server / "server.pem", key=self.server / "server-key.pem")

    def docker(self, name, port):
        """What `docker version` says as somebody: its status, and both streams."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        names = {"DOCKER_HOST": f"tcp://localhost:{port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(self.clients[name])}
        argv = [tools.DEBIAN_DOCKER, "--config", self.directory / "docker", "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**kept, **names})
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def authority(workspace):
    directory = workspace / "cert"
    directory.mkdir()
    return Authority(directory)


def test_dockerd_and_the_docker_command_line_take_them(authority, workspace):
    directory = workspace / "cert-dockerd"
    directory.mkdir()
    daemon = Daemon(directory, authority.identity())
    try:
        status, said = authority.docker("alice", daemon.tls_port)
        assert status == 0 and said.strip() == daemon.api.version()["Version"], said
    finally:
        daemon.stop()


def test_openssl_verifies_them(authority):
    for path, purpose in ((authority.server / "server.pem", "sslserver"), (authority.clients["bob"] / "cert.pem", "sslclient")):
        argv = [
            "openssl", "verify", "-x509_strict", "-purpose", purpose, "-crl_check", "-CAfile", authority.ca / "ca.pem",
            "-CRLfile", authority.ca / "crl.pem", path,
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_gateway_refuses_one_that_was_revoked_after_a_reload(authority, daemon, workspace):
    identity, crl = authority.identity(), authority.ca / "crl.pem"

    def config(at):
        tls = f"cert = {text(identity.cert)}, key = {text(identity.key)}, client_ca = {text(identity.ca)}, crl = {text(crl)}"
        return f"[[listen]]\naddress = {text(at['tls'])}\ntls = {{ {tls} }}\n" + upstream("docker", daemon.url)

    gateway = Gateway(workspace / "cert-gateway", {"tls": "tls"}, config)
    port = gateway.addresses["tls"].rpartition(":")[2]
    try:
        assert [authority.docker(name, port)[0] for name in ("alice", "bob")] == [0, 0]
        said = authority.run("revoke", "alice")
        assert "revoked" in said
        assert "reloaded" in gateway.reload()
        status, said = authority.docker("alice", port)
        assert status != 0 and "revoked certificate" in said, said
        assert authority.docker("bob", port)[0] == 0
    finally:
        gateway.stop()
    assert not gateway.errors()
