"""Token ids as cells of a Vespa tensor, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contract.storage import FLOAT, INT8, STORAGES, Storage

CELLS = 12
BOTH = pytest.mark.parametrize("storage", [FLOAT, INT8], ids=lambda storage: storage.name)


@BOTH
@given(data=st.data())
def test_ids_survive_being_packed(storage: Storage, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, storage.largest_id), max_size=CELLS))
    values = storage.pack(ids, CELLS)
    assert len(values) == storage.tensor_type(CELLS).size
    # Zero is the padding of storage, regardless of the model's own pad id.
    assert storage.unpack(values, CELLS) == ids + [0] * (CELLS - len(ids))


@given(st.integers(0, INT8.largest_id))
def test_int8_cells_are_the_bytes_of_an_id_in_twos_complement(number: int) -> None:
    high, low = INT8.pack([number], 1)
    assert bytes([high & 255, low & 255]) == number.to_bytes(2, "big")
    assert -128 <= high <= 127 and -128 <= low <= 127


@BOTH
def test_an_empty_text_is_a_tensor_of_zeros(storage: Storage) -> None:
    """Vespa gives zeros for a document without the field, which must read as an empty text."""
    assert storage.pack([], CELLS) == [0] * storage.tensor_type(CELLS).size


def test_types_and_memory() -> None:
    assert str(FLOAT.tensor_type(95)) == "tensor<float>(d0[95])"
    assert str(INT8.tensor_type(95)) == "tensor<int8>(b[2],d0[95])"
    assert FLOAT.tensor_type(95).attribute_bytes == 388
    assert INT8.tensor_type(95).attribute_bytes == 196
    assert FLOAT.largest_id == 16_777_216 and INT8.largest_id == 65_535
    assert list(STORAGES) == ["float", "int8"]


@pytest.mark.parametrize(
    ("storage", "values", "words"),
    [
        (FLOAT, [1.5, 0], "1.5 is not a cell of token ids: .* from 0 to 16777216"),
        (FLOAT, [-1, 0], "-1 is not a cell of token ids"),
        (FLOAT, [2**24 + 1, 0], "16777217|1.67772e.07 is not a cell of token ids"),
        (INT8, [128, 0, 0, 0], "128 is not a cell of token ids: .* from -128 to 127"),
        (INT8, [0, 0, -129, 0], "-129 is not a cell of token ids"),
        (INT8, [0.5, 0, 0, 0], "0.5 is not a cell of token ids"),
    ],
)
def test_values_that_no_id_is_packed_into_are_refused(
    storage: Storage, values: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        storage.unpack(values, 2)
