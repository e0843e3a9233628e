"""The folds of a cross-validation, one after the other or in processes of their own."""

import contextlib
import gc
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ranker.errors import RankerError, TrainError, require
from ranker.train.folds.fold import Fold, FoldRun, run_fold
from ranker.train.stages import Stages

__all__ = ["affordable", "run_folds"]

logger = logging.getLogger(__name__)

_CGROUP = Path("/sys/fs/cgroup")


def run_folds(
    stages: Stages, folds: Sequence[Fold], run: FoldRun, *, workers: int
) -> list[dict[str, Any]]:
    """Run the folds that are not done, and give the records of all.

    Args:
        stages: what they share.
        folds: all of them.
        run: how each is run.
        workers: processes at once, as far as memory allows; 1 for none beside this one.

    Raises:
        TrainError: a fold's process ended by itself.
        KeyboardInterrupt: after Ctrl-C; every fold has saved what it did.
    """
    missing = [fold for fold in folds if run.record(fold) is None]
    workers = min(workers, len(missing))
    if workers > 1:
        workers = affordable(stages, workers)
    if workers > 1:
        _in_processes(stages, missing, run, workers)
    else:
        for fold in missing:
            run_fold(stages, fold, run)
            gc.collect()  # a Trainer holds its model in a circle
    return [record for fold in folds if (record := run.record(fold)) is not None]


def affordable(stages: Stages, workers: int) -> int:
    """How many of so many processes fit into the memory that is free; at least 1.

    A process is counted with what this one holds (libraries, corpus, index), and with weights,
    gradients, Adam's two moments, a copy to save, and the activations of a step of full slots:
    about 18 numbers of the hidden width for each position and layer.
    """
    torch = require("torch", extra="train")
    psutil = require("psutil", extra="train")
    config, arguments = stages.base.config, stages.arguments
    width = int(getattr(config, "hidden_size", 768))
    layers = int(getattr(config, "num_hidden_layers", 12))
    pairs = math.ceil(arguments.batch_size / arguments.gradient_accumulation_steps) * (
        1 + arguments.negatives
    )
    positions = pairs * stages.encoder.spec.length
    parameters = layers * 12 * width**2 + int(config.vocab_size) * width
    learning = 4 * (5 * parameters + 18 * positions * width * layers)
    if torch.cuda.is_available():
        need, free, where = learning, int(torch.cuda.mem_get_info()[0]), "on the GPU"
    else:
        need = learning + int(psutil.Process().memory_info().rss)
        free, where = _free_memory(int(psutil.virtual_memory().available)), "in memory"
    fitting = max(1, min(workers, int(0.9 * free) // need))
    if fitting < workers:
        logger.warning(
            "%d folds at once would need about %.1f GB %s, %.1f GB are free: %d at a time",
            workers, workers * need / 1e9, where, free / 1e9, fitting,
        )  # fmt: skip
    return fitting


def _free_memory(available: int) -> int:
    """Bytes that this machine has left, or the container that this runs in."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        limit = int((_CGROUP / "memory.max").read_text())  # ValueError for "max"
        used = int((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return min(available, limit - used + cached)
    return available


@dataclass
class _Worker:
    """A process that runs one fold after the other, and the pipe to it."""

    process: Any
    pipe: Connection
    fold: Fold


def _in_processes(stages: Stages, folds: Sequence[Fold], run: FoldRun, workers: int) -> None:
    """Run folds in so many processes at once; all have ended when this returns or raises."""
    torch = require("torch", extra="train")
    threads = max(1, torch.get_num_threads() // workers)
    waiting = list(folds)
    running: dict[Any, _Worker] = {}
    with _ended_together(running):
        for _ in range(workers):
            worker = _start(stages, waiting.pop(0), run, threads)
            running[worker.pipe] = worker
        while running:
            for pipe in wait(list(running)):
                worker = running[pipe]
                if not _took_message(worker, stages):
                    continue
                if not waiting:
                    del running[pipe]
                    _end(worker)
                else:
                    worker.fold = waiting.pop(0)
                    worker.pipe.send(worker.fold)


@contextlib.contextmanager
def _ended_together(running: dict[Any, _Worker]) -> Iterator[None]:
    """On Ctrl-C let every fold save its step and end; on an error end them at once."""
    try:
        yield
    except KeyboardInterrupt:
        for worker in running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT)
        for worker in running.values():
            with contextlib.suppress(EOFError, OSError):
                while True:  # a full pipe would keep it from ending
                    worker.pipe.recv()
            worker.process.join()
        raise
    finally:
        for worker in running.values():
            worker.process.terminate()
            worker.process.join()


def _start(stages: Stages, fold: Fold, run: FoldRun, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    ours, theirs = context.Pipe()
    shared = (stages.base, stages.encoder, stages.arguments, stages.teacher, stages.first_phase)
    process = context.Process(target=_work, args=(shared, run, threads, theirs), daemon=True)
    with _sigint_kept_back():
        process.start()
    theirs.close()
    ours.send(fold)
    return _Worker(process, ours, fold)


def _end(worker: _Worker) -> None:
    worker.pipe.send(None)
    worker.process.join()


def _took_message(worker: _Worker, stages: Stages) -> bool:
    """Take one message of a worker; whether it says that the fold is done.

    Raises:
        KeyboardInterrupt: the worker got it.
        RankerError: that of the worker, or that it is gone.
    """
    kind: str
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        raise TrainError(
            f"{worker.fold.name}: its process ended by itself (exit {worker.process.exitcode}; "
            "-9 is mostly a lack of memory); the same command goes on, best with fewer "
            "--fold-workers"
        ) from None
    if kind == "progress":
        stages.on_progress(*content)
    elif kind == "error":
        raise content
    elif kind == "interrupted":
        raise KeyboardInterrupt
    return kind == "done"


def _work(shared: tuple[Any, ...], run: FoldRun, threads: int, pipe: Connection) -> None:
    """What a worker's process does."""

    def send(kind: str, content: Any = None) -> None:
        try:
            pipe.send((kind, content))
        except OSError:  # the parent is gone
            os._exit(1)

    try:
        _live_as_long_as_the_parent()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        require("torch", extra="train").set_num_threads(threads)
        base, encoder, arguments, teacher, first_phase = shared

        def tell(*content: Any) -> None:
            send("progress", content)

        stages = Stages(
            base, run.dataset, encoder, arguments, tell, teacher=teacher, first_phase=first_phase
        )
        for fold in iter(pipe.recv, None):
            run_fold(stages, fold, run)
            gc.collect()  # a Trainer holds its model in a circle
            send("done")
    except KeyboardInterrupt:
        send("interrupted")
    except RankerError as error:
        send("error", error)
    except Exception as error:
        send("error", TrainError(f"a fold's process: {type(error).__name__}: {error}"))


@contextlib.contextmanager
def _sigint_kept_back() -> Iterator[None]:
    """Start a process whose SIGINT waits until `_work` can catch it; the mask is inherited."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_as_long_as_the_parent() -> None:
    """End when the parent ends, however it ends: nobody else may write into its folder then.

    Ctrl-C in a terminal is the parent's to pass on, so that each fold gets it once.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
