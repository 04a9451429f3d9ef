"""What the router costs, and how soon it knows: prints tables in Markdown.

`make bench-router` runs it, as root, in a network namespace of its own. `--quick` is a smoke test.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from support import tools
from support.certs import Certificates
from support.daemon import IMAGE, Daemon
from support.fake_containers import FakeContainers
from support.proc import Service, children, free_port, poll

DOMAIN = "apps.test"
#: The bridge of the fake daemon, and the address of all of its containers.
BRIDGE, CONTAINER = "172.30.0.1", "172.30.0.2"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Client:
    """A kept connection."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.create_connection(address)
        self.reader = self.socket.makefile("rb")

    def get(self, host):
        """The status of a response; 0 if there is none. A connection that was closed is made anew."""
        try:
            self.socket.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            status = int(self.reader.readline().split()[1])
            length, closes = 0, False
            while line := self.reader.readline().strip().lower():
                length = int(line[15:]) if line.startswith(b"content-length:") else length
                closes |= line == b"connection: close"
            self.reader.read(length)
        except (OSError, IndexError):
            status, closes = 0, True
        if closes:
            self.socket.close()
            self.__init__(self.address)
        return status


def application(address):
    """An HTTP server for all containers. It says `ok`."""
    listener = socket.create_server((address, 80), backlog=1024)

    def serve(connection):
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(PAGE)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def cpu(*pids):
    """CPU seconds of processes, from the scheduler's own count."""
    stats = (stat for pid in pids for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9


def quantiles(milliseconds):
    ordered = sorted(milliseconds)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


class Router:
    """`dockline serve` with one worker and without an access log."""

    def __init__(self, directory, config):
        self.address = ("127.0.0.1", free_port())
        self.log = Path(directory) / f"dockline-{self.address[1]}.log"
        file = self.log.with_suffix(".toml")
        listen = f'[[listen]]\naddress = "tcp://{self.address[0]}:{self.address[1]}"\nrouter = true\n'
        file.write_text(f'threads = 1\n[admin]\naddress = "off"\n[router]\ndomains = ["{DOMAIN}"]\n{config}\n{listen}')
        self.service = Service([tools.gateway_binary(), "serve", "--config", file], self.log)
        self.service.wait_ready(lambda: self.has_logged(" ready"))

    def has_logged(self, words):
        return words in self.log.read_text()

    def cpu(self):
        return cpu(self.service.pid)

    def stop(self):
        self.service.stop()


def visible(client, change, times):
    """Milliseconds until each change of container 1 is seen, by a request after the other."""
    seen = []
    for _ in range(times):
        begin = time.perf_counter()
        wanted = 200 if change(1) else 503
        while client.get(f"n1.{DOMAIN}") != wanted:
            pass
        seen.append((time.perf_counter() - begin) * 1000)
    return quantiles(seen)


class Load(threading.Thread):
    """Requests on kept connections, one after the other, of a container that stays."""

    def __init__(self, address, host, connections):
        super().__init__(daemon=True)
        self.clients = [Client(address) for _ in range(connections)]
        self.first = [client.socket for client in self.clients]
        self.host, self.failed, self.requests, self.over = host, 0, 0, False
        self.start()

    def run(self):
        while not self.over:
            for client in self.clients:
                self.failed += client.get(self.host) != 200
                self.requests += 1
                if self.over:
                    return
                time.sleep(0.001)

    def stop(self):
        """Returns how many requests failed, and how many connections were closed."""
        self.over = True
        self.join()
        return self.failed, sum(client.socket is not first for client, first in zip(self.clients, self.first))


def under_changes(address, cpu, change, count, seconds, rate, connections):
    """The share of a core that changes cost, and what they cost those who are connected."""
    load = Load(address, f"n{count}.{DOMAIN}", connections)
    quiet, asked = cpu(), load.requests
    time.sleep(seconds / 4)
    each = (cpu() - quiet) / (load.requests - asked)
    before, asked, begin, made = cpu(), load.requests, time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        change(2 + made % (count - 2))
        made += 1
        time.sleep(max(0, begin + made / rate - time.monotonic()))
    passed = time.monotonic() - begin
    share = (cpu() - before - each * (load.requests - asked)) / passed
    return made / passed, share * 100, *load.stop()


def changes(directory, options):
    """The router under changes, by a daemon with many containers."""
    path = directory / "docker.sock"
    fake = FakeContainers(path, options.containers, BRIDGE, CONTAINER)
    begin = time.monotonic()
    router = Router(directory, f'hold = "0"\ndocker = ["unix://{path}"]')
    try:
        poll(lambda: router.has_logged("docker.sock: its routes are known"), "all routes are known")
        synced, inspections = time.monotonic() - begin, fake.inspections
        p50, p99 = visible(Client(router.address), fake.change, options.times)
        if not fake.running[1]:
            fake.change(1)
        rate, share, failed, closed = under_changes(
            router.address, router.cpu, fake.change, options.containers, options.seconds, 100, options.connections
        )
    finally:
        router.stop()
    print(f"## {options.containers} containers that come and go\n")
    print("| | dockline | limit |\n|---|--:|--:|")
    print(f"| from the start of the program to all routes, s | {synced:.2f} | 2 |")
    print(f"| inspections of each container by then | {inspections / options.containers:.2f} | 1 |")
    print(f"| a change is seen after, ms, p50 | {p50:.1f} | – |")
    print(f"| p99 of {options.times} | {p99:.1f} | 50 |")
    print(f"| changes a second, for {options.seconds} s | {rate:.0f} | 100 |")
    print(f"| they cost, % of a core | {share:.1f} | 10 |")
    print(f"| failed requests on {options.connections} connections | {failed} | 0 |")
    print(f"| of these closed | {closed} | 0 |\n")


class ReloadedNginx:
    """nginx with a map of all names, which is written anew and read again at each change."""

    name = "nginx"

    def __init__(self, directory, count):
        self.directory = Path(directory) / "nginx"
        self.directory.mkdir()
        self.running = dict.fromkeys(range(1, count + 1), True)
        self.port = free_port()
        self._write()
        argv = [tools.nginx_binary(), "-p", f"{self.directory}/", "-c", "nginx.conf", "-e", "error.log"]
        self.service = Service(argv, self.directory / "log")
        self.service.wait_ready(self._listens)

    def _listens(self):
        with contextlib.suppress(OSError):
            return Client(("127.0.0.1", self.port)).get(f"n1.{DOMAIN}") == 200

    def cpu(self):
        """That of the master and of all workers so far: the master counts those that have ended."""
        fields = Path(f"/proc/{self.service.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK") + cpu(self.service.pid, *children(self.service.pid))

    def change(self, number):
        self.running[number] = not self.running[number]
        self._write()
        self.service.send_signal(signal.SIGHUP)
        return self.running[number]

    def _write(self):
        names = "\n".join(f"n{n}.{DOMAIN} {CONTAINER};" for n, runs in self.running.items() if runs)
        temporary = "".join(f"{name}_temp_path {self.directory}/{name};" for name in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
        (self.directory / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; worker_rlimit_nofile 8192; pid {self.directory}/pid; user root;
events {{ worker_connections 4096; }}
http {{
    access_log off; {temporary} map_hash_max_size 65536; map_hash_bucket_size 128;
    map $host $target {{ default ""; {names} }}
    server {{
        listen 127.0.0.1:{self.port};
        location / {{ if ($target = "") {{ return 503; }} proxy_pass http://$target; }}
    }}
}}
""")


class ReloadedCaddy:
    """Caddy with a route for each name, whose configuration is loaded anew at each change by its API."""

    name = "Caddy"

    def __init__(self, directory, count):
        self.directory = Path(directory) / "caddy"
        self.directory.mkdir()
        self.running = dict.fromkeys(range(1, count + 1), True)
        self.port, self.admin = free_port(), free_port()
        (self.directory / "caddy.json").write_text(json.dumps(self._config()))
        environment = {**os.environ, "HOME": str(self.directory), "GOMAXPROCS": "1"}
        argv = ["caddy", "run", "--config", self.directory / "caddy.json"]
        self.service = Service(argv, self.directory / "log", env=environment)
        self.service.wait_ready(self._listens)

    def _listens(self):
        with contextlib.suppress(OSError):
            return Client(("127.0.0.1", self.port)).get(f"n1.{DOMAIN}") == 200

    def cpu(self):
        return cpu(self.service.pid)

    def change(self, number):
        self.running[number] = not self.running[number]
        connection = http.client.HTTPConnection("127.0.0.1", self.admin)
        with contextlib.closing(connection):
            connection.request("POST", "/load", json.dumps(self._config()), {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
        return self.running[number]

    def _config(self):
        def route(host, handler):
            return {**({"match": [{"host": [host]}]} if host else {}), "handle": [handler], "terminal": True}

        proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"{CONTAINER}:80"}]}
        routes = [route(f"n{number}.{DOMAIN}", proxy) for number, runs in self.running.items() if runs]
        routes.append(route(None, {"handler": "static_response", "status_code": 503}))
        server = {"listen": [f"127.0.0.1:{self.port}"], "automatic_https": {"disable": True}, "routes": routes}
        return {
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "logging": {"logs": {"default": {"level": "ERROR"}}},
            "apps": {"http": {"servers": {"main": server}}},
        }


def reloads(directory, options):
    """The same changes by reloads of nginx and of Caddy, as often as they can follow."""
    columns = []
    for kind in (ReloadedNginx, ReloadedCaddy):
        peer = kind(directory, options.containers)
        address = ("127.0.0.1", peer.port)
        try:
            p50, p99 = visible(Client(address), peer.change, max(options.times // 5, 4))
            rate, share, failed, closed = under_changes(
                address, peer.cpu, peer.change, options.containers, options.seconds / 4, 2, options.connections
            )
        finally:
            peer.service.stop()
        columns.append([f"{p50:.1f}", f"{p99:.1f}", f"{rate:.1f}", f"{share:.1f}", failed, closed])
    print("## nginx and Caddy, which are reloaded at each change\n")
    print("| | nginx | Caddy |\n|---|--:|--:|")
    rows = (
        "a change is seen after, ms, p50", "p99", "changes a second", "they cost, % of a core",
        f"failed requests on {options.connections} connections", "of these closed",
    )  # fmt: skip
    for row, values in zip(rows, zip(*columns)):
        print(f"| {row} | {' | '.join(map(str, values))} |")
    print()


def cost(directory, options):
    """A request through the table beside one to a fixed upstream, in turns."""
    fixed = f"127.0.0.1:{free_port()}"
    routes = "".join(f'[[route]]\nname = "n{n}"\ntargets = ["{CONTAINER}:80"]\n' for n in range(1, options.routes + 1))
    upstream = f'[[upstream]]\nname = "fixed"\naddress = "tcp://{CONTAINER}:80"\nhost = "n7.{DOMAIN}"\n'
    listen = f'[[listen]]\naddress = "tcp://{fixed}"\nupstream = "fixed"\nallow_hosts = ["*"]\n'
    router = Router(directory, f"docker = []\n[forwarding]\nx_forwarded = true\n{upstream}{routes}{listen}")
    host, port = fixed.split(":")
    clients = {"fixed": Client((host, int(port))), "routed": Client(router.address)}
    rounds = []
    try:
        for number in range(options.rounds + 1):
            taken = {}
            for name, client in sorted(clients.items(), reverse=number % 2 == 1):
                before = router.cpu()
                for _ in range(options.requests):
                    assert client.get(f"n7.{DOMAIN}") == 200
                taken[name] = (router.cpu() - before) / options.requests * 1e6
            rounds.append(taken)
    finally:
        router.stop()
    rounds = rounds[1:]  # the first one warms up
    ratios = [taken["routed"] / taken["fixed"] for taken in rounds]
    print(f"## A request through a table of {options.routes} routes\n")
    print("| | CPU µs |\n|---|--:|")
    for name in ("fixed", "routed"):
        print(f"| {name} | {statistics.median(taken[name] for taken in rounds):.2f} |")
    print(f"\nratio, median of {len(ratios)} rounds: {statistics.median(ratios):.3f} ({min(ratios):.3f} – {max(ratios):.3f}), limit 1.03\n")


def starts(directory, options):
    """From the port of a container that accepts to the first answer by its name, by a real daemon."""
    place = directory / "dockerd"
    place.mkdir()
    daemon = BridgedDaemon(place, Certificates.make(directory / "certs").back_server)
    try:
        daemon.import_image()
        router = Router(directory, f'hold = "0"\ndocker = ["{daemon.url}"]')
        try:
            seen = [first_answer(daemon, router.address, f"s{number}") for number in range(options.starts)]
        finally:
            router.stop()
    finally:
        daemon.stop()
    p50, p99 = quantiles(seen)
    print("## From a port that accepts to the first answer by its name\n")
    print(f"| | ms | limit |\n|---|--:|--:|\n| p50 | {p50:.1f} | – |\n| p99 of {options.starts} | {p99:.1f} | 50 |\n")


class BridgedDaemon(Daemon):
    """A dockerd whose containers have addresses."""

    def _argv(self, identity):
        left_out = ("--bridge=none", "--iptables=false", "--ip-masq=false")
        words = [word for word in super()._argv(identity) if word not in left_out]
        return [*words, "--bip=172.29.0.1/16", "--userland-proxy=false"]


def first_answer(daemon, address, name):
    command = ["sh", "-c", "mkdir /w && echo ok >/w/index.html && exec httpd -f -h /w"]
    daemon.api.create_container(IMAGE, command, name=name, ports=[80], environment={"DPROXY_FORWARD_NAME": name})
    client, accepted = Client(address), []

    def knock():
        ip = poll(lambda: daemon.api.inspect_container(name)["NetworkSettings"]["IPAddress"], "it has an address", every=0.001)
        while True:
            with contextlib.suppress(OSError), socket.create_connection((ip, 80), timeout=1):
                return accepted.append(time.perf_counter())
            time.sleep(0.0005)

    knocking = threading.Thread(target=knock)
    knocking.start()
    daemon.api.start(name)
    while client.get(f"{name}.{DOMAIN}") != 200:
        pass
    answered = time.perf_counter()
    knocking.join()
    daemon.remove(name)
    return max(0, answered - accepted[0]) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    quick = parser.parse_args().quick
    options = argparse.Namespace(
        containers=1000, connections=500, routes=10_000, times=20 if quick else 300, seconds=4 if quick else 60,
        rounds=2 if quick else 9, requests=500 if quick else 20_000, starts=3 if quick else 100,
    )  # fmt: skip
    directory = Path(tempfile.mkdtemp(prefix="dockline-bench-router-"))
    for words in ("link set lo up", "link add dlbench type bridge", f"addr add {BRIDGE}/16 dev dlbench",
                  f"addr add {CONTAINER}/16 dev dlbench", "link set dlbench up"):  # fmt: skip
        subprocess.run(["ip", *words.split()], check=True)
    application(CONTAINER)
    try:
        for part in (changes, reloads, cost, starts):
            part(directory, options)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
