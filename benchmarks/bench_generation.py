"""Tokens a second: ftlib, transformers' `generate`, and CTranslate2 where it is installed, of the same weights.

    python benchmarks/bench_generation.py [--model tiny-mt] [--task FILE] [--sentences N] [--beams 1 4] [--out docs]

All three write the same sentences in one process with one thread in float32, in turns; the quickest turn counts,
in seconds of processor time, which a busy machine disturbs less than the clock's. `generate` is called as its
documentation does, on batches in the order of the file, with the whole file sorted by length beside it, which is what a
careful user does. A row says how many texts are the same as `generate`'s, token for token.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from _studies import SHARED

from ftlib.core.format import short_name
from ftlib.data.registry import load_task
from ftlib.models.generation import Decoding, generate
from ftlib.models.loading import load_model

NEW = 64
"""Tokens of a text at most."""


def by_generate(module, inputs, beams, *, size, pad, order):
    """transformers, in batches of a size, padded on the right."""
    found = [None] * len(inputs)
    for start in range(0, len(order), size):
        some = order[start : start + size]
        longest = max(len(inputs[i]) for i in some)
        ids = torch.tensor([inputs[i] + [pad] * (longest - len(inputs[i])) for i in some])
        mask = torch.tensor([[1] * len(inputs[i]) + [0] * (longest - len(inputs[i])) for i in some])
        made = module.generate(input_ids=ids, attention_mask=mask, num_beams=beams, max_new_tokens=NEW, do_sample=False)
        for i, row in zip(some, made[:, 1:].tolist(), strict=True):
            end = module.generation_config.eos_token_id
            found[i] = row[: row.index(end)] if end in row else [token for token in row if token != pad]
    return found


def translator_of(folder):
    """CTranslate2's translator of the same weights in float32, or why there is none."""
    try:
        import ctranslate2
    except ImportError:
        return None, "not installed"
    out = Path(tempfile.mkdtemp()) / "ct2"
    try:
        ctranslate2.converters.TransformersConverter(str(folder)).convert(str(out), quantization="float32")
    except Exception as error:
        return None, f"does not convert this model: {error}"
    return ctranslate2.Translator(str(out), compute_type="float32", inter_threads=1, intra_threads=1), ""


def by_ctranslate2(translator, tokens, beams, tokenizer):
    """CTranslate2, which sorts and batches by tokens itself."""
    made = translator.translate_batch(
        tokens, beam_size=beams, max_decoding_length=NEW, max_batch_size=2048, batch_type="tokens"
    )
    return [tokenizer.convert_tokens_to_ids(one.hypotheses[0]) for one in made]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-mt")
    parser.add_argument("--task", default=f"file:{SHARED / 'multi30k_en_de'}:en>de")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    model = load_model(asked.model, device="cpu", dtype="float32")
    module, tokenizer = model.speaker(), model.tokenizer
    sources = load_task(asked.task).test_set(asked.sentences)["text"].tolist()
    inputs = tokenizer(sources, truncation=True, max_length=128, return_attention_mask=False)["input_ids"]
    in_file = list(range(len(inputs)))
    by_length = sorted(in_file, key=lambda i: -len(inputs[i]))
    translator, why = translator_of(model.folder)
    lines = [
        f"{len(inputs)} sentences of {short_name(asked.task)}, {Path(asked.model).name}, 1 thread, float32, at most "
        f"{NEW} tokens",
        "",
        "| beams | who | tokens a second | beside generate | the same texts |",
        "| --- | --- | --- | --- | --- |",
    ]
    tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in inputs]
    # Or else it warns at every call that max_new_tokens is given, too.
    module.generation_config.max_length = None
    for beams in asked.beams:
        theirs_of = partial(by_generate, module, inputs, beams, pad=tokenizer.pad_token_id)
        who = {
            "`generate`, one sentence at a time": partial(theirs_of, size=1, order=in_file),
            f"`generate`, batches of {asked.batch} in the file's order": partial(
                theirs_of, size=asked.batch, order=in_file
            ),
            f"`generate`, batches of {asked.batch} by length": partial(theirs_of, size=asked.batch, order=by_length),
            "ftlib": partial(generate, module, inputs, Decoding(beams, 1.0, NEW), "float32"),
        }
        if translator is not None:
            who["CTranslate2, float32"] = partial(by_ctranslate2, translator, tokens, beams, tokenizer)
        seconds = dict.fromkeys(who, float("inf"))
        found = {}
        for _ in range(asked.turns):
            for name, write in who.items():
                start = time.process_time()
                found[name] = write()
                seconds[name] = min(seconds[name], time.process_time() - start)
        names = list(who)
        theirs, usual = found[names[0]], names[1]
        speeds = {name: sum(map(len, found[name])) / seconds[name] for name in who}
        for name in who:
            same = sum(one == other for one, other in zip(found[name], theirs, strict=True))
            lines.append(
                f"| {beams} | {name} | {speeds[name]:,.0f} | {speeds[name] / speeds[usual]:.2f} | "
                f"{same} of {len(inputs)} |"
            )
    if why:
        lines += ["", f"CTranslate2: {why}."]
    print("\n".join(lines))
    if asked.out:
        (asked.out / "generation.md").write_text(
            "# Text written a second\n\n" + "\n".join(lines) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
