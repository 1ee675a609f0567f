"""What a report has written: the page as a browser would find it, report.json, and digests of every file."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from conftest import ROOT
from jsonschema import Draft202012Validator

import ftlib.report

SCHEMA = Draft202012Validator(
    json.loads((Path(ftlib.report.__file__).parent / "report.schema.json").read_text(encoding="utf-8"))
)
CHECK = ROOT.parent / "shared" / "tools" / "check_study.py"


class Page(HTMLParser):
    """What a browser would find on the page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(study: Path) -> dict:
    """report.json, which is in its schema."""

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    content = json.loads((study / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    SCHEMA.validate(content)
    return content


OUTPUTS = ("report.html", "report.json", "tables/*.csv", "figures/*.svg")


def digests(study: Path) -> dict[str, str]:
    paths = [path for pattern in OUTPUTS for path in study.glob(pattern)]
    return {str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
