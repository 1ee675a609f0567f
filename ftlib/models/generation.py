"""What a model is given for a source text, how it learns to write the target, and what it writes.

An encoder-decoder reads the source and writes the target. A decoder goes on with a prompt: the source, then the target.

Greedy and beam search have the outputs of transformers' `generate`, in less time. Texts are read in order of their
length and as many at once as a budget of tokens lets, so that little is padding; what an encoder says of them is
computed once; a text that is finished leaves the batch, and takes its share of every cache with it. Beam search moves
only what beams differ in: the keys and values of the encoder's states are the same for all beams of a text. Decoders
of BART's make take each step in `ftlib.models.steps`. The rules of the model's own generation configuration hold
(forced tokens, words it may not write, no repeated n-grams); one that reads the source again is left to `generate`
itself.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import transformers
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from ftlib.config.methods import ENCODER_DECODER
from ftlib.core.errors import FtlibError
from ftlib.models.loading import Model, batches
from ftlib.models.score import passes
from ftlib.models.score.trees import begin, encode
from ftlib.models.steps import FAMILIES, Steps, output

if TYPE_CHECKING:
    from ftlib.models.export import Question

TOKENS = 4096
"""Source tokens read at once, beams and padding counted."""

MOST_TEXTS = 96
"""Read at once at most: what a step reads and writes then stays near the processor."""

READ = 16
"""Texts that an encoder reads at once, so that short ones are not filled up to the longest of all."""

LEAVE = 8
"""Finished texts leave when they are one of so many: what stays is copied then."""

NEVER = -1e9
"""The score of what cannot be chosen, as `generate` has it."""

IGNORED = -100
"""Label of a token whose loss does not count, as transformers has it."""


class Decoding(NamedTuple):
    """How texts are written."""

    num_beams: int = 1
    length_penalty: float = 1.0
    """A finished text's score is divided by its length to this power; above 1 favours long ones (beams only)."""
    max_new_tokens: int = 128
    forced_first: int | None = None
    """The token every text begins with: a language's, for models that write several."""
    start: int | None = None
    """What a decoder is given before the first token, where that is a language; None: as the model's settings say."""
    stops: tuple[int, ...] = ()
    """Tokens that end a text beside the model's own."""


def generate(module: torch.nn.Module, inputs: Sequence[Sequence[int]], how: Decoding, dtype: str) -> list[list[int]]:
    """The tokens that a model writes for each input, without start and end tokens, in the inputs' order.

    Args:
        module: An encoder-decoder, given the encoder's tokens; or a decoder, which goes on with a prompt.
        inputs: Tokens, special ones included; a decoder's prompts are padded on their left.
        how: Settings; at one beam the likeliest next token is taken each time.
        dtype: Of the matrix products: float32, or bfloat16 by autocast.
    """
    found: list[list[int]] = [[] for _ in inputs]
    with passes.at_rest(module, dtype):
        rules = _Rules(module, how)
        write = _by_transformers if rules.foreign else _greedy if how.num_beams == 1 else _beams
        for batch in _together([len(ids) for ids in inputs], how.num_beams):
            for place, tokens in zip(batch, write(rules, [inputs[place] for place in batch]), strict=True):
                found[place] = tokens
    return found


def reference_nats(
    module: torch.nn.Module,
    examples: Sequence[dict[str, Any]],
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    dtype: str,
) -> np.ndarray:
    """How likely a model finds the labels of training examples: (n, 2) nats, and tokens they are of.

    Args:
        module: A model whose logits are of its labels (encoder-decoder) or of the next token (decoder).
        examples: `input_ids` and `labels`, IGNORED where tokens are given and not rated.
        collate: Several of them as one batch.
        dtype: As in `generate`.
    """
    found = np.zeros((len(examples), 2))
    shift = 0 if passes.core(module).config.is_encoder_decoder else 1
    with passes.at_rest(module, dtype):
        for batch in _together([len(one["input_ids"]) + len(one["labels"]) for one in examples], 1):
            inputs = collate([examples[place] for place in batch])
            inputs = {name: value.to(passes.device_of(module)) for name, value in inputs.items()}
            labels = inputs["labels"]
            # Learned tokens before a text have logits, too.
            logs = module(**inputs).logits[:, -labels.shape[1] :].float().log_softmax(dim=-1)
            labels, logs = labels[:, shift:], logs[:, : labels.shape[1] - shift]
            counted = labels != IGNORED
            nats = -logs.gather(2, labels.clamp(min=0)[..., None])[..., 0].double() * counted
            found[batch] = torch.stack([nats.sum(dim=1), counted.sum(dim=1)], dim=1).cpu().numpy()
    return found


def _together(lengths: Sequence[int], beams: int) -> list[np.ndarray]:
    """Indices of similar length, longest first, within the budget of tokens.

    >>> [batch.tolist() for batch in _together([3000, 1, 2, 2], 1)]
    [[0], [2, 3, 1]]
    >>> [batch.tolist() for batch in _together([3000, 1000, 1], 2)]
    [[0], [1, 2]]
    """
    found = []
    for order in batches(lengths, max(1, MOST_TEXTS // beams)):
        start = 0
        while start < len(order):
            end = start + max(1, TOKENS // (beams * max(1, lengths[order[start]])))
            found.append(order[start:end])
            start = end
    return found


def configuration(module: torch.nn.Module, how: Decoding) -> Any:
    """The settings in the model's own generation configuration, in which forced tokens and forbidden words stay."""
    config = copy.deepcopy(passes.core(module).generation_config)
    config.num_beams, config.length_penalty = how.num_beams, how.length_penalty
    config.max_new_tokens, config.max_length, config.do_sample = how.max_new_tokens, None, False
    config.num_return_sequences, config.top_k, config.top_p, config.temperature = 1, None, None, None
    if how.start is not None:
        config.decoder_start_token_id, config.forced_bos_token_id = how.start, None
    if how.forced_first is not None:
        config.forced_bos_token_id = how.forced_first
    if how.num_beams == 1:
        config.early_stopping = False
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    config.eos_token_id = list(dict.fromkeys([*(end for end in ends if end is not None), *how.stops])) or None
    if config.pad_token_id is None:
        config.pad_token_id = config.eos_token_id[0] if config.eos_token_id else 0
    return config


class _Rules:
    """What of a model and its generation configuration decides what it writes.

    Args:
        module: The model, perhaps with an adapter.
        how: Settings, which go before the configuration's.
    """

    def __init__(self, module: torch.nn.Module, how: Decoding) -> None:
        self.module, self.how = module, how
        self.model = passes.core(module)
        self.device = passes.device_of(module)
        self.encodes = bool(self.model.config.is_encoder_decoder)
        self.config = config = configuration(module, how)
        self.ends = torch.tensor(config.eos_token_id or [-1], device=self.device)
        self.pad = int(config.pad_token_id)
        learned = getattr(getattr(module, "active_peft_config", None), "is_prompt_learning", False)
        self.scores = output(self.model) if self.model.config.model_type in FAMILIES else None
        reads_source = (config.encoder_repetition_penalty or 1.0) != 1.0 or config.encoder_no_repeat_ngram_size
        self.foreign = bool(learned or reads_source or config.guidance_scale or config.diversity_penalty)

    def processors(self, prompt: int) -> Any:
        """What changes the scores of next tokens, given all tokens of a text so far."""
        config = copy.deepcopy(self.config)
        config.max_length = prompt + self.how.max_new_tokens
        self.model._prepare_special_tokens(config, False, device=self.device)
        return self.model._get_logits_processor(
            config, input_ids_seq_length=prompt, device=self.device, model_kwargs={}
        )

    def begin(self, inputs: Sequence[Sequence[int]]) -> "_State":
        """The state before the first token."""
        ids, mask = self.padded(inputs)
        if not self.encodes:
            return _State(self, ids, mask, None, DynamicCache(config=self.model.config.get_text_config(decoder=True)))
        states = self._read(ids, mask)
        start = self.config.decoder_start_token_id
        start = self.config.bos_token_id if start is None else start
        tokens = torch.full((len(ids), 1), int(start), device=self.device)
        # Without padding there is nothing to hide, and no mask to be made at every step.
        seen = mask if bool((mask == 0).any()) else None
        if self.model.config.model_type in FAMILIES:
            cache = Steps(self.model, states, seen, self.how.max_new_tokens, self.scores)
        else:
            cache = EncoderDecoderCache(DynamicCache(config=self.model.config), DynamicCache(config=self.model.config))
        return _State(self, tokens, seen, states, cache)

    def _read(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The encoder's states, (n, longest, width), of a few texts at a time, each few without their common padding.

        Texts come longest first.
        """
        found = []
        for few, seen in zip(ids.split(READ), mask.split(READ), strict=True):
            longest = int(seen.sum(dim=1).max())
            states = self.model.get_encoder()(input_ids=few[:, :longest], attention_mask=seen[:, :longest])
            # Nobody looks at what is filled up.
            found.append(torch.nn.functional.pad(states.last_hidden_state, (0, 0, 0, ids.shape[1] - longest)))
        return torch.cat(found)

    def padded(self, inputs: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and what is there of them, (n, longest); a prompt ends where the next token begins."""
        longest = max(map(len, inputs))
        ids = torch.full((len(inputs), longest), self.pad)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(inputs):
            place = slice(0, len(tokens)) if self.encodes else slice(longest - len(tokens), longest)
            ids[row, place], mask[row, place] = torch.tensor(tokens), 1
        return ids.to(self.device), mask.to(self.device)


class _State:
    """Texts that are being written: their tokens so far, and what the model remembers of them."""

    def __init__(self, rules: _Rules, tokens: torch.Tensor, mask: Any, states: Any, cache: Any) -> None:
        self.rules, self.tokens, self.mask, self.states, self.cache = rules, tokens, mask, states, cache
        self.prompt = tokens.shape[1]
        self.processors = rules.processors(self.prompt)

    def logits(self) -> torch.Tensor:
        """The scores of each row's next token, (n, vocabulary), float32, before any rule."""
        if isinstance(self.cache, Steps):
            return self.cache.logits(self.tokens[:, -1])
        fresh = self.tokens[:, self.cache.get_seq_length() :]
        if self.states is None:
            positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -fresh.shape[1] :]
            given = {"input_ids": fresh, "attention_mask": self.mask}
            if "position_ids" in inspect.signature(self.rules.model.forward).parameters:
                given["position_ids"] = positions
            found = self.rules.model(**given, past_key_values=self.cache, use_cache=True)
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        else:
            found = self.rules.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=self.states),
                attention_mask=self.mask,
                decoder_input_ids=fresh,
                past_key_values=self.cache,
                use_cache=True,
            )
        return found.logits[:, -1].float()

    def spread(self, beams: int) -> None:
        """Go on with every row so many times."""
        if isinstance(self.cache, Steps):
            self.tokens = self.tokens.repeat_interleave(beams, dim=0)
            self.cache.spread(beams)
        else:
            self.keep(torch.arange(len(self.tokens), device=self.rules.device).repeat_interleave(beams))

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only, in this order; a row may be there several times."""
        self.tokens = self.tokens[rows]
        if isinstance(self.cache, Steps):
            self.cache.keep(rows)
            return
        self.mask = None if self.mask is None else self.mask[rows]
        self.states = None if self.states is None else self.states[rows]
        caches = (
            [self.cache] if self.states is None else [self.cache.self_attention_cache, self.cache.cross_attention_cache]
        )
        for cache in caches:
            cache.batch_select_indices(rows)

    def reorder(self, rows: torch.Tensor) -> None:
        """Let beams go on from other beams of the same texts, whose source is the same."""
        if isinstance(self.cache, Steps):
            self.cache.reorder(rows)
        else:
            (self.cache if self.states is None else self.cache.self_attention_cache).reorder_cache(rows)


def _greedy(rules: _Rules, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    state, n = rules.begin(inputs), len(inputs)
    written = torch.full((n, rules.how.max_new_tokens), rules.pad, device=rules.device)
    lengths = torch.full((n,), rules.how.max_new_tokens)
    rows, done = torch.arange(n, device=rules.device), torch.zeros(n, dtype=torch.bool, device=rules.device)
    for step in range(rules.how.max_new_tokens):
        chosen = state.processors(state.tokens, state.logits()).argmax(dim=-1)
        chosen = torch.where(done, rules.pad, chosen)
        written[rows, step] = chosen
        state.tokens = torch.cat([state.tokens, chosen[:, None]], dim=1)
        over = torch.isin(chosen, rules.ends) & ~done
        lengths[rows[over].cpu()] = step + 1
        done = done | over
        if bool(done.all()):
            break
        if int(done.sum()) * LEAVE >= len(done):
            alive = (~done).nonzero()[:, 0]
            state.keep(alive)
            rows, done = rows[alive], done[alive]
    found = zip(written.tolist(), lengths.tolist(), strict=True)
    return [_without_end(tokens[:length], rules) for tokens, length in found]


def _without_end(tokens: list[int], rules: _Rules) -> list[int]:
    return tokens[:-1] if tokens and tokens[-1] in rules.ends.tolist() else tokens


def _beams(rules: _Rules, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    """Beam search as `GenerationMixin._beam_search` of transformers 5.23 has it, each text by itself."""
    k, n, most = rules.how.num_beams, len(inputs), rules.how.max_new_tokens
    state = rules.begin(inputs)
    penalty, early = rules.how.length_penalty, rules.config.early_stopping
    wanted = max(2, 1 + len(rules.ends)) * k
    running = torch.full((n, k, most), rules.pad, device=rules.device)
    scores = torch.full((n, k), NEVER, device=rules.device)
    scores[:, 0] = 0.0
    finished = running.clone()
    lengths = torch.zeros((n, k), dtype=torch.long, device=rules.device)
    best = torch.full((n, k), NEVER, device=rules.device)
    complete = torch.zeros((n, k), dtype=torch.bool, device=rules.device)
    improvable = torch.ones((n, 1), dtype=torch.bool, device=rules.device)
    places = torch.arange(n, device=rules.device)
    found: list[list[int]] = [[] for _ in inputs]

    def first(tensor: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        index = which if tensor.ndim == 2 else which[..., None].expand(-1, -1, tensor.shape[2])
        return tensor.gather(1, index)

    for step in range(most):
        logs = state.logits().log_softmax(dim=-1)
        if not step:
            # Beams are still one: what was read of a text is shared out among them only now.
            state.spread(k)
            logs = logs.repeat_interleave(k, dim=0)
        logs = state.processors(state.tokens, logs)
        size = logs.shape[1]
        top, index = (logs.view(len(places), k, size) + scores[..., None]).flatten(1).topk(wanted)
        beams, tokens = index // size, index % size
        grown = first(running, beams)
        grown[:, :, step] = tokens
        ends = torch.isin(tokens, rules.ends) | (step + 1 == most)
        # The texts that go on.
        scores, chosen = (top + ends * NEVER).topk(k)
        running = first(grown, chosen)
        came = first(beams, chosen)
        # The texts that are finished, if they are among the best k.
        final = top / (step + 1) ** penalty
        final = final + NEVER * (complete.all(dim=1, keepdim=True) & (early is True)) + NEVER * ~improvable
        new = ends & (torch.arange(wanted, device=rules.device) < k)
        final = final + NEVER * ~new
        best, which = torch.cat([best, final], dim=1).topk(k)
        finished = first(torch.cat([finished, grown], dim=1), which)
        lengths = first(torch.cat([lengths, torch.full_like(beams, step + 1)], dim=1), which)
        complete = first(torch.cat([complete, new], dim=1), which)
        reach = most if early == "never" and penalty > 0 else step + 1
        worst = torch.where(complete, best.min(dim=1, keepdim=True)[0], NEVER)
        improvable = improvable & (scores[:, :1] / reach**penalty > worst).any(dim=1, keepdim=True)
        over = ~improvable[:, 0] | (complete.all(dim=1) & (early is True)) | ends.all(dim=1)
        alive = (~over).nonzero()[:, 0]
        last = not len(alive)
        if last or int(over.sum()) * LEAVE >= len(places):
            for row in over.nonzero()[:, 0].tolist():
                found[int(places[row])] = finished[row, 0, : lengths[row, 0]].tolist()
            if last:
                break
        else:
            alive = torch.arange(len(places), device=rules.device)
        offset = torch.arange(len(places), device=rules.device)[:, None] * k
        state.reorder((came + offset).flatten())
        start = state.tokens[:, : state.prompt]
        state.tokens = torch.cat([start, running[:, :, : step + 1].reshape(len(places) * k, -1)], dim=1)
        if len(alive) < len(places):
            state.keep((alive[:, None] * k + torch.arange(k, device=rules.device)).flatten())
            running, scores, finished, lengths, best, complete, improvable, places = (
                one[alive] for one in (running, scores, finished, lengths, best, complete, improvable, places)
            )
    return [_without_end(tokens, rules) for tokens in found]


def _by_transformers(rules: _Rules, inputs: Sequence[Sequence[int]]) -> list[list[int]]:
    ids, mask = rules.padded(inputs)
    with warnings.catch_warnings():
        # peft says so of every learned prompt: places are counted anew behind it.
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        made = rules.module.generate(input_ids=ids, attention_mask=mask, generation_config=rules.config)
    begins = 1 if rules.encodes else ids.shape[1]
    if not rules.encodes and not made[:, :begins].equal(ids):
        # Learned vectors in place of the prompt: what comes back is new.
        begins = 0
    found = []
    for row in made[:, begins:].tolist():
        end = next((place for place, token in enumerate(row) if token in rules.ends.tolist()), len(row))
        while end and row[end - 1] == rules.pad:
            end -= 1
        found.append(row[:end])
    return found


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
        if first is None and self.encodes and hasattr(self.tokenizer, "tgt_lang") and not self.tokenizer.tgt_lang:
            raise FtlibError(
                f"target_language: {model.name} writes several languages; say which, as its tokenizer names it, e.g. "
                f"{', '.join(self._languages()[:2])}; and source_language, the one that it reads"
            )
        # mBART's targets end with their language, which is what a text then begins with; later models' begin with it.
        self.ends = first is not None and self.encodes and self.tokenizer(text_target="a")["input_ids"][-1] == first
        stops = _line_ends(self.tokenizer) if how["lines"] else ()
        begin = {"start": first} if self.ends else {"forced_first": first}
        self.decoding = Decoding(how["num_beams"], how["length_penalty"], how["max_new_tokens"], stops=stops, **begin)
        self.fits(0)

    def _language(self, field: str, language: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(language)
        if not hasattr(self.tokenizer, "src_lang") or found in (None, self.tokenizer.unk_token_id):
            raise FtlibError(
                f"{field}: {self.model.name} has no language {language!r}; its special tokens begin with "
                f"{', '.join(self._languages()[:8]) or 'none that name one'}; leave it out for a model of one direction"
            )
        return int(found)

    def _languages(self) -> list[str]:
        return [one for one in self.tokenizer.all_special_tokens if "_" in one or one.isalpha()]

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
            if end and not self.ends:
                labels = [ids if ids[-1:] == end else ids[:most] + end for ids in labels]
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
