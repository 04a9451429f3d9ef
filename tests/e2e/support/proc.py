"""Processes of the suite: started with a log, waited for by condition, ended by pid."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

LOG_TAIL_LINES = 40


class NotReached(AssertionError):
    """A condition that had a deadline did not come true."""


def poll(condition, what, seconds=10.0, every=0.02):
    """Return the first true value of `condition()`, or fail with `what` when the time is over.

    `what` may be a function: it is called at the deadline, to describe the state of that moment.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise NotReached(f"not within {seconds:g} s: {text}")
        time.sleep(every)


def free_port():
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tail(path, lines=LOG_TAIL_LINES):
    """The last lines of a log file, for a failure message."""
    try:
        text = Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return f"(no file {path})"
    return "\n".join(text.splitlines()[-lines:])


class Service:
    """A long-running process whose output goes to a log file."""

    def __init__(self, argv, log_path, env=None, pass_fds=()):
        self.argv = [str(word) for word in argv]
        self.log_path = Path(log_path)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def send_signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait_ready(self, condition, seconds=60.0):
        """Wait for `condition()`; a process that ends first is a failure at once."""

        def ready():
            if not self.alive():
                raise NotReached(
                    f"{self.argv[0]} ended with status {self.process.returncode}:\n{tail(self.log_path)}"
                )
            return condition()

        poll(ready, lambda: f"{self.argv[0]} is ready:\n{tail(self.log_path)}", seconds, every=0.05)

    def stop(self, number=signal.SIGTERM, seconds=20.0):
        """Ends the process by SIGTERM, and by SIGKILL if that takes too long."""
        self.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def children(pid):
    """Pids of the direct children of a process."""
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def has_ended(pid):
    """Whether a process has ended, even if its parent has not waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def open_fds(pid):
    """What the descriptors of a process point at, by number."""
    found = {}
    base = Path(f"/proc/{pid}/fd")
    try:
        numbers = list(base.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return found
    for entry in numbers:
        try:
            found[int(entry.name)] = os.readlink(entry)
        except FileNotFoundError:
            continue
    return found


def resident_kib(pid):
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} shows no VmRSS")
