"""A headless Chromium that a test drives through a pipe: open an address, run JavaScript in it, hear what its console says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_SECONDS = 300  # of patience: a machine may have much else to do
# The browser reads its file 3 and writes its file 4.
_AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD_CLOEXEC, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class _Pipe:
    """What is said to a browser and what it says, numbered; its pages by session."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive, self._number, self._buffer = send, receive, 0, b""
        self.pages: dict[str, Page] = {}

    def say(self, message: dict[str, Any]) -> int:
        self._number += 1
        self._send.write(json.dumps(message | {"id": self._number}).encode() + b"\0")
        self._send.flush()
        return self._number

    def next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._receive.fileno(), 1 << 16)
            assert got, "the browser went away"
            self._buffer += got
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


class Page:
    """A browser with one page, spoken to in the DevTools protocol.

    Attributes:
        console: errors and warnings so far, uncaught exceptions and requests that failed among them.
        requests: every address that the page asked for.
    """

    def __init__(self, pipe: _Pipe, **where: Any) -> None:
        self._pipe, self._session = pipe, ""
        self.console: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank", **where)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        pipe.pages[self._session] = self
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def another(self) -> Page:
        """A page of another reader: a profile of its own in the same process, which shares nothing with this one."""
        return Page(self._pipe, browserContextId=self.call("Target.createBrowserContext")["browserContextId"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        # Targets belong to the browser, all else to a page.
        number = self._pipe.say({"method": method, "params": params} | ({} if method.startswith("Target.") else {"sessionId": self._session}))
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            said = self._pipe.next()
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])
            if said.get("sessionId") in self._pipe.pages:
                self._pipe.pages[said["sessionId"]]._note(said.get("method"), said.get("params", {}))
        raise TimeoutError(method)

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.console.append(" ".join(str(value.get("value", value.get("description"))) for value in params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, address: str) -> None:
        """Go to an address, until the page there is loaded."""
        self.run("globalThis.left = true")
        self.call("Page.navigate", url=address)
        self.until("!globalThis.left && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str, seconds: float = _SECONDS) -> Any:
        """The first value of an expression that is true; asked for again and again."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} did not come true; the page says {self.run('document.body.innerText')}"
            time.sleep(0.05)
        return value

    def size(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Give the window a size in pixels, and the reader a preference."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def screenshot(self, path: Path) -> None:
        """Keep the whole page as a picture."""
        import base64

        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A headless Chromium with a fresh profile; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine to open the page with")
    there, send = os.pipe()
    receive, back = os.pipe()
    command = [sys.executable, "-c", _AS_3_AND_4, str(there), str(back), chromium, "--headless", "--no-sandbox", *_QUIET]
    command += [f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    process = subprocess.Popen(command, pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(there)
    os.close(back)
    with open(send, "wb") as outgoing, open(receive, "rb") as incoming:
        try:
            yield Page(_Pipe(outgoing, incoming))
        finally:
            process.terminate()
            process.wait(30)
