"""How well the bundled translation model translates text that it has not seen, beside two baselines that need no model.

    python benchmarks/bench_tinymt.py [MODEL] [--beams 4] [--only uistrings.csv] [--limit 0]

Test sets are read from `../shared/corpus/en_de/test`; the bundled task uistrings is measured as well. The baselines:
copy writes the English; words puts, for each word, the German one that is likeliest by IBM model 1 (Brown et al. 1993),
learned here from pairs of the same training text. BLEU and chrF are sacrebleu's, with 95 % intervals over segments by
its bootstrap (1,000 draws); higher is better. Placeholders kept: segments whose placeholders (`%s`, `{name}`) all came
through, of those that have any. Prints Markdown.
"""

import argparse
import lzma
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sacrebleu.metrics import BLEU, CHRF
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from ftlib.data import uistrings
from ftlib.data.uistrings import PLACEHOLDER
from ftlib.models.generation import Decoding, generate

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "corpus" / "en_de"
DRAWS = 1000
LONGEST = 128
"""Tokens that are written at most."""
WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")

Translate = Callable[[list[str]], list[str]]


def lexicon(path: Path, pairs: int, rounds: int = 5, longest: int = 40) -> dict[str, str]:
    """The likeliest German word of each English one, by IBM model 1 with an empty word, from pairs drawn at random."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        rows = [line.split("\t")[:2] for line in lines]
    numbers: tuple[dict[str, int], dict[str, int]] = {"": 0}, {}
    sources, targets, places, begun = [], [], [], 0
    for english, german in random.Random(0).sample(rows, min(pairs, len(rows))):
        one = [numbers[0].setdefault(word.casefold(), len(numbers[0])) for word in WORD.findall(english)]
        other = [numbers[1].setdefault(word, len(numbers[1])) for word in WORD.findall(german)]
        if not one or not other or max(len(one), len(other)) > longest:
            continue
        one = [0, *one]
        sources.append(np.tile(np.array(one, dtype=np.int64), len(other)))
        targets.append(np.repeat(np.array(other, dtype=np.int64), len(one)))
        places.append(begun + np.repeat(np.arange(len(other)), len(one)))
        begun += len(other)
    source, target, place = (np.concatenate(each) for each in (sources, targets, places))
    links, which = np.unique(source * len(numbers[1]) + target, return_inverse=True)
    of = links // len(numbers[1])
    chance = np.ones(len(links))
    for _ in range(rounds):
        weight = chance[which]
        weight /= np.bincount(place, weight)[place]
        counted = np.bincount(which, weight)
        chance = counted / np.bincount(of, counted)[of]
    order = np.lexsort((-chance, of))
    first = order[np.unique(of[order], return_index=True)[1]]
    german, english = list(numbers[1]), list(numbers[0])
    return {english[links[n] // len(german)]: german[links[n] % len(german)] for n in first if links[n] // len(german)}


def by_words(texts: list[str], german: Mapping[str, str]) -> list[str]:
    """Each text word by word; what is no known word stays.

    >>> by_words(["Open %(file)s, house!"], {"open": "öffnen", "file": "Datei", "house": "Haus"})
    ['Öffnen %(file)s, Haus!']
    """
    either = re.compile(f"{PLACEHOLDER.pattern}|(?P<word>{WORD.pattern})")
    found = []
    for text in texts:
        said = either.sub(lambda m: german.get(m["word"].casefold(), m["word"]) if m["word"] else m[0], text)
        found.append(said[:1].upper() + said[1:] if text[:1].isupper() else said)
    return found


def by_model(folder: str, beams: int) -> Translate:
    """The model in float32, as `ftlib.models.generation` runs it: the outputs of transformers' `generate`, sooner."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    how = Decoding(num_beams=beams, max_new_tokens=LONGEST)

    def translate(texts: list[str]) -> list[str]:
        inputs = tokenizer(texts, truncation=True)["input_ids"]
        return tokenizer.batch_decode(generate(model, inputs, how, "float32"), skip_special_tokens=True)

    return translate


def kept(sources: list[str], hypotheses: list[str]) -> str:
    """How many texts kept all their placeholders, of those that have any."""
    held = [(Counter(PLACEHOLDER.findall(one)), Counter(PLACEHOLDER.findall(two))) for one, two in
            zip(sources, hypotheses, strict=True)]  # fmt: skip
    some = [one == two for one, two in held if one]
    return f"{sum(some)} of {len(some)}" if some else ""


def test_sets(only: str, limit: int) -> dict[str, tuple[list[str], list[str]]]:
    """Name -> sources and references."""
    found = {
        path.name: pd.read_csv(path, dtype=str, keep_default_na=False)
        for path in sorted((CORPUS / "test").glob("*.csv"))
    }
    task = uistrings.load()
    more = {"test": task.splits["test"], **task.tests}
    found |= {
        f"task uistrings, {name}": frame.rename(columns={"text": "source", "label": "target"})
        for name, frame in more.items()
    }
    return {
        name: (frame["source"].tolist()[: limit or None], frame["target"].tolist()[: limit or None])
        for name, frame in found.items()
        if only in name
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(ROOT / "data" / "tiny-mt"))
    parser.add_argument("--beams", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--pairs", type=int, default=100_000, help="of the training text, to learn words from")
    parser.add_argument("--only", default="", help="test sets with this in their name")
    parser.add_argument("--limit", type=int, default=0, help="segments of each test set; 0: all")
    args = parser.parse_args()
    start = time.monotonic()
    german = lexicon(CORPUS / "train.tsv.xz", args.pairs)
    print(f"{len(german):,} English words learned from {args.pairs:,} pairs in {time.monotonic() - start:.0f} s\n")
    methods: dict[str, Translate] = {"copy": list, "words": lambda texts: by_words(texts, german)}
    for beams in args.beams:
        methods[f"tiny-mt, {'greedy' if beams == 1 else f'{beams} beams'}"] = by_model(args.model, beams)
    measures = BLEU(), CHRF()
    print("| test set | n | method | BLEU | 95 % | chrF | 95 % | copied | empty | placeholders kept | segments/s |")
    print("| --- | ---: | --- | ---: | --- | ---: | --- | ---: | ---: | --- | ---: |")
    for name, (sources, references) in test_sets(args.only, args.limit).items():
        for method, translate in methods.items():
            start = time.monotonic()
            said = translate(sources)
            seconds = time.monotonic() - start
            cells = []
            for measure in measures:
                measured = measure.corpus_score(said, [references], n_bootstrap=DRAWS)
                low, high = measured._mean - measured._ci, measured._mean + measured._ci
                cells.append(f"{measured.score:.1f} | {low:.1f} to {high:.1f}")
            same = sum(one.strip() == other.strip() for one, other in zip(said, sources, strict=True))
            empty = sum(not text.strip() for text in said)
            speed = f"{len(sources) / seconds:.0f}" if method.startswith("tiny-mt") else ""
            row = (name, f"{len(sources):,}", method, *cells, same, empty, kept(sources, said), speed)
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(f"\nSignatures: BLEU {measures[0].get_signature()}; chrF {measures[1].get_signature()}")


if __name__ == "__main__":
    main()
