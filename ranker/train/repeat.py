"""A training once more, from the report that it left: same options, same data, same weights."""

import logging
from pathlib import Path
from typing import Any

from ranker.artifacts.bundle import Checkpoint
from ranker.dataset import load
from ranker.dataset.synthetic import check_synthetic
from ranker.errors import ArtifactError, DataError, UsageError
from ranker.files import read_json
from ranker.model.base import open_base
from ranker.model.provenance import DataProvenance, check_base, check_data, environment
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.loop import OnProgress
from ranker.train.run import train

__all__ = ["reproduce"]

logger = logging.getLogger(__name__)


def reproduce(
    report: Path,
    out: Path,
    *,
    data: str | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Checkpoint:
    """Train again with the options and the data of an earlier training.

    On the same machine with the same versions the weights come out the same; what differs is
    logged as a warning.

    Args:
        report: `training.json` of the earlier one, or its folder.
        out: folder of the new checkpoint.
        data: where the data lies now; None for where it was.
        on_progress: told of each step and evaluation.

    Raises:
        UsageError: `out` is the folder of the earlier training.
        ArtifactError: the report cannot be reproduced, or the base model has changed.
        DataError: the data is gone or has changed; the message names the file.
    """
    path = report / Checkpoint.MARKER if report.is_dir() else report
    if out.resolve() == path.parent.resolve():
        raise UsageError(f"{out} is the training to repeat; name another folder with --out")
    training = read_json(path, what="checkpoint of `ranker train`")
    arguments, before = _arguments(training, path), _source(training, path)
    found = DataProvenance.of(
        data or before.data,
        format=before.format,
        split=before.split,
        skip_bad=before.skip_bad,
        license=before.license,
    )
    check_data(before, found)
    dataset = load(found.data, format=before.format, split=before.split, skip_bad=before.skip_bad)
    if dataset.sha256 != training["data"]["sha256"]:
        raise DataError(
            f"{found.data} is not what the training read: sha256 of its content "
            f"{dataset.sha256[:13]}, expected {training['data']['sha256'][:13]}"
        )
    check_base(training["base"], open_base(arguments.base))
    if arguments.teacher and training.get("teacher"):
        check_base(training["teacher"], open_base(arguments.teacher))
    if arguments.synthetic and training.get("synthetic"):
        check_synthetic(Path(arguments.synthetic), training["synthetic"]["sha256"])
    _tell_differences(training["versions"])
    return train(
        dataset,
        out,
        arguments=arguments,
        source=found,
        fold_workers=training["fold_workers"],
        on_progress=on_progress,
    )


def _arguments(training: Any, path: Path) -> TrainArguments:
    try:
        return TrainArguments(**training["arguments"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: its arguments are not those of this version of ranker ({error})"
        ) from error


def _source(training: dict[str, Any], path: Path) -> DataProvenance:
    missing = sorted({"base", "versions", "fold_workers", "data"} - training.keys())
    source = training.get("source")
    if missing or not source:
        raise ArtifactError(
            f"{path} does not say where its data came from: it is older than --reproduce, or was "
            "trained from Python without `source`"
        )
    return DataProvenance(**source)


def _tell_differences(versions: dict[str, Any]) -> None:
    """Say which versions and which parts of the machine are others now."""
    now = environment(processes=processes.count())
    other = [
        f"{name} {now.get(name)} (was {before})"
        for name, before in versions.items()
        if now.get(name) != before
    ]
    if other:
        logger.warning("the weights may come out otherwise: %s", ", ".join(other))
