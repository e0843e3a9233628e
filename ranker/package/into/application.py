"""Somebody's application: its schemas, and what they inherit from each other."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import TypeVar

from ranker.errors import ArtifactError, UsageError
from ranker.package.into.schema import (
    Document,
    Field,
    RankProfile,
    Schema,
    read_profiles,
    read_schema,
)
from ranker.package.into.tree import Tree

__all__ = ["Application"]

FOLDERS = ("searchdefinitions", "schemas")
"""Where Vespa looks for schemas; the first one is the old name.  Of two equal names it counts."""

Heir = TypeVar("Heir", Document, RankProfile, Schema)

BUILT_IN = ("default", "unranked")
"""Rank profiles that every schema has without declaring them."""


class Application:
    """The schemas of an application, read through a tree.

    Args:
        tree: the application's files.

    Raises:
        ArtifactError: it is no application, or a schema cannot be understood.
    """

    def __init__(self, tree: Tree) -> None:
        if not tree.holds("services.xml"):
            raise ArtifactError(
                f"{tree.root} is no Vespa application: services.xml is missing" + _maven_hint(tree)
            )
        self._tree = tree
        files = {
            PurePosixPath(name).name: name
            for folder in reversed(FOLDERS)
            for name in _schema_files(tree, folder)
        }
        self.schemas = [read_schema(tree.text(name), file=name) for name in files.values()]
        self._documents = {
            document.name: document for schema in self.schemas for document in schema.documents
        }
        self._profiles = {
            schema.name: [*schema.profiles, *self._in_files(schema)] for schema in self.schemas
        }

    def schema(self, name: str) -> Schema:
        """The schema of that name.

        Raises:
            UsageError: there is none; the message lists those there are.
        """
        for schema in self.schemas:
            if schema.name == name:
                return schema
        known = ", ".join(schema.name for schema in self.schemas if schema.name) or "none"
        raise UsageError(f"unknown schema {name!r}; {self._tree.root} has: {known}")

    def document(self, schema: Schema) -> Document:
        """The document type of a schema.

        Raises:
            ArtifactError: it has none, or several.
        """
        if len(schema.documents) != 1:
            raise ArtifactError(
                f"{schema.file} has {len(schema.documents)} document blocks, expected one"
            )
        return schema.documents[0]

    def fields(self, schema: Schema) -> dict[str, Field]:
        """The fields of a schema's document, those that it inherits included."""
        found = dict[str, Field]()
        for document in _lineage(self.document(schema), self._documents):
            found = {**document.fields, **found}
        return found

    def bm25(self, schema: Schema, name: str) -> bool:
        """Whether a field of the document has an index with `enable-bm25`."""
        outside = any(name in one.bm25 for one in self._ancestors(schema))
        return outside or self.fields(schema)[name].bm25

    def taken(self, schema: Schema) -> set[str]:
        """Names that a new field of the document cannot have, here or where it is inherited."""
        names = set[str]()
        for one in self._family(schema):
            names |= {*one.fields, *one.imported, *one.fieldsets}
            for document in one.documents:
                names |= set(document.fields)
        return names | set(self.fields(schema))

    def above(self, schema: Schema) -> set[str]:
        """Names of a schema and of those whose document its own inherits."""
        documents = {one.name for one in _lineage(self.document(schema), self._documents)}
        return {
            one.name
            for one in self.schemas
            if one is schema or documents & {document.name for document in one.documents}
        }

    def profiles(self, schema: Schema) -> list[RankProfile]:
        """Rank profiles of a schema, those of schemas that it inherits from included."""
        return [one for part in self._ancestors(schema) for one in self._profiles[part.name]]

    def profiles_near(self, schema: Schema) -> list[RankProfile]:
        """Rank profiles that one of this schema may meet: those below it, too."""
        return [one for part in self._family(schema) for one in self._profiles.get(part.name, ())]

    def models(self, schema: Schema) -> set[str]:
        """Names of onnx-models that one of this schema may meet."""
        outside = {name for part in self._family(schema) for name in part.models}
        return outside | {name for one in self.profiles_near(schema) for name in one.models}

    def files_near(self, schema: Schema) -> list[str]:
        """Files that may name a field or a rank profile of a schema."""
        files = [one.file for one in self._family(schema)]
        folders = [f"{folder}/{one.name}" for one in self._family(schema) for folder in FOLDERS]
        files += [name for folder in folders for name in self._tree.names(folder, ".profile")]
        return [*files, *self._tree.names("search", ".xml")]

    def chain(self, schema: Schema, name: str) -> list[RankProfile]:
        """A rank profile and all that it inherits from; none for one that is built in.

        Raises:
            UsageError: there is no such rank profile; the message lists those there are.
        """
        known = {profile.name: profile for profile in self.profiles(schema)}
        if name not in known and name not in BUILT_IN:
            raise UsageError(
                f"unknown rank profile {name!r}; schema {schema.name} has: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
        return list(_lineage(known[name], known)) if name in known else []

    def _in_files(self, schema: Schema) -> Iterator[RankProfile]:
        for folder in FOLDERS if schema.name else ():
            for name in self._tree.names(f"{folder}/{schema.name}", ".profile"):
                yield from read_profiles(self._tree.text(name), file=name)

    def _ancestors(self, schema: Schema) -> list[Schema]:
        """A schema and those that it inherits from."""
        return list(_lineage(schema, {one.name: one for one in self.schemas if one.name}))

    def _family(self, schema: Schema) -> list[Schema]:
        """A schema, those that it inherits from, and those that inherit from it or its document."""
        mine = {document.name for document in schema.documents}
        return [
            one
            for one in self.schemas
            if one in self._ancestors(schema)
            or schema in self._ancestors(one)
            or any(
                mine & {other.name for other in _lineage(document, self._documents)}
                for document in one.documents
            )
        ]


def _lineage(first: Heir, known: dict[str, Heir]) -> Iterator[Heir]:
    """One and all that it inherits from, each once; what is not known is left out."""
    seen, waiting = set[str](), [first]
    while waiting:
        one = waiting.pop(0)
        if one.name not in seen:
            seen.add(one.name)
            yield one
            waiting += [known[name] for name in one.inherits if name in known]


def _schema_files(tree: Tree, folder: str) -> Iterable[str]:
    return (name for name in tree.names(folder, ".sd") if name.count("/") == 1)


def _maven_hint(tree: Tree) -> str:
    inner = "src/main/application"
    return f"; it is in {tree.root / inner}" if tree.holds(f"{inner}/services.xml") else ""
