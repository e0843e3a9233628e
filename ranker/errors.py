"""The exception tree.  Every error that a user can cause is one of these.

RankerError
├── UsageError           options that contradict each other or make no sense   (exit code 2)
├── MissingExtra         an optional library is not installed
├── DataError            judged data or a corpus that cannot be used
├── SpecError            an invalid token contract
│   └── SpecMismatch     two sides with different token contracts
├── ArtifactError        a checkpoint, bundle or package that is missing, damaged or in the way
├── TrainError           training cannot continue
├── ExportError          the exported model is not equal to the trained one
├── EndpointError        a server that is not there or does not answer
│   └── ResponseError    a server that answers with an error
├── FeedError            documents that did not arrive
├── EvaluationError      failed queries, without which no measure is honest
└── VerifyError          a check that did not hold
    └── MissingTool      a program that a check needs (JDK, Maven) is not installed

Messages say what was expected, what was found, where, and what to do, in one line.
"""

import importlib
from types import ModuleType

__all__ = [
    "ArtifactError",
    "DataError",
    "EndpointError",
    "EvaluationError",
    "ExportError",
    "FeedError",
    "MissingExtra",
    "MissingTool",
    "RankerError",
    "ResponseError",
    "SpecError",
    "SpecMismatch",
    "TrainError",
    "UsageError",
    "VerifyError",
    "first_line",
    "require",
]


class RankerError(Exception):
    """Base of all errors that ranker raises on purpose; the command line prints one line of it.

    Args:
        reason: what is wrong.
        about: the file or folder that the reason is about, or a phrase with it; the message
            begins with it.

    Attributes:
        reason: as given, for messages to people who do not know this machine's folders.
    """

    exit_code = 1

    def __init__(self, reason: str, *, about: object = None) -> None:
        super().__init__(reason if about is None else f"{about}: {reason}")
        self.reason = reason


class UsageError(RankerError):
    """Options that contradict each other or make no sense."""

    exit_code = 2


class MissingExtra(RankerError):
    """An optional library that is not installed."""


class DataError(RankerError):
    """Judged data or a corpus that cannot be used."""


class SpecError(RankerError):
    """Invalid token contract."""


class SpecMismatch(SpecError):
    """Two sides that must share a token contract have different ones."""


class ArtifactError(RankerError):
    """A checkpoint, bundle or package that is missing, damaged or in the way."""


class TrainError(RankerError):
    """Training cannot continue."""


class ExportError(RankerError):
    """The exported model is not equal to the trained one."""


class EndpointError(RankerError):
    """A server that is not there or does not answer.

    Attributes:
        cause: what happened to the connection, in a few words; empty where it held.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class ResponseError(EndpointError):
    """A server that answers with an error.

    Attributes:
        status: the HTTP status.
        code: Vespa's error code if the body has one.
    """

    def __init__(self, message: str, *, status: int, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class FeedError(RankerError):
    """Documents that did not arrive."""


class EvaluationError(RankerError):
    """Failed queries, without which no measure is honest."""


class VerifyError(RankerError):
    """A check that did not hold."""


class MissingTool(VerifyError):
    """A program that a check needs (JDK, Maven) is not installed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional library.

    Raises:
        MissingExtra: the library is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.split(".")[0]):
            raise
        raise MissingExtra(
            f"{module} is not installed; it comes with: pip install 'ranker[{extra}]'"
        ) from error
