"""The router and its daemon, with a socket proxy in between: HAProxy with the rules of tecnativa/docker-socket-proxy."""

import re

import pytest

from support.haproxy import SocketProxy
from support.proc import poll, tail
from support.router import Router

#: What docs/ROUTER.md says that has to be allowed.
NEEDED = ("EVENTS", "CONTAINERS")
ON_DEMAND = {"dockline.start": "on-demand", "dockline.stop-after": "1h"}


@pytest.fixture
def web(router_docker):
    started = []

    def start(name, **options):
        started.append(name)
        router_docker.run_web(name, env={"DPROXY_FORWARD_NAME": name}, **options)
        return name

    yield start
    for name in started:
        router_docker.remove(name)


@pytest.fixture
def behind(router_lab, router_docker, tmp_path):
    """Starts a socket proxy, and a router that knows the daemon by that only."""
    made = []

    def start(*allowed, config="", **options):
        proxy = SocketProxy(router_lab.host, tmp_path / "proxy", router_docker, *allowed, **options)
        made.append(proxy)
        made.append(Router(router_lab, proxy.url, tmp_path / "router", config, port=8090))
        return made[1], proxy

    yield start
    for one in reversed(made):
        one.stop()


def operations(proxy):
    """What the proxy was asked for."""
    ids = re.compile(r"/containers/[0-9a-f]{64}/")
    return {(method, ids.sub("/containers/{id}/", target.split("?")[0])) for _, _, method, target in proxy.requests()}


def refused(proxy):
    return [request for request in proxy.requests() if request[0] == "403"]


def told(router, words):
    poll(lambda: words in router.log.read_text(), lambda: f"{words}:\n{tail(router.log)}")


def test_the_router_needs_two_parts_of_the_api(behind, router_docker, web):
    before = web("before")
    router, proxy = behind(*NEEDED)
    assert router.name(before) == (200, before)
    later = web("later")
    router.reaches(later)
    router_docker.api.kill(before)
    poll(lambda: router.routes()[before]["state"] == "down", router.text)
    assert router.name(before)[0] == 503
    router_docker.api.start(before)
    router.reaches(before)
    router_docker.remove(later)
    poll(lambda: not router.routes()[later]["targets"], router.text)
    # The stream of events is logged when it ends, which the proxy notices with a later event.
    router.stop()
    poll(lambda: router_docker.api.restart(before, timeout=0) or ("GET", "/events") in operations(proxy), lambda: tail(proxy.log))
    assert operations(proxy) == {("GET", "/events"), ("GET", "/containers/json"), ("GET", "/containers/{id}/json")}
    assert not refused(proxy)


@pytest.mark.parametrize(("missing", "operation"), [("EVENTS", "GET /events"), ("CONTAINERS", "GET /containers/json")])
def test_what_the_proxy_does_not_allow_is_named_in_the_log(behind, web, missing, operation):
    name = web("web")
    router, proxy = behind(*(one for one in NEEDED if one != missing))
    told(router, f"warn  docker:{proxy.url}: {operation}: the Docker daemon responded with status 403: whatever is in front of it, "
                 "such as a socket proxy, has to allow this operation")  # fmt: skip
    assert operation in router.text()
    assert router.name(name)[0] == 503
    assert {f"{method} {target}" for _, _, method, target in refused(proxy) if "?" not in target} <= {operation}


def test_to_start_containers_needs_to_be_allowed_too(behind, router_docker, web):
    name = web("demand", labels=ON_DEMAND, start=False)
    router, proxy = behind(*NEEDED, config='start_time = "1s"')
    assert router.name(name)[0] == 503
    told(router, "POST /containers/{id}/start: the Docker daemon responded with status 403: whatever is in front of it")
    assert not router_docker.running(name)
    assert ("POST", "/containers/{id}/start") in operations(proxy)


def test_containers_are_started_by_a_proxy_that_allows_it(behind, router_docker, web):
    name = web("demand", labels=ON_DEMAND, start=False)
    router, proxy = behind(*NEEDED, "POST")
    assert router.name(name, timeout=30) == (200, name)
    assert not refused(proxy)


def cuts(proxy):
    """The streams of events that the proxy has cut because the daemon had nothing to say."""
    return [target for status, end, _, target in proxy.requests() if target.startswith("/events") and (status, end[:2]) == ("200", "sD")]


def test_what_happens_while_the_stream_of_events_is_cut_is_seen(behind, router_docker, web):
    name = web("cut")
    router, proxy = behind(*NEEDED, events_timeout="1s")
    router.reaches(name)
    for change, state in 2 * ((router_docker.api.kill, "down"), (router_docker.api.start, "live")):
        seen = len(cuts(proxy))
        poll(lambda: len(cuts(proxy)) > seen, lambda: f"the stream is cut:\n{tail(proxy.log)}", seconds=20)
        change(name)
        poll(lambda: router.routes()[name]["state"] == state, router.text)
    assert router.name(name) == (200, name)
    # Each one begins with the last event of the one before.
    assert all("&since=" in target for target in cuts(proxy)[2:]), cuts(proxy)
    assert not refused(proxy)


def test_a_stream_of_events_that_is_cut_now_and_then_is_no_reason_to_worry(behind, router_docker, web):
    name = web("steady")
    router, proxy = behind(*NEEDED, events_timeout="11s")
    router.reaches(name)
    poll(lambda: cuts(proxy), lambda: f"the stream is cut:\n{tail(proxy.log)}", seconds=30)
    router_docker.api.kill(name)
    poll(lambda: router.routes()[name]["state"] == "down", router.text)
    assert " warn  " not in router.log.read_text()
