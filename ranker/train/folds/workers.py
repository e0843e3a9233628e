"""The folds of a cross-validation, one after another or in processes of their own."""

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
    """Run the folds that are not finished, and return the records of all.

    Args:
        stages: what the folds share.
        folds: all folds.
        run: how each is run.
        workers: processes at once, as far as memory allows; 1 for this process only.

    Raises:
        TrainError: a fold's process exited unexpectedly.
        KeyboardInterrupt: after Ctrl-C; every fold has saved its progress.
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
            gc.collect()  # a Trainer is part of a reference cycle with its model
    return [record for fold in folds if (record := run.record(fold)) is not None]


def affordable(stages: Stages, workers: int) -> int:
    """Return the number of processes, of `workers` at most, that fit into free memory; at least 1.

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
    """Return the free bytes of this machine, or of the container that this runs in."""
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
    """Run folds in several processes at once; all have ended when this returns or raises."""
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
    """Let every fold save its step and end on Ctrl-C; end all at once on an error."""
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
    shared = {
        "base": stages.base,
        "encoder": stages.encoder,
        "arguments": stages.arguments,
        "measure": stages.measure,
        "teacher": stages.teacher,
        "first_phase": stages.first_phase,
    }
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
    """Take one message of a worker, and return whether it says that the fold is finished.

    Raises:
        KeyboardInterrupt: the worker was interrupted.
        RankerError: the worker failed, or is gone.
    """
    kind: str
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        raise TrainError(
            f"{worker.fold.name}: its worker exited unexpectedly (status "
            f"{worker.process.exitcode}; -9 usually means that memory ran out); rerun the same "
            "command to resume, with fewer --fold-workers"
        ) from None
    if kind == "progress":
        stages.on_progress(*content)
    elif kind == "error":
        raise content
    elif kind == "interrupted":
        raise KeyboardInterrupt
    return kind == "done"


def _work(shared: dict[str, Any], run: FoldRun, threads: int, pipe: Connection) -> None:
    """Run folds in a worker's process."""

    def send(kind: str, content: object = None) -> None:
        try:
            pipe.send((kind, content))
        except OSError:  # the parent is gone
            os._exit(1)

    try:
        _live_as_long_as_the_parent()
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        require("torch", extra="train").set_num_threads(threads)

        def report(*content: object) -> None:
            send("progress", content)

        stages = Stages(dataset=run.dataset, on_progress=report, directory=run.directory, **shared)
        for fold in iter(pipe.recv, None):
            run_fold(stages, fold, run)
            gc.collect()  # a Trainer is part of a reference cycle with its model
            send("done")
    except KeyboardInterrupt:
        send("interrupted")
    except RankerError as error:
        send("error", error)
    except Exception as error:
        send("error", TrainError(f"a fold's process: {type(error).__name__}: {error}"))


@contextlib.contextmanager
def _sigint_kept_back() -> Iterator[None]:
    """Hold SIGINT back from a process that is started, until `_work` can catch it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live_as_long_as_the_parent() -> None:
    """End when the parent ends, however it ends: its folder may belong to another run then.

    The parent passes Ctrl-C on, so that each fold receives it once.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
