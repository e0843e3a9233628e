"""A training run as a whole: its stages, what held-out queries or folds say, the checkpoint.

The same training can be reproduced from the report that it left.
"""

import contextlib
import hashlib
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.artifacts.bundle import Checkpoint, write_hashes
from ranker.contract.encode import Encoder
from ranker.dataset import Dataset, load, require_trainable, split_queries
from ranker.dataset.collection import same_collection
from ranker.dataset.synthetic import check_synthetic, synthetic_sha256
from ranker.errors import ArtifactError, DataError, UsageError
from ranker.files import check_replaceable, new_folder, read_json, write_json, write_text
from ranker.metrics.plots import training_curves
from ranker.model.base import Base, open_base
from ranker.model.card import card
from ranker.model.heads.similarity import HeadChoice
from ranker.model.interchange import save_model
from ranker.model.lora import merge_lora
from ranker.model.provenance import (
    DataProvenance,
    check_base,
    check_data,
    environment,
    model_provenance,
)
from ranker.model.task import TASKS
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.loop import OnProgress, StageResult
from ranker.train.run_directory import RunDirectory
from ranker.train.stages import Stages
from ranker.train.tasks import TRAININGS, TaskTraining
from ranker.train.teacher import Teacher, require_scores

__all__ = ["read_training", "reproduce", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """A trained model and what is known of it.

    Attributes:
        model: the weights, with their adapters.
        stages: what each stage did.
        report: what training.json says of the model.
        files: texts of the checkpoint, by their path in it.
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

    The run keeps its state in `.NAME.work` next to `out`, so that the same call resumes an
    interrupted training.

    Args:
        dataset: judged queries.
        out: folder of the checkpoint.
        arguments: everything that decides the result, except data and machine.
        source: where the data came from; `reproduce` needs it.
        fold_workers: folds of a cross-validation at once, as far as memory allows.  They share the
            threads, so figures may differ in the last digits.
        on_progress: called at each step and evaluation.

    Raises:
        UsageError: the loss needs a teacher's scores and there are none.
        DataError: the judgements cannot be learned from.
        ArtifactError: `out` holds something else, or the teacher is not a cross-encoder.
        TrainError: training cannot continue.
        KeyboardInterrupt: after Ctrl-C; call again to resume.
    """
    check_replaceable(out, Checkpoint.MARKER)
    require_trainable(dataset)
    require_scores(dataset, arguments)
    _require_room(arguments, fold_workers)
    processes.join()
    base = open_base(arguments.base, head=_head(arguments))
    if base.head == "similarity" and arguments.freeze == "base":
        raise UsageError(
            "--freeze base leaves nothing to train: the head on similarity has no weights of its "
            "own; freeze embeddings, or use --head cls"
        )
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
    directory = RunDirectory(out)
    with directory.reserved():
        decisive = _decisive(dataset, arguments, provenance)
        processes.by_first(lambda: directory.resume(decisive))
        stages = Stages(
            base,
            dataset,
            encoder,
            arguments,
            on_progress,
            directory=directory.path,
            measure=TRAININGS[arguments.task].MEASURE,
            teacher=teacher,
        )
        with contextlib.closing(stages):
            outcome = _outcome(stages, dataset, directory.path, fold_workers)
            report = {
                **_report(dataset, stages, outcome, before),
                **provenance,
                "source": source.to_dict() if source else None,
                "fold_workers": fold_workers,
                "seconds": round(directory.seconds(), 1),
            }
            processes.by_first(lambda: _write(out, stages, outcome, report))
    return Checkpoint.open(out)


def reproduce(
    report: Path,
    out: Path,
    *,
    data: str | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Checkpoint:
    """Train again with the options and the data of an earlier training.

    On the same machine with the same versions the weights are the same; differences are logged as
    a warning.

    Args:
        report: `training.json` of the earlier one, or its folder.
        out: folder of the new checkpoint.
        data: where the data is now, if it was moved.
        on_progress: called at each step and evaluation.

    Raises:
        UsageError: `out` is the folder of the earlier training.
        ArtifactError: the report cannot be reproduced, or the base model has changed.
        DataError: the data is gone or has changed; the message names the file.
    """
    if out.resolve() == _marker(report).parent.resolve():
        raise UsageError(f"{out} is the training to repeat; name another folder with --out")
    training, arguments, before = read_training(report)
    reading: dict[str, Any] = {
        "format": before.format,
        "split": before.split,
        "skip_bad": before.skip_bad,
    }
    now = DataProvenance.of(data or before.data, **reading, license=before.license)
    check_data(before, now)
    dataset = load(now.data, **reading)
    if dataset.sha256 != training["data"]["sha256"]:
        raise DataError(
            f"{now.data} is not what the training read: sha256 of its content "
            f"{dataset.sha256[:13]}, expected {training['data']['sha256'][:13]}"
        )
    check_base(training["base"], open_base(arguments.base))
    if arguments.teacher and training.get("teacher"):
        check_base(training["teacher"], open_base(arguments.teacher))
    if arguments.synthetic and training.get("synthetic"):
        check_synthetic(Path(arguments.synthetic), training["synthetic"]["sha256"])
    _warn_of_changes(training["versions"])
    return train(
        dataset,
        out,
        arguments=arguments,
        source=now,
        fold_workers=training["fold_workers"],
        on_progress=on_progress,
    )


def _warn_of_changes(versions: Mapping[str, Any]) -> None:
    """Log which versions and which parts of the machine differ from those recorded."""
    now = environment(processes=processes.count())
    changed = [
        f"{name} {now.get(name)} (was {value})"
        for name, value in versions.items()
        if now.get(name) != value
    ]
    if changed:
        logger.warning("the weights may differ: %s", ", ".join(changed))


def read_training(report: Path) -> tuple[dict[str, Any], TrainArguments, DataProvenance]:
    """Return an earlier training's report, its arguments and its data.

    Args:
        report: its `training.json`, or the folder with it.

    Raises:
        ArtifactError: it lacks them, or is of another version.
    """
    path = _marker(report)
    training = read_json(path, what="checkpoint of `ranker train`")
    try:
        arguments = TrainArguments(**training["arguments"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: its arguments are not those of this version of ranker ({error})"
        ) from error
    missing = {"base", "versions", "fold_workers", "data"} - training.keys()
    if missing or not training.get("source"):
        raise ArtifactError(
            f"{path} does not say where its data came from: it is older than --reproduce, or was "
            "trained from Python without `source`"
        )
    return training, arguments, DataProvenance(**training["source"])


def _marker(report: Path) -> Path:
    return report / Checkpoint.MARKER if report.is_dir() else report


def _decisive(dataset: Dataset, arguments: TrainArguments, provenance: dict[str, Any]) -> list[Any]:
    """Return everything that decides the result, as plain values."""
    synthetic = arguments.synthetic
    order = hashlib.sha256()  # of documents and queries, which decides what is sampled
    for id_ in itertools.chain(dataset.documents, dataset.qrels):
        order.update(f"{id_}\0".encode(errors="surrogatepass"))
    return [
        __version__,
        dataset.sha256,
        order.hexdigest(),
        dataset.split,
        dataset.teacher_scores,
        arguments.to_dict(),
        provenance["base"]["files"],
        provenance["teacher"],
        synthetic and synthetic_sha256(Path(synthetic)),
    ]


def _require_room(arguments: TrainArguments, fold_workers: int) -> None:
    """Raise UsageError for processes that would have folds of their own, or no part of a step."""
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
    """Raise UsageError for folds that the base has seen; warn of such held-out queries."""
    if not before:
        return
    seen = (
        f"the base {arguments.base} has learned from {len(before)} of the {len(dataset.qrels)} "
        f"judged queries of {dataset.name}"
    )
    if arguments.cv:
        raise UsageError(
            f"{seen}; it has seen every fold, so the verdict of the gate would be meaningless: "
            "start --cv from the base of that training"
        )
    logger.warning("%s: held-out figures will be too good", seen)


def _head(arguments: TrainArguments) -> HeadChoice:
    """Return the wanted head; only a single output can be a similarity."""
    return arguments.head if TASKS[arguments.task].outputs == 1 else "cls"


def _teacher(arguments: TrainArguments) -> Teacher | None:
    """Return the teacher that the run names, after checking that it can be loaded."""
    teacher = Teacher.of(arguments)
    if teacher is not None:
        teacher.load()
    return teacher


def _outcome(stages: Stages, dataset: Dataset, directory: Path, fold_workers: int) -> _Outcome:
    """Train, and measure on folds or on held-out queries."""
    part = TRAININGS[stages.arguments.task]
    if stages.arguments.cv:
        return _with_folds(part, stages, dataset, directory, fold_workers)
    return _with_held_out(part, stages, dataset, directory)


def _with_held_out(
    part: TaskTraining, stages: Stages, dataset: Dataset, directory: Path
) -> _Outcome:
    """Train on a part of the queries, and stop and measure by the others."""
    arguments = stages.arguments
    learned, held_out = split_queries(dataset, held_out=arguments.held_out, seed=arguments.seed)
    start = stages.before_judgements(lambda: stages.queries(learned), directory, always=False)
    model, forward = stages.start(start.weights.get(start.best(learned.qrels)))
    results = list(start.results)
    if arguments.epochs:
        results.append(stages.learn(forward, learned, directory / "judged", validation=held_out))
    report = {
        **part.conclude(stages, forward, held_out),
        "start": start.report(learned.qrels),
        "held_out_query_ids": sorted(held_out.qrels),
        "learned_query_ids": sorted(learned.qrels) if arguments.epochs else [],
        "cv": None,
    }
    return _Outcome(model, results, report)


def _with_folds(
    part: TaskTraining, stages: Stages, dataset: Dataset, directory: Path, workers: int
) -> _Outcome:
    """Cross-validate, then train on all queries as far as the folds chose."""
    folds = part.cross_validate(stages, dataset, directory, workers=workers)
    model, forward = stages.start(folds.weights)
    results = list(folds.before)
    if folds.steps:
        results.append(
            stages.learn(
                forward,
                dataset,
                directory / "judged",
                validation=None,
                steps=folds.steps,
                schedule=folds.schedule,
            )
        )
    report = {
        **folds.report(),
        "held_out_query_ids": [],
        "learned_query_ids": sorted(dataset.qrels) if folds.steps else [],
    }
    files = {f"cv/{name}": text for name, text in folds.files().items()}
    return _Outcome(model, results, report, files)


def _report(
    dataset: Dataset, stages: Stages, outcome: _Outcome, before: set[str]
) -> dict[str, Any]:
    """Return the content of training.json except for what the run rests on.

    `before` are the queries that the base has learned from.
    """
    return {
        **outcome.report,
        "learned_query_ids": sorted({*before, *outcome.report["learned_query_ids"]}),
        "learned_by_base": len(before),
        "arguments": stages.arguments.to_dict(),
        "head": stages.base.head,
        "precision": stages.precision,
        "measure": stages.measure.name,
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
    """Write the checkpoint."""
    base, spec = stages.base, stages.encoder.spec
    if stages.arguments.lora_rank:
        merge_lora(outcome.model)
    with new_folder(out, replace_marker=Checkpoint.MARKER) as folder:
        save_model(outcome.model, base, spec, folder)
        write_json(folder / "spec.json", spec.to_dict())
        for name, text in outcome.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_text(folder / name, text)
        curves = training_curves({"": report}, measure=report["measure"], background="white")
        write_text(folder / "loss.svg", curves)
        write_text(folder / Checkpoint.CARD, card(report, name=out.name))
        write_json(folder / Checkpoint.MARKER, report)
        write_hashes(folder)
