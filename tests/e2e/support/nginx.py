"""nginx under test: configuration, life cycle, logs and leak checks."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from . import tools
from .front import Front
from .proc import Service, children, free_port, poll, tail

ACCESS_FORMAT = """
    log_format dockline escape=json '{"request":"$request","uri":"$request_uri","status":$status,'
        '"bytes_sent":$bytes_sent,"request_time":$request_time,"upstream":"$upstream_addr",'
        '"tunnel":"$dockline_tunnel","up":"$dockline_bytes_up","down":"$dockline_bytes_down",'
        '"duration":"$dockline_duration","reason":"$dockline_close_reason"}';
    access_log access.log dockline;
"""

STOCK_MAP = """
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    access_log access.log;
"""

STOCK_LINES = """
            proxy_buffering off;
            proxy_request_buffering off;
            client_max_body_size 0;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
"""

FATAL_LEVELS = re.compile(r"\[(alert|emerg|crit)\]")


def switch():
    """The directive under test; the usual websocket lines when the suite runs against stock nginx."""
    return STOCK_LINES if tools.stock() else "dockline on;"


def tls_listener(port, identity, options=""):
    """Listen and certificate lines of a server that demands client certificates."""
    return f"""
        listen 127.0.0.1:{port} ssl{options};
        ssl_certificate {identity.cert};
        ssl_certificate_key {identity.key};
        ssl_client_certificate {identity.ca};
        ssl_verify_client on;
    """


def tls_upstream(identity):
    """Lines for an https upstream that demands a client certificate."""
    return f"""
            proxy_ssl_certificate {identity.cert};
            proxy_ssl_certificate_key {identity.key};
            proxy_ssl_trusted_certificate {identity.ca};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
    """


def full_config(http, main=""):
    """A whole nginx.conf around the content of `http {}`."""
    user = "user root;" if os.geteuid() == 0 else ""
    logging = STOCK_MAP if tools.stock() else ACCESS_FORMAT
    temp = "\n".join(
        f"    {name}_temp_path tmp_{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{tools.load_module_line()}
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log info;
{main}
events {{ worker_connections 1024; }}
http {{
{temp}
{logging}
{http}
}}
"""


class Nginx(Front):
    """One nginx. `http` is a function from a dictionary of free ports to the content of `http {}`."""

    name = "nginx"
    spare_pipe_ends = 2 * 16

    def __init__(self, directory, ports, http, main=""):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "nginx.conf"
        self.error_log = self.directory / "error.log"
        self.access_log = self.directory / "access.log"
        self._seen_errors = 0
        for attempt in range(3):
            self.ports = {name: free_port() for name in ports}
            self._http, self._main = http, main
            self.config.write_text(full_config(http(self.ports), main))
            self.service = Service(self._argv(), self.directory / "output.log")
            try:
                self.service.wait_ready(self._listening, seconds=20)
                break
            except AssertionError as error:
                self.service.stop()
                if attempt == 2 or "Address already in use" not in tail(self.error_log):
                    raise AssertionError(f"{error}\n{tail(self.error_log)}") from None

    def _argv(self):
        return [tools.nginx_binary(), "-p", f"{self.directory}/", "-c", self.config, "-e", self.error_log]

    def _listening(self):
        for port in self.ports.values():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
        return bool(self.workers())

    # life cycle

    def url(self, name):
        return f"tcp://127.0.0.1:{self.ports[name]}"

    def workers(self):
        return children(self.pid)

    def worker(self):
        """The only worker."""
        found = self.workers()
        assert len(found) == 1, f"{len(found)} workers: {found}"
        return found[0]

    def reload(self):
        """SIGHUP, then wait for the new worker. Returns (old pid, new pid)."""
        old = self.worker()
        self.service.send_signal(signal.SIGHUP)

        def newer():
            return [pid for pid in self.workers() if pid != old]

        new = poll(newer, lambda: f"a new worker starts:\n{tail(self.error_log)}")
        poll(lambda: f"worker process {old}" in tail(self.error_log, 200) or self._told_to_go(old), "the old worker hears of it")
        return old, new[0]

    def _told_to_go(self, pid):
        """An exiting worker has closed its listening sockets; its title says so."""
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return "shutting down" in title

    # logs

    def errors(self, level=FATAL_LEVELS):
        """Lines of the error log at the given levels."""
        if not self.error_log.exists():
            return []
        return [line for line in self.error_log.read_text(errors="replace").splitlines() if level.search(line)]


def check_config(directory, http, main=""):
    """Run `nginx -t` on a configuration; returns (exit code, output)."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "nginx.conf"
    config.write_text(full_config(http, main))
    argv = [tools.nginx_binary(), "-t", "-p", f"{directory}/", "-c", str(config), "-e", str(directory / "error.log")]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def docker_front(directory, daemon, certificates):
    """The nginx that the docker clients of the suite go through: three servers, one per kind of endpoint."""

    def http(ports):
        return f"""
    server {{
        listen 127.0.0.1:{ports["plain"]};
        location / {{
            {switch()}
            proxy_pass http://unix:{daemon.socket}:;
        }}
    }}
    server {{
        {tls_listener(ports["tls"], certificates.front_server)}
        location / {{
            {switch()}
            proxy_pass http://unix:{daemon.socket}:;
        }}
    }}
    server {{
        {tls_listener(ports["tls_both"], certificates.front_server)}
        location / {{
            {switch()}
            {tls_upstream(certificates.back_client)}
            proxy_pass https://127.0.0.1:{daemon.tls_port};
        }}
    }}
"""

    return Nginx(directory, ("plain", "tls", "tls_both"), http)


def fake_front(directory, fake, certificates):
    """nginx in front of the scripted daemon. plain: TCP to TCP. tls: TLS to a unix socket. tls_both: TLS to TLS.
    pool: a kept-alive upstream."""

    def http(ports):
        return f"""
    large_client_header_buffers 4 128k;
    upstream pool {{
        server unix:{fake.socket};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{ports["plain"]};
        location / {{ {switch()} proxy_pass http://127.0.0.1:{fake.tcp_port}; }}
    }}
    server {{
        {tls_listener(ports["tls"], certificates.front_server)}
        location / {{ {switch()} proxy_pass http://unix:{fake.socket}:; }}
    }}
    server {{
        {tls_listener(ports["tls_both"], certificates.front_server)}
        location / {{
            {switch()}
            {tls_upstream(certificates.back_client)}
            proxy_pass https://127.0.0.1:{fake.tls_port};
        }}
    }}
    server {{
        listen 127.0.0.1:{ports["pool"]};
        location / {{ {switch()} proxy_set_header Connection ""; proxy_pass http://pool; }}
    }}
"""

    return Nginx(directory, ("plain", "tls", "tls_both", "pool"), http)
