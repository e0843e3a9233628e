"""What can be done to one document: put, update, remove; each with a condition.

An operation is a value with a pure `apply`; the store gives it the document as it is and writes
what comes back, in one transaction with many others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ranker import contract
from ranker.engine.conditions import Condition, parse_condition
from ranker.engine.entry import FIELDS, Entry, field_value, make_entry
from ranker.engine.faults import DocumentFault
from ranker.manifest import Manifest

__all__ = ["Operation", "Put", "Remove", "Update", "parse_put", "parse_remove", "parse_update"]

UPDATES = ("assign", "increment", "decrement", "multiply", "divide", "add", "remove", "modify")


class Operation(Protocol):
    """One change of one document."""

    @property
    def id(self) -> str:
        """The document's id."""

    @property
    def reads(self) -> bool:
        """Whether `apply` looks at the stored document."""

    def apply(self, current: Entry | None) -> Entry | None:
        """The document after the change, None for none.

        Args:
            current: the stored document, None where there is none or `reads` is false.

        Raises:
            DocumentFault: the condition does not hold, or the change is not possible.
        """


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole document."""

    id: str
    entry: Entry
    condition: Condition | None = None
    create: bool = False

    @property
    def reads(self) -> bool:
        """Only a condition looks at the stored document."""
        return self.condition is not None

    def apply(self, current: Entry | None) -> Entry | None:
        """The new document."""
        _check(self.condition, self.id, current, create=self.create)
        return self.entry


@dataclass(frozen=True, slots=True)
class Update:
    """Assign fields of a document; one that is not there stays so, unless `create`."""

    id: str
    values: Mapping[str, Any]
    condition: Condition | None = None
    create: bool = False
    reads: bool = True

    def apply(self, current: Entry | None) -> Entry | None:
        """The document with the fields assigned."""
        _check(self.condition, self.id, current, create=self.create)
        if current is None and not self.create:
            return None
        before = current.values() if current else {}
        entry = make_entry({**before, **self.values})
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

    def apply(self, current: Entry | None) -> Entry | None:
        """Nothing."""
        _check(self.condition, self.id, current, create=False)
        return None


def parse_put(
    id_: str, body: Any, manifest: Manifest, *, condition: str | None, create: bool
) -> Put:
    """The put of a JSON body.

    Raises:
        DocumentFault: 400, with Vespa's words.
    """
    values = {}
    for name, value in _fields(body).items():
        if name not in FIELDS:
            raise DocumentFault(
                400, f"Field '{name}' is not defined in document type '{manifest.schema}'"
            )
        try:
            values[name] = field_value(name, value, manifest.spec)
        except ValueError as error:
            kind = _type_name(name, manifest)
            raise DocumentFault(
                400, f"In document '{id_}': Could not parse field '{name}' of type {kind}: {error}"
            ) from error
    entry = make_entry(values)
    _check_contract(entry, id_)
    return Put(id_, entry, *_test(condition, create, body, manifest))


def parse_update(
    id_: str, body: Any, manifest: Manifest, *, condition: str | None, create: bool
) -> Update:
    """The update of a JSON body; of the update operations, `assign` is known.

    Raises:
        DocumentFault: 400, with Vespa's words.
    """
    values = {}
    for name, change in _fields(body).items():
        where = f"Error in '{name}': "
        if name not in FIELDS:
            raise DocumentFault(
                400, f"{where}No field named '{name}' in document type '{manifest.schema}'"
            )
        if not isinstance(change, dict):
            got = type(change).__name__
            raise DocumentFault(400, f"Expected start of JSON object, got {got} in '{name}'")
        for verb, value in change.items():
            if verb != "assign":
                known = "is not supported by the embedded engine" if verb in UPDATES else ""
                raise DocumentFault(400, f"{where}Operation '{verb}' {known or 'not implemented.'}")
            try:
                values[name] = field_value(name, value, manifest.spec)
            except ValueError as error:
                raise DocumentFault(400, f"{where}{error}") from error
    return Update(id_, values, *_test(condition, create, body, manifest))


def parse_remove(id_: str, manifest: Manifest, *, condition: str | None) -> Remove:
    """The remove of a request.

    Raises:
        DocumentFault: 400, the condition is not understood.
    """
    return Remove(id_, _test(condition, False, {}, manifest)[0])


def _fields(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise DocumentFault(400, f"expected start of root object, got {type(body).__name__}")
    if "fields" not in body:
        raise DocumentFault(400, 'document is missing the required "fields" field')
    if not isinstance(body["fields"], dict):
        got = type(body["fields"]).__name__
        raise DocumentFault(400, f"expected start of JSON object, but got {got}")
    return body["fields"]


def _test(
    condition: str | None, create: bool, body: Mapping[str, Any], manifest: Manifest
) -> tuple[Condition | None, bool]:
    """Condition and create flag, of the URL or of the body."""
    text = condition if condition is not None else body.get("condition")
    if text is not None and not isinstance(text, str):
        raise DocumentFault(400, f"expected string value for condition, got {text!r}")
    flag = body.get("create", False)
    if not isinstance(flag, bool):
        raise DocumentFault(400, f"failed parsing document: create must be a boolean, got {flag!r}")
    return (parse_condition(text, manifest.schema) if text else None), create or flag


def _check(condition: Condition | None, id_: str, current: Entry | None, *, create: bool) -> None:
    if condition is None or (current is None and create):
        return
    if current is None:
        raise DocumentFault(
            412, f"Condition did not match document {id_}: the document does not exist"
        )
    if not condition(id_, current):
        raise DocumentFault(412, f"Condition did not match document {id_}")


def _check_contract(entry: Entry, id_: str) -> None:
    """Tokens of an unknown contract would be scored as if they were of this one."""
    if entry.tokens and entry.token_spec is None:
        raise DocumentFault(
            400,
            f"In document '{id_}': {contract.DOC_TOKEN_IDS} without {contract.TOKEN_SPEC}: "
            f"expected the number of the token contract with the tokens; feed both",
        )


def _type_name(name: str, manifest: Manifest) -> str:
    kind = FIELDS[name]
    return f"tensor<float>(d0[{manifest.spec.document_tokens}])" if kind == "tensor" else kind
