"""METHODS: every way of adapting a model that ftlib knows, one row each; and what families of models there are.

The table is plain data and loads without torch, so that planning, listing and reporting can read it anywhere. What a
method does is the function `prepare(model, spec, task, train)` of the module its row names; it returns a `Predictor`,
ready for the methods that do not train, with a `module` for `trainer.fit` to train for those that do. What a method can
do is a flag of its row: nobody else compares its name.
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ftlib.core.errors import FtlibError
from ftlib.data.kinds import (
    CLASSIFICATION,
    DECODER,
    ENCODER,
    ENCODER_DECODER,
    FAMILIES,
    KINDS,
    LANGUAGE_MODELING,
    TEXT_TO_TEXT,
)

_CONTINUES = ("ForCausalLM", "LMHeadModel")


def family_of(config: Mapping[str, Any]) -> str:
    """The family of a model by its config.json.

    A model stored without the layer that predicts tokens (`LlamaModel`) can only give features: an encoder here.

    >>> family_of({"architectures": ["LlamaForCausalLM"]}), family_of({"architectures": ["BertModel"]})
    ('decoder', 'encoder')
    >>> family_of({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True})
    'encoder-decoder'
    """
    if config.get("is_encoder_decoder"):
        return ENCODER_DECODER
    names = config.get("architectures") or []
    return DECODER if any(name.endswith(_CONTINUES) for name in names) else ENCODER


def has_lm_head(config: Mapping[str, Any]) -> bool:
    """Whether a model can say how likely a text is: an encoder only where its masked-token layer was stored.

    >>> has_lm_head({"architectures": ["BertModel"]}), has_lm_head({"architectures": ["BertForMaskedLM"]})
    (False, True)
    """
    names = config.get("architectures") or []
    return family_of(config) != ENCODER or any(name.endswith("ForMaskedLM") for name in names)


_POSITIONS_AFTER_PADDING = frozenset(
    (
        "bridgetower", "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke",
        "markuplm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    )
)  # fmt: skip
"""Architectures whose first position is the one after the filling token's number, so that some are never used."""


def context_of(config: Mapping[str, Any]) -> int | None:
    """The most tokens a model can see at once; None where its configuration sets no limit.

    >>> context_of({"n_positions": 1024}), context_of({"max_position_embeddings": 512}), context_of({})
    (1024, 512, None)

    RoBERTa and what descends from it count positions from behind that of the token that fills up:

    >>> context_of({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1})
    512
    """
    found = [config[name] for name in ("max_position_embeddings", "n_positions", "n_ctx") if config.get(name)]
    if not found:
        return None
    padding = config.get("pad_token_id")
    begins = (1 if padding is None or config["model_type"] == "mpnet" else padding) + 1
    return min(found) - (begins if config.get("model_type") in _POSITIONS_AFTER_PADDING else 0)


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json.

    Raises:
        FtlibError: It is not JSON, or holds no object.
    """
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise FtlibError(f"{path}: no JSON object ({error}); download the model again") from None


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    summary: str
    """One line for `ftlib list methods`."""
    module: str
    """The file of `ftlib/methods/` that builds it."""
    notebook: str
    """The run_ notebook that tells its story."""
    title: str = ""
    """What people call it, where its name is no word of theirs."""
    function: str = "prepare"
    """The function of that file."""
    model: bool = True
    """Whether it uses a base model."""
    untouched: bool = False
    """Whether it measures the base model as it is."""
    constant: bool = False
    """Whether it gives every text the same answer."""
    trains: bool = False
    """Whether gradient descent moves parameters; such a method is given learning_rate, epochs and batch_size."""
    draws: bool = True
    """Whether its result depends on the seed (the sample of examples, the initialisation, their order)."""
    needs_label_words: bool = False
    """Whether the labels must be words that mean something."""
    needs_shots: bool = False
    """Whether the number of examples must be said: all of them would not fit."""
    groups: str = ""
    """When it reads an example's group: never (empty), at "training", or at "prediction" too, of every text."""
    counterpart: str = ""
    """The method that it is without reading groups."""
    mitigates: bool = False
    """Whether a mitigation can change the examples it learns from."""
    reference: int = 0
    """Place among what a few-shot report compares others with first, from 1; 0: after them."""
    contrastive: bool = False
    """Whether it learns from pairs of examples, so that a step's loss cannot be computed in parts."""
    frozen: bool = False
    """Whether it fits a head to the features of the model as it is, and nothing else."""
    new_head: bool = False
    """Whether it puts a new head on an encoder and trains it with the rest."""
    moves: str = ""
    """Which parameters training moves: "all", "some" of the model's own, or "added" ones."""
    recomputes: bool = True
    """Whether its activations can be computed again instead of being kept (gradient_checkpointing)."""
    tried_on_model: bool = False
    """Whether it may not fit a model, which planning finds out from the model's configuration without its weights."""
    continues: bool = False
    """Whether what it has trained can be trained on: on another task, or towards another balance."""
    interpolates: bool = False
    """Whether a share of what it has learned can be added to the untouched weights."""
    stacks: bool = False
    """Whether each task's adapter is added to the weights before the next task's begins."""
    merges: bool = False
    """Whether each task's adapter is trained apart, and all are merged at the end; it needs joint_tasks."""
    quantised: bool = False
    """Whether the frozen weights are kept in four bits."""
    saves: str = ""
    """The library that reads what it saves: "transformers" (an adapter is in the weights, then), "peft", "sklearn"
    (arrays and JSON), "model2vec"; empty: there is nothing to save."""
    peft: str = ""
    """For an adapter: the class of peft that configures it."""
    peft_arguments: Mapping[str, object] = field(default_factory=dict)
    """What that class is given beside `arguments`, always the same."""
    defaults: Mapping[str, float] = field(default_factory=dict)
    """learning_rate, epochs (passes over the training examples), batch_size (examples per step), and min_steps: with
    few examples the passes are repeated until so many steps are made, since fine-tuning that stops before fails for
    some seeds (Mosbach et al. 2021, section 6)."""
    arguments: Mapping[str, tuple[object, str]] = field(default_factory=dict)
    """What `method_args` may set: name -> (default, meaning with unit and source)."""
    serves: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {CLASSIFICATION: (ENCODER,)})
    """Kind of task -> families of model."""
    needs: tuple[str, ...] = ()
    """What must be there beside ftlib's own packages: "cuda", or the name of a package."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of task it serves."""
        return tuple(self.serves)

    @property
    def families(self) -> tuple[str, ...]:
        """The families of model it serves, for some kind of task."""
        return tuple(name for name in FAMILIES if any(name in served for served in self.serves.values()))

    @property
    def not_in_int8(self) -> str:
        """Why its model cannot be saved in int8, in words; empty where it can."""
        if not self.trains or self.quantised:
            return f"{self.name} trains no model in float32"
        if "num_virtual_tokens" in self.arguments:
            return f"what {self.name} learns stands before the text and is in no weight"
        return ""

    def lacks(self, device: str = "auto") -> str:
        """What it needs and this machine does not have, in words; empty where all is there.

        Args:
            device: As the experiment names it.
        """
        if gone := [name for name in self.needs if name != "cuda" and importlib.util.find_spec(name) is None]:
            return f"method: {self.name} needs {' and '.join(gone)}, not installed here: pip install {' '.join(gone)}"
        if "cuda" in self.needs:
            # Seconds to load, so not before the rest is known to be there.
            import torch

            if device not in ("auto", "cuda") or not torch.cuda.is_available():
                there = "is there" if torch.cuda.is_available() else "is not there"
                return f"method: {self.name} needs device cuda; asked for: {device}, and cuda {there}"
        return ""

    def prepare(self) -> Callable:
        """Load the function that builds it; only here is torch imported, and only where the method needs it."""
        return getattr(importlib.import_module(f"ftlib.methods.{self.module}"), self.function)


CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "calibration": ("none", "contextual"),
        "normalisation": ("none", "token", "byte"),
        "combination": ("linear", "cat", "ties", "dare_linear", "dare_ties"),
        "constraint": (
            "true_positive_rate_parity",
            "false_positive_rate_parity",
            "demographic_parity",
            "equalized_odds",
        ),
    }
)
"""Arguments of methods that take one of a few words."""

SHARES = {"lora_dropout": "0 to below 1", "vera_dropout": "0 to below 1", "soft": "0 to 1", "density": "above 0 to 1"}
"""Arguments of methods that are a share, and of which numbers; all other numbers are above 0."""

_ANY = {kind.name: FAMILIES for kind in KINDS.values() if kind.has_labels}

_TRAINED = {kind.name: kind.families for kind in KINDS.values()}

_PROMPTED = {
    "template": (
        "",
        "sentence that a label's words complete, with {label} in it and, for models that are prompted, {text} before; "
        "empty: the task's own",
    ),
    "calibration": (
        "contextual",
        "for prompted models: none, or contextual (divide by the probabilities that an empty text gets; Zhao et al. "
        "2021, section 4)",
    ),
    "normalisation": (
        "none",
        "for prompted models: none, or divide a label's log-likelihood by its length in tokens or bytes (token, byte)",
    ),
}

_RIDGE = {"C": (1.0, "inverse strength of the L2 penalty, no unit (scikit-learn LogisticRegression)")}

# The best of 1, 10, 100 on the validation examples of five tasks, at 8 per class and at 1 000, and so for the width.
_STATIC = {
    "C": (10.0, _RIDGE["C"][1]),
    "dims": (384, "numbers of a token's vector, at most the model's own width (model2vec's default is 256)"),
}

_FAIR = _RIDGE | {
    "constraint": (
        "true_positive_rate_parity",
        "what is evened out between groups: true_positive_rate_parity, false_positive_rate_parity, demographic_parity, "
        "equalized_odds (fairlearn)",
    )
}

_THRESHOLD = _FAIR | {"grid_size": (1000, "values from 0 to 1 that are tried for the rate (fairlearn's default)")}

_EXPONENTIATED = _FAIR | {
    "eps": (
        0.01,
        "by how much a group's rate may differ from that of all training examples, a share (fairlearn's "
        "difference_bound and its default)",
    ),
    "max_iter": (50, "times the examples are weighed anew, at most (fairlearn's default)"),
}

_R = "rank of the update matrices (Hu et al. 2021, section 4.1)"

_LORA = {
    "r": (8, _R),
    "lora_alpha": (16, "scale of the update, which is multiplied by lora_alpha / r (rslora: / root of r); no unit"),
    "lora_dropout": (0.0, "share of the adapter's inputs dropped while training, 0 to below 1"),
}

# Meng et al. 2024, section 5: the scale is 1, so that what is trained is the weights' own size.
_PISSA = _LORA | {"lora_alpha": (8, _LORA["lora_alpha"][1])}

_VERA = {
    "r": (256, "rank of the random matrices, which are not trained (peft's default)"),
    "d_initial": (0.1, "what the vector on the rank starts at, no unit (peft's default)"),
    "vera_dropout": (0.0, "share of the adapter's inputs dropped while training, 0 to below 1"),
}

# As many parameters as LoRA of rank 8, where a rank can be chosen; else peft's default.
_MISS = {"r": (16, "rows of the matrix that each output shares among its inputs (Kang & Yin 2024, section 3)")}
_HIRA = {"r": (8, "rank of the matrices whose product the weights are multiplied by (Huang et al. 2025, section 3)")}
_OFT = {"oft_block_size": (32, "inputs that are rotated together; divides the layers' inputs (peft's default)")}
_DELORA = {
    "r": (8, _R),
    "delora_lambda": (
        0.3,
        "how far the weights can move at most, no unit (Bini et al. 2025, section 3); peft's default of 15 is too far "
        "for a small encoder",
    ),
}
_RANDLORA = {
    "r": (32, "rank of each random matrix, which are not trained; a lower one means more of them (peft's default)"),
    "randlora_alpha": (640, "scale of the update, which is multiplied by randlora_alpha / r (peft: 20 times r)"),
}

_LAYERS = {"k": (2, "layers that train, counted from the top; of an encoder-decoder, the decoder's")}

_MERGED = {
    "combination": (
        "linear",
        "linear (a mean of the matrices), cat (the sum of the updates), ties (Yadav et al. 2023), dare_linear, "
        "dare_ties (Yu et al. 2024)",
    ),
    "density": (0.5, "of ties and dare: share of each adapter's values that stays, above 0 to 1"),
    "weight": (1.0, "of each adapter in the sum; of a mean, over the number of tasks"),
}

_DISTILLED = {
    "layers": (2, "of the small model, the base model's first ones"),
    "soft": (1.0, "share of the loss on labelled texts that is about the teacher's answers, 0 to 1; 0: no teacher"),
    "temperature": (2.0, "by which both answers are softened, no unit (Hinton et al. 2015, section 2)"),
    "unlabelled": (2000, "texts of the training split without labels that only the teacher answers, at most"),
}

_VIRTUAL = {
    "num_virtual_tokens": (20, "learned tokens; each takes one of the model's positions (Lester et al. 2021, figure 3)")
}

# Hu et al. 2021 adapt the attention alone; adapting every linear layer is the better default since (QLoRA, Dettmers et
# al. 2023, section 4; "LoRA without regret" 2025).
_ALL_LINEAR = {"target_modules": "all-linear"}

# An encoder-decoder gets the learned tokens before what it reads (Lester et al. 2021, section 2), not twice.
_BEFORE_THE_TEXT = {"num_transformer_submodules": 1}


def _trains(
    name: str,
    summary: str,
    learning_rate: float,
    arguments: Mapping[str, tuple[object, str]] = MappingProxyType({}),
    **more: Any,
) -> Method:
    """A row of a method that trains part of the model, or all of it; all see the same examples as often, so that they
    compare.

    The fewer and the smaller what is trained, the higher the rate it takes: the papers name 3e-3 (IA3), 1e-2 (VeRA) and
    0.3 (prompt tuning) for many steps, and the rates here are the best of one to three that were tried around those on
    600 docstrings with MiniLM, by accuracy on validation. BitFit's is the lower of two that did alike, since three
    times the higher one learns nothing; LoRA and its kin keep the rate that suits longer trainings.
    """
    usual = {
        "module": "finetune",
        "notebook": "12_run_adapter",
        "defaults": {"learning_rate": learning_rate, "epochs": 2.0, "min_steps": 40, "batch_size": 16},
        "serves": _TRAINED,
        "mitigates": True,
        "new_head": True,
        "tried_on_model": True,
        "continues": True,
        "saves": "transformers",
    }
    return Method(name, summary, trains=True, arguments=arguments, **usual | more)


def _adapter(
    name: str,
    summary: str,
    learning_rate: float,
    arguments: Mapping[str, tuple[object, str]] = MappingProxyType({}),
    peft: str = "LoraConfig",
    peft_arguments: Mapping[str, object] = _ALL_LINEAR,
    **more: Any,
) -> Method:
    """A row of an adapter: peft's class, what it is always given, and what `method_args` may set of it."""
    usual = {"module": "peft_adapters", "moves": "added", "saves": "peft"}
    return _trains(name, summary, learning_rate, arguments, peft=peft, peft_arguments=peft_arguments, **usual | more)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        m.name: m
        for m in (
            Method(
                name="majority",
                summary="always the most frequent label of the training examples",
                module="baselines",
                function="prepare_majority",
                notebook="10_run_zero_shot",
                model=False,
                draws=False,
                serves=_ANY,
                constant=True,
                mitigates=True,
                saves="sklearn",
                title="majority class",
            ),
            Method(
                name="tfidf",
                summary="TF-IDF of words and word pairs (characters in scripts without spaces) + logistic regression",
                module="baselines",
                function="prepare_tfidf",
                notebook="10_run_zero_shot",
                model=False,
                arguments={"C": (10.0, _RIDGE["C"][1])},
                serves=_ANY,
                mitigates=True,
                reference=3,
                saves="sklearn",
                title="TF-IDF",
            ),
            Method(
                name="ngram",
                summary="how often each byte followed the few before it in the training text (Witten-Bell smoothing)",
                module="baselines",
                function="prepare_ngram",
                notebook="10_run_zero_shot",
                model=False,
                arguments={"order": (6, "bytes seen at once, the predicted one among them")},
                serves={LANGUAGE_MODELING: FAMILIES},
                title="byte n-grams",
            ),
            Method(
                name="copy",
                summary="the source text as it is: what a translation must beat",
                module="baselines",
                function="prepare_copy",
                notebook="10_run_zero_shot",
                model=False,
                draws=False,
                serves={TEXT_TO_TEXT: FAMILIES},
                title="source copied",
            ),
            Method(
                name="zero_shot",
                summary="what the untouched model says: the label that it finds nearest or likeliest, or a text",
                module="zero_shot",
                notebook="10_run_zero_shot",
                draws=False,
                needs_label_words=True,
                arguments=_PROMPTED
                | {
                    "scale": (
                        20.0,
                        "for encoders: inverse temperature of the softmax over cosine similarities",
                    )
                },
                serves={
                    CLASSIFICATION: FAMILIES,
                    LANGUAGE_MODELING: (DECODER, ENCODER),
                    TEXT_TO_TEXT: (DECODER, ENCODER_DECODER),
                },
                untouched=True,
                saves="transformers",
                title="zero-shot",
            ),
            Method(
                name="probe",
                summary="logistic regression on the frozen model's features",
                module="linear_probe",
                notebook="11_run_few_shot",
                arguments=_RIDGE,
                serves=_ANY,
                mitigates=True,
                reference=2,
                saves="sklearn",
                frozen=True,
                title="linear probe",
            ),
            Method(
                name="static",
                summary="logistic regression on the mean of one vector per token, distilled from the model (model2vec)",
                module="static",
                notebook="11_run_few_shot",
                arguments=_STATIC,
                serves=_ANY,
                mitigates=True,
                reference=4,
                saves="model2vec",
                title="static embeddings",
            ),
            Method(
                name="threshold",
                summary="a probe with thresholds for each group, which it must be told of every text it answers "
                "(Hardt et al. 2016, fairlearn ThresholdOptimizer)",
                module="fairness",
                notebook="11_run_few_shot",
                arguments=_THRESHOLD,
                serves=_ANY,
                groups="prediction",
                counterpart="probe",
                saves="sklearn",
                frozen=True,
                title="probe with group thresholds",
            ),
            Method(
                name="exponentiated",
                summary="a mixture of probes that treats groups alike; reads them at training only "
                "(Agarwal et al. 2018, fairlearn ExponentiatedGradient)",
                module="fairness",
                notebook="11_run_few_shot",
                arguments=_EXPONENTIATED,
                serves=_ANY,
                groups="training",
                counterpart="probe",
                saves="sklearn",
                frozen=True,
                title="probe with equalised groups",
            ),
            _trains(
                "setfit",
                "the encoder tuned on pairs of examples, then logistic regression (Tunstall et al. 2022)",
                5e-5,
                _RIDGE,
                module="setfit",
                notebook="11_run_few_shot",
                defaults={"learning_rate": 5e-5, "epochs": 2.0, "min_steps": 20, "batch_size": 32},
                serves={CLASSIFICATION: (ENCODER,)},
                moves="all",
                contrastive=True,
                mitigates=False,
                new_head=False,
                tried_on_model=False,
                continues=False,
                title="SetFit",
            ),
            Method(
                name="in_context",
                summary="a few labelled examples in the prompt; nothing is trained (Brown et al. 2020)",
                module="in_context",
                notebook="11_run_few_shot",
                needs_label_words=True,
                needs_shots=True,
                arguments=_PROMPTED
                | {"orders": (4, "orders of the same shots that are measured; the first one's answers are the run's")},
                # An encoder-decoder learns to answer one text, not to go on with a list of them.
                serves={CLASSIFICATION: (DECODER, ENCODER_DECODER), TEXT_TO_TEXT: (DECODER,)},
                saves="transformers",
                title="examples in the prompt",
            ),
            _trains(
                "full",
                "full fine-tuning: every parameter moves",
                1e-4,
                notebook="13_run_full",
                moves="all",
                interpolates=True,
                reference=1,
                title="full fine-tuning",
            ),
            _adapter(
                "lora",
                "low-rank adapters on every linear layer, the rest frozen (Hu et al. 2021)",
                1e-3,
                _LORA,
                interpolates=True,
                title="LoRA",
            ),
            _adapter(
                "rslora",
                "LoRA scaled by the root of its rank (Kalajdzievski 2023)",
                1e-3,
                _LORA,
                peft_arguments=_ALL_LINEAR | {"use_rslora": True},
                interpolates=True,
                title="rsLoRA",
            ),
            _adapter(
                "dora",
                "LoRA on the direction of weights, their size apart (Liu et al. 2024)",
                1e-3,
                _LORA,
                peft_arguments=_ALL_LINEAR | {"use_dora": True},
                title="DoRA",
            ),
            _adapter(
                "pissa",
                "LoRA begun at the weights' largest directions (Meng et al. 2024)",
                1e-3,
                _PISSA,
                peft_arguments=_ALL_LINEAR | {"init_lora_weights": "pissa"},
                title="PiSSA",
            ),
            _adapter(
                "ia3",
                "keys, values and inner activations scaled by learned vectors (Liu et al. 2022)",
                3e-2,
                peft="IA3Config",
                # It is about chosen layers, which peft knows.
                peft_arguments={},
                title="IA3",
            ),
            _adapter(
                "vera",
                "two learned vectors around random matrices (Kopiczko et al. 2024)",
                3e-2,
                _VERA,
                peft="VeraConfig",
                title="VeRA",
            ),
            # Five from the top of peft's own comparison. HiRA's rate, and DeLoRA's with how far it moves, come from a
            # look at 320 examples of pydocs (docs/adapters.md); peft begins DeLoRA's second factor at 0 and divides by
            # its size, so that the first step, however small, moves the weights all the way.
            _adapter(
                "miss",
                "one matrix of few rows that blocks of inputs share (Kang & Yin 2024)",
                1e-3,
                _MISS,
                peft="MissConfig",
                title="MiSS",
            ),
            _adapter(
                "hira",
                "weights multiplied, number by number, by a low-rank matrix (Huang et al. 2025)",
                1e-2,
                _HIRA,
                peft="HiraConfig",
                title="HiRA",
            ),
            _adapter(
                "oft",
                "blocks of inputs rotated (Qiu et al. 2023)",
                1e-3,
                _OFT,
                peft="OFTConfig",
                # A block and a rank: one of them says the other.
                peft_arguments=_ALL_LINEAR | {"r": 0},
                title="OFT",
            ),
            _adapter(
                "delora",
                "low-rank updates of a direction and, apart from it, a bounded size (Bini et al. 2025)",
                1e-2,
                _DELORA,
                peft="DeloraConfig",
                title="DeLoRA",
            ),
            _adapter(
                "randlora",
                "learned scales of many random low-rank matrices, full rank together (Albert et al. 2025)",
                1e-3,
                _RANDLORA,
                peft="RandLoraConfig",
                title="RandLoRA",
            ),
            _trains(
                "bitfit",
                "biases only (Ben Zaken et al. 2022)",
                3e-3,
                function="prepare_partial",
                moves="some",
                interpolates=True,
                title="BitFit",
            ),
            _trains(
                "last_layers",
                "the last layers and the head",
                3e-4,
                _LAYERS,
                function="prepare_partial",
                moves="some",
                interpolates=True,
                title="last layers",
            ),
            _adapter(
                "prompt_tuning",
                "learned vectors before the text (Lester et al. 2021)",
                3e-1,
                _VIRTUAL,
                peft="PromptTuningConfig",
                # Words of the vocabulary are a better start than noise (Lester et al. 2021, section 3.2).
                peft_arguments=_BEFORE_THE_TEXT | {"prompt_tuning_init": "SAMPLE_VOCAB"},
                continues=False,
                title="prompt tuning",
            ),
            _adapter(
                "prefix_tuning",
                "learned keys and values in every layer (Li & Liang 2021)",
                3e-2,
                _VIRTUAL,
                peft="PrefixTuningConfig",
                peft_arguments={},
                continues=False,
                # It hands keys on from layer to layer.
                recomputes=False,
                title="prefix tuning",
            ),
            _adapter(
                "p_tuning",
                "vectors before the text that a network makes (Liu et al. 2021)",
                1e-2,
                _VIRTUAL,
                peft="PromptEncoderConfig",
                peft_arguments=_BEFORE_THE_TEXT,
                continues=False,
                title="p-tuning",
            ),
            _adapter(
                "qlora",
                "LoRA on a model kept in 4 bits (Dettmers et al. 2023)",
                1e-3,
                _LORA,
                # An encoder is small enough for LoRA as it is; 4 bits are for models that do not fit.
                serves={
                    CLASSIFICATION: (DECODER, ENCODER_DECODER),
                    LANGUAGE_MODELING: (DECODER,),
                    TEXT_TO_TEXT: (DECODER, ENCODER_DECODER),
                },
                needs=("cuda", "bitsandbytes"),
                quantised=True,
                # 4 bits cannot be tried without the weights that they stand for.
                tried_on_model=False,
                title="QLoRA",
            ),
            _adapter(
                "stacked",
                "LoRA that is merged into the weights after each task; the next task gets a new one on top",
                1e-3,
                _LORA,
                notebook="40_run_sequence",
                stacks=True,
                saves="transformers",
                title="stacked LoRA",
            ),
            _adapter(
                "merged",
                "a LoRA for each task, trained apart, then merged into one (peft add_weighted_adapter)",
                1e-3,
                _LORA | _MERGED,
                function="prepare_merged",
                notebook="40_run_sequence",
                serves=_ANY,
                merges=True,
                saves="transformers",
                title="merged LoRA",
            ),
            _trains(
                "distill",
                "the model's first layers, taught by the whole model on texts without labels (Hinton et al. 2015)",
                1e-4,
                _DISTILLED,
                module="distillation",
                notebook="43_run_transfer",
                serves={CLASSIFICATION: (ENCODER,)},
                # A small model beside the large one.
                moves="added",
                mitigates=False,
                new_head=False,
                continues=False,
                title="distillation",
            ),
        )
    }
)
