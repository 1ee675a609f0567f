"""Text-to-text tasks: what a model is given for a source text, how it learns to write the target, and what it writes.

An encoder-decoder reads the source and writes the target. A decoder goes on with a prompt: the source, then the target.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER_DECODER
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task
from ftlib.models.generation import Decoding, generate, reference_nats
from ftlib.models.inference import dtype_of, likelihood_of, untouched_likelihood
from ftlib.models.loading import Model, count, kept, parameters
from ftlib.models.prompts import BETWEEN_SHOTS, orders
from ftlib.models.score.tokens import begin, encode
from ftlib.training.contract import Predictor, Trainable, Writer, Written
from ftlib.training.lm import IGNORED

if TYPE_CHECKING:
    import pandas as pd

OF_DECODERS = "{text} =>"
"""What a decoder is given where nothing else is said."""


def predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor of what is to be written, which can be trained."""
    reading = _Reading(model, spec)
    collate = transformers.DataCollatorForSeq2Seq(model.tokenizer, module, label_pad_token_id=IGNORED)
    trained = Smoothed(module, spec.label_smoothing) if spec.label_smoothing else module
    trainable = Trainable(trained, reading.examples, collate)
    return Predictor(
        *parameters(module),
        likelihood=likelihood_of(module, model, spec),
        writer=_writer(module, reading),
        trainable=trainable,
        prompt=reading.said,
    )


def untouched(model: Model, spec: Experiment, task: Task) -> Predictor:
    """What the model as it is writes, kept in the user's cache folder: every run of a study measures it."""
    module, reading = model.speaker(), _Reading(model, spec, trained=False)
    writer = _writer(module, reading)
    how = [reading.said, spec.max_length, dtype_of(spec), *reading.decoding]
    how += [spec.source_language, spec.target_language]

    def write(texts: Sequence[str]) -> list[Written]:
        def compute() -> np.ndarray:
            return np.array([json.dumps(one) for one in writer.write(texts)] or [""])

        return [Written(*json.loads(one)) for one in kept("written", model, (how, *texts), compute) if one]

    def rate(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return kept("rated", model, (how, *texts, "", *references), lambda: writer.rate(texts, references))

    likelihood = untouched_likelihood(module, model, spec)
    return Predictor(0, count(model), 0, likelihood=likelihood, writer=Writer(write, rate), prompt=reading.said)


def with_shots(model: Model, spec: Experiment, train: "pd.DataFrame") -> Predictor:
    """A decoder that is shown pairs before every source text, in an order drawn from the seed.

    Raises:
        FtlibError: They do not fit what the model can see at once.
    """
    reading = _Reading(model, spec, trained=False)
    order = orders(len(train), spec.seed, 1)[0]
    pairs = [(train["text"].iloc[place], train["label"].iloc[place]) for place in order]
    reading.before = "".join(f"{reading.query(text)} {target}{BETWEEN_SHOTS}" for text, target in pairs)
    reading.fits(len(pairs))
    module = model.speaker()
    likelihood = untouched_likelihood(module, model, spec)
    writer, shown = _writer(module, reading), reading.before + reading.said
    return Predictor(0, count(model), 0, likelihood=likelihood, writer=writer, prompt=shown)


class _Reading:
    """What a model is given for a text, and how it answers.

    Args:
        model: The base model.
        spec: The fields of writing, max_length and dtype are read.
        trained: Whether it has learned, or will, where a text ends; else an answer ends with its line.

    Raises:
        FtlibError: The tokenizer knows no such language.
    """

    def __init__(self, model: Model, spec: Experiment, trained: bool = True) -> None:
        self.model, self.spec, self.before = model, spec, ""
        self.encodes = model.family == ENCODER_DECODER
        self.said = spec.instruction or ("{text}" if self.encodes else OF_DECODERS)
        self.tokenizer = model.tokenizer
        for field, name in (("source_language", "src_lang"), ("target_language", "tgt_lang")):
            if language := getattr(spec, field):
                self._language(field, language)
                setattr(self.tokenizer, name, language)
        first = self._language("target_language", spec.target_language) if spec.target_language else None
        stops = () if trained or self.encodes else _line_ends(self.tokenizer)
        written = spec.max_new_tokens or spec.max_length
        self.decoding = Decoding(spec.num_beams, float(spec.length_penalty), written, first, stops)
        self.fits(0)

    def _language(self, field: str, language: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(language)
        if not hasattr(self.tokenizer, "src_lang") or found in (None, self.tokenizer.unk_token_id):
            known = [one for one in self.tokenizer.all_special_tokens if "_" in one or one.isalpha()][:8]
            raise FtlibError(
                f"{field}: {self.model.name} has no language {language!r}; its special tokens begin with "
                f"{', '.join(known) or 'none that name one'}; leave it out for a model of one direction"
            )
        return int(found)

    def fits(self, shots: int) -> None:
        """Refuse what a decoder cannot see at once.

        Raises:
            FtlibError: The prompt, a source text and what is written are more than that.
        """
        if self.encodes or self.model.context is None:
            return
        around = len(encode(self.tokenizer, [self.before + self.said])[0])
        needed = around + self.spec.max_length + self.decoding.max_new_tokens
        if needed > self.model.context:
            raise FtlibError(
                f"max_length: a source text of {self.spec.max_length} tokens, {self.decoding.max_new_tokens} that are "
                f"written and {around} of the prompt{f' with {shots} examples' * bool(shots)} are {needed}; "
                f"{self.model.name} sees {self.model.context} at once; choose a smaller max_length or max_new_tokens"
            )

    def query(self, text: str) -> str:
        """A source text as it stands in its instruction, cut after max_length tokens where it stands in a prompt."""
        return self.said.replace("{text}", text)

    def inputs(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that are given for each source text."""
        if self.encodes:
            how = {"truncation": True, "max_length": self.spec.max_length, "return_attention_mask": False}
            return self.tokenizer([self.query(text) for text in texts], **how)["input_ids"] if len(texts) else []
        ids = encode(self.tokenizer, texts)
        cut = [
            text if len(row) <= self.spec.max_length else self.tokenizer.decode(row[: self.spec.max_length])
            for text, row in zip(texts, ids, strict=True)
        ]
        return begin(self.tokenizer, encode(self.tokenizer, [self.before + self.query(text) for text in cut]), True)

    def examples(self, train: "pd.DataFrame") -> list[dict[str, Any]]:
        """Source and target as a model takes them; the loss is on the target alone, its end included."""
        sources, targets = self.inputs(train["text"].tolist()), train["label"].tolist()
        end = [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
        most = self.spec.max_length - len(end)
        if self.encodes:
            how = {"truncation": True, "max_length": self.spec.max_length, "return_attention_mask": False}
            labels = self.tokenizer(text_target=targets, **how)["input_ids"] if targets else []
            # Not every tokenizer says where a text ends, and what is not said is not learned.
            labels = [ids if not end or ids[-1:] == end else ids[:most] + end for ids in labels]
            return [{"input_ids": ids, "labels": said} for ids, said in zip(sources, labels, strict=True)]
        said = [ids[:most] + end for ids in encode(self.tokenizer, [f" {target}" for target in targets])]
        return [
            {"input_ids": asked + own, "labels": [IGNORED] * len(asked) + own}
            for asked, own in zip(sources, said, strict=True)
        ]


def _line_ends(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a line."""
    said = tokenizer.batch_decode([[number] for number in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return tuple(number for number, text in enumerate(said) if "\n" in text)


def _writer(module: torch.nn.Module, reading: _Reading) -> Writer:
    """What a module writes, and how likely it finds references."""
    dtype, most = dtype_of(reading.spec), reading.decoding.max_new_tokens

    def write(texts: Sequence[str]) -> list[Written]:
        found = generate(module, reading.inputs(texts), reading.decoding, dtype)
        said = reading.tokenizer.batch_decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # A line's end belongs to a prompt whose answers are lines.
        lines = [text.strip().partition("\n")[0] if reading.decoding.stops else text.strip() for text in said]
        return [Written(text, len(ids), len(ids) >= most) for text, ids in zip(lines, found, strict=True)]

    def rate(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
        import pandas as pd

        collate = transformers.DataCollatorForSeq2Seq(reading.tokenizer, module, label_pad_token_id=IGNORED)
        examples = reading.examples(pd.DataFrame({"text": list(texts), "label": list(references)}))
        return reference_nats(module, examples, collate, dtype)

    return Writer(write, rate)


class Smoothed(torch.nn.Module):
    """A model whose loss is the cross-entropy with a target of which a share is spread over all tokens.

    Szegedy et al. 2016, section 7.
    """

    def __init__(self, writes: torch.nn.Module, share: float) -> None:
        super().__init__()
        self.writes, self.share = writes, share

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean over the labelled tokens.

        Args:
            labels: (n, n_tokens), IGNORED where the loss does not count.
            inputs: What the model takes.
        """
        logits = self.writes(labels=labels, **inputs).logits[:, -labels.shape[1] :].float()
        if not self.writes.config.is_encoder_decoder:
            logits, labels = logits[:, :-1], labels[:, 1:]
        flat = logits.flatten(0, 1), labels.flatten()
        return {"loss": torch.nn.functional.cross_entropy(*flat, ignore_index=IGNORED, label_smoothing=self.share)}
