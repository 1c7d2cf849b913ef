"""A real browser without a screen: Debian's chromium, driven through chromedriver by the WebDriver protocol (W3C)."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from harness.waiting import until

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id in the protocol
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,1000",
)


class Browser:
    """One window; raises RuntimeError where chromium or its driver is not installed or does not start."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        if shutil.which("chromedriver") is None or shutil.which("chromium") is None:
            raise RuntimeError("chromium and chromium-driver are not installed")
        self._profile = tempfile.mkdtemp(prefix="browser-")
        self._driver = subprocess.Popen(
            [*prefix, "chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._session = ""
        try:
            self._port = self._read_port()
            options = {"binary": shutil.which("chromium"), "args": [*_ARGUMENTS, f"--user-data-dir={self._profile}"]}
            wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
            self._session = self._call("POST", "/session", wanted)["sessionId"]
        except BaseException:
            self.close()
            raise

    def open(self, url: str) -> None:
        """Load a page."""
        self._command("POST", "/url", {"url": url})

    @property
    def title(self) -> str:
        title: str = self._command("GET", "/title")
        return title

    def click(self, selector: str) -> None:
        """Click on the link or button that a CSS selector finds, and wait for the page that this loads."""
        with self._leaving():
            self._command("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into a field; a newline at the end is the return key, and waits for the page that this loads."""
        keys = {"text": text.replace("\n", "\ue007")}
        with self._leaving() if text.endswith("\n") else contextlib.nullcontext():
            self._command("POST", f"/element/{self._find(selector)}/value", keys)

    def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        text: str = self._command("GET", f"/element/{self._find(selector)}/text")
        return text

    def run(self, script: str) -> Any:
        """Evaluate a script's ``return`` in the page."""
        return self._command("POST", "/execute/sync", {"script": script, "args": []})

    def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self._command("GET", "/screenshot"))

    def close(self) -> None:
        """End browser and driver."""
        try:
            if self._session:
                self._call("DELETE", f"/session/{self._session}")
        finally:
            self._driver.terminate()
            self._driver.wait(20)
            assert self._driver.stdout is not None
            self._driver.stdout.close()
            shutil.rmtree(self._profile, ignore_errors=True)

    @contextlib.contextmanager
    def _leaving(self) -> Iterator[None]:
        """Wait at the end of the block until another page has been loaded: the driver does not always."""
        self.run("document.body.dataset.left = 'not yet'")
        yield
        arrived = "return document.readyState == 'complete' && !!document.body && !document.body.dataset.left"
        until(lambda: self.run(arrived))

    def _read_port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if found := re.search(r"successfully on port (\d+)", line):
                return int(found[1])
        raise RuntimeError("chromedriver does not start here")

    def _find(self, selector: str) -> str:
        found: str = self._command("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]
        return found

    def _command(self, method: str, path: str, body: Any = None) -> Any:
        return self._call(method, f"/session/{self._session}{path}", body)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        value = answer["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{value['error']}: {value['message'][:300]}")
        return value
