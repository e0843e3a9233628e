"""Cross-validation by query: every judged query is ranked by a model that never saw it."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.dataset import Dataset
from ranker.dataset.folds import fold_of_queries
from ranker.metrics.blend import blend_run, learn_weight
from ranker.metrics.calibration import calibrate
from ranker.metrics.gate import JUDGED, StageRuns, decide
from ranker.metrics.measures import Qrels, Run, per_query, ranked, trec_run
from ranker.metrics.plots import training_curves
from ranker.train.folds.fold import Fold, FoldRun
from ranker.train.folds.workers import run_folds
from ranker.train.loop import StageResult
from ranker.train.reranking import depth_for
from ranker.train.stages import Stages

__all__ = ["CrossValidation", "cross_validate"]

PAIRS = 50_000
"""Most pairs scored in a run over all judged queries; 500 queries are reranked in full depth."""


@dataclass(frozen=True)
class CrossValidation:
    """What the folds say of all judged queries.

    Attributes:
        qrels: the judged queries.
        runs: the out-of-fold runs by name: bm25, the cross-encoder of each stage (base, pretrained
            on the corpus, synthetic, judged), and cross and blend of the stage that ships.
        fold_of_query: fold of each query, from 1.
        records: what each fold did.
        depth: documents of BM25 that were reranked.
        gate: the verdict (`ranker.metrics.gate.decide`).
        blend_weight: learned from the out-of-fold logits of all queries.
        calibration: learned from them too (`ranker.metrics.calibration.calibrate`).
        start: which model the judged stage started from, and by which figures.
        before: what the stages that use no judgement did.
        weights: what the final model starts from, or is; None for the base.
    """

    qrels: Qrels
    runs: dict[str, Run]
    fold_of_query: dict[str, int]
    records: list[dict[str, Any]]
    depth: int
    gate: dict[str, Any]
    blend_weight: float
    calibration: dict[str, Any]
    start: dict[str, Any] | None
    before: list[StageResult]
    weights: Path | None

    @property
    def steps(self) -> int:
        """Number of steps of the final model on judged queries: the median of the folds' best."""
        if self.gate["stage"] != JUDGED:
            return 0
        return statistics.median_low([int(record["best_step"]) for record in self.records])

    @property
    def schedule(self) -> int:
        """Number of steps in which the folds' learning rate fell to 0: the median."""
        planned = statistics.median_low([int(record["steps"]) for record in self.records])
        return max(self.steps, planned)

    def files(self) -> dict[str, str]:
        """Return TREC run files, the folds and the curves of their training, by name."""
        texts = {
            f"{name}.run": trec_run(ranked(run), tag=f"ranker-{name}")
            for name, run in self.runs.items()
        }
        folds = dict(sorted(self.fold_of_query.items()))
        curves = {f"fold {record['fold']}": record for record in self.records}
        return {
            **texts,
            "folds.json": json.dumps(folds, indent=2, ensure_ascii=False) + "\n",
            "folds.svg": training_curves(curves, ident="folds", background="white"),
        }

    def report(self) -> dict[str, Any]:
        """Return what training.json says of the folds and of the model."""
        means = {name: self.gate["runs"][name]["mean"] for name in ("bm25", "cross", "blend")}
        return {
            "blend_weight": self.blend_weight,
            "recommended_profile": self.gate["recommended_profile"],
            "held_out": {"queries": len(self.qrels), **means},
            "gate": self.gate,
            "start": self.start,
            **self.calibration,
            "cv": {
                "folds": len(self.records),
                "fold_of_query": self.fold_of_query,
                "depth": self.depth,
                "steps": self.steps,
                "schedule": self.schedule,
                "by_fold": self.records,
            },
        }


def cross_validate(
    stages: Stages, dataset: Dataset, directory: Path, *, workers: int
) -> CrossValidation:
    """Run all folds; what an interrupted run completed is taken from `directory`.

    The stages on the corpus and on synthetic queries use no judgement, so they are run once, for
    all folds and for the final model.

    Raises:
        DataError: too few different questions, or a fold cannot be learned from.
        TrainError: training cannot continue.
        KeyboardInterrupt: after Ctrl-C; all progress is saved.
    """
    arguments = stages.arguments
    numbers = fold_of_queries(dataset, folds=arguments.cv, seed=arguments.seed)
    depth = depth_for(len(dataset.qrels), pairs=PAIRS)
    queries = stages.queries(dataset, depth)
    start = stages.before_judgements(lambda: queries, directory, always=True)
    folds = [
        Fold(n + 1, arguments.cv, frozenset(id_ for id_, fold in numbers.items() if fold == n))
        for n in range(arguments.cv)
    ]
    run = FoldRun(dataset, directory, start, depth)
    records = run_folds(stages, folds, run, workers=workers)
    logits = {id_: row for record in records for id_, row in record.pop("logits").items()}
    runs = {**start.runs, JUDGED: {query_id: logits[query_id] for query_id in dataset.qrels}}
    blends = {
        name: _blended(dataset.qrels, queries.bm25, row, numbers)
        for name, row in start.runs.items()
    }
    learned = {query_id: records[fold]["blend_weight"] for query_id, fold in numbers.items()}
    blends[JUDGED] = _with_weights(queries.bm25, runs[JUDGED], learned)
    gate = decide(
        dataset.qrels,
        queries.bm25,
        [StageRuns(name, runs[name], blend) for name, blend in blends.items()],
    )
    stage = gate["stage"]
    runs = {"bm25": queries.bm25, **runs, "cross": runs[stage], "blend": blends[stage]}
    _add_figures(records, dataset.qrels, runs, numbers)
    shipped = start.best(dataset.qrels) if stage == JUDGED else stage
    return CrossValidation(
        qrels=dataset.qrels,
        runs=runs,
        fold_of_query={query_id: fold + 1 for query_id, fold in numbers.items()},
        records=records,
        depth=depth,
        gate=gate,
        blend_weight=learn_weight(dataset.qrels, runs["bm25"], runs["cross"]),
        calibration=calibrate(
            dataset.qrels, runs["cross"], numbers, min_grade=stages.arguments.min_grade
        ),
        start=start.report(dataset.qrels),
        before=start.results,
        weights=start.weights.get(shipped),
    )


def _blended(qrels: Qrels, bm25: Run, logits: Run, numbers: Mapping[str, int]) -> Run:
    """Return the blend of a model without judgements, each fold's weight from the others."""
    weights = {
        fold: learn_weight(
            {id_: row for id_, row in qrels.items() if numbers[id_] != fold}, bm25, logits
        )
        for fold in set(numbers.values())
    }
    return _with_weights(bm25, logits, {id_: weights[fold] for id_, fold in numbers.items()})


def _with_weights(bm25: Run, logits: Run, weights: Mapping[str, float]) -> Run:
    """Blend each query with a weight of its own."""
    return {
        query_id: blend_run({query_id: row}, logits, weights[query_id])[query_id]
        for query_id, row in bm25.items()
    }


def _add_figures(
    records: list[dict[str, Any]], qrels: Qrels, runs: Mapping[str, Run], numbers: Mapping[str, int]
) -> None:
    """Give each fold's record the mean nDCG@10 of its queries, by run."""
    values = {name: per_query(qrels, run, ["nDCG@10"])["nDCG@10"] for name, run in runs.items()}
    for number, record in enumerate(records):
        record["ndcg@10"] = {
            name: statistics.fmean(row[id_] for id_ in row if numbers[id_] == number)
            for name, row in values.items()
        }
