"""ranker: from judged queries to a deployed, evaluated Vespa cross-encoder.

Importing this package loads neither torch nor pyvespa nor any other large library: every name
below that needs one loads it when it is used.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from ranker.errors import RankerError
from ranker.records import Document, Qrel, Query

if TYPE_CHECKING:
    from ranker.api import (
        Client,
        Reranker,
        deploy,
        evaluate,
        export,
        feed,
        load,
        package,
        report,
        train,
    )

__all__ = [
    "Client",
    "Document",
    "Qrel",
    "Query",
    "RankerError",
    "Reranker",
    "__version__",
    "deploy",
    "evaluate",
    "export",
    "feed",
    "load",
    "package",
    "report",
    "train",
]

__version__ = "0.1.0"


class _Lazy:
    """A name of `ranker.api`, looked up when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, package: object, owner: type | None = None) -> Any:
        return getattr(importlib.import_module("ranker.api"), self._name)

    def __set__(self, package: object, value: object) -> None:
        """Keep the function where the import system binds the folder `ranker/train` to its name.

        Raises:
            AttributeError: the value is not a module; replace the function in `ranker.api`.
        """
        if not isinstance(value, types.ModuleType):
            raise AttributeError(f"ranker.{self._name} is read-only; set ranker.api.{self._name}")


class _Package(types.ModuleType):
    """The module `ranker`: functions such as `ranker.train` share their name with a folder.

    `from ranker.train import ...` reaches the folder, `ranker.train(...)` the function, whichever
    of the two was used first.
    """

    Client = _Lazy("Client")
    Reranker = _Lazy("Reranker")
    deploy = _Lazy("deploy")
    evaluate = _Lazy("evaluate")
    export = _Lazy("export")
    feed = _Lazy("feed")
    load = _Lazy("load")
    package = _Lazy("package")
    report = _Lazy("report")
    train = _Lazy("train")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
