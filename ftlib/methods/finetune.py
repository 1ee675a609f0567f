"""Fine-tuning of all or part of a model, and what adapters share with it: the module, its examples, its answers.

A classifier's new head starts at random, or at what a linear probe of the model as it is would say. A head at random
pulls the layers below it, in the first steps, to wherever it happens to look; one that fits already leaves them in
place (LP-FT: Kumar et al. 2022, section 3.4). Nothing else about the model changes.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER, ENCODER_DECODER
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.data.kinds import KINDS
from ftlib.data.task import Task
from ftlib.models.export import Question, Saveable, in_words
from ftlib.models.inference import likelihood_of, module_probabilities, prompted, window
from ftlib.models.loading import Model, encoded, parameters, read_alike, rows_kept
from ftlib.models.prompts import Prompt, clipped, prompt_of
from ftlib.models.score import passes
from ftlib.models.score.trees import pairs, text_tokens
from ftlib.training.contract import Predictor, Trainable
from ftlib.training.lm import IGNORED, keeps_apart, packed, pieces

if TYPE_CHECKING:
    import pandas as pd


def new_parameters(module: torch.nn.Module) -> list[str]:
    """Names of the parameters that no file held, such as a new head's: transformers marks those it has read."""
    return [name for name, p in module.named_parameters() if not getattr(p, "_is_hf_initialized", False)]


PROBE = "linear_probe"
"""The start that is fitted; the other one is drawn from the seed."""

STRENGTH = 10.0
"""C of the logistic regression (scikit-learn), for inputs that are 1 long on average."""


def fitted(model: Model) -> Callable[[Trainable, list[dict[str, Any]]], None]:
    """The function (what is trained, its encoded examples) -> None that fits a classifier's head to them, in place.

    Rows of labels that have no example keep what they were. Of a head that several tasks have rows in, each task's are
    fitted once, when it is first trained on.
    """
    done: set[tuple[int, int]] = set()

    def begin(trainable: Trainable, examples: list[dict[str, Any]]) -> None:
        head, inputs = _read(trainable, model, examples)
        labels = np.array([one["labels"] for one in examples])
        whole = (0, len(head.weight))
        of_task = [one.get("rows", whole) for one in examples]
        weights = np.array([one.get("weight", 1.0) for one in examples])
        for rows in sorted(set(of_task) - done):
            mine = np.array([one == rows for one in of_task])
            start(head, inputs[mine], labels[mine], weights[mine])
            done.add(rows)

    return begin


def start(head: torch.nn.Linear, inputs: np.ndarray, labels: Sequence[int], weights: Sequence[float]) -> None:
    """Set the rows of the labels that occur to logistic regression on the inputs; of two, half the difference to each.

    Args:
        head: What is set, in place.
        inputs: (n, width) what it reads.
        labels: (n,) which of its rows is right.
        weights: (n,) how much an example counts.

    Raises:
        FtlibError: There are no two different labels.

    >>> head = torch.nn.Linear(1, 3)
    >>> last = head.weight[2].item()
    >>> start(head, np.array([[-1.0], [1.0]]), [0, 1], [1.0, 1.0])
    >>> bool(head.weight[0] == -head.weight[1]), bool(head.weight[2] == last)
    (True, True)
    """
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    if len(known) < 2:
        raise FtlibError(
            f'head_init: "{PROBE}" starts it at logistic regression, which needs two labels; found {len(known)} among '
            f'{len(labels)} training examples: take more of them, or head_init = "new"'
        )
    strength = STRENGTH / np.square(inputs).sum(axis=1).mean()
    with_bias = head.bias is not None
    fit = LogisticRegression(C=strength, fit_intercept=with_bias, max_iter=2000)
    fit.fit(inputs, labels, sample_weight=weights)
    slopes, offsets = fit.coef_, fit.intercept_
    if len(known) == 2:
        slopes, offsets = (np.concatenate([-found, found]) / 2 for found in (slopes, offsets))
    with torch.no_grad():
        for values, found in ((head.weight, slopes), (head.bias, offsets)):
            if values is not None:
                values[known] = torch.as_tensor(found, dtype=values.dtype, device=values.device)


def _read(trainable: Trainable, model: Model, examples: list[dict[str, Any]]) -> tuple[torch.nn.Linear, np.ndarray]:
    """The layer that gives the logits, and what it reads of each example, (n, width).

    Computed once for a text and the weights below that layer, as the untouched model's features are: a method that
    begins at the untouched model reads what every other such method, of any seed, reads.
    """
    module, ids = trainable.module, [one["input_ids"] for one in examples]
    was_training = module.training
    module.eval()
    others = trainable.collate(examples[:1])
    others = {name: value for name, value in others.items() if name not in ("input_ids", "attention_mask")}
    with _last_linear(module) as seen:

        def read(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            seen.clear()
            n = len(inputs["input_ids"])
            same = {name: value.repeat_interleave(n, dim=0).to(model.device) for name, value in others.items()}
            module(**inputs, **same)
            found = seen[-1][1]
            if found.ndim != 2:
                kind = type(module).__name__
                raise FtlibError(
                    f'head_init: {model.name} ({kind}) does not end in a linear layer over texts; head_init = "new"'
                )
            return found

        read_alike(model, ids[:1], read)
        layer = seen[-1][0]
        asked = (model.dtype, _below(module, layer))
        rows = rows_kept("heads", model, asked, ids, lambda some: read_alike(model, [ids[i] for i in some], read))
    module.train(was_training)
    return layer, rows


def _below(module: torch.nn.Module, layer: torch.nn.Linear) -> str:
    """A checksum of a module's weights as far as they decide what its last layer reads.

    That layer itself is left out, and what adapters add as long as one of its factors is 0. An adapter's names are read
    as those of the layers it is put around.
    """
    state = dict(module.state_dict(keep_vars=True))
    mine = {id(value) for value in layer.parameters()}
    end = next(name for name, part in module.named_modules() if part is layer)
    silent = {
        name.replace(".lora_B.", ".lora_A.")
        for name, value in state.items()
        if ".lora_B." in name and not value.count_nonzero()
    }
    silent |= {name.replace(".lora_A.", ".lora_B.") for name in silent}
    found = hashlib.sha256()
    # A layer that is trained as a whole stands beside the one it was copied from.
    head = end.partition(".modules_to_save.")[0] + "."
    for name in sorted(state):
        value = state[name]
        if id(value) in mine or name in silent or name.startswith(head):
            continue
        plain = name.removeprefix("classifier.").removeprefix("base_model.model.").replace(".base_layer.", ".")
        found.update(f"{plain} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@contextmanager
def _last_linear(module: torch.nn.Module) -> Iterator[list[tuple[torch.nn.Linear, torch.Tensor]]]:
    """Within it, linear layers note themselves and what they read, in the order in which they do."""
    seen: list[tuple[torch.nn.Linear, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: seen.append((layer, args[0])))
        for layer in module.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def base(model: Model, spec: Experiment, task: Task) -> torch.nn.Module:
    """The module before training: a new head for a model that reads both ways, else the model as it is."""
    if model.family == ENCODER:
        return model.classifier(len(task.labels), spec.seed)
    return model.speaker()


def body(module: torch.nn.Module) -> torch.nn.Module:
    """The part that reads, adapters in it included: without a head, or the layer that predicts tokens."""
    whole = passes.core(module)
    return whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model


def build_predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor that can be trained.

    Raises:
        FtlibError: A head is to be fitted, and the model answers in words.
    """
    if spec.head_init == PROBE and model.family != ENCODER:
        raise FtlibError(
            f'head_init: found "{spec.head_init}"; {model.name} is of the family {model.family} and answers in words, '
            "without a head; leave it out"
        )

    return KINDS[task.kind].function("predictor")(module, model, spec, task)


def _features(module: torch.nn.Module, model: Model, spec: Experiment) -> Callable[[Sequence[str]], np.ndarray]:
    def features(texts: Sequence[str]) -> np.ndarray:
        return encoded(body(module), model, texts, spec.max_length)

    return features


def text_predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor of how likely a text is."""
    likelihood, trainable = likelihood_of(module, model, spec), _of_text(module, model, spec)
    features = _features(module, model, spec)
    saved = Saveable(model, module, questions={short_name(spec.task): Question()})
    return Predictor(*parameters(module), likelihood=likelihood, trainable=trainable, features=features, saved=saved)


def label_predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor of labels: by a head where the model reads both ways, else in the labels' words."""
    sizes = parameters(module)
    features = _features(module, model, spec)
    if model.family == ENCODER:
        answers = module_probabilities(module, model, spec.max_length)
        saved = Saveable(model, module, questions={short_name(spec.task): Question(task.labels)})
        trainable = _of_codes(module, model, spec, task)
        return Predictor(*sizes, answers, trainable=trainable, features=features, saved=saved)
    prompt = prompt_of(task)
    return Predictor(
        *sizes,
        # What the model has learned it says outright: dividing by what it says to nothing would undo a learned prior.
        prompted(module, model, spec, prompt, calibration="none", normalisation="none"),
        likelihood_of(module, model, spec),
        trainable=_of_words(module, model, spec, task, prompt),
        prompt=prompt.template,
        features=features,
        saved=Saveable(model, module, questions={short_name(spec.task): in_words(task, prompt)}),
    )


def _of_codes(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Trainable:
    """Texts and the number of their label."""
    weighted = spec.mitigation == "reweight"

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        tokens = model.tokenizer(train["text"].tolist(), truncation=True, max_length=spec.max_length)["input_ids"]
        codes = [task.labels.index(label) for label in train["label"]]
        found = [{"input_ids": ids, "labels": code} for ids, code in zip(tokens, codes, strict=True)]
        if not weighted:
            return found
        # Examples of validation count alike.
        weights = train["weight"] if "weight" in train else [1.0] * len(train)
        return [{**one, "weight": float(weight)} for one, weight in zip(found, weights, strict=True)]

    collate = transformers.DataCollatorWithPadding(model.tokenizer)
    begin = fitted(model) if spec.head_init == PROBE else None
    return Trainable(Weighted(module) if weighted else module, encode, collate, alone=True, begin=begin)


class Weighted(torch.nn.Module):
    """A classifier in whose loss examples count differently."""

    def __init__(self, classifier: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, labels: torch.Tensor, weight: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean of weight x cross-entropy; weights are 1 on average over the training examples.

        Args:
            labels: (n,) numbers of labels.
            weight: (n,)
            inputs: What the classifier takes.
        """
        losses = torch.nn.functional.cross_entropy(self.classifier(**inputs).logits.float(), labels, reduction="none")
        return {"loss": (losses * weight.float()).mean()}


def _of_words(module: torch.nn.Module, model: Model, spec: Experiment, task: Task, prompt: Prompt) -> Trainable:
    """Prompts and the words of their label; the loss is on the label's words alone."""
    answers = dict(zip(task.labels, prompt.answers(), strict=True))

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        texts = clipped(model.tokenizer, train["text"].tolist(), spec.max_length)
        two_halves = model.family == ENCODER_DECODER
        examples = []
        for text, label in zip(texts, train["label"], strict=True):
            ((asked,), ((said,),)) = pairs(
                model.tokenizer, [prompt.query(text)], [answers[label]], bos=True, encoder=two_halves
            )
            both = {"input_ids": asked + said, "labels": [IGNORED] * len(asked) + said}
            examples.append({"input_ids": asked, "labels": said} if two_halves else both)
        return examples

    return Trainable(module, encode, transformers.DataCollatorForSeq2Seq(model.tokenizer, module))


def _of_text(module: torch.nn.Module, model: Model, spec: Experiment) -> Trainable:
    """Documents, several to a row where the model can be kept from looking across; the loss is on every token."""
    context, _ = window(model, spec)
    together = keeps_apart(module)

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        documents, _ = text_tokens(model.tokenizer, train["text"].tolist(), bos=True)
        return [{"input_ids": piece} for ids in documents for piece in pieces(ids, context)]

    def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return packed([example["input_ids"] for example in examples], context, together=together)

    return Trainable(module, encode, collate)


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The model to train: with a new head initialised from the seed where it reads both ways, else as it is."""
    return build_predictor(base(model, spec, task), model, spec, task)


def prepare_partial(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The model to train: all frozen but the chosen part and the head, which is new where it reads both ways.

    Raises:
        FtlibError: The model has no biases, or not so many layers.
    """
    module = base(model, spec, task)
    try:
        moving = biases(module) if spec.method == "bitfit" else last_layers(module, spec.resolved()["method_args"]["k"])
    except ValueError as error:
        raise FtlibError(f"method: {spec.method} does not fit {model.name}: {error}") from None
    moving = {*moving, *head(module)}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in moving)
    return build_predictor(module, model, spec, task)


def head(module: torch.nn.Module) -> list[str]:
    """Parameters that only the task gives a meaning: a classifier's last layer, and all that no file held."""
    named = (name for name, _ in module.named_parameters() if name.startswith(("classifier.", "score.")))
    return [*named, *new_parameters(module)]


def biases(module: torch.nn.Module) -> list[str]:
    """Parameters that are added: of linear layers and of norms (Ben Zaken et al. 2022, section 3.1).

    >>> biases(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 1, bias=False)))
    ['0.bias', '1.bias']

    Raises:
        ValueError: There are none.
    """
    found = [name for name, _ in module.named_parameters() if name.endswith("bias")]
    if not found:
        raise ValueError(f"a {type(module).__name__} has no biases; lora or ia3 train as few parameters")
    return found


def last_layers(module: torch.nn.Module, k: int) -> list[str]:
    """Parameters of the last k layers and of what reads them: the norm after them, the pooler.

    The layer that predicts tokens stays: it is the embedding's twin in most models.

    Args:
        module: A model of transformers. Of an encoder-decoder, the decoder's layers are meant, which come last.
        k: Layers.

    Raises:
        ValueError: There are fewer layers.
    """
    names = [name for name, found in module.named_modules() if isinstance(found, torch.nn.ModuleList)]
    outer = [name for name in names if not any(name.startswith(other + ".") for other in names)]
    sizes = {name: len(module.get_submodule(name)) for name in outer}
    most = max(sizes.values(), default=0)
    if most < k:
        raise ValueError(f"found k = {k}; it has {most} layers")
    layers = [name for name in outer if sizes[name] == most][-1]
    everything = [name for name, _ in module.named_parameters()]
    kept = tuple(f"{layers}.{place}." for place in range(most - k, most))
    after = max(place for place, name in enumerate(everything) if name.startswith(layers + ".")) + 1
    # Some models name the norm that comes after the layers before them.
    around, _, _ = layers.rpartition(".")
    kept += tuple(
        f"{around}.{name}.".lstrip(".")
        for name, child in module.get_submodule(around).named_children()
        if "norm" in type(child).__name__.lower() and "emb" not in name
    )
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    words = {id(p) for layer in ends if layer is not None for p in layer.parameters()}
    return [
        name
        for place, (name, p) in enumerate(module.named_parameters())
        if name.startswith(kept) or (place >= after and id(p) not in words)
    ]
