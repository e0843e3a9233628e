"""Dense tensors, in every form in which a request or a document writes one.

Vespa reads the tensors of queries and of documents by different code with different rules
(`TensorParser`, `TensorReader`), so there are two readers here; each accepts what Vespa's own
front door accepts (8.700.24).
"""

import binascii
import contextlib
import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from ranker.contract.storage import TensorType

__all__ = ["JsonValue", "TensorError", "addressed_cells", "document_cells", "query_cells", "render"]

_LITERAL_CELL = re.compile(r"\s*\{\s*(\w+)\s*:\s*(\d+)\s*\}\s*:\s*([^,{}\s]+)\s*(,|$)")
_TYPED = re.compile(r"(tensor(?:<\w+>)?\([^)]*\))\s*:\s*(.*)", re.DOTALL)
_HEX_FORMATS = {2: "b", 8: "f", 16: "d"}
"""Hex digits of a cell to its struct format; 4 digits are a bfloat16, widened to a float."""


JsonValue = Any
"""A value read from JSON, whose type is what the readers here check."""


class TensorError(ValueError):
    """A text or a JSON value that is not a tensor of the wanted type."""


def render(values: Sequence[float], kind: TensorType) -> dict[str, Any]:
    """Return the short form in which Vespa returns a dense tensor: a nested array of its cells."""
    nested: list[Any] = list(map(float, values))
    for _, size in reversed(kind.dimensions[1:]):
        nested = [nested[at : at + size] for at in range(0, len(nested), size)]
    return {"type": str(kind), "values": nested}


def query_cells(value: JsonValue, kind: TensorType) -> list[float]:
    """Read a tensor as a query writes it, as a text or as a value of its JSON body.

    Too few values are filled with zeros, as in Vespa, but not after a type (`tensor<...>:[...]`).

    Returns:
        The number of each cell.

    Raises:
        TensorError: too many values, not numbers, another type, or not a tensor at all.
    """
    typed = _TYPED.fullmatch(value.strip()) if isinstance(value, str) else None
    if typed:
        if typed[1].replace(" ", "") != str(kind):
            raise TensorError(f"expected the type {kind}, got {typed[1]}")
        value = typed[2]
    values = _query_values(value, kind)
    if len(values) > kind.size or (typed and value.startswith("[") and len(values) < kind.size):
        raise TensorError(f"expected {kind.size} values, got {len(values)}")
    return values + [0.0] * (kind.size - len(values))


def document_cells(value: JsonValue, kind: TensorType) -> list[float]:
    """Read a tensor as a document's JSON writes it.

    The `values` form must be complete: Vespa 8.700 silently fills a short one with zeros and newer
    versions refuse it, and a silent zero would end a text early.

    Returns:
        The number of each cell.

    Raises:
        TensorError: a wrong number of values, not numbers, a wrong address, or not a tensor at all.
    """
    if isinstance(value, dict):
        form = next((name for name in ("values", "cells") if name in value), None)
        if form is None or "blocks" in value:
            raise TensorError(f"expected 'values' or 'cells', got {value!r:.60}")
        if form == "cells":
            return _dense(value["cells"], kind)
        value = value["values"]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        return _dense(value, kind)
    if isinstance(value, str):
        return _hex(value, kind)
    values = _numbers(value)
    if len(values) != kind.size:
        raise TensorError(f"expected {kind.size} values, got {len(values)}")
    return values


def addressed_cells(value: JsonValue, kind: TensorType) -> list[tuple[int, float]]:
    """Read positions and numbers of `[{"address":{"d0":"0"},"value":1}]` or `{"0":1}`.

    Raises:
        TensorError: not numbers, or an address outside the tensor.
    """
    if isinstance(value, dict):
        (dimension, _), *_ = kind.dimensions
        value = [{"address": {dimension: key}, "value": cell} for key, cell in value.items()]
    if not isinstance(value, list):
        raise TensorError(f"expected cells as an array or an object, got {value!r:.60}")
    for cell in value:
        if not isinstance(cell, dict) or not {"address", "value"} <= cell.keys():
            raise TensorError(f"expected a cell with 'address' and 'value', got {cell!r:.60}")
    return [(_position(cell["address"], kind), _number(cell["value"])) for cell in value]


def _query_values(value: JsonValue, kind: TensorType) -> list[float]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("{{"):
            return _literal(text, kind)
        if not text.startswith(("[", "{")):
            return _hex(text, kind)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise TensorError(f"not JSON: {error}") from error
    if isinstance(value, dict) and "values" in value:
        value = value["values"]
    if isinstance(value, list) and not (value and isinstance(value[0], dict)):
        return _numbers(value)
    if isinstance(value, dict):
        if "cells" not in value:
            raise TensorError(f"expected 'values' or 'cells', got {value!r:.60}")
        value = value["cells"]
    return _dense(value, kind)


def _literal(text: str, kind: TensorType) -> list[float]:
    """Read `{{d0:0}:1,{d0:2}:3}`."""
    dense = [0.0] * kind.size
    inner, start = text[1:].rstrip(), 0
    if not inner.endswith("}"):
        raise TensorError(f"expected a '}}' at the end of {text!r:.60}")
    inner = inner[:-1]
    while start < len(inner):
        cell = _LITERAL_CELL.match(inner, start)
        if not cell:
            raise TensorError(f"expected a cell like {{d0:0}}:1 at {inner[start:]!r:.40}")
        dense[_position({cell[1]: cell[2]}, kind)] = _number(cell[3])
        start = cell.end()
    return dense


def _dense(value: JsonValue, kind: TensorType) -> list[float]:
    """Return all cells; those without an address are 0."""
    dense = [0.0] * kind.size
    for position, number in addressed_cells(value, kind):
        dense[position] = number
    return dense


def _position(address: JsonValue, kind: TensorType) -> int:
    """Return the place of a cell among all cells, the last dimension varying fastest."""
    names = [name for name, _ in kind.dimensions]
    if not isinstance(address, dict) or sorted(address) != names:
        raise TensorError(f"expected an address in {', '.join(names)}, got {address!r:.60}")
    position = 0
    for name, size in kind.dimensions:
        label = str(address[name])
        if not re.fullmatch("[0-9]{1,9}", label) or int(label) >= size:
            raise TensorError(f"the label {label!r:.40} of {name} is not a cell of {kind}")
        position = position * size + int(label)
    return position


def _numbers(value: JsonValue) -> list[float]:
    """Return the numbers of a list, which may be nested."""
    if not isinstance(value, list):
        raise TensorError(f"expected a tensor, got {value!r:.60}")
    if set(map(type, value)) == {int}:  # as from a feed: no look at each number is needed
        return value
    numbers = [_number(item) for item in _flat(value)]
    if not numbers:
        raise TensorError("expected values, got an empty array")
    return numbers


def _flat(value: list[Any]) -> Iterator[Any]:
    for item in value:
        yield from _flat(item) if isinstance(item, list) else (item,)


def _number(item: JsonValue) -> float:
    """Return a finite number, which may be written as a string."""
    number = math.nan
    if isinstance(item, int | float | str) and not isinstance(item, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(item)
    if not math.isfinite(number):
        raise TensorError(f"expected a finite number, got {item!r:.40}")
    return number


def _hex(text: str, kind: TensorType) -> list[float]:
    width, rest = divmod(len(text), kind.size)
    widths = (2,) if kind.cell_type == "int8" else (2, 4, 8, 16)
    try:
        raw = binascii.unhexlify(text if not rest and width in widths else "odd")
    except ValueError as error:
        digits = widths[len(widths) // 2] * kind.size
        raise TensorError(
            f"expected a tensor, or {digits} hex digits of {kind}, got {text!r:.40}"
        ) from error
    if width == 4:  # bfloat16: the upper half of a float
        raw = b"".join(raw[at : at + 2] + b"\0\0" for at in range(0, len(raw), 2))
        width = 8
    return [_number(value) for value in struct.unpack(f">{kind.size}{_HEX_FORMATS[width]}", raw)]
