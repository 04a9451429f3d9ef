"""The docker command on a terminal: run -t, run -it, exec -t, window sizes, detach keys."""

import re

import pytest

from support.proc import poll

RUN = ("run", "--network", "none")

# Without -i docker leaves the outer terminal as it is, so a line feed is converted twice: to \r\n by the
# container's terminal, and to \r\r\n by the outer one.

# docker prints this when a short-lived container has ended before its window size was set.
RESIZE_RACE = b"failed to resize tty, using default size\r\n"


def on_both(direct, proxied, *words, rows=24, columns=80):
    """Run a command on a terminal both ways; returns the equal result."""
    results = []
    for docker in (direct, proxied):
        with docker.terminal(*words, rows=rows, columns=columns) as terminal:
            code, out = terminal.finish()
            results.append((code, out.replace(RESIZE_RACE, b"")))
    assert results[0] == results[1]
    return results[1]


def test_run_with_terminal_and_no_stdin(direct, proxied):
    assert on_both(direct, proxied, *RUN, "--rm", "-t", "bb", "echo", "tty-ok") == (0, b"tty-ok\r\r\n")


def test_run_with_terminal_gives_the_exit_code(direct, proxied):
    assert on_both(direct, proxied, *RUN, "--rm", "-t", "bb", "sh", "-c", "echo end; exit 7") == (7, b"end\r\r\n")


def test_run_on_a_terminal_without_asking_for_one(direct, proxied):
    assert on_both(direct, proxied, *RUN, "--rm", "bb", "sh", "-c", "echo end; exit 7") == (7, b"end\r\n")


def test_run_interactive_shell(proxied):
    with proxied.terminal(*RUN, "--rm", "-it", "bb", "sh") as terminal:
        terminal.ask_until(b"echo $((6*7))\n", b"42\r\n")
        start = len(terminal.out)
        terminal.type(b"exit 9\n")
        code, out = terminal.finish()
    assert code == 9, out[start:]


def test_window_size_follows_the_terminal(proxied):
    with proxied.terminal(*RUN, "--rm", "-it", "bb", "sh", rows=31, columns=101) as terminal:
        terminal.ask_until(b"stty size\n", b"31 101\r\n")
        terminal.resize(45, 133)
        terminal.resize(12, 40)
        terminal.type(b"exit\n")
        assert terminal.finish()[0] == 0


def test_much_output_on_a_terminal(direct, proxied):
    """A terminal converts line feeds and has no frames; nothing may be lost at the end."""
    code, out = on_both(direct, proxied, *RUN, "--rm", "-t", "bb", "seq", "1", "100000")
    numbers = [int(word) for word in out.split()]
    assert (code, numbers) == (0, list(range(1, 100_001)))


def test_exec_with_terminal(direct, proxied, sleeper):
    assert on_both(direct, proxied, "exec", "-t", sleeper, "sh", "-c", "echo in; exit 3") == (3, b"in\r\r\n")


def test_exec_interactive_with_resize(proxied, sleeper):
    with proxied.terminal("exec", "-it", sleeper, "sh", rows=20, columns=70) as terminal:
        terminal.ask_until(b"stty size\n", b"20 70\r\n")
        terminal.resize(50, 150)
        terminal.type(b"exit 4\n")
        assert terminal.finish()[0] == 4


def test_interrupt_key_reaches_the_container(proxied):
    script = 'trap "echo caught; exit 8" INT; echo ready; while :; do sleep 0.1; done'
    with proxied.terminal(*RUN, "--rm", "-it", "bb", "sh", "-c", script) as terminal:
        terminal.wait_for(b"ready\r\n")
        terminal.type(b"\x03")
        code, out = terminal.finish()
    assert code == 8 and out.endswith(b"caught\r\n")


# Over plain tcp:// the docker command doesn't see its own detach keys and waits for the container, also without
# any proxy: Go's TCPConn wraps the error that it looks for.
DETACHING = ("tls", "tls_both")


@pytest.mark.kinds(*DETACHING)
@pytest.mark.parametrize("keys", [b"\x10\x11", b"\x18"], ids=["default", "custom"])
def test_detach_keys_of_run(proxied, daemon, name, keys):
    options = ["--detach-keys", "ctrl-x"] if keys == b"\x18" else []
    with proxied.terminal(*RUN, "-it", "--name", name, *options, "bb", "sh") as terminal:
        terminal.ask_until(b"echo rea''dy\n", b"ready\r\n")
        terminal.type(keys)
        code, out = terminal.finish()
    assert code == 0, out
    assert daemon.running(name)


@pytest.mark.kinds(*DETACHING)
def test_detach_and_attach_again(direct, proxied, daemon, name):
    """The terminal session continues in a second attach, which returns the exit code."""
    daemon.start_container(name, ["sh"], stdin_open=True, tty=True)
    with proxied.terminal("attach", name) as terminal:
        terminal.ask_until(b"echo fir''st\n", b"first\r\n")
        terminal.type(b"\x10\x11")
        terminal.finish()
    assert daemon.running(name)
    with proxied.terminal("attach", name) as terminal:
        terminal.ask_until(b"echo seco''nd\n", b"second\r\n")
        terminal.type(b"exit 5\n")
        assert terminal.finish()[0] == 5


def test_kill_of_the_container_ends_the_terminal(proxied, daemon, name):
    with proxied.terminal(*RUN, "-it", "--name", name, "bb", "sh") as terminal:
        terminal.ask_until(b"echo rea''dy\n", b"ready\r\n")
        daemon.api.kill(name)
        assert terminal.finish()[0] == 137


def test_stats_on_a_terminal_keep_coming(proxied, sleeper):
    """The table of `docker stats` is redrawn with every object that the daemon sends."""
    with proxied.terminal("stats", sleeper, columns=200) as terminal:
        poll(
            lambda: len(re.findall(rb"sleeper\s+\d+\.\d+%", bytes(terminal.out))) >= 3,
            "three tables",
            seconds=20,
        )
