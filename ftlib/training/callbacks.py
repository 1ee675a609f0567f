"""What is watched while a model trains: its loss, on the training examples and on some that it does not see."""

import math
import time
from collections import deque
from collections.abc import Callable, Collection

import torch
import transformers

from ftlib.core.errors import Diverged
from ftlib.records.events import Events


class Watch(transformers.TrainerCallback):
    """Writes both losses into the diary; stops what diverges, what has converged and what gets worse.

    Args:
        module: What is trained.
        events: The diary.
        enough: Training loss at which there is nothing left to learn; 0: never.
        at: Steps after which the loss on validation is measured.
        measure: Measures it.
        n: Examples it is measured on.
        patience: Measurements without a better one after which training stops, the best weights kept; 0: never.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        events: Events,
        enough: float,
        at: Collection[int] = (),
        measure: Callable[[], float] | None = None,
        n: int = 0,
        patience: int = 0,
    ) -> None:
        self.module, self.events, self.enough = module, events, enough
        self.at, self.measure, self.n, self.patience = set(at), measure, n, patience
        self.seconds = 0.0
        """Spent on measuring."""
        self._last: deque[float] = deque(maxlen=3)
        self._best, self._best_step, self._worse = math.inf, 0, 0
        self._weights: dict[str, torch.Tensor] = {}

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """The training loss, the mean since the last entry."""
        # `loss` is the mean since the last entry; `train_loss`, at the end, that of the whole training.
        if "loss" in logs:
            self.events.say("step", step=state.global_step, of=state.max_steps, loss=round(logs["loss"], 6))
        loss = logs.get("loss", logs.get("train_loss", 0.0))
        _finite("training", loss, args, state)
        self._last.append(loss)
        # Three in a row: one batch may be easy.
        if len(self._last) == self._last.maxlen and max(self._last) < self.enough:
            control.should_training_stop = True

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """The loss on validation, where it is this step's turn."""
        if state.global_step not in self.at:
            return
        start = time.perf_counter()
        loss = self.measure()
        self.events.say("validation", step=state.global_step, of=state.max_steps, loss=round(loss, 6), n=self.n)
        _finite("validation", loss, args, state)
        if self.patience:
            self._keep_or_stop(loss, state.global_step, control)
        self.seconds += time.perf_counter() - start

    def _keep_or_stop(self, loss: float, step: int, control: transformers.TrainerControl) -> None:
        if loss < self._best:
            self._best, self._best_step, self._worse = loss, step, 0
            self._weights = {name: p.detach().clone() for name, p in self._moving()}
            return
        self._worse += 1
        control.should_training_stop = control.should_training_stop or self._worse >= self.patience

    @torch.no_grad()
    def put_back(self) -> None:
        """The weights of the best validation, where the last are not the best."""
        if not self._worse:
            return
        self.events.say("kept", step=self._best_step, loss=round(self._best, 6))
        for name, parameter in self._moving():
            parameter.copy_(self._weights[name])

    def _moving(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]


def _finite(which: str, loss: float, args: transformers.TrainingArguments, state: transformers.TrainerState) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the {which} loss became {loss} by step {state.global_step} of {state.max_steps}; "
            f"a learning_rate below {args.learning_rate:g} usually helps"
        )
