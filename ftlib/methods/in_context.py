"""In-context learning: labelled examples in the prompt, a frozen model (Brown et al. 2020, section 2)."""

from typing import TYPE_CHECKING

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.data.kinds import KINDS
from ftlib.data.task import Task
from ftlib.models.export import Saveable, in_words
from ftlib.models.inference import prompted, untouched_likelihood
from ftlib.models.loading import Model, count
from ftlib.models.prompts import Prompt, clipped, orders, prompt_of, tokens_at_most
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Put the training examples before every query (Brown et al. 2020, section 2), in an order drawn from the seed; in
    other orders beside it.

    The order alone can decide between a good answer and chance (Lu et al. 2022), so its spread belongs to the result.

    Raises:
        FtlibError: The examples do not fit what the model can see at once.
    """
    if KINDS[task.kind].writes:
        from ftlib.methods.text_to_text import with_shots

        return with_shots(model, spec, train)
    chosen = spec.resolved()["method_args"]
    prompt = prompt_of(task, chosen["template"])
    texts = clipped(model.tokenizer, train["text"].tolist(), spec.max_length)
    examples = [(text, task.labels.index(label)) for text, label in zip(texts, train["label"], strict=True)]
    prefixes = [
        prompt.shots([examples[i] for i in order]) for order in orders(len(examples), spec.seed, chosen["orders"])
    ]
    _fits(model, spec, prompt, prefixes[0], len(examples))
    module = model.untouched_speaker()
    options = {name: chosen[name] for name in ("calibration", "normalisation")}
    first, *others = [prompted(module, model, spec, prompt, prefix, **options) for prefix in prefixes]
    likelihood = untouched_likelihood(module, model, spec)
    shown = prefixes[0] + prompt.template
    questions = {short_name(spec.task): in_words(task, prompt, prefixes[0], **options)}
    made = Predictor(0, count(model), 0, first, likelihood, orders=tuple(others), prompt=shown)
    made.saved = Saveable(model, module, questions=questions)
    return made


def _fits(model: Model, spec: Experiment, prompt: Prompt, prefix: str, shots: int) -> None:
    if model.context is None:
        return
    needed = tokens_at_most(model.tokenizer, prompt, prefix, spec.max_length)
    if needed > model.context:
        raise FtlibError(
            f"in_context: {shots} examples and a text of max_length = {spec.max_length} tokens need up to {needed} "
            f"tokens, and {model.name} sees {model.context} at once; choose fewer shots or a smaller max_length"
        )
