"""Tokens a second: ftlib, transformers' `generate`, and CTranslate2 where it is installed, of the same weights.

Writes docs/generation.md.

    python benchmarks/bench_generation.py [--model tiny-mt] [--task FILE] [--sentences N] [--beams 1 4] [--out docs]

All write the same sentences in one process with one thread, in turns; the quickest turn counts, in seconds of
processor time, which a busy machine disturbs less than the clock's. `generate` is called one sentence at a time, as
its pipeline does unless it is told otherwise; on batches in the order of the file; and on batches sorted by length,
which is what a careful user does. A row says how many texts are the same as those of `generate`, one at a time, token
for token.
"""

import argparse
import copy
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from _studies import SHARED, processor, write

from ftlib.core.format import short_name
from ftlib.data.registry import load_task
from ftlib.models.generation import Decoding, generate
from ftlib.models.loading import load_model
from ftlib.models.quantise import quantise

NEW = 64
"""Tokens of a text at most."""

NOTE = """Made by `benchmarks/bench_generation.py`; seconds are of processor time, the quickest of the turns. "Batches"
are those in the order of the file. In int8 the layer that predicts words stays in float32 in ftlib, and is in bytes in
CTranslate2; in both other words come out than in float32, which is what "the same texts" counts. CTranslate2's own
converter takes for granted that a Marian model begins a text with zeros and has the filling token last, as Marian's own
training makes them; tiny-mt has neither, and the benchmark says so to it in a few lines."""


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


def translator_of(folder, arithmetic):
    """CTranslate2's translator of the same weights, or why there is none."""
    try:
        import ctranslate2
        from ctranslate2.converters import transformers as families
    except ImportError:
        return None, "not installed"

    class AsItStands(families.MarianMTLoader):
        """Marian whose filling token is a word like any other, not the vocabulary's last one: it is what texts begin
        with, and its vector is not zero.
        """

        def set_config(self, config, model, tokenizer):
            super().set_config(config, model, tokenizer)
            config.unk_token = tokenizer.unk_token or tokenizer.eos_token
            config.decoder_start_token = tokenizer.convert_ids_to_tokens(model.config.decoder_start_token_id)

        def set_decoder(self, spec, decoder):
            super().set_decoder(spec, decoder)
            spec.start_from_zero_embedding = False

        def get_vocabulary(self, model, tokenizer):
            return families.BartLoader.get_vocabulary(self, model, tokenizer)

        def _remove_pad_weights(self, spec):
            """All stay."""

    # One with files of sentencepiece is as Marian's own training made it.
    if not any(Path(folder).glob("*.spm")):
        families._MODEL_LOADERS["MarianConfig"] = AsItStands()
    out = Path(tempfile.mkdtemp()) / arithmetic
    try:
        families.TransformersConverter(str(folder)).convert(str(out), quantization=arithmetic)
    except Exception as error:
        return None, f"does not convert this model: {error}"
    return ctranslate2.Translator(str(out), compute_type=arithmetic, inter_threads=1, intra_threads=1), ""


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
    torch.set_num_threads(1)
    translators = {arithmetic: translator_of(model.folder, arithmetic) for arithmetic in ("float32", "int8")}
    in_bytes = copy.deepcopy(module)
    quantise(in_bytes)
    lines = [
        "# Tokens written a second",
        "",
        f"{len(inputs)} sentences of {short_name(asked.task)}, {Path(asked.model).name}, 1 thread, at most {NEW} "
        f"tokens; {processor()}.",
        "",
        "| beams | who | tokens a second | beside one at a time | beside batches | the same texts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in inputs]
    # Or else it warns at every call that max_new_tokens is given, too.
    module.generation_config.max_length = None
    for beams in asked.beams:
        theirs_of = partial(by_generate, module, inputs, beams, pad=tokenizer.pad_token_id)
        how = Decoding(beams, 1.0, NEW)
        batches = f"`generate`, batches of {asked.batch}"
        who = {
            "`generate`, one sentence at a time": partial(theirs_of, size=1, order=in_file),
            f"{batches} in the file's order": partial(theirs_of, size=asked.batch, order=in_file),
            f"{batches} by length": partial(theirs_of, size=asked.batch, order=by_length),
            "ftlib, float32": partial(generate, module, inputs, how, "float32"),
            "ftlib, int8": partial(generate, in_bytes, inputs, how, "float32"),
        }
        for arithmetic, (translator, _) in translators.items():
            if translator is not None:
                who[f"CTranslate2, {arithmetic}"] = partial(by_ctranslate2, translator, tokens, beams, tokenizer)
        seconds = dict.fromkeys(who, float("inf"))
        found = {}
        for _ in range(asked.turns):
            for name, write_all in who.items():
                start = time.process_time()
                found[name] = write_all()
                seconds[name] = min(seconds[name], time.process_time() - start)
        one, usual = list(who)[:2]
        speeds = {name: sum(map(len, found[name])) / seconds[name] for name in who}
        for name in who:
            same = sum(mine == other for mine, other in zip(found[name], found[one], strict=True))
            lines.append(
                f"| {beams} | {name} | {speeds[name]:,.0f} | {speeds[name] / speeds[one]:.2f} | "
                f"{speeds[name] / speeds[usual]:.2f} | {same} of {len(inputs)} |"
            )
    lines += [f"\nCTranslate2, {name}: {why}." for name, (_, why) in translators.items() if why]
    lines += ["", NOTE]
    print("\n".join(lines))
    if asked.out:
        write(asked.out / "generation.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
