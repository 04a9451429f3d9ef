"""A Docker daemon with any number of containers, which start and end when they are told: a real one could not do that 100 times a second."""

import json
import queue
import re
import socket
import threading
import time

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
CREATED = "2026-01-01T00:00:00.{:09}Z"


class FakeContainers:
    """Healthy containers `c1` to `cN` at one address, which announce the names `n1` to `nN`."""

    def __init__(self, path, count, bridge, address):
        self.bridge, self.address = bridge, address
        self.running = dict.fromkeys(range(1, count + 1), True)
        self.starts = dict.fromkeys(self.running, 0)
        self.inspections = 0
        self._followers = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def change(self, number):
        """Ends a container, or starts it again. Returns whether it runs now."""
        self.running[number] = runs = not self.running[number]
        self.starts[number] += runs
        event = {
            "Type": "container",
            "Action": "start" if runs else "die",
            "Actor": {"ID": f"{number:064x}", "Attributes": {"name": f"c{number}"}},
            "time": int(time.time()),
            "timeNano": time.time_ns(),
        }
        line = json.dumps(event).encode() + b"\n"
        for follower in self._followers:
            follower.put(line)
        return runs

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        reader = connection.makefile("rb")
        try:
            while request := reader.readline():
                while reader.readline().strip():
                    pass
                target = request.split()[1].decode()
                if "/events" in target:
                    self._follow(connection)
                body = json.dumps(self._answer(target)).encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                )
        except OSError:
            pass  # the gateway has gone

    def _follow(self, connection):
        lines = queue.Queue()
        self._followers.append(lines)
        connection.sendall(EVENTS)
        while True:
            line = lines.get()
            connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))

    def _answer(self, target):
        if one := re.search(r"/containers/([0-9a-f]{64})/json", target):
            self.inspections += 1
            return self._inspect(int(one[1], 16))
        return [self._listed(number) for number in self.running]

    def _networks(self, number):
        address = self.address if self.running[number] else ""
        return {"bridge": {"NetworkID": "b", "EndpointID": str(self.starts[number]), "Gateway": self.bridge,
                           "IPAddress": address, "IPPrefixLen": 16}}  # fmt: skip

    def _state(self, number):
        return "running" if self.running[number] else "exited"

    def _listed(self, number):
        return {
            "Id": f"{number:064x}", "Names": [f"/c{number}"], "State": self._state(number), "Status": "", "Labels": {},
            "HostConfig": {"NetworkMode": "default"}, "NetworkSettings": {"Networks": self._networks(number)},
        }  # fmt: skip

    def _inspect(self, number):
        return {
            "Id": f"{number:064x}", "Name": f"/c{number}", "Created": CREATED.format(number),
            "State": {
                "Status": self._state(number), "Running": self.running[number], "Paused": False, "Restarting": False,
                "StartedAt": CREATED.format(1_000_000 + self.starts[number]), "Health": {"Status": "healthy"},
            },
            "Config": {"Env": [f"DPROXY_FORWARD_NAME=n{number}"], "Labels": {}, "ExposedPorts": {"80/tcp": {}}},
            "HostConfig": {"NetworkMode": "default"},
            "NetworkSettings": {"Ports": {"80/tcp": None}, "Networks": self._networks(number)},
        }  # fmt: skip
