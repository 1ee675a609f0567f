"""What `make test` leaves to `make test-all`: more of the same, which guards no fault of its own."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pytest


def some_of(n: int, values: Iterable[Any]) -> list[Any]:
    """Values, or tuples of them, of which all but the first n are slow."""
    return [value if place < n else _slow(value) for place, value in enumerate(values)]


def mostly(quick: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values, or tuples of them, of which all but the quick ones are slow."""
    return [value if value in quick else _slow(value) for value in values]


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)


def crossed(rows: Iterable[str], columns: Sequence[Any], whole: Collection[str]) -> list[Any]:
    """Pairs of everything in rows with everything in columns; slow but for those in the first column and in whole rows.

    >>> [pair.values for pair in crossed("ab", "xy", "b") if not pair.marks]
    [('a', 'x'), ('b', 'x'), ('b', 'y')]
    """
    return [
        pytest.param(row, column, marks=() if column == columns[0] or row in whole else pytest.mark.slow)
        for row in rows
        for column in columns
    ]
