"""Dense tensors of one dimension `d0`, in every form in which a request or a document writes one.

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
from collections.abc import Sequence
from typing import Any

__all__ = ["TensorError", "addressed_cells", "document_cells", "query_cells", "render", "type_name"]

_LITERAL_CELL = re.compile(r"\s*\{\s*(\w+)\s*:\s*(\d+)\s*\}\s*:\s*([^,{}\s]+)\s*(,|$)")
_TYPED = re.compile(r"(tensor(?:<\w+>)?\([^)]*\))\s*:\s*(.*)", re.DOTALL)
_HEX_FORMATS = {2: "b", 8: "f", 16: "d"}
"""Hex digits of a cell to its struct format; 4 digits are a bfloat16, widened to a float."""


class TensorError(ValueError):
    """A text or a JSON value that is not a tensor of the wanted type."""


def type_name(cells: int) -> str:
    """Return Vespa's name of the type."""
    return f"tensor<float>(d0[{cells}])"


def render(values: Sequence[float], cells: int) -> dict[str, Any]:
    """Return the short form in which Vespa returns a dense tensor, zero-padded to `cells`."""
    return {"type": type_name(cells), "values": _padded(list(map(float, values)), cells)}


def query_cells(text: str, cells: int) -> list[float]:
    """Read a tensor as a query writes it.

    Too few values are filled with zeros, as in Vespa, but not after a type (`tensor<...>:[...]`).

    Returns:
        `cells` numbers.

    Raises:
        TensorError: too many values, not numbers, another type, or not a tensor at all.
    """
    text = text.strip()
    if typed := _TYPED.fullmatch(text):
        if typed[1].replace(" ", "") != type_name(cells):
            raise TensorError(f"expected the type {type_name(cells)}, got {typed[1]}")
        text = typed[2]
    values = _query_values(text, cells)
    if len(values) > cells or (typed and text.startswith("[") and len(values) < cells):
        raise TensorError(f"expected {cells} values, got {len(values)}")
    return _padded(values, cells)


def document_cells(value: Any, cells: int) -> list[float]:
    """Read a tensor as a document's JSON writes it.

    The `values` form must be complete: Vespa 8.700 silently fills a short one with zeros and newer
    versions refuse it, and a silent zero would end a text early.

    Returns:
        `cells` numbers.

    Raises:
        TensorError: a wrong number of values, not numbers, a wrong address, or not a tensor at all.
    """
    if isinstance(value, dict):
        form = next((name for name in ("values", "cells") if name in value), None)
        if form is None or "blocks" in value:
            raise TensorError(f"expected 'values' or 'cells', got {value!r:.60}")
        if form == "cells":
            return _dense(value["cells"], cells)
        value = value["values"]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        return _dense(value, cells)
    if isinstance(value, str):
        return _hex(value, cells)
    values = _numbers(value)
    if len(values) != cells:
        raise TensorError(f"expected {cells} values, got {len(values)}")
    return values


def addressed_cells(value: Any, cells: int) -> list[tuple[int, float]]:
    """Read positions and numbers of `[{"address":{"d0":"0"},"value":1}]` or `{"0":1}`.

    Raises:
        TensorError: not numbers, or an address outside a tensor of `cells` cells.
    """
    if isinstance(value, dict):
        value = [{"address": {"d0": key}, "value": number} for key, number in value.items()]
    if not isinstance(value, list):
        raise TensorError(f"expected cells as an array or an object, got {value!r:.60}")
    addressed = []
    for cell in value:
        if not isinstance(cell, dict) or not {"address", "value"} <= cell.keys():
            raise TensorError(f"expected a cell with 'address' and 'value', got {cell!r:.60}")
        address = cell["address"]
        if not isinstance(address, dict) or list(address) != ["d0"]:
            raise TensorError(f"expected an address with the dimension d0, got {address!r:.60}")
        addressed.append((_position(address["d0"], cells), _number(cell["value"])))
    return addressed


def _query_values(text: str, cells: int) -> list[float]:
    if text.startswith("{{"):
        return _literal(text, cells)
    if not text.startswith(("[", "{")):
        return _hex(text, cells)
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
            raise TensorError(f"expected 'values' or 'cells', got {text:.60}")
        value = value["cells"]
    return _dense(value, cells)


def _literal(text: str, cells: int) -> list[float]:
    """Read `{{d0:0}:1,{d0:2}:3}`."""
    dense = [0.0] * cells
    inner, start = text[1:].rstrip(), 0
    if not inner.endswith("}"):
        raise TensorError(f"expected a '}}' at the end of {text!r:.60}")
    inner = inner[:-1]
    while start < len(inner):
        cell = _LITERAL_CELL.match(inner, start)
        if not cell or cell[1] != "d0":
            raise TensorError(f"expected a cell like {{d0:0}}:1 at {inner[start:]!r:.40}")
        dense[_position(cell[2], cells)] = _number(cell[3])
        start = cell.end()
    return dense


def _dense(value: Any, cells: int) -> list[float]:
    """Return all cells; those without an address are 0."""
    dense = [0.0] * cells
    for position, number in addressed_cells(value, cells):
        dense[position] = number
    return dense


def _position(label: Any, cells: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", str(label)) or int(label) >= cells:
        raise TensorError(f"the label {label!r:.40} of d0 is not a cell of {type_name(cells)}")
    return int(label)


def _numbers(value: Any) -> list[float]:
    """Return the numbers of a list, which may be nested."""
    if not isinstance(value, list):
        raise TensorError(f"expected a tensor, got {value!r:.60}")
    flat = _flat(value)
    if not flat:
        raise TensorError("expected values, got an empty array")
    # Feeding passes here with lists of integers, which need no look at each.
    return flat if set(map(type, flat)) == {int} else [_number(item) for item in flat]


def _flat(value: list[Any]) -> list[Any]:
    if list not in set(map(type, value)):
        return value
    return [cell for item in value for cell in (_flat(item) if isinstance(item, list) else [item])]


def _number(item: Any) -> float:
    """Return a finite number, which may be written as a string."""
    number = math.nan
    if isinstance(item, int | float | str) and not isinstance(item, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(item)
    if not math.isfinite(number):
        raise TensorError(f"expected a finite number, got {item!r:.40}")
    return number


def _hex(text: str, cells: int) -> list[float]:
    width, rest = divmod(len(text), cells)
    try:
        raw = binascii.unhexlify(text if not rest and width in (2, 4, 8, 16) else "odd")
    except ValueError as error:
        raise TensorError(
            f"expected a tensor, or {8 * cells} hex digits of {type_name(cells)}, got {text!r:.40}"
        ) from error
    if width == 4:  # bfloat16: the upper half of a float
        raw = b"".join(raw[at : at + 2] + b"\0\0" for at in range(0, len(raw), 2))
        width = 8
    return [_number(value) for value in struct.unpack(f">{cells}{_HEX_FORMATS[width]}", raw)]


def _padded(values: list[float], cells: int) -> list[float]:
    return values + [0.0] * (cells - len(values))
