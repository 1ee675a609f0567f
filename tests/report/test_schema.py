"""report.schema.json says what report.json holds, all of it and nothing else; of made-up studies: test_golden.py."""

import copy
import json
import shutil
from collections.abc import Iterator

import pytest
from conftest import ROOT
from jsonschema import ValidationError
from pages import SCHEMA, read
from test_golden import STUDIES

from ftlib.report import build

RECORDED = sorted(path.parent.name for path in (ROOT / "reports" / "recorded").glob("*/suite.toml"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("schema") / "plain"
    STUDIES["plain"](folder)
    build.build(folder)
    return read(folder)


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_studies_are_in_the_schema(name, tmp_path):
    shutil.copytree(ROOT / "reports" / "recorded" / name, tmp_path / name)
    build.build(tmp_path / name)
    read(tmp_path / name)


def _objects(schema: dict) -> Iterator[dict]:
    """Every object of a schema whose keys it names."""
    if "properties" in schema:
        yield schema
    for inner in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from _objects(inner)


def test_a_key_that_the_schema_lacks_is_refused(plain):
    tried = 0
    # The schema asks the same of every row.
    plain = {name: value[:1] if isinstance(value, list) else value for name, value in plain.items()}
    for place in (["rows"], ["verdicts"], ["report_card"], ["plan"], []):
        row = plain
        for name in place:
            row = row[name]
        row = row[0] if isinstance(row, list) else row
        for key in row:
            schema = copy.deepcopy(SCHEMA.schema)
            one = schema
            for name in place:
                one = one["properties"][name]
            one = one.get("items", one)
            del one["properties"][key]
            one["required"] = [name for name in one["required"] if name != key]
            with pytest.raises(ValidationError, match="Additional properties"):
                SCHEMA.evolve(schema=schema).validate(plain)
            tried += 1
    assert tried > 70


def test_a_table_without_a_column_is_refused(plain):
    broken = json.loads(json.dumps(plain))
    del broken["verdicts"][0]["p_holm"]
    with pytest.raises(ValidationError, match="'p_holm' is a required property"):
        SCHEMA.validate(broken)


def test_every_table_is_closed_and_every_key_is_explained():
    for one in _objects(SCHEMA.schema):
        assert one["additionalProperties"] is False and set(one["required"]) <= set(one["properties"])
        assert all("description" in inner for inner in one["properties"].values())
