"""The folders of a report: evaluations, checkpoints and bundles, recognized by a marker file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.artifacts.bundle import HASHES, Bundle, Checkpoint
from ranker.errors import ArtifactError, UsageError
from ranker.evaluate import Evaluation
from ranker.files import read_json

__all__ = ["Sources", "read_folders"]


@dataclass(frozen=True)
class Sources:
    """The folders of a report, by kind, each in the given order."""

    evaluations: tuple[Evaluation, ...]
    checkpoints: tuple[Checkpoint, ...]
    bundles: tuple[Bundle, ...]

    def trainings(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return every different training report, with its folder."""
        trainings: list[tuple[Path, dict[str, Any]]] = []
        candidates = [(item.path, item.training) for item in self.checkpoints]
        candidates += [(item.path, item.training) for item in self.bundles if item.training]
        for path, training in candidates:
            # A bundle repeats the report of its checkpoint.
            if all(training != other for _, other in trainings):
                trainings.append((path, training))
        return trainings

    def training_of(self, evaluation: Evaluation) -> dict[str, Any] | None:
        """Return the training of the evaluated model, or its origin, if the folders have it.

        A bundle is recognized by its model's hash.  A checkpoint has no ONNX model; if there is
        only one, and no bundle, it is accepted if it has the same token contract.
        """
        for bundle in self.bundles:
            if model_sha256(bundle) == evaluation.figures["model_sha256"]:
                return bundle.training or {"origin": bundle.origin}
        same = [
            checkpoint.training
            for checkpoint in self.checkpoints
            if checkpoint.spec.fingerprint == evaluation.figures["fingerprint"]
        ]
        return same[0] if len(same) == 1 and not self.bundles else None


def read_folders(folders: Sequence[Path]) -> Sources:
    """Read every folder as what it is.

    Raises:
        UsageError: there is no folder.
        ArtifactError: a folder is not of one of the three kinds, or is damaged.
    """
    if not folders:
        raise UsageError("expected at least one folder to report on, got none")
    kinds: dict[type, list[Any]] = {Evaluation: [], Checkpoint: [], Bundle: []}
    for folder in folders:
        kind = _kind(folder)
        kinds[kind].append(kind.open(folder))
    return Sources(tuple(kinds[Evaluation]), tuple(kinds[Checkpoint]), tuple(kinds[Bundle]))


def model_sha256(bundle: Bundle) -> str:
    """Return the hash of a bundle's ONNX file, as it was when the bundle was made."""
    return str(read_json(bundle.path / HASHES, what="bundle")[bundle.model.name])


def _kind(folder: Path) -> type[Evaluation] | type[Bundle] | type[Checkpoint]:
    for kind in (Evaluation, Bundle, Checkpoint):
        if (folder / kind.MARKER).is_file():
            return kind
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}")
    raise ArtifactError(
        f"cannot report on {folder}: expected an evaluation ({Evaluation.MARKER}), a checkpoint "
        f"({Checkpoint.MARKER}) or a bundle ({Bundle.MARKER})"
    )
