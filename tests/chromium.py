"""Headless Chromium, driven through its own protocol over a pipe: no port and no package.

https://chromedevtools.github.io/devtools-protocol: messages are JSON, each ended by a zero byte.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_SECONDS = 45.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def installed() -> str | None:
    """The path of a browser, None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser, with all that it asked of the network and wrote to its console."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def connect() -> None:  # its ends of the pipes are 3 and 4
            os.dup2(os.dup(to_browser), 3)
            os.dup2(os.dup(from_browser), 4)

        command = [str(installed()), *FLAGS, f"--user-data-dir={self.folder.name}"]
        self.process = subprocess.Popen(
            [*command, "--remote-debugging-pipe", "about:blank"],
            close_fds=False,
            preexec_fn=connect,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._messages, self.events = b"", 0, list[dict[str, Any]]()
        targets = self.send("Target.getTargets", session=None)["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attach = {"targetId": target, "flatten": True}
        self.session = self.send("Target.attachToTarget", attach, session=None)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.send(f"{domain}.enable")
        self.size(width, height)

    def send(
        self, method: str, parameters: dict[str, Any] | None = None, session: str | None = ""
    ) -> dict[str, Any]:
        """The result of one command."""
        self._messages += 1
        message = {"id": self._messages, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._messages:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, on: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.send("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file and wait until its scripts say that they are ready."""
        self.send("Page.navigate", {"url": "about:blank"})
        self.send("Page.navigate", {"url": path.resolve().as_uri() + fragment})
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never true: {condition}; {self.problems()}"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        options = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self.send("Runtime.evaluate", options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, name: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            key = {"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code}
            self.send("Input.dispatchKeyEvent", key)

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        self.send("DOM.setFileInputFiles", {"nodeId": node, "files": [str(path)]})

    def screenshot(self, selector: str = "html") -> bytes:
        """A PNG of an element, whether or not it is in sight."""
        place = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        box = self.run(
            f"(({{x, y, width, height}}) => [x + scrollX, y + scrollY, width, height])({place})"
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
        options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(self.send("Page.captureScreenshot", options)["data"])

    def requests(self) -> list[str]:
        """Addresses that the page asked for, other than its own file and what is in it."""
        asked = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        urls = [e["params"]["request"]["url"] for e in asked]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:", "about:"))]

    def problems(self) -> list[str]:
        """Errors and warnings of the console."""
        found = []
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            if event["method"] == "Runtime.consoleAPICalled" and params["type"] in (
                "error",
                "warning",
            ):
                found.append(str(params["args"]))
            if event["method"] == "Log.entryAdded" and params["entry"]["source"] != "rendering":
                found.append(str(params["entry"]))  # of rendering: that tests read canvases
        return found

    def processor_seconds(self) -> float:
        """Processor time of all processes of the browser so far."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[3]) == self.process.pid:  # its session
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._in)
        os.close(self._out)
        self.folder.cleanup()
