"""A real browser, driven over its debugging port: what it says, what it asks for, and what axe-core finds on a page.

`python tests/browser.py STUDY FOLDER` (`make pictures`) takes the pictures of a report that README and docs show.
"""

import base64
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def browser() -> str:
    """Where there is one; empty where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), "")


def axe() -> str:
    """The script of axe-core; empty where the package is not installed."""
    spec = importlib.util.find_spec("axe_core_python")
    path = Path(spec.submodule_search_locations[0]) / "axe.min.js" if spec else None
    return path.read_text(encoding="utf-8") if path and path.is_file() else ""


_FOUND = "document.querySelector('%s')"


class Tab:
    """One page of the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.said: list[str] = []
        """Messages of the console and exceptions."""
        self.asked: list[str] = []
        """Everything that was requested."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **given: Any) -> dict[str, Any]:
        """Send a command and wait for its answer, reading what happens meanwhile."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": given}))
        while True:
            heard = json.loads(self._socket.recv())
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, heard)
                return heard["result"]
            self._heard(heard)

    def _heard(self, event: dict[str, Any]) -> None:
        given = event.get("params", {})
        if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(given)[:400])
        elif event["method"] == "Network.requestWillBeSent":
            self.asked.append(given["request"]["url"])

    def open(self, path: Path, width: int, *, dark: bool = False, scripts: bool = True) -> float:
        """Load a file; seconds until it is complete."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.do("Emulation.setEmulatedMedia", features=features)
        self.do("Emulation.setScriptExecutionDisabled", value=not scripts)
        start = time.perf_counter()
        self.do("Page.navigate", url=path.resolve().as_uri())
        while self.run("document.readyState") != "complete":
            time.sleep(0.02)
        return time.perf_counter() - start

    def run(self, expression: str) -> Any:
        """What an expression gives; promises are awaited."""
        given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        return self.do("Runtime.evaluate", **given)["result"].get("value")

    def picture(self, path: Path, of: str = "body", height: int = 0) -> None:
        """A small picture of the first element that a selector names, or of its upper part."""
        from PIL import Image

        rectangle = f"(({{x, y, width, height}}) => ({{x, y, width, height}}))({_FOUND % of}.getBoundingClientRect())"
        clip = self.run(rectangle) | {"scale": 1}
        clip["height"] = min(height or clip["height"], clip["height"])
        found = self.do("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        image = Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB")
        image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


@contextmanager
def tab(program: str) -> Iterator[Tab]:
    """Start the browser with a profile of its own, and end it."""
    import websocket

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars"]
        options += ["--remote-allow-origins=*", f"--user-data-dir={profile}", "--no-first-run", "about:blank"]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = Path(profile) / "DevToolsActivePort"
            for _ in range(600):
                if port.exists() and port.read_text():
                    break
                time.sleep(0.1)
            with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
                address = next(one for one in json.load(answer) if one["type"] == "page")["webSocketDebuggerUrl"]
            socket = websocket.create_connection(address, timeout=120)
            yield Tab(socket)
            socket.close()
        finally:
            process.terminate()
            process.wait(30)


PICTURES = {
    "report.png": (1440, "body", 1560, ""),
    "report-tablet.png": (768, "body", 1500, ""),
    "report-phone.png": (390, "body", 1500, ""),
    "report-card.png": (1440, ".card", 0, ""),
    "report-front.png": (768, ".prices", 0, "quality_and_cost"),
    "report-examples.png": (1100, "#examples", 900, "examples"),
}
"""File -> width of the page, what is taken and how much of it, and the section that is open."""


def main(study: str, folder: str) -> None:
    """Take the pictures."""
    with tab(browser()) as one:
        for name, (width, of, height, section) in PICTURES.items():
            one.open(Path(study) / "report.html", width)
            if section:
                one.run(f"{_FOUND % f'#{section}'}.closest('details').open = true")
            one.picture(Path(folder) / name, of, height)


if __name__ == "__main__":
    if not browser():
        sys.exit("no Chromium or Chrome on PATH")
    main(*sys.argv[1:])
