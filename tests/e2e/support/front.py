"""What all proxies under test have in common: a process in front of the daemon, its logs, and what it holds."""

import json
import subprocess

from .proc import open_fds, poll, tail


class Front:
    """A running proxy. Its `worker` is the process that has the connections.

    A subclass sets `service`, `error_log` and `access_log`, and says where its endpoints are.
    """

    name = "proxy"  # in failure messages
    target_key = "uri"  # where the access log has the path
    spare_pipe_ends = 0  # pipes that a worker keeps for the next bulk transfer; they belong to no tunnel

    @property
    def pid(self):
        return self.service.pid

    def worker(self):
        raise NotImplementedError

    def url(self, name):
        """Returns where docker finds the endpoint with a name."""
        raise NotImplementedError

    def errors(self):
        """Returns the errors in the error log."""
        raise NotImplementedError

    def stop(self):
        self.service.stop()

    # the access log

    def accesses(self):
        """The access log as a list of dictionaries."""
        if not self.access_log.exists():
            return []
        lines = self.access_log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def access(self, target_part, count=1, seconds=10):
        """Wait for `count` access log lines whose path contains a string; returns the last one."""

        def found():
            hits = [entry for entry in self.accesses() if target_part in (entry[self.target_key] or "")]
            return hits if len(hits) >= count else None

        hits = poll(found, lambda: f"{count} access log line(s) for {target_part}:\n{tail(self.access_log)}", seconds)
        assert len(hits) == count, f"{len(hits)} access log lines for {target_part}, not {count}: {hits}"
        return hits[-1]

    # health

    def held(self, pid=None):
        """(sockets, pipe ends) that a worker holds."""
        targets = list(open_fds(pid or self.worker()).values())
        return (
            sum(target.startswith("socket:") for target in targets),
            sum(target.startswith("pipe:") for target in targets),
        )

    def health(self):
        """Returns the worker and what it holds, for a later comparison."""
        return {"worker": self.worker(), "held": self.held(), "errors": len(self.errors())}

    def check_health(self, before, seconds=20):
        """Checks that the same worker runs, holds no more than before, and has logged no error."""
        assert self.service.alive(), f"{self.name} ended:\n{tail(self.error_log)}"
        grave = self.errors()[before["errors"] :]
        assert not grave, "in the error log:\n" + "\n".join(grave)
        assert self.worker() == before["worker"], f"the worker died:\n{tail(self.error_log)}"

        def settled():
            sockets, pipes = self.held()
            return sockets <= before["held"][0] and pipes <= before["held"][1] + self.spare_pipe_ends

        poll(settled, lambda: self._leak_text(before), seconds)

    def _leak_text(self, before):
        return (
            f"the worker holds {self.held()} sockets and pipe ends, {before['held']} before:\n"
            f"{connections(self.worker())}\n{tail(self.access_log, 15)}\n{tail(self.error_log, 15)}"
        )


def connections(pid):
    """The connections of a process, for a failure message."""
    done = subprocess.run(["ss", "-anp"], capture_output=True, text=True)
    return "\n".join(line for line in done.stdout.splitlines() if f"pid={pid}," in line)
