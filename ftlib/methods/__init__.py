"""METHODS: every way of adapting a model that ftlib knows, one row each.

The table is plain data and loads without torch, so that planning, listing and reporting can read it anywhere. What a
method does is the function `prepare(model, spec, task, train)` of the module its row names; it returns a `Classifier`,
ready for the methods that do not train, with a `module` for `train.fit` to train for those that do.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    summary: str
    """One line for `ftlib list methods`."""
    module: str
    """The file of `ftlib/methods/` whose `prepare` builds it."""
    notebook: str
    """The run_ notebook that tells its story."""
    model: bool = True
    """Whether it uses a base model."""
    trains: bool = False
    """Whether gradient descent moves parameters; such a method is given learning_rate, epochs and batch_size."""
    draws: bool = True
    """Whether its result depends on the seed (the draw of examples, the initialisation, their order)."""
    needs_label_words: bool = False
    """Whether the labels must be words that mean something."""
    defaults: Mapping[str, float] = field(default_factory=dict)
    """learning_rate, epochs (passes over the training examples) and batch_size (examples per step)."""
    arguments: Mapping[str, tuple[object, str]] = field(default_factory=dict)
    """What `method_args` may set: name -> (default, meaning with unit and source)."""
    kinds: tuple[str, ...] = ("classification",)
    families: tuple[str, ...] = ("encoder",)

    def prepare(self) -> Callable:
        """Load the function that builds it; only here is torch imported, and only where the method needs it."""
        return importlib.import_module(f"ftlib.methods.{self.module}").prepare


@dataclass
class Classifier:
    """What every method yields: texts in, a probability per label out."""

    probabilities: Callable[[Sequence[str]], "np.ndarray"]
    """(n_texts,) -> (n_texts, n_labels); rows sum to 1, columns in the order of the task's labels."""
    trainable_parameters: int
    """Numbers that adapting sets."""
    total_parameters: int
    """Numbers that predicting needs."""
    checkpoint_bytes: int
    """Size of what adapting made and a user would have to store beside the base model."""
    module: "torch.nn.Module | None" = None
    """For a method that trains: what `train.fit` is to train."""


_RIDGE = {"C": (1.0, "inverse strength of the L2 penalty, no unit (scikit-learn LogisticRegression)")}

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        m.name: m
        for m in (
            Method(
                name="majority",
                summary="always the most frequent label of the training examples",
                module="baselines",
                notebook="10_run_zero_shot",
                model=False,
                draws=False,
            ),
            Method(
                name="tfidf",
                summary="TF-IDF of words and word pairs + logistic regression",
                module="baselines",
                notebook="10_run_zero_shot",
                model=False,
                arguments={"C": (10.0, _RIDGE["C"][1])},
            ),
            Method(
                name="zero_shot",
                summary="similarity between a text and the description of each label; nothing is trained",
                module="zero_shot",
                notebook="10_run_zero_shot",
                draws=False,
                needs_label_words=True,
                arguments={
                    "template": ("", "sentence around the label's words, with {label} in it; empty: the task's own"),
                    "scale": (20.0, "inverse temperature of the softmax over cosine similarities, no unit"),
                },
            ),
            Method(
                name="probe",
                summary="logistic regression on the frozen model's features",
                module="few_shot",
                notebook="11_run_few_shot",
                arguments=_RIDGE,
            ),
            Method(
                name="full",
                summary="full fine-tuning: every parameter moves",
                module="full",
                notebook="13_run_full",
                trains=True,
                defaults={"learning_rate": 1e-4, "epochs": 2.0, "batch_size": 16},
            ),
            Method(
                name="lora",
                summary="low-rank adapters on every linear layer, the rest frozen (Hu et al. 2021)",
                module="adapters",
                notebook="12_run_adapter",
                trains=True,
                defaults={"learning_rate": 1e-3, "epochs": 2.0, "batch_size": 16},
                arguments={
                    "r": (8, "rank of the update matrices (Hu et al. 2021, section 4.1)"),
                    "lora_alpha": (16, "scale of the update; the update is multiplied by lora_alpha / r"),
                    "lora_dropout": (0.0, "share of the adapter's inputs dropped while training, 0 to 1"),
                },
            ),
        )
    }
)
