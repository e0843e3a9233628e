"""What an update does to one field: assign, arithmetic on a number, some cells of a tensor.

Which operation goes with which type of field, and the status of each refusal, are as at Vespa's
own front door (8.700.24); the results are those of Vespa's `DocumentUpdate.applyTo`.
"""

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ranker.artifacts.manifest import Manifest
from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.stored_document import StoredValue, field_value, token_cells
from ranker.engine.documents.tensors import JsonValue, addressed_cells
from ranker.engine.errors import DocumentError

__all__ = ["Arithmetic", "Assign", "FieldUpdate", "Modify", "parse_field_updates"]

ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "increment": operator.add,
    "decrement": operator.sub,
    "multiply": operator.mul,
    "divide": lambda number, operand: number / operand if operand else number * math.inf,
}
MODIFY: dict[str, Callable[[float, float], float]] = {
    "replace": lambda cell, number: number,
    "add": operator.add,
    "multiply": operator.mul,
}
OPERATIONS = {
    "string": ("assign",),
    "long": ("assign", *ARITHMETIC),
    "tensor": ("assign", "modify"),
}
"""The operations of an update, by the type of the field in Vespa."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LARGEST = 2**63 - 1


class FieldUpdate(Protocol):
    """One update of one field."""

    @property
    def field(self) -> str:
        """The field."""

    def apply(self, value: StoredValue) -> StoredValue:
        """Return the updated value, as `StoredDocument.from_values` takes it.

        Args:
            value: the stored value, None where it is not set.

        Raises:
            ValueError: the result cannot be a value of the field.
        """


@dataclass(frozen=True, slots=True)
class Assign:
    """A new value; None clears the field."""

    field: str
    value: StoredValue

    def apply(self, value: StoredValue) -> StoredValue:
        """Return the new value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`increment`, `decrement`, `multiply`, `divide`: in doubles, each truncated to a long."""

    field: str
    steps: tuple[tuple[str, float], ...]
    manifest: Manifest

    def apply(self, value: StoredValue) -> StoredValue:
        """Return the result, which must be a value of the field."""
        return field_value(self.field, self.result(value), self.manifest)

    def result(self, value: int | None) -> int:
        """Return the number after all steps; a field that is not set counts as 0."""
        number = value or 0
        for verb, operand in self.steps:
            number = _long(ARITHMETIC[verb](float(number), operand))
        return number


@dataclass(frozen=True, slots=True)
class Modify:
    """Some cells of the tensor replaced, added to or multiplied."""

    field: str
    operation: str
    cells: tuple[tuple[int, float], ...]
    manifest: Manifest

    def apply(self, value: StoredValue) -> StoredValue:
        """Return the new tensor; there is nothing to modify where the document has none."""
        if value is None:
            return None
        cells = token_cells(value, self.manifest)
        for position, number in self.cells:
            cells[position] = MODIFY[self.operation](cells[position], number)
        return field_value(self.field, cells, self.manifest)


def parse_field_updates(name: str, update: JsonValue, manifest: Manifest) -> Iterator[FieldUpdate]:
    """Read the updates of one field from an update's JSON.

    Raises:
        DocumentError: 400, or 500 where Vespa answers 500.
    """
    if name not in DOCUMENT_FIELDS:
        names = ", ".join(DOCUMENT_FIELDS)
        raise _error(name, f"expected one of the fields {names} of {manifest.schema}")
    if not isinstance(update, dict):
        raise _error(name, f'expected an object like {{"assign": VALUE}}, got {update!r:.60}')
    numeric = DOCUMENT_FIELDS[name].vespa_type == "long"
    try:
        for arithmetic, group in itertools.groupby(
            update.items(), lambda item: item[0] in ARITHMETIC
        ):
            if not arithmetic:
                yield from (_update(name, verb, value, manifest) for verb, value in group)
                continue
            # Vespa checks the numbers first: a bad one is a 400 in a field of any type.
            steps = tuple((verb, _operand(value)) for verb, value in group)
            if not numeric:
                raise _error(name, _not_there(name, steps[0][0], manifest), status=500)
            yield Arithmetic(name, steps, manifest)
    except ValueError as error:
        raise _error(name, str(error)) from error


def _update(name: str, verb: str, value: JsonValue, manifest: Manifest) -> FieldUpdate:
    kind = DOCUMENT_FIELDS[name].vespa_type
    if verb not in OPERATIONS[kind]:
        elements = verb in ("add", "remove") and kind != "tensor"
        raise _error(name, _not_there(name, verb, manifest), status=500 if elements else 400)
    if verb == "assign":
        return Assign(name, field_value(name, value, manifest))
    return _modify(name, value, manifest)


def _not_there(name: str, verb: str, manifest: Manifest) -> str:
    field = DOCUMENT_FIELDS[name]
    kind, operations = field.type_name(manifest.token_type), OPERATIONS[field.vespa_type]
    return f"a field of type {kind} has no {verb!r}; expected {', '.join(operations)}"


def _operand(value: JsonValue) -> float:
    """Return a number, which may be written as a string."""
    if not _NUMBER.fullmatch(str(value)):
        raise ValueError(f"expected a number, got {value!r:.40}")
    return float(str(value))


def _long(number: float) -> int:
    """Convert a double as Java does: without its fraction, and at most the largest long."""
    if math.isnan(number):
        return 0
    # A double near the limit cannot be compared exactly, and Java saturates there.
    if abs(number) >= _LARGEST:
        return _LARGEST if number > 0 else -_LARGEST - 1
    return int(number)


def _modify(name: str, value: JsonValue, manifest: Manifest) -> Modify:
    # Every cell of a dense tensor exists already, so `create` creates none.
    if not isinstance(value, dict) or value.keys() - {"create"} != {"operation", "cells"}:
        raise ValueError(f"modify takes 'operation', 'cells' and 'create', got {value!r:.60}")
    operation = value["operation"]
    if not isinstance(operation, str) or operation not in MODIFY:
        raise ValueError(f"modify can {', '.join(MODIFY)}, got the operation {operation!r:.40}")
    if not isinstance(value.get("create", False), bool):
        raise ValueError(f"expected true or false for 'create', got {value['create']!r:.40}")
    cells = addressed_cells(value["cells"], manifest.token_type)
    if len(dict(cells)) < len(cells):
        raise ValueError("a cell is addressed twice")
    return Modify(name, operation, tuple(cells), manifest)


def _error(name: str, message: str, *, status: int = 400) -> DocumentError:
    return DocumentError(status, f"field {name!r}: {message}")
