"""Text -> tokens, with the boundary between context and continuation where lm_eval has it."""

from collections.abc import Sequence
from typing import Any

from ftlib.core.errors import FtlibError, several


def encode(tokenizer: Any, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Token ids of every text, without the tokenizer's own special tokens unless they are asked for."""
    # verbose: it would warn of texts longer than the model reads, which are looked after here.
    if not len(texts):
        return []
    return tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False)["input_ids"]


def first_token(tokenizer: Any) -> int:
    """The token that stands before a text: BOS, or EOS where there is none, as in lm_eval (`prefix_token_id`).

    Raises:
        FtlibError: The tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise FtlibError(
        f"bos=True: {type(tokenizer).__name__} has neither a BOS nor an EOS token to put before a text; "
        "set tokenizer.bos_token, or pass bos=False"
    )


def begin(tokenizer: Any, ids: list[list[int]], bos: bool) -> list[list[int]]:
    """Put BOS in front where `bos` says so and the text does not begin with it."""
    if not bos:
        return ids
    first = first_token(tokenizer)
    return [row if row[:1] == [first] else [first, *row] for row in ids]


def pairs(
    tokenizer: Any, texts: Sequence[str], continuations: Sequence[str], *, bos: bool, encoder: bool = False
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Tokens of every context and of every continuation after it, as lm_eval's `_encode_pair` has them.

    White space at the end of a context goes to the continuations. The context is encoded alone; a continuation is what
    context and continuation, encoded together, have beyond as many tokens as the context has.

    Args:
        bos: Whether BOS stands before every context; without effect for an encoder.
        encoder: The context goes to an encoder, with the tokenizer's own special tokens, and the continuation to its
            decoder: each is encoded alone.

    Returns:
        contexts: (n_texts,) token ids.
        continuations: (n_texts, n_continuations) token ids.

    Raises:
        FtlibError: A continuation without a token of its own, or nothing before it.
    """
    stripped = [text.rstrip() for text in texts]
    n = len(continuations)
    contexts: list[list[int]] = []
    found: list[list[list[int]]] = []
    # A few at a time: what a tokenizer returns takes a hundred times the memory of the ids.
    for start in range(0, len(texts), 64):
        part = slice(start, start + 64)
        contexts += encode(tokenizer, stripped[part], special=encoder)
        # An encoder's decoder sees the continuation, with the white space moved to it, and nothing before.
        before = [text[len(short) * encoder :] for text, short in zip(texts[part], stripped[part], strict=True)]
        wholes = encode(tokenizer, [text + words for text in before for words in continuations])
        cuts = [0 if encoder else len(context) for context in contexts[part]]
        found += [[ids[cut:] for ids in wholes[i * n : (i + 1) * n]] for i, cut in enumerate(cuts)]
    contexts = contexts if encoder else begin(tokenizer, contexts, bos)
    problems = [
        f"query {i}: continuation {words!r} has no token of its own after {texts[i][-20:]!r}"
        for i, row in enumerate(found)
        for words, ids in zip(continuations, row, strict=True)
        if not ids
    ]
    empty = [i for i, context in enumerate(contexts) if not context]
    problems += [f"query {i}: nothing stands before the continuation; pass bos=True" for i in empty]
    if problems:
        raise several(problems)
    return contexts, found


def text_tokens(tokenizer: Any, texts: Sequence[str], *, bos: bool) -> tuple[list[list[int]], list[int]]:
    """Tokens of every text, the first of which is only read, and the UTF-8 bytes of the others' text.

    Returns:
        tokens: (n_texts,) token ids.
        n_bytes: (n_texts,) Without BOS the bytes before the second token are not counted, for the first is not scored.

    Raises:
        FtlibError: The bytes of the first token are needed and the tokenizer does not tell them.
    """
    plain = encode(tokenizer, texts)
    tokens = begin(tokenizer, plain, bos)
    n_bytes = [len(text.encode()) for text in texts]
    for i, (row, ids) in enumerate(zip(tokens, plain, strict=True)):
        if len(row) == len(ids) and ids:
            n_bytes[i] = len(texts[i][_second(tokenizer, texts[i]) :].encode())
    return tokens, n_bytes


def _second(tokenizer: Any, text: str) -> int:
    """Where in the text the second token begins; its end where there is only one."""
    if not tokenizer.is_fast:
        raise FtlibError(f"bos=False needs to know where tokens stand, which {type(tokenizer).__name__} does not tell")
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return offsets[1][0] if len(offsets) > 1 else len(text)
