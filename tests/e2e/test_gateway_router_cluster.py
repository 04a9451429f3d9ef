"""Three hosts with a dockerd each, and one front door: `name.<domain>` reaches each container, wherever it is.

The front door is on the first host. To the containers of the other hosts it goes by the gateways there; it learns of them
from their daemons, from the gateways that join it, or from Redis. While hosts, daemons and containers come and go, clients
outside request every name all the time.
"""

import contextlib
import http.client
import json
import os
import signal
import threading
from collections import Counter

import pytest

from support.arrangements import ARRANGEMENTS, Registry
from support.cluster import GATEWAY_PORT, Cluster
from support.endpoints import Endpoint
from support.proc import has_ended, poll, tail
from support.wire import Stream, request

#: The names that are there all the time, each on the host of its number.
NAMES = ("red", "green", "blue")


class Load:
    """Clients outside, one for each name, that request its page again and again.

    An answer is wrong if it is another's page, or 404. It has failed if it is none: that is right only while there is a
    reason, which `excused` tells.
    """

    def __init__(self, cluster, front):
        self.cluster, self.front = cluster, front
        self.lock = threading.Lock()
        self.wrong, self.pages = [], Counter()
        self.excuses, self.open = Counter(), Counter()

    @contextlib.contextmanager
    def of(self, name):
        """Requests this name meanwhile."""
        ends = threading.Event()
        thread = threading.Thread(target=self._run, args=(name, ends), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def _run(self, name, ends):
        while not ends.wait(0.005):
            with self.lock:
                seen, was_open = self.excuses[name], self.open[name]
            try:
                status, body = self.cluster.get(self.front, name)
            except (OSError, http.client.HTTPException) as error:
                status, body = None, repr(error)
            with self.lock:
                excused = was_open or self.excuses[name] != seen
                if status == 200 and body.split()[0] == name:
                    self.pages[name] += 1
                elif status in (200, 404) or not excused:
                    self.wrong.append((name, status, body))

    @contextlib.contextmanager
    def excused(self, *names):
        """Requests for these names may fail meanwhile."""
        with self.lock:
            self.excuses.update(names)
            self.open.update(names)
        yield
        with self.lock:
            self.open.subtract(names)

    def more(self, names=NAMES, pages=20):
        """Waits for that many pages of each name from now on."""
        before = self.pages.copy()
        poll(
            lambda: self.wrong or all(self.pages[name] >= before[name] + pages for name in names),
            lambda: f"pages of {names}: {before} {self.pages}",
        )
        assert not self.wrong, self.wrong[:5]


@pytest.fixture(scope="module")
def cluster(workspace, certificates):
    cluster = Cluster(f"cl{os.getpid()}", workspace / "cluster", certificates.back_server, hosts=3)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module", params=ARRANGEMENTS, ids=lambda kind: kind.__name__.lower())
def arrangement(request, cluster, certificates):
    """How the front door learns of the containers of the other hosts."""
    arrangement = request.param(cluster, certificates)
    arrangement.prepare()
    yield arrangement
    arrangement.close()


@pytest.fixture(scope="module")
def gateways(arrangement):
    """The gateway of each host; the first is the front door."""
    started = arrangement.gateways()
    try:
        yield started
    finally:
        for gateway in started:
            gateway.stop()
            assert not gateway.errors()


@pytest.fixture(scope="module")
def front(cluster, gateways):
    """Returns the status and page of a name, at the front door."""
    for name, host in zip(NAMES, cluster.hosts, strict=True):
        if not host.has(name):
            host.web(name)
    address = cluster.hosts[0].address

    def get(name):
        return cluster.get(address, name)

    for name, host in zip(NAMES, cluster.hosts, strict=True):
        reaches(get, name, host, gateways)
    return get


def reaches(front, name, host, gateways=()):
    """Waits until the front door answers with the page of the container on that host."""
    def told():
        return "\n".join([f"{name} on {host.name}: {front(name)}", *(tail(gateway.error_log) for gateway in gateways)])

    poll(lambda: front(name) == (200, f"{name} {host.name}"), told)


def is_unknown(front, name):
    """Waits until the front door knows that there is no such name: for 10 s after its start, others may still tell of it."""
    poll(lambda: front(name)[0] == 404, lambda: f"{front(name)}", seconds=30)


@pytest.fixture(scope="module")
def load(cluster, front):
    load = Load(cluster, cluster.hosts[0].address)
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(load.of(name))
        yield load


@pytest.fixture(autouse=True)
def no_wrong_answer(load):
    """Clients get what they want before, during and after each test."""
    load.more()
    yield
    load.more()


def routes(gateway):
    with Stream.connect(Endpoint("admin", f"unix://{gateway.admin}")) as stream:
        head, body = stream.ask(request("GET", "/routes.json"))
    assert head.status == 200, head.raw
    return {route["name"]: route for route in json.loads(body)["routes"]}


def test_each_name_reaches_its_host_and_that_of_others_by_the_gateway_there(cluster, gateways, front):
    is_unknown(front, "black")
    targets = {name: route["targets"][0] for name, route in routes(gateways[0]).items()}
    assert {name: target["node"] for name, target in targets.items()} == dict(zip(NAMES, ("host1", "host2", "host3")))
    assert [targets[name].get("gateway") for name in NAMES] == [
        None,
        *(f"{host.address}:{GATEWAY_PORT}" for host in cluster.hosts[1:]),
    ]
    # They know only their own.
    assert [list(routes(gateway)) for gateway in gateways[1:]] == [["green"], ["blue"]]


@pytest.mark.parametrize("number", range(3))
def test_a_container_that_stops_is_503_until_it_starts_again(cluster, front, load, number):
    host, name = cluster.hosts[number], NAMES[number]
    with load.excused(name):
        host.daemon.api.stop(name)
        poll(lambda: front(name)[0] == 503, lambda: f"{front(name)}")
        host.daemon.api.start(name)
        reaches(front, name, host)


@pytest.mark.parametrize("number", range(3))
def test_a_new_container_is_reached_and_its_name_stays_known(cluster, front, load, number):
    host, name = cluster.hosts[number], f"new{number}"
    is_unknown(front, name)
    host.web(name)
    reaches(front, name, host)
    host.daemon.remove(name)
    poll(lambda: front(name)[0] == 503, lambda: f"{front(name)}")


def test_a_container_moves_to_another_host(cluster, gateways, front, load):
    _, old, new = cluster.hosts
    old.web("mover")
    reaches(front, "mover", old)
    with load.of("mover"):
        load.more(["mover"])
        new.web("mover")
        poll(lambda: routes(gateways[0])["mover"]["losers"], "the second one waits")
        load.more(["mover"])
        assert front("mover") == (200, "mover host2")
        with load.excused("mover"):
            old.daemon.remove("mover")
            reaches(front, "mover", new)
        load.more(["mover"])
        # Back, without another one that waits.
        with load.excused("mover"):
            new.daemon.remove("mover")
            old.web("mover")
            reaches(front, "mover", old)
        load.more(["mover"])
    old.daemon.remove("mover")


def test_a_gateway_that_is_killed_takes_nothing_but_its_own_host_with_it(cluster, gateways, front, load):
    worker = gateways[1]
    with load.excused("green"):
        worker.service.process.kill()
        worker.service.process.wait()
        poll(lambda: front("green")[0] == 502, lambda: f"{front('green')}")
        load.more(["red", "blue"])
        worker.start()
        reaches(front, "green", cluster.hosts[1], gateways)


@pytest.mark.parametrize("number", range(3))
def test_a_daemon_that_is_killed_fails_no_request(cluster, arrangement, gateways, front, load, number):
    host, name = cluster.hosts[number], NAMES[number]
    host.daemon.kill()
    if number == 0 or arrangement.tells_stale:
        poll(lambda: routes(gateways[0])[name]["state"] == "stale", lambda: f"{routes(gateways[0])[name]}")
    load.more()
    host.daemon.start()
    poll(lambda: routes(gateways[0])[name]["state"] == "live", lambda: f"{routes(gateways[0])[name]}")
    load.more()
    late = f"late{number}"
    host.web(late)
    reaches(front, late, host)
    host.daemon.remove(late)


@pytest.mark.parametrize("number", range(3))
def test_an_upgrade_of_a_gateway_fails_no_request(gateways, load, number):
    gateway = gateways[number]
    gateway.service.send_signal(signal.SIGUSR2)
    new = poll(gateway.successor, "a new process serves")
    assert gateway.service.process.wait(30) == 0, "the old process ends with its last connection"
    load.more()
    with load.excused(*NAMES):
        os.kill(new, signal.SIGTERM)
        poll(lambda: has_ended(new), "the new process ends")
        gateway.start()
        load.more()


def test_without_redis_the_routes_go_on(cluster, arrangement, gateways, front, load):
    if not isinstance(arrangement, Registry):
        pytest.skip("there is no Redis")
    arrangement.kill_redis()
    poll(lambda: routes(gateways[0])["green"]["state"] == "stale", lambda: f"{routes(gateways[0])['green']}")
    load.more()
    arrangement.start_redis()
    poll(lambda: routes(gateways[0])["green"]["state"] == "live", lambda: f"{routes(gateways[0])['green']}")
    load.more()
    cluster.hosts[1].web("after")
    reaches(front, "after", cluster.hosts[1])
    cluster.hosts[1].daemon.remove("after")
