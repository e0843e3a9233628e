"""Fine-tuning a cross-encoder: an optional stage on the corpus, then one on judged queries.

The names below are imported when they are first used, so that the arguments of a training are at
hand without the libraries that training needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranker.train.arguments import TrainArguments
    from ranker.train.processes import is_first
    from ranker.train.run import read_training, reproduce, train

__all__ = ["TrainArguments", "is_first", "read_training", "reproduce", "train"]

_MODULES = {
    "TrainArguments": "arguments",
    "is_first": "processes",
    "read_training": "run",
    "reproduce": "run",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
