"""Partial updates: what each operation does to a field, and what Vespa refuses.

Results are those of Vespa's own `DocumentUpdate.applyTo`, statuses those of the real front door
(8.700.24).
"""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from engine_support import make_app, tiny_spec

from ranker.engine.documents.operations import parse_update
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.documents.updates import parse_field_updates
from ranker.engine.errors import DocumentError
from ranker.errors import MissingTool
from ranker.package.application import Package
from ranker.verify import container

SPEC = tiny_spec()
NUMBER = SPEC.fingerprint_number
DENSE = "tensor<float>(d0[95])"


def modified(**change):
    """Return a field and its update."""
    return "doc_token_ids", {"modify": change}


def modify(operation, at, number):
    """Return the fields of an update of one cell."""
    return dict([modified(operation=operation, cells={str(at): number})])


@pytest.fixture(scope="module")
def manifest(package):
    return Package.open(package).manifest


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (7, {"increment": 2}, 9),
        (7, {"increment": "3"}, 10),
        (7, {"increment": 1.9}, 8),
        (7, {"increment": -1.5}, 5),
        (7, {"increment": 1e30}, 2**63 - 1),
        (7, {"decrement": 2}, 5),
        (7, {"decrement": 1.9}, 5),
        (7, {"decrement": 2**63 - 1}, -(2**63)),
        (7, {"multiply": 2}, 14),
        (7, {"multiply": 1.9}, 13),
        (7, {"multiply": -1.5}, -10),
        (7, {"multiply": 0}, 0),
        (7, {"divide": 2}, 3),
        (7, {"divide": -1.5}, -4),
        (7, {"divide": 0}, 2**63 - 1),
        (0, {"divide": 0}, 0),
        (7, {"increment": 1, "multiply": 2}, 16),
        (7, {"multiply": 1.5, "divide": 1.5}, 6),  # 10.5 is cut to 10 in between
        (None, {"increment": 2}, 2),
        (None, {"multiply": 2}, 0),
    ],
)
def test_arithmetic(manifest, before, change, after):
    (update,) = parse_field_updates("token_fingerprint", change, manifest)
    assert update.result(before) == after


def updated(manifest, fields, change):
    """Return the fields of a document after an update."""
    update = parse_update("id:n:doc::1", {"fields": change}, manifest, condition=None, create=False)
    return update.apply(StoredDocument.from_values("id:n:doc::1", fields)).values


def test_updates_of_one_field_apply_one_after_another(manifest):
    change = {"token_fingerprint": {"assign": NUMBER, "increment": 5, "decrement": 5}}
    assert updated(manifest, {}, change)["token_fingerprint"] == NUMBER
    change = {"token_fingerprint": {"increment": NUMBER}, "title": {}, "text": {"assign": ""}}
    assert updated(manifest, {"title": "x"}, change) == {
        "doc_id": None,
        "title": "x",
        "text": None,
        "token_fingerprint": NUMBER,
        "doc_token_ids": None,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_fingerprint": {"increment": 1}}, "tokenized under the token contract"),
        ({"token_fingerprint": {"assign": None}}, "doc_token_ids without token_fingerprint"),
        (modify("add", 0, 10**6), "1000005 is not a token id: expected whole numbers from 0 to"),
        (modify("replace", 0, 0.5), "0.5 is not a cell of token ids"),
        (modify("multiply", 0, -1), "-5 is not a cell of token ids"),
    ],
)
def test_results_that_cannot_be_stored(manifest, change, message):
    tokens = [5, 6, 7] + [0] * 92
    (assign,) = parse_field_updates("doc_token_ids", {"assign": tokens}, manifest)
    fields = {"doc_token_ids": assign.value, "token_fingerprint": NUMBER}
    with pytest.raises(DocumentError) as caught:
        updated(manifest, fields, change)
    assert caught.value.status == 400
    assert caught.value.message.startswith("document id:n:doc::1: ")
    assert message in caught.value.message


OURS_ALONE = {"modify": {"operation": "add", "cells": {"x": 1}}}
"""Refused here only: Vespa ignores a cell whose label is not a number."""

CELLS = [{"address": {"d0": "1"}, "value": 3}]


REFUSED = [
    ("title", {"add": 1}, 500, "field 'title': a field of type string has no 'add'; expected"),
    ("title", {"remove": None}, 500, "a field of type string has no 'remove'; expected assign"),
    ("title", {"add": ["x"]}, 500, "a field of type string has no 'add'; expected assign"),
    ("token_fingerprint", {"remove": [1]}, 500, "type long has no 'remove'; expected assign, inc"),
    ("title", {"increment": 1}, 500, "a field of type string has no 'increment'; expected ass"),
    ("doc_token_ids", {"divide": 1}, 500, f"{DENSE} has no 'divide'; expected assign, modify"),
    ("title", {"increment": "x"}, 400, "field 'title': expected a number, got 'x'"),
    ("token_fingerprint", {"multiply": None}, 400, "expected a number, got None"),
    ("token_fingerprint", {"multiply": True}, 400, "expected a number, got True"),
    ("token_fingerprint", {"divide": [1]}, 400, "expected a number, got [1]"),
    ("token_fingerprint", {"divide": {"a": 1}}, 400, "expected a number, got {'a': 1}"),
    ("token_fingerprint", {"increment": "1_0"}, 400, "expected a number, got '1_0'"),
    ("token_fingerprint", {"assign": 1.5}, 400, "expected a whole number of 64 bits, got 1.5"),
    ("title", {"assign": ["a"]}, 400, "expected a string, got ['a']"),
    ("title", {"match": 1}, 400, "a field of type string has no 'match'; expected assign"),
    (
        "token_fingerprint",
        {"match": {"element": 1, "increment": 1}},
        400,
        "a field of type long has no 'match'; expected assign, increment",
    ),
    ("title", {"become": 1}, 400, "a field of type string has no 'become'; expected assign"),
    ("title", {"modify": 1}, 400, "a field of type string has no 'modify'; expected assign"),
    ("doc_token_ids", {"add": {"cells": CELLS}}, 400, f"{DENSE} has no 'add'; expected assign, m"),
    ("doc_token_ids", {"remove": {"addresses": []}}, 400, f"{DENSE} has no 'remove'; expected as"),
    ("doc_token_ids", {"add": 1}, 400, f"{DENSE} has no 'add'; expected assign, modify"),
    ("doc_token_ids", {"modify": 5}, 400, "modify takes 'operation', 'cells' and 'create', got 5"),
    (*modified(cells=CELLS), 400, "takes 'operation', 'cells' and 'create', got {'cells': "),
    (*modified(operation="add"), 400, "'cells' and 'create', got {'operation': 'add'}"),
    (*modified(operation="subtract", cells=[]), 400, "multiply, got the operation 'subtract'"),
    (*modified(operation=["add"], cells=[]), 400, "multiply, got the operation ['add']"),
    (*modified(operation="add", values=[1]), 400, "got {'operation': 'add', 'values': [1]}"),
    (*modified(operation="add", addresses=[]), 400, "got {'operation': 'add', 'addresses': []}"),
    (*modified(operation="add", blocks=[]), 400, "got {'operation': 'add', 'blocks': []}"),
    (*modified(operation="add", cells=[], create="x"), 400, "for 'create', got 'x'"),
    (*modified(operation="add", cells=5), 400, "expected cells as an array or an object, got 5"),
    (
        *modified(operation="add", cells=[{"value": 1}]),
        400,
        "expected a cell with 'address' and 'value', got {'value': 1}",
    ),
    (
        *modified(operation="add", cells=[{"address": {}}]),
        400,
        "expected a cell with 'address' and 'value', got {'address': {}}",
    ),
    (*modified(operation="add", cells=[5]), 400, "a cell with 'address' and 'value', got 5"),
    (*modified(operation="add", cells=CELLS * 2), 400, "a cell is addressed twice"),
    (
        *modified(operation="add", cells={"95": 1}),
        400,
        f"label '95' of d0 is not a cell of {DENSE}",
    ),
    (*modified(operation="add", cells={"x": 1}), 400, f"label 'x' of d0 is not a cell of {DENSE}"),
    (*modified(operation="add", cells={"1": True}), 400, "expected a finite number, got True"),
    (*modified(operation="add", cells={"1": None}), 400, "expected a finite number, got None"),
    (
        *modified(operation="add", cells=[{"address": {"x": "1"}, "value": 1}]),
        400,
        "expected an address in d0, got {'x': '1'}",
    ),
    (
        *modified(operation="add", cells=[{"address": {"d0": 1, "x": 1}, "value": 1}]),
        400,
        "expected an address in d0, got {'d0': 1, 'x': 1}",
    ),
    ("title", None, 400, 'expected an object like {"assign": VALUE}, got None'),
    ("title", "x", 400, "expected an object like {\"assign\": VALUE}, got 'x'"),
    ("title", 1.5, 400, 'expected an object like {"assign": VALUE}, got 1.5'),
    ("title", [1], 400, 'expected an object like {"assign": VALUE}, got [1]'),
    ("nosuch", {"assign": 1}, 400, "field 'nosuch': expected one of the fields doc_id, title"),
    ("title{a}", {"assign": 1}, 400, "field 'title{a}': expected one of the fields doc_id,"),
    ("token_fingerprint[0]", {"assign": 1}, 400, "field 'token_fingerprint[0]': expected one"),
    ("title.x", {"assign": 1}, 400, "field 'title.x': expected one of the fields doc_id, tit"),
    ("nosuch{a}", {"assign": 1}, 400, "field 'nosuch{a}': expected one of the fields doc_id"),
]


@pytest.mark.parametrize(("name", "change", "status", "message"), REFUSED)
def test_updates_that_are_refused(manifest, name, change, status, message):
    with pytest.raises(DocumentError) as caught:
        parse_update(
            "id:n:doc::1", {"fields": {name: change}}, manifest, condition=None, create=False
        )
    assert caught.value.status == status
    assert message in caught.value.message


@pytest.mark.java
def test_vespa_refuses_them_with_the_same_status(tmp_path):
    try:
        with container(make_app(tmp_path / "app")) as url, httpx.Client(base_url=url) as client:

            def ask(case):
                body = {"fields": {case[0]: case[1]}}
                path = "/document/v1/n/doc/docid/1?timeout=2s"
                return client.put(path, json=body, timeout=60)

            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(ask, REFUSED))
    except MissingTool as error:
        pytest.skip(str(error))
    for (name, change, status, _), answer in zip(REFUSED, answers, strict=True):
        # 504: accepted, but there is no content node to take it.
        expected = 504 if change == OURS_ALONE else status
        assert answer.status_code == expected, (name, change)
