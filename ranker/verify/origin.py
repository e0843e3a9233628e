"""What a package's model was exported from, where it still lies about.

`package.toml` in the package names the bundle; otherwise bundles are looked for beside the
package.  `export.toml` in the bundle names the checkpoint, and so does the origin in the bundle
itself, if others trained the model; otherwise it is looked for beside the bundle.  A folder is
taken only if it is the right one: the bundle has the package's model, the checkpoint the bundle's
training report, and of others' cross-encoders every file the hash that the bundle records.
"""

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.bundle import Bundle, Checkpoint
from ranker.errors import ArtifactError, RankerError
from ranker.files import sha256
from ranker.model.interchange import is_cross_encoder, open_cross_encoder, open_origin
from ranker.package.application import Package

__all__ = ["Lost", "find_checkpoint", "named_checkpoint"]


@dataclass(frozen=True)
class Lost:
    """There is nothing to compare with, and why."""

    reason: str = "there is no checkpoint"


def find_checkpoint(package: Package) -> Checkpoint | Lost:
    """The package's own checkpoint, or the cross-encoder that was exported.

    Raises:
        MissingExtra: transformers, with which a cross-encoder is opened, is not installed.
        RankerError: the cross-encoder is the right one, and cannot be opened.
    """
    lost = Lost()
    for bundle in _bundles(package):
        found = _trained(bundle) if bundle.origin is None else _of_others(bundle)
        if isinstance(found, Checkpoint):
            return found
        lost = found
    return lost


def named_checkpoint(path: Path, package: Package) -> Checkpoint:
    """The checkpoint at a path, or a cross-encoder: a folder, or a Hugging Face id.

    Of an id it is the revision that the package's bundle records, where that is found.

    Raises:
        ArtifactError: it is no checkpoint.
        RankerError: as `open_cross_encoder`.
    """
    if not is_cross_encoder(path):
        return Checkpoint.open(path)
    origins = [bundle.origin for bundle in _bundles(package) if bundle.origin]
    revisions = [o["revision"] for o in origins if o["name"] == path.as_posix()]
    spec = package.spec
    return open_cross_encoder(
        path,
        revision=revisions[0] if revisions else None,
        query_slots=spec.query_slots,
        document_slots=spec.document_slots,
        text_fields=spec.text_fields,
    )


def _trained(bundle: Bundle) -> Checkpoint | Lost:
    """The checkpoint of `ranker train` with the bundle's training report."""
    for folder in _places(bundle.path, "export", "checkpoint"):
        try:
            checkpoint = Checkpoint.open(folder)
        except RankerError:
            continue
        if checkpoint.training == bundle.about.get("training"):
            return checkpoint
    return Lost()


def _of_others(bundle: Bundle) -> Checkpoint | Lost:
    """The cross-encoder with the bundle's hashes; of the places that are named it says why not."""
    origin = bundle.origin or {}
    named = [str(origin["source"])] if "source" in origin else []  # else an older bundle
    named += _saved(bundle.path, "export", "checkpoint")
    reasons = []
    for source in [*named, *(str(folder) for folder in _beside(bundle.path))]:
        try:
            return open_origin(origin, source, bundle.spec)
        except ArtifactError as error:
            reasons.append(str(error))
    return Lost(reasons[0]) if named else Lost()


def _bundles(package: Package) -> Iterator[Bundle]:
    for folder in _places(package.path, "package", "bundle"):
        try:
            bundle = Bundle.open(folder)
        except RankerError:
            continue
        if sha256(bundle.model) == package.manifest.model_sha256:
            yield bundle


def _places(made: Path, verb: str, key: str) -> list[Path]:
    """Where what a folder was made from may lie."""
    return [*(Path(name) for name in _saved(made, verb, key)), *_beside(made)]


def _saved(made: Path, verb: str, key: str) -> list[str]:
    """What the options that made a folder say it was made from."""
    try:
        options = tomllib.loads((made / f"{verb}.toml").read_text(encoding="utf-8"))
        return [str(options[verb][key])]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # not made by the command line


def _beside(made: Path) -> list[Path]:
    """Folders beside this one that can be entered."""
    try:
        folders = sorted(made.resolve().parent.iterdir())
        return [folder for folder in folders if folder.is_dir() and os.access(folder, os.X_OK)]
    except OSError:
        return []  # a folder that one may enter but not list
