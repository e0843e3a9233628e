"""Dense tensors of one dimension `d0`: every form in which a request or a document writes one.

Queries and documents are read by different code in Vespa, with different rules, so there are two
readers here.  What each accepts and the words of each refusal were seen at the real front door
(8.700.24): `TensorParser` for queries, `TensorReader` for documents.
"""

import binascii
import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["TensorError", "document_cells", "query_cells", "render", "type_name"]

_LITERAL_CELL = re.compile(r"\s*\{\s*(\w+)\s*:\s*(\d+)\s*\}\s*:\s*([^,{}\s]+)\s*(,|$)")
_TYPED = re.compile(r"(tensor(?:<\w+>)?\([^)]*\))\s*:\s*(.*)", re.DOTALL)
_HEX_FORMATS = {2: "b", 8: "f", 16: "d"}
"""Hex digits of a cell to its struct format; 4 digits are a bfloat16, made into a float."""


class TensorError(ValueError):
    """A text or a JSON value that is not a tensor of the wanted type."""


def type_name(cells: int) -> str:
    """Vespa's name of the type."""
    return f"tensor<float>(d0[{cells}])"


def render(values: Sequence[float], cells: int) -> dict[str, Any]:
    """The short form in which Vespa returns a dense tensor, zero-padded to `cells`."""
    padded = [*map(float, values), *[0.0] * (cells - len(values))]
    return {"type": type_name(cells), "values": padded}


def query_cells(text: str, cells: int) -> list[float]:
    """Cells of a tensor as a query writes it, `cells` of them.

    Too few values are filled with zeros, as in Vespa, but not after a type (`tensor<...>:[...]`).

    Raises:
        TensorError: too many values, not numbers, another type, or no tensor at all.
    """
    text = text.strip()
    typed = _TYPED.fullmatch(text)
    if typed:
        if typed[1].replace(" ", "") != type_name(cells):
            raise TensorError(
                f"Got tensor with type string '{typed[1]}', but was passed type {type_name(cells)}"
            )
        values = _query_value(typed[2], cells)
        if typed[2].startswith("[") and len(values) < cells:
            raise TensorError(f"Expected {cells} values, but got {len(values)}")
        return _filled(values, cells)
    return _filled(_query_value(text, cells), cells)


def document_cells(value: Any, cells: int) -> list[float]:
    """Cells of a tensor as a document's JSON writes it, `cells` of them.

    The `values` form must be complete: Vespa 8.700 fills a short one with zeros in silence and
    newer versions refuse it, and a silent zero would end a text early.

    Raises:
        TensorError: a wrong number of values, not numbers, a wrong address, or no tensor at all.
    """
    if isinstance(value, str):
        return _hex(
            value, cells, "Unexpected hex length: Expected {0} hex digits for {1} but got {2}"
        )
    if isinstance(value, list):
        listed = value and isinstance(value[0], dict)
        return _cells(value, cells) if listed else _values(value, cells)
    if not isinstance(value, dict):
        raise TensorError(f"Expected a tensor as an object, an array or a string, got {value!r}")
    if "blocks" in value:
        raise TensorError(
            "The 'blocks' field can only be used with mixed tensors with bound dimensions. "
            "Use 'cells' or 'values' instead"
        )
    if "values" in value:
        inner = value["values"]
        return document_cells(inner, cells) if isinstance(inner, str) else _values(inner, cells)
    if "cells" in value:
        return _cells(value["cells"], cells)
    raise TensorError("Expected one of the fields 'values' and 'cells'")


def _query_value(text: str, cells: int) -> list[float]:
    if text.startswith("{{"):
        return _literal(text, cells)
    if not text.startswith(("[", "{")):
        if not re.fullmatch("[0-9a-fA-F]*", text):
            raise TensorError(
                "Expected a number, hex string, or a string starting by {, [ or tensor(...)"
            )
        return _hex(text, cells, "Expected {0} hex digits, but got {2}")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise TensorError(f"Malformed tensor string '{text}': {error}") from error
    if isinstance(value, dict) and "values" in value:
        value = value["values"]
    if isinstance(value, list) and not (value and isinstance(value[0], dict)):
        flat = _numbers(_flat(value))
        if not flat:
            raise TensorError("The 'values' array does not contain any values")
        if len(flat) > cells:
            raise TensorError(f"Expected {cells} values, but got {len(flat)}")
        return flat
    if isinstance(value, dict) and "cells" not in value:
        raise TensorError("Expected one of the fields 'values' and 'cells'")
    return _cells(value["cells"] if isinstance(value, dict) else value, cells)


def _literal(text: str, cells: int) -> list[float]:
    """`{{d0:0}:1,{d0:2}:3}`."""
    found = [0.0] * cells
    inner, at = text[1:].rstrip(), 0
    if not inner.endswith("}"):
        raise TensorError(f"Malformed tensor string '{text}': Expected a '}}' at the end")
    inner = inner[:-1]
    while at < len(inner):
        match = _LITERAL_CELL.match(inner, at)
        if not match:
            raise TensorError(f"Malformed tensor string '{text}': no cell after position {at + 1}")
        found[_position(match[1], match[2], cells)] = _number(match[3])
        at = match.end()
    return found


def _cells(value: Any, cells: int) -> list[float]:
    """`[{"address":{"d0":"0"},"value":1}]` or `{"0":1}`."""
    found = [0.0] * cells
    if isinstance(value, dict):
        value = [{"address": {"d0": key}, "value": cell} for key, cell in value.items()]
    if not isinstance(value, list):
        raise TensorError(f"Expected 'cells' to be an array or an object, got {value!r}")
    for cell in value:
        for name in ("address", "value"):
            if not isinstance(cell, dict) or name not in cell:
                raise TensorError(
                    f"Expected an object in a tensor 'cells' array to contain "
                    f"{'an' if name == 'address' else 'a'} '{name}' field"
                )
        if not isinstance(cell["address"], dict) or len(cell["address"]) != 1:
            raise TensorError(f"Expected an address with the dimension d0, got {cell['address']!r}")
        ((dimension, at),) = cell["address"].items()
        found[_position(dimension, at, cells)] = _number(cell["value"])
    return found


def _position(dimension: str, at: Any, cells: int) -> int:
    if dimension != "d0":
        raise TensorError(f"{type_name(cells)} does not contain dimension '{dimension}'")
    if not str(at).isdecimal() or int(at) >= cells:
        raise TensorError(f"cell address ({at}) is not within the bounds of {type_name(cells)}")
    return int(at)


def _values(value: Any, cells: int) -> list[float]:
    flat = _numbers(_flat(value)) if isinstance(value, list) else []
    if not flat:
        raise TensorError("The 'values' array does not contain any values")
    if len(flat) != cells:
        raise TensorError(f"Expected {cells} values, but got {len(flat)}")
    return flat


def _flat(value: list[Any]) -> list[Any]:
    if list not in set(map(type, value)):
        return value
    return [cell for item in value for cell in (_flat(item) if isinstance(item, list) else [item])]


def _numbers(items: list[Any]) -> list[float]:
    # The feed's hot path: integers need no look at each.
    return items if set(map(type, items)) == {int} else [_number(item) for item in items]


def _number(item: Any) -> float:
    """A finite number, which may be a numeric string."""
    if not isinstance(item, int | float | str) or isinstance(item, bool):
        raise TensorError(f"Expected a number but got '{json.dumps(item)}'")
    try:
        number = float(item)
    except (ValueError, OverflowError) as error:
        raise TensorError(f"Expected a number but got '{item}'") from error
    if not math.isfinite(number):
        raise TensorError(f"Expected a finite number but got '{item}'")
    return number


def _hex(text: str, cells: int, message: str) -> list[float]:
    width, rest = divmod(len(text), cells)
    if rest or width not in (2, 4, 8, 16):
        raise TensorError(message.format(8 * cells, type_name(cells), len(text)))
    try:
        raw = binascii.unhexlify(text)
    except ValueError as error:
        raise TensorError(f"not hexadecimal: {error}") from error
    if width == 4:  # bfloat16: the upper half of a float
        raw = b"".join(raw[at : at + 2] + b"\0\0" for at in range(0, len(raw), 2))
        width = 8
    return [_number(value) for value in struct.unpack(f">{cells}{_HEX_FORMATS[width]}", raw)]


def _filled(values: list[float], cells: int) -> list[float]:
    return values + [0.0] * (cells - len(values))
