"""Applications with an added model in Vespa's own validator, evaluator, reader and container."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from plugin_support import ODD, application, bert_bundle, digest, odd_application
from vespa_scores import TOLERANCE, binding, check_scores

from ranker.artifacts.bundle import Bundle
from ranker.artifacts.profile import Profile
from ranker.client.search import App, query_body
from ranker.feed import SchemaDocument, operations
from ranker.package.application import Package
from ranker.package.into import install, uninstall
from ranker.records import Document
from ranker.verify import VespaProcess, container, working_copy
from ranker.verify.parity.pairs import nasty_pairs

pytestmark = pytest.mark.java

NO_CONTENT_NODE = 10


def validated(vespa_process: VespaProcess, app: Path) -> tuple[tuple[str, ...], set[str]]:
    """Vespa's errors, and its warnings but the one that C++ is not there."""
    with working_copy(app) as copy:
        said = vespa_process.validate(copy)
    return said.errors, {one for one in said.warnings if "vespa-verify-ranksetup-bin" not in one}


CASES = {
    "shop": ("product", ["title", "description"], None),
    "library": ("book", ["title", "abstract"], "recent"),
    "news": ("article", ["headline", "story"], "fresh"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_application_is_valid_before_and_after_and_ranks_as_we_do(
    name: str, vespa_process: VespaProcess, bundle: Bundle, short: Bundle, tmp_path: Path
) -> None:
    app = application(name, tmp_path)
    schema, fields, inherits = CASES[name]
    before = digest(app)
    assert validated(vespa_process, app) == ((), set())
    install(bundle, app, schema=schema, text_fields=fields, inherits=inherits).apply()
    install(short, app, schema=schema, text_fields=fields[1:], name="small").apply()
    with working_copy(app) as copy:
        said = vespa_process.validate(copy)
        assert said.errors == ()
        assert len(said.warnings) == 1, "no more than that C++ is not there"
        pairs = nasty_pairs(20)
        for package in Package.every(app):
            assert check_scores(vespa_process, copy, package, pairs) >= 2
    uninstall(app, "ranker").apply()
    assert validated(vespa_process, app) == ((), set())
    uninstall(app, "small").apply()
    assert digest(app) == before, "which was valid"


def test_berts_own_token_functions(vespa_process: VespaProcess, tmp_path: Path) -> None:
    app = application("news", tmp_path)
    bundle = bert_bundle(tmp_path / "bundle")
    install(bundle, app, schema="article", text_fields=["headline", "story"]).apply()
    profile = (app / "schemas/article/ranker_cross.profile").read_text()
    assert "tokenInputIds(128, query(query_token_ids), attribute(doc_token_ids_ranker))" in profile
    with working_copy(app) as copy:
        assert check_scores(vespa_process, copy, Package.open(app), nasty_pairs(20)) == 3


def test_schemas_in_unusual_styles_are_valid_before_and_after(
    vespa_process: VespaProcess, bundle: Bundle, tmp_path: Path
) -> None:
    app, names = odd_application(tmp_path)
    assert len(names) == len(ODD)
    before = digest(app)
    assert validated(vespa_process, app) == ((), set())
    for name in names:
        fields = ["heading", "rest"] if name == "inherits_below" else ["title", "body"]
        install(bundle, app, schema=name, text_fields=fields, name=f"m_{name}").apply()
    assert validated(vespa_process, app) == ((), set())
    for name in names:
        uninstall(app, f"m_{name}").apply()
    assert digest(app) == before, "which was valid"


def test_vespas_reader_takes_what_is_fed(
    vespa_process: VespaProcess, bundle: Bundle, short: Bundle, tmp_path: Path
) -> None:
    app = application("shop", tmp_path)
    install(bundle, app, schema="product", text_fields=["title", "description"]).apply()
    install(short, app, schema="product", text_fields=["title"], name="small").apply()
    opened = App.open(app / "ext/ranker/ranker.json")
    own = SchemaDocument(
        "id:any:product:g=a b:1",
        {"title": "red fox", "price": 2.5, "keywords": ["a", "b"], "popularity": {"a": 1.0}},
    )
    documents = [pair.document for pair in nasty_pairs(40)]
    made = list(operations([own, *documents], opened))
    with working_copy(app) as copy:
        answers = vespa_process.feed(copy, made)
    assert [answer.error for answer in answers] == [None] * 41
    assert set(answers[0].fields) == set(made[0]["fields"])
    for operation, answer in zip(made, answers, strict=True):
        for field in ("doc_token_ids", "doc_token_ids_small"):
            sent = operation["fields"][field]["values"]
            assert list(answer.cells[field]) == sent


@pytest.mark.parametrize("name", ["shop", "news"])
def test_the_real_container_takes_the_queries(
    name: str, vespa_process: VespaProcess, bundle: Bundle, short: Bundle, tmp_path: Path
) -> None:
    app = application(name, tmp_path)
    schema, fields, inherits = CASES[name]
    install(bundle, app, schema=schema, text_fields=fields, inherits=inherits).apply()
    install(short, app, schema=schema, text_fields=fields[1:], name="small").apply()
    with container(app) as url, httpx.Client(base_url=url, timeout=60) as http:

        def errors(body: dict[str, Any]) -> list[tuple[int, str]]:
            found = http.post("/search/", json=body).json()["root"]["errors"]
            return [(error["code"], error.get("message", "")) for error in found]

        for package in Package.every(app):
            client = App(package.manifest, package.encoder())
            for profile in package.manifest.profiles:
                for text in ("red fox", '-a "b" (c:d) 東京 😀 it\'s'):
                    body = query_body(text, client, profile=profile.name)
                    assert [code for code, _ in errors(body)] == [NO_CONTENT_NODE]
        body = query_body("red fox", client, profile="small_cross")
        ((code, message),) = errors({**body, "input.query(query_token_ids)": [1] * 19})
        assert (code, "tensor<float>(d0[18])" in message) == (3, True)


def test_a_document_and_a_profile_by_hand(
    vespa_process: VespaProcess, bundle: Bundle, tmp_path: Path
) -> None:
    """Two bm25 fields and the weight of the bundle, computed without our own classes."""
    from engine_support import tiny_logit

    app = application("shop", tmp_path)
    install(bundle, app, schema="product", text_fields=["title", "description"]).apply()
    package = Package.open(app)
    query = package.encoder().query_ids("red fox")
    document = package.encoder().document_ids(Document("1", "red fox", "red dog"))
    values = {
        **binding(package.manifest, query, document, 0.0),
        "bm25(title)": 1.5,
        "bm25(description)": 0.25,
    }
    with working_copy(app) as copy:
        ((first, blend),) = vespa_process.evaluate(
            copy,
            schema="product",
            profile="ranker_blend",
            functions=["firstphase", "secondphase"],
            bindings=[values],
        )
    assert first == pytest.approx([1.75])
    assert blend == pytest.approx([1.75 + 2.0 * tiny_logit(query, document)], abs=TOLERANCE)
    assert package.manifest.profile("ranker_blend") == Profile(
        name="ranker_blend",
        phase="second",
        bm25_weight=1.0,
        logit_weight=2.0,
        inherits="ranker_cross",
    )
