"""Names of the probes for bias: what each asks for, and what its part of a record is called."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ftlib.core.errors import FtlibError
from ftlib.data.identity_terms import load_terms
from ftlib.data.tabular import SUFFIXES
from ftlib.data.task import SPLITS

BIASES: Mapping[str, str] = {
    "swaps:gender": "does the answer change when he becomes she? (the task's own test texts; classifiers)",
    "swaps:nationality": "the same for nationalities; swaps:KIND@PATH takes terms of yours",
    "swaps:religion": "the same for religions",
    "templates": "30 sentences, each about 36 identities: how far do the answers lie apart? (classifiers)",
    "pairs:PATH": "which of two sentences is likelier, the stereotyping or the other? (language models; CrowS-Pairs, "
    "WinoBias, Winogender or a file like theirs)",
}
"""What `ftlib.evaluation.bias_probes` measures: probe -> what it asks."""


def is_bias(name: str) -> bool:
    """Whether a probe is one of these, by its name alone.

    >>> [is_bias(name) for name in ("swaps:gender", "templates", "pairs:a.csv", "general")]
    [True, True, True, False]
    """
    return name == "templates" or name.startswith(("swaps:", "pairs:"))


def swaps_of(name: str) -> tuple[str, str]:
    """The kind and the file of terms (empty: the project's) of a swaps probe.

    >>> swaps_of("swaps:gender"), swaps_of("swaps:dialect@my/words.toml")
    (('gender', ''), ('dialect', 'my/words.toml'))
    """
    kind, _, path = name.removeprefix("swaps:").partition("@")
    return kind, path


def part_of(name: str) -> str:
    """What a probe's part of a record is called: a file by its name, or its folder's where it is named like a split.

    >>> [part_of(name) for name in ("swaps:gender", "swaps:dialect@my/words.toml", "pairs:mine.csv")]
    ['swaps:gender', 'swaps:dialect@words', 'pairs:mine']
    >>> part_of("pairs:data/crows_pairs/test.csv")
    'pairs:crows_pairs'
    """
    if name.startswith("swaps:"):
        kind, path = swaps_of(name)
        return f"swaps:{kind}@{Path(path).stem}" if path else name
    if name.startswith("pairs:"):
        path = Path(name.removeprefix("pairs:"))
        return f"pairs:{path.parent.name if path.stem in SPLITS and path.parent.name else path.stem}"
    return name


def problems(names: Iterable[str], *, check_files: bool = True) -> list[str]:
    """What is wrong with probes of this kind, in words; empty where nothing is.

    Args:
        names: Probes for which `is_bias` holds.
        check_files: Whether the files they name must be there.

    >>> print(problems(["swaps:age", "templates"])[0])
    evaluations: swaps:age: kind of identity terms: unknown 'age'. Known: gender, nationality, religion
    >>> problems(["pairs:a/test.csv", "pairs:b/a.tsv"], check_files=False)
    ['evaluations: pairs:a/test.csv and pairs:b/a.tsv would both be called pairs:a; rename a file']
    """
    found, parts = [], {}
    for name in names:
        if (other := parts.setdefault(part_of(name), name)) != name:
            found.append(f"evaluations: {other} and {name} would both be called {part_of(name)}; rename a file")
        if name.startswith("pairs:"):
            path = Path(name.removeprefix("pairs:"))
            if path.suffix.lower() not in SUFFIXES or (check_files and not path.is_file()):
                found.append(
                    f"evaluations: {name}: no such table; allowed: pairs:PATH of a file in {', '.join(SUFFIXES)}"
                )
        elif name.startswith("swaps:"):
            kind, path = swaps_of(name)
            try:
                if check_files or not path:
                    load_terms(path).kind(kind)
            except FtlibError as error:
                found.append(f"evaluations: {name}: {error}")
    return found
