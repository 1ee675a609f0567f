"""From an example or a label to the text a model reads."""

from ftlib.data import Task
from ftlib.errors import FtlibError


def label_descriptions(task: Task, template: str = "") -> list[str]:
    """One sentence per label, in the task's order: the template with the label's words in it.

    Args:
        task: The task; its own template is used where none is given.
        template: A sentence with `{label}` in it.

    Raises:
        FtlibError: The template has no `{label}`.

    >>> from types import SimpleNamespace
    >>> task = SimpleNamespace(labels=("0", "1"), label_words={"0": "bad", "1": "good"}, template="It is {label}.")
    >>> label_descriptions(task), label_descriptions(task, "A {label} film.")
    (['It is bad.', 'It is good.'], ['A bad film.', 'A good film.'])
    """
    template = template or task.template
    if "{label}" not in template:
        raise FtlibError(f"template {template!r} must contain {{label}}")
    return [template.replace("{label}", task.label_words[label]) for label in task.labels]
