"""The docker command: run, exec, attach and exit codes, compared with a direct connection."""

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.proc import poll, resident_kib

RUN = ("run", "--rm", "--network", "none")


def test_run_prints_its_output(same):
    result = same(*RUN, "bb", "echo", "hello")
    assert (result.code, result.out, result.err) == (0, b"hello\n", b"")


def test_run_keeps_stdout_and_stderr_apart(same):
    result = same(*RUN, "bb", "sh", "-c", "echo one; echo two >&2; exit 7")
    assert (result.code, result.out, result.err) == (7, b"one\n", b"two\n")


def test_run_interactive_echoes_stdin(same):
    result = same(*RUN, "-i", "bb", "cat", stdin=b"abc\n")
    assert (result.code, result.out) == (0, b"abc\n")


def test_run_interactive_with_empty_stdin(same):
    result = same(*RUN, "-i", "bb", "wc", "-c", stdin=b"")
    assert (result.code, result.out) == (0, b"0\n")


def test_run_without_stdin_ignores_it(same):
    assert same(*RUN, "bb", "wc", "-c", stdin=b"not for you").out == b"0\n"


def test_output_that_comes_late_after_the_end_of_stdin(same):
    result = same(*RUN, "-i", "bb", "sh", "-c", "cat >/dev/null; sleep 1; echo late", stdin=b"x")
    assert (result.code, result.out) == (0, b"late\n")


def test_output_after_a_silence(same):
    result = same(*RUN, "bb", "sh", "-c", "sleep 1; echo late; exit 4")
    assert (result.code, result.out) == (4, b"late\n")


def test_bulk_stdin_arrives_complete(same, bulk, bulk_md5):
    result = same(*RUN, "-i", "bb", "md5sum", stdin=bulk)
    assert (result.code, result.out.split()[0]) == (0, bulk_md5)


def test_bulk_there_and_back(same, bulk, bulk_md5):
    result = same(*RUN, "-i", "bb", "cat", stdin=bulk)
    assert (result.code, hashlib.md5(result.out).hexdigest().encode()) == (0, bulk_md5)


def test_output_while_stdin_is_left_unread(same, bulk):
    """The container reads some of its stdin, writes a lot, and ends with the rest unread."""
    script = "head -c 100000 >/dev/null; dd if=/dev/zero bs=1048576 count=20 2>/dev/null"
    result = same(*RUN, "-i", "bb", "sh", "-c", script, stdin=bulk)
    assert (result.code, len(result.out), result.out.strip(b"\0")) == (0, 20 * 1024 * 1024, b"")


def test_run_ends_with_the_container_while_stdin_is_open(direct, proxied):
    """docker exits as soon as the output has ended; its stdin never ends."""
    results = []
    for docker in (direct, proxied):
        with docker.start(*RUN, "-i", "bb", "sh", "-c", "echo bye; exit 5") as running:
            results.append(running.finish())
    assert results[0] == results[1]
    assert (results[1].code, results[1].out) == (5, b"bye\n")


def test_command_that_does_not_exist(same):
    def clean(result):
        # A second line, about the cancelled wait of docker itself, may follow: a race inside docker.
        return (result.code, result.err.splitlines()[0], result.out)

    code, err, _ = same(*RUN, "bb", "no-such-command", clean=clean)
    assert code == 127 and b"no-such-command" in err


def test_exec_without_stdin(same, sleeper):
    result = same("exec", sleeper, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.code, result.out, result.err) == (3, b"out\n", b"err\n")


def test_exec_with_stdin(same, sleeper):
    result = same("exec", "-i", sleeper, "sh", "-c", "cat; echo end", stdin=b"piped\n")
    assert (result.code, result.out) == (0, b"piped\nend\n")


def test_exec_output_after_the_end_of_stdin(same, sleeper):
    result = same("exec", "-i", sleeper, "sh", "-c", "wc -c; sleep 1; echo late; exit 9", stdin=b"12345")
    assert (result.code, result.out) == (9, b"5\nlate\n")


def test_exec_bulk(same, sleeper, bulk, bulk_md5):
    result = same("exec", "-i", sleeper, "cat", stdin=bulk)
    assert (result.code, hashlib.md5(result.out).hexdigest().encode()) == (0, bulk_md5)


def test_exec_detached(same, proxied, sleeper):
    mark = "/tmp/detached"
    result = same("exec", "-d", sleeper, "sh", "-c", f"echo done > {mark}")
    assert (result.code, result.out, result.err) == (0, b"", b"")
    poll(lambda: proxied("exec", sleeper, "cat", mark).out == b"done\n", "the detached command has run")
    assert proxied("exec", sleeper, "rm", mark).code == 0


def test_exec_in_a_container_that_does_not_exist(same):
    result = same("exec", "no-such-container", "true")
    assert result.code == 1 and b"No such container" in result.err


def test_forty_execs_at_once(proxied, sleeper):
    blobs = [random.Random(n).randbytes(200_000) for n in range(40)]

    def there_and_back(blob):
        return proxied("exec", "-i", sleeper, "cat", stdin=blob, timeout=100)

    with ThreadPoolExecutor(40) as pool:
        results = list(pool.map(there_and_back, blobs))
    wrong = [n for n, result in enumerate(results) if result.code or result.out != blobs[n]]
    assert not wrong, [results[n] for n in wrong]


def test_attach_with_stdin_open(proxied, daemon, name):
    daemon.start_container(name, ["sh", "-c", "while read line; do echo got $line; done"], stdin_open=True)
    with proxied.start("attach", name) as attached:
        for word in (b"one", b"two"):
            attached.send(word + b"\n")
            attached.wait_for(lambda out: b"got " + word + b"\n" in out, f"the echo of {word}")
        daemon.api.kill(name)
        result = attached.finish()
    assert (result.code, result.out) == (137, b"got one\ngot two\n")


def test_attach_without_stdin(proxied, daemon, name):
    daemon.start_container(name, ["sh", "-c", "read line; echo $line; exit 6"], stdin_open=True)
    with proxied.start("attach", "--no-stdin", name) as attached, proxied.start("attach", name) as other:
        # The container may end only when both are attached.
        poll(lambda: _attached(daemon, name, 2), "both are attached")
        other.send(b"both hear it\n")
        assert (attached.finish().code, bytes(attached.out)) == (6, b"both hear it\n")
        assert (other.finish().code, bytes(other.out)) == (6, b"both hear it\n")


def _attached(daemon, name, count):
    """Returns whether the past events of the daemon contain so many attaches."""
    past = daemon.api.events(since=0, until=int(time.time()) + 1, filters={"container": name, "event": "attach"})
    return len(list(past)) >= count


def test_stop_while_attached(direct, proxied, daemon, name):
    script = 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.1; done'
    results = []
    for docker in (direct, proxied):
        with docker.start("run", "--rm", "--network", "none", "--name", name, "bb", "sh", "-c", script) as running:
            running.wait_for(lambda out: out == b"ready\n", "the container runs")
            assert docker("stop", name).code == 0
            results.append(running.finish())
    assert results[0] == results[1]
    assert (results[1].code, results[1].out) == (3, b"ready\nbye\n")


def test_kill_of_a_silent_container_ends_the_client(proxied, daemon, name):
    with proxied.start("run", "--network", "none", "--name", name, "bb", "sleep", "1000") as running:
        poll(lambda: _runs(daemon, name), "the container runs")
        daemon.api.kill(name)
        assert running.finish().code == 137


def _runs(daemon, name):
    found = daemon.api.containers(filters={"name": f"^/{name}$", "status": "running"})
    return bool(found)


def test_both_connections_close_when_a_client_is_killed(front, proxied, daemon, name):
    """SIGKILL in the middle of a stream: the proxy closes both connections, and the container runs on."""
    before = front.health()
    script = "while :; do echo line; sleep 0.1; done"
    with proxied.start("run", "--network", "none", "--name", name, "bb", "sh", "-c", script) as running:
        running.wait_for(lambda out: out.count(b"line\n") >= 3, "output")
        running.kill()
    front.check_health(before)
    assert daemon.running(name)


def test_both_connections_close_when_an_interactive_client_is_killed(front, proxied, daemon, name):
    before = front.health()
    with proxied.start("run", "-i", "--network", "none", "--name", name, "bb", "cat") as running:
        running.send(b"hello\n")
        running.wait_for(lambda out: out == b"hello\n", "the echo")
        running.kill()
    front.check_health(before)


def test_slow_reader_gets_everything_and_costs_no_memory(front, proxied):
    size = 100 * 1024 * 1024
    script = f"dd if=/dev/zero bs=1048576 count={size // 1048576} 2>/dev/null; echo end >&2"
    memory = resident_kib(front.worker())
    with proxied.start(*RUN, "bb", "sh", "-c", script, collect=False) as running:
        out = running.process.stdout
        got = len(out.read(65536))
        pause = threading.Event()
        for _ in range(20):  # a reader with breaks, then one long break
            got += len(out.read(65536))
            pause.wait(0.02)
        pause.wait(1.5)
        grown = resident_kib(front.worker()) - memory
        while chunk := out.read(1 << 20):
            assert not chunk.strip(b"\0")
            got += len(chunk)
        result = running.finish()
    assert (result.code, got, result.err) == (0, size, b"end\n")
    assert grown < 8 * 1024, f"the worker grew by {grown} KiB while the reader paused"


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes_of_run(same, code):
    assert same(*RUN, "bb", "sh", "-c", f"exit {code}").code == code


def test_create_start_attached(same, name, proxied):
    """`start -a` attaches first and starts then; the output is sent through the tunnel only."""
    assert proxied("create", "--name", name, "--network", "none", "bb", "sh", "-c", "echo started; exit 2").code == 0
    result = proxied("start", "-a", name)
    assert (result.code, result.out) == (2, b"started\n")


def test_start_interactive(proxied, name):
    assert proxied("create", "-i", "--name", name, "--network", "none", "bb", "cat").code == 0
    result = proxied("start", "-a", "-i", name, stdin=b"to the started one\n")
    assert (result.code, result.out) == (0, b"to the started one\n")


@pytest.mark.parametrize("words", [("ps", "-aq", "--filter", "name=sleeper"), ("images", "-q"), ("inspect", "bb")])
def test_ordinary_commands(same, sleeper, words):
    assert same(*words).code == 0
