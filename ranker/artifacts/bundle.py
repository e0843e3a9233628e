"""The model folders on disk: the checkpoint of `ranker train`, the bundle of `ranker export`."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranker.artifacts.calibration import Calibration, calibration_of, why_uncalibrated
from ranker.artifacts.profile import default_profiles
from ranker.contract.encode import Encoder
from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError
from ranker.files import read_json, sha256, write_json

__all__ = ["Bundle", "Checkpoint", "check_hashes", "write_hashes"]

HASHES = "hashes.json"


@dataclass(frozen=True)
class Checkpoint:
    """A trained cross-encoder: transformers weights, tokenizer, spec, training report.

    Files: `model.safetensors`, `config.json`, `tokenizer.json`, `spec.json`, `training.json`,
    `loss.svg`, `README.md` (the model card, which is the user's to edit), `hashes.json`; of a
    cross-validation also `cv/` with the out-of-fold runs and the folds.
    """

    path: Path
    spec: TokenSpec
    tokenizer_json: str = field(repr=False)
    training: dict[str, Any] = field(repr=False)

    MARKER = "training.json"
    CARD = "README.md"

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Read and check a checkpoint folder.

        Raises:
            ArtifactError: the folder is not a checkpoint, or a file was changed.
        """
        training = read_json(path / cls.MARKER, what="checkpoint of `ranker train`")
        check_hashes(path, what="checkpoint", make="ranker train", skip=(cls.CARD,))
        spec = TokenSpec.from_dict(read_json(path / "spec.json", what="checkpoint"))
        return cls(path, spec, (path / "tokenizer.json").read_text(encoding="utf-8"), training)

    def encoder(self) -> Encoder:
        """Return the encoder of this checkpoint's contract."""
        return Encoder(self.spec, self.tokenizer_json)


@dataclass(frozen=True)
class Bundle:
    """A checked ONNX model with everything that belongs to it.

    Files: `model.onnx`, `tokenizer.json`, `spec.json`, `parity.json` (the export's check),
    `bundle.json` (blend weight, recommended profile, calibration, the gate's verdict and whether
    the export was forced, the report of its training, or the origin of an existing cross-encoder),
    `README.md` (the model card), `hashes.json`.
    """

    path: Path
    spec: TokenSpec
    tokenizer_json: str = field(repr=False)
    about: dict[str, Any] = field(repr=False)

    MARKER = "bundle.json"
    CARD = "README.md"

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read and check a bundle folder.

        Raises:
            ArtifactError: the folder is not a bundle, or a file was changed.
        """
        about = read_json(path / cls.MARKER, what="bundle of `ranker export`")
        check_hashes(path, what="bundle", make="ranker export", skip=(cls.CARD,))
        _check_about(about, path / cls.MARKER)
        spec = TokenSpec.from_dict(read_json(path / "spec.json", what="bundle"))
        return cls(path, spec, (path / "tokenizer.json").read_text(encoding="utf-8"), about)

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx"

    @property
    def blend_weight(self) -> float:
        """The logit's weight in the profile `blend`."""
        return float(self.about["blend_weight"])

    @property
    def calibration(self) -> Calibration | None:
        """The logit as a probability; None if that is not known."""
        return calibration_of(self.about)

    @property
    def uncalibrated(self) -> str | None:
        """Why there is no calibration; None if there is one."""
        return None if self.calibration else why_uncalibrated(self.about)

    @property
    def recommended_profile(self) -> str:
        """The rank profile that did best on queries held out of training."""
        return str(self.about["recommended_profile"])

    @property
    def verdict(self) -> str:
        """The ship gate's verdict: passed, not_better or unknown."""
        return str(self.about.get("verdict", "unknown"))

    @property
    def forced(self) -> bool:
        """True if it was exported although it is not better than BM25."""
        return bool(self.about.get("forced", False))

    @property
    def training(self) -> dict[str, Any] | None:
        """The report of `ranker train`; None for an existing cross-encoder."""
        report: dict[str, Any] | None = self.about["training"]
        return report

    @property
    def origin(self) -> dict[str, Any] | None:
        """The origin of an existing cross-encoder, as `open_cross_encoder` records it."""
        origin: dict[str, Any] | None = self.about.get("origin")
        return origin

    def encoder(self) -> Encoder:
        """Return the encoder of this bundle's contract."""
        return Encoder(self.spec, self.tokenizer_json)


def _check_about(about: object, path: Path) -> None:
    """Refuse a bundle.json without the values that serving needs.

    Raises:
        ArtifactError: one is missing or invalid.
    """
    values = about if isinstance(about, dict) else {}
    if values.get("task", "relevance") != "relevance":
        return  # no rank profiles
    weight = values.get("blend_weight")
    if not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ArtifactError(f"{path}: expected a blend_weight, got {weight!r}; make it again")
    try:
        calibration_of(values)
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; make it again") from error
    names = [profile.name for profile in default_profiles(weight)]
    if values.get("recommended_profile") not in names:
        raise ArtifactError(
            f"{path}: expected a recommended_profile of {', '.join(names)}, "
            f"got {values.get('recommended_profile')!r}; make it again"
        )


def write_hashes(folder: Path) -> None:
    """Write the hash of every other file of a folder to `hashes.json`, as the last step."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != HASHES)
    write_json(folder / HASHES, {p.relative_to(folder).as_posix(): sha256(p) for p in paths})


def check_hashes(folder: Path, *, what: str, make: str, skip: Collection[str] = ()) -> None:
    """Compare every file with `hashes.json`, except those to skip.

    Raises:
        ArtifactError: a file is missing or was changed.
    """
    hashes = read_json(folder / HASHES, what=what)
    damaged = f"the {what} {folder} is damaged"
    if not isinstance(hashes, dict) or not hashes:
        raise ArtifactError(f"{HASHES} lists no files; make it again: {make}", about=damaged)
    for name, expected in hashes.items():
        path = folder / name
        if name in skip:
            continue
        if not path.is_file():
            raise ArtifactError(f"{name} is missing; make it again: {make}", about=damaged)
        found = sha256(path)
        if found != expected:
            raise ArtifactError(
                f"{name} was changed after it was made (hash {found[:13]}, expected "
                f"{expected[:13]}); make it again: {make}",
                about=damaged,
            )
