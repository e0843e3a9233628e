"""The declarations of one schema file: documents, fields, field sets, rank profiles."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

from ranker.package.into.syntax import Item, parse

__all__ = ["Document", "Field", "RankProfile", "Schema", "read_profiles", "read_schema"]


@dataclass(frozen=True)
class Field:
    """A field of a document, or of a schema outside its document.

    Attributes:
        name: its name.
        type: as written, without spaces.
        indexed: True if its own indexing statement says `index`.
        attribute: True if that says `attribute`.
        bm25: True if its index has `enable-bm25`.
    """

    name: str
    type: str
    indexed: bool
    attribute: bool
    bm25: bool


@dataclass(frozen=True)
class Document:
    """A document type.

    Attributes:
        name: its name.
        inherits: document types whose fields it also has.
        fields: its own fields by name.
        item: the block in the file.
    """

    name: str
    inherits: tuple[str, ...]
    fields: dict[str, Field]
    item: Item


@dataclass(frozen=True)
class RankProfile:
    """A rank profile.

    Attributes:
        name: its name.
        file: the file that declares it.
        inherits: rank profiles that it inherits from.
        functions: names of its functions.
        inputs: names of its query inputs.
        models: names of its onnx-models.
        phases: which of `first-phase`, `second-phase` and `global-phase` it declares.
    """

    name: str
    file: str
    inherits: tuple[str, ...]
    functions: frozenset[str]
    inputs: frozenset[str]
    models: frozenset[str]
    phases: frozenset[str]


@dataclass(frozen=True)
class Schema:
    """A schema file: one schema with a document, or documents only.

    Attributes:
        file: its path in the application.
        name: the schema's name; empty where the file holds documents only.
        inherits: schemas that it inherits from.
        documents: its document types.
        fields: fields outside the document.
        imported: names under which fields of parent documents are imported.
        fieldsets: names of the field sets.
        bm25: fields for which an `index` block outside the document says `enable-bm25`.
        profiles: rank profiles.
        models: names of its onnx-models outside the rank profiles.
    """

    file: str
    name: str
    inherits: tuple[str, ...]
    documents: tuple[Document, ...]
    fields: dict[str, Field] = field(default_factory=dict)
    imported: frozenset[str] = frozenset()
    fieldsets: frozenset[str] = frozenset()
    bm25: frozenset[str] = frozenset()
    profiles: tuple[RankProfile, ...] = ()
    models: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=256)
def read_schema(text: str, *, file: str) -> Schema:
    """Read a `.sd` file.

    Raises:
        ArtifactError: it cannot be parsed.
    """
    roots = parse(text, where=file)
    for root in roots:
        if root.kind in ("schema", "search"):
            return _schema(root, file)
    documents = [_document(root, "") for root in roots if root.kind == "document"]
    return Schema(file, "", (), tuple(documents))


@functools.lru_cache(maxsize=256)
def read_profiles(text: str, *, file: str) -> tuple[RankProfile, ...]:
    """Read the rank profiles of a `.profile` file.

    Raises:
        ArtifactError: it cannot be parsed.
    """
    return _profiles(parse(text, where=file), file)


def _schema(root: Item, file: str) -> Schema:
    items = root.items
    return Schema(
        file=file,
        name=root.name,
        inherits=root.inherits,
        documents=tuple(_document(item, root.name) for item in items if item.kind == "document"),
        fields=_fields(items),
        imported=frozenset(item.words[-1] for item in items if item.kind == "import"),
        fieldsets=frozenset(item.name for item in items if item.kind == "fieldset"),
        bm25=frozenset(
            item.name
            for item in items
            if item.kind == "index" and "enable-bm25" in item.all_words()
        ),
        profiles=_profiles(items, file),
        models=_named(items, "onnx-model"),
    )


def _document(item: Item, schema: str) -> Document:
    return Document(item.name or schema, item.inherits, _fields(item.items), item)


def _fields(items: Iterable[Item]) -> dict[str, Field]:
    return {item.name: _field(item) for item in items if item.kind == "field"}


def _field(item: Item) -> Field:
    indexing = {
        word for inner in item.items if "indexing" in inner.words for word in inner.all_words()
    } - {"indexing"}
    return Field(
        name=item.name,
        type="".join("".join(item.words[3:]).split()),
        indexed="index" in indexing,
        attribute="attribute" in indexing,
        bm25="enable-bm25" in item.all_words(),
    )


def _profiles(items: Iterable[Item], file: str) -> tuple[RankProfile, ...]:
    """Return rank profiles, including nested ones; `model` is an old word for one."""
    profiles = []
    for item in items:
        if item.kind in ("rank-profile", "model") and item.brace is not None:
            profiles.append(_profile(item, file))
            profiles += _profiles(item.items, file)
    return tuple(profiles)


def _profile(item: Item, file: str) -> RankProfile:
    inputs = [inner for block in item.items if block.kind == "inputs" for inner in block.items]
    functions = [inner.words for inner in item.items if inner.kind in ("function", "macro")]
    return RankProfile(
        name=item.name,
        file=file,
        inherits=item.inherits,
        functions=frozenset(
            words[2 if words[1] == "inline" and len(words) > 2 else 1].partition("(")[0]
            for words in functions
            if len(words) > 1
        ),
        inputs=frozenset(
            inner.kind.removeprefix("query(").removesuffix(")") for inner in inputs if inner.words
        ),
        models=_named(item.items, "onnx-model"),
        phases=frozenset(inner.kind for inner in item.items if inner.kind.endswith("-phase")),
    )


def _named(items: Iterable[Item], kind: str) -> frozenset[str]:
    return frozenset(item.name for item in items if item.kind == kind)
