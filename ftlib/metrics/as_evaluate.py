"""ftlib's metrics as local Hugging Face evaluate modules that `evaluate.combine` accepts; no network is asked."""

from typing import Any

import datasets
import evaluate

from ftlib.core.errors import FtlibError, unknown
from ftlib.metrics.registry import METRICS


def metric(name: str) -> evaluate.Metric:
    """One metric of the table as an `evaluate.Metric`.

    Args:
        name: A metric of labels: accuracy, f1_macro, f1_binary or mcc.

    Raises:
        FtlibError: No such metric of labels.

    >>> metric("accuracy").compute(references=[0, 1, 1, 0], predictions=[0, 1, 0, 0])
    {'accuracy': 0.75}
    """
    known = [row.name for row in METRICS.values() if row.takes == "predictions"]
    if name not in known:
        raise unknown("metric", name, known)
    # Without keep_in_memory evaluate leaves files in its cache folder.
    return _Metric(config_name=name, keep_in_memory=True)


class _Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        row = METRICS[self.config_name]
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=f"{row.summary} ({'higher' if row.higher_is_better else 'lower'} is better)",
            citation=row.source,
            inputs_description="references and predictions: integer label codes",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **more: Any) -> None:
        """Check the labels first: evaluate itself turns 0.9 into 0 and scores None as wrong."""
        for kind, values in (("predictions", predictions), ("references", references)):
            for place, value in enumerate(values if values is not None else []):
                if isinstance(value, bool) or not hasattr(value, "__index__"):
                    raise FtlibError(f"{kind}[{place}]: found {value!r}; allowed: integer label codes")
        super().add_batch(predictions=predictions, references=references, **more)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {self.config_name: METRICS[self.config_name].function(references, predictions)}
