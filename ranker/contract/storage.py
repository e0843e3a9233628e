"""How the token ids of a document are stored in Vespa: one codec for each form.

A codec writes ids into the cells of a tensor field, reads them back, and gives the ranking
expression with which Vespa reads them.  In every form, a cell that is not set stands for id 0,
which ends a text, so that a document without the field is scored as an empty one.

The form belongs to the application package, not to the token contract: the model sees the same
ids either way, so one bundle can be packaged in both forms, under one fingerprint.
"""

import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

__all__ = ["FLOAT", "INT8", "STORAGES", "Storage", "TensorType"]

_CELL_BYTES = {"float": 4, "int8": 1}
_ALIGNMENT = 32
_REFERENCE_BYTES = 4


@dataclass(frozen=True)
class TensorType:
    """The type of a dense tensor in Vespa; `str` gives its name, as `tensor<float>(d0[95])`.

    Attributes:
        cell_type: `float` or `int8`.
        dimensions: name and size of each dimension in alphabetical order, as Vespa stores them.
    """

    cell_type: str
    dimensions: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        sizes = ",".join(f"{name}[{size}]" for name, size in self.dimensions)
        return f"tensor<{self.cell_type}>({sizes})"

    @property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(size for _, size in self.dimensions)

    @property
    def attribute_bytes(self) -> int:
        """Bytes that one document's value takes in the memory of an attribute.

        Vespa aligns the cells (`dense_tensor_store.cpp`) and keeps a reference to them.
        """
        cells = self.size * _CELL_BYTES[self.cell_type]
        return math.ceil(cells / _ALIGNMENT) * _ALIGNMENT + _REFERENCE_BYTES


class Storage(Protocol):
    """A form in which token ids are stored."""

    @property
    def name(self) -> str:
        """The name of the form in the manifest and on the command line."""
        ...

    @property
    def largest_id(self) -> int:
        """The largest id that the form holds exactly."""
        ...

    def tensor_type(self, cells: int) -> TensorType:
        """Return the type of the field that holds `cells` ids."""
        ...

    def pack(self, ids: Sequence[int], cells: int) -> list[int]:
        """Return the values of the field's tensor, in Vespa's order, for at most `cells` ids."""
        ...

    def unpack(self, values: Sequence[float], cells: int) -> list[int]:
        """Return the `cells` ids of a tensor's values, zeros included.

        Raises:
            ValueError: a value is not one that `pack` writes.
        """
        ...

    def expression(self, attribute: str) -> str:
        """Return the ranking expression for the `tensor<float>(d0[cells])` of the ids.

        Args:
            attribute: the rank feature of the field, as `attribute(doc_token_ids)`.
        """
        ...


class _FloatCells:
    """One float32 cell for each id: readable, and exact up to the 24 bits of its mantissa."""

    name = "float"
    largest_id = 2**24

    def tensor_type(self, cells: int) -> TensorType:
        return TensorType("float", (("d0", cells),))

    def pack(self, ids: Sequence[int], cells: int) -> list[int]:
        return [*ids, *[0] * (cells - len(ids))]

    def unpack(self, values: Sequence[float], cells: int) -> list[int]:
        return _whole(values, least=0, largest=self.largest_id)

    def expression(self, attribute: str) -> str:
        return attribute


class _Int8Planes:
    """Two int8 planes, the high bytes of all ids and then the low ones, in two's complement.

    It takes half the memory of floats and holds every vocabulary of up to 65,536 ids.
    """

    name = "int8"
    largest_id = 2**16 - 1

    def tensor_type(self, cells: int) -> TensorType:
        return TensorType("int8", (("b", 2), ("d0", cells)))

    def pack(self, ids: Sequence[int], cells: int) -> list[int]:
        zeros = [0] * (cells - len(ids))
        signed = memoryview(struct.pack(f">{len(ids)}H", *ids)).cast("b")
        return [*signed[::2], *zeros, *signed[1::2], *zeros]

    def unpack(self, values: Sequence[float], cells: int) -> list[int]:
        try:  # feeding sends integers, which need no look at each
            planes = array("b", cast("Sequence[int]", values)).tobytes()
        except (TypeError, OverflowError):
            planes = array("b", _whole(values, least=-128, largest=127)).tobytes()
        both = bytearray(2 * cells)
        both[::2], both[1::2] = planes[:cells], planes[cells:]
        return list(struct.unpack(f">{cells}H", both))

    def expression(self, attribute: str) -> str:
        # Both functions turn int8 cells into float, so that 256 * 255 does not overflow.
        unsigned = f"map({attribute}, f(x)(if (x < 0, x + 256, x)))"
        return f"reduce({unsigned} * tensor<float>(b[2]):[256,1], sum, b)"


FLOAT: Storage = _FloatCells()
INT8: Storage = _Int8Planes()
STORAGES = {storage.name: storage for storage in (FLOAT, INT8)}
"""Every form by its name."""


def _whole(values: Sequence[float], *, least: int, largest: int) -> list[int]:
    """Return values as integers, if all of them are integers from `least` to `largest`."""
    whole = list(map(int, values))
    # Feeding passes here: three looks at a whole list take a fifth of a look at each value.
    if whole == list(values) and least <= min(whole) and max(whole) <= largest:
        return whole
    bad = next(v for v in values if v != int(v) or not least <= v <= largest)
    raise ValueError(
        f"{bad:g} is not a cell of token ids: expected a whole number from {least} to {largest}"
    )
