"""Partial updates: what each operation does to a field, and what Vespa refuses.

Results are those of Vespa's own `DocumentUpdate.applyTo`, statuses those of the real front door
(8.700.24).
"""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from engine_support import make_app, tiny_spec

from ranker.engine.documents.operations import parse_update
from ranker.engine.documents.stored_document import make_entry
from ranker.engine.documents.updates import parse_changes
from ranker.engine.errors import DocumentError
from ranker.errors import MissingTool
from ranker.package.application import Package
from ranker.verify import container

SPEC = tiny_spec()
NUMBER = SPEC.fingerprint_number
DENSE = "tensor<float>(d0[95])"
ADD_OR_REMOVE = "Trying to add or remove from a field of a type the reader does not know how to"


def modified(**change):
    """A field and its change."""
    return "doc_token_ids", {"modify": change}


def modify(operation, at, number):
    """The fields of an update of one cell."""
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
    (one,) = parse_changes("token_fingerprint", change, manifest)
    assert one.result(before) == after


def updated(manifest, fields, change):
    """The fields of a document after an update."""
    update = parse_update("id:n:doc::1", {"fields": change}, manifest, condition=None, create=False)
    return update.apply(make_entry(fields)).values()


def test_changes_of_one_field_follow_one_another(manifest):
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
        (modify("add", 0, 10**6), "1e+06 is not a token id"),
        (modify("replace", 0, 0.5), "0.5 is not a token id"),
        (modify("multiply", 0, -1), "-5 is not a token id"),
    ],
)
def test_results_that_cannot_be_stored(manifest, change, message):
    tokens = [5, 6, 7] + [0] * 92
    (assign,) = parse_changes("doc_token_ids", {"assign": tokens}, manifest)
    fields = {"doc_token_ids": assign.value, "token_fingerprint": NUMBER}
    with pytest.raises(DocumentError) as caught:
        updated(manifest, fields, change)
    assert caught.value.status == 400
    assert caught.value.message.startswith("In document 'id:n:doc::1': ")
    assert message in caught.value.message


OURS_ALONE = {"modify": {"operation": "add", "cells": {"x": 1}}}
"""Refused here only: Vespa leaves a cell aside whose label is no number."""

CELLS = [{"address": {"d0": "1"}, "value": 3}]


REFUSED = [
    ("title", {"add": 1}, 500, "Expected start of composite, got a number"),
    ("title", {"remove": None}, 500, "Expected start of composite, got null"),
    ("title", {"add": ["x"]}, 500, f"{ADD_OR_REMOVE} handle: com.yahoo.document.datatypes.S"),
    (
        "token_fingerprint",
        {"remove": [1]},
        500,
        f"{ADD_OR_REMOVE} handle: com.yahoo.document.datatypes.L",
    ),
    ("title", {"increment": 1}, 500, "Expected numeric type, got string."),
    ("doc_token_ids", {"divide": 1}, 500, f"Expected numeric type, got {DENSE}."),
    ("title", {"increment": "x"}, 400, "Error in 'title': For input string: \"x\""),
    ("token_fingerprint", {"multiply": None}, 400, 'For input string: "null"'),
    ("token_fingerprint", {"multiply": True}, 400, 'For input string: "true"'),
    ("token_fingerprint", {"divide": [1]}, 400, 'For input string: "["'),
    ("token_fingerprint", {"divide": {"a": 1}}, 400, 'For input string: "{"'),
    ("token_fingerprint", {"increment": "1_0"}, 400, 'For input string: "1_0"'),
    ("token_fingerprint", {"assign": 1.5}, 400, 'For input string: "1.5"'),
    ("title", {"assign": ["a"]}, 400, "StringFieldValue but got an array"),
    ("title", {"match": 1}, 400, "Expected object for match update, got a number"),
    (
        "token_fingerprint",
        {"match": {"element": 1, "increment": 1}},
        400,
        "Container type datatype long (code: 4) not supported for match update.",
    ),
    ("title", {"become": 1}, 400, "Error in 'title': Operation 'become' not implemented."),
    (
        "title",
        {"modify": 1},
        400,
        "A modify update can only be applied to tensor fields. Field 'title' is of type 's",
    ),
    (
        "doc_token_ids",
        {"add": {"cells": CELLS}},
        400,
        "An add update can only be applied to tensors with at least one sparse dimension. "
        f"Field 'doc_token_ids' has unsupported tensor type '{DENSE}'",
    ),
    ("doc_token_ids", {"remove": {"addresses": []}}, 400, "A remove update can only be"),
    ("doc_token_ids", {"add": 1}, 400, "Expected start of JSON object, got a number"),
    ("doc_token_ids", {"modify": 5}, 400, "Expected start of JSON object, got a number"),
    (*modified(cells=CELLS), 400, "does not contain an operation"),
    (*modified(operation="add"), 400, "does not contain tensor cells"),
    (*modified(operation="subtract", cells=[]), 400, "Unknown operation 'subtract' in modify"),
    (*modified(operation=["add"], cells=[]), 400, "Unknown operation"),
    (*modified(operation="add", values=[1]), 400, "Unknown JSON string 'values' in modify up"),
    (*modified(operation="add", addresses=[]), 400, "Unknown JSON string 'addresses' in mod"),
    (*modified(operation="add", blocks=[]), 400, "The 'blocks' field can only be used with"),
    (*modified(operation="add", cells=[], create="x"), 400, "Unknown value 'x' for 'create'"),
    (*modified(operation="add", cells=5), 400, "Expected 'cells' to contain an array or an o"),
    (*modified(operation="add", cells=[{"value": 1}]), 400, "to contain an 'address' field"),
    (
        *modified(operation="add", cells=[{"address": {}}]),
        400,
        "Missing a label for dimension 'd0'",
    ),
    (*modified(operation="add", cells=[5]), 400, "Expected start of JSON object, got a number"),
    (*modified(operation="add", cells=CELLS * 2), 400, "Multiple entries with same key"),
    (*modified(operation="add", cells={"95": 1}), 400, f"has label '95' but type is {DENSE}"),
    (*modified(operation="add", cells={"x": 1}), 400, f"has label 'x' but type is {DENSE}"),
    (*modified(operation="add", cells={"1": True}), 400, "Expected a number but got 'true'"),
    (*modified(operation="add", cells={"1": None}), 400, "Expected a number but got 'null'"),
    (
        *modified(operation="add", cells=[{"address": {"x": "1"}, "value": 1}]),
        400,
        "tensor<float>(d0{}) does not contain dimension 'x'",
    ),
    (
        *modified(operation="add", cells=[{"address": {"d0": 1, "x": 1}, "value": 1}]),
        400,
        "tensor<float>(d0{}) does not contain dimension 'x'",
    ),
    ("title", None, 400, "Expected start of JSON object, got null"),
    ("title", "x", 400, "Expected start of JSON object, got a string"),
    ("title", 1.5, 400, "Expected start of JSON object, got a number"),
    ("title", [1], 400, "Expected start of JSON object, got an array"),
    ("nosuch", {"assign": 1}, 400, "No field named 'nosuch' in document type 'doc'"),
    (
        "title{a}",
        {"assign": 1},
        400,
        "Error in 'title{a}': Datatype datatype string (code: 2) does not support further "
        "recursive structure: {a}",
    ),
    ("token_fingerprint[0]", {"assign": 1}, 400, "further recursive structure: [0]"),
    ("title.x", {"assign": 1}, 400, "further recursive structure: x"),
    ("nosuch{a}", {"assign": 1}, 400, "Field 'nosuch' not found in document type 'doc'"),
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
def test_vespa_refuses_them_with_the_same_statuses(tmp_path):
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
        if change == OURS_ALONE:
            assert answer.status_code == 504  # taken, but no content node is there to have it
            continue
        assert answer.status_code == status, (name, change)
        assert answer.json()["message"], (name, change)
