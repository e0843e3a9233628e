"""Tensor texts and values.  What is accepted and refused was seen at Vespa's own front door
(8.700.24) unless a comment says otherwise."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.engine.documents.tensors import TensorError, document_cells, query_cells, render


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
    assert query_cells(text, 3) == cells


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,2,3,4]", "Expected 3 values, but got 4"),
        ("[]", "does not contain any values"),
        ('{"values":[]}', "does not contain any values"),
        ("", "Expected 24 hex digits, but got 0"),
        ("5", "Expected 24 hex digits, but got 1"),
        ("abc", "not hexadecimal|Expected 24 hex digits"),
        ("zzzzzz", "Expected a number, hex string, or a string starting by"),
        ("[1,2", "Malformed tensor string"),
        ("[1 2]", "Malformed tensor string"),
        ("[1,null]", "Expected a number but got 'null'"),
        ("[1,NaN]", "Expected a finite number"),
        ("[1,true]", "Expected a number but got 'true'"),
        ("{{d0:3}:1}", r"cell address \(3\) is not within the bounds of tensor<float>\(d0\[3\]\)"),
        ("{{x:0}:1}", "does not contain dimension 'x'"),
        ("{{d0:0}:1", "Malformed tensor string"),
        ("{{d0:0}}", "Malformed tensor string"),
        ("tensor(d0[3]):[1,2,3]", r"was passed type tensor<float>\(d0\[3\]\)"),
        ("tensor<float>(d0[2]):[1,2]", "Got tensor with type string"),
        ("tensor<float>(d0[3]):[1,2]", "Expected 3 values, but got 2"),
        ('{"0":1,"1":2}', "'values' and 'cells'"),
        ("{}", "'values' and 'cells'"),  # Vespa makes zeros of it, which this engine never wants
    ],
)
def test_query_refusals(text, message):
    with pytest.raises(TensorError, match=message):
        query_cells(text, 3)


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
    assert document_cells(value, 3) == cells


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "Expected 3 values, but got 2"),  # 8.700 fills it with zeros, newer ones refuse
        ([1, 2, 3, 4], "Expected 3 values, but got 4"),
        ({"values": []}, "The 'values' array does not contain any values"),
        ([], "The 'values' array does not contain any values"),
        ({"values": "00"}, r"Unexpected hex length: Expected 24 hex digits for tensor<float>"),
        ("", "Unexpected hex length"),
        (["x", 1, 2], "Expected a number but got 'x'"),
        ([None, 1, 2], "Expected a number but got 'null'"),
        ([True, 1, 2], "Expected a number but got 'true'"),
        (5, "Expected a tensor"),
        ({"blocks": []}, "The 'blocks' field can only be used with mixed tensors"),
        ({"bogus": [1]}, "'values' and 'cells'"),
        ({"cells": [{"value": 1}]}, "to contain an 'address' field"),
        ({"cells": [{"address": {"d0": "0"}}]}, "to contain a 'value' field"),
        ({"cells": [{"address": {"d0": "3"}, "value": 1}]}, r"cell address \(3\) is not within"),
        ({"cells": [{"address": {"d0": "x"}, "value": 1}]}, r"cell address \(x\) is not within"),
        ({"cells": [{"address": {"x": "0"}, "value": 1}]}, "does not contain dimension 'x'"),
        ({"cells": 5}, "'cells' to be an array or an object"),
    ],
)
def test_document_refusals(value, message):
    with pytest.raises(TensorError, match=message):
        document_cells(value, 3)


@given(st.lists(st.integers(0, 30521), min_size=5, max_size=5))
def test_what_is_rendered_reads_back(ids):
    rendered = render(ids, 5)
    assert document_cells(rendered, 5) == ids
    assert document_cells(struct.pack(">5f", *ids).hex(), 5) == ids
    assert query_cells(str(rendered["values"]), 5) == ids
