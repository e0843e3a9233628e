"""Several processes that train one model together, as `torchrun` or `accelerate launch` start them.

All run the same program; only the first one scores, decides and writes, and the others receive
its results.  They need a common file system.
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
    """Return the number of processes that train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ.get("RANK") or 0) if count() > 1 else 0


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return rank() == 0


def join() -> None:
    """Connect to the other processes and take this process's GPU, if it has one.

    It then ends when its launcher ends, however that ends: the folder may belong to a new run by
    then.

    Raises:
        UsageError: the environment describes several processes that no launcher started, or there
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
        local = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        if torch.cuda.is_available() and local > torch.cuda.device_count():
            raise UsageError(
                f"{local} processes on a machine with {torch.cuda.device_count()} GPUs: start as "
                "many as it has"
            )
        accelerate = require("accelerate", extra="train")
        accelerate.PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _end_with_the_launcher(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def by_first(compute: Callable[[], T]) -> T:
    """Return what the first process computes, in all of them; the others wait for it."""
    return agreed(compute() if is_first() else None)  # type: ignore[return-value]


def agreed(value: T) -> T:
    """Return the first process's value, in all of them."""
    if count() == 1:
        return value
    values: list[Any] = [value]
    require("torch.distributed", extra="train").broadcast_object_list(values)
    return values[0]  # type: ignore[no-any-return]


def largest(number: int) -> int:
    """Return the largest of the numbers that the processes give."""
    if count() == 1:
        return number
    numbers: list[Any] = [None] * count()
    require("torch.distributed", extra="train").all_gather_object(numbers, number)
    return int(max(numbers))
