"""What is to be scored: texts as tokens, then tokens as trees and rows, where what is shared stands once. No torch.

The boundary between context and continuation is where lm_eval has it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

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


class Target(NamedTuple):
    """A token to be predicted."""

    at: int
    """The node, or the place in the row, whose output predicts it."""
    token: int
    place: int
    """Where its log-probability is added up."""


class Row(NamedTuple):
    """Tokens that stand in one line, each seeing all before it."""

    tokens: list[int]
    targets: list[Target]


class Tree(NamedTuple):
    """Tokens that each see their ancestors only; a parent stands before its children, the first node has none (-1)."""

    tokens: list[int]
    parents: list[int]
    targets: list[Target]

    @property
    def depths(self) -> list[int]:
        """Of every node, the first one 0."""
        found: list[int] = []
        for parent in self.parents:
            found.append(found[parent] + 1 if parent >= 0 else 0)
        return found


def grow(context: Sequence[int], continuations: Iterable[Sequence[int]], first_place: int = 0) -> Tree:
    """The tree of one context and its continuations; those that begin alike share what they begin with.

    Args:
        continuations: (n_continuations,) tokens, at least one in each; the last of each is predicted and never read.
        first_place: Where the first continuation's log-probabilities are added up; the next ones follow.

    >>> tree = grow([5, 6], [[7, 8, 1], [7, 9], [7, 8, 2]])
    >>> tree.tokens, tree.parents
    ([5, 6, 7, 8], [-1, 0, 1, 2])
    >>> [(target.at, target.token) for target in tree.targets]
    [(1, 7), (2, 8), (3, 1), (1, 7), (2, 9), (1, 7), (2, 8), (3, 2)]
    """
    tree = Tree(list(context), list(range(-1, len(context) - 1)), [])
    children: dict[tuple[int, int], int] = {}
    for place, continuation in enumerate(continuations, first_place):
        node = len(context) - 1
        for token, more in zip(continuation, (*continuation[1:], None), strict=True):
            tree.targets.append(Target(node, token, place))
            if more is not None and (node, token) not in children:
                children[node, token] = len(tree.tokens)
                tree.tokens.append(token)
                tree.parents.append(node)
            node = children.get((node, token), -1)
    return tree


def rows(tree: Tree, prefix: Sequence[int] = ()) -> Iterator[Row]:
    """The same targets without sharing: one row, with the prefix in front, for every leaf.

    >>> for row in rows(grow([5], [[7, 1], [8, 2]]), prefix=[3]):
    ...     print(row.tokens, [tuple(target) for target in row.targets])
    [3, 5, 7] [(1, 7, 0), (1, 8, 1), (2, 1, 0)]
    [3, 5, 8] [(2, 2, 1)]
    """
    by_node: dict[int, list[Target]] = {}
    for target in tree.targets:
        by_node.setdefault(target.at, []).append(target)
    depths = tree.depths
    for leaf in sorted(set(range(len(tree.tokens))) - set(tree.parents)):
        path = [leaf]
        while tree.parents[path[-1]] >= 0:
            path.append(tree.parents[path[-1]])
        path.reverse()
        # A target stands in the first row that passes its node, and is taken out with it.
        found = [target for node in path for target in by_node.pop(node, ())]
        yield Row(
            [*prefix, *(tree.tokens[node] for node in path)],
            [Target(len(prefix) + depths[at], token, place) for at, token, place in found],
        )


class Forest(NamedTuple):
    """Several trees in one line behind one prefix, none seeing another."""

    tokens: np.ndarray
    """(n_nodes,)"""
    positions: np.ndarray
    """(n_nodes,) in the text: length of the prefix + depth."""
    sees: np.ndarray
    """(n_nodes, n_prefix + n_nodes) bool: all of the prefix, its ancestors and itself."""
    targets: list[Target]


def plant(trees: Sequence[Tree], n_prefix: int) -> Forest:
    """Put trees side by side.

    >>> forest = plant([grow([5], [[7, 1], [8, 2]]), grow([6], [[1]])], n_prefix=1)
    >>> forest.tokens.tolist(), forest.positions.tolist()
    ([5, 7, 8, 6], [1, 2, 2, 1])
    >>> forest.sees.astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 1, 0, 1, 0],
           [1, 0, 0, 0, 1]])
    """
    n_nodes = sum(len(tree.tokens) for tree in trees)
    sees = np.zeros((n_nodes, n_prefix + n_nodes), dtype=bool)
    sees[:, :n_prefix] = True
    targets: list[Target] = []
    start = 0
    for tree in trees:
        for node, parent in enumerate(tree.parents, start):
            if parent >= 0:
                sees[node, n_prefix + start :] = sees[start + parent, n_prefix + start :]
            sees[node, n_prefix + node] = True
        targets += [target._replace(at=start + target.at) for target in tree.targets]
        start += len(tree.tokens)
    return Forest(
        np.concatenate([tree.tokens for tree in trees]),
        np.concatenate([tree.depths for tree in trees]) + n_prefix,
        sees,
        targets,
    )


def shared(contexts: Sequence[Sequence[int]]) -> int:
    """Length of what all contexts begin with, at least one token short of each, for a tree needs a first node.

    >>> shared([[1, 2, 3], [1, 2, 4, 5]]), shared([[1, 2], [1, 2, 3]]), shared([[1], [2]])
    (2, 1, 0)
    """
    first, last = min(contexts), max(contexts)
    longest = min(map(len, contexts)) - 1
    return next((i for i in range(longest) if first[i] != last[i]), longest)


def windows(tokens: Sequence[int], context: int, stride: int, place: int) -> Iterator[Row]:
    """Windows of a text, in which every token but the first is predicted once.

    The first window predicts as many tokens as it reads; each later one predicts the next `stride` tokens (the last one
    what is left) and reads the `context` tokens before the last of them, as lm_eval's rolling windows do.

    Args:
        context: Tokens that a window reads at most.
        stride: Tokens by which it advances, 1 to context.

    >>> for row in windows([0, 1, 2, 3, 4, 5], context=3, stride=2, place=0):
    ...     print(row.tokens, [target.token for target in row.targets])
    [0, 1, 2] [1, 2, 3]
    [2, 3, 4] [4, 5]
    """
    done = 0
    while done < len(tokens) - 1:
        end = min(len(tokens) - 1, done + (stride if done else context))
        start = max(0, end - context)
        yield Row(
            list(tokens[start:end]), [Target(at - 1 - start, tokens[at], place) for at in range(done + 1, end + 1)]
        )
        done = end
