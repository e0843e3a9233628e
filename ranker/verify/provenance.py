"""The checkpoint or cross-encoder that a package's model was exported from, if it is still there.

`package.toml` in the package names the bundle; otherwise bundles are searched for next to the
package.  `export.toml` in the bundle names the checkpoint, and so does the bundle itself if its
model is an existing cross-encoder; otherwise it is searched for next to the bundle.  A folder is
accepted only if it is the right one: a bundle must have the package's model, a checkpoint the
bundle's training report, and a cross-encoder the hashes that the bundle records.
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

__all__ = ["NotFound", "find_checkpoint", "named_checkpoint"]


@dataclass(frozen=True)
class NotFound:
    """The reason why there is no checkpoint to compare with."""

    reason: str = "there is no checkpoint"


def find_checkpoint(package: Package) -> Checkpoint | NotFound:
    """Find the package's own checkpoint, or the cross-encoder that was exported.

    Raises:
        MissingExtra: transformers, with which a cross-encoder is opened, is not installed.
        RankerError: the cross-encoder is the right one, but cannot be opened.
    """
    result: Checkpoint | NotFound = NotFound()
    for bundle in _bundles(package):
        result = _trained(bundle) if bundle.origin is None else _cross_encoder(bundle)
        if isinstance(result, Checkpoint):
            break
    return result


def named_checkpoint(path: Path, package: Package) -> Checkpoint:
    """Open a checkpoint, or a cross-encoder by its folder or Hugging Face id.

    Of an id, the revision is opened that the package's bundle records, if the bundle is found.

    Raises:
        ArtifactError: `path` is not a checkpoint.
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


def _trained(bundle: Bundle) -> Checkpoint | NotFound:
    """Find the checkpoint of `ranker train` with the bundle's training report."""
    named = [Path(name) for name in _saved_option(bundle.path, "export", "checkpoint")]
    for folder in [*named, *_neighbours(bundle.path)]:
        try:
            checkpoint = Checkpoint.open(folder)
        except RankerError:
            continue
        if checkpoint.training == bundle.about.get("training"):
            return checkpoint
    return NotFound()


def _cross_encoder(bundle: Bundle) -> Checkpoint | NotFound:
    """Find the cross-encoder with the bundle's hashes, or why the one that is named is not it."""
    origin = bundle.origin or {}
    named = [str(origin["source"])] if "source" in origin else []  # older bundles have none
    named += _saved_option(bundle.path, "export", "checkpoint")
    reasons = []
    for source in [*named, *map(str, _neighbours(bundle.path))]:
        try:
            return open_origin(origin, source, bundle.spec)
        except ArtifactError as error:
            reasons.append(str(error))
    return NotFound(reasons[0]) if named else NotFound()


def _bundles(package: Package) -> Iterator[Bundle]:
    named = [Path(name) for name in _saved_option(package.path, "package", "bundle")]
    for folder in [*named, *_neighbours(package.path)]:
        try:
            bundle = Bundle.open(folder)
        except RankerError:
            continue
        if sha256(bundle.model) == package.manifest.model_sha256:
            yield bundle


def _saved_option(folder: Path, verb: str, key: str) -> list[str]:
    """Read an option of the verb that made a folder; nothing if the command line did not."""
    try:
        options = tomllib.loads((folder / f"{verb}.toml").read_text(encoding="utf-8"))
        return [str(options[verb][key])]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _neighbours(folder: Path) -> list[Path]:
    """List the readable folders next to this one."""
    try:
        folders = sorted(folder.resolve().parent.iterdir())
        return [other for other in folders if other.is_dir() and os.access(other, os.X_OK)]
    except OSError:
        return []  # a parent that may be entered but not listed
