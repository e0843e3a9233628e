"""The stages of a run: the base model, warm-up on the corpus, learning from judged queries."""

import functools
import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ranker.dataset import Dataset
from ranker.dataset.groups import (
    Group,
    Negatives,
    count_negatives,
    judged_groups,
    scored_groups,
    warmup_groups,
)
from ranker.dataset.synthetic import SyntheticQueries, load_synthetic
from ranker.encode import Encoder
from ranker.errors import require
from ranker.files import write_json
from ranker.forward import forward_of
from ranker.lexical import BM25Index
from ranker.losses import TAUGHT
from ranker.model import Base, freeze, load_weights
from ranker.train.arguments import TrainArguments
from ranker.train.batches import Batches, EncodedGroup, encode_groups, plan
from ranker.train.held_out import HeldOutQueries
from ranker.train.loop import BEST, OnProgress, StageResult, run_stage, uses_bfloat16
from ranker.train.teacher import Teacher, with_scores

__all__ = ["DONE", "FINAL_DEPTH", "Stages"]

EVALUATION_PAIRS = 1_000
"""Most pairs scored for one nDCG@10 while training: some ten seconds on two cores."""
FINAL_PAIRS = 10_000
FINAL_DEPTH = 100
"""Documents that are reranked at serving."""
CPU_CHUNK, GPU_CHUNK = 12, 4096
UNTAUGHT = "listwise"
"""The loss of a stage without a teacher's scores, where that of the run needs them."""
DONE = "done.json"
"""What a stage did, written when it is done."""


class Stages:
    """What all stages of a run share; each stage is a method, with its state in a folder.

    Args:
        base: the model that everything starts from.
        documents: the corpus.
        encoder: the contract.
        arguments: the run's.
        on_progress: told of each step and evaluation.
        index: BM25 over the documents, if it is there already.
    """

    def __init__(
        self,
        base: Base,
        dataset: Dataset,
        encoder: Encoder,
        arguments: TrainArguments,
        on_progress: OnProgress,
        *,
        index: BM25Index | None = None,
    ) -> None:
        self.base, self.encoder, self.arguments = base, encoder, arguments
        self.on_progress = on_progress
        self.bf16 = uses_bfloat16(arguments)
        self.documents = dataset.documents
        self.index = index or BM25Index(self.documents.values())
        self.negatives = Negatives(
            count=arguments.negatives,
            random=arguments.random_negatives,
            depth=arguments.depth,
            skip_top=arguments.skip_top,
            margin=arguments.margin,
        )
        self.teacher = Teacher.of(arguments)
        self.sources: dict[str, dict[str, int]] = {}

    def start(self, weights: Path | None = None) -> tuple[Any, Any]:
        """A model and its forward: the base with a head that the seed draws, or saved weights."""
        torch = require("torch", extra="train")
        require("transformers", extra="train").set_seed(self.arguments.seed)
        model = load_weights(self.base.source, dropout=self.arguments.dropout)
        forward, _ = forward_of(model, segments=self.encoder.spec.segments, fused=True)
        if self.arguments.freeze != "none":
            freeze(model, self.arguments.freeze)
        if weights is not None:
            forward.load_state_dict(torch.load(weights, weights_only=True))
        if torch.cuda.is_available():
            forward.cuda()
        return model, forward

    def without_judgements(self, forward: Any, work: Path) -> Iterator[StageResult]:
        """The stages before the judged one, each in the folder of its name below `work`."""
        synthetic = self.synthetic  # first, so that a bad file does not cost a warm-up
        if self.arguments.warmup:
            yield self.warm_up(forward, work / "warmup")
        if synthetic is not None:
            yield self.learn_synthetic(forward, synthetic, work / "synthetic")

    def warm_up(self, forward: Any, work: Path) -> StageResult:
        """Learn from the corpus alone; no judgement is used."""
        arguments = self.arguments
        groups = warmup_groups(
            self.documents,
            self.index,
            count=arguments.warmup_steps * arguments.groups,
            negatives=Negatives(count=arguments.negatives, random=2, depth=30)
            if arguments.negatives > 2
            else self.negatives,
            seed=arguments.seed,
        )
        batches = self._plan("warmup", groups, arguments.seed)
        return _once(
            work,
            forward,
            lambda: run_stage(
                forward,
                self._batches(batches),
                None,
                stage="warmup",
                learning_rate=arguments.warmup_learning_rate,
                loss=self._loss(taught=False),
                arguments=arguments,
                work=work,
                on_progress=self.on_progress,
            ),
        )

    @functools.cached_property
    def synthetic(self) -> SyntheticQueries | None:
        """The synthetic queries that the run names, filtered by the rank of their own document.

        Raises:
            DataError: the file cannot be used, or no query of it is left.
        """
        if self.arguments.synthetic is None:
            return None
        return load_synthetic(
            Path(self.arguments.synthetic),
            self.documents,
            self.index,
            rank=self.arguments.synthetic_rank,
            tell=lambda done, total: self.on_progress("synthetic: BM25", done, total, None, None),
        )

    def learn_synthetic(self, forward: Any, queries: SyntheticQueries, work: Path) -> StageResult:
        """Learn from synthetic queries, each at most once; no judgement is used."""
        arguments = self.arguments
        drawn = random.Random(arguments.seed).sample(
            sorted(queries.judged.qrels),
            min(len(queries.judged.qrels), arguments.synthetic_steps * arguments.groups),
        )
        judged = replace(queries.judged, qrels={id_: queries.judged.qrels[id_] for id_ in drawn})
        groups = self._with_teacher(
            judged_groups(judged, self.index, negatives=self.negatives, seed=arguments.seed),
            "synthetic",
        )
        batches = self._plan("synthetic", groups, arguments.seed)[: arguments.synthetic_steps]
        return _once(
            work,
            forward,
            lambda: run_stage(
                forward,
                self._batches(batches),
                None,
                stage="synthetic",
                learning_rate=arguments.warmup_learning_rate,
                loss=self._loss(taught=self.teacher is not None),
                arguments=arguments,
                work=work,
                on_progress=self.on_progress,
            ),
        )

    def learn(
        self,
        forward: Any,
        judged: Dataset,
        work: Path,
        *,
        held_out: Dataset | None,
        stage: str = "judged",
        steps: int | None = None,
        schedule: int | None = None,
    ) -> StageResult:
        """Learn from judged queries.

        Args:
            forward: the module, which is changed.
            judged: the queries.
            work: folder of the stage's state.
            held_out: queries to stop by; None to take all the steps.
            stage: its name.
            steps: how many; None for all epochs.
            schedule: steps in which the learning rate falls to 0, if not those.
        """
        batches, per_epoch = self._judged_plan(judged, stage, steps)
        watched = None
        if held_out is not None:
            depth = max(10, min(FINAL_DEPTH, EVALUATION_PAIRS // len(held_out.qrels)))
            watched = self.queries(held_out, depth)
        return _once(
            work,
            forward,
            lambda: run_stage(
                forward,
                self._batches(batches),
                watched,
                stage=stage,
                learning_rate=self.arguments.learning_rate,
                evaluate_every=max(1, per_epoch // self.arguments.evaluations),
                schedule=schedule,
                arguments=self.arguments,
                work=work,
                on_progress=self.on_progress,
            ),
        )

    def queries(self, judged: Dataset, depth: int | None = None) -> HeldOutQueries:
        """Queries to rerank; without a depth, at that of serving as far as time allows."""
        if depth is None:
            depth = max(20, min(FINAL_DEPTH, FINAL_PAIRS // len(judged.qrels)))
        return HeldOutQueries(judged, self.index, self.encoder, depth=depth, bf16=self.bf16)

    def _judged_plan(
        self, judged: Dataset, stage: str, steps: int | None
    ) -> tuple[list[list[EncodedGroup]], int]:
        """The batches of all epochs, or of so many steps, and how many the first epoch has."""
        batches: list[list[EncodedGroup]] = []
        per_epoch = 0
        for epoch in itertools.count() if steps else range(self.arguments.epochs):
            seed = self.arguments.seed + 1 + epoch
            batches += self._plan(stage, self._judged_groups(judged, stage, seed), seed)
            per_epoch = per_epoch or len(batches)
            if steps and len(batches) >= steps:
                break
        return batches[:steps], per_epoch

    def _judged_groups(self, judged: Dataset, stage: str, seed: int) -> list[Group]:
        """The groups of an epoch, with a teacher's scores where the loss learns from them."""
        arguments = self.arguments
        if arguments.loss in TAUGHT and self.teacher is None:
            return scored_groups(
                judged, count=self.negatives.count, seed=seed, relevant=arguments.relevant
            )
        groups = judged_groups(
            judged,
            self.index,
            negatives=self.negatives,
            seed=seed,
            relevant=arguments.relevant,
        )
        return self._with_teacher(groups, stage)

    def _loss(self, *, taught: bool) -> str:
        """The loss of a stage that has a teacher's scores, or has none."""
        return self.arguments.loss if taught or self.arguments.loss not in TAUGHT else UNTAUGHT

    def _with_teacher(self, groups: list[Group], stage: str) -> list[Group]:
        """The groups with the scores of the run's teacher, if it has one."""
        if self.teacher is None:
            return groups
        return with_scores(
            groups,
            self.teacher,
            tell=lambda done, total: self.on_progress(f"{stage}: teacher", done, total, None, None),
        )

    def _plan(self, stage: str, groups: list[Group], seed: int) -> list[list[EncodedGroup]]:
        counts = self.sources.setdefault(stage, {})
        for source, number in count_negatives(groups).items():
            counts[source] = counts.get(source, 0) + number
        encoded = encode_groups(groups, self.encoder)
        return plan(encoded, size=self.arguments.groups, seed=seed)

    def _batches(self, batches: list[list[EncodedGroup]]) -> Batches:
        return Batches(batches, self.encoder, chunk=_chunk())


def _chunk() -> int:
    """Pairs computed together: few on a CPU, a whole step on a GPU."""
    torch = require("torch", extra="train")
    return GPU_CHUNK if torch.cuda.is_available() else CPU_CHUNK


def _once(work: Path, forward: Any, stage: Callable[[], StageResult]) -> StageResult:
    """Run a stage, or take what it left when it was done before an interruption."""
    torch = require("torch", extra="train")
    done = work / DONE
    if done.is_file():
        forward.load_state_dict(torch.load(work / BEST, weights_only=True))
        return StageResult(**json.loads(done.read_text(encoding="utf-8")))
    work.mkdir(parents=True, exist_ok=True)
    result = stage()
    write_json(done, asdict(result))
    for save in work.glob("checkpoint-*"):
        shutil.rmtree(save)
    return result
