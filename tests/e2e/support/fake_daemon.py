"""A scripted daemon, for behaviour that a real one does not show on demand."""

import select
import socket
import threading
import traceback
from pathlib import Path

from .wire import Stream, server_context

HIJACK_101 = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)
HIJACK_200 = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"


def answer(body=b"", status="200 OK", content_type="application/json", extra=""):
    """An ordinary response that leaves the connection open."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


class Connection:
    """One connection that the proxy made: its stream, the requests read from it, and how it went."""

    def __init__(self, stream, number):
        self.stream = stream
        self.number = number
        self.requests = []
        self.over = threading.Event()
        self.failure = None

    def read_request(self):
        """The next request: its head and its whole body. None when the proxy closes the connection."""
        if not self.stream.pending and not self.stream.more():
            return None
        head = self.stream.read_head()
        body = self.stream.read_body(head)
        self.requests.append((head, body))
        return head, body


class FakeDaemon:
    """Listens on a unix socket, on TCP and on TLS; every connection runs the present script in a thread.

    A script is a function of a Connection. What it raises is raised again by `check()`.
    """

    def __init__(self, directory, identity):
        self.socket = Path(directory) / "fake.sock"
        self._tls = server_context(identity)
        self._listeners = {}
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(self.socket))
        self._listeners[unix] = None
        self.tcp_port = self._listen_tcp(None)
        self.tls_port = self._listen_tcp(self._tls)
        for listener in self._listeners:
            listener.listen(64)
        self.script = None
        self.connections = []
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _listen_tcp(self, context):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self._listeners[listener] = context
        return listener.getsockname()[1]

    def serve(self, script):
        """Sets the script of new connections. Earlier requests are forgotten, and idle connections closed."""
        self.drop()
        self.connections = []
        self.script = script

    def drop(self):
        """Closes all connections, among them the idle ones of the proxy."""
        for connection in self.connections:
            try:
                connection.stream.sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed already
                pass

    def _accept(self):
        while not self._stopping:
            readable, _, _ = select.select(list(self._listeners), [], [], 0.2)
            for listener in readable:
                sock, _ = listener.accept()
                threading.Thread(target=self._run, args=(sock, self._listeners[listener]), daemon=True).start()

    def _run(self, sock, context):
        try:
            stream = Stream(sock, context)
        except (OSError, ConnectionError):
            sock.close()
            return
        connection = Connection(stream, len(self.connections))
        self.connections.append(connection)
        script = self.script
        try:
            script(connection)
        except Exception:
            connection.failure = traceback.format_exc()
        finally:
            stream.close()
            connection.over.set()

    def check(self, seconds=20):
        """Wait until all scripts have ended; a failed one fails the test."""
        for connection in list(self.connections):
            ended = connection.over.wait(seconds)
            assert ended, f"the script of connection {connection.number} still runs; requests: {connection.requests}"
            assert not connection.failure, f"in the fake daemon:\n{connection.failure}"

    def requests(self):
        """All requests so far, in order of connections."""
        return [request for connection in self.connections for request in connection.requests]

    def stop(self):
        self._stopping = True
        self._thread.join(5)
        for listener in self._listeners:
            listener.close()
