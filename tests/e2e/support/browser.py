"""A headless Chromium, driven by the DevTools protocol over pipes."""

import base64
import itertools
import json
import os
import select
import time

from . import tools
from .proc import NotReached, Service, poll, tail

PATIENCE = 30


class Browser:
    """One Chromium with one page, in a network namespace."""

    def __init__(self, directory, namespace):
        directory.mkdir()
        self.log = directory / "chromium.log"
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        os.set_inheritable(commands, True)
        os.set_inheritable(answers, True)
        # It reads commands from descriptor 3, and writes answers to 4.
        argv = [
            tools.program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={directory}", "about:blank",
        ]  # fmt: skip
        script = f'exec 3<&{commands} 4>&{answers} {commands}<&- {answers}>&-; exec nsenter --net={namespace} "$@"'
        self.service = Service(["bash", "-c", script, "chromium", *argv], self.log, pass_fds=(commands, answers))
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._read = b""
        self._session = None
        #: What the browser has told: [(method, params)].
        self.events = []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method, **params):
        """Runs a command, and returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            if "method" in answer:
                self.events.append((answer["method"], answer["params"]))

    def _next(self, deadline):
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            if not data:
                raise NotReached(f"no answer of the browser:\n{tail(self.log)}")
            self._read += data
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def run(self, script):
        """Runs a script in the page, and returns its value."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def open(self, url):
        """Opens an address, and waits until it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def wait(self, script):
        """Waits until a script has a true value, and returns it."""
        return poll(lambda: self.run(script), lambda: f"{script}:\n{self.text()}")

    def text(self):
        """The text of the page, as it is shown."""
        return self.run("document.body.innerText")

    def told(self, method):
        return [params for name, params in self.events if name == method]

    def view(self, width, height, scheme="light"):
        """Sets the size of the window, and the colour scheme that the user prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.service.stop()
        os.close(self._commands)
        os.close(self._answers)
