"""What can be done to one document: put, update, remove; each with a condition.

An operation is a value with a pure `apply`; the store gives it the document as it is and writes
what comes back, in one transaction with many others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.engine.documents.conditions import Condition, parse_condition
from ranker.engine.documents.stored_document import FIELDS, StoredDocument, field_value, make_entry
from ranker.engine.documents.updates import Change, parse_changes
from ranker.engine.errors import DocumentError, json_type

__all__ = ["Operation", "Put", "Remove", "Update", "parse_put", "parse_remove", "parse_update"]


class Operation(Protocol):
    """One change of one document."""

    @property
    def id(self) -> str:
        """The document's id."""

    @property
    def reads(self) -> bool:
        """Whether `apply` looks at the stored document."""

    def apply(self, current: StoredDocument | None) -> StoredDocument | None:
        """The document after the change, None for none.

        Args:
            current: the stored document, None where there is none or `reads` is false.

        Raises:
            DocumentError: the condition does not hold, or the change is not possible.
        """


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole document."""

    id: str
    entry: StoredDocument
    condition: Condition | None = None
    create: bool = False

    @property
    def reads(self) -> bool:
        """Only a condition looks at the stored document."""
        return self.condition is not None

    def apply(self, current: StoredDocument | None) -> StoredDocument | None:
        """The new document."""
        _check(self.condition, self.id, current, create=self.create)
        return self.entry


@dataclass(frozen=True, slots=True)
class Update:
    """Change fields of a document; one that is not there stays so, unless `create`."""

    id: str
    changes: tuple[Change, ...]
    condition: Condition | None = None
    create: bool = False
    reads: bool = field(default=True, init=False)

    def apply(self, current: StoredDocument | None) -> StoredDocument | None:
        """The document after the changes, which follow one another."""
        _check(self.condition, self.id, current, create=self.create)
        if current is None and not self.create:
            return None
        values = current.values() if current else {}
        for change in self.changes:
            try:
                values[change.field] = change.apply(values.get(change.field))
            except ValueError as error:
                raise DocumentError(
                    400, f"In document '{self.id}': Error in '{change.field}': {error}"
                ) from error
        entry = make_entry(values)
        _check_contract(entry, self.id)
        return entry


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a document, which may be absent already."""

    id: str
    condition: Condition | None = None

    @property
    def reads(self) -> bool:
        """Only a condition looks at the stored document."""
        return self.condition is not None

    def apply(self, current: StoredDocument | None) -> StoredDocument | None:
        """Nothing."""
        _check(self.condition, self.id, current, create=False)
        return None


def parse_put(
    id_: str, body: Any, manifest: Manifest, *, condition: str | None, create: bool
) -> Put:
    """The put of a JSON body.

    Raises:
        DocumentError: 400, with Vespa's words.
    """
    values = {}
    for name, value in _fields(body).items():
        if name not in FIELDS:
            raise DocumentError(
                400, f"Field '{name}' is not defined in document type '{manifest.schema}'"
            )
        try:
            values[name] = field_value(name, value, manifest.spec)
        except ValueError as error:
            kind = _type_name(name, manifest)
            raise DocumentError(
                400, f"In document '{id_}': Could not parse field '{name}' of type {kind}: {error}"
            ) from error
    entry = make_entry(values)
    _check_contract(entry, id_)
    return Put(id_, entry, *_test(condition, create, body, manifest))


def parse_update(
    id_: str, body: Any, manifest: Manifest, *, condition: str | None, create: bool
) -> Update:
    """The update of a JSON body.

    Raises:
        DocumentError: 400 or 500, with Vespa's words.
    """
    changes = [
        change
        for name, value in _fields(body).items()
        for change in parse_changes(name, value, manifest)
    ]
    return Update(id_, tuple(changes), *_test(condition, create, body, manifest))


def parse_remove(id_: str, manifest: Manifest, *, condition: str | None) -> Remove:
    """The remove of a request.

    Raises:
        DocumentError: 400, the condition is not understood.
    """
    return Remove(id_, _test(condition, False, {}, manifest)[0])


def _fields(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise DocumentError(400, f"expected start of root object, got {json_type(body)}")
    if "fields" not in body:
        raise DocumentError(400, 'document is missing the required "fields" field')
    if not isinstance(body["fields"], dict):
        got = json_type(body["fields"])
        raise DocumentError(400, f"expected start of JSON object, but got {got}")
    return body["fields"]


def _test(
    condition: str | None, create: bool, body: Mapping[str, Any], manifest: Manifest
) -> tuple[Condition | None, bool]:
    """Condition and create flag, of the URL or of the body."""
    text = condition if condition is not None else body.get("condition")
    if text is not None and not isinstance(text, str):
        raise DocumentError(400, f"expected string value for condition, got {json_type(text)}")
    flag = body.get("create", False)
    if not isinstance(flag, bool):
        raise DocumentError(
            400, f"failed parsing document: Current token ({json_type(flag)}) not of boolean type"
        )
    return (parse_condition(text, manifest.schema) if text else None), create or flag


def _check(
    condition: Condition | None, id_: str, current: StoredDocument | None, *, create: bool
) -> None:
    if condition is None or (current is None and create):
        return
    if current is None:
        raise DocumentError(
            412, f"Condition did not match document {id_}: the document does not exist"
        )
    if not condition(id_, current):
        raise DocumentError(412, f"Condition did not match document {id_}")


def _check_contract(entry: StoredDocument, id_: str) -> None:
    """Tokens of an unknown contract would be scored as if they were of this one."""
    if entry.tokens and entry.token_fingerprint is None:
        raise DocumentError(
            400,
            f"In document '{id_}': {vespa_names.DOC_TOKEN_IDS} without "
            f"{vespa_names.TOKEN_FINGERPRINT}: expected the number of the token contract with the "
            "tokens; feed both",
        )


def _type_name(name: str, manifest: Manifest) -> str:
    kind = FIELDS[name]
    return f"tensor<float>(d0[{manifest.spec.document_tokens}])" if kind == "tensor" else kind
