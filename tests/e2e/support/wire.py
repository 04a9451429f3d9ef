"""Byte streams, plain or TLS, with real half-close, and just enough HTTP to examine what was sent."""

import json
import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field

TIMEOUT = 15.0


class Stream:
    """A connected socket with deadlines. Under TLS it uses memory buffers: only then can it half-close."""

    def __init__(self, sock, tls=None):
        self.sock = sock
        self.sock.settimeout(TIMEOUT)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = bytearray()  # received, not yet asked for
        self.eof = False
        self.saw_close_notify = False
        self._tls = None
        if tls:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=tls.protocol == ssl.PROTOCOL_TLS_SERVER,
            )
            self._handshake()

    @classmethod
    def connect(cls, endpoint):
        """Connect to an endpoint of support.endpoints."""
        address = endpoint.address
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(TIMEOUT)
            sock.connect(address)
        else:
            sock = socket.create_connection(address, timeout=TIMEOUT)
        return cls(sock, client_context(endpoint.identity) if endpoint.identity else None)

    # TLS

    def _handshake(self):
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionError("the peer left during the TLS handshake") from None
                self._incoming.write(data)
        self._flush()
        self.pending += self._decrypt()  # data may have come along with the end of the handshake

    def _flush(self):
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())

    def _decrypt(self):
        """Everything that can be decrypted now."""
        plain = bytearray()
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
                self.saw_close_notify = True
            if not data:
                self.eof = True
                break
            plain += data
        self._flush()  # answers to a key update, for instance
        return plain

    # sending

    def send(self, data):
        """Send everything, within the time limit."""
        if self._tls:
            self._tls.write(data)
            self._flush()
        else:
            self.sock.sendall(data)

    def send_slowly(self, data, size=1, pause=0.0):
        """Send in small pieces, each a segment of its own as far as the kernel allows."""
        for at in range(0, len(data), size):
            self.send(data[at : at + size])
            if pause:
                time.sleep(pause)

    def half_close(self):
        """End the sending direction: close_notify under TLS, FIN otherwise."""
        if not self._tls:
            self.sock.shutdown(socket.SHUT_WR)
            return
        self.pending += self._decrypt() if self._incoming.pending else b""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # sent; the peer's own close_notify may take its time
        self._flush()

    def fin(self):
        """A bare TCP FIN, without close_notify."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Close with a TCP RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # receiving

    def more(self, timeout=TIMEOUT):
        """Receive something into `pending`. False at the end of the stream; resets raise."""
        if self.eof:
            return False
        self.sock.settimeout(timeout)
        try:
            before = len(self.pending)
            while len(self.pending) == before and not self.eof:
                data = self.sock.recv(262144)
                if not data:
                    self.eof = True
                elif self._tls:
                    self._incoming.write(data)
                    self.pending += self._decrypt()
                else:
                    self.pending += data
            return len(self.pending) > before
        finally:
            self.sock.settimeout(TIMEOUT)

    def quiet(self, seconds):
        """True when nothing at all, not even an end, comes for a while."""
        deadline = time.monotonic() + seconds
        while not self.pending and not self.eof:
            readable, _, _ = select.select([self.sock], [], [], max(0, deadline - time.monotonic()))
            if not readable:
                return True
            data = self.sock.recv(262144)
            if not self._tls or not data:
                self.pending += data
                self.eof = not data
            else:
                # Such as a session ticket, which carries no data.
                self._incoming.write(data)
                self.pending += self._decrypt()
        return False

    def take(self, size=None):
        """Remove bytes from what is pending; all of it by default."""
        size = len(self.pending) if size is None else size
        data = bytes(self.pending[:size])
        del self.pending[:size]
        return data

    def read_exactly(self, size):
        while len(self.pending) < size:
            if not self.more():
                raise ConnectionError(f"end of stream after {len(self.pending)} of {size} bytes: {bytes(self.pending[:200])!r}")
        return self.take(size)

    def read_until(self, mark):
        """Bytes up to and including a mark."""
        while (at := self.pending.find(mark)) < 0:
            if not self.more():
                raise ConnectionError(f"end of stream before {mark!r}: {bytes(self.pending[:200])!r}")
        return self.take(at + len(mark))

    def read_all(self):
        """Everything up to the end of the stream."""
        while self.more():
            pass
        return self.take()

    def exchange(self, data):
        """Send and receive at the same time; half-close when all is sent, return all that came."""
        view, at, outbox, ended = memoryview(data), 0, b"", False
        deadline = time.monotonic() + 2 * TIMEOUT
        while not (ended and self.eof):
            if time.monotonic() > deadline:
                raise TimeoutError(f"stuck: {at} of {len(data)} sent, {len(self.pending)} received")
            if not outbox and at < len(data):
                outbox = self._sealed(view[at : at + 65536])
                at += min(65536, len(data) - at)
            elif not outbox and not ended:
                self.half_close()
                ended = True
            readable, writable, _ = select.select(
                [] if self.eof else [self.sock], [self.sock] if outbox else [], [], 1
            )
            if readable:
                self.more()
            if writable:
                outbox = outbox[self._send_now(outbox) :]
        return self.take()

    def _sealed(self, piece):
        """What has to go through the socket for a piece of data."""
        if not self._tls:
            return piece
        self._tls.write(piece)
        return memoryview(self._outgoing.read())

    def _send_now(self, data):
        """Send as much as fits without waiting."""
        self.sock.setblocking(False)
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        finally:
            self.sock.settimeout(TIMEOUT)

    # HTTP

    def read_head(self):
        return Head.parse(self.read_until(b"\r\n\r\n"))

    def read_body(self, head):
        """The framed body of a message; to the end of the stream for an unframed response."""
        if head.chunked:
            body = bytearray()
            while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
                body += self.read_exactly(size)
                assert self.read_exactly(2) == b"\r\n"
            self.read_until(b"\r\n")
            return bytes(body)
        if "content-length" in head:
            return self.read_exactly(int(head["content-length"]))
        if head.is_request or head.status in (204, 304) or 100 <= head.status < 200:
            return b""
        return self.read_all()

    def read_response(self):
        """A response head and its body."""
        head = self.read_head()
        return head, self.read_body(head)

    def ask(self, data):
        """Send a request, return the head and the body of its response."""
        self.send(data)
        return self.read_response()


@dataclass
class Head:
    """The head of a request or a response."""

    raw: bytes
    first: str
    fields: list = field(default_factory=list)

    @classmethod
    def parse(cls, raw):
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return cls(raw, first, fields)

    @property
    def is_request(self):
        return not self.first.startswith("HTTP/")

    @property
    def status(self):
        return int(self.first.split()[1])

    @property
    def target(self):
        return self.first.split()[1]

    @property
    def chunked(self):
        return self.get("transfer-encoding", "").lower() == "chunked"

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        found = self.all(name)
        return found[0] if found else default

    def __getitem__(self, name):
        return self.all(name)[0]

    def __contains__(self, name):
        return bool(self.all(name))


def client_context(identity):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(identity.ca)
    context.load_cert_chain(identity.cert, identity.key)
    return context


def server_context(identity):
    """Demands a client certificate, as dockerd --tlsverify does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(identity.ca)
    context.load_cert_chain(identity.cert, identity.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}


def request(method, target, fields=None, body=b"", version="1.1", host="docker"):
    """The bytes of a request; Content-Length is set for POST and PUT unless the fields say how the body is framed."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}"]
    pairs = list(fields.items()) if isinstance(fields, dict) else list(fields or [])
    lines += [f"{name}: {value}" for name, value in pairs]
    framed = {name.lower() for name, _ in pairs} & {"content-length", "transfer-encoding"}
    if (body or method in ("POST", "PUT")) and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def attach_request(container, query="stream=1&stdin=1&stdout=1&stderr=1", upgrade=True, **options):
    """Attach as the docker command does it, or as old clients do without Upgrade."""
    fields = {"Content-Type": "text/plain", **(UPGRADE if upgrade else {})}
    return request("POST", f"/v1.41/containers/{container}/attach?{query}", fields, **options)


def exec_request(exec_id, upgrade=True, detach=False, tty=False, **options):
    """Start of an exec; the body ends in a line feed as the docker command's does."""
    body = json.dumps({"Detach": detach, "Tty": tty}, separators=(",", ":")).encode() + b"\n"
    fields = {"Content-Type": "application/json", **(UPGRADE if upgrade else {})}
    return request("POST", f"/v1.41/exec/{exec_id}/start", fields, body, **options)


def unframe(data):
    """Docker's frames: a list of (stream number, payload) with neighbours of one stream joined."""
    found = []
    while data:
        assert len(data) >= 8, f"a cut frame header: {data!r}"
        stream, size = data[0], int.from_bytes(data[4:8], "big")
        assert data[1:4] == b"\0\0\0" and len(data) >= 8 + size, f"a cut frame: {data[:80]!r}"
        payload, data = data[8 : 8 + size], data[8 + size :]
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + payload)
        else:
            found.append((stream, payload))
    return found


def frame(payload, stream=1):
    """One of Docker's frames."""
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


class Frames:
    """Reads frames one by one from a stream."""

    def __init__(self, stream):
        self.stream = stream

    def next(self):
        header = self.stream.read_exactly(8)
        assert header[1:4] == b"\0\0\0", header
        return header[0], self.stream.read_exactly(int.from_bytes(header[4:], "big"))

    def read_payload(self, size):
        """Payload of the given size, however it is cut into frames."""
        got = b""
        while len(got) < size:
            got += self.next()[1]
        assert len(got) == size, got
        return got
