"""Texts and JSON values of tensors: accepted and refused as by Vespa's own front door (8.700.24),
unless a comment says otherwise."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contract.storage import FLOAT, INT8
from ranker.engine.documents.tensors import TensorError, document_cells, query_cells, render

THREE, FIVE = FLOAT.tensor_type(3), FLOAT.tensor_type(5)
PLANES = INT8.tensor_type(3)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("[1,2,3]", [1, 2, 3]),
        ("[1, 2]", [1, 2, 0]),
        ('{"values":[1,2]}', [1, 2, 0]),
        ('{"type":"tensor<float>(d0[3])","values":[1]}', [1, 0, 0]),
        ("{{d0:0}:1,{d0:2}:3}", [1, 0, 3]),
        ("{ {d0:1} : 2.5 }".replace("{ {", "{{"), [0, 2.5, 0]),
        ("{{d0:0}:1,{d0:0}:3}", [3, 0, 0]),
        ('{"cells":[{"address":{"d0":"1"},"value":7}]}', [0, 7, 0]),
        ('{"cells":{"0":1}}', [1, 0, 0]),
        ('{"cells":[]}', [0, 0, 0]),
        ("tensor<float>(d0[3]):[1,2,3]", [1, 2, 3]),
        ("tensor<float>(d0[3]):{{d0:1}:5}", [0, 5, 0]),
        ("[[1,2]]", [1, 2, 0]),
        ('["1",2]', [1, 2, 0]),
        (struct.pack(">3f", 1, 2, 30522).hex(), [1, 2, 30522]),
        (struct.pack(">3d", 1, 2, 30522).hex(), [1, 2, 30522]),
        ("0102ff", [1, 2, -1]),
        ("3f8040003f80", [1, 2, 1]),
    ],
)
def test_query_forms(text, cells):
    assert query_cells(text, THREE) == cells


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,2,3,4]", "expected 3 values, got 4"),
        ("[]", "got an empty array"),
        ('{"values":[]}', "got an empty array"),
        ("", r"24 hex digits of tensor<float>\(d0\[3\]\), got ''"),
        ("5", "24 hex digits of .*, got '5'"),
        ("abc", "24 hex digits of .*, got 'abc'"),
        ("zzzzzz", "expected a tensor, or 24 hex digits of .*, got 'zzzzzz'"),
        ("[1,2", "not JSON: "),
        ("[1 2]", "not JSON: "),
        ("[1,null]", "expected a finite number, got None"),
        ("[1,NaN]", "expected a finite number, got nan"),
        ("[1,true]", "expected a finite number, got True"),
        ("{{d0:3}:1}", r"label '3' of d0 is not a cell of tensor<float>\(d0\[3\]\)"),
        ("{{x:0}:1}", "expected an address in d0, got {'x': '0'}"),
        ("{{d0:0}:1", "expected a '}' at the end"),
        ("{{d0:0}}", "expected a cell like {d0:0}:1 at '{d0:0}'"),
        ("tensor(d0[3]):[1,2,3]", r"expected the type tensor<float>\(d0\[3\]\), got tensor\(d0"),
        ("tensor<float>(d0[2]):[1,2]", r"expected the type .*, got tensor<float>\(d0\[2\]\)"),
        ("tensor<float>(d0[3]):[1,2]", "expected 3 values, got 2"),
        ('{"0":1,"1":2}', "expected 'values' or 'cells', got {"),
        (
            "{}",
            "expected 'values' or 'cells', got {",
        ),  # Vespa makes zeros of it, which this engine never wants
    ],
)
def test_query_refusals(text, message):
    with pytest.raises(TensorError, match=message):
        query_cells(text, THREE)


@pytest.mark.parametrize(
    ("value", "cells"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ({"values": [1, 2, 3]}, [1, 2, 3]),
        ({"type": "tensor<float>(d0[3])", "values": [1, 2, 3]}, [1, 2, 3]),
        ({"values": struct.pack(">3f", 1, 2, 3).hex()}, [1, 2, 3]),
        (struct.pack(">3f", 1, 2, 3).hex(), [1, 2, 3]),
        ({"cells": [{"address": {"d0": "1"}, "value": 4}]}, [0, 4, 0]),
        ([{"address": {"d0": "2"}, "value": 4}], [0, 0, 4]),
        ({"cells": {"0": 1}}, [1, 0, 0]),
        (["1", "2", "3"], [1, 2, 3]),
        ([[1, 2, 3]], [1, 2, 3]),
    ],
)
def test_document_forms(value, cells):
    assert document_cells(value, THREE) == cells


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "expected 3 values, got 2"),  # 8.700 fills it with zeros, newer ones refuse
        ([1, 2, 3, 4], "expected 3 values, got 4"),
        ({"values": []}, "got an empty array"),
        ([], "got an empty array"),
        ({"values": "00"}, "24 hex digits of tensor<float>.*, got '00'"),
        ("", "24 hex digits of tensor<float>.*, got ''"),
        (["x", 1, 2], "expected a finite number, got 'x'"),
        ([None, 1, 2], "expected a finite number, got None"),
        ([True, 1, 2], "expected a finite number, got True"),
        (5, "expected a tensor, got 5"),
        ({"blocks": []}, "expected 'values' or 'cells', got {'blocks'"),
        ({"bogus": [1]}, "expected 'values' or 'cells', got {"),
        ({"cells": [{"value": 1}]}, "expected a cell with 'address' and 'value', got {'value': 1}"),
        (
            {"cells": [{"address": {"d0": "0"}}]},
            "expected a cell with 'address' and 'value', got {'address'",
        ),
        ({"cells": [{"address": {"d0": "3"}, "value": 1}]}, "label '3' of d0 is not a cell of"),
        ({"cells": [{"address": {"d0": "x"}, "value": 1}]}, "label 'x' of d0 is not a cell of"),
        (
            {"cells": [{"address": {"x": "0"}, "value": 1}]},
            "expected an address in d0, got {'x'",
        ),
        ({"cells": 5}, "expected cells as an array or an object, got 5"),
    ],
)
def test_document_refusals(value, message):
    with pytest.raises(TensorError, match=message):
        document_cells(value, THREE)


@given(st.lists(st.integers(0, 30521), min_size=5, max_size=5))
def test_what_is_rendered_reads_back(ids):
    rendered = render(ids, FIVE)
    assert document_cells(rendered, FIVE) == ids
    assert document_cells(struct.pack(">5f", *ids).hex(), FIVE) == ids
    assert query_cells(str(rendered["values"]), FIVE) == ids


@pytest.mark.parametrize(
    ("value", "cells"),
    [
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
        ({"values": [[1, 2, 3], [4, 5, -6]]}, [1, 2, 3, 4, 5, -6]),
        ({"values": "0102030405ff"}, [1, 2, 3, 4, 5, -1]),
        ({"cells": [{"address": {"b": "1", "d0": "0"}, "value": 4}]}, [0, 0, 0, 4, 0, 0]),
    ],
)
def test_two_planes(value, cells):
    assert document_cells(value, PLANES) == cells


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2, 3], "expected 6 values, got 3"),
        ("3f8000003f8000003f8000003f8000003f8000003f800000", "expected a tensor, or 12 hex digits"),
        ({"cells": {"0": 1}}, "expected an address in b, d0, got {'b': '0'}"),
        ({"cells": [{"address": {"b": "2", "d0": "0"}, "value": 4}]}, "label '2' of b is not a"),
    ],
)
def test_two_planes_refused(value, message):
    with pytest.raises(TensorError, match=message):
        document_cells(value, PLANES)


def test_planes_are_rendered_as_nested_arrays():
    rendered = render([1, 2, 3, 4, 5, -6], PLANES)
    assert rendered == {"type": "tensor<int8>(b[2],d0[3])", "values": [[1, 2, 3], [4, 5, -6]]}
    assert document_cells(rendered, PLANES) == [1, 2, 3, 4, 5, -6]
