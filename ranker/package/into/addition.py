"""Adding a model to an existing application."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ranker import __version__
from ranker.artifacts.bundle import Bundle
from ranker.artifacts.installation import (
    Insertion,
    Installation,
    content_hash,
    model_file,
    record_file,
    tokenizer_file,
)
from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.contract.fields import TOKEN_FIELDS
from ranker.contract.storage import FLOAT, Storage
from ranker.errors import ArtifactError, UsageError
from ranker.files import sha256
from ranker.package.into.application import Application
from ranker.package.into.insertion import insert, token_fields
from ranker.package.into.plan import Plan
from ranker.package.into.ranking import Ranking, name_profiles, require_free, require_heir
from ranker.package.into.schema import Field, Schema
from ranker.package.into.tree import parents
from ranker.package.into.view import ApplicationView
from ranker.package.profiles import ProfileContext

__all__ = ["NAME", "install"]

NAME = "ranker"
"""The default name of a model."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_NAMESPACE = re.compile(r"[^\s:\x00-\x1f\x7f-\x9f]+")


def install(
    bundle: Bundle,
    app: Path,
    *,
    schema: str,
    text_fields: Sequence[str],
    name: str = NAME,
    inherits: str | None = None,
    namespace: str | None = None,
    storage: Storage = FLOAT,
) -> Plan:
    """Work out how to add a model to an application, next to others that it may have.

    An existing model of that name is replaced; if it is the same, nothing changes.

    Args:
        bundle: the model.
        app: folder of the application package.
        schema: the schema whose documents it ranks.
        text_fields: fields of its document with the text: the title's first, then the others.
        name: the model's name, with which its files and rank profiles begin.
        inherits: a rank profile of that schema to keep as the first phase; by default the first
            phase is bm25 over the text fields.
        namespace: of the documents that `ranker feed` makes; the schema's name by default.
        storage: the form in which token ids are stored.

    Raises:
        UsageError: there is no such schema, field or rank profile, or a name is not allowed.
        ArtifactError: the application does not fit, or has files of these names.
        SpecError: the storage does not hold every id of the vocabulary.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name must be letters, digits and _, a letter first; got {name!r}")
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise UsageError(
            "--namespace must have a character, and no colon, space or control character; "
            f"got {namespace!r}"
        )
    return _Addition(
        view=ApplicationView.open(app, name),
        bundle=bundle,
        name=name,
        schema=schema,
        text_fields=tuple(text_fields),
        inherits=inherits,
        namespace=namespace or schema,
        storage=storage,
    ).plan()


@dataclass(frozen=True)
class _Tokens:
    """The fields that hold a model's token ids, and the lines that declare them."""

    token_field: str
    fingerprint_field: str
    insertion: Insertion | None


@dataclass(frozen=True, kw_only=True)
class _Addition:
    """One model on its way into an application; see `install`."""

    view: ApplicationView
    bundle: Bundle
    name: str
    schema: str
    text_fields: tuple[str, ...]
    inherits: str | None
    namespace: str
    storage: Storage

    def plan(self) -> Plan:
        """Make all changes in the view."""
        self.view.drop_files()
        application = self.view.application()
        self._check_texts(application, application.schema(self.schema))
        tokens = self._token_fields()
        application = self.view.application()
        schema = application.schema(self.schema)
        match_fields = self._match_fields(application, schema)
        ranking, notes = self._ranking(application, schema, match_fields, tokens)
        manifest = Manifest(
            application=None,
            model=self.name,
            namespace=self.namespace,
            schema=schema.name,
            spec=self.bundle.spec,
            profiles=ranking.profiles,
            recommended_profile=ranking.recommended,
            timeout_s=vespa_names.TIMEOUT_S,
            model_sha256=sha256(self.bundle.model),
            ranker_version=__version__,
            text_fields=self.text_fields,
            match_fields=match_fields,
            id_field=None,
            token_field=tokens.token_field,
            fingerprint_field=tokens.fingerprint_field,
            ids_summary=None,
            storage=self.storage,
            calibration=self.bundle.calibration,
            uncalibrated=self.bundle.uncalibrated,
        )
        files = self._write_files(schema, ranking)
        # The record is written last: without one, there is no model.
        return self._write_record(manifest, files, tokens.insertion, notes)

    def _check_texts(self, application: Application, schema: Schema) -> None:
        """Require text fields that are strings of the document itself, and searchable.

        Raises:
            UsageError: one is not; the message says what to do for each.
        """
        names = self.text_fields
        if not names or len(set(names)) < len(names):
            raise UsageError(f"--text-fields must name different fields, got {', '.join(names)}")
        fields = application.fields(schema)
        problems = [self._text_problem(application, schema, fields, name) for name in names]
        problems = [problem for problem in problems if problem]
        if not problems and not any(fields[name].indexed for name in names):
            problems = ["none of the text fields is indexed, so no question finds a document"]
        if problems:
            raise UsageError(f"{schema.file}: {'; '.join(problems)}")

    def _text_problem(
        self, application: Application, schema: Schema, fields: dict[str, Field], name: str
    ) -> str:
        if name in schema.imported:
            return (
                f"{name} is imported from a parent document; token ids are of a document's own text"
            )
        if name in schema.fields:
            return f"{name} is outside the document block, so it cannot be fed"
        if name not in fields:
            return f"no field {name}; the document has: {', '.join(fields) or 'no fields'}"
        field = fields[name]
        if field.type != "string":
            return f"{name} is of type {field.type}, expected string"
        if self.inherits is None and not (field.indexed and application.bm25(schema, name)):
            return (
                f"{name} is not indexed for bm25, the first phase: give the field the lines "
                "`indexing: index | summary` and `index: enable-bm25`, or keep a first phase of "
                "your own with --inherits PROFILE"
            )
        return ""

    def _token_fields(self) -> _Tokens:
        """Return the fields of a model with the same ids, or declare new ones."""
        view, application = self.view, self.view.application()
        schema = application.schema(self.schema)
        fields, above = application.fields(schema), application.above(schema)
        wanted = (self.bundle.spec, self.storage, self.text_fields)
        for model in view.models:
            manifest = model.manifest
            names = (manifest.token_field, manifest.fingerprint_field)
            same = (manifest.spec, manifest.storage, manifest.text_fields) == wanted
            if same and manifest.schema in above and self._fit(fields, names):
                if model is not view.old and view.old and view.old.insertion != model.insertion:
                    view.drop_lines()
                return _Tokens(*names, model.insertion)
        view.drop_lines()
        return self._new_token_fields()

    def _new_token_fields(self) -> _Tokens:
        """Declare new fields, or take those that were added by hand."""
        application = self.view.application()
        schema = application.schema(self.schema)
        names = (vespa_names.DOC_TOKEN_IDS, vespa_names.TOKEN_FINGERPRINT)
        others = {model.manifest.token_field for model in self.view.others}
        if names[0] not in others and self._fit(application.fields(schema), names):
            return _Tokens(*names, None)
        if application.taken(schema) & set(names):
            names = (f"{names[0]}_{self.name}", f"{names[1]}_{self.name}")
        taken = application.taken(schema) & set(names)
        if taken:
            raise UsageError(
                f"schema {schema.name} has {', '.join(sorted(taken))} already, but not for these "
                "token ids; give the model another --name"
            )
        return _Tokens(*names, self._declare(application, schema, names))

    def _fit(self, fields: dict[str, Field], names: tuple[str, str]) -> bool:
        """Return True if fields can hold the token ids and the fingerprint."""
        tokens = self.storage.tensor_type(self.bundle.spec.document_tokens)
        return all(
            (field := fields.get(name)) is not None
            and field.attribute
            and field.type == wanted.type_name(tokens)
            for name, wanted in zip(names, TOKEN_FIELDS, strict=True)
        )

    def _declare(
        self, application: Application, schema: Schema, names: tuple[str, str]
    ) -> Insertion:
        """Insert the fields into the document block, and check that nothing else changed."""
        tree, before, spec = self.view.tree, application.fields(schema), self.bundle.spec
        tokens = self.storage.tensor_type(spec.document_tokens)
        lines = token_fields(spec, tokens, self.text_fields, names)
        by_hand = f"add these lines to its document block by hand, then run it again:\n{lines}"
        if (tree.root / schema.file).is_symlink():
            raise ArtifactError(f"{tree.root / schema.file} is a link, not a file; {by_hand}")
        document = application.document(schema)
        text, insertion = insert(tree.text(schema.file), schema.file, document, lines)
        tree.write(schema.file, text)
        changed = self.view.application()
        after = changed.fields(changed.schema(schema.name))
        if {**after, **before} != after or set(after) != {*before, *names}:
            raise ArtifactError(f"{schema.file} cannot be edited safely; {by_hand}")
        return insertion

    def _match_fields(self, application: Application, schema: Schema) -> tuple[str, ...]:
        fields = application.fields(schema)
        return tuple(name for name in self.text_fields if fields[name].indexed)

    def _ranking(
        self,
        application: Application,
        schema: Schema,
        match_fields: tuple[str, ...],
        tokens: _Tokens,
    ) -> tuple[Ranking, tuple[str, ...]]:
        """Return the rank profiles, with names that are free, and notes about them."""
        with_bm25 = tuple(name for name in match_fields if application.bm25(schema, name))
        context = ProfileContext(
            spec=self.bundle.spec,
            storage=self.storage,
            model_file=model_file(self.name),
            match_fields=match_fields,
            shown_fields=with_bm25,
            token_field=tokens.token_field,
            fingerprint_field=tokens.fingerprint_field,
            show_logit=False,
            calibration=self.bundle.calibration,
        )
        if self.inherits is not None:
            require_heir(application, schema, self.inherits, context)
        blend = with_bm25 == match_fields
        ranking = name_profiles(
            self.bundle, context, self.name, inherits=self.inherits, blend=blend
        )
        require_free(application, schema, ranking.texts)
        if blend:
            return ranking, ()
        without = ", ".join(match_fields)
        return ranking, (
            f"no rank profile {self.name}_blend: {without} are not all indexed for bm25",
        )

    def _write_files(self, schema: Schema, ranking: Ranking) -> dict[str, str]:
        """Write the files of the model and return their hashes.

        Raises:
            ArtifactError: the application has one of that name.
        """
        tree, folder = self.view.tree, PurePosixPath(schema.file).parent / schema.name
        contents: dict[str, bytes | Path] = {
            model_file(self.name): self.bundle.model,
            tokenizer_file(self.name): self.bundle.tokenizer_json.encode(),
            **{f"{folder}/{name}.profile": text.encode() for name, text in ranking.texts.items()},
        }
        for file, content in contents.items():
            if tree.holds(file):
                raise ArtifactError(
                    f"{tree.root / file} exists already and was not written by `ranker package`; "
                    "give the model another --name"
                )
            tree.write(file, content)
        return {file: content_hash(content) for file, content in contents.items()}

    def _write_record(
        self,
        manifest: Manifest,
        files: dict[str, str],
        insertion: Insertion | None,
        notes: tuple[str, ...],
    ) -> Plan:
        tree, old = self.view.tree, self.view.old
        known = {folder for model in self.view.models for folder in model.folders}
        folders = {
            folder
            for file in [*files, record_file(self.name)]
            for folder in parents(file)
            if folder in known or not (tree.root / folder).exists()
        }
        made = Installation(
            manifest=manifest, files=files, insertion=insertion, folders=tuple(sorted(folders))
        )
        tree.write(made.record, json.dumps(made.to_dict(), indent=2, ensure_ascii=False) + "\n")
        emptied = set(old.folders if old else ()) - folders
        return Plan(tree.root, tree.changes(), tuple(sorted(emptied)), made, notes)
