"""Writes a snapshot of routes as docs/ROUTES.md says, for readers to be tested with."""

import os
import secrets
import struct
from dataclasses import dataclass, field

MASK = 2**64 - 1


@dataclass
class Route:
    """`host` is `web` (a name), `www.example.com` or `*.example.com`.

    Targets are addresses, or (address, weight, live), or (address, weight, live, strip).
    """

    host: str
    targets: list = field(default_factory=list)
    path: str = "/"

    @property
    def text(self):
        if "." not in self.host:
            return f"{self.host}.{self.path}".encode()
        return f"{self.host.removeprefix('*')}{self.path}".encode()

    @property
    def name(self):
        return f"{self.host}{'' if self.path == '/' else self.path}".encode()


def snapshot(routes, domains=(), first_label=False, generation=1):
    """The bytes of a file."""
    key = secrets.token_bytes(16)
    bits = max(len(routes), 1).bit_length() - 1
    entries = sorted((siphash13(key, route.text.split(b"/")[0]), route.text, route) for route in routes)
    buckets = [sum(hashed >> (64 - bits) < value if bits else False for hashed, *_ in entries) for value in range(2**bits)]
    index, records = b"", b""
    for hashed, text, route in entries:
        index += struct.pack("<QI", hashed, len(records))
        records += _text(text) + _text(route.name) + _text(b"".join(map(_target, route.targets)))
    names = b"".join(_text(domain.encode()) for domain in domains)
    body = names + struct.pack(f"<{len(buckets) + 1}I", *buckets, len(entries)) + index + records
    head = struct.pack("<8sIIQ16s", b"DLROUTES", 1, int(first_label), generation, key)
    return head + struct.pack("<IIIIQ", 64 + len(body), len(names), bits, len(entries), 0) + body


def replace(path, data):
    """Replaces a file as a whole."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.rename(new, path)


def _text(data):
    return struct.pack("<H", len(data)) + data


def _target(target):
    address, weight, live, *strip = (target, 1, True) if isinstance(target, str) else target
    return struct.pack("<HB", weight, live + 2 * any(strip)) + _text(address.encode())


def siphash13(key, data):
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotated(word, by):
        return (word << by | word >> (64 - by)) & MASK

    def turn():
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotated(v[1], 13) ^ v[0]
        v[0] = rotated(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotated(v[1], 17) ^ v[2]
        v[2] = rotated(v[2], 32)

    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) % 256])
    for (word,) in struct.iter_unpack("<Q", data[:whole] + last):
        v[3] ^= word
        turn()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        turn()
    return v[0] ^ v[1] ^ v[2] ^ v[3]
