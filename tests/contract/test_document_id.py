"""A document id and its two spellings."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contract.document_id import DocumentId
from ranker.errors import DataError

TEXTS = st.text(min_size=1, max_size=20)
LOCATIONS = st.just("") | st.from_regex(r"n=[0-9]{1,9}|g=[^:]{1,9}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("id:ranker:doc::d1", "/document/v1/ranker/doc/docid/d1"),
        ("id:ranker:doc::a/b c:d", "/document/v1/ranker/doc/docid/a%2Fb%20c%3Ad"),
        ("id:ranker:doc::100%ü", "/document/v1/ranker/doc/docid/100%25%C3%BC"),
        ("id:shop:item:n=7:x", "/document/v1/shop/item/number/7/x"),
        ("id:my shop:item:g=a/b:x", "/document/v1/my%20shop/item/group/a%2Fb/x"),
    ],
)
def test_an_id_and_its_path(text: str, path: str) -> None:
    document_id = DocumentId.parse(text)
    assert (str(document_id), document_id.path) == (text, path)


@given(namespace=TEXTS.filter(lambda text: ":" not in text), location=LOCATIONS, doc_id=TEXTS)
def test_any_id_survives_being_written_and_read(namespace: str, location: str, doc_id: str) -> None:
    document_id = DocumentId(namespace, "doc", doc_id, location)
    assert DocumentId.parse(str(document_id)) == document_id
    if not any("\ud800" <= sign <= "\udfff" for sign in namespace + location + doc_id):
        segments = [unquote(part) for part in document_id.path.split("/")[3:]]
        kind = {"n": "number", "g": "group", "": "docid"}[location[:1]]
        assert segments == [namespace, "doc", kind, *([location[2:]] if location else []), doc_id]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d1", "expected a document id like id:NAMESPACE:SCHEMA::ID, got 'd1'"),
        ("id:ranker:doc:d1", "expected a document id like"),
        ("doc:ranker:doc::d1", "expected a document id like"),
        ("id::doc::d1", "expected a document id like"),
        ("id:ranker:doc:x=1:d1", "has 'x=1', expected n=NUMBER or g=NAME"),
        ("id:ranker:doc:n=a:d1", "has 'n=a', expected n=NUMBER or g=NAME"),
    ],
)
def test_texts_that_are_not_an_id(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DocumentId.parse(text)


@pytest.mark.parametrize(
    ("document_id", "message"),
    [
        (DocumentId("ranker", "doc", ""), "a document has an empty id"),
        (DocumentId("ranker", "doc", "."), "the document id '.' cannot be part of a URL"),
        (DocumentId("..", "doc", "x"), "the document id '..' cannot be part of a URL"),
        (DocumentId("ranker", "doc", "a\x01"), "holds a character that Vespa refuses"),
        (DocumentId("ranker", "doc", "x", "g=\ud800"), "holds a character that Vespa refuses"),
        (DocumentId("ranker", "doc", "x" * 65522), "65537 characters is too long for Vespa"),
    ],
)
def test_ids_that_vespa_refuses(document_id: DocumentId, message: str) -> None:
    with pytest.raises(DataError, match=message):
        document_id.require_legal()


def test_the_longest_id() -> None:
    DocumentId("ranker", "doc", "x" * 65521).require_legal()
