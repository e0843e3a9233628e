"""A training run as a whole: its stages, what held-out queries or folds say, the checkpoint."""

import contextlib
import hashlib
import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.artifacts.bundle import Checkpoint, write_hashes
from ranker.contract.encode import Encoder
from ranker.dataset import Dataset, require_trainable, split_queries
from ranker.dataset.collection import same_collection
from ranker.dataset.synthetic import synthetic_sha256
from ranker.errors import ArtifactError, UsageError
from ranker.files import check_replaceable, new_folder, read_json, write_json, write_text
from ranker.metrics.blend import held_out_figures
from ranker.metrics.gate import unknown
from ranker.metrics.plots import training_curves
from ranker.model.base import Base, open_base
from ranker.model.card import card
from ranker.model.interchange import save_model
from ranker.model.lora import merge_lora
from ranker.model.provenance import DataProvenance, environment, model_provenance
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.folds.cross_validation import cross_validate
from ranker.train.loop import OnProgress, StageResult
from ranker.train.run_directory import (
    is_resumable,
    note_spent,
    open_work,
    reserve,
    spent_on,
    work_of,
)
from ranker.train.stages import Stages
from ranker.train.teacher import Teacher, require_scores

__all__ = ["train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """A trained model, what each stage did, and what is known of the model's worth.

    `report` is what training.json says of it, `files` are texts that lie beside it.
    """

    model: Any
    stages: list[StageResult]
    report: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)


def train(
    dataset: Dataset,
    out: Path,
    *,
    arguments: TrainArguments,
    source: DataProvenance | None = None,
    fold_workers: int = 1,
    on_progress: OnProgress = lambda *_: None,
) -> Checkpoint:
    """Train a cross-encoder on judged queries and write its checkpoint.

    The run keeps its state in `.NAME.work` beside `out`, so that the same call after an
    interruption goes on where it stopped.

    Args:
        dataset: judged queries.
        out: folder of the checkpoint.
        arguments: everything that decides the result, but data and machine.
        source: where the data came from, for the provenance; `reproduce` needs it.
        fold_workers: folds of a cross-validation at once, as far as memory allows.  The threads
            are shared among them, so that figures may differ in the last digits.
        on_progress: told of each step and evaluation.

    Raises:
        UsageError: the loss needs a teacher's scores and there are none.
        DataError: the judgements cannot be learned from.
        ArtifactError: `out` holds something else, or the teacher is no cross-encoder.
        TrainError: training cannot go on.
        KeyboardInterrupt: after Ctrl-C; call again to go on.
    """
    check_replaceable(out, Checkpoint.MARKER)
    require_trainable(dataset)
    require_scores(dataset, arguments)
    _require_room(arguments, fold_workers)
    processes.join()
    base = open_base(arguments.base)
    before = _learned_before(base, dataset)
    _require_unseen(before, dataset, arguments)
    spec = base.spec(query_slots=arguments.query_slots, document_slots=arguments.document_slots)
    encoder = Encoder(spec, base.tokenizer_json)
    teacher = _teacher(arguments)
    provenance = {
        "base": model_provenance(base),
        "teacher": teacher.provenance if teacher else None,
        "versions": environment(processes=processes.count()),
    }
    work = work_of(out)
    with _at_work(work) as spent:
        decisive = _decisive(dataset, arguments, provenance)
        processes.by_first(lambda: open_work(work, decisive))
        stages = Stages(base, dataset, encoder, arguments, on_progress, teacher=teacher)
        if arguments.cv:
            outcome = _with_folds(stages, dataset, work, fold_workers)
        else:
            outcome = _with_held_out(stages, dataset, work)
        report = _report(dataset, stages, outcome) | provenance
        report["learned_query_ids"] = sorted({*before, *report["learned_query_ids"]})
        report["source"] = source.to_dict() if source else None
        report["fold_workers"] = fold_workers
        report["seconds"] = round(spent(), 1)
        processes.by_first(lambda: _write(out, stages, outcome, report))
    return Checkpoint.open(out)


@contextlib.contextmanager
def _at_work(work: Path) -> Iterator[Callable[[], float]]:
    """The folder for this training alone; it stays where an interrupted one can go on from it.

    Gives a function that tells how many seconds went into it, those before an interruption, too.
    """
    began = time.monotonic()

    def spent() -> float:
        return spent_on(work) + time.monotonic() - began

    with contextlib.ExitStack() as held:
        processes.by_first(lambda: reserve(work, held=held))
        try:
            yield spent
        except BaseException:
            if processes.is_first() and is_resumable(work):
                with contextlib.suppress(ArtifactError):  # the disk is full, say
                    note_spent(work, spent())
            elif processes.is_first():
                shutil.rmtree(work, ignore_errors=True)
            raise
        processes.by_first(lambda: shutil.rmtree(work))


def _decisive(dataset: Dataset, arguments: TrainArguments, provenance: dict[str, Any]) -> list[Any]:
    """Everything that decides the result, as plain values."""
    synthetic = arguments.synthetic
    return [
        __version__,
        dataset.sha256,
        _order(dataset),
        dataset.split,
        dataset.teacher_scores,
        arguments.to_dict(),
        provenance["base"]["files"],
        provenance["teacher"],
        synthetic and synthetic_sha256(Path(synthetic)),
    ]


def _order(dataset: Dataset) -> str:
    """Hash of the order of documents and queries, which decides what is drawn."""
    digest = hashlib.sha256()
    for id_ in itertools.chain(dataset.documents, dataset.qrels):
        digest.update(f"{id_}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _require_room(arguments: TrainArguments, fold_workers: int) -> None:
    """Refuse several processes that would have folds of their own, or nothing to do in a step."""
    count, parts = processes.count(), arguments.gradient_accumulation_steps
    if fold_workers > 1 and count > 1:
        raise UsageError(
            f"{count} processes train each fold together; leave --fold-workers at 1, or start "
            "without a launcher"
        )
    if count * parts > arguments.batch_size:
        raise UsageError(
            f"{count} processes with {parts} parts of a step each need at least {count * parts} "
            f"queries in a step, got --batch-size {arguments.batch_size}"
        )


def _learned_before(base: Base, dataset: Dataset) -> set[str]:
    """Return the judged queries that the base has learned from, if it is a checkpoint of ranker.

    Raises:
        ArtifactError: its training.json is damaged.
    """
    path = Path(base.source) / Checkpoint.MARKER
    if not path.is_file():
        return set()
    training = read_json(path, what="checkpoint of `ranker train`")
    collection = {"name": dataset.name, "sha256": dataset.sha256}
    if not same_collection(collection, training.get("data", {})):
        return set()
    return set(dataset.qrels) & set(training.get("learned_query_ids", ()))


def _require_unseen(before: set[str], dataset: Dataset, arguments: TrainArguments) -> None:
    """Refuse folds that the base has seen; without folds nothing rests on the held-out figures."""
    if not before:
        return
    found = (
        f"the base {arguments.base} has learned from {len(before)} of the {len(dataset.qrels)} "
        f"judged queries of {dataset.name}"
    )
    if arguments.cv:
        raise UsageError(
            f"{found}: out of fold or not, it has seen them, and the gate would mean nothing; "
            "start --cv from the base of that training"
        )
    logger.warning("%s: held-out figures will be too good", found)


def _teacher(arguments: TrainArguments) -> Teacher | None:
    """The teacher, if the run names one; it is opened to see that it is one."""
    teacher = Teacher.of(arguments)
    if teacher is not None:
        teacher.load()
    return teacher


def _with_held_out(stages: Stages, dataset: Dataset, work: Path) -> _Outcome:
    """Train on a part of the queries, stop by the others, and say what they say."""
    arguments = stages.arguments
    learned, held_out = split_queries(dataset, held_out=arguments.held_out, seed=arguments.seed)
    model, forward = stages.start()
    results = list(stages.without_judgements(forward, work))
    if arguments.epochs:
        results.append(stages.learn(forward, learned, work / "judged", held_out=held_out))
    queries = stages.queries(held_out)
    logits = stages.logits(queries, forward, "held-out queries: scores")
    figures = asdict(held_out_figures(queries.qrels, queries.bm25, logits))
    report = {
        "blend_weight": figures.pop("blend_weight"),
        "recommended_profile": figures.pop("recommended_profile"),
        "held_out": figures,
        "held_out_query_ids": sorted(held_out.qrels),
        "learned_query_ids": sorted(learned.qrels) if arguments.epochs else [],
        "gate": unknown(len(held_out.qrels)),
        "cv": None,
    }
    return _Outcome(model, results, report)


def _with_folds(stages: Stages, dataset: Dataset, work: Path, workers: int) -> _Outcome:
    """Cross-validate, then train on all queries as many steps as the folds chose."""
    found = cross_validate(stages, dataset, work, workers=workers)
    model, forward = stages.start(found.weights)
    results = list(found.before)
    if found.steps:
        results.append(
            stages.learn(
                forward,
                dataset,
                work / "judged",
                held_out=None,
                steps=found.steps,
                schedule=found.schedule,
            )
        )
    means = {name: found.gate["runs"][name]["mean"] for name in ("bm25", "cross", "blend")}
    report = {
        "blend_weight": found.blend_weight,
        "recommended_profile": found.gate["recommended_profile"],
        "held_out": {"queries": len(dataset.qrels), **means},
        "held_out_query_ids": [],
        "learned_query_ids": sorted(dataset.qrels),
        "gate": found.gate,
        "cv": found.to_dict(),
    }
    curves = {f"fold {record['fold']}": record for record in found.records}
    plot = training_curves(curves, ident="folds", background="white")
    files = {**found.files(), "folds.svg": plot}
    return _Outcome(model, results, report, {f"cv/{name}": text for name, text in files.items()})


def _report(dataset: Dataset, stages: Stages, outcome: _Outcome) -> dict[str, Any]:
    """The content of training.json, but for what the run rests on."""
    return {
        **outcome.report,
        "arguments": stages.arguments.to_dict(),
        "precision": stages.precision,
        "history": [row for stage in outcome.stages for row in stage.history],
        "evaluations": [row for stage in outcome.stages for row in stage.evaluations],
        "stages": [
            {
                "stage": stage.stage,
                "steps": stage.steps,
                "best_step": stage.best_step,
                "stopped_early": stage.stopped_early,
            }
            for stage in outcome.stages
        ],
        "documents_by_source": {stage.stage: stage.documents_by_source for stage in outcome.stages},
        "synthetic": stages.synthetic.to_dict() if stages.synthetic else None,
        "data": {
            "name": dataset.name,
            "split": dataset.split,
            "sha256": dataset.sha256,
            "queries": len(dataset.qrels),
            "judgements": sum(len(row) for row in dataset.qrels.values()),
            "documents": len(dataset.documents),
        },
        "ranker_version": __version__,
    }


def _write(out: Path, stages: Stages, outcome: _Outcome, report: dict[str, Any]) -> None:
    base, spec = stages.base, stages.encoder.spec
    if stages.arguments.lora_rank:
        merge_lora(outcome.model)
    with new_folder(out, replace_marker=Checkpoint.MARKER) as folder:
        save_model(outcome.model, base, spec, folder)
        write_json(folder / "spec.json", spec.to_dict())
        for name, text in outcome.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_text(folder / name, text)
        write_text(folder / "loss.svg", training_curves({"": report}, background="white"))
        write_text(folder / Checkpoint.CARD, card(report, name=out.name))
        write_json(folder / Checkpoint.MARKER, report)
        write_hashes(folder)
