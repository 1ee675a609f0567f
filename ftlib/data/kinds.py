"""KINDS: what a task can ask for, one object each.

Whoever meets a task looks its kind up here instead of asking which one it is, so that the next kind is one more row.
Rooms below the data give the two functions their bodies; they are named here and loaded where they are called.
"""

import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ftlib.metrics.registry import CLASSIFICATION, LANGUAGE_MODELING, METRICS, TEXT_TO_TEXT

ENCODER, DECODER, ENCODER_DECODER = "encoder", "decoder", "encoder-decoder"

FAMILIES = (ENCODER, DECODER, ENCODER_DECODER)
"""BERT-like: reads both ways; GPT-like: continues text; T5-like: reads a text and writes another."""

LOADERS: Mapping[str, str] = MappingProxyType(
    {
        ENCODER: "AutoModelForSequenceClassification",
        DECODER: "AutoModelForCausalLM",
        ENCODER_DECODER: "AutoModelForSeq2SeqLM",
    }
)
"""Family -> the class of transformers that loads an adapted model of it."""


@dataclass(frozen=True)
class TaskKind:
    """What is true of every task that asks for the same."""

    name: str
    example: str
    """What one of its examples is called."""
    has_labels: bool
    """Whether every example has one of the task's labels."""
    families: tuple[str, ...]
    """The families of model that a method which trains can adapt to it."""
    primary: str
    """The metric that a plan usually decides by."""
    margin: float
    """The smallest difference in it that usually matters, in its unit."""
    baselines: tuple[str, ...]
    """The METHODS without a model that every report adds."""
    takes: tuple[str, ...]
    """What its metrics take (`Metric.takes`)."""
    columns: tuple[str, ...]
    """Of its predictions, filled in every row; labels have `score_<label>` too."""
    cut_by: str
    """The field of an Experiment that limits how many tokens of a text are read at once."""
    evaluate: str
    """The function (stage, part, task, examples, predictor) -> (metrics, predictions)."""
    predictor: str
    """The function (module, model, spec, task) -> Predictor: the module, to be trained on such a task."""
    read: str
    """The function that reads `file:PATH` as such a task."""
    files: tuple[str, ...] = ()
    """How a file of such a task ends; no ending: the kind of every file that is no other's."""
    pair: tuple[str, ...] = ()
    """The columns by which a table is known to be such a task, source and target; `:SOURCE>TARGET` behind a name says
    the same of other columns, and of two aligned files."""
    untouched: str = "ftlib.methods.zero_shot:of_labels"
    """The function (model, spec, task) -> Predictor: the model as it is, which zero-shot measures."""
    model: str = ""
    """The bundled model that is meant where none is named; empty: whatever the field's default is."""
    library_task: str = "text-classification"
    """What the Hub calls such a task."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What a part of a record may have, beside what methods and groups add.

        >>> KINDS["classification"].metrics
        ('accuracy', 'f1_macro', 'f1_binary', 'mcc', 'brier')
        """
        return tuple(row.name for row in METRICS.values() if row.kind == self.name and row.takes in self.takes)

    @property
    def of_text(self) -> bool:
        """Whether its examples are text to be modelled: measured is how likely a model finds them."""
        return "likelihoods" in self.takes

    @property
    def writes(self) -> bool:
        """Whether a model writes a text for each example, which is measured against a reference."""
        return "texts" in self.takes

    def owns(self, path: Path) -> bool:
        """Whether a file, or a folder by its `train` file, is a task of this kind: by its ending or its columns."""
        inside = sorted(file for file in path.glob("train.*") if file.is_file()) if path.is_dir() else [path]
        if any(file.suffix.lower() in self.files for file in inside):
            return True
        if not self.pair:
            return False
        from ftlib.data.tabular import SUFFIXES, header

        tables = [file for file in inside if file.suffix.lower() in SUFFIXES]
        aligned = path.is_dir() and len(inside) > 1 and not tables
        return aligned or any(set(self.pair) <= set(header(file)) for file in tables)

    def function(self, what: str) -> Callable:
        """The function that the attribute names ("evaluate", "predictor" or "read"), loaded now."""
        return pkgutil.resolve_name(getattr(self, what))


_DIRECTION = re.compile(r"(.+):([^:/>]+)>([^:/>]+)")


def directed(name: str) -> tuple[str, tuple[str, ...]]:
    """A task's name without the direction behind it, and the direction: source and target, or nothing.

    >>> directed("file:corpus:en>de"), directed("file:pairs.csv")
    (('file:corpus', ('en', 'de')), ('file:pairs.csv', ()))
    """
    found = _DIRECTION.fullmatch(name)
    return (found[1], (found[2], found[3])) if found else (name, ())


KINDS: Mapping[str, TaskKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            TaskKind(
                name=CLASSIFICATION,
                example="example",
                has_labels=True,
                families=FAMILIES,
                primary="accuracy",
                margin=0.01,
                baselines=("majority", "tfidf"),
                takes=("predictions", "probabilities"),
                columns=("label", "prediction", "nats", "n_bytes"),
                cut_by="max_length",
                evaluate="ftlib.evaluation.evaluate:evaluate_labels",
                predictor="ftlib.methods.finetune:label_predictor",
                read="ftlib.data.files:load",
            ),
            TaskKind(
                name=LANGUAGE_MODELING,
                example="document",
                has_labels=False,
                families=(DECODER,),
                primary="bits_per_byte",
                margin=0.02,
                baselines=("ngram",),
                takes=("likelihoods",),
                columns=("nats", "n_tokens", "n_bytes"),
                cut_by="context",
                evaluate="ftlib.evaluation.evaluate:evaluate_text",
                predictor="ftlib.methods.finetune:text_predictor",
                read="ftlib.data.files:load_texts",
                files=(".txt",),
                untouched="ftlib.methods.zero_shot:of_text",
                library_task="text-generation",
            ),
            TaskKind(
                name=TEXT_TO_TEXT,
                example="segment",
                has_labels=False,
                families=(DECODER, ENCODER_DECODER),
                primary="chrf",
                margin=1.0,
                baselines=("copy",),
                takes=("texts",),
                columns=("label", "text_out", "n_bytes"),
                cut_by="max_length",
                evaluate="ftlib.evaluation.evaluate:evaluate_written",
                predictor="ftlib.methods.text_to_text:predictor",
                read="ftlib.data.parallel:load",
                files=(".tmx",),
                pair=("source", "target"),
                untouched="ftlib.methods.text_to_text:untouched",
                model="tiny-mt",
                library_task="translation",
            ),
        )
    }
)
