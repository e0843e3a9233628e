"""One fold of a cross-validation: a model that never saw the fold's queries ranks them."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.dataset import Dataset, split_queries
from ranker.dataset.splits import with_queries
from ranker.errors import DataError
from ranker.files import write_json
from ranker.metrics.blend import learn_weight
from ranker.train import processes
from ranker.train.stages import Stages, Start

__all__ = ["Fold", "FoldRun", "run_fold"]


@dataclass(frozen=True)
class Fold:
    """A part of the judged queries.

    Attributes:
        number: its number, from 1.
        count: number of all folds.
        query_ids: its queries.
    """

    number: int
    count: int
    query_ids: frozenset[str]

    @property
    def name(self) -> str:
        """The name in progress and records."""
        return f"fold {self.number}/{self.count}"


@dataclass(frozen=True)
class FoldRun:
    """How every fold is run.

    Attributes:
        dataset: all judged queries.
        directory: the run directory.
        start: what the judged stage can start from.
        depth: number of documents of BM25 that are reranked.
    """

    dataset: Dataset
    directory: Path
    start: Start
    depth: int

    def record(self, fold: Fold) -> dict[str, Any] | None:
        """Return what a fold left, or None while it is not finished."""
        try:
            record: dict[str, Any] = json.loads(self.file(fold).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return record

    def file(self, fold: Fold) -> Path:
        """Return the file of a fold's record."""
        return self.directory / f"fold-{fold.number}.json"


def run_fold(stages: Stages, fold: Fold, run: FoldRun) -> None:
    """Train on the other folds, rank the queries of this one, and write the record.

    A share of the other folds' queries is held out as a validation set: training stops by them,
    and the weight of the blend is learned from them.  All of them choose what it starts from.

    Raises:
        DataError: the other folds cannot be learned from.
        KeyboardInterrupt: after Ctrl-C; all progress is saved.
    """
    began, dataset = time.monotonic(), run.dataset
    folder = run.directory / f"fold-{fold.number}"
    others = with_queries(dataset, dataset.qrels.keys() - fold.query_ids, side="others")
    arguments = stages.arguments
    learned, validation = split_queries(others, held_out=arguments.held_out, seed=arguments.seed)
    _, forward = stages.start(run.start.weights.get(run.start.best(others.qrels)))
    result = None
    if arguments.epochs:
        try:
            result = stages.learn(forward, learned, folder, validation=validation, stage=fold.name)
        except DataError as error:
            raise DataError(
                f"{fold.name}: {error}; fewer folds leave more to learn from"
            ) from error
    queries = stages.queries(validation)
    logits = stages.scores(queries, forward, f"{fold.name}: blend")
    weight = learn_weight(queries.qrels, queries.bm25, logits)
    own = stages.queries(with_queries(dataset, fold.query_ids, side=fold.name), run.depth)
    record = {
        "fold": fold.number,
        "queries": len(fold.query_ids),
        "learned_from": len(learned.qrels),
        "held_out": len(validation.qrels),
        "steps": result.steps if result else 0,
        "best_step": result.best_step if result else 0,
        "stopped_early": bool(result and result.stopped_early),
        "blend_weight": weight,
        "history": result.history if result else [],
        "evaluations": result.evaluations if result else [],
        "documents_by_source": result.documents_by_source if result else {},
        "logits": stages.scores(own, forward, f"{fold.name}: scores"),
        "seconds": round(time.monotonic() - began, 1),
    }
    processes.by_first(lambda: write_json(run.file(fold), record))
    processes.by_first(lambda: shutil.rmtree(folder, ignore_errors=True))
