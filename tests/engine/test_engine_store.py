"""Documents, operations, conditions and the index, in one process."""

import dataclasses
import os
import sqlite3
import subprocess
import sys

import pytest
from engine_support import make_app, put_fields

from ranker.contract import vespa_names
from ranker.contract.storage import INT8
from ranker.engine.documents.conditions import parse_condition
from ranker.engine.documents.operations import Put, Remove, parse_put, parse_remove, parse_update
from ranker.engine.documents.stored_document import (
    StoredDocument,
    rendered_fields,
    terms_text,
    token_ids,
)
from ranker.engine.errors import DocumentError
from ranker.engine.query.tree import Everything, Or, Phrase, Range, Strings
from ranker.engine.storage.index import FORMAT, Index
from ranker.engine.storage.reader import Reader
from ranker.engine.storage.store import Store, Totals
from ranker.errors import ArtifactError
from ranker.package.application import Package
from ranker.records import Document

DOCUMENTS = (
    Document("A1", "red fox", "the quick fox jumps"),
    Document("b", "", "dog dog fox"),
    Document("c", "cat", ""),
)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return Package.open(make_app(tmp_path_factory.mktemp("store") / "app"))


@pytest.fixture
def store(package, tmp_path):
    store = Store(tmp_path / "documents.sqlite", package.manifest)
    yield store
    store.close()


@pytest.fixture
def reader(store):
    return Reader(store.path)


def id_of(name):
    return f"id:ranker:doc::{name}"


def put(package, document, **keywords):
    fields = put_fields(document, package.encoder())
    keywords = {"condition": None, "create": False, **keywords}
    return parse_put(id_of(document.doc_id), {"fields": fields}, package.manifest, **keywords)


def update(package, name, fields, **keywords):
    keywords = {"condition": None, "create": False, **keywords}
    return parse_update(id_of(name), {"fields": fields}, package.manifest, **keywords)


def feed(store, package):
    return store.apply([put(package, document) for document in DOCUMENTS])


def test_a_document_that_is_put_is_read_back(store, reader, package):
    batch = feed(store, package)
    assert batch.outcomes == [None, None, None]
    assert batch.totals == Totals(
        last_change=3, documents=3, titles=2, title_length=3, contents_length=10
    )
    document = reader.get(id_of("A1"))
    assert rendered_fields(document, package.manifest) == {
        **put_fields(DOCUMENTS[0], package.encoder()),
        "doc_token_ids": {
            "type": "tensor<float>(d0[95])",
            "values": put_fields(DOCUMENTS[0], package.encoder())["doc_token_ids"]["values"],
        },
    }
    # An empty title counts as not set, as in Vespa.
    assert "title" not in rendered_fields(reader.get(id_of("b")), package.manifest)
    assert token_ids(
        document.values[vespa_names.DOC_TOKEN_IDS], package.spec
    ) == package.encoder().document_ids(DOCUMENTS[0])


def test_terms_are_counted_exactly():
    text = terms_text(["a", "a", "ab", "a"])
    assert text.count(" a ") == 3
    assert text.count(" a  a ") == 1
    assert terms_text([]) == ""


def test_put_again_and_remove_keep_the_totals(store, package):
    feed(store, package)
    batch = store.apply([put(package, Document("b", "one two", "three")), Remove(id_of("zz"))])
    assert batch.outcomes == [None, None]
    assert [(c.row, c.fresh) for c in batch.changes] == [(2, False)]
    assert batch.totals == Totals(4, 3, 3, 5, 10)
    batch = store.apply([Remove(id_of("A1")), Remove(id_of("b")), Remove(id_of("c"))])
    assert batch.totals == Totals(7, 0, 0, 0, 0)


def test_operations_of_one_batch_see_each_other(store, reader, package):
    batch = store.apply(
        [
            put(package, DOCUMENTS[0]),
            update(package, "A1", {"title": {"assign": "green"}}),
            update(package, "A1", {"text": {"assign": None}}, condition='doc.title == "green"'),
            parse_remove(id_of("A1"), package.manifest, condition='doc.title == "red"'),
        ]
    )
    assert [fault and fault.status for fault in batch.outcomes] == [None, None, None, 412]
    document = reader.get(id_of("A1"))
    assert (document.values["title"], document.values["text"]) == ("green", None)
    assert (document.title_terms, document.text_terms) == (" green ", "")


def test_update_of_a_missing_document(store, reader, package):
    change = {"title": {"assign": "x"}}
    batch = store.apply([update(package, "n", change)])
    assert batch.outcomes == [None] and not batch.changes and reader.get(id_of("n")) is None
    batch = store.apply([update(package, "n", change, create=True)])
    assert batch.outcomes == [None] and reader.get(id_of("n")).values["title"] == "x"


@pytest.mark.parametrize(
    ("condition", "create", "status"),
    [
        ("true", False, 412),  # a condition on a missing document does not hold
        ("true", True, None),
        ('doc.title == "x"', True, None),
    ],
)
def test_conditional_put_of_a_missing_document(store, package, condition, create, status):
    operation = put(package, DOCUMENTS[0], condition=condition, create=create)
    (outcome,) = store.apply([operation]).outcomes
    assert (outcome and outcome.status) == status


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("true", True),
        ("false", False),
        ("doc", True),
        ('doc.title == "red fox"', True),
        ("doc.title == 'red fox'", True),
        ('doc.title != "red fox"', False),
        ('"red fox" == doc.title', True),
        ("doc.token_fingerprint > 5", True),
        ("doc.token_fingerprint < 5", False),
        ("doc.token_fingerprint >= 6 and doc.token_fingerprint <= 8", True),
        ("doc.token_fingerprint == 7 and not doc.title == 'x'", True),
        ("doc.token_fingerprint == 8 or (doc.title == 'red fox' and true)", True),
        ("not (doc.token_fingerprint == 7)", False),
        ("doc.text == null", True),
        ("doc.title == null", False),
        ("doc.text == 'x'", False),
        ("doc.text != 'x'", True),
        ("doc.text < 'x'", False),
        ("doc.title < 5", False),
        ("id == 'id:ranker:doc::A1'", True),
        ("DOC.title == 'red fox'".replace("DOC", "doc"), True),
        ("doc.title == 'a' OR doc.token_fingerprint == 7", True),
        # Ordering an unset field is invalid, as is comparing text with numbers; so is the opposite.
        ("not (doc.text < 'x')", False),
        ("not (doc.title < 5)", False),
        ("doc.title == 5", False),
        ("doc.title != 5", False),
        ("not (doc.text < 'x' and doc.title == 'no')", True),
        ("not (doc.text < 'x' or doc.title == 'no')", False),
        ("doc.text < 'x' or doc.title == 'red fox'", True),
        ("doc.text < 'x' and doc.title == 'red fox'", False),
        ("not (doc.text != 'x')", False),
        ("null == null", True),
        ("null < 5", False),
        ("doc.text", False),
        ("not doc.text and doc.title", True),
        ("not not true", True),
        ("doc.title = 'red*'", True),
        ("doc.title = 're? f?x'", True),
        ("doc.title = '*f*'", True),
        ("doc.title = 'fox'", False),
        ("doc.title = 'r*z*'", False),
        ("doc.title = 'red fox**'", True),
        ("doc.title = '*FOX'", False),
        ("not (doc.text = '*')", False),
        ("doc.token_fingerprint = 7", True),
        ("doc.token_fingerprint == 0x7", True),
        ("doc.token_fingerprint == 7.0", True),
        ("doc.token_fingerprint < 7.5", True),
        ("doc.token_fingerprint == -7", False),
        ("id.namespace == 'ranker' and id.type == 'doc' and id.scheme == 'id'", True),
        ("id.specific = 'A?'", True),
        ("id.user == 1", False),
        ("not id.user == 1", False),
        ("not id.group == 'x'", False),
        ("doc.title.lowercase() == 'red fox'", True),
        ("doc.text.lowercase() == null", False),
        (r"doc.title == 'red\x20fox'", True),
        (r'doc.title == "a\"b\\"', False),
    ],
)
def test_conditions(text, holds):
    values = {"title": "red fox", "token_fingerprint": 7}
    document = StoredDocument.from_values("id:ranker:doc::A1", values)
    assert parse_condition(text, "doc")(document) is holds


@pytest.mark.parametrize(
    ("id_", "text"),
    [
        ("id:n:doc:n=5:a:b", "id.user == 5 and id.specific == 'a:b' and not (id.group == 'x')"),
        ("id:n:doc:g=x y:a", "id.group == 'x y'"),
    ],
)
def test_conditions_on_locations(id_, text):
    holds = parse_condition(text, "doc")(StoredDocument.from_values(id_, {}))
    assert holds is ("not" not in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("doc.title ==", "not understood from"),
        ("doc.title =~ 'x'", "not understood from \"~ 'x'\" on"),
        ("music.title == 'x'", "no document type 'music'; expected doc"),
        ("doc.nosuch == 'x'", "the document type doc has no field 'nosuch'"),
        ("doc.doc_token_ids == 1", "cannot compare doc_token_ids, which is a tensor"),
        ("now() > 5", "not understood from '() > 5' on"),
        ("id.gid == 'x'", "id.gid is not supported"),
        (
            "doc.token_fingerprint == 9223372036854775808",
            "9223372036854775808 does not fit into 64 bits",
        ),
        ("doc.title == 'a\\q'", "has no meaning in a string"),
        ("(" * 200 + "true" + ")" * 200, "nested deeper than 100 levels"),
        ("not " * 2000 + "true", "nested deeper than 100 levels"),
    ],
)
def test_conditions_that_are_not_understood(text, message):
    with pytest.raises(DocumentError) as caught:
        parse_condition(text, "doc")
    assert caught.value.status == 400
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nosuch": 1}, "the document type doc has no field 'nosuch'"),
        ({"contents": "x"}, "the document type doc has no field 'contents'"),
        ({"title": ["a"]}, "field 'title' of type string: expected a string, got ['a']"),
        ({"title": {"assign": "a"}}, "expected a string, got {'assign': 'a'}"),
        ({"title": "a\x01b"}, "contains the illegal code point 0x1"),
        ({"title": "a\ud800b"}, "contains the illegal code point 0xD800"),
        ({"text": "a\ufdd0"}, "contains the illegal code point 0xFDD0"),
        (
            {"token_fingerprint": "x"},
            "field 'token_fingerprint' of type long: expected a whole number of 64 bits, got 'x'",
        ),
        ({"token_fingerprint": 1.5}, "expected a whole number of 64 bits, got 1.5"),
        ({"token_fingerprint": True}, "expected a whole number of 64 bits, got True"),
        ({"token_fingerprint": 2**63}, "expected a whole number of 64 bits, got 92233720"),
        ({"token_fingerprint": 5}, "tokenized under the token contract 5, this application has"),
        ({"token_fingerprint": None}, "doc_token_ids without token_fingerprint"),
        ({"doc_token_ids": [1] * 94}, "expected 95 values, got 94"),
        ({"doc_token_ids": [1] * 96}, "expected 95 values, got 96"),
        (
            {"doc_token_ids": [1.5] + [0] * 94},
            "1.5 is not a cell of token ids: expected a whole number from 0",
        ),
        ({"doc_token_ids": [-1] + [0] * 94}, "-1 is not a cell of token ids"),
        ({"doc_token_ids": [10**9] + [0] * 94}, "1e+09 is not a cell of token ids"),
        ({"doc_token_ids": [10**4] + [0] * 94}, "10000 is not a token id: expected whole numbers"),
        ({"doc_token_ids": [10**30] + [0] * 94}, "1e+30 is not a cell of token ids"),
    ],
)
def test_documents_that_are_refused(package, change, message):
    fields = {**put_fields(DOCUMENTS[0], package.encoder()), **change}
    with pytest.raises(DocumentError) as caught:
        parse_put(
            "id:ranker:doc::1", {"fields": fields}, package.manifest, condition=None, create=False
        )
    assert caught.value.status == 400
    assert message in caught.value.message


def test_numbers_and_booleans_become_text(package):
    body = {"fields": {"title": 5, "text": True}}
    document = parse_put(
        "id:ranker:doc::1", body, package.manifest, condition=None, create=False
    ).document
    assert (document.values["title"], document.values["text"]) == ("5", "true")


def test_int8_planes_are_stored_as_the_same_ids(package):
    planes = dataclasses.replace(package.manifest, storage=INT8)
    ids = [5, 6, 48]
    number = package.spec.fingerprint_number
    stored = [
        parse_put(
            id_of("1"),
            {"fields": {"doc_token_ids": m.storage.pack(ids, 95), "token_fingerprint": number}},
            m,
            condition=None,
            create=False,
        ).document
        for m in (package.manifest, planes)
    ]
    assert stored[0] == stored[1]
    assert token_ids(stored[1].values["doc_token_ids"], package.spec) == ids
    high, low = rendered_fields(stored[1], planes)["doc_token_ids"]["values"]
    assert (high, low) == ([0.0] * 95, [5.0, 6.0, 48.0, *[0.0] * 92])


def test_only_cells_above_zero_are_counted_as_tokens(package):
    # Vespa's evaluator takes the first three cells of d=[21,0,23,24] (`TokenTransformer`).
    spec = package.spec
    cells = [21, 0, 23, 24] + [0] * 91
    body = {"fields": {"doc_token_ids": cells, "token_fingerprint": spec.fingerprint_number}}
    document = parse_put(id_of("1"), body, package.manifest, condition=None, create=False).document
    assert token_ids(document.values[vespa_names.DOC_TOKEN_IDS], spec) == [21, 0, 23]
    assert rendered_fields(document, package.manifest)["doc_token_ids"]["values"] == cells


ANOTHER_FIELD = """
import sys
from pathlib import Path
from ranker.contract import fields
link = fields.Field(
    name="link", kind="string", vespa_type="string", sql_type="TEXT", attribute=True
)
fields.FIELDS = (*fields.FIELDS, link)
fields.DOCUMENT_FIELDS["link"] = link
from engine_support import make_app
from ranker.engine.documents.operations import parse_put, parse_update
from ranker.engine.documents.stored_document import rendered_fields
from ranker.engine.query.tree import Strings
from ranker.engine.storage.index import Index
from ranker.engine.storage.reader import Reader
from ranker.engine.storage.store import Store
from ranker.engine.vespa_compat.admission import admit
folder = Path(sys.argv[1])
manifest = admit(make_app(folder / "app")).manifest
store = Store(folder / "documents.sqlite", manifest)
body = {"fields": {"doc_id": "1", "link": "Old"}}
put = parse_put("id:ranker:doc::1", body, manifest, condition=None, create=False)
body = {"fields": {"link": {"assign": "New"}}}
condition = "doc.link == 'Old'"
update = parse_update("id:ranker:doc::1", body, manifest, condition=condition, create=False)
assert store.apply([put, update]).outcomes == [None, None]
reader = Reader(store.path)
stored = reader.get("id:ranker:doc::1")
assert rendered_fields(stored, manifest) == {"doc_id": "1", "link": "New"}
assert reader.ranked([1])[1].attributes["link"] == "New"
index = Index(folder / "index", reader, store.totals, store.forget_later)
assert index.snapshot().search(Strings("link", frozenset({"new"})), 10)[1] == 1
index.close()
store.close()
"""


def test_another_stored_field_is_a_row_of_the_table_of_fields(tmp_path):
    script = [sys.executable, "-c", ANOTHER_FIELD, str(tmp_path)]
    paths = os.pathsep.join(filter(None, sys.path))
    subprocess.run(script, check=True, env={**os.environ, "PYTHONPATH": paths})


def test_a_data_folder_with_other_columns_is_refused(store, package):
    store._connection.execute("ALTER TABLE documents ADD COLUMN link TEXT")
    with pytest.raises(ArtifactError, match="doc_token_ids, title, text, link; this version of"):
        Store(store.path, package.manifest)


def test_a_data_folder_belongs_to_one_contract(package, tmp_path):
    path = tmp_path / "documents.sqlite"
    other = Package.open(make_app(tmp_path / "other", document_slots=64)).manifest
    Store(path, other).close()  # without documents it may become another's
    store = Store(path, package.manifest)
    feed(store, package)
    store.close()
    with pytest.raises(ArtifactError, match="belongs to the token contract"):
        Store(path, other)


def test_a_file_that_is_not_a_store(package, tmp_path):
    path = tmp_path / "documents.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 10)
    with pytest.raises(ArtifactError, match="cannot be used"):
        Store(path, package.manifest)


def test_a_full_disk_stores_nothing_of_the_batch(store, reader, package):
    feed(store, package)
    before = store.totals
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    batch = store.apply([put(package, Document(str(n), "", "dog " * 5000)) for n in range(5)])
    assert [fault.status for fault in batch.outcomes] == [507] * 5
    assert "make room" in batch.outcomes[0].message
    assert batch.changes == [] and batch.totals == before == store.totals
    assert reader.get(id_of("0")) is None
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert store.apply([put(package, DOCUMENTS[0])]).outcomes == [None]


@pytest.fixture
def index(store, reader, tmp_path):
    index = Index(tmp_path / "index", reader, store.totals, store.forget_later)
    yield index
    index.close()


def found(index, tree, limit=10):
    hits, total = index.snapshot().search(tree, limit)
    assert len(hits) == min(total, limit)
    return sorted(row for _, row in hits)


def test_the_index_follows_changes(store, index, package):
    fox = Phrase("contents", ("fox",))
    assert found(index, fox) == []
    index.follow(feed(store, package))
    assert found(index, fox) == [1, 2]
    assert index.snapshot().frequencies("contents", "fox") == (2, 2)
    index.follow(store.apply([Remove(id_of("b")), put(package, DOCUMENTS[0])]))
    assert found(index, fox) == [1]
    assert index.snapshot().frequencies("contents", "fox")[0] == 1
    assert index.snapshot().totals == store.totals
    for tree, rows in (
        (Everything(), [1, 3]),
        (Phrase("title", ("red", "fox")), [1]),
        (Strings("doc_id", frozenset({"a1"})), [1]),
        (Range("token_fingerprint", package.spec.fingerprint_number, None), [1, 3]),
        (Range("token_fingerprint", None, 5), []),
        (Or((fox, Phrase("title", ("cat",)))), [1, 3]),
    ):
        assert found(index, tree) == rows, tree


def open_again(store, tmp_path):
    return Index(tmp_path / "index", Reader(store.path), store.totals, store.forget_later)


def test_the_index_catches_up(store, index, package, tmp_path):
    index.follow(feed(store, package))
    index.close()
    # Changes that the index never heard of, as after a kill.
    store.apply(
        [Remove(id_of("A1")), put(package, Document("d", "", "fox")), put(package, DOCUMENTS[1])]
    )
    again = open_again(store, tmp_path)
    assert found(again, Phrase("contents", ("fox",))) == [2, 4]
    assert found(again, Everything()) == [2, 3, 4]
    again.close()


@pytest.mark.parametrize("damage", ["meta", "state", "everything", "ahead", "old"])
def test_a_damaged_index_is_rebuilt(store, index, package, tmp_path, damage):
    index.follow(feed(store, package))
    index.close()
    folder = tmp_path / "index"
    if damage == "meta":
        (folder / "meta.json").write_text("{")
    elif damage == "state":
        (folder / "ranker.json").write_text("{")
    elif damage == "old":
        (folder / "ranker.json").write_text(f'{{"format": {FORMAT - 1}, "change": 3}}')
        (folder / "meta.json").write_text("not to be read")
    elif damage == "ahead":
        (folder / "ranker.json").write_text(f'{{"format": {FORMAT}, "change": 99}}')
    else:
        for path in folder.iterdir():
            path.write_bytes(b"")
    again = open_again(store, tmp_path)
    assert found(again, Everything()) == [1, 2, 3]
    again.close()


def test_a_batch_that_the_index_has_already_taken_adds_nothing_twice(
    store, reader, package, tmp_path
):
    batch = feed(store, package)
    index = Index(tmp_path / "late", reader, Totals(), store.forget_later)
    index.follow(batch)  # arrives after the index took it from the documents
    assert found(index, Everything()) == [1, 2, 3]
    index.close()


def test_removals_are_forgotten(store, index, package):
    index.follow(feed(store, package))
    index.follow(store.apply([Remove(id_of("A1"))]))
    index.snapshot()
    store.apply([put(package, DOCUMENTS[1])])
    assert store._connection.execute("SELECT count(*) FROM removals").fetchone() == (0,)


def test_readers_do_not_block_the_writer(store, package):
    feed(store, package)
    reading = sqlite3.connect(store.path, isolation_level=None)
    reading.execute("BEGIN")
    assert reading.execute("SELECT count(*) FROM documents").fetchone() == (3,)
    assert store.apply([put(package, Document("d", "", "x"))]).outcomes == [None]
    assert reading.execute("SELECT count(*) FROM documents").fetchone() == (3,)
    reading.close()


def test_put_is_a_value(package):
    assert isinstance(put(package, DOCUMENTS[0]), Put)
    assert put(package, DOCUMENTS[0]) == put(package, DOCUMENTS[0])
