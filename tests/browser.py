"""A headless Chromium, driven by its own protocol over a pipe: no driver, no client library.

with Browser(chromium) as browser, browser.page():
    browser.open("http://127.0.0.1:8000/docs")
    browser.click("button.authorize")
"""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, Self

# A name for this machine that the browser knows; Swagger UI does less on one that it knows too.
HOST = "recoup.test"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,2400",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes to 4.
ON_PIPES = 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2'
SECONDS = 30


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with one page at a time; it notes every request, and everything that goes wrong.

    *requests* are the URLs that the page asked for, *problems* the errors and warnings of its
    console, failed loads and uncaught exceptions included.
    """

    def __init__(self, chromium: str) -> None:
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._numbers = count(1)
        self._session: str | None = None
        self._profile = tempfile.TemporaryDirectory(prefix="recoup-chromium-")
        flags = (*FLAGS, f"--user-data-dir={self._profile.name}")
        self._process = subprocess.Popen(
            ["sh", "-c", ON_PIPES, "sh", chromium, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError, EOFError):
            self._send("Browser.close")
        self._process.communicate(timeout=SECONDS)
        self._profile.cleanup()

    @contextmanager
    def page(self) -> Iterator[None]:
        """Have a page of one's own, with nothing noted yet."""
        self.requests, self.problems = [], []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        try:
            for domain in ("Page", "Network", "Runtime", "Log"):
                self._send(f"{domain}.enable")
            yield
        finally:
            self._session = None
            self._send("Target.closeTarget", targetId=target)

    def open(self, url: str) -> None:
        """Go to a page."""
        self._send("Page.navigate", url=url)

    def look(self, width: int = 1200, scheme: str = "light") -> None:
        """Have a screen of that many pixels across, and prefer `light` or `dark` pages."""
        screen = {"width": width, "height": 2400, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", **screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._send("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        result = self._send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def text(self, selector: str) -> str:
        """Return what an element shows, once it is there."""
        return str(self.wait(f"document.querySelector({json.dumps(selector)})?.innerText"))

    def click(self, selector: str) -> None:
        """Click on the middle of an element with the mouse, once it is there."""
        x, y = self.wait(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                element?.scrollIntoView({{block: "center"}});
                const box = element?.getBoundingClientRect();
                return box?.width && [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def fill(self, selector: str, text: str) -> None:
        """Type into a field in place of what it holds."""
        self.click(selector)
        self.evaluate("document.activeElement.select()")
        self._send("Input.insertText", text=text)

    def wait(self, script: str) -> Any:
        """Return the value of a JavaScript expression as soon as it is a true one."""
        end = time.monotonic() + SECONDS
        while not (value := self.evaluate(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} stayed {value!r}; problems: {self.problems}")
            time.sleep(0.05)
        return value

    def _send(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\0")
        self._process.stdin.flush()
        while (message := self._receive()).get("id") != number:
            self._note(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        while b"\0" not in self._buffer:
            data = self._process.stdout.read1()
            if not data:
                raise EOFError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("sessionId") != self._session:
            return
        params = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.loadingFailed":
                self.problems.append(params["errorText"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{params['entry']['text']} {params['entry'].get('url')}")
