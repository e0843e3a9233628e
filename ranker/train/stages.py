"""The stages of a run: the base model, the corpus, synthetic queries, judged queries."""

import functools
import itertools
import json
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.contract.encode import Encoder
from ranker.contract.vespa_names import RERANK_COUNT
from ranker.dataset import Dataset
from ranker.dataset.groups import Negatives, TrainingGroup, judged_groups, scored_groups
from ranker.dataset.pretraining import held_out_groups, pretraining_groups
from ranker.dataset.synthetic import SyntheticQueries, load_synthetic
from ranker.errors import require
from ranker.files import write_json
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.metrics.measures import Qrels, Run, ndcg_at_10
from ranker.model.base import Base, freeze, load_weights
from ranker.model.forward import forward_of
from ranker.model.lora import add_lora
from ranker.model.losses import Loss
from ranker.model.task import TASKS
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.batches import Batches, GroupsOf
from ranker.train.loop import (
    BEST,
    OnProgress,
    StageResult,
    Validation,
    precision_of,
    restore,
    run_stage,
)
from ranker.train.reranking import (
    HELD_OUT_NEGATIVES,
    MRR,
    NDCG,
    GroupEvaluations,
    Measure,
    RerankedGroups,
    RerankedQueries,
    depth_for,
)
from ranker.train.teacher import Teacher, with_scores
from ranker.train.token_store import TokenizedTexts, TokenStore

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["DONE", "Start", "Stages"]

logger = logging.getLogger(__name__)

EVALUATION_PAIRS = 1_000
"""Most pairs scored in one evaluation while training: some ten seconds on two cores."""
FINAL_PAIRS = 10_000
ROUNDING = 1e-3
"""Gain in nDCG@10 up to which two models count as equal: several processes sum in another order."""
CPU_CHUNK, GPU_CHUNK = 12, 4096
TOGETHER = 1024
"""Groups that are made, scored by a teacher and tokenized together."""
DONE = "done.json"
"""The file with what a stage did, written when it is finished."""


@dataclass(frozen=True)
class Start:
    """Models that learning from judgements can start from, in the order of training.

    They are the base and what the stages without judgements left; which of them is best, judged
    queries say.  A sentence encoder often ranks worse after pretraining on the corpus, although it
    answers the queries made from held-out documents better.

    Attributes:
        runs: how each reranks the judged queries, by its name: `base`, `pretrained`, `synthetic`;
            empty runs if the base is the only one.
        weights: the file of its weights; the base has none.
        results: what the stages did.
    """

    runs: dict[str, Run]
    weights: dict[str, Path]
    results: list[StageResult]

    def best(self, qrels: Qrels) -> str:
        """Return the name of the one that ranks these queries best, the first of near equals."""
        best, *others = self.runs
        figures = self.figures(qrels) if others else {}
        for name in others:
            if figures[name] > figures[best] + ROUNDING:
                best = name
        return best

    def figures(self, qrels: Qrels) -> dict[str, float]:
        """Return nDCG@10 of each on these queries."""
        return {
            name: ndcg_at_10(qrels, {query_id: run[query_id] for query_id in qrels})
            for name, run in self.runs.items()
        }

    def report(self, qrels: Qrels) -> dict[str, Any] | None:
        """Return what training.json says of the choice; None if there is none."""
        if len(self.runs) == 1:
            return None
        return {"stage": self.best(qrels), "ndcg@10": self.figures(qrels)}


class Stages:
    """What all stages of a run share; each stage is a method, with its state in a folder.

    Args:
        base: the model that everything starts from.
        dataset: its documents are the corpus.
        encoder: the contract.
        arguments: the run's arguments.
        on_progress: called at each step and evaluation.
        directory: the run directory, where the tokenized texts are kept.
        measure: what training stops by.
        teacher: the teacher that the arguments name.
        first_phase: BM25 over the documents, if it exists already.
    """

    def __init__(
        self,
        base: Base,
        dataset: Dataset,
        encoder: Encoder,
        arguments: TrainArguments,
        on_progress: OnProgress,
        *,
        directory: Path,
        measure: Measure = NDCG,
        teacher: Teacher | None = None,
        first_phase: FirstPhase | None = None,
    ) -> None:
        # Read at torch's first tensor.  Without huge pages a CPU spends a tenth of a step on page
        # faults: every chunk has a new gradient of all embeddings.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        self.base, self.encoder, self.arguments = base, encoder, arguments
        self.on_progress, self.teacher, self.measure = on_progress, teacher, measure
        self.precision = precision_of(arguments)
        self.task = TASKS[arguments.task]
        self.loss = self.task.losses[arguments.loss]
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
        self.texts = TokenizedTexts(directory, encoder)

    def close(self) -> None:
        """Release the files of the tokenized texts."""
        self.texts.close()

    def start(self, weights: Path | None = None) -> tuple[Any, "Module"]:
        """Return a model and its forward: the base with its head, or with saved weights."""
        torch = require("torch", extra="train")
        require("transformers", extra="train").set_seed(self.arguments.seed)
        model = load_weights(
            self.base.source,
            outputs=self.task.outputs,
            dropout=self.arguments.dropout,
            similarity=self.base.similarity(self.encoder.spec),
        )
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

    def before_judgements(
        self, queries: Callable[[], RerankedQueries], directory: Path, *, always: bool
    ) -> Start:
        """Run the stages without judgements, and rerank judged queries with what each leaves.

        Args:
            queries: returns the judged queries.
            directory: where each stage has a folder, and each run a file.
            always: rerank them with the base even if it is the only one.
        """
        synthetic = self.synthetic  # first, so that a bad file does not cost pretraining
        start = Start({"base": {}}, {}, [])
        if not (always or self.arguments.pretrain or synthetic):
            return start
        _, forward = self.start()

        def rerank(name: str) -> None:
            start.runs[name] = self.saved_scores(
                directory / f"{name}.json", queries, forward, f"{name}: scores"
            )

        def keep(name: str, result: StageResult, folder: Path) -> None:
            start.results.append(result)
            start.weights[name] = folder / BEST
            rerank(name)

        rerank("base")
        if self.arguments.pretrain:
            folder = directory / "pretrain"
            keep("pretrained", self.pretrain(forward, folder), folder)
        if synthetic is not None:
            folder = directory / "synthetic"
            keep("synthetic", self.learn_synthetic(forward, synthetic, folder), folder)
        return start

    def pretrain(self, forward: "Module", folder: Path) -> StageResult:
        """Learn from the corpus alone; no judgement is used.

        Some documents are held out.  The stage stops when their queries are answered no better, and
        ends with the weights that answer them best, those before its first step among them.
        """
        arguments = self.arguments
        steps, size = arguments.pretrain_steps, arguments.batch_size
        evaluations = GroupEvaluations.of(steps, pairs=steps * size * (arguments.negatives + 1))
        corpus: dict[str, Any] = {
            "documents": self.documents,
            "index": self.first_phase.index,
            "words": arguments.document_slots // 2,  # rare words take two tokens and more
        }

        @functools.cache
        def held_out() -> list[TrainingGroup]:
            return held_out_groups(
                **corpus,
                most=evaluations.groups,
                negatives=Negatives(count=HELD_OUT_NEGATIVES, random=2, depth=30),
                seed=arguments.seed + 2**32,  # no run's own
            )

        def groups_of(epoch: int) -> Iterable[Sequence[TrainingGroup]]:
            return _chunks(
                pretraining_groups(
                    **corpus,
                    count=steps * size,
                    negatives=Negatives(count=arguments.negatives, random=2, depth=30)
                    if arguments.negatives > 2
                    else self.negatives,
                    seed=arguments.seed,
                    without={group.documents[0].doc_id for group in held_out()},
                )
            )

        return self._run(
            "pretrain",
            forward,
            groups_of,
            folder,
            validation=lambda _: self._held_out_validation(held_out(), every=evaluations.every),
            learning_rate=arguments.pretrain_learning_rate,
            loss=self._loss(scored=False),
            seed=arguments.seed,
        )

    def _held_out_validation(
        self, groups: Sequence[TrainingGroup], *, every: int
    ) -> Validation | None:
        """Return what pretraining stops by, or None without held-out groups."""
        if not groups:
            if processes.is_first():
                logger.warning(
                    "pretraining: the corpus of %d documents is too small to hold some out, so all "
                    "%d steps are taken",
                    len(self.documents),
                    self.arguments.pretrain_steps,
                )
            return None
        reranked = RerankedGroups(groups, self.texts, task=self.task, precision=self.precision)
        return Validation(MRR.lower(), reranked.mrr, every)

    @functools.cached_property
    def synthetic(self) -> SyntheticQueries | None:
        """The synthetic queries of the run for which BM25 retrieves the source document.

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
            report=self._report("synthetic: BM25"),
        )

    def learn_synthetic(
        self, forward: "Module", queries: SyntheticQueries, folder: Path
    ) -> StageResult:
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
            folder,
            steps=arguments.synthetic_steps,
            learning_rate=arguments.pretrain_learning_rate,
            loss=self._loss(scored=self.teacher is not None),
            seed=arguments.seed,
        )

    def learn(
        self,
        forward: "Module",
        judged: Dataset,
        folder: Path,
        *,
        validation: Dataset | None,
        stage: str = "judged",
        steps: int | None = None,
        schedule: int | None = None,
    ) -> StageResult:
        """Learn from judged queries.

        Args:
            forward: the module to train, in place.
            judged: the queries.
            folder: folder of the stage's state.
            validation: queries for early stopping; None to take all the steps.
            stage: its name.
            steps: number of steps; None for all epochs.
            schedule: steps in which the learning rate falls to 0, if other than `steps`.
        """
        arguments = self.arguments
        window = functools.cache(
            lambda: self.queries(judged, arguments.negatives_depth, with_judged=True)
        )
        return self._run(
            stage,
            forward,
            lambda epoch: self._judged_groups(
                judged, epoch, stage, lambda: self._window(window, forward, epoch, stage, folder)
            ),
            folder,
            validation=None
            if validation is None
            else lambda batches: self._validation(validation, batches.per_epoch),
            epochs=None if steps else arguments.epochs,
            steps=steps,
            schedule=schedule,
            learning_rate=arguments.learning_rate,
            loss=self.loss,
            min_grade=arguments.min_grade,
            seed=arguments.seed + 1,
        )

    def _judged_groups(
        self, judged: Dataset, epoch: int, stage: str, logits: Callable[[], Run | None]
    ) -> Iterable[Sequence[TrainingGroup]]:
        """Return an epoch's groups; those with the data's own scores need no `logits`."""
        seed, min_grade = self.arguments.seed + 1 + epoch, self.arguments.min_grade
        if self.loss.needs_teacher and self.teacher is None:
            return _chunks(
                scored_groups(
                    judged, count=self.arguments.negatives, seed=seed, min_grade=min_grade
                )
            )
        groups = judged_groups(
            judged,
            self.first_phase,
            negatives=self.negatives,
            seed=seed,
            min_grade=min_grade,
            logits=logits(),
        )
        positives = sum(
            grade >= min_grade for row in judged.qrels.values() for grade in row.values()
        )
        return self._with_teacher(groups, stage, positives)

    def queries(
        self, judged: Dataset, depth: int | None = None, *, with_judged: bool = False
    ) -> RerankedQueries:
        """Return queries to rerank; without a depth, at that of serving as far as time allows."""
        return RerankedQueries(
            judged,
            self.first_phase,
            self.texts,
            task=self.task,
            depth=depth or depth_for(len(judged.qrels), pairs=FINAL_PAIRS),
            precision=self.precision,
            with_judged=with_judged,
        )

    def scores(self, queries: RerankedQueries, forward: "Module", stage: str) -> Run:
        """Return the model's scores, computed by the first process, with progress as `stage`."""
        return processes.by_first(lambda: queries.scores(forward, report=self._report(stage)))

    def saved_scores(
        self, path: Path, queries: Callable[[], RerankedQueries], forward: "Module", stage: str
    ) -> Run:
        """Return the scores from a file, to which they are written if it does not exist."""

        def save() -> None:
            if not path.is_file():
                write_json(path, queries().scores(forward, report=self._report(stage)))

        processes.by_first(save)
        run: Run = json.loads(path.read_text(encoding="utf-8"))
        return run

    def _report(self, stage: str) -> Callable[[int, int], None]:
        """Return a function that reports progress without a loss: how much is done, of how much."""
        return lambda done, total: self.on_progress(stage, done, total, None, None)

    def _window(
        self,
        queries: Callable[[], RerankedQueries],
        forward: "Module",
        epoch: int,
        stage: str,
        folder: Path,
    ) -> Run | None:
        """Return the scores to choose an epoch's negatives by, once the model has learned."""
        arguments = self.arguments
        pretrained = arguments.pretrain or arguments.synthetic is not None
        if not arguments.remine_negatives or (epoch == 0 and not pretrained):
            return None
        return self.saved_scores(
            folder / f"window-{epoch}.json",
            queries,
            forward,
            f"{stage}: negatives",
        )

    def _loss(self, *, scored: bool) -> Loss:
        """Return the loss of a stage whose groups are scored by a teacher, or are not."""
        without_teacher = self.loss.needs_teacher and not scored
        return self.task.losses[self.task.default_loss] if without_teacher else self.loss

    def _with_teacher(
        self, groups: Iterable[TrainingGroup], stage: str, count: int
    ) -> Iterator[Sequence[TrainingGroup]]:
        """Yield the groups in chunks, with the scores of the run's teacher, if it has one."""
        if self.teacher is None:
            yield from _chunks(groups)
            return
        show = self._report(f"{stage}: teacher")
        for number, chunk in enumerate(_chunks(groups)):

            def report(
                done: int, total: int, at: int = number * TOGETHER, size: int = len(chunk)
            ) -> None:
                show(at + size * done // total, count)

            yield with_scores(chunk, self.teacher, report=report)

    def _run(
        self,
        stage: str,
        forward: "Module",
        groups_of: GroupsOf,
        folder: Path,
        *,
        learning_rate: float,
        loss: Loss,
        seed: int,
        min_grade: int = 1,
        epochs: int | None = 1,
        steps: int | None = None,
        schedule: int | None = None,
        validation: Callable[[Batches], Validation | None] | None = None,
    ) -> StageResult:
        """Train on groups, or take what a stage left that was done before an interruption."""
        torch = require("torch", extra="train")
        if processes.by_first((folder / DONE).is_file):
            restore(forward, folder / BEST)
            return StageResult(**json.loads((folder / DONE).read_text(encoding="utf-8")))
        folder.mkdir(parents=True, exist_ok=True)
        batches = Batches(
            groups_of,
            TokenStore(self.texts, lambda group: loss.targets(group, min_grade)),
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
            validation(batches) if validation else None,
            stage=stage,
            learning_rate=learning_rate,
            schedule=schedule,
            loss=lambda outputs, *others: loss.function(self.task.logits(outputs), *others),
            arguments=self.arguments,
            folder=folder,
            on_progress=self.on_progress,
        )

        def finish() -> None:
            write_json(folder / DONE, asdict(result))
            for save in folder.glob("checkpoint-*"):
                shutil.rmtree(save)

        processes.by_first(finish)
        return result

    def _validation(self, judged: Dataset, steps: int) -> Validation:
        """Return what the judged stage stops by, with `steps` in an epoch."""
        depth = depth_for(len(judged.qrels), pairs=EVALUATION_PAIRS, least=10)
        queries = self.queries(judged, depth)
        return Validation(
            self.measure.key,
            lambda forward: self.measure.of(queries, forward),
            max(1, steps // self.arguments.evaluations),
        )


def _chunks(groups: Iterable[TrainingGroup]) -> Iterator[list[TrainingGroup]]:
    every = iter(groups)
    return iter(lambda: list(itertools.islice(every, TOGETHER)), [])
