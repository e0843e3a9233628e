"""Several processes that train one model together, as `torchrun` or `accelerate launch` start them.

All run the same program; the first one alone scores, decides and writes, and the others take
what it found.  They need one file system.
"""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from ranker.errors import UsageError, require

__all__ = ["agreed", "by_first", "count", "is_first", "join", "largest", "rank"]

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""The others wait while the first one scores, which may take hours; torch's own limit is ten
minutes on GPUs and half an hour on CPUs.  If a process fails, its launcher ends the others."""


def count() -> int:
    """How many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK") or 0) if count() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def join() -> None:
    """Meet the others and take this process's GPU, where it has one.

    It then ends when its launcher ends, however that ends: nobody else may write into the folder
    of a training that was begun anew.

    Raises:
        UsageError: the environment speaks of several processes that no launcher started, or there
            are more of them than GPUs.
    """
    if count() > 1:
        if "LOCAL_RANK" not in os.environ:
            raise UsageError(
                f"the environment says WORLD_SIZE={count()}, but not which of them this process "
                "is (LOCAL_RANK): start them with torchrun, or unset WORLD_SIZE"
            )
        threading.Thread(target=_end_with_the_launcher, args=(os.getppid(),), daemon=True).start()
        torch = require("torch", extra="train")
        here = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        if torch.cuda.is_available() and here > torch.cuda.device_count():
            raise UsageError(
                f"{here} processes on a machine with {torch.cuda.device_count()} GPUs: start as "
                "many as it has"
            )
        accelerate = require("accelerate", extra="train")
        accelerate.PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _end_with_the_launcher(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def by_first(compute: Callable[[], T]) -> T:
    """What the first process computes, in all of them; nobody goes on before it is done."""
    return agreed(compute() if is_first() else None)  # type: ignore[return-value]


def agreed(value: T) -> T:
    """The first process's value, in all of them."""
    if count() == 1:
        return value
    found: list[Any] = [value]
    require("torch.distributed", extra="train").broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


def largest(number: int) -> int:
    """The largest of the numbers that the processes give."""
    if count() == 1:
        return number
    numbers: list[Any] = [None] * count()
    require("torch.distributed", extra="train").all_gather_object(numbers, number)
    return int(max(numbers))
