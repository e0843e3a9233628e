"""What an update does to one field: assign, arithmetic on a number, some cells of a tensor.

Which operation goes with which type of field, and the words of each refusal, were seen at the real
front door (8.700.24); the results are those of Vespa's own `DocumentUpdate.applyTo`.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ranker.artifacts.manifest import Manifest
from ranker.contract.spec import TokenSpec
from ranker.engine.documents.stored_document import FIELDS, field_value, token_cells
from ranker.engine.documents.tensors import document_cells, type_name
from ranker.engine.errors import DocumentError, json_type

__all__ = ["Arithmetic", "Assign", "Change", "Modify", "parse_changes"]

VERBS = ("increment", "decrement", "multiply", "divide")
MODIFY = ("replace", "add", "multiply")

_CODES = {"string": 2, "long": 4, "tensor": 21}
"""Vespa's numbers of the types, which some of its messages tell."""

_CLASSES = {"string": "StringFieldValue", "long": "LongFieldValue"}
_INSIDE = re.compile(r"(\w+)(?:\.(.+)|([{\[].*))", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LARGEST = 2**63 - 1


class Change(Protocol):
    """One change of one field."""

    @property
    def field(self) -> str:
        """The field."""

    def apply(self, value: Any) -> Any:
        """The value after the change, as `entry.make_entry` takes it.

        Args:
            value: the stored value, None where it is not set.

        Raises:
            ValueError: the result cannot be a value of the field.
        """


@dataclass(frozen=True, slots=True)
class Assign:
    """A new value; None clears the field."""

    field: str
    value: Any

    def apply(self, value: Any) -> Any:
        """The new value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`increment`, `decrement`, `multiply`, `divide`: in doubles, each cut to a long."""

    field: str
    steps: tuple[tuple[str, float], ...]
    spec: TokenSpec

    def apply(self, value: Any) -> Any:
        """The result, which must be a value of the field."""
        return field_value(self.field, self.result(value), self.spec)

    def result(self, value: int | None) -> int:
        """What the steps make of a number; a field that is not set counts as 0."""
        number = value or 0
        for verb, operand in self.steps:
            number = _long(_computed(verb, float(number), operand))
        return number


@dataclass(frozen=True, slots=True)
class Modify:
    """Some cells of the tensor replaced, added to or multiplied."""

    field: str
    operation: str
    cells: tuple[tuple[int, float], ...]
    spec: TokenSpec

    def apply(self, value: Any) -> Any:
        """The new tensor; there is nothing to modify where the document has none."""
        if value is None:
            return None
        found = token_cells(value, self.spec)
        for at, number in self.cells:
            match self.operation:
                case "replace":
                    found[at] = number
                case "add":
                    found[at] += number
                case _:
                    found[at] *= number
        return field_value(self.field, found, self.spec)


def parse_changes(name: str, change: Any, manifest: Manifest) -> Iterator[Change]:
    """The changes that an update's JSON wants for a field.

    Raises:
        DocumentError: 400, or 500 where Vespa answers so, with Vespa's words.
    """
    if name not in FIELDS:
        raise _error(name, _no_field(name, manifest))
    if not isinstance(change, dict):
        raise DocumentError(400, f"Expected start of JSON object, got {json_type(change)}")
    try:
        for arithmetic, group in itertools.groupby(change.items(), lambda item: item[0] in VERBS):
            if arithmetic:
                yield _arithmetic(name, list(group), manifest.spec)
            else:
                yield from (_change(name, verb, value, manifest.spec) for verb, value in group)
    except ValueError as error:
        raise _error(name, str(error)) from error


def _change(name: str, verb: str, value: Any, spec: TokenSpec) -> Change:
    if verb == "assign":
        return Assign(name, field_value(name, value, spec))
    if verb == "modify":
        if FIELDS[name] != "tensor":
            raise ValueError(
                "A modify update can only be applied to tensor fields. "
                f"Field '{name}' is of type '{_type(name, spec)}'"
            )
        return _modify(name, value, spec)
    if verb in ("add", "remove"):
        raise _no_elements(name, verb, value, spec)
    if verb == "match":
        if not isinstance(value, dict):
            raise ValueError(f"Expected object for match update, got {json_type(value)}")
        raise ValueError(f"Container type {_datatype(name, spec)} not supported for match update.")
    raise ValueError(f"Operation '{verb}' not implemented.")


def _arithmetic(name: str, verbs: list[tuple[str, Any]], spec: TokenSpec) -> Arithmetic:
    steps = tuple((verb, _operand(value)) for verb, value in verbs)
    if FIELDS[name] != "long":
        raise DocumentError(500, f"Expected numeric type, got {_type(name, spec)}.")
    return Arithmetic(name, steps, spec)


def _computed(verb: str, number: float, operand: float) -> float:
    match verb:
        case "increment":
            return number + operand
        case "decrement":
            return number - operand
        case "multiply":
            return number * operand
    return number / operand if operand else number * math.inf


def _operand(value: Any) -> float:
    """A number, which may be written as a string."""
    if isinstance(value, list | dict):
        shown = "[" if isinstance(value, list) else "{"
    elif value is None or isinstance(value, bool):
        shown = {None: "null", True: "true", False: "false"}[value]
    else:
        shown = str(value)
    if not _NUMBER.fullmatch(shown):
        raise ValueError(f'For input string: "{shown}"')
    return float(shown)


def _long(number: float) -> int:
    """A double as Java makes it a long: without its fraction, at most the largest."""
    if math.isnan(number):
        return 0
    if abs(number) >= _LARGEST:
        return _LARGEST if number > 0 else -_LARGEST - 1
    return int(number)


def _modify(name: str, value: Any, spec: TokenSpec) -> Modify:
    if not isinstance(value, dict):
        raise ValueError(f"Expected start of JSON object, got {json_type(value)}")
    update = f"odify update for field '{name}'"
    for key in value:
        if key == "blocks":
            raise ValueError(
                "The 'blocks' field can only be used with mixed tensors with bound dimensions. "
                "Use 'cells' or 'values' instead"
            )
        if key not in ("operation", "create", "cells"):
            raise ValueError(f"Unknown JSON string '{key}' in m{update}")
    if "operation" not in value:
        raise ValueError(f"M{update} does not contain an operation")
    if value["operation"] not in MODIFY:
        raise ValueError(f"Unknown operation '{value['operation']}' in m{update}")
    # Every cell of a dense tensor is there already, so there is none to create.
    if not isinstance(value.get("create", False), bool):
        raise ValueError(f"Unknown value '{value['create']}' for 'create' in m{update}")
    if "cells" not in value:
        raise ValueError(f"M{update} does not contain tensor cells")
    return Modify(name, value["operation"], tuple(_cells(value["cells"], spec)), spec)


def _cells(value: Any, spec: TokenSpec) -> Iterator[tuple[int, float]]:
    """Position and number of `[{"address":{"d0":"0"},"value":1}]` or `{"0":1}`."""
    if isinstance(value, dict):
        value = [{"address": {"d0": key}, "value": cell} for key, cell in value.items()]
    if not isinstance(value, list):
        raise ValueError(
            f"Expected 'cells' to contain an array or an object, but got {json_type(value)}"
        )
    seen: set[int] = set()
    for cell in value:
        if not isinstance(cell, dict):
            raise ValueError(f"Expected start of JSON object, got {json_type(cell)}")
        at = _position(_part(cell, "address", "an"), spec)
        if at in seen:
            raise ValueError(f"Multiple entries with same key: cell address ({at})")
        seen.add(at)
        _part(cell, "value", "a")
        (number,) = document_cells([{"address": {"d0": "0"}, "value": cell["value"]}], 1)
        yield at, number


def _part(cell: dict[str, Any], key: str, article: str) -> Any:
    if key not in cell:
        raise ValueError(
            f"Expected an object in a tensor 'cells' array to contain {article} '{key}' field"
        )
    return cell[key]


def _position(address: Any, spec: TokenSpec) -> int:
    """A label that is no number is refused like one that is too large; Vespa ignores its cell."""
    if not isinstance(address, dict):
        raise ValueError(f"Expected an address with the dimension d0, got {address!r}")
    for dimension in address:
        if dimension != "d0":
            raise ValueError(f"tensor<float>(d0{{}}) does not contain dimension '{dimension}'")
    if not address:
        raise ValueError("Missing a label for dimension 'd0' for tensor<float>(d0{})")
    label = str(address["d0"])
    if not re.fullmatch("[0-9]{1,9}", label) or int(label) >= spec.document_tokens:
        kind = type_name(spec.document_tokens)
        raise ValueError(f"Dimension 'd0' has label '{label}' but type is {kind}")
    return int(label)


def _no_elements(name: str, verb: str, value: Any, spec: TokenSpec) -> Exception:
    """The refusal of `add` and `remove`, which need a field with elements or labels."""
    if FIELDS[name] == "tensor":
        if not isinstance(value, dict):
            return ValueError(f"Expected start of JSON object, got {json_type(value)}")
        return ValueError(
            f"{'An' if verb == 'add' else 'A'} {verb} update can only be applied to tensors with "
            f"at least one sparse dimension. Field '{name}' has unsupported tensor type "
            f"'{_type(name, spec)}'"
        )
    if not isinstance(value, dict | list):
        return DocumentError(500, f"Expected start of composite, got {json_type(value)}")
    return DocumentError(
        500,
        "Trying to add or remove from a field of a type the reader does not know how to handle: "
        f"com.yahoo.document.datatypes.{_CLASSES[FIELDS[name]]}",
    )


def _no_field(name: str, manifest: Manifest) -> str:
    """Why a name is not a field: there is none, or it is a path into one that has no inside."""
    path = _INSIDE.fullmatch(name)
    if not path:
        return f"No field named '{name}' in document type '{manifest.schema}'"
    if path[1] not in FIELDS:
        return f"Field '{path[1]}' not found in document type '{manifest.schema}'"
    return (
        f"Datatype {_datatype(path[1], manifest.spec)} does not support further recursive "
        f"structure: {path[2] or path[3]}"
    )


def _error(name: str, message: str) -> DocumentError:
    return DocumentError(400, f"Error in '{name}': {message}")


def _type(name: str, spec: TokenSpec) -> str:
    kind = FIELDS[name]
    return type_name(spec.document_tokens) if kind == "tensor" else kind


def _datatype(name: str, spec: TokenSpec) -> str:
    return f"datatype {_type(name, spec)} (code: {_CODES[FIELDS[name]]})"
