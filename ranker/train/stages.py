"""The stages of a run: the base model, pretraining on the corpus, learning from judged queries."""

import contextlib
import functools
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ranker.contract.encode import Encoder
from ranker.contract.vespa_names import RERANK_COUNT
from ranker.dataset import Dataset
from ranker.dataset.groups import (
    Negatives,
    TrainingGroup,
    judged_groups,
    pretrain_groups,
    scored_groups,
)
from ranker.dataset.synthetic import SyntheticQueries, load_synthetic
from ranker.errors import require
from ranker.files import write_json
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.metrics.measures import Run
from ranker.model.base import Base, freeze, load_weights
from ranker.model.forward import forward_of
from ranker.model.lora import add_lora
from ranker.model.losses import LOSSES, Loss
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.batches import Batches, GroupsOf
from ranker.train.loop import BEST, OnProgress, StageResult, precision_of, restore, run_stage
from ranker.train.reranking import RerankedQueries, depth_for
from ranker.train.teacher import Teacher, with_scores
from ranker.train.token_store import TokenStore

__all__ = ["DONE", "Stages"]

EVALUATION_PAIRS = 1_000
"""Most pairs scored for one nDCG@10 while training: some ten seconds on two cores."""
FINAL_PAIRS = 10_000
CPU_CHUNK, GPU_CHUNK = 12, 4096
TOGETHER = 1024
"""Groups that are made, scored by a teacher and tokenized together."""
WITHOUT_TEACHER = "listwise"
"""The loss of a stage that has no teacher's scores, if the loss of the run needs them."""
DONE = "done.json"
"""What a stage did, written when it is done."""


class Stages:
    """What all stages of a run share; each stage is a method, with its state in a folder.

    Args:
        base: the model that everything starts from.
        dataset: its documents are the corpus.
        encoder: the contract.
        arguments: the run's.
        on_progress: told of each step and evaluation.
        teacher: the one that the arguments name.
        first_phase: BM25 over the documents, if it is there already.
    """

    def __init__(
        self,
        base: Base,
        dataset: Dataset,
        encoder: Encoder,
        arguments: TrainArguments,
        on_progress: OnProgress,
        *,
        teacher: Teacher | None = None,
        first_phase: FirstPhase | None = None,
    ) -> None:
        # Read at torch's first tensor.  Without huge pages a CPU spends a tenth of a step on page
        # faults: every chunk has a new gradient of all embeddings.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        self.base, self.encoder, self.arguments = base, encoder, arguments
        self.on_progress, self.teacher = on_progress, teacher
        self.precision = precision_of(arguments)
        self.loss = LOSSES[arguments.loss]
        self.documents = dataset.documents
        self._asked = [query.text for query in dataset.queries.values()]
        self.first_phase = first_phase or FirstPhase(
            BM25Index(self.documents.values()), depth=RERANK_COUNT
        )
        self.negatives = Negatives(
            count=arguments.negatives,
            random=arguments.random_negatives,
            depth=arguments.negatives_depth,
            skip_top=arguments.skip_top,
            max_score_ratio=arguments.max_score_ratio,
            logit_margin=arguments.logit_margin,
        )

    def start(self, weights: Path | None = None) -> tuple[Any, Any]:
        """A model and its forward: the base with a head that the seed draws, or saved weights."""
        torch = require("torch", extra="train")
        require("transformers", extra="train").set_seed(self.arguments.seed)
        model = load_weights(self.base.source, dropout=self.arguments.dropout)
        if self.arguments.lora_rank:
            add_lora(model, self.arguments.lora_rank)
        forward, _ = forward_of(
            model,
            segments=self.encoder.spec.segments,
            fused=True,
            checkpointing=self.arguments.gradient_checkpointing,
        )
        if self.arguments.freeze != "none":
            freeze(model, self.arguments.freeze)
        if weights is not None:
            restore(forward, weights)
        if torch.cuda.is_available():
            forward.cuda()
        return model, forward

    def without_judgements(self, forward: Any, work: Path) -> Iterator[StageResult]:
        """The stages before the judged one, each in the folder of its name below `work`."""
        synthetic = self.synthetic  # first, so that a bad file does not cost pretraining
        if self.arguments.pretrain:
            yield self.learn_corpus(forward, work / "pretrain")
        if synthetic is not None:
            yield self.learn_synthetic(forward, synthetic, work / "synthetic")

    def learn_corpus(self, forward: Any, work: Path) -> StageResult:
        """Learn from the corpus alone; no judgement is used."""
        arguments = self.arguments

        def groups_of(epoch: int) -> Iterable[Sequence[TrainingGroup]]:
            return _chunks(
                pretrain_groups(
                    self.documents,
                    self.first_phase.index,
                    count=arguments.pretrain_steps * arguments.batch_size,
                    negatives=Negatives(count=arguments.negatives, random=2, depth=30)
                    if arguments.negatives > 2
                    else self.negatives,
                    seed=arguments.seed,
                )
            )

        return self._run(
            "pretrain",
            forward,
            groups_of,
            work,
            learning_rate=arguments.pretrain_learning_rate,
            loss=self._loss(scored=False),
            seed=arguments.seed,
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
            self.first_phase,
            rank=self.arguments.synthetic_rank,
            judged=self._asked,
            report=self._telling("synthetic: BM25"),
        )

    def learn_synthetic(self, forward: Any, queries: SyntheticQueries, work: Path) -> StageResult:
        """Learn from synthetic queries, each at most once; no judgement is used."""
        arguments = self.arguments
        drawn = random.Random(arguments.seed).sample(
            sorted(queries.judged.qrels),
            min(len(queries.judged.qrels), arguments.synthetic_steps * arguments.batch_size),
        )
        judged = replace(queries.judged, qrels={id_: queries.judged.qrels[id_] for id_ in drawn})

        def groups_of(epoch: int) -> Iterable[Sequence[TrainingGroup]]:
            groups = judged_groups(
                judged, self.first_phase, negatives=self.negatives, seed=arguments.seed
            )
            return self._with_teacher(groups, "synthetic", len(drawn))

        return self._run(
            "synthetic",
            forward,
            groups_of,
            work,
            steps=arguments.synthetic_steps,
            learning_rate=arguments.pretrain_learning_rate,
            loss=self._loss(scored=self.teacher is not None),
            seed=arguments.seed,
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
        arguments = self.arguments
        window = functools.cache(
            lambda: self.queries(judged, arguments.negatives_depth, with_judged=True)
        )
        positives = sum(
            grade >= arguments.min_grade for row in judged.qrels.values() for grade in row.values()
        )

        def groups_of(epoch: int) -> Iterable[Sequence[TrainingGroup]]:
            seed = arguments.seed + 1 + epoch
            if self.loss.needs_teacher and self.teacher is None:
                return _chunks(
                    scored_groups(
                        judged, count=arguments.negatives, seed=seed, min_grade=arguments.min_grade
                    )
                )
            groups = judged_groups(
                judged,
                self.first_phase,
                negatives=self.negatives,
                seed=seed,
                min_grade=arguments.min_grade,
                logits=self._window(window, forward, epoch, stage, work),
            )
            return self._with_teacher(groups, stage, positives)

        return self._run(
            stage,
            forward,
            groups_of,
            work,
            held_out=held_out,
            epochs=None if steps else arguments.epochs,
            steps=steps,
            schedule=schedule,
            learning_rate=arguments.learning_rate,
            loss=self.loss,
            min_grade=arguments.min_grade,
            seed=arguments.seed + 1,
        )

    def queries(
        self, judged: Dataset, depth: int | None = None, *, with_judged: bool = False
    ) -> RerankedQueries:
        """Queries to rerank; without a depth, at that of serving as far as time allows."""
        return RerankedQueries(
            judged,
            self.first_phase,
            self.encoder,
            depth=depth or depth_for(len(judged.qrels), pairs=FINAL_PAIRS),
            precision=self.precision,
            with_judged=with_judged,
        )

    def logits(self, queries: RerankedQueries, forward: Any, stage: str) -> Run:
        """The model's logits, computed by the first process; progress is that of `stage`."""
        return processes.by_first(lambda: queries.logits(forward, tell=self._telling(stage)))

    def saved_logits(
        self, path: Path, queries: Callable[[], RerankedQueries], forward: Any, stage: str
    ) -> Run:
        """The logits that are in a file, or those of `logits` after they are saved there."""

        def save() -> None:
            if not path.is_file():
                write_json(path, queries().logits(forward, tell=self._telling(stage)))

        processes.by_first(save)
        found: Run = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _telling(self, stage: str) -> Callable[[int, int], None]:
        """Tells progress how much is done, of how much, where there is no loss."""
        return lambda done, total: self.on_progress(stage, done, total, None, None)

    def _window(
        self,
        queries: Callable[[], RerankedQueries],
        forward: Any,
        epoch: int,
        stage: str,
        work: Path,
    ) -> Run | None:
        """The model's logits to choose an epoch's negatives by, where it has learned anything."""
        arguments = self.arguments
        pretrained = arguments.pretrain or arguments.synthetic is not None
        if not arguments.remine_negatives or (epoch == 0 and not pretrained):
            return None
        return self.saved_logits(
            work / f"window-{epoch}.json",
            queries,
            forward,
            f"{stage}: negatives",
        )

    def _loss(self, *, scored: bool) -> Loss:
        """Return the loss of a stage whose groups are scored by a teacher, or are not."""
        return LOSSES[WITHOUT_TEACHER] if self.loss.needs_teacher and not scored else self.loss

    def _with_teacher(
        self, groups: Iterable[TrainingGroup], stage: str, count: int
    ) -> Iterator[Sequence[TrainingGroup]]:
        """The groups in chunks, with the scores of the run's teacher, if it has one."""
        if self.teacher is None:
            yield from _chunks(groups)
            return
        show = self._telling(f"{stage}: teacher")
        for number, chunk in enumerate(_chunks(groups)):

            def tell(
                done: int, total: int, at: int = number * TOGETHER, size: int = len(chunk)
            ) -> None:
                show(at + size * done // total, count)

            yield with_scores(chunk, self.teacher, tell=tell)

    def _run(
        self,
        stage: str,
        forward: Any,
        groups_of: GroupsOf,
        work: Path,
        *,
        learning_rate: float,
        loss: Loss,
        seed: int,
        min_grade: int = 1,
        epochs: int | None = 1,
        steps: int | None = None,
        schedule: int | None = None,
        held_out: Dataset | None = None,
    ) -> StageResult:
        """Train on groups, or take what the stage left when it was done before an interruption."""
        torch = require("torch", extra="train")
        if processes.by_first((work / DONE).is_file):
            restore(forward, work / BEST)
            return StageResult(**json.loads((work / DONE).read_text(encoding="utf-8")))
        work.mkdir(parents=True, exist_ok=True)
        watched = None
        if held_out is not None:
            depth = depth_for(len(held_out.qrels), pairs=EVALUATION_PAIRS, least=10)
            watched = self.queries(held_out, depth)
        with contextlib.closing(
            TokenStore(work, self.encoder, lambda group: loss.targets(group, min_grade))
        ) as rows:
            batches = Batches(
                groups_of,
                rows,
                self.encoder.spec,
                size=self.arguments.batch_size,
                seed=seed,
                epochs=epochs,
                steps=steps,
                chunk=GPU_CHUNK if torch.cuda.is_available() else CPU_CHUNK,
                parts=self.arguments.gradient_accumulation_steps,
                share=(processes.rank(), processes.count()),
            )
            result = run_stage(
                forward,
                batches,
                watched,
                stage=stage,
                learning_rate=learning_rate,
                evaluate_every=max(1, batches.per_epoch // self.arguments.evaluations),
                schedule=schedule,
                loss=loss.function,
                arguments=self.arguments,
                work=work,
                on_progress=self.on_progress,
            )
        processes.by_first(lambda: _finish(work, result))
        return result


def _finish(work: Path, result: StageResult) -> None:
    write_json(work / DONE, asdict(result))
    for save in work.glob("checkpoint-*"):
        shutil.rmtree(save)


def _chunks(groups: Iterable[TrainingGroup]) -> Iterator[list[TrainingGroup]]:
    every = iter(groups)
    return iter(lambda: list(itertools.islice(every, TOGETHER)), [])
