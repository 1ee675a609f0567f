"""EVALUATIONS: what a plan may measure before and after, beside the task itself, one row each.

A row says what is asked, of which texts and at what cost; what it does with a model is the function its row names
(`ftlib.evaluation.evaluate`), loaded where it is called, so that plans are checked without torch.
"""

import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ftlib.core.errors import FtlibError, unknown
from ftlib.data.identity_terms import load_terms
from ftlib.data.kinds import CLASSIFICATION, KINDS
from ftlib.data.tabular import SUFFIXES
from ftlib.data.task import SPLITS


@dataclass(frozen=True)
class Evaluation:
    """One row of the table."""

    name: str
    """What a plan writes; where a plan writes more, what stands before the colon."""
    question: str
    evaluate: str
    """The function (state, part, data) -> {part: (metrics, rows of the predictions or None)}; `State` is in
    `ftlib.evaluation.evaluate`."""
    metrics: tuple[str, ...]
    """Names of METRICS that it gives."""
    passes: float
    """What a text costs: how often the model reads it, at each stage; training is 3 for each pass over an example."""
    tokens: Callable[[str, Collection[str]], int] | None = None
    """About how many tokens its texts have in all, from what a plan writes and the tasks that a run learns; None: as
    many as the task's test texts."""
    load: str = ""
    """The function that loads its data, given what a plan writes behind the colon; empty: it needs the task's alone."""
    offered: tuple[str, ...] = ()
    """Names that a plan may write, where some have something behind the colon."""
    field: str = "evaluations"
    """The field of an Experiment that asks for it: one that lists names, or one that is not empty."""
    is_bias: bool = False
    """Whether it is about how people are treated."""
    made_up: bool = False
    """Whether its texts belong to no group of the task's."""
    part: Callable[[str], str] = str
    """What its part of a record is called, from what a plan writes."""
    problem: Callable[[str, bool], str] = lambda name, check_files: ""
    """What is wrong with a name, in words; the files it names are looked for where the second argument is true."""

    def allows(self, name: str) -> bool:
        """Whether a plan may write so, as far as the colon goes: what stands behind it is looked at by `problem`."""
        forms = self.offered or (self.name,)
        return any(":" in one for one in forms) if ":" in name else self.name in forms

    def function(self) -> Callable:
        """The function that measures, loaded now."""
        return pkgutil.resolve_name(self.evaluate)

    def tokens_read(self, name: str, own: Collection[str], test: float) -> float:
        """About how many tokens a model reads for it at one stage, each as often as it is read.

        Args:
            name: What the plan writes.
            own: The tasks that the run learns.
            test: Tokens of the task's test texts.

        >>> Evaluation("twice", "", "", (), passes=2).tokens_read("twice", (), 100)
        200
        """
        return self.passes * (self.tokens(name, own) if self.tokens else test)

    def data(self, name: str) -> Any:
        """What it measures on, loaded now; None where that is the task's own."""
        if not self.load:
            return None
        return pkgutil.resolve_name(self.load)(*([argument_of(name)] if self.offered else []))


def argument_of(name: str) -> str:
    """What a plan writes behind the colon.

    >>> argument_of("swaps:dialect@my/words.toml"), argument_of("general")
    ('dialect@my/words.toml', '')
    """
    return name.partition(":")[2]


def swaps_of(argument: str) -> tuple[str, str]:
    """The kind and the file of identity terms (empty: the project's).

    >>> swaps_of("gender"), swaps_of("dialect@my/words.toml")
    (('gender', ''), ('dialect', 'my/words.toml'))
    """
    kind, _, path = argument.partition("@")
    return kind, path


def _swaps_part(name: str) -> str:
    kind, path = swaps_of(argument_of(name))
    return f"swaps:{kind}@{Path(path).stem}" if path else name


def _swaps_problem(name: str, check_files: bool) -> str:
    kind, path = swaps_of(argument_of(name))
    try:
        if check_files or not path:
            load_terms(path).kind(kind)
    except FtlibError as error:
        return str(error)
    return ""


def _pairs_part(name: str) -> str:
    path = Path(argument_of(name))
    return f"{name.partition(':')[0]}:{path.parent.name if path.stem in SPLITS and path.parent.name else path.stem}"


def _pairs_tokens(name: str, own: Collection[str]) -> int:
    """By the size of the file, four bytes a token; 0 where it is not there, which is said elsewhere."""
    path = Path(argument_of(name))
    return path.stat().st_size // 4 if path.is_file() else 0


def _pairs_problem(name: str, check_files: bool) -> str:
    path = Path(argument_of(name))
    if path.suffix.lower() in SUFFIXES and (path.is_file() or not check_files):
        return ""
    return f"no such table; allowed: {name.partition(':')[0]}:PATH of a file in {', '.join(SUFFIXES)}"


PROBED = MappingProxyType({"pydocs": 37, "reviews": 27, "bios": 47})
"""Bundled tasks that linear probes are fitted to, and about how many tokens a text of each has. Said one by one: a task
that is bundled later would change what every study measures."""

PROBE_TRAIN, PROBE_TEST = 400, 300
"""Examples a probe is fitted to and tested on, the same ones for every run."""


def probed_tasks(argument: str) -> tuple[str, ...]:
    """Names of the tasks that are read off the features: the one behind the colon, or all.

    >>> probed_tasks("reviews"), probed_tasks("")
    (('reviews',), ('pydocs', 'reviews', 'bios'))
    """
    return (argument,) if argument else tuple(PROBED)


def _probed_tokens(name: str, own: Collection[str]) -> int:
    asked = set(probed_tasks(argument_of(name))).difference(own)
    return sum(PROBED[one] for one in asked) * (PROBE_TRAIN + PROBE_TEST)


def _features_problem(name: str, check_files: bool) -> str:
    argument = argument_of(name)
    return str(unknown("task of linear probes", argument, PROBED)) if argument not in ("", *PROBED) else ""


EVALUATIONS: Mapping[str, Evaluation] = MappingProxyType(
    {
        row.name: row
        for row in (
            Evaluation(
                name="general",
                question="how likely is general text? (bits per byte; models that give a likelihood of text)",
                load="ftlib.data.general:load_general",
                evaluate="ftlib.evaluation.evaluate:evaluate_general",
                metrics=("bits_per_byte", "perplexity"),
                passes=1,
                tokens=lambda name, own: 22_300,
            ),
            Evaluation(
                name="features",
                question="what do the features tell of bundled tasks that the model is not adapted to? (linear probes)",
                offered=("features", *(f"features:{task}" for task in PROBED)),
                load="ftlib.data.evaluations:probed_tasks",
                evaluate="ftlib.evaluation.linear_probes:evaluate_linear_probes",
                metrics=KINDS[CLASSIFICATION].metrics,
                passes=1,
                tokens=_probed_tokens,
                problem=_features_problem,
            ),
            Evaluation(
                name="swaps",
                question="does the answer change when he becomes she? (the task's own test texts; classifiers; "
                "swaps:KIND@PATH takes terms of yours)",
                offered=("swaps:gender", "swaps:nationality", "swaps:religion"),
                load="ftlib.evaluation.bias_probes:load_swaps",
                evaluate="ftlib.evaluation.bias_probes:evaluate_swaps",
                metrics=("flip_rate", "mean_change", "signed_gap"),
                # The text and its other version.
                passes=2,
                is_bias=True,
                made_up=True,
                part=_swaps_part,
                problem=_swaps_problem,
            ),
            Evaluation(
                name="templates",
                question="30 sentences, each about 36 identities: how far do the answers lie apart? (classifiers)",
                load="ftlib.data.bundled:load_templates",
                evaluate="ftlib.evaluation.bias_probes:evaluate_templates",
                metrics=("template_gap",),
                passes=1,
                tokens=lambda name, own: 13_000,
                is_bias=True,
                made_up=True,
            ),
            Evaluation(
                name="pairs",
                question="which of two sentences is likelier, the stereotyping or the other? (language models; "
                "CrowS-Pairs, WinoBias, Winogender or a file like theirs)",
                offered=("pairs:PATH",),
                load="ftlib.data.stereotype_pairs:read_pairs",
                evaluate="ftlib.evaluation.bias_probes:evaluate_pairs",
                metrics=("stereotype_share",),
                # The file has both sentences; a masked model reads them once for each token.
                passes=1,
                tokens=_pairs_tokens,
                is_bias=True,
                part=_pairs_part,
                problem=_pairs_problem,
            ),
            Evaluation(
                name="terms",
                question="how often is a term of your list translated as the list says? (text-to-text; a table of "
                "source and target terms)",
                offered=("terms:PATH",),
                load="ftlib.data.parallel:read_terms",
                evaluate="ftlib.evaluation.evaluate:evaluate_terms",
                metrics=("term_use",),
                # Only the source texts that hold a term are read again.
                passes=1,
                part=_pairs_part,
                problem=_pairs_problem,
            ),
            Evaluation(
                name="genders",
                question="does a German translation say the gender that an English pronoun says? (text-to-text; 96 "
                "sentences about 24 occupations)",
                load="ftlib.data.bundled:load_genders",
                evaluate="ftlib.evaluation.evaluate:evaluate_genders",
                metrics=("gender_right", "gender_gap", "stereotype_gap"),
                passes=1,
                tokens=lambda name, own: 1_300,
                made_up=True,
            ),
            Evaluation(
                name="canaries",
                question="what does a model keep of secrets that were planted in its training text?",
                evaluate="ftlib.evaluation.memorization:evaluate_memorization",
                metrics=("exposure", "extraction"),
                # A canary is scored with every other candidate for its secret.
                passes=1000,
                field="canaries",
            ),
        )
    }
)

OFFERED = tuple(
    name for row in EVALUATIONS.values() if row.field == "evaluations" for name in row.offered or (row.name,)
)
"""What a plan may write under `evaluations`."""


def evaluation_of(name: str) -> Evaluation | None:
    """The row of a name that a plan writes, or of a part of a record; None where there is none.

    >>> [row and row.name for row in map(evaluation_of, ("swaps:gender", "pairs:a.csv", "general", "swap"))]
    ['swaps', 'pairs', 'general', None]
    """
    return EVALUATIONS.get(name.partition(":")[0])


def is_bias(name: str) -> bool:
    """Whether a name or a part of a record is about how people are treated.

    >>> [is_bias(name) for name in ("swaps:gender", "templates", "pairs:a.csv", "general", "test")]
    [True, True, True, False, False]
    >>> is_bias("pairs")  # a task may be called so
    False
    """
    row = evaluation_of(name)
    return row is not None and row.is_bias and row.allows(name)


def made_up(name: str) -> bool:
    """Whether the texts of a name belong to no group of the task's."""
    row = evaluation_of(name)
    return row is not None and row.made_up


def part_of(name: str) -> str:
    """What a name's part of a record is called: a file by its name, or its folder's where it is named like a split.

    >>> [part_of(name) for name in ("swaps:gender", "swaps:dialect@my/words.toml", "pairs:mine.csv")]
    ['swaps:gender', 'swaps:dialect@words', 'pairs:mine']
    >>> part_of("pairs:data/crows_pairs/test.csv")
    'pairs:crows_pairs'
    """
    return EVALUATIONS[name.partition(":")[0]].part(name)


def evaluation_problems(names: Iterable[str], *, check_files: bool = True) -> list[str]:
    """What is wrong with the names that a plan writes, in words; empty where nothing is.

    Args:
        names: As under `evaluations`.
        check_files: Whether the files they name must be there.

    >>> print(evaluation_problems(["swaps:age", "templates"])[0])
    evaluations: swaps:age: kind of identity terms: unknown 'age'. Known: gender, nationality, religion
    >>> print(evaluation_problems(["features", "features:bios", "features:topics"])[0])
    evaluations: features:topics: task of linear probes: unknown 'topics'. Known: bios, pydocs, reviews
    >>> evaluation_problems(["pairs:a/test.csv", "pairs:b/a.tsv"], check_files=False)
    ['evaluations: pairs:a/test.csv and pairs:b/a.tsv would both be called pairs:a; rename a file']
    """
    found, parts = [], {}
    for name in names:
        row = evaluation_of(name)
        if row is None or row.field != "evaluations" or not row.allows(name):
            found.append(str(unknown("evaluations", name, OFFERED)))
            continue
        part = row.part(name)
        if (other := parts.setdefault(part, name)) != name:
            found.append(f"evaluations: {other} and {name} would both be called {part}; rename a file")
        if problem := row.problem(name, check_files):
            found.append(f"evaluations: {name}: {problem}")
    return found
