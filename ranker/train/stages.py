"""A whole training run: split, warm-up on the corpus, judged queries, blend, checkpoint."""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.blend import HeldOut, held_out_figures
from ranker.bundle import Checkpoint, seal
from ranker.dataset import Dataset, require_trainable, split_queries
from ranker.dataset.groups import Group, Negatives, count_negatives, judged_groups, warmup_groups
from ranker.encode import Encoder
from ranker.errors import require
from ranker.files import check_replaceable, new_folder, write_json, write_text
from ranker.forward import forward_of
from ranker.lexical import BM25Index
from ranker.model import Base, freeze, load_weights, open_base
from ranker.train.arguments import TrainArguments
from ranker.train.batches import Batches, encode_groups, plan
from ranker.train.held_out import HeldOutQueries
from ranker.train.loop import BEST, OnProgress, StageResult, run_stage, uses_bfloat16
from ranker.train.plot import loss_plot

__all__ = ["train"]

logger = logging.getLogger(__name__)

EVALUATION_PAIRS = 1_000
"""Most pairs scored for one nDCG@10 while training: some ten seconds on two cores."""
FINAL_DEPTH = 100
CPU_CHUNK, GPU_CHUNK = 12, 4096
FINAL_PAIRS = 10_000


def train(
    dataset: Dataset,
    out: Path,
    *,
    arguments: TrainArguments,
    on_progress: OnProgress = lambda *_: None,
) -> Checkpoint:
    """Train a cross-encoder on judged queries and write its checkpoint.

    The run keeps its state in `.NAME.work` beside `out`, so that the same call after an
    interruption goes on where it stopped.

    Raises:
        DataError: the judgements cannot be learned from.
        ArtifactError: `out` holds something else.
        TrainError: training cannot go on.
        KeyboardInterrupt: after Ctrl-C; call again to go on.
    """
    check_replaceable(out, Checkpoint.MARKER)
    require_trainable(dataset)
    base = open_base(arguments.base)
    spec = base.spec(query_slots=arguments.query_slots, document_slots=arguments.document_slots)
    encoder = Encoder(spec, base.tokenizer_json)
    work = out.parent / f".{out.name}.work"
    try:
        _open_work(work, _identity(dataset, arguments))
        run = _Run(dataset, encoder, arguments, work, on_progress)
        model, stages = run.all_stages(base)
        figures = run.final_figures()
        report = _report(dataset, arguments, run, stages, figures)
        _write(out, base, encoder, model, report)
    except BaseException:
        if not _resumable(work):
            shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work)
    return Checkpoint.open(out)


class _Run:
    """What all stages of one run share."""

    def __init__(
        self,
        dataset: Dataset,
        encoder: Encoder,
        arguments: TrainArguments,
        work: Path,
        on_progress: OnProgress,
    ) -> None:
        self.encoder, self.arguments, self.work = encoder, arguments, work
        self.on_progress = on_progress
        self.bf16 = uses_bfloat16(arguments)
        self.began = time.monotonic()
        self.learn, self.held_out = split_queries(
            dataset, held_out=arguments.held_out, seed=arguments.seed
        )
        self.index = BM25Index(dataset.documents.values())
        depth = max(10, min(FINAL_DEPTH, EVALUATION_PAIRS // len(self.held_out.qrels)))
        self.watched = self._queries(depth)
        self.negatives = Negatives(
            count=arguments.negatives, random=arguments.random_negatives, depth=arguments.depth
        )
        self.sources: dict[str, dict[str, int]] = {}

    def all_stages(self, base: Base) -> tuple[Any, list[StageResult]]:
        """The trained model, and what each stage did."""
        transformers = require("transformers", extra="train")
        transformers.set_seed(self.arguments.seed)
        model = load_weights(base.source, dropout=self.arguments.dropout)
        self.forward, _ = forward_of(model, segments=self.encoder.spec.segments, fused=True)
        if self.arguments.freeze != "none":
            freeze(model, self.arguments.freeze)
        results = []
        if self.arguments.warmup:
            results.append(self._stage(self.forward, "warmup", self._warmup_plan()))
        if self.arguments.epochs:
            results.append(self._stage(self.forward, "judged", self._judged_plan()))
        return model, results

    def final_figures(self) -> HeldOut:
        """BM25, cross and blend on the held-out queries, at the depth of serving."""
        depth = max(20, min(FINAL_DEPTH, FINAL_PAIRS // len(self.held_out.qrels)))
        queries = self._queries(depth)
        return held_out_figures(queries.qrels, queries.bm25, queries.logits(self.forward))

    def _stage(self, forward: Any, stage: str, batches: list[Any]) -> StageResult:
        work = self.work / stage
        work.mkdir(parents=True, exist_ok=True)
        judged = stage == "judged"
        arguments = self.arguments
        per_epoch = len(batches) // max(arguments.epochs, 1) if judged else len(batches)
        return _once(
            work,
            forward,
            lambda: run_stage(
                forward,
                Batches(batches, self.encoder, chunk=_chunk()),
                self.watched,
                stage=stage,
                learning_rate=arguments.learning_rate if judged else arguments.warmup_learning_rate,
                evaluate_every=max(1, per_epoch // arguments.evaluations),
                keep_best=judged,
                arguments=arguments,
                work=work,
                on_progress=self.on_progress,
            ),
        )

    def _warmup_plan(self) -> list[Any]:
        arguments = self.arguments
        groups = warmup_groups(
            self.learn.documents,
            self.index,
            count=arguments.warmup_steps * arguments.groups,
            negatives=Negatives(count=arguments.negatives, random=2, depth=30)
            if arguments.negatives > 2
            else self.negatives,
            seed=arguments.seed,
        )
        return self._plan("warmup", groups, arguments.seed)

    def _judged_plan(self) -> list[Any]:
        batches = []
        for epoch in range(self.arguments.epochs):
            seed = self.arguments.seed + 1 + epoch
            groups = judged_groups(
                self.learn,
                self.index,
                negatives=self.negatives,
                seed=seed,
                relevant=self.arguments.relevant,
            )
            batches += self._plan("judged", groups, seed)
        return batches

    def _plan(self, stage: str, groups: list[Group], seed: int) -> list[Any]:
        counts = self.sources.setdefault(stage, {})
        for source, number in count_negatives(groups).items():
            counts[source] = counts.get(source, 0) + number
        encoded = encode_groups(groups, self.encoder)
        return plan(encoded, size=self.arguments.groups, seed=seed)

    def _queries(self, depth: int) -> HeldOutQueries:
        return HeldOutQueries(self.held_out, self.index, self.encoder, depth=depth, bf16=self.bf16)


def _chunk() -> int:
    """Pairs computed together: few on a CPU, a whole step on a GPU."""
    torch = require("torch", extra="train")
    return GPU_CHUNK if torch.cuda.is_available() else CPU_CHUNK


def _once(work: Path, forward: Any, stage: Any) -> StageResult:
    """Run a stage, or take what it left when it was done before an interruption."""
    torch = require("torch", extra="train")
    done = work / "done.json"
    if done.is_file():
        forward.load_state_dict(torch.load(work / BEST, weights_only=True))
        return StageResult(**json.loads(done.read_text(encoding="utf-8")))
    result: StageResult = stage()
    write_json(done, asdict(result))
    for save in work.glob("checkpoint-*"):
        shutil.rmtree(save)
    return result


def _identity(dataset: Dataset, arguments: TrainArguments) -> str:
    """Hash of everything that decides the result."""
    values = [__version__, dataset.sha256, dataset.split, arguments.to_dict()]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _open_work(work: Path, identity: str) -> None:
    """Make the folder with the state of this run, or go on with it; another run's is cleared."""
    mark = work / "identity"
    if work.exists() and (not mark.is_file() or mark.read_text(encoding="utf-8") != identity):
        logger.warning("%s is left from a training with other arguments or data; cleared", work)
        shutil.rmtree(work)
    if work.exists():
        logger.info("going on with the training that was interrupted")
    work.mkdir(parents=True, exist_ok=True)
    write_text(mark, identity)


def _resumable(work: Path) -> bool:
    """Whether a save or a finished stage is there to go on from."""
    return any(work.glob("*/checkpoint-*")) or any(work.glob("*/done.json"))


def _report(
    dataset: Dataset,
    arguments: TrainArguments,
    run: _Run,
    stages: list[StageResult],
    figures: HeldOut,
) -> dict[str, Any]:
    """The content of training.json."""
    values = asdict(figures)
    return {
        "arguments": arguments.to_dict(),
        "precision": "bf16" if run.bf16 else "fp32",
        "blend_weight": values.pop("blend_weight"),
        "recommended_profile": values.pop("recommended_profile"),
        "held_out": values,
        "held_out_query_ids": sorted(run.held_out.qrels),
        "history": [row for stage in stages for row in stage.history],
        "evaluations": [row for stage in stages for row in stage.evaluations],
        "stages": [
            {"best_step": stage.best_step, "stopped_early": stage.stopped_early} for stage in stages
        ],
        "documents_by_source": run.sources,
        "data": {
            "name": dataset.name,
            "split": dataset.split,
            "sha256": dataset.sha256,
            "queries": len(dataset.qrels),
            "judgements": sum(len(row) for row in dataset.qrels.values()),
            "documents": len(dataset.documents),
        },
        "seconds": round(time.monotonic() - run.began, 1),
        "ranker_version": __version__,
    }


def _write(out: Path, base: Base, encoder: Encoder, model: Any, report: dict[str, Any]) -> None:
    transformers = require("transformers", extra="train")
    with new_folder(out, replace_marker=Checkpoint.MARKER) as folder:
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(base.source).save_pretrained(folder)
        write_text(folder / "tokenizer.json", base.tokenizer_json)
        write_json(folder / "spec.json", encoder.spec.to_dict())
        write_text(folder / "loss.svg", loss_plot(report))
        write_json(folder / Checkpoint.MARKER, report)
        seal(folder)
