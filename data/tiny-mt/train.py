"""Train tiny-mt from nothing: a small Marian model on any parallel text. Needs torch, transformers and tokenizers.

    python train.py --corpus pairs.tsv.xz --work WORK --minutes 80 --shares tatoeba=3 ms_docs=0.3

A corpus is UTF-8 text (.tsv or .tsv.xz) without a header: source, target and, where wanted, `set:origin`. WORK keeps
the tokenizer, the encoded pairs and a checkpoint written every few minutes: the same command goes on where it was
stopped, also with another --minutes (the learning rate is constant until the last --decay share of them, so a run
that has not begun to decay can be lengthened to hours). When --minutes are spent the model is exported to WORK/export
in the transformers format. --export writes it from the last checkpoint without training.

Choices, and why:
- A deep encoder and a shallow decoder: the encoder reads a sentence once, the decoder runs once per written token.
- Muon moves the matrices of the layers, AdamW the rest, in float32; forward and backward pass are bfloat16. Loss and
  its gradient are taken 512 positions at a time. Why: see `data/tiny-lm/train.py`, from which they come.
- Batches hold sentences of like length, cut by tokens: next to nothing is spent on padding.
- The rate follows the time spent, not the tokens seen: a machine shared with others ends when it should.
- What is measured and exported is a moving average of the weights, so that a run can be used wherever it was stopped.
- One byte-level vocabulary for both languages, embeddings and output layer tied; digits stand alone.
"""

import argparse
import csv
import lzma
import math
import random
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

PAD, EOS = "<pad>", "</s>"
CONTEXT = 256
CHUNK = 512
POOL = 40_000


def pairs(path: Path):
    """Yield source, target and the name of the set of every pair of a corpus file."""
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            source, target, *rest = line.rstrip("\n").split("\t")
            yield source.strip(), target.strip(), rest[0].split(":")[0] if rest else "all"


def kept_aside(source: str) -> bool:
    """Whether a pair is for validation: one in 250, the same ones whatever the order of the file."""
    return zlib.crc32(source.casefold().encode()) % 250 == 0


def times(share: float, key: str) -> int:
    """How often a pair is drawn in a pass: the share, its fraction decided by the key."""
    return int(share + zlib.crc32(key.encode()) / 2**32)


def trained_tokenizer(args, path: Path) -> Tokenizer:
    """Byte-level BPE over both sides of the training pairs as they will be drawn, so that any text can be written."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    # Every text begins with a space, which the decoder takes away: a word is the same one wherever it stands.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip(), normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\p{N}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=args.vocabulary,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    drawn = (
        text
        for source, target, name in pairs(args.corpus)
        if not kept_aside(source)
        for _ in range(times(args.shares.get(name, 1.0), source))
        for text in (source, target)
    )
    tokenizer.train_from_iterator(drawn, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", pair=f"$A $B {EOS}", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    tokenizer.save(str(path))
    return tokenizer


def encoded(args, tokenizer: Tokenizer) -> dict:
    """Token numbers of both sides of every pair that is not too long, one after another, with ends and sets."""
    path = args.work / "pairs.npz"
    if not path.exists():
        ends, sets, aside, tokens, names = [[0], [0]], [], [], [[], []], []
        rows = list(pairs(args.corpus))
        for first in range(0, len(rows), 8192):
            some = rows[first : first + 8192]
            both = [tokenizer.encode_batch_fast([row[side] for row in some]) for side in (0, 1)]
            for (source, _, name), *texts in zip(some, *both, strict=True):
                if max(len(text.ids) for text in texts) > args.length:
                    continue
                if name not in names:
                    names.append(name)
                sets.append(names.index(name))
                aside.append(kept_aside(source))
                for side, text in enumerate(texts):
                    tokens[side].append(np.asarray(text.ids, dtype=np.uint16))
                    ends[side].append(ends[side][-1] + len(text.ids))
        packed = {f"tokens{side}": np.concatenate(tokens[side]) for side in (0, 1)}
        packed |= {f"ends{side}": np.asarray(ends[side]) for side in (0, 1)}
        part = path.with_name("part.npz")
        np.savez(part, sets=np.asarray(sets), aside=np.asarray(aside), names=np.asarray(names), **packed)
        part.replace(path)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored}


def batches(data: dict, numbers: np.ndarray, most: int, sampler: random.Random):
    """Yield batches of like length of the pairs `numbers`, each of at most `most` tokens with padding."""
    lengths = [np.diff(data[f"ends{side}"]) for side in (0, 1)]
    numbers = sampler.sample(list(numbers), len(numbers))
    for first in range(0, len(numbers), POOL):
        pool = sorted(numbers[first : first + POOL], key=lambda n: (lengths[1][n], lengths[0][n]))
        found, rows, widest = [], [], 0
        for number in pool:
            wide = max(widest, lengths[0][number] + lengths[1][number])
            if rows and wide * (len(rows) + 1) > most:
                found.append(rows)
                rows, wide = [], lengths[0][number] + lengths[1][number]
            rows.append(number)
            widest = wide
        found.append(rows)
        sampler.shuffle(found)
        for rows in found:
            yield [
                padded([data[f"tokens{s}"][data[f"ends{s}"][n] : data[f"ends{s}"][n + 1]] for n in rows])
                for s in (0, 1)
            ]


def padded(rows: list[np.ndarray]) -> torch.Tensor:
    """Rows of token numbers as one tensor; the number of PAD is 0."""
    out = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return torch.from_numpy(out)


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of a linear output layer with smoothed labels, its gradient computed on the way.

    PAD (number 0) gets no part of the smoothing: it is never an answer.
    """

    @staticmethod
    def forward(ctx, hidden, weight, target, smoothing):
        """Mean over positions: hidden (n, width), weight (vocabulary, width), target (n,)."""
        count, total = len(hidden), 0.0
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros(weight.shape, dtype=torch.float32)
        other = smoothing / (len(weight) - 1)
        for start in range(0, count, CHUNK):
            here, wanted = hidden[start : start + CHUNK], target[start : start + CHUNK, None]
            logits = (here @ weight.t()).float()
            norm = torch.logsumexp(logits, 1, keepdim=True)
            at_target = logits.gather(1, wanted)
            total += (norm - (1 - smoothing) * at_target - other * logits[:, 1:].sum(1, keepdim=True)).sum()
            share = logits.sub_(norm).exp_()
            share[:, 1:] -= other
            share.scatter_add_(1, wanted, torch.full_like(at_target, smoothing - 1))
            share = (share / count).to(hidden.dtype)
            to_hidden[start : start + CHUNK] = share @ weight
            to_weight += share.t() @ here
        ctx.save_for_backward(to_hidden, to_weight.to(weight.dtype))
        return total / count

    @staticmethod
    def backward(ctx, scale):
        """What `forward` has computed, times the gradient of the loss."""
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * scale, to_weight * scale, None, None


def new_model(args, vocabulary: int) -> MarianMTModel:
    """A Marian model with weights drawn from the seed."""
    torch.manual_seed(args.seed)
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=args.width,
        encoder_layers=args.layers[0],
        decoder_layers=args.layers[1],
        encoder_attention_heads=args.width // 64,
        decoder_attention_heads=args.width // 64,
        encoder_ffn_dim=args.inner,
        decoder_ffn_dim=args.inner,
        max_position_embeddings=CONTEXT,
        activation_function="relu",
        dropout=0.0,
        scale_embedding=True,
        static_position_embeddings=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config)
    model.set_attn_implementation("eager")  # short sentences on a processor: faster than the fused one
    return model


def loss_of(model, sources: torch.Tensor, targets: torch.Tensor, smoothing: float):
    """The mean loss per target token of a batch."""
    begun = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
    hidden = model.model(
        input_ids=sources,
        attention_mask=(sources != 0).long(),
        decoder_input_ids=begun,
        use_cache=False,
    ).last_hidden_state
    scored = targets.flatten() != 0
    return ChunkedLoss.apply(hidden.flatten(0, 1)[scored], model.lm_head.weight, targets.flatten()[scored], smoothing)


@torch.no_grad()
def validation(model, data: dict, groups: dict[str, np.ndarray], most: int) -> list[float]:
    """Nats per target token of each group of pairs kept aside, without smoothing."""
    found = []
    for numbers in groups.values():
        nats = tokens = 0
        for sources, targets in batches(data, numbers, most, random.Random(0)):
            scored = (targets != 0).sum().item()
            nats += loss_of(model, sources, targets, 0.0).item() * scored
            tokens += scored
        found.append(nats / tokens)
    return found


def rate_at(step: int, done: float, args) -> float:
    """Warm-up, constant, then linear decay to 2 % over the last `--decay` share of the time."""
    if step < args.warmup:
        return (step + 1) / args.warmup
    return 1.0 if done < 1 - args.decay else max(0.02, (1 - done) / args.decay)


def drawn(data: dict, args, sampler: random.Random) -> np.ndarray:
    """The training pairs of one pass, by number: of a set with share 2.5 every pair twice and half of them again."""
    out = []
    for index, name in enumerate(data["names"]):
        numbers = np.flatnonzero((data["sets"] == index) & ~data["aside"])
        share = args.shares.get(str(name), 1.0)
        out += [numbers] * int(share)
        out.append(np.asarray(sampler.sample(list(numbers), round(len(numbers) * (share - int(share)))), dtype=int))
    return np.concatenate(out)


def train(args, data: dict) -> None:
    """Train until the minutes are spent."""
    torch.set_num_threads(args.threads)
    vocabulary = Tokenizer.from_file(str(args.work / "tokenizer.json")).get_vocab_size()
    kind = torch.float32 if args.float32 else torch.bfloat16
    master, model = new_model(args, vocabulary), new_model(args, vocabulary).to(kind)
    named = {name: p for name, p in master.named_parameters() if p.requires_grad}
    halves = dict(model.named_parameters())
    layers = [p for name, p in named.items() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in named.items() if not (p.ndim == 2 and ".layers." in name)]
    optimizers = [
        torch.optim.Muon(
            layers, lr=args.rate, weight_decay=args.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]
    average = [p.detach().clone() for p in named.values()]
    seen, step, spent, curve = 0, 0, 0.0, []
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        master.load_state_dict(state["model"])
        average = state["average"]
        seen, step, spent, curve = state["seen"], state["step"], state["spent"], state["curve"]
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def copy(values) -> None:
        with torch.no_grad():
            for name, value in zip(named, values, strict=True):
                halves[name].copy_(value)

    copy(named.values())
    names = list(map(str, data["names"]))
    groups = {}
    for name in names:
        numbers = np.flatnonzero((data["sets"] == names.index(name)) & data["aside"])[: args.valid]
        if len(numbers) >= 20:
            groups[name] = numbers
    sampler = random.Random(f"{args.seed}-{seen}")
    total, before, last, saved = args.minutes * 60, spent, time.monotonic(), time.monotonic()
    measured, recent, begun_seen = time.monotonic(), [], seen
    left = iter(())
    while spent < total:
        batch = next(left, None)
        if batch is None:
            left = batches(data, drawn(data, args, sampler), args.batch, sampler)
            batch = next(left)
        loss = loss_of(model, *batch, args.smoothing)
        loss.backward()
        if not math.isfinite(loss.item()):
            raise SystemExit(f"loss is {loss.item()} at step {step}: start again with a lower --rate")
        tokens = (batch[1] != 0).sum().item()
        recent.append((loss.item(), tokens))
        for name, full in named.items():
            full.grad = halves[name].grad.float()
            halves[name].grad = None
        torch.nn.utils.clip_grad_norm_(named.values(), args.clip)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.rate * rate_at(step, spent / total, args)
            optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(named.values()), 1 / min(step + 1, args.average))
        copy(named.values())
        step, seen = step + 1, seen + tokens
        now = time.monotonic()
        spent, last = spent + now - last, now
        if now - measured > args.every or spent >= total:
            copy(average)
            valid = validation(model, data, groups, args.batch)
            copy(named.values())
            weights = sum(tokens for _, tokens in recent)
            curve.append(
                [seen, round(spent / 60, 1), round(sum(nats * n for nats, n in recent) / weights, 4)]
                + [round(nats, 4) for nats in valid]
            )
            shown = " ".join(f"{name} {nats:.3f}" for name, nats in zip(groups, valid, strict=True))
            speed = (seen - begun_seen) / (spent - before)
            print(
                f"step {step}  {seen / 1e6:.2f} M target tokens  {speed:.0f}/s  {spent / 60:.1f} of {args.minutes:.0f} "
                f"minutes  train {curve[-1][2]:.3f}  valid {shown}",
                flush=True,
            )
            measured, recent = time.monotonic(), []
        if now - saved > args.save_seconds or spent >= total:
            saved = time.monotonic()
            state = {"model": master.state_dict(), "average": average, "groups": list(groups)}
            state |= {"optimizers": [optimizer.state_dict() for optimizer in optimizers]}
            part = checkpoint.with_suffix(".part")
            torch.save(state | {"seen": seen, "step": step, "spent": spent, "curve": curve}, part)
            part.replace(checkpoint)


def export(args) -> None:
    """Write the averaged weights as a model folder of transformers (bfloat16 safetensors) with the loss curve."""
    state = torch.load(args.work / "checkpoint.pt", weights_only=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(args.work / "tokenizer.json"), eos_token=EOS, pad_token=PAD, model_max_length=CONTEXT
    )
    model = new_model(args, len(tokenizer))
    model.load_state_dict(state["model"])
    with torch.no_grad():
        for parameter, value in zip((p for p in model.parameters() if p.requires_grad), state["average"], strict=True):
            parameter.copy_(value)
    model.generation_config.max_length = CONTEXT
    out = args.work / "export"
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    with (out / "loss.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("target_tokens", "minutes", "train_smoothed", *state["groups"]), *state["curve"]])
    draw(state["curve"], state["groups"], out / "loss.svg")
    for path in out.iterdir():
        path.chmod(0o644)
    print(f"{out}: {model.num_parameters():,} parameters, {state['seen']:,} target tokens seen")


def draw(curve: list, groups: list[str], path: Path) -> None:
    """The loss curve as a picture; `loss.csv` is its table."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "tiny-mt"
    seen, _, trained, *valid = zip(*curve, strict=True)
    figure, axes = pyplot.subplots(figsize=(7, 3.8), layout="constrained")
    millions = [tokens / 1e6 for tokens in seen]
    axes.plot(millions, trained, color="black", linestyle="--", label="training text (smoothed labels)")
    for number, (name, losses) in enumerate(zip(groups, valid, strict=True)):
        axes.plot(millions, losses, color=f"C{number % 10}", label=name)
    axes.set_xlabel("target tokens seen, millions")
    axes.set_ylabel("loss, nats per target token")
    axes.legend(frameon=False, fontsize="small", ncols=2)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def share(text: str) -> tuple[str, float]:
    """The name and number of `tatoeba=3`."""
    name, _, number = text.partition("=")
    return name, float(number)


def main() -> None:
    """Read the command line, then train, export, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument(
        "--shares", type=share, nargs="*", default=[], help="how often a set is drawn in a pass: tatoeba=3"
    )
    parser.add_argument("--length", type=int, default=64, help="tokens of a side; longer pairs are left out")
    parser.add_argument("--batch", type=int, default=8192, help="tokens of both sides per step, with padding")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--average", type=int, default=100, help="steps the moving average looks back")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--inner", type=int, default=768)
    parser.add_argument("--layers", type=int, nargs=2, default=(4, 1), help="of the encoder and of the decoder")
    parser.add_argument("--vocabulary", type=int, default=6144)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--valid", type=int, default=200, help="pairs of each set to measure on")
    parser.add_argument("--every", type=float, default=180, help="seconds between measurements")
    parser.add_argument("--save-seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true")
    args = parser.parse_args()
    args.shares = dict(args.shares)
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.export:
        train(args, encoded(args, trained_tokenizer(args, args.work / "tokenizer.json")))
    export(args)


if __name__ == "__main__":
    main()
