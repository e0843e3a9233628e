"""The engine's checks of a package before it serves it: it serves all of it, or refuses it.

Vespa acts on every file of a package, the engine on those that `ranker package` writes.  A package
with a file that Vespa would act on and the engine does not know is therefore refused: served, it
would not be the application that was deployed.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from ranker.artifacts.bundle import HASHES
from ranker.artifacts.installation import RECORDS
from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.contract import vespa_names
from ranker.contract.fields import FIELDS
from ranker.errors import ArtifactError
from ranker.export.score import Scorer
from ranker.files import read_json
from ranker.package.application import MODEL_FILE, Package
from ranker.package.archive import package_files

__all__ = ["admit", "open_scorer", "unused_files"]

_ACTED_ON = ("schemas", "searchdefinitions", "search", "models", "components", "constants", "files")
"""Folders of a package whose files decide what Vespa serves."""

_FIELD = re.compile(r"^\s*field\s+(\w+)\s+type\s+(\S+)", re.MULTILINE)
_NAMES = {
    "text_fields": (vespa_names.TITLE, vespa_names.TEXT),
    "match_fields": (vespa_names.CONTENTS,),
    "id_field": vespa_names.ID,
    "token_field": vespa_names.DOC_TOKEN_IDS,
    "fingerprint_field": vespa_names.TOKEN_FINGERPRINT,
    "ids_summary": vespa_names.IDS_SUMMARY,
}
"""The names of the engine's own schema."""

_WORD = re.compile(r"[A-Za-z_][\w-]*")
_NUMBERS = ("bm25_weight", "logit_weight", "rerank_count")


def admit(folder: Path) -> Package:
    """Open a package and check that the engine can serve all of it; the model is not loaded.

    Raises:
        RankerError: the engine cannot serve it; the message says why.
    """
    if folder.is_file() or any((folder / RECORDS).glob("*.json")):
        # It is not opened: a record from the network may name any file of this machine.
        raise ArtifactError(
            "the embedded engine runs packages of `ranker package --out` only, and this is an "
            "application with a schema of its own and rank features that only Vespa computes; "
            "deploy it to Vespa (docker, server or cloud)",
            about=folder,
        )
    _check_names(folder)
    package = Package.open(folder)
    manifest = package.manifest
    _check_manifest(manifest)
    _check_schema(folder, manifest)
    package.encoder()  # raises if the tokenizer is not that of the token contract
    if read_json(folder / HASHES, what="package").get(MODEL_FILE) != manifest.model_sha256:
        raise ArtifactError(
            f"{MODEL_FILE} is not the model that {Package.MARKER} names; make the package again: "
            "ranker package"
        )
    return package


def unused_files(folder: Path) -> list[str]:
    """Return the files of an admitted package that the engine does not use."""
    own = {HASHES, "package.toml"}  # the latter holds the options of `ranker package`
    return sorted(set(package_files(folder)) - _listed(folder) - own)


def open_scorer(package: Package) -> Scorer:
    """Open the package's model and try it on two pairs.

    Raises:
        RankerError: it does not load, or does not score pairs as a cross-encoder of ranker does.
    """
    scorer = Scorer(package.model, package.spec)
    # A short and a full pair with the last id find a wrong shape or too small a vocabulary.
    last = package.spec.vocabulary_size - 1
    try:
        logits = scorer.logits([last], [[last], [last] * package.spec.document_tokens])
    except Exception as error:  # ONNX Runtime raises classes of its own
        scorer.close()
        reason = (str(error).splitlines() or [""])[0]
        raise ArtifactError(
            f"{MODEL_FILE} does not score a pair ({type(error).__name__}: {reason}); expected "
            f"the inputs {', '.join(vespa_names.ONNX_INPUTS)} and one logit for each pair"
        ) from error
    if not all(map(math.isfinite, logits)):
        scorer.close()
        raise ArtifactError(f"{MODEL_FILE} gives {logits.tolist()} where logits are expected")
    return scorer


def _check_names(folder: Path) -> None:
    """Refuse files that Vespa would act on and that `ranker package` did not write."""
    present, listed = set(package_files(folder)), _listed(folder)
    if missing := sorted(listed - present):
        raise ArtifactError(f"{missing[0]} is missing; make the package again: ranker package")
    for name in sorted(present - listed - {HASHES}):
        if name.split("/")[0] in _ACTED_ON or name == "services.xml":
            raise ArtifactError(
                f"{name} is not from `ranker package`: the embedded engine serves what that "
                "writes and nothing else; leave the file out, or deploy to Vespa"
            )


def _listed(folder: Path) -> set[str]:
    """Return the files that the package's hashes cover."""
    read_json(folder / Package.MARKER, what="application package of `ranker package`")
    hashes = read_json(folder / HASHES, what="application package of `ranker package`")
    return set(hashes) if isinstance(hashes, dict) else set()


def _check_manifest(manifest: Manifest) -> None:
    """Refuse values that would only fail at a query."""
    problems = [
        f"{name} must be a word, got {value!r}"
        for name in ("application", "namespace", "schema")
        if not isinstance(value := getattr(manifest, name), str) or not _WORD.fullmatch(value)
    ]
    for profile in manifest.profiles:
        problems += _profile_problems(profile)
    for name, expected in _NAMES.items():
        if (got := getattr(manifest, name)) != expected:
            problems.append(f"{name} must be {expected!r}, got {got!r}")
    names = [profile.name for profile in manifest.profiles]
    if len(set(names)) != len(names) or manifest.recommended_profile not in names:
        problems.append(f"no profile is named {manifest.recommended_profile!r}, or one is twice")
    if not _is_number(manifest.timeout_s) or manifest.timeout_s <= 0:
        problems.append(f"timeout_s must be a positive number, got {manifest.timeout_s!r}")
    if problems:
        raise ArtifactError(f"{Package.MARKER} cannot be served: {'; '.join(problems)}")


def _profile_problems(profile: Profile) -> list[str]:
    problems = [
        f"{name} of the profile {profile.name!r} must be a number, got {value!r}"
        for name in _NUMBERS
        if not _is_number(value := getattr(profile, name))
    ]
    if profile.phase not in ("first", "second", "global"):
        problems.append(f"phase of the profile {profile.name!r} cannot be {profile.phase!r}")
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_schema(folder: Path, manifest: Manifest) -> None:
    """Refuse a schema that is not the engine's own."""
    schemas = [name for name in package_files(folder) if name.endswith(".sd")]
    expected = f"schemas/{manifest.schema}.sd"
    if schemas != [expected]:
        raise ArtifactError(f"expected one schema, {expected}, got: {_list(schemas)}")
    text = (folder / expected).read_text(encoding="utf-8")
    kinds = {field.name: field.type_name(manifest.token_type) for field in FIELDS}
    declared = dict(_FIELD.findall(text))
    different = sorted(n for n in {*kinds, *declared} if kinds.get(n) != declared.get(n))
    if different:
        name = different[0]
        raise ArtifactError(
            f"{expected}: the embedded engine expects the field {name} to be "
            f"{kinds.get(name, 'absent')}, got {declared.get(name, 'none')}; its schema is that of "
            "`ranker package`"
        )
    profiles = sorted(profile.name for profile in manifest.profiles)
    written = sorted(path.stem for path in (folder / "schemas" / manifest.schema).glob("*.profile"))
    if profiles != written:
        raise ArtifactError(
            f"expected a file for each rank profile of {Package.MARKER} ({_list(profiles)}), "
            f"got: {_list(written)}"
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
