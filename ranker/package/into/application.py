"""An existing application: its schemas, and what they inherit from each other."""

from collections.abc import Iterator
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
"""Where Vespa looks for schemas; of two files of one name, the one in the first folder counts."""

Heir = TypeVar("Heir", Document, RankProfile, Schema)

BUILT_IN = ("default", "unranked")
"""Rank profiles that every schema has without declaring them."""


class Application:
    """The schemas of an application, read through a tree.

    Args:
        tree: the application's files.

    Raises:
        ArtifactError: it is not an application, or a schema cannot be parsed.
    """

    def __init__(self, tree: Tree) -> None:
        if not tree.holds("services.xml"):
            maven = "src/main/application"
            found = tree.holds(f"{maven}/services.xml")
            hint = f"; it is in {tree.root / maven}" if found else ""
            raise ArtifactError(
                f"{tree.root} is not a Vespa application: services.xml is missing{hint}"
            )
        self._tree = tree
        files = {
            PurePosixPath(name).name: name
            for folder in reversed(FOLDERS)
            for name in tree.names(folder, ".sd")
            if name.count("/") == 1
        }
        self.schemas = [read_schema(tree.text(name), file=name) for name in files.values()]
        self._documents = {
            document.name: document for schema in self.schemas for document in schema.documents
        }
        self._profiles = {
            schema.name: [*schema.profiles, *self._in_files(schema)] for schema in self.schemas
        }

    def schema(self, name: str) -> Schema:
        """Return the schema of that name.

        Raises:
            UsageError: there is none; the message lists those there are.
        """
        for schema in self.schemas:
            if schema.name == name:
                return schema
        known = ", ".join(schema.name for schema in self.schemas if schema.name) or "none"
        raise UsageError(f"unknown schema {name!r}; {self._tree.root} has: {known}")

    def document(self, schema: Schema) -> Document:
        """Return the document type of a schema.

        Raises:
            ArtifactError: it has none, or several.
        """
        if len(schema.documents) != 1:
            raise ArtifactError(
                f"{schema.file} has {len(schema.documents)} document blocks, expected one"
            )
        return schema.documents[0]

    def fields(self, schema: Schema) -> dict[str, Field]:
        """Return the fields of a schema's document, including inherited ones."""
        fields = dict[str, Field]()
        for document in _lineage(self.document(schema), self._documents):
            fields = {**document.fields, **fields}
        return fields

    def bm25(self, schema: Schema, name: str) -> bool:
        """Return True if a field of the document has an index with `enable-bm25`."""
        outside = any(name in part.bm25 for part in self._ancestors(schema))
        return outside or self.fields(schema)[name].bm25

    def taken(self, schema: Schema) -> set[str]:
        """Return names that a new field of the document cannot have, also where it is inherited."""
        names = set[str]()
        for part in self._family(schema):
            names |= {*part.fields, *part.imported, *part.fieldsets}
            for document in part.documents:
                names |= set(document.fields)
        return names | set(self.fields(schema))

    def above(self, schema: Schema) -> set[str]:
        """Return the names of a schema and of those whose document its own inherits."""
        documents = {parent.name for parent in _lineage(self.document(schema), self._documents)}
        return {
            other.name
            for other in self.schemas
            if other is schema or documents & {document.name for document in other.documents}
        }

    def profiles(self, schema: Schema) -> list[RankProfile]:
        """Return the rank profiles of a schema and of those that it inherits from."""
        return [
            profile for part in self._ancestors(schema) for profile in self._profiles[part.name]
        ]

    def profiles_near(self, schema: Schema) -> list[RankProfile]:
        """Return rank profiles whose names a new one must not have, also of inheriting schemas."""
        return [
            profile
            for part in self._family(schema)
            for profile in self._profiles.get(part.name, ())
        ]

    def models(self, schema: Schema) -> set[str]:
        """Return names that an onnx-model of this schema must not have."""
        outside = {name for part in self._family(schema) for name in part.models}
        profiles = self.profiles_near(schema)
        return outside | {name for profile in profiles for name in profile.models}

    def files_near(self, schema: Schema) -> list[str]:
        """Return files that may name a field or a rank profile of a schema."""
        family = self._family(schema)
        files = [part.file for part in family]
        folders = [f"{folder}/{part.name}" for part in family for folder in FOLDERS]
        files += [name for folder in folders for name in self._tree.names(folder, ".profile")]
        return [*files, *self._tree.names("search", ".xml")]

    def chain(self, schema: Schema, name: str) -> list[RankProfile]:
        """Return a rank profile and all that it inherits from; none for a built-in one.

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
        """Return a schema and those that it inherits from."""
        return list(_lineage(schema, {other.name: other for other in self.schemas if other.name}))

    def _family(self, schema: Schema) -> list[Schema]:
        """Return a schema, its ancestors, and those that inherit from it or its document."""
        mine = {document.name for document in schema.documents}
        return [
            other
            for other in self.schemas
            if other in self._ancestors(schema)
            or schema in self._ancestors(other)
            or any(
                mine & {parent.name for parent in _lineage(document, self._documents)}
                for document in other.documents
            )
        ]


def _lineage(first: Heir, known: dict[str, Heir]) -> Iterator[Heir]:
    """Yield a declaration and all known ones that it inherits from, each once."""
    seen, waiting = set[str](), [first]
    while waiting:
        heir = waiting.pop(0)
        if heir.name not in seen:
            seen.add(heir.name)
            yield heir
            waiting += [known[name] for name in heir.inherits if name in known]
