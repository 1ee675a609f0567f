"""Train tiny-lm from nothing: a small Llama on any English text. Needs torch, transformers and tokenizers, not ftlib.

    python train.py --corpus corpus.txt.xz --valid valid.txt --work WORK --tokens 40e6 --workers 2

A corpus is UTF-8 text (.txt or .txt.xz), one paragraph per line, an empty line after each document. WORK keeps the
tokenizer, the encoded corpus and a checkpoint written every few minutes: the same command goes on where it was
stopped, also with another --tokens, --length or --workers (the learning rate is constant until the last --decay share
of --tokens, so a run that has not begun to decay can be lengthened). When --tokens are done the model is exported to
WORK/export in the transformers format. --export writes it from the last checkpoint without training.

Choices, and why:
- Muon (Jordan et al. 2024; Liu et al. 2025 for the scale of the update) moves the matrices of the layers, AdamW the
  embeddings, the output layer and the norms: per token it learns faster than AdamW alone at this size.
- Weights are bfloat16 in the forward and backward pass and float32 in the optimizer, so small steps are not lost.
- The loss is taken 512 positions at a time and its gradient with it: the full matrix of positions x vocabulary would
  not fit the processor's cache, and moving it costs more than computing it.
- One process of one thread per core, gradients averaged: on a CPU that beats one process with several threads.
"""

import argparse
import csv
import json
import lzma
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS, PAD = "<|bos|>", "<|pad|>"
CONTEXT = 1024
CHUNK = 512


def documents(path: Path):
    """Yield the documents of a corpus file, paragraphs joined by a newline."""
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        paragraphs = []
        for line in lines:
            if line.strip():
                paragraphs.append(line.rstrip("\n"))
            elif paragraphs:
                yield "\n".join(paragraphs)
                paragraphs = []
        if paragraphs:
            yield "\n".join(paragraphs)


def trained_tokenizer(corpus: Path, path: Path, size: int) -> Tokenizer:
    """Byte-level BPE, so that any text can be written and read back; digits stand alone."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents(corpus), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    tokenizer.save(str(path))
    return tokenizer


def encoded(tokenizer: Tokenizer, corpus: Path, path: Path) -> np.ndarray:
    """The corpus as one stream of token numbers, every document after its BOS."""
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            batch = []
            for document in documents(corpus):
                batch.append(document)
                if len(batch) == 256:
                    for one in tokenizer.encode_batch_fast(batch):
                        file.write(np.asarray(one.ids, dtype=np.uint16).tobytes())
                    batch = []
            for one in tokenizer.encode_batch_fast(batch):
                file.write(np.asarray(one.ids, dtype=np.uint16).tobytes())
        part.replace(path)
    return np.memmap(path, dtype=np.uint16, mode="r")


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of a linear output layer, a few positions at a time, its gradient computed on the way."""

    @staticmethod
    def forward(ctx, hidden, weight, target):
        """Mean over positions: hidden (n, width), weight (vocabulary, width), target (n,)."""
        count, total = len(hidden), 0.0
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros(weight.shape, dtype=torch.float32)
        for start in range(0, count, CHUNK):
            here, wanted = hidden[start : start + CHUNK], target[start : start + CHUNK, None]
            logits = (here @ weight.t()).float()
            norm = torch.logsumexp(logits, 1, keepdim=True)
            total += (norm - logits.gather(1, wanted)).sum()
            share = logits.sub_(norm).exp_()
            share.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=share.dtype))
            share = (share / count).to(hidden.dtype)
            to_hidden[start : start + CHUNK] = share @ weight
            to_weight += share.t() @ here
        ctx.save_for_backward(to_hidden, to_weight.to(weight.dtype))
        return total / count

    @staticmethod
    def backward(ctx, scale):
        """What `forward` has computed, times the gradient of the loss."""
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * scale, to_weight * scale, None


def new_model(args, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with weights drawn from the seed."""
    torch.manual_seed(args.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=args.width,
            intermediate_size=3 * args.width,
            num_hidden_layers=args.layers,
            num_attention_heads=args.width // 64,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=args.tied,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    )


def rate_at(step: int, steps: int, args) -> float:
    """Warm-up, constant, then linear decay to 2 % over the last `--decay` share."""
    first = max(1, round(steps * (1 - args.decay)))
    if step < args.warmup:
        return (step + 1) / args.warmup
    return 1.0 if step < first else max(0.02, (steps - step) / max(1, steps - first))


@torch.no_grad()
def bits_per_byte(model, tokens: np.ndarray, size: int, context: int = 512, limit: int = 65_536) -> tuple[float, float]:
    """Nats per token and bits per byte of a stream in windows of `context` (the first token of each is not scored)."""
    per_byte = len(tokens) / size
    tokens = torch.from_numpy(tokens[:limit].astype(np.int64))
    nats = scored = 0
    for start in range(0, len(tokens) - 1, context):
        window = tokens[None, start : start + context + 1]
        hidden = model.model(input_ids=window[:, :-1], use_cache=False).last_hidden_state[0]
        logits = model.lm_head(hidden).float()
        nats += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
        scored += window.shape[1] - 1
    return nats / scored, nats / scored * per_byte / math.log(2)


def save(state: dict, path: Path) -> None:
    """Write a checkpoint in one step: a run that is killed keeps its last one."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def work(rank: int, args) -> None:
    """Train, as one of `args.workers` processes."""
    torch.set_num_threads(args.threads)
    many = args.workers > 1
    if many:
        dist.init_process_group(
            "gloo", init_method=f"file://{args.work / 'rendezvous'}", rank=rank, world_size=args.workers
        )
    tokens = np.memmap(args.work / "train.bin", dtype=np.uint16, mode="r")
    valid = np.fromfile(args.work / "valid.bin", dtype=np.uint16)
    size = json.loads((args.work / "valid.json").read_text())
    vocabulary = Tokenizer.from_file(str(args.work / "tokenizer.json")).get_vocab_size()

    master = new_model(args, vocabulary)
    model = new_model(args, vocabulary).bfloat16()
    layers = [p for n, p in master.named_parameters() if p.ndim == 2 and ".layers." in n]
    others = [p for n, p in master.named_parameters() if not (p.ndim == 2 and ".layers." in n)]
    mine = layers[rank :: args.workers]
    optimizers = [
        torch.optim.Muon(
            mine, lr=args.rate, weight_decay=args.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=args.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    seen, step, curve = 0, 0, []
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        master.load_state_dict(state["model"])
        seen, step, curve = state["seen"], state["step"], state["curve"]
        optimizers[1].load_state_dict(state["adamw"])
        for parameter in mine:
            name = next(i for i, p in enumerate(layers) if p is parameter)
            optimizers[0].state[parameter]["momentum_buffer"] = state["momentum"][name]
    pairs = list(zip(master.parameters(), model.parameters(), strict=True))
    with torch.no_grad():
        for full, half in pairs:
            half.copy_(full)

    per_step = args.batch * args.length * args.workers
    steps = step + math.ceil((args.tokens - seen) / per_step)
    begun, begun_seen, saved, recent = time.monotonic(), seen, time.monotonic(), []
    order: list[int] = []
    sampler = random.Random(f"{args.seed}-{seen}")
    while seen < args.tokens:
        if len(order) < args.batch * args.workers:
            order = list(range((len(tokens) - 1) // args.length))
            sampler.shuffle(order)
            shift = sampler.randrange(args.length)
        taken = [order.pop() for _ in range(args.batch * args.workers)][rank :: args.workers]
        starts = [min(i * args.length + shift, len(tokens) - args.length - 1) for i in taken]
        batch = torch.from_numpy(np.stack([tokens[s : s + args.length + 1] for s in starts]).astype(np.int64))
        hidden = model.model(input_ids=batch[:, :-1], use_cache=False).last_hidden_state
        loss = ChunkedLoss.apply(hidden.flatten(0, 1), model.lm_head.weight, batch[:, 1:].flatten())
        loss.backward()
        flat = torch.cat([half.grad.float().flatten() for _, half in pairs] + [loss.detach().float()[None]])
        if many:
            dist.all_reduce(flat)
            flat /= args.workers
        if not math.isfinite(flat[-1].item()):
            raise SystemExit(f"loss is {flat[-1].item()} at step {step}: start again with a lower --rate")
        recent.append(flat[-1].item())
        norm = flat[:-1].norm()
        flat[:-1] *= min(1.0, (args.clip / (norm + 1e-6)).item())
        at = 0
        for full, half in pairs:
            full.grad = flat[at : at + full.numel()].view_as(full)
            at += full.numel()
            half.grad = None
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.rate * rate_at(step, steps, args)
            optimizer.step()
        with torch.no_grad():
            if many:  # each worker moved its own matrices: pass them on
                for owner in range(args.workers):
                    theirs = layers[owner :: args.workers]
                    packed = torch.cat([p.flatten() for p in theirs])
                    dist.broadcast(packed, owner)
                    for parameter, values in zip(theirs, packed.split([p.numel() for p in theirs]), strict=True):
                        parameter.copy_(values.view_as(parameter))
            for full, half in pairs:
                half.copy_(full)
        step, seen = step + 1, seen + per_step
        last = seen >= args.tokens
        if step % args.every == 0 or last:
            speed = (seen - begun_seen) / (time.monotonic() - begun)
            if rank == 0:
                nats, bits = bits_per_byte(model, valid, size)
                curve.append([seen, round(sum(recent) / len(recent), 4), round(nats, 4), round(bits, 4)])
                left = (args.tokens - seen) / speed / 60
                print(
                    f"step {step}/{steps}  {seen / 1e6:.2f} M tokens  train {curve[-1][1]:.3f}  valid {nats:.3f} nats "
                    f"{bits:.4f} bits/byte  {speed:.0f} tokens/s  {left:.0f} min left",
                    flush=True,
                )
            recent = []
        # Every worker must agree on when to save: the momentum of each worker's matrices is gathered for it.
        due = torch.tensor([float(last or time.monotonic() - saved > args.save_seconds)])
        if many:
            dist.broadcast(due, 0)
        if due.item():
            saved = time.monotonic()
            momentum = []
            for number, parameter in enumerate(layers):
                owner = number % args.workers
                buffer = (
                    optimizers[0].state[parameter]["momentum_buffer"] if owner == rank else torch.empty_like(parameter)
                )
                if many:
                    dist.broadcast(buffer, owner)
                momentum.append(buffer)
            if rank == 0:
                state = {"model": master.state_dict(), "adamw": optimizers[1].state_dict(), "momentum": momentum}
                save(state | {"seen": seen, "step": step, "curve": curve}, checkpoint)
    if many:
        dist.destroy_process_group()


def export(args) -> None:
    """Write the last checkpoint as a model folder of transformers (bfloat16 safetensors) with its loss curve."""
    state = torch.load(args.work / "checkpoint.pt", weights_only=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(args.work / "tokenizer.json"),
        bos_token=BOS,
        eos_token=BOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
    )
    model = new_model(args, len(tokenizer))
    model.load_state_dict(state["model"])
    out = args.work / "export"
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    names = ("tokens", "train_nats_per_token", "valid_nats_per_token", "valid_bits_per_byte")
    with (out / "loss.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([names, *state["curve"]])
    draw(state["curve"], out / "loss.svg")
    for path in out.iterdir():
        path.chmod(0o644)
    print(f"{out}: {sum(p.numel() for p in model.parameters()):,} parameters, {state['seen']:,} tokens seen")


def draw(curve: list, path: Path) -> None:
    """The loss curve as a picture; `loss.csv` is its table."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "tiny-lm"
    seen, trained, valid, _ = zip(*curve, strict=True)
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    axes.plot([tokens / 1e6 for tokens in seen], trained, color="#D55E00", linestyle="--", label="training text")
    axes.plot([tokens / 1e6 for tokens in seen], valid, color="#0072B2", label="validation text")
    axes.set_xlabel("tokens seen, millions")
    axes.set_ylabel("loss, nats per token")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Read the command line, then train, export, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--valid", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokens", type=float, default=40e6)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16, help="sequences per worker and step")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--decay", type=float, default=0.4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=100, help="steps between measurements on the validation text")
    parser.add_argument("--save-seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.export:
        tokenizer = trained_tokenizer(args.corpus, args.work / "tokenizer.json", args.vocabulary)
        encoded(tokenizer, args.corpus, args.work / "train.bin")
        encoded(tokenizer, args.valid, args.work / "valid.bin")
        text = [len(document.encode()) + 1 for document in documents(args.valid)]
        (args.work / "valid.json").write_text(json.dumps(sum(text)))
        (args.work / "rendezvous").unlink(missing_ok=True)
        if args.workers == 1:
            work(0, args)
        else:
            mp.start_processes(work, (args,), nprocs=args.workers, start_method="spawn")
    export(args)


if __name__ == "__main__":
    main()
