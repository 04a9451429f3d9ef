"""What 1000 published ports cost a host, with Docker's docker-proxy and with dockline's: prints a table in Markdown.

`make bench-ports` runs it, as root. Each contender gets a dockerd of its own in a network namespace, and one
container that publishes all the ports; a round is one start and one end of that container.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from support.certs import Certificates
from support.ports import PublishingDaemon, proxy_binary
from support.proc import poll

FIRST = 20000
LISTEN = "0A"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="dockline-bench-ports-"))
    name = f"dockline-bench-{os.getpid()}"
    contenders = {
        "Docker's docker-proxy": (shutil.which("docker-proxy") or "/usr/sbin/docker-proxy", {}),
        "dockline": (proxy_binary(), {}),
        "dockline, with a broker": (proxy_binary(), {"DOCKLINE_PROXY_BROKER": name}),
    }
    results = {label: [] for label in contenders}
    try:
        certificates = Certificates.make(directory / "certs")
        for _ in range(options.rounds):
            for label, (proxy, env) in contenders.items():
                place = directory / "dockerd"
                place.mkdir()
                daemon = PublishingDaemon(place, certificates.back_server, name, env, proxy)
                try:
                    results[label].append(measure(daemon, options.ports))
                finally:
                    daemon.stop()
                    shutil.rmtree(place)
    finally:
        shutil.rmtree(directory)
    report(results, options.ports)


def measure(daemon, count):
    daemon.api.timeout = 600
    ports = range(FIRST, FIRST + count)
    create = {f"{port}/tcp": ("127.0.0.1", port) for port in ports}
    begin = time.monotonic()
    daemon.publish("many", create)
    started = time.monotonic() - begin
    assert listening(daemon) >= set(ports), "dockerd says that the container runs, and not all ports listen"
    pids = [*daemon.proxies(), *([daemon.broker()] if "DOCKLINE_PROXY_BROKER" in daemon.env else [])]
    assert len(daemon.proxies()) == count
    private, pss = (sum(values) for values in zip(*map(usage, pids)))
    begin = time.monotonic()
    daemon.remove("many")
    ended = time.monotonic() - begin
    poll(lambda: not daemon.proxies(), "no proxy is left", seconds=60)
    return started, ended, private / 1024, pss / 1024


def listening(daemon):
    lines = Path(f"/proc/{daemon.service.pid}/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return {int(field[1].split(":")[1], 16) for field in fields if field[3] == LISTEN}


def usage(pid):
    """Memory of a process in KiB, private and PSS."""
    sizes = {"Private_Clean": 0, "Private_Dirty": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        field, _, rest = line.partition(":")
        if field in sizes:
            sizes[field] = int(rest.split()[0])
    return sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Pss"]


def report(results, count):
    print(f"{count} published TCP ports, {len(next(iter(results.values())))} rounds, medians\n")
    print("| | start s | spread | end s | private MiB | PSS MiB |")
    print("|---|--:|--:|--:|--:|--:|")
    for label, rounds in results.items():
        start, end, private, pss = map(statistics.median, zip(*rounds))
        starts = [values[0] for values in rounds]
        spread = f"{min(starts):.1f} – {max(starts):.1f}"
        print(f"| {label} | {start:.1f} | {spread} | {end:.1f} | {private:.0f} | {pss:.0f} |")


if __name__ == "__main__":
    main()
