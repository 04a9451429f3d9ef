"""The docker command line as a test subject."""

import os
import pty
import signal
import subprocess
import termios
import threading
from dataclasses import dataclass

from .proc import poll


@dataclass(frozen=True)
class Result:
    """The result of a command: all three parts have to be the same through a proxy."""

    code: int
    out: bytes
    err: bytes

    def __repr__(self):
        return f"Result(code={self.code}, out={_short(self.out)}, err={_short(self.err)})"


def _short(data, limit=400):
    if len(data) <= limit:
        return repr(data)
    return f"<{len(data)} bytes: {data[:160]!r} ... {data[-160:]!r}>"


class Docker:
    """One docker binary that talks to one endpoint."""

    def __init__(self, binary, endpoint, config_dir):
        self.binary = binary
        self.endpoint = endpoint
        self.config_dir = config_dir

    def argv(self, *words):
        return [self.binary, "--config", str(self.config_dir), *self.endpoint.docker_options(), *map(str, words)]

    def environment(self, **extra):
        """The caller's environment without variables that would point docker elsewhere."""
        drop = ("DOCKER_", "BUILDKIT_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
        return {**kept, "LC_ALL": "C.UTF-8", "TERM": "xterm", **extra}

    def __call__(self, *words, stdin=None, timeout=90, env=None):
        """Run to the end. `stdin` is bytes, an open file, or None for an empty one."""
        feed = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
        try:
            done = subprocess.run(
                self.argv(*words), capture_output=True, timeout=timeout, env=self.environment(**(env or {})), **feed
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(
                f"docker {' '.join(map(str, words))} through {self.endpoint.name} hangs ({timeout} s); so far: "
                f"{_short(error.stdout or b'')} {_short(error.stderr or b'')}"
            ) from None
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *words, **options):
        """Run in the background with pipes."""
        return Running(self.argv(*words), self.environment(), **options)

    def terminal(self, *words, rows=24, columns=80):
        """Run in a pseudo terminal."""
        return Terminal(self.argv(*words), self.environment(), rows, columns)


class Running:
    """A docker command in the background; its output is collected by a thread."""

    def __init__(self, argv, env, stdin=subprocess.PIPE, collect=True):
        self.argv = argv
        self.process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, bufsize=0)
        self.out = bytearray()
        self.err = bytearray()
        self._threads = []
        sources = [(self.process.stderr, self.err)] + ([(self.process.stdout, self.out)] if collect else [])
        for source, sink in sources:
            thread = threading.Thread(target=self._collect, args=(source, sink), daemon=True)
            thread.start()
            self._threads.append(thread)

    @staticmethod
    def _collect(source, sink):
        while chunk := source.read(65536):
            sink += chunk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def send(self, data):
        self.process.stdin.write(data)

    def wait_for(self, condition, what, seconds=20):
        """Wait until `condition(output so far)` holds."""
        return poll(
            lambda: condition(bytes(self.out)),
            lambda: f"{what}; exit {self.process.poll()}, got {_short(bytes(self.out))} {_short(bytes(self.err))}",
            seconds,
        )

    def finish(self, seconds=30):
        """Wait for the end and return the result."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.argv[-4:]} hangs; got {_short(bytes(self.out))} {_short(bytes(self.err))}"
            ) from None
        for thread in self._threads:
            thread.join(10)
        return Result(self.process.returncode, bytes(self.out), bytes(self.err))

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                try:
                    stream.close()
                except (BrokenPipeError, ValueError):
                    pass


class Terminal:
    """A command on a pseudo terminal of its own."""

    def __init__(self, argv, env, rows, columns):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True, preexec_fn=_take_terminal
        )
        os.close(slave)
        self.out = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                chunk = os.read(self.master, 65536)
            except OSError:  # EIO: the last user of the other side is gone
                return
            if not chunk:
                return
            self.out += chunk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        os.close(self.master)

    def resize(self, rows, columns):
        """Changes the size of the window until the shell in the container sees the new size.

        The kernel sends SIGWINCH to the docker command, which listens for it some time after the first size has got
        through: one that comes before is lost, also without any proxy.
        """
        termios.tcsetwinsize(self.master, (rows, columns))
        self.ask_until(
            b"stty size\n", b"%d %d\r\n" % (rows, columns), again=lambda: self.process.send_signal(signal.SIGWINCH)
        )

    def type(self, data):
        os.write(self.master, data)

    def wait_for(self, wanted, seconds=20, start=0):
        """Wait until the output contains a byte string; returns the position behind it."""

        def found():
            at = self.out.find(wanted, start)
            return at + len(wanted) if at >= 0 else None

        return poll(
            found, lambda: f"{wanted!r} on the terminal; exit {self.process.poll()}, got {_short(bytes(self.out))}", seconds
        )

    def ask_until(self, question, wanted, seconds=20, again=lambda: None):
        """Types a command again and again until its output is the expected one."""

        def answered():
            start = len(self.out)
            self.type(question)
            try:
                self.wait_for(wanted, seconds=0.5, start=start)
            except AssertionError:
                again()
                return False
            return True

        poll(answered, lambda: f"{wanted!r} in answer to {question!r}, got {_short(bytes(self.out))}", seconds)

    def finish(self, seconds=30):
        """Wait for the end; returns (exit code, all output)."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the command hangs; got {_short(bytes(self.out))}") from None
        self._reader.join(10)
        return self.process.returncode, bytes(self.out)


def _take_terminal():
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
