"""From an example or a label to the text a model reads."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER, METHODS
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task

BETWEEN_SHOTS = "\n\n"


class Prompt(NamedTuple):
    r"""How a language model is asked: the text, then a sentence that one label's words complete.

    >>> prompt = Prompt("{text}\nThis film was {label}.", ("good", "bad"))
    >>> prompt.query("No plot.")
    'No plot.\nThis film was'
    >>> prompt.answers()
    [' good.', ' bad.']
    >>> prompt.shots([("No plot.", 1)])
    'No plot.\nThis film was bad.\n\n'
    """

    template: str
    """With {text} and, after it, {label}."""
    words: tuple[str, ...]
    """What each label means, in the task's order."""

    def query(self, text: str) -> str:
        """Everything before the label's words; a space before them is theirs, as tokenizers count it."""
        return self._head.rstrip(" ").replace("{text}", text)

    def answers(self) -> list[str]:
        """One continuation per label."""
        space = " " * (len(self._head) - len(self._head.rstrip(" ")))
        tail = self.template.partition("{label}")[2]
        return [space + words + tail for words in self.words]

    def shots(self, examples: Iterable[tuple[str, int]]) -> str:
        """Answered examples, (text, number of its label) each, one after the other."""
        answers = self.answers()
        return "".join(self.query(text) + answers[label] + BETWEEN_SHOTS for text, label in examples)

    @property
    def _head(self) -> str:
        return self.template.partition("{label}")[0]


def prompt_of(task: Task, template: str = "") -> Prompt:
    r"""The prompt of a task.

    Args:
        template: With {text} and {label}; without {text}, the text is put on a line before it. Empty: the task's own.

    Raises:
        FtlibError: There is no {label}, or it comes before {text}; or the labels have no words.

    >>> from types import SimpleNamespace
    >>> task = SimpleNamespace(labels=("0", "1"), label_words={"0": "bad", "1": "good"}, template="It is {label}.")
    >>> prompt_of(task).query("A film."), prompt_of(task).answers()
    ('A film.\nIt is', [' bad.', ' good.'])
    """
    template = template or task.template
    if "{text}" not in template:
        template = "{text}\n" + template
    if re.findall(r"\{text\}|\{label\}", template) != ["{text}", "{label}"]:
        raise FtlibError(f"template {template!r}: {{label}} must be in it once, after {{text}}")
    if not task.label_words:
        raise FtlibError(no_words(task))
    return Prompt(template, tuple(task.label_words[label] for label in task.labels))


def label_descriptions(task: Task, template: str = "") -> list[str]:
    """One sentence per label, in the task's order: the template with the label's words in it.

    Raises:
        FtlibError: The template has no `{label}`; or the labels have no words.

    >>> from types import SimpleNamespace
    >>> task = SimpleNamespace(labels=("0", "1"), label_words={"0": "bad", "1": "good"}, template="It is {label}.")
    >>> label_descriptions(task), label_descriptions(task, "A {label} film.")
    (['It is bad.', 'It is good.'], ['A bad film.', 'A good film.'])
    """
    template = template or task.template
    if "{label}" not in template:
        raise FtlibError(f"template {template!r} must contain {{label}}")
    if not task.label_words:
        raise FtlibError(no_words(task))
    return [template.replace("{label}", task.label_words[label]) for label in task.labels]


def no_words(task: Task) -> str:
    """Why labels without words cannot be asked for."""
    example = ", ".join(f'"{label}" = "..."' for label in task.labels[:3])
    return (
        f"{task.name}: the labels are not all words ({', '.join(task.labels[:5])}), so their meaning is unknown; "
        f"say it with label_words = {{{example}}}"
    )


def same_words(task: Task) -> str:
    """Which labels are not distinguishable by their words; empty where all can.

    >>> from types import SimpleNamespace
    >>> same_words(SimpleNamespace(name="t", label_words={"a": "good", "b": " Good", "c": "bad"}))
    "t: label_words: 'a' and 'b' are both 'good'; each label needs words of its own"
    """
    said: dict[str, list[str]] = {}
    for label, words in task.label_words.items():
        said.setdefault(" ".join(words.split()).casefold(), []).append(label)
    found = [
        f"{' and '.join(map(repr, labels))} are {'both' if len(labels) == 2 else 'all'} {words!r}"
        for words, labels in said.items()
        if len(labels) > 1
    ]
    return f"{task.name}: label_words: {'; '.join(found)}; each label needs words of its own" if found else ""


def orders(n: int, seed: int, times: int) -> list[list[int]]:
    """Orders of n examples drawn from the seed; more orders begin with those that fewer have.

    >>> [sorted(order) for order in orders(3, seed=0, times=2)]
    [[0, 1, 2], [0, 1, 2]]
    >>> orders(9, 0, 3)[:2] == orders(9, 0, 2)
    True
    """
    return [np.random.default_rng([seed, number]).permutation(n).tolist() for number in range(times)]


def tokens_at_most(tokenizer: Any, prompt: Prompt, prefix: str, text: int) -> int:
    """Tokens of a prompt at most: what stands before the question, a text of so many tokens, the rest, the answer."""
    longest = max(len(tokenizer(answer)["input_ids"]) for answer in prompt.answers())
    around = len(tokenizer(prompt.query(""))["input_ids"])
    return (len(tokenizer(prefix)["input_ids"]) if prefix else 0) + text + around + longest


def are_cut(tokenizer: Any, texts: Sequence[str], max_length: int, special: bool) -> np.ndarray:
    """Whether each text has more than `max_length` tokens, so that its end is not read: (n_texts,).

    Args:
        special: Whether the tokens that an encoder adds count, too.
    """
    found = tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
    return np.asarray([len(ids) > max_length for ids in found], dtype=bool)


def clipped(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[str]:
    """The texts, each cut after its first `max_length` tokens; what follows them in a prompt is never cut."""
    found = []
    for text, ids in zip(texts, tokenizer(list(texts), add_special_tokens=False)["input_ids"], strict=True):
        if len(ids) <= max_length:
            found.append(text)
        elif tokenizer.is_fast:
            offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            found.append(text[: offsets[max_length - 1][1]])
        else:
            found.append(tokenizer.decode(ids[:max_length], skip_special_tokens=True))
    return found


def as_seen(spec: Experiment, task: Task, model: Any, train: Any = None) -> str:
    """What the model reads, as it reads it, for a person to look at before anything is measured.

    Args:
        spec: The experiment: method, method_args and max_length are read.
        model: Its base model (`ftlib.models.loading.Model`); None for a method without one.
        train: The examples of a prompt with shots.
    """
    text = task.splits["train"]["text"].iloc[0]
    if model is None:
        return text
    template = str(spec.method_args.get("template", ""))
    tokens = " | ".join(model.tokenizer.tokenize(text)[: spec.max_length])
    if not task.has_labels:
        reference = task.splits["train"].get("label")
        return tokens if reference is None else f"{tokens}\n\n... is to become:\n{reference.iloc[0]}"
    if not task.label_words:
        return no_words(task)
    if model.family == ENCODER:
        return "\n".join(label_descriptions(task, template)) if METHODS[spec.method].untouched else tokens
    prompt = prompt_of(task, template)
    (text,) = clipped(model.tokenizer, [text], spec.max_length)
    prefix = ""
    if train is not None:
        shown = clipped(model.tokenizer, train["text"].tolist(), spec.max_length)
        prefix = prompt.shots(zip(shown, map(task.labels.index, train["label"]), strict=True))
    return f"{prefix}{prompt.query(text)}\n\n... and one of:\n" + "\n".join(prompt.answers())
