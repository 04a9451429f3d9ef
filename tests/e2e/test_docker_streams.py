"""Responses that are written over time: logs, events, stats, wait. They have to arrive as they are written."""

import json
import re
import time
from datetime import datetime

import pytest

IN_TIME = 2.0  # seconds from an event in the daemon to the client, with a busy machine in mind


@pytest.fixture(scope="module")
def finished(daemon):
    """A container that has written to both outputs and ended."""
    script = "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done; exit 3"
    daemon.start_container("finished", ["sh", "-c", script])
    daemon.api.wait("finished")
    yield "finished"
    daemon.remove("finished")


@pytest.fixture(scope="module")
def talker(daemon):
    """A container that writes a numbered line five times a second."""
    script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done"
    daemon.start_container("talker", ["sh", "-c", script])
    yield "talker"
    daemon.remove("talker")


def test_logs(same, finished):
    result = same("logs", finished)
    assert result.out == b"".join(b"out %d\n" % n for n in range(1, 6))
    assert result.err == b"".join(b"err %d\n" % n for n in range(1, 6))


def test_logs_tail(same, finished):
    assert len(same("logs", "--tail", "3", "-t", finished).out.splitlines()) <= 3


def test_logs_of_a_large_output(same, daemon, name):
    daemon.start_container(name, ["seq", "1", "200000"])
    daemon.api.wait(name)
    result = same("logs", name)
    assert result.out == b"".join(b"%d\n" % n for n in range(1, 200_001))


def test_logs_follow_ends_with_the_container(same, finished):
    assert same("logs", "-f", finished).out.count(b"\n") == 5


def test_logs_follow_delivers_in_time(proxied, talker):
    late = []

    def measure(out):
        lines = out.split(b"\n")[:-1]
        for line in lines[measure.seen :]:
            written = datetime.fromisoformat(re.sub(rb"(\.\d{6})\d*Z", rb"\1+00:00", line.split()[0]).decode())
            late.append(time.time() - written.timestamp())
        measure.seen = len(lines)
        return len(late) >= 8

    measure.seen = 0
    with proxied.start("logs", "-f", "-t", "--tail", "0", talker) as running:
        running.wait_for(measure, "eight lines")
    assert max(late) < IN_TIME, late


def test_logs_of_a_missing_container(same):
    result = same("logs", "no-such-container")
    assert result.code == 1 and b"No such container" in result.err


def test_past_events(same, daemon, name):
    start = time.time()
    daemon.start_container(name, ["true"])
    daemon.api.wait(name)
    until = int(time.time()) + 1
    window = ("--since", f"{start:.6f}", "--until", str(until), "--filter", f"container={name}")
    result = same("events", *window, "--format", "{{.Action}}")
    actions = result.out.split()
    assert actions[:2] == [b"create", b"start"] and b"die" in actions


def test_events_arrive_in_time(proxied, daemon, name):
    late = []

    def seen(action):
        def check(out):
            for line in out.splitlines():
                event = json.loads(line) if line.endswith(b"}") else {}
                if event.get("Action") == action:
                    late.append(time.time() - event["timeNano"] / 1e9)
                    return True
            return False

        return check

    since = f"{time.time():.6f}"
    with proxied.start("events", "--since", since, "--filter", f"container={name}", "--format", "{{json .}}") as running:
        identity = daemon.start_container(name, ["sleep", "1000"])
        running.wait_for(seen("start"), "the start event: the stream is open")
        late.clear()
        daemon.api.pause(identity)
        running.wait_for(seen("pause"), "the pause event")
        daemon.api.unpause(identity)
        running.wait_for(seen("unpause"), "the unpause event")
        assert running.process.poll() is None
    assert max(late) < IN_TIME, late


def test_stats_once(same, sleeper):
    result = same("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.NetIO}}", sleeper)
    assert result.code == 0 and result.out.startswith(b"sleeper 1")


def test_stats_stream(proxied, sleeper):
    with proxied.start("stats", "--format", "{{.Name}}|{{.CPUPerc}}", sleeper) as running:
        running.wait_for(lambda out: len(re.findall(rb"sleeper\|\d", out)) >= 3, "three answers")


def test_wait(proxied, daemon, name):
    daemon.start_container(name, ["sh", "-c", "trap 'exit 12' TERM; while :; do sleep 0.1; done"])
    with proxied.start("wait", name) as running:
        daemon.api.stop(name, timeout=10)
        result = running.finish()
    assert (result.code, result.out) == (0, b"12\n")


def test_wait_for_a_finished_container(same, finished):
    assert same("wait", finished).out == b"3\n"


def test_top_and_diff(same, daemon, sleeper, name):
    assert b"sleep" in same("top", sleeper).out
    daemon.start_container(name, ["touch", "/tmp/made"])
    daemon.api.wait(name)
    assert b"A /tmp/made" in same("diff", name).out
