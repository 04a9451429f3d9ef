"""Certificates for the suite, made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A certificate, its key, and the CA that a peer is checked against."""

    ca: Path
    cert: Path
    key: Path


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, directory, name):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.key = self.directory / "ca-key.pem"
        self.cert = self.directory / "ca.pem"
        _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", self.key)
        _openssl("req", "-x509", "-new", "-key", self.key, "-subj", f"/CN={name}", "-days", "30", "-out", self.cert)

    def issue(self, name, usage, trusts=None, names=()):
        """A `server` or `client` certificate; the peer is checked against `trusts` (this CA by default).

        `names` are alternative names such as `DNS:worker`; without them a server is for this machine.
        """
        key = self.directory / f"{name}-key.pem"
        cert = self.directory / f"{name}.pem"
        request = self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        lines = [f"extendedKeyUsage={usage}Auth", "basicConstraints=CA:FALSE"]
        names = names or (("DNS:localhost", "IP:127.0.0.1") if usage == "server" else ())
        if names:
            lines.append(f"subjectAltName={','.join(names)}")
        extensions.write_text("\n".join(lines) + "\n")
        _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
        _openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
            "-days", "30", "-extfile", extensions, "-out", cert,
        )  # fmt: skip
        return Identity(ca=(trusts or self).cert, cert=cert, key=key)


def _openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]} failed: {done.stderr}")


@dataclass(frozen=True)
class Certificates:
    """Front: what docker clients and nginx show each other. Back: what nginx and the daemon show each other."""

    front_server: Identity
    front_client: Identity
    back_server: Identity
    back_client: Identity

    @classmethod
    def make(cls, directory):
        front = Authority(Path(directory) / "front", "front ca")
        back = Authority(Path(directory) / "back", "back ca")
        return cls(
            front_server=front.issue("server", "server"),
            front_client=front.issue("client", "client"),
            back_server=back.issue("server", "server"),
            back_client=back.issue("client", "client"),
        )
