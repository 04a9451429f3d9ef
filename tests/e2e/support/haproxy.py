"""HAProxy in front of the socket of a daemon, which lets through what tecnativa/docker-socket-proxy does."""

import os
import re
import socket

from . import tools
from .ports import make_socket
from .proc import Service, tail

#: The variables of the image that let a part of the API through, with what its paths begin with.
SECTIONS = {
    "AUTH": "auth", "BUILD": "build", "COMMIT": "commit", "CONFIGS": "configs", "CONTAINERS": "containers",
    "DISTRIBUTION": "distribution", "EVENTS": "events", "EXEC": "exec", "GRPC": "grpc", "IMAGES": "images", "INFO": "info",
    "NETWORKS": "networks", "NODES": "nodes", "PING": "_ping", "PLUGINS": "plugins", "SECRETS": "secrets",
    "SERVICES": "services", "SESSION": "session", "SWARM": "swarm", "SYSTEM": "system", "TASKS": "tasks",
    "VERSION": "version", "VOLUMES": "volumes",
}  # fmt: skip
#: Those for single operations with a container.
OPERATIONS = {"ALLOW_START": "start", "ALLOW_STOP": "stop", "ALLOW_RESTARTS": "(stop|restart|kill)"}

CONFIG = """\
global
    log stdout len 16384 format raw local0 info
    tune.http.logurilen 8192
defaults
    mode http
    log global
    option httplog
    option http-server-close
    timeout http-request 10s
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10s
frontend docker
    bind fd@{fd}
    http-request deny unless METH_GET || {{ env(POST) -m bool }}
{rules}
    http-request deny
    default_backend daemon
    use_backend events if {{ path,url_dec -m reg -i ^(/v[0-9.]+)?/events }}
backend daemon
    server socket unix@{socket}
backend events
    server socket unix@{socket}
    timeout server {events_timeout}
"""

#: The end of a line of `option httplog`: status, bytes, cookies, how it ended, counts, and the request.
LINE = re.compile(r" (?P<status>-?\d+) \d+ - - (?P<end>\S{4}) \S+ \S+ \"(?P<method>\S+) (?P<target>\S+) HTTP")


class SocketProxy:
    """The proxy at an address in a network namespace. `allowed` are the image's variables that are 1; all others are 0."""

    def __init__(self, namespace, directory, daemon, *allowed, address="127.0.0.1", events_timeout="0"):
        directory.mkdir(parents=True)
        self.log = directory / "haproxy.log"
        listener = make_socket(namespace, socket.SOCK_STREAM, (address, 0))
        self.url = f"tcp://{address}:{listener.getsockname()[1]}"
        rule = "    http-request allow if {{ path,url_dec -m reg -i ^(/v[0-9.]+)?/{} }} {{ env({}) -m bool }}".format
        rules = [rule(f"containers/[a-zA-Z0-9_.-]+/{path}", name) for name, path in OPERATIONS.items()]
        rules += [rule(path, name) for name, path in SECTIONS.items()]
        config = directory / "haproxy.cfg"
        config.write_text(
            CONFIG.format(fd=listener.fileno(), rules="\n".join(rules), socket=daemon.socket, events_timeout=events_timeout)
        )
        names = [*SECTIONS, *OPERATIONS, "POST"]
        assert set(allowed) <= set(names)
        env = {"PATH": os.environ["PATH"], **{name: str(int(name in allowed)) for name in names}}
        argv = [tools.program("haproxy"), "-db", "-f", config]
        with listener:
            self.service = Service(argv, self.log, env=env, pass_fds=[listener.fileno()])

    def requests(self):
        """Status, how it ended, method and target of each request so far."""
        assert self.service.alive(), tail(self.log)
        return [match.groups() for match in LINE.finditer(self.log.read_text())]

    def stop(self):
        self.service.stop()
