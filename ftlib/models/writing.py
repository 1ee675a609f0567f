"""What a model is given for a source text, how it learns to write the target, and what it writes.

An encoder-decoder reads the source and writes the target. A decoder goes on with a prompt: the source, then the target.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.config.methods import ENCODER_DECODER
from ftlib.core.errors import FtlibError
from ftlib.models.generation import IGNORED, Decoding, generate, reference_nats
from ftlib.models.loading import Model
from ftlib.models.score.tokens import begin, encode

if TYPE_CHECKING:
    from ftlib.models.export import Question


class Reading:
    """What a model is given for a text, and how it answers.

    Args:
        model: The base model.
        question: How it is asked, and how it writes.
        max_length: Tokens of a source text that are read, and of a target that are learned.

    Raises:
        FtlibError: The tokenizer knows no such language.
    """

    def __init__(self, model: Model, question: "Question", max_length: int) -> None:
        self.model, self.before, self.said, self.max_length = model, question.prefix, question.template, max_length
        self.encodes, self.tokenizer, how = model.family == ENCODER_DECODER, model.tokenizer, question.writing
        for field, name in (("source_language", "src_lang"), ("target_language", "tgt_lang")):
            if language := how[field]:
                self._language(field, language)
                setattr(self.tokenizer, name, language)
        first = self._language("target_language", how["target_language"]) if how["target_language"] else None
        stops = _line_ends(self.tokenizer) if how["lines"] else ()
        self.decoding = Decoding(how["num_beams"], how["length_penalty"], how["max_new_tokens"], first, stops)
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
        needed = around + self.max_length + self.decoding.max_new_tokens
        if needed > self.model.context:
            raise FtlibError(
                f"max_length: a source text of {self.max_length} tokens, {self.decoding.max_new_tokens} that are "
                f"written and {around} of the prompt{f' with {shots} examples' * bool(shots)} are {needed}; "
                f"{self.model.name} sees {self.model.context} at once; choose a smaller max_length or max_new_tokens"
            )

    def query(self, text: str) -> str:
        """A source text as it stands in its instruction, cut after max_length tokens where it stands in a prompt."""
        return self.said.replace("{text}", text)

    def inputs(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that are given for each source text."""
        if self.encodes:
            how = {"truncation": True, "max_length": self.max_length, "return_attention_mask": False}
            return self.tokenizer([self.query(text) for text in texts], **how)["input_ids"] if len(texts) else []
        ids = encode(self.tokenizer, texts)
        cut = [
            text if len(row) <= self.max_length else self.tokenizer.decode(row[: self.max_length])
            for text, row in zip(texts, ids, strict=True)
        ]
        return begin(self.tokenizer, encode(self.tokenizer, [self.before + self.query(text) for text in cut]), True)

    def cut(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) whether a source text, of an encoder-decoder with its instruction, is longer than is read."""
        asked = [self.query(text) for text in texts] if self.encodes else texts
        ids = encode(self.tokenizer, asked, special=self.encodes)
        return np.array([len(one) > self.max_length for one in ids], bool)

    def examples(self, texts: Sequence[str], targets: Sequence[str]) -> list[dict[str, Any]]:
        """Source and target as a model takes them; the loss is on the target alone, its end included."""
        sources, targets = self.inputs(texts), list(targets)
        end = [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
        most = self.max_length - len(end)
        if self.encodes:
            how = {"truncation": True, "max_length": self.max_length, "return_attention_mask": False}
            labels = self.tokenizer(text_target=targets, **how)["input_ids"] if targets else []
            # Not every tokenizer says where a text ends, and what is not said is not learned.
            labels = [ids if not end or ids[-1:] == end else ids[:most] + end for ids in labels]
            return [{"input_ids": ids, "labels": said} for ids, said in zip(sources, labels, strict=True)]
        said = [ids[:most] + end for ids in encode(self.tokenizer, [f" {target}" for target in targets])]
        return [
            {"input_ids": asked + own, "labels": [IGNORED] * len(asked) + own}
            for asked, own in zip(sources, said, strict=True)
        ]

    def collator(self, module: torch.nn.Module) -> Any:
        """What makes one batch of several examples."""
        return transformers.DataCollatorForSeq2Seq(self.tokenizer, module, label_pad_token_id=IGNORED)

    def write(self, module: torch.nn.Module, texts: Sequence[str], dtype: str) -> list[tuple[str, int]]:
        """What a module writes for each text, and of how many tokens that is."""
        found = generate(module, self.inputs(texts), self.decoding, dtype)
        said = self.tokenizer.batch_decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # A line's end belongs to a prompt whose answers are lines.
        lines = [text.strip().partition("\n")[0] if self.decoding.stops else text.strip() for text in said]
        return [(text, len(ids)) for text, ids in zip(lines, found, strict=True)]

    def rate(self, module: torch.nn.Module, texts: Sequence[str], references: Sequence[str], dtype: str) -> np.ndarray:
        """(n, 2): the nats of each reference after its text, and its tokens."""
        return reference_nats(module, self.examples(texts, references), self.collator(module), dtype)


def _line_ends(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a line."""
    said = tokenizer.batch_decode([[number] for number in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return tuple(number for number, text in enumerate(said) if "\n" in text)
