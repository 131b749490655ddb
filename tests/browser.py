"""A headless Chromium, driven over a pipe: no package is needed, and no port is opened."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome-headless-shell",
)

# Chromium reads from descriptor 3 and writes to 4.
_WITH_PIPES = """
import os, sys
from fcntl import F_DUPFD, fcntl
commands, answers = (fcntl(int(number), F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The program in $BROWSER_FOR_TESTS, or the first that is installed."""
    return os.getenv("BROWSER_FOR_TESTS") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. Messages are those of the Chrome DevTools protocol.

    Attributes:
        errors: what the page wrote to its console as an error, and exceptions.
        requests: addresses that it asked for.
    """

    def __enter__(self) -> "Browser":
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._events: list[dict] = []
        self._number = 0
        self._buffer = b""
        self._session = None
        self._profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        command = [
            *(sys.executable, "-S", "-c", _WITH_PIPES, str(commands), str(answers)),
            *(find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            "--window-size=1200,1000",  # with the browser's own bars, in newer ones
            # A camera that shows a test picture, for pages that use one.
            *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
            *("--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank"),
        ]
        self._process = subprocess.Popen(
            command,
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        targets = self.command("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.command("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")
        return self

    def __exit__(self, *exception) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def command(self, method: str, **parameters) -> dict:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, address: str | Path) -> None:
        """Open a page and wait until it is loaded."""
        self._events.clear()
        url = address.as_uri() if isinstance(address, Path) else address
        self.command("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()

    def evaluate(self, expression: str):
        """The value of a JavaScript expression; promises are waited for."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """A mouse click at (x, y), relative to the first element that the selector finds."""
        left, top, width, height = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "let r = e.getBoundingClientRect();"
            # An element may be taller than the window.
            f"scrollBy({{top: r.top + {y} * r.height - innerHeight / 2, behavior: 'instant'}});"
            "r = e.getBoundingClientRect();"
            "return [r.left, r.top, r.width, r.height]; })()"
        )
        place = {"x": left + x * width, "y": top + y * height}
        self.command("Input.dispatchMouseEvent", type="mouseMoved", **place)
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place
            )

    def press(self, key: str) -> None:
        """Press a key, such as "ArrowDown", "Tab", or a small letter."""
        codes = {"Tab": 9, "Enter": 13, "ArrowUp": 38, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes.get(key) or ord(key.upper()),
            )

    def _receive(self) -> dict:
        while b"\0" not in self._buffer:
            some = os.read(self._read, 1 << 20)
            if not some:
                raise RuntimeError("the browser has ended")
            self._buffer += some
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer = json.loads(message)
        if "method" in answer:
            self._record(answer)
        return answer

    def _record(self, event: dict) -> None:
        self._events.append(event)
        parameters = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.errors.append(str(parameters["args"]))
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
