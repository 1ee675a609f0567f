"""Any model -> what is measured: a probability per label, or how likely it finds a text."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ftlib.config.experiment import Experiment
from ftlib.config.methods import DECODER, ENCODER_DECODER
from ftlib.core.errors import Diverged, FtlibError
from ftlib.metrics.language import Likelihood, perplexity, text_interval
from ftlib.models.loading import Model, batches, kept
from ftlib.models.prompts import Prompt, clipped
from ftlib.models.score import protocol, score_continuations, score_masked, score_text
from ftlib.models.score.trees import text_tokens
from ftlib.models.unpadded import answering

if TYPE_CHECKING:
    import pandas as pd

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing: what a prompt answers to them is its bias (Zhao et al. 2021, section 5.2)."""

CONTEXT = 512
"""Tokens a language model sees at once when it is measured, unless the spec says otherwise or it can see fewer."""


def module_probabilities(
    module: torch.nn.Module, model: Model, max_length: int, batch_size: int = 64
) -> Callable[[Sequence[str]], np.ndarray]:
    """The function texts -> (n_texts, n_labels) of a classification module, softmax taken in float64."""

    def padded(tokens: Mapping[str, list[list[int]]], chosen: Sequence[int]) -> dict[str, torch.Tensor]:
        some = {name: [values[i] for i in chosen] for name, values in tokens.items()}
        return dict(model.tokenizer.pad(some, return_tensors="pt").to(model.device))

    @torch.inference_mode()
    def probabilities(texts: Sequence[str]) -> np.ndarray:
        module.eval()
        tokens = model.tokenizer(list(texts), truncation=True, max_length=max_length)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        found: np.ndarray | None = None

        def ends() -> torch.Tensor:
            return module(**padded(tokens, [int(np.argmin(lengths)), int(np.argmax(lengths))])).logits

        with answering(module, len(texts) if model.unpads else 0, ends):
            for batch in batches(lengths, batch_size):
                with model.autocast():
                    logits = module(**padded(tokens, batch)).logits
                values = torch.softmax(logits.double(), dim=-1).cpu().numpy()
                found = np.zeros((len(texts), values.shape[1])) if found is None else found
                found[batch] = values
        return _finite(found)

    return probabilities


def prompted(
    module: torch.nn.Module,
    model: Model,
    spec: Experiment,
    prompt: Prompt,
    prefix: str = "",
    *,
    calibration: str,
    normalisation: str,
) -> Callable[[Sequence[str]], np.ndarray]:
    """The function texts -> (n_texts, n_labels) of a language model: a softmax over the likelihood of labels' words.

    Args:
        spec: max_length (tokens of a text) and dtype are read.
        prefix: What stands before every question: instructions, examples.
        calibration: "contextual" divides by the mean probabilities that CONTENT_FREE texts get (Zhao et al. 2021,
            section 4, with a diagonal matrix and no bias); "none" leaves them.
        normalisation: "none", or "token" or "byte": a label's log-likelihood per unit of its length (Brown et al. 2020,
            section 2.4, per token).
    """
    answers = prompt.answers()
    sizes = {
        "none": [1] * len(answers),
        "token": [len(ids) for ids in model.tokenizer(answers, add_special_tokens=False)["input_ids"]],
        "byte": [len(answer.encode()) for answer in answers],
    }[normalisation]

    def logs(texts: Sequence[str]) -> np.ndarray:
        queries = [prompt.query(text) for text in texts]
        found = score_continuations(module, model.tokenizer, prefix, queries, answers, dtype=dtype_of(spec))
        return found / np.asarray(sizes)

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        found = logs(clipped(model.tokenizer, texts, spec.max_length))
        if calibration == "contextual":
            found = found - np.log(_softmax(logs(CONTENT_FREE)).mean(axis=0))
        return _finite(_softmax(found))

    return probabilities


def untouched_probabilities(
    module: torch.nn.Module, model: Model, spec: Experiment, prompt: Prompt, **options: str
) -> Callable[[Sequence[str]], np.ndarray]:
    """The same of an untouched model without examples, kept in the user's cache folder: every run measures it."""
    asked = prompted(module, model, spec, prompt, **options)

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        how = [prompt.template, *prompt.answers(), *options.values(), spec.max_length, dtype_of(spec)]
        return kept("probabilities", model, (how, *texts), lambda: asked(texts))

    return probabilities


def likelihood_of(module: torch.nn.Module, model: Model, spec: Experiment) -> Likelihood | None:
    """How likely a module finds texts; None for an encoder-decoder, which only rates one text given another."""
    if model.family == ENCODER_DECODER:
        return None
    context, stride = window(model, spec)
    if model.family == DECODER:
        said = protocol(context=context, stride=stride, bos=True)
        options = {"context": context, "stride": stride, "dtype": dtype_of(spec)}
        return Likelihood(lambda texts: score_text(module, model.tokenizer, texts, **options), said)
    said = f"context {context}, every token masked in turn"
    return Likelihood(lambda texts: score_masked(module, model.tokenizer, texts, context=context), said, pseudo=True)


def untouched_likelihood(module: torch.nn.Module, model: Model, spec: Experiment) -> Likelihood | None:
    """The same of an untouched model, kept in the user's cache folder: every run of a study measures it."""
    likelihood = likelihood_of(module, model, spec)
    if likelihood is None:
        return None

    def score(texts: Sequence[str]) -> "pd.DataFrame":
        import pandas as pd

        asked = (dtype_of(spec), likelihood.protocol, *texts)
        found = kept("likelihoods", model, asked, lambda: likelihood.score(texts).to_numpy(dtype=np.float64))
        names = ["nats", "n_tokens", "n_bytes"]
        return pd.DataFrame(found, columns=names).astype({"n_tokens": int, "n_bytes": int})

    return likelihood._replace(score=score)


def window(model: Model, spec: Experiment) -> tuple[int, int]:
    """Tokens that are seen at once, and tokens between one window and the next.

    Raises:
        FtlibError: The spec asks for more than the model can see, or for a stride beyond the context.
    """
    most = model.context or CONTEXT
    context = spec.context or min(CONTEXT, most)
    stride = spec.stride or context // 2
    if context > most and model.context:
        raise FtlibError(f"context: found {context}; {model.name} sees at most {most} tokens")
    if stride > context:
        raise FtlibError(f"stride: found {stride}; with a context of {context} tokens, at most that many")
    return context, stride


def surprises(model: Model, text: str) -> "pd.DataFrame":
    """How unexpected each token of a text is to an untouched decoder, given all tokens before it.

    Args:
        model: A decoder.
        text: Read from its start, after BOS; short enough for the model.

    Returns:
        One row per token: token, nats, bits, and the perplexity of the text up to and with it.

    Raises:
        FtlibError: The model is no decoder, or the text is too long for it.
    """
    import pandas as pd

    if model.family != DECODER:
        raise FtlibError(f"{model.name} is of the family {model.family}; only a decoder reads a text token by token")
    (ids,), _ = text_tokens(model.tokenizer, [text], bos=True)
    if model.context and len(ids) > model.context:
        raise FtlibError(f"the text has {len(ids)} tokens; {model.name} sees at most {model.context}; shorten it")
    inputs = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        logs = model.speaker()(input_ids=inputs).logits[0, :-1].float().log_softmax(dim=-1)
    nats = -logs.gather(1, inputs[0, 1:, None])[:, 0].double().cpu().numpy()
    said = [model.tokenizer.decode([token]) for token in ids[1:]]
    means = np.cumsum(nats) / np.arange(1, len(nats) + 1)
    return pd.DataFrame({"token": said, "nats": nats, "bits": nats / np.log(2), "perplexity_so_far": np.exp(means)})


def by_protocol(
    model: Model, texts: Sequence[str], windows: Sequence[tuple[int, int]], *, bos: bool = True
) -> "pd.DataFrame":
    """The same model and texts, measured in several ways.

    Args:
        windows: (context, stride) in tokens, each one way of measuring.

    Returns:
        One row per way: context, stride, perplexity, bits_per_byte, low, high (of bits per byte, over documents), n,
        protocol.
    """
    import pandas as pd

    module, rows = model.speaker(), []
    for context, stride in windows:
        found = score_text(module, model.tokenizer, texts, context=context, stride=stride, bos=bos)
        said = protocol(context=context, stride=stride, bos=bos)
        bits = text_interval("bits_per_byte", found["nats"], found["n_bytes"])
        row = {"context": context, "stride": stride, "perplexity": perplexity(found["nats"], found["n_tokens"])}
        row |= {"bits_per_byte": bits.value, "low": bits.low, "high": bits.high}
        rows.append(row | {"n": len(texts), "protocol": said})
    return pd.DataFrame(rows)


def dtype_of(spec: Experiment) -> str:
    """Likelihoods are sums over many tokens: bfloat16 only where it was asked for by name."""
    return "bfloat16" if spec.dtype == "bfloat16" else "float32"


def _softmax(values: np.ndarray) -> np.ndarray:
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def _finite(found: np.ndarray | None) -> np.ndarray:
    if found is None or not np.isfinite(found).all():
        raise Diverged("the adapted model's scores are not finite; a lower learning_rate usually helps")
    return found
