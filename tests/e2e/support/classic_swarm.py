"""A manager of classic Swarm: it answers for several daemons, and says of each container which node it is on.

There is none to install any more. Everything but `Node` comes from the real daemons.
"""

import contextlib
import http.client
import json
import queue
import re
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

ONE = re.compile(r"/containers/[0-9a-f]{12,64}/json")


class DaemonConnection(http.client.HTTPConnection):
    """A connection to the Unix socket of a daemon."""

    def __init__(self, path):
        super().__init__("docker")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def get(path, target):
    """The status of an answer, and its JSON."""
    with contextlib.closing(DaemonConnection(path)) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


class ClassicManager:
    """Serves on a Unix socket for these hosts of a cluster."""

    def __init__(self, path, hosts):
        self.nodes = [(host.daemon.socket, {"Name": host.name, "IP": host.address}) for host in hosts]
        handler = type("Handler", (Handler,), {"manager": self})
        self.server = socketserver.ThreadingUnixStreamServer(str(path), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, target):
        """The status and JSON for a request."""
        found = []
        for path, node in self.nodes:
            status, answer = get(path, target)
            if status != 200:
                continue
            if isinstance(answer, dict):
                return status, {**answer, "Node": node}
            found += [{**entry, "Node": node} for entry in answer]
        return (404, {"message": "no such container"}) if ONE.search(target) else (200, found)

    def follow(self, target, events):
        """Puts the events of all daemons into a queue, one by one; `None` when one of them ends."""
        def relay(path):
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = DaemonConnection(path)
                connection.request("GET", target)
                for line in connection.getresponse():
                    events.put(line)
            events.put(None)

        for path, _ in self.nodes:
            threading.Thread(target=relay, args=(path,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if "/events" in self.path:
            return self._events()
        status, answer = self.manager.answer(self.path)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = queue.Queue()
        self.manager.follow(self.path, events)
        with contextlib.suppress(OSError):
            while line := events.get():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
