"""What can be done to one document: put, update, remove; each with a condition.

An operation is a value with a pure `apply`: the store gives it the document as it is and writes
the document that it returns, in one transaction with many others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.conditions import Condition, parse_condition
from ranker.engine.documents.stored_document import StoredDocument, field_value
from ranker.engine.documents.tensors import JsonValue
from ranker.engine.documents.updates import FieldUpdate, parse_field_updates
from ranker.engine.errors import DocumentError

__all__ = [
    "DocumentOperation",
    "Put",
    "Remove",
    "Update",
    "parse_put",
    "parse_remove",
    "parse_update",
]


@dataclass(frozen=True, slots=True)
class DocumentOperation:
    """An operation on one document.

    Attributes:
        document_id: Vespa's whole id of the document.
        condition: must hold for the stored document; None for no condition.
        create: True if a document that does not exist passes the condition, and is made by an
            update.
    """

    document_id: str
    condition: Condition | None = None
    create: bool = False

    @property
    def reads(self) -> bool:
        """True if the operation needs the stored document."""
        return self.condition is not None

    def apply(self, current: StoredDocument | None) -> StoredDocument | None:
        """Return the document after the operation, None for none.

        Args:
            current: the stored document, None where there is none or `reads` is false.

        Raises:
            DocumentError: the condition does not hold, or the operation is not possible.
        """
        # As in Vespa: a missing document fails the condition, unless it may be created.
        if self.condition is not None and not (current is None and self.create):
            refusal = "the condition does not hold"
            if current is None:
                refusal += ": the document does not exist"
            if current is None or not self.condition(current):
                raise _error(self.document_id, refusal, status=412)
        return self._result(current)

    def _result(self, current: StoredDocument | None) -> StoredDocument | None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Put(DocumentOperation):
    """Writes a whole document."""

    document: StoredDocument = field(kw_only=True)

    def _result(self, current: StoredDocument | None) -> StoredDocument | None:
        return self.document


@dataclass(frozen=True, slots=True)
class Update(DocumentOperation):
    """Updates fields of a document; without `create`, an absent document stays absent."""

    field_updates: tuple[FieldUpdate, ...] = field(kw_only=True)

    @property
    def reads(self) -> bool:
        """True: the fields that are not updated stay."""
        return True

    def _result(self, current: StoredDocument | None) -> StoredDocument | None:
        if current is None and not self.create:
            return None
        values = dict(current.values) if current else {}
        for update in self.field_updates:
            try:
                values[update.field] = update.apply(values.get(update.field))
            except ValueError as error:
                raise _error(self.document_id, f"field {update.field!r}: {error}") from error
        return _checked(StoredDocument.from_values(self.document_id, values))


@dataclass(frozen=True, slots=True)
class Remove(DocumentOperation):
    """Removes a document, which may be absent already."""

    def _result(self, current: StoredDocument | None) -> StoredDocument | None:
        return None


def parse_put(
    document_id: str, body: JsonValue, manifest: Manifest, *, condition: str | None, create: bool
) -> Put:
    """Read a put from a JSON body.

    Raises:
        DocumentError: 400, the body is not a put of this schema.
    """
    values = {}
    for name, value in _fields(body).items():
        if name not in DOCUMENT_FIELDS:
            raise _error(document_id, f"the document type {manifest.schema} has no field {name!r}")
        try:
            values[name] = field_value(name, value, manifest)
        except ValueError as error:
            kind = DOCUMENT_FIELDS[name].type_name(manifest.token_type)
            raise _error(document_id, f"field {name!r} of type {kind}: {error}") from error
    document = _checked(StoredDocument.from_values(document_id, values))
    return Put(document_id, *_condition(condition, create, body, manifest), document=document)


def parse_update(
    document_id: str, body: JsonValue, manifest: Manifest, *, condition: str | None, create: bool
) -> Update:
    """Read an update from a JSON body.

    Raises:
        DocumentError: 400, or 500 where Vespa answers 500: the body is not an update of this
            schema.
    """
    field_updates = tuple(
        update
        for name, value in _fields(body).items()
        for update in parse_field_updates(name, value, manifest)
    )
    guard = _condition(condition, create, body, manifest)
    return Update(document_id, *guard, field_updates=field_updates)


def parse_remove(document_id: str, manifest: Manifest, *, condition: str | None) -> Remove:
    """Read a remove from a request.

    Raises:
        DocumentError: 400, the condition is not understood.
    """
    return Remove(document_id, parse_condition(condition, manifest.schema) if condition else None)


def _fields(body: JsonValue) -> Mapping[str, JsonValue]:
    fields = body.get("fields") if isinstance(body, dict) else None
    if not isinstance(fields, dict):
        raise DocumentError(
            400, f'expected a JSON object with an object "fields", got {body!r:.60}'
        )
    return fields


def _condition(
    condition: str | None, create: bool, body: Mapping[str, JsonValue], manifest: Manifest
) -> tuple[Condition | None, bool]:
    """Return condition and create flag, of the URL or of the body."""
    # A condition in the URL takes precedence over one in the body.
    text = condition if condition is not None else body.get("condition")
    if text is not None and not isinstance(text, str):
        raise DocumentError(400, f"expected a string for 'condition', got {text!r:.40}")
    flag = body.get("create", False)
    if not isinstance(flag, bool):
        raise DocumentError(400, f"expected true or false for 'create', got {flag!r:.40}")
    return (parse_condition(text, manifest.schema) if text else None), create or flag


def _checked(document: StoredDocument) -> StoredDocument:
    """Refuse tokens of an unknown contract, which would be scored as if they were of this one."""
    values = document.values
    if values[vespa_names.DOC_TOKEN_IDS] and values[vespa_names.TOKEN_FINGERPRINT] is None:
        raise _error(
            document.document_id,
            f"{vespa_names.DOC_TOKEN_IDS} without {vespa_names.TOKEN_FINGERPRINT}: expected the "
            "number of the token contract with the tokens; feed both",
        )
    return document


def _error(document_id: str, message: str, *, status: int = 400) -> DocumentError:
    return DocumentError(status, f"document {document_id}: {message}")
