"""A text is searched for code points that Vespa refuses once, on each of its ways."""

from typing import Any

import pytest
from engine_support import make_app

from ranker.client import search
from ranker.client.search import App, query_body
from ranker.contract import encode
from ranker.contract.encode import SanitizedText, sanitize_text
from ranker.feed import SchemaDocument, operation, operations
from ranker.records import Document


class Spy(str):
    """A text that counts how often it, or a copy of it, is searched."""

    searched = 0

    def replace(self, *arguments: Any) -> str:  # type: ignore[override]
        type(self).searched += 1
        return super().replace(*arguments)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    return App.open(make_app(tmp_path_factory.mktemp("sanitized") / "app"))


def spies(*texts: str) -> list[Spy]:
    return [type(f"Spy{number}", (Spy,), {"searched": 0})(t) for number, t in enumerate(texts)]


def searches(texts: list[Spy]) -> list[int]:
    return [type(text).searched for text in texts]


@pytest.fixture(autouse=True)
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts other than spies that are searched: copies and parts of them."""
    found: list[str] = []

    def counted(text: str) -> SanitizedText:
        if not isinstance(text, Spy | SanitizedText):
            found.append(text)
        return sanitize_text(text)

    for module in (encode, operation, search):
        monkeypatch.setattr(module, "sanitize_text", counted)
    return found


@pytest.mark.parametrize("text", ["fox jumps", "fox\x00jumps"])
def test_a_document_on_its_way_to_an_operation(app: App, text: str, copies: list[str]) -> None:
    texts = spies("red", text)
    (made,) = operations([Document("1", *texts)], app)
    assert made["fields"]["text"] == "fox jumps"
    assert searches(texts) == [1, 1] and copies == []


def test_a_line_of_vespa_on_its_way_to_an_operation(app: App, copies: list[str]) -> None:
    texts = spies("red", "fox\x00jumps")
    fields = {"title": texts[0], "text": texts[1], "token_fingerprint": 1}
    (made,) = operations([SchemaDocument("id:a:doc::1", fields)], app)
    assert made["fields"]["text"] == "fox jumps"
    assert searches(texts) == [1, 1] and copies == []


@pytest.mark.parametrize("profile", ["bm25", "cross"])
def test_a_question_on_its_way_to_a_request(app: App, profile: str, copies: list[str]) -> None:
    texts = spies("red\x00fox")
    body = query_body(texts[0], app, profile=profile)
    assert body["query_text"] == "red fox"
    assert searches(texts) == [1] and copies == []
