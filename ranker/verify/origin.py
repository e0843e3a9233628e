"""The checkpoint that a package was made from, where it still lies about.

`package.toml` in the package names the bundle, `export.toml` in the bundle the checkpoint;
otherwise both are looked for beside the package.  A folder is taken only if it is the right one:
the bundle has the package's model, the checkpoint the bundle's training report.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from ranker.bundle import Bundle, Checkpoint
from ranker.errors import RankerError
from ranker.files import sha256
from ranker.package import Package

__all__ = ["find_checkpoint"]


def find_checkpoint(package: Package) -> Checkpoint | None:
    """The package's checkpoint, or None where it is not to be found."""
    for bundle in _bundles(package):
        for folder in _folders(bundle.path, Checkpoint.MARKER, saved="export", key="checkpoint"):
            try:
                checkpoint = Checkpoint.open(folder)
            except RankerError:
                continue
            if checkpoint.training == bundle.about.get("training"):
                return checkpoint
    return None


def _bundles(package: Package) -> Iterator[Bundle]:
    for folder in _folders(package.path, Bundle.MARKER, saved="package", key="bundle"):
        try:
            bundle = Bundle.open(folder)
        except RankerError:
            continue
        if sha256(bundle.model) == package.manifest.model_sha256:
            yield bundle


def _folders(made: Path, marker: str, *, saved: str, key: str) -> list[Path]:
    """Folders with this marker: the one that the saved options name, then those beside."""
    found = []
    try:
        options = tomllib.loads((made / f"{saved}.toml").read_text(encoding="utf-8"))
        found.append(Path(str(options[saved][key])))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not made by the command line
    parent = made.resolve().parent
    try:
        found += sorted(parent.iterdir())
    except OSError:
        pass  # a folder that one may enter but not list
    return [folder for folder in found if (folder / marker).is_file()]
