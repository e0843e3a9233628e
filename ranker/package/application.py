"""The application package: a bundle as a Vespa application, on disk and as text.

The schema, the query profile and its type come from pyvespa.  Rank profiles are files of their
own (`ranker.package.profiles`), and pyvespa cannot choose the cluster ids in services.xml, which
is text here.
A package is also a model that `ranker package --into` added to an existing application.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ranker import __version__
from ranker.artifacts.bundle import HASHES, Bundle, check_hashes, write_hashes
from ranker.artifacts.calibration import Calibration
from ranker.artifacts.installation import RECORDS, Installation, content_hash, records
from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile, default_profiles
from ranker.contract import vespa_names
from ranker.contract.encode import Encoder
from ranker.contract.fields import FIELDS, Field
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import FLOAT, Storage, TensorType
from ranker.errors import ArtifactError, UsageError, require
from ranker.files import link_or_copy, new_folder, read_json, sha256, write_json, write_text
from ranker.package.profiles import ProfileContext, render_profiles

__all__ = [
    "DEFAULT_SPEC",
    "Package",
    "default_texts",
    "differences",
    "differences_from",
    "is_own",
    "render",
    "write",
]

_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")

MODEL_FILE = f"files/{vespa_names.MODEL}.onnx"
"""In files/, not models/: Vespa imports everything in models/ a second time."""

DEFAULT_SPEC = TokenSpec(
    cls_id=101,
    sep_id=102,
    pad_id=0,
    segments=True,
    vocabulary_size=30522,
    max_positions=512,
    tokenizer_sha256="0" * 64,
)
"""The contract of the committed default application, which has no model: BERT, 32 + 96."""


@dataclass(frozen=True)
class Package:
    """A model in an application package, read and checked.

    Attributes:
        path: folder of the application package.
        manifest: its names and contract.
        tokenizer_json: content of the tokenizer.
        model: the ONNX file.
        own: True if the whole application was made by `ranker package --out`; otherwise the model
            was added to an existing application.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    tokenizer_json: str = field(repr=False)
    model: Path
    own: bool = True

    MARKER = "manifest.json"

    @classmethod
    def open(cls, path: Path, *, model: bool = True) -> "Package":
        """Read and check an application package, or one model in an application.

        Args:
            path: the folder; where an application holds several models, the record of one, as
                `APP/ext/ranker/NAME.json`.
            model: False if the ONNX file is not needed, so that it is not checked.

        Raises:
            ArtifactError: the folder is not a package of ranker, it holds several models, or a
                file was changed.
        """
        records = _records(path)
        if not records:
            return _open_own(path, model=model)
        if len(records) > 1:
            names = ", ".join(map(str, records))
            raise ArtifactError(f"{path} holds several models; name one of them: {names}")
        return _open_installed(records[0], model=model)

    @classmethod
    def every(cls, path: Path, *, model: bool = True) -> list["Package"]:
        """Read and check all models of an application package.

        Args:
            path: the folder.
            model: False if the ONNX files are not needed, so that they are not checked.

        Raises:
            ArtifactError: as for `open`.
        """
        records = _records(path)
        if not records:
            return [_open_own(path, model=model)]
        return [_open_installed(record, model=model) for record in records]

    @property
    def spec(self) -> TokenSpec:
        """The token contract."""
        return self.manifest.spec

    def encoder(self) -> Encoder:
        """Return the encoder of this package's contract."""
        return Encoder(self.spec, self.tokenizer_json)

    def require_own(self, who: str) -> None:
        """Refuse a model in an existing application.

        Args:
            who: the program that takes only packages of `ranker package --out`.

        Raises:
            ArtifactError: this is not such a package.
        """
        if not self.own:
            raise ArtifactError(
                f"{who} runs packages of `ranker package --out` only: {self.path} is an "
                f"application with a schema of its own ({self.manifest.schema}) and rank features "
                "that only Vespa computes; deploy it to Vespa (docker, server or cloud)"
            )


def _records(path: Path) -> list[Path]:
    """Return the records of the models in an existing application; none for our own packages."""
    if path.is_file() and path.resolve().parent.parts[-2:] == tuple(RECORDS.split("/")):
        return [path.resolve()]
    return [] if is_own(path) else records(path)


def is_own(path: Path) -> bool:
    """Return True if a folder is a package of `ranker package --out`."""
    return all((path / name).is_file() for name in (Package.MARKER, HASHES))


def _open_own(path: Path, *, model: bool = True) -> Package:
    if (path / "services.xml").is_file() and not (path / Package.MARKER).is_file():
        raise ArtifactError(
            f"{path} is a Vespa application without a model: {Package.MARKER} is missing; add one: "
            "ranker package BUNDLE --into"
        )
    values = read_json(path / Package.MARKER, what="application package of `ranker package`")
    skip = () if model else (MODEL_FILE,)
    check_hashes(path, what="application package", make="ranker package", skip=skip)
    tokenizer = (path / "files" / "tokenizer.json").read_text(encoding="utf-8")
    return Package(path, Manifest.from_dict(values), tokenizer, path / MODEL_FILE)


def _open_installed(record: Path, *, model: bool = True) -> Package:
    """Open a model in an application; its rank profiles are not checked, they may be tuned."""
    installed = Installation.open(record)
    app = record.parents[2]
    for name in (installed.tokenizer, *([installed.model] if model else [])):
        try:
            same = content_hash(app / name) == installed.files.get(name)
        except OSError as error:
            raise ArtifactError(
                f"{app / name} cannot be read ({error.strerror}); add the model again: "
                "ranker package --into"
            ) from error
        if not same:
            raise ArtifactError(
                f"{app / name} was changed after it was added; add the model again: "
                "ranker package --into"
            )
    tokenizer = (app / installed.tokenizer).read_text(encoding="utf-8")
    return Package(app, installed.manifest, tokenizer, app / installed.model, own=False)


def render(
    spec: TokenSpec,
    profiles: Sequence[Profile],
    *,
    application: str = "ranker",
    storage: Storage = FLOAT,
    calibration: Calibration | None = None,
) -> dict[str, str]:
    """Return the application as text: path in the package to content."""
    context = ProfileContext(
        spec=spec,
        storage=storage,
        model_file=MODEL_FILE,
        match_fields=(vespa_names.CONTENTS,),
        shown_fields=(vespa_names.CONTENTS, vespa_names.TITLE),
        token_field=vespa_names.DOC_TOKEN_IDS,
        fingerprint_field=vespa_names.TOKEN_FINGERPRINT,
        show_logit=True,
        calibration=calibration,
    )
    pyvespa = _pyvespa_package(context, application)
    return {
        "services.xml": _services(),
        f"schemas/{vespa_names.SCHEMA}.sd": _tidy(pyvespa.schema.schema_to_text),
        **{
            f"schemas/{vespa_names.SCHEMA}/{name}.profile": text
            for name, text in render_profiles(profiles, context).items()
        },
        "search/query-profiles/default.xml": _tidy(pyvespa.query_profile_to_text),
        "search/query-profiles/types/root.xml": _tidy(pyvespa.query_profile_type_to_text),
    }


def write(
    bundle: Bundle, out: Path, *, application: str = "ranker", storage: Storage = FLOAT
) -> Package:
    """Write the application package of a bundle.

    Raises:
        SpecError: the storage does not hold every id of the vocabulary.
        ArtifactError: `out` holds something else.
        MissingExtra: pyvespa is not installed.
    """
    manifest = _manifest(bundle, application, storage)
    with new_folder(out, replace_marker=Package.MARKER) as folder:
        _write_texts(_texts(manifest), folder)
        (folder / "files").mkdir()
        link_or_copy(bundle.model, folder / MODEL_FILE)
        write_text(folder / "files" / "tokenizer.json", bundle.tokenizer_json)
        write_json(folder / Package.MARKER, manifest.to_dict())
        write_hashes(folder)
    return Package.open(out)


def write_default(out: Path, *, storage: Storage = FLOAT) -> None:
    """Write the default application as text, without a model: the committed `vespa_app/`."""
    _write_texts(default_texts(storage=storage), out)


def default_texts(application: str = "ranker", *, storage: Storage = FLOAT) -> dict[str, str]:
    """Return the default application as text."""
    profiles = default_profiles(1.0)
    return render(DEFAULT_SPEC, profiles, application=application, storage=storage)


def differences(folder: Path, texts: dict[str, str]) -> list[str]:
    """Return a line for each file of a folder that is missing or differs from its text."""
    lines = []
    for name, text in texts.items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{path} is missing")
        elif path.read_text(encoding="utf-8") != text:
            lines.append(f"{path} differs from what the code writes")
    return lines


def differences_from(
    bundle: Bundle, folder: Path, *, application: str, storage: Storage = FLOAT
) -> list[str]:
    """Return a line for each difference of a package from what `write` makes of the bundle.

    Raises:
        ArtifactError: `folder` is not an application package, or a file of it was changed.
    """
    manifest = _manifest(bundle, application, storage)
    found = differences(folder, {**_texts(manifest), "files/tokenizer.json": bundle.tokenizer_json})
    if not found:
        there = Package.open(folder).manifest.to_dict()
        wanted = manifest.to_dict()
        found = [
            f"{folder / Package.MARKER}: {name} is {there.get(name)!r}, not {value!r}"
            for name, value in wanted.items()
            if there.get(name) != value
        ]
    return found


def _manifest(bundle: Bundle, application: str, storage: Storage) -> Manifest:
    return Manifest(
        application=application,
        namespace=vespa_names.NAMESPACE,
        schema=vespa_names.SCHEMA,
        spec=bundle.spec,
        profiles=default_profiles(bundle.blend_weight),
        recommended_profile=bundle.recommended_profile,
        timeout_s=vespa_names.TIMEOUT_S,
        model_sha256=sha256(bundle.model),
        ranker_version=__version__,
        storage=storage,
        calibration=bundle.calibration,
        uncalibrated=bundle.uncalibrated,
    )


def _texts(manifest: Manifest) -> dict[str, str]:
    return render(
        manifest.spec,
        manifest.profiles,
        application=manifest.name,
        storage=manifest.storage,
        calibration=manifest.calibration,
    )


def _write_texts(texts: dict[str, str], folder: Path) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


def _pyvespa_package(context: ProfileContext, application: str) -> Any:
    vespa = require("vespa.package", extra="vespa")
    if not _NAME.fullmatch(application):
        raise UsageError(
            "an application's name has at most 20 lower-case letters and digits, a letter first; "
            f"got {application!r}"
        )
    return vespa.ApplicationPackage(
        name=application,
        schema=[_schema(vespa, context.token_type)],
        query_profile=vespa.QueryProfile(
            fields=[
                vespa.QueryField(name="timeout", value=f"{vespa_names.TIMEOUT_S:g}"),
                vespa.QueryField(name="model.language", value="en"),
            ]
        ),
        query_profile_type=vespa.QueryProfileType(
            # Only the tensor: a double declared here and in a profile makes every query fail
            # in Vespa ("Could not set 'ranking.features.query(token_fingerprint)' ... is null").
            fields=[
                vespa.QueryTypeField(name=f"ranking.features.query({name})", type=kind)
                for name, kind in context.inputs.items()
                if kind.startswith("tensor")
            ]
        ),
    )


def _schema(vespa: ModuleType, tokens: TensorType) -> Any:
    fields = [
        vespa.Field(
            field.name,
            field.type_name(tokens),
            indexing=_indexing(field),
            index="enable-bm25" if field.indexed else None,
            attribute=["paged"] if field.kind == "tokens" else None,
            is_document_field=field.kind != "contents",
        )
        for field in FIELDS
    ]
    ids = vespa.DocumentSummary(
        vespa_names.IDS_SUMMARY,
        summary_fields=[vespa.Summary(vespa_names.ID)],
        omit_summary_features=True,
    )
    return vespa.Schema(
        vespa_names.SCHEMA,
        document=vespa.Document(fields=fields),
        fieldsets=[vespa.FieldSet("default", [vespa_names.CONTENTS])],
        document_summaries=[ids],
    )


def _indexing(field: Field) -> list[str] | tuple[str, ...]:
    """Return what Vespa does with a field: one statement as a list, several as a tuple."""
    # Vespa would guess the language of each text, and stem one with `Café NAÏVE` in it as French.
    english = '"en" | set_language'
    if field.kind == "contents":
        texts = [f'(input {text.name} || "")' for text in FIELDS if text.kind == "text"]
        return english, ' . " " . '.join(texts) + " | index"
    if field.indexed:
        return english, f"input {field.name} | index | summary"
    return ["attribute"] * field.attribute + ["summary"] * field.summary


def _services() -> str:
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<services version="1.0">
    <container id="default" version="1.0">
        <search/>
        <document-api/>
        <document-processing/>
    </container>
    <content id="content" version="1.0">
        <redundancy>1</redundancy>
        <documents>
            <document type="{vespa_names.SCHEMA}" mode="index"/>
        </documents>
        <nodes>
            <node distribution-key="0" hostalias="node1"/>
        </nodes>
    </content>
</services>
"""


def _tidy(text: str) -> str:
    """Remove spaces at the ends of lines, and end the text with one line end."""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
