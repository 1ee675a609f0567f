"""What is done to the training examples so that a method treats groups more alike; compared like any method.

Nothing here sees the test split, and nothing changes what is measured; only `scrub` takes words out of every text,
since a model that never reads them cannot go by them.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ftlib.core.errors import FtlibError, unknown
from ftlib.data.task import Task

if TYPE_CHECKING:
    import pandas as pd

MITIGATIONS = {
    "": "nothing",
    "reweight": "examples count so that label and group are independent (Kamiran & Calders 2012, section 4.3)",
    "balance": "within each label every group is drawn equally often, the smaller ones repeatedly",
    "augment": "every example with gender terms again with these swapped (Zhao et al. 2018, section 3)",
    "scrub": "gender terms replaced by neutral words in every text (De-Arteaga et al. 2019, section 4)",
}
"""Name -> what it does."""


def column_of(task: Task, asked: str) -> str:
    """The group column that a mitigation goes by: the one asked for, or the task's first.

    Raises:
        FtlibError: The task has no groups, or not that one.
    """
    if not task.group_columns:
        raise FtlibError(f"{task.name}: mitigation needs groups; name their column with group_columns")
    if asked and asked not in task.group_columns:
        raise unknown("mitigation_column", asked, task.group_columns)
    return f"group_{asked or task.group_columns[0]}"


def without_terms(task: Task) -> str:
    """Why a mitigation that changes gender terms would change nothing; empty where a training text has one."""
    from ftlib.data.identity_terms import load_terms, swapped

    terms, texts = load_terms(), task.splits["train"]["text"]
    if any(swapped(text, terms, "gender") is not None for text in texts):
        return ""
    return f"none of the {len(texts)} training texts of {task.name} has an English gender term to change"


def mitigated(task: Task, train: "pd.DataFrame", how: str, column: str, seed: int) -> "pd.DataFrame":
    """The training examples after a mitigation.

    Args:
        task: Their task.
        train: The examples drawn.
        how: One of MITIGATIONS; "scrub" has been done to the whole task by then.
        column: Group column; empty: the task's first.
        seed: Which examples are repeated.

    Returns:
        The same columns; with "reweight" one more, `weight`, whose mean is 1.
    """
    if how in ("", "scrub"):
        return train
    if how == "augment":
        return _with_twins(train)
    group = train[column_of(task, column)]
    if how == "reweight":
        return train.assign(weight=independent(train["label"], group))
    return train.iloc[balanced(train["label"], group, np.random.default_rng(seed))]


def independent(labels: "pd.Series", groups: "pd.Series") -> np.ndarray:
    """Weights under which label and group are independent: P(label) P(group) / P(label, group), for each example.

    >>> import pandas as pd
    >>> labels, groups = pd.Series(list("aaab")), pd.Series(list("wwmm"))
    >>> independent(labels, groups).tolist()
    [0.75, 0.75, 1.5, 0.5]
    """
    n = len(labels)
    of_label, of_group = (values.map(values.value_counts()).to_numpy() / n for values in (labels, groups))
    both = labels.astype(str) + "\x1f" + groups.astype(str)
    return of_label * of_group / (both.map(both.value_counts()).to_numpy() / n)


def balanced(labels: "pd.Series", groups: "pd.Series", rng: np.random.Generator) -> np.ndarray:
    """Places of examples such that each label has as many of every group it has: all of them, the smaller repeated.

    >>> import pandas as pd
    >>> places = balanced(pd.Series(list("aaabb")), pd.Series(list("wwmwm")), np.random.default_rng(0))
    >>> sorted(places.tolist())
    [0, 1, 2, 2, 3, 4]
    """
    chosen: list[np.ndarray] = []
    values, of = labels.to_numpy(), groups.to_numpy()
    for label in dict.fromkeys(values):
        cells = [np.flatnonzero((values == label) & (of == group)) for group in dict.fromkeys(of[values == label])]
        most = max(map(len, cells))
        for cell in cells:
            times, rest = divmod(most, len(cell))
            chosen += [np.tile(cell, times), rng.permutation(cell)[:rest]]
    return np.sort(np.concatenate(chosen))


def _with_twins(train: "pd.DataFrame") -> "pd.DataFrame":
    """Each example and, where it has a gender term, its twin with the terms swapped; labels stay."""
    import pandas as pd

    from ftlib.data.identity_terms import load_terms, swapped

    terms = load_terms()
    twins = train.assign(text=[swapped(text, terms, "gender") for text in train["text"]], id=train["id"] + "-swapped")
    return pd.concat([train, twins[twins["text"].notna()]], ignore_index=True)


def scrub(task: Task) -> Task:
    """The task with neutral words in place of gender terms, in every split and test set."""
    from ftlib.data.identity_terms import load_terms, scrubbed

    terms = load_terms()

    def clean(frame: "pd.DataFrame") -> "pd.DataFrame":
        return frame.assign(text=[scrubbed(text, terms, ["gender"]) for text in frame["text"]])

    return replace(
        task,
        splits={name: clean(frame) for name, frame in task.splits.items()},
        tests={name: clean(frame) for name, frame in task.tests.items()},
        stated={**task.stated, "scrubbed": "gender terms"},
    )
