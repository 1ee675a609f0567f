"""Any trained module -> probabilities, in batches sorted by length."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ftlib.errors import Diverged
from ftlib.models import Model, batches


def module_probabilities(
    module: torch.nn.Module, model: Model, max_length: int, batch_size: int = 64
) -> Callable[[Sequence[str]], np.ndarray]:
    """The function texts -> (n_texts, n_labels) of a classification module, softmax taken in float64."""

    @torch.inference_mode()
    def probabilities(texts: Sequence[str]) -> np.ndarray:
        module.eval()
        tokens = model.tokenizer(list(texts), truncation=True, max_length=max_length)
        found: np.ndarray | None = None
        for batch in batches([len(ids) for ids in tokens["input_ids"]], batch_size):
            chosen = {name: [values[i] for i in batch] for name, values in tokens.items()}
            inputs = model.tokenizer.pad(chosen, return_tensors="pt").to(model.device)
            with model.autocast():
                logits = module(**inputs).logits
            values = torch.softmax(logits.double(), dim=-1).cpu().numpy()
            found = np.zeros((len(texts), values.shape[1])) if found is None else found
            found[batch] = values
        if found is None or not np.isfinite(found).all():
            raise Diverged("the adapted model's scores are not finite; a lower learning_rate usually helps")
        return found

    return probabilities
