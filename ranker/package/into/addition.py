"""Putting a model into somebody's application."""

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
from ranker.package.into.site import ApplicationView
from ranker.package.into.tree import parents
from ranker.package.profiles import ProfileContext

__all__ = ["NAME", "install"]

NAME = "ranker"
"""What a model is called if nobody says otherwise."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_NAMESPACE = re.compile(r"[^\s:\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What is to be put in, and where."""

    bundle: Bundle
    name: str
    schema: str
    text_fields: tuple[str, ...]
    inherits: str | None
    namespace: str
    storage: Storage


@dataclass(frozen=True)
class _Tokens:
    """The fields that hold a model's token ids, and the lines that declare them."""

    token_field: str
    fingerprint_field: str
    insertion: Insertion | None


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
    """Put a model into an application, beside others that may be there.

    A model of that name that is there already is replaced; if it is the same, nothing changes.

    Args:
        bundle: the model.
        app: folder of the application package.
        schema: the schema whose documents it ranks.
        text_fields: fields of its document with the text: the title's first, then the others.
        name: the model's name, with which its files and rank profiles begin.
        inherits: a rank profile of that schema whose first phase stays; by default the first
            phase is bm25 over the text fields.
        namespace: of the documents that `ranker feed` makes; the schema's name by default.
        storage: the form in which token ids are stored.

    Raises:
        UsageError: there is no such schema, field or rank profile, or a name that cannot be.
        ArtifactError: the application does not fit, or has files of these names.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name must be letters, digits and _, a letter first; got {name!r}")
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise UsageError(
            "--namespace must have a character, and no colon, blank or control character; "
            f"got {namespace!r}"
        )
    model = _Model(
        bundle=bundle,
        name=name,
        schema=schema,
        text_fields=tuple(text_fields),
        inherits=inherits,
        namespace=namespace or schema,
        storage=storage,
    )
    site = ApplicationView.open(app, name)
    site.drop_files()
    application = site.application()
    _check_texts(application, application.schema(schema), model)
    tokens = _tokens(site, model)
    application = site.application()
    target = application.schema(schema)
    ranking, notes = _ranking(application, target, model, tokens)
    manifest = _manifest(application, target, model, tokens, ranking)
    return _plan(site, model, manifest, _files(site, target, model, ranking), tokens, notes)


def _check_texts(application: Application, schema: Schema, model: _Model) -> None:
    """The text fields must be strings of the document itself, and searchable.

    Raises:
        UsageError: says of each field what is wrong, and what to do.
    """
    if not model.text_fields or len(set(model.text_fields)) < len(model.text_fields):
        raise UsageError(
            f"--text-fields must name different fields, got {', '.join(model.text_fields)}"
        )
    fields = application.fields(schema)
    problems = [
        problem
        for name in model.text_fields
        if (problem := _text_problem(application, schema, fields, name, model))
    ]
    if not problems and not any(fields[name].indexed for name in model.text_fields):
        problems = ["none of the text fields is indexed, so no question finds a document"]
    if problems:
        raise UsageError(f"{schema.file}: {'; '.join(problems)}")


def _text_problem(
    application: Application, schema: Schema, fields: dict[str, Field], name: str, model: _Model
) -> str:
    if name in schema.imported:
        return f"{name} is imported from a parent document; token ids are of a document's own text"
    if name in schema.fields:
        return f"{name} is beside the document block, so it cannot be fed"
    if name not in fields:
        return f"no field {name}; the document has: {', '.join(fields) or 'no fields'}"
    if fields[name].type != "string":
        return f"{name} is of type {fields[name].type}, expected string"
    if model.inherits is None and not (fields[name].indexed and application.bm25(schema, name)):
        return (
            f"{name} is not indexed for bm25, the first phase: give the field the lines "
            "`indexing: index | summary` and `index: enable-bm25`, or keep a first phase of your "
            "own with --inherits PROFILE"
        )
    return ""


def _tokens(site: ApplicationView, model: _Model) -> _Tokens:
    """Fields for the token ids: those of a model with the same ids, or new ones."""
    application = site.application()
    schema = application.schema(model.schema)
    fields, above = application.fields(schema), application.above(schema)
    for one in [*([site.old] if site.old else []), *site.others]:
        theirs = one.manifest
        names = (theirs.token_field, theirs.fingerprint_field)
        same = (theirs.spec, theirs.storage, theirs.text_fields) == (
            model.bundle.spec,
            model.storage,
            model.text_fields,
        )
        if same and theirs.schema in above and _fit(fields, names, model):
            if one is not site.old and site.old and site.old.insertion != one.insertion:
                site.drop_lines()
            return _Tokens(*names, one.insertion)
    site.drop_lines()
    return _new_tokens(site, model)


def _new_tokens(site: ApplicationView, model: _Model) -> _Tokens:
    """New fields, or those that somebody has added by hand."""
    application = site.application()
    schema = application.schema(model.schema)
    names = (vespa_names.DOC_TOKEN_IDS, vespa_names.TOKEN_FINGERPRINT)
    theirs = {one.manifest.token_field for one in site.others}
    if names[0] not in theirs and _fit(application.fields(schema), names, model):
        return _Tokens(*names, None)
    if application.taken(schema) & set(names):
        names = (f"{names[0]}_{model.name}", f"{names[1]}_{model.name}")
    taken = application.taken(schema) & set(names)
    if taken:
        raise UsageError(
            f"schema {schema.name} has {', '.join(sorted(taken))} already, and not for these "
            "token ids; give the model another --name"
        )
    return _Tokens(*names, _declare(site, application, schema, model, names))


def _fit(fields: dict[str, Field], names: tuple[str, str], model: _Model) -> bool:
    """Whether fields can hold the token ids and the fingerprint."""
    tokens = model.storage.tensor_type(model.bundle.spec.document_tokens)
    kinds = [field.type_name(tokens) for field in TOKEN_FIELDS]
    found = [fields.get(name) for name in names]
    return all(
        field is not None and field.attribute and field.type == kind
        for field, kind in zip(found, kinds, strict=True)
    )


def _declare(
    site: ApplicationView,
    application: Application,
    schema: Schema,
    model: _Model,
    names: tuple[str, str],
) -> Insertion:
    """Put the fields into the document block, and look whether just that has happened."""
    tree, before = site.tree, application.fields(schema)
    spec = model.bundle.spec
    tokens = model.storage.tensor_type(spec.document_tokens)
    lines = token_fields(spec, tokens, model.text_fields, names)
    by_hand = f"add these lines to its document block by hand, then run it again:\n{lines}"
    if (tree.root / schema.file).is_symlink():
        raise ArtifactError(f"{tree.root / schema.file} is a link and stays as it is; {by_hand}")
    document = application.document(schema)
    text, insertion = insert(tree.text(schema.file), schema.file, document, lines)
    tree.write(schema.file, text)
    changed = site.application()
    after = changed.fields(changed.schema(schema.name))
    if {**after, **before} != after or set(after) != {*before, *names}:
        raise ArtifactError(f"{schema.file} cannot be edited safely; {by_hand}")
    return insertion


def _ranking(
    application: Application, schema: Schema, model: _Model, tokens: _Tokens
) -> tuple[Ranking, tuple[str, ...]]:
    """The rank profiles, none of whose names is taken."""
    match = _match_fields(application, schema, model)
    with_bm25 = tuple(name for name in match if application.bm25(schema, name))
    context = ProfileContext(
        spec=model.bundle.spec,
        storage=model.storage,
        model_file=model_file(model.name),
        match_fields=match,
        shown_fields=with_bm25,
        token_field=tokens.token_field,
        fingerprint_field=tokens.fingerprint_field,
        show_logit=False,
    )
    if model.inherits is not None:
        require_heir(application, schema, model.inherits, context)
    blend = with_bm25 == match
    ranking = name_profiles(model.bundle, context, model.name, inherits=model.inherits, blend=blend)
    require_free(application, schema, ranking.texts)
    if blend:
        return ranking, ()
    return ranking, (
        f"no rank profile {model.name}_blend: {', '.join(match)} are not all indexed for bm25",
    )


def _match_fields(application: Application, schema: Schema, model: _Model) -> tuple[str, ...]:
    fields = application.fields(schema)
    return tuple(name for name in model.text_fields if fields[name].indexed)


def _manifest(
    application: Application, schema: Schema, model: _Model, tokens: _Tokens, ranking: Ranking
) -> Manifest:
    return Manifest(
        application=model.name,
        namespace=model.namespace,
        schema=schema.name,
        spec=model.bundle.spec,
        profiles=ranking.profiles,
        recommended_profile=ranking.recommended,
        timeout_s=vespa_names.TIMEOUT_S,
        model_sha256=sha256(model.bundle.model),
        ranker_version=__version__,
        text_fields=model.text_fields,
        match_fields=_match_fields(application, schema, model),
        id_field=None,
        token_field=tokens.token_field,
        fingerprint_field=tokens.fingerprint_field,
        ids_summary=None,
        storage=model.storage,
    )


def _files(
    site: ApplicationView, schema: Schema, model: _Model, ranking: Ranking
) -> dict[str, str]:
    """Write the files of a model; their hashes.

    Raises:
        ArtifactError: the application has one of that name.
    """
    folder = PurePosixPath(schema.file).parent / schema.name
    contents: dict[str, bytes | Path] = {
        model_file(model.name): model.bundle.model,
        tokenizer_file(model.name): model.bundle.tokenizer_json.encode(),
        **{f"{folder}/{name}.profile": text.encode() for name, text in ranking.texts.items()},
    }
    for file, content in contents.items():
        if site.tree.holds(file):
            raise ArtifactError(
                f"{site.tree.root / file} is there already and is not `ranker package`'s; give "
                "the model another --name"
            )
        site.tree.write(file, content)
    return {file: content_hash(content) for file, content in contents.items()}


def _plan(
    site: ApplicationView,
    model: _Model,
    manifest: Manifest,
    files: dict[str, str],
    tokens: _Tokens,
    notes: tuple[str, ...],
) -> Plan:
    """The record comes last: a model without one is none."""
    known = {
        folder
        for one in [*([site.old] if site.old else []), *site.others]
        for folder in one.folders
    }
    folders = {
        folder
        for file in [*files, record_file(model.name)]
        for folder in parents(file)
        if folder in known or not (site.tree.root / folder).exists()
    }
    made = Installation(
        manifest=manifest,
        files=files,
        insertion=tokens.insertion,
        folders=tuple(sorted(folders)),
    )
    site.tree.write(made.record, json.dumps(made.to_dict(), indent=2, ensure_ascii=False) + "\n")
    emptied = set(site.old.folders if site.old else ()) - folders
    return Plan(site.tree.root, site.tree.changes(), tuple(sorted(emptied)), made, notes)
