"""Searching in one process: BM25 by hand and by bm25s, the phases by Vespa's rule."""

import dataclasses
import json
import math
import random

import pytest
from engine_support import WORDS, make_app, tiny_logit
from local_engine import TYPED, Engine

from ranker.artifacts.profile import Profile
from ranker.engine.errors import QueryError
from ranker.engine.http.parameters import canonical, json_parameters, merged
from ranker.engine.http.render import dumps, result_json
from ranker.engine.rank.matching import Matched
from ranker.engine.rank.ranking import rerank, rescale
from ranker.engine.rank.timer import Timer
from ranker.lexical.bm25 import BM25Index
from ranker.package.application import Package
from ranker.records import Document

ALL = "select * from doc where true"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return Package.open(make_app(tmp_path_factory.mktemp("search") / "app", blend_weight=2.0))


@pytest.fixture
def empty(package, tmp_path):
    engine = Engine(package, tmp_path / "data")
    yield engine
    engine.close()


FIVE = [
    Document("a", "red fox", "the quick red fox jumps"),
    Document("b", "", "dog dog dog fox"),
    Document("c", "cat", "the cat sleeps"),
    Document("d", "fox", ""),
    Document("e", "", "stone"),
]


@pytest.fixture(scope="module")
def five(package, tmp_path_factory):
    engine = Engine(package, tmp_path_factory.mktemp("five") / "data")
    engine.put(FIVE)
    yield engine
    engine.close()


def weight(occurrences, length, average):
    return occurrences * 2.2 / (occurrences + 1.2 * (0.25 + 0.75 * length / average))


def test_bm25_by_hand(five):
    # contents: a 7 terms, b 4, c 4, d 1, e 1: 17 / 5 on average; `fox` in a (2), b, d of 5.
    fox = math.log(1 + (5 - 3 + 0.5) / 3.5)
    dog = math.log(1 + (5 - 1 + 0.5) / 1.5)
    expected = {
        "a": fox * weight(2, 7, 3.4),
        "b": fox * weight(1, 4, 3.4) + dog * weight(3, 4, 3.4),
        "d": fox * weight(1, 1, 3.4),
    }
    answer = five.answer(query="fox dog", ranking="bm25")
    assert {f.document.values["doc_id"]: f.relevance for f in answer.hits} == pytest.approx(
        expected, abs=1e-6
    )
    assert [f.document.values["doc_id"] for f in answer.hits] == sorted(
        expected, key=lambda d: -expected[d]
    )
    assert answer.total == 3 and answer.documents == 5
    # The terms search `contents`, so bm25(title) is 0, as in Vespa.
    assert answer.hits[0].match_features == {
        "bm25(contents)": pytest.approx(expected["b"], abs=1e-6),
        "bm25(title)": 0.0,
    }


def test_repeated_terms_count_repeatedly(five):
    once = five.answer(query="fox", ranking="bm25").hits
    twice = five.answer(query="fox fox", ranking="bm25").hits
    assert [f.relevance for f in twice] == pytest.approx([2 * f.relevance for f in once])


def test_a_title_query_scores_by_its_own_field(five):
    # titles: a 2 terms, c 1, d 1: 4 / 3 on average over those with a title.
    answer = five.answer(query="title:fox", ranking="bm25")
    fox = math.log(1 + (5 - 2 + 0.5) / 2.5)
    titles = {f.document.values["doc_id"]: f.match_features["bm25(title)"] for f in answer.hits}
    expected = {"a": fox * weight(1, 2, 4 / 3), "d": fox * weight(1, 1, 4 / 3)}
    assert titles == pytest.approx(expected, abs=1e-6)
    assert [f.relevance for f in answer.hits] == [0.0, 0.0]  # first phase: bm25(contents)


def test_a_phrase_is_one_term(five):
    answer = five.answer(query='"red fox"', ranking="bm25")
    # Twice in `a`; its document frequency is that of its rarest word.
    idf = math.log(1 + (5 - 1 + 0.5) / 1.5)
    assert [f.document.values["doc_id"] for f in answer.hits] == ["a"]
    assert answer.hits[0].relevance == pytest.approx(idf * weight(2, 7, 3.4), abs=1e-6)


def test_removed_documents_leave_the_statistics(empty):
    empty.put(FIVE)
    before = empty.answer(query="fox", ranking="bm25").hits
    empty.put([Document(f"x{n}", "fox fox", "fox " * 50) for n in range(40)])
    assert empty.answer(query="fox", ranking="bm25").total == 43
    empty.remove(*(f"x{n}" for n in range(40)))
    after = empty.answer(query="fox", ranking="bm25").hits
    assert [(f.document.values["doc_id"], f.relevance) for f in after] == [
        (f.document.values["doc_id"], pytest.approx(f.relevance, abs=1e-9)) for f in before
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_that_of_bm25s(empty, seed):
    pick = random.Random(seed)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    documents = [
        Document(
            f"d{n}",
            " ".join(pick.choices(WORDS, weights, k=pick.randint(0, 4))),
            " ".join(pick.choices(WORDS, weights, k=pick.randint(1, 90))),
        )
        for n in range(600)
    ]
    empty.put(documents)
    # Dead rows, which tantivy still counts, must change nothing.
    empty.put([dataclasses.replace(d, text=f"{d.text} {d.text}") for d in documents[:200]])
    empty.put(documents[:200])
    truth = BM25Index(documents)
    for _ in range(6):
        query = " ".join(pick.choices(WORDS, k=pick.randint(1, 5)))
        answer = empty.answer(query=query, type="tokenize", ranking="bm25", hits="50")
        expected = dict(truth.search(query, 600))
        assert answer.total == len(expected)
        scores = [f.relevance for f in answer.hits]
        assert scores == pytest.approx(sorted(expected.values(), reverse=True)[:50], rel=1e-5)
        for found in answer.hits:
            assert found.relevance == pytest.approx(
                expected[found.document.values["doc_id"]], rel=1e-5
            )


def test_pages_are_parts_of_one_order(empty):
    empty.put([Document(f"d{n}", "", f"fox {'dog ' * (n % 7)}") for n in range(60)])
    whole = empty.ids(query="fox dog", ranking="bm25", hits="60")
    pages = [
        name
        for offset in range(0, 60, 7)
        for name in empty.ids(query="fox dog", ranking="bm25", hits="7", offset=str(offset))
    ]
    assert pages == whole and len(set(whole)) == 60


def test_logits_are_those_of_the_model(five):
    query = five.encoder.query_ids("quick fox dog")
    for profile in ("cross", "cross_global"):
        answer = five.answer(query="fox dog", ranking=profile, tokens="quick fox dog")
        for found in answer.hits:
            document = next(d for d in FIVE if d.doc_id == found.document.values["doc_id"])
            ids = five.encoder.document_ids(document)
            assert found.relevance == pytest.approx(tiny_logit(query, ids), abs=1e-5)
            assert found.match_features["attribute(token_fingerprint)"] == (
                five.package.spec.fingerprint_number
            )
            assert (found.summary_features is None) == (profile == "cross_global")


def test_the_blend_is_the_weighted_sum_of_the_manifest(five):
    for found in five.answer(query="fox dog", ranking="blend", tokens="fox").hits:
        expected = found.match_features["bm25(contents)"] + 2.0 * found.summary_features["logit"]
        assert found.relevance == pytest.approx(expected, abs=1e-9)


def test_rerank_count_and_the_scores_below(five):
    first = {
        f.document.values["doc_id"]: f.relevance
        for f in five.answer(query="fox dog", ranking="bm25").hits
    }
    order = list(first)
    for name, profile in (
        ("ranking.rerankCount", "cross"),
        ("ranking.secondPhase.rerankCount", "cross"),
        ("ranking.secondPhase.totalRerankCount", "cross"),
        ("ranking.globalPhase.rerankCount", "cross_global"),
    ):
        answer = five.answer(query="fox dog", ranking=profile, tokens="fox", **{name: "1"})
        scores = {f.document.values["doc_id"]: f.relevance for f in answer.hits}
        top = tiny_logit(five.encoder.query_ids("fox"), five.encoder.document_ids(FIVE[1]))
        below = rescale([first[order[0]]], [top], [first[d] for d in order[1:]])
        expected = {order[0]: top, **dict(zip(order[1:], below, strict=True))}
        assert scores == pytest.approx(expected, abs=1e-5)
        answer = five.answer(query="fox dog", ranking=profile, tokens="fox", **{name: "0"})
        assert {f.document.values["doc_id"]: f.relevance for f in answer.hits} == pytest.approx(
            first
        )


@pytest.mark.parametrize(
    ("before", "after", "rest", "expected"),
    [
        # first_phase_rescorer.cpp: scale = new range / old range, adjust = low * scale - new low.
        ([10, 6], [3, 1], [5, 2], [0.5, -1.0]),
        ([10, 6], [8, 6], [5, 2], [5, 2]),  # nothing to do: the lowest is not above
        ([10, 6], [9, 7], [5], [5]),
        ([6.2, 6], [1.1, 1], [5], [0.0]),  # both ranges are at least 1 wide
        ([6], [1], [5, 4], [0, -1]),
        ([], [], [5], [5]),
    ],
)
def test_rescale(before, after, rest, expected):
    assert rescale(before, after, rest) == pytest.approx(expected)


def test_a_logit_that_is_not_a_number_ranks_last():
    profile = Profile(name="cross", phase="second", bm25_weight=0.0, logit_weight=1.0)
    rows = [Matched(1, 3.0, 0.0, 0), Matched(2, 2.0, 0.0, 0)]
    ranked = rerank(rows, profile, 2, lambda chunk: [math.nan, -5.0], Timer(9))
    assert [(r.matched.row, r.relevance) for r in ranked] == [(2, -5.0), (1, -math.inf)]
    assert json.loads(dumps({"relevance": ranked[1].relevance})) == {"relevance": "-Infinity"}


def test_many_reranked_documents(empty):
    empty.put([Document(f"d{n}", "", f"fox {' '.join(WORDS[: n % 40])}") for n in range(300)])
    answer = empty.answer(
        query="fox", ranking="cross", tokens="fox red", hits="300", **{"ranking.rerankCount": "300"}
    )
    scores = [f.relevance for f in answer.hits]
    assert len(scores) == 300 and scores == sorted(scores, reverse=True)
    query = empty.encoder.query_ids("fox red")
    for found in answer.hits:
        document = Document("", "", found.document.values["text"])
        ids = empty.encoder.document_ids(document)
        assert found.relevance == pytest.approx(tiny_logit(query, ids), abs=1e-4)


def test_documents_without_tokens_are_scored_as_empty_and_reported(empty):
    empty.put(FIVE[:1])
    empty.put(FIVE[1:2], without=("doc_token_ids", "token_fingerprint"))
    answer = empty.answer(query="fox", ranking="cross", tokens="fox")
    found = {f.document.values["doc_id"]: f for f in answer.hits}
    assert found["b"].relevance == 0.0
    assert found["b"].match_features["attribute(token_fingerprint)"] == 0.0
    assert "1 of 2 reranked documents have no doc_token_ids" in answer.notes[0]


@pytest.mark.parametrize("profile", ["cross", "cross_global", "blend"])
def test_queries_without_tokens_are_refused(five, profile):
    number = five.package.spec.fingerprint_number
    for parameters, message in (
        ({}, "input.query(query_token_ids) is missing: the rank profile"),
        ({"input.query(query_token_ids)": "[0,0]"}, "input.query(query_token_ids) is all zero"),
        ({"input.query(query_token_ids)": "[5,0.5]"}, "expected token ids from 0 to 49, got 0.5"),
        ({"input.query(query_token_ids)": "[99999]"}, "expected token ids from 0 to 49, got 99999"),
        (
            {"input.query(query_token_ids)": "[5]", "input.query(token_fingerprint)": "77"},
            f"contract 77 (input.query(token_fingerprint)), this application has {number}",
        ),
    ):
        with pytest.raises(QueryError) as caught:
            five.answer(query="fox", ranking=profile, **parameters)
        assert caught.value.code == 4
        assert message in caught.value.message
        assert str(number) in caught.value.message or "token ids from" in message
    # The number may be left out, as old clients do; the ids may not.
    assert five.answer(
        query="fox", ranking=profile, **{"input.query(query_token_ids)": "[5]"}
    ).total


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"hits": "401"}, 3, "'hits': expected at most 400, got 401"),
        ({"offset": "1001"}, 3, "'offset': expected at most 1000, got 1001"),
        ({"hits": "-1"}, 3, "'hits': expected a whole number of at least 0, got '-1'"),
        ({"hits": "x"}, 3, "'hits': expected a whole number of at least 0, got 'x'"),
        ({"timeout": "abc"}, 3, "'timeout': expected a duration like 5, 5s or 300ms, got 'abc'"),
        ({"timeout": "-1s"}, 3, "'timeout': expected a duration like 5, 5s or 300ms, got '-1s'"),
        ({"timeout": "0"}, 12, "no time left after "),
        (
            {"ranking": "nosuch"},
            4,
            "the schema 'doc' has no rank profile 'nosuch'; expected one of",
        ),
        ({"ranking.bogus": "1"}, 3, "unknown property 'ranking.bogus'; expected one of"),
        (
            {"ranking.matching.bogus": "1"},
            3,
            "unknown property 'ranking.matching.bogus'; expected one of",
        ),
        (
            {"ranking.matching.minHitsPerThread": "x"},
            3,
            "'ranking.matching.minHitsPerThread': expected an integer, got 'x'",
        ),
        (
            {"ranking.rerankCount": "1_0"},
            3,
            "'ranking.rerankCount': expected an integer, got '1_0'",
        ),
        ({"ranking.matching": "1"}, 3, "unknown property 'ranking.matching'; expected one of"),
        ({"hits": " 5"}, 3, "'hits': expected a whole number of at least 0, got ' 5'"),
        (
            {"model.searchPath": "x/y"},
            3,
            "'searchPath': expected nodes and group like 0/0, got 'x/y'",
        ),
        (
            {"presentation.format.tensors": "x"},
            3,
            "expected one of long, short, long-value, short-value, got 'x'",
        ),
        ({"queryProfile": "nosuch"}, 3, "'queryProfile': expected default, got 'nosuch'"),
        ({"model.bogus": "1"}, 3, "unknown property 'model.bogus'; expected one of"),
        ({"ranking.sorting": "-doc_id"}, 4, "'ranking.sorting' is not supported"),
        ({"ranking.keepRankCount": "5"}, 4, "'ranking.keepRankCount' is not supported"),
        ({"filter": "+x"}, 4, "'model.filter' is not supported"),
        ({"select.where": '{"a":1}'}, 4, "'select.where' is not supported"),
        ({"ranking.features.bogus(x)": "1"}, 4, "is not supported"),
        (
            {"model.type": "bogus"},
            3,
            "all, any, web, phrase, tokenize, linguistics, raw, got 'bogus'",
        ),
        (
            {"model.restrict": "nosuch"},
            4,
            "unknown source 'nosuch'; expected one of doc, content, content.doc",
        ),
        (
            {"model.defaultIndex": "text"},
            4,
            "the field 'text' is not indexed; search 'contents', which includes it",
        ),
        ({"language": "de"}, 4, "stems English only"),
        (
            {"presentation.format": "xml"},
            3,
            "'presentation.format': expected one of json, default, cbor, got 'xml'",
        ),
        (
            {"presentation.summary": "nosuch"},
            4,
            "unknown summary 'nosuch'; expected default or ids",
        ),
        (
            {"query": "", "yql": TYPED},
            3,
            "the query has no word; give 'query' or a condition in 'yql'",
        ),
        (
            {"yql": f"{ALL} limit 500"},
            4,
            "'hits': expected at most 400, got 500",
        ),
        (
            {"yql": f"{ALL} offset 1001"},
            4,
            "'offset': expected at most 1000, got 1001",
        ),
        ({"yql": f"{ALL} limit 5 offset 9"}, 17, "'hits': expected at least 0, got -4"),
        ({"yql": "x"}, 4, "YQL: unexpected 'x' in line 1, column 1"),
        ({"yql": TYPED, "query": "(" * 5000}, 4, "the query is nested too deeply"),
        (
            {"input.query(query_token_ids)": "[1,2"},
            3,
            "'input.query(query_token_ids)': not JSON: Expecting ','",
        ),
        (
            {"input.query(token_fingerprint)": "abc"},
            3,
            "'input.query(token_fingerprint)': expected a number, got 'abc'",
        ),
        (
            {"yql": f"{ALL} order by doc_id", "ranking": "cross_global"},
            3,
            "the rank profile 'cross_global' has a global phase; drop 'order",
        ),
        ({"ranking.rerankCount": "99999", "ranking": "cross"}, 3, "at most 10000"),
    ],
)
def test_front_door(five, parameters, code, message):
    with pytest.raises(QueryError) as caught:
        five.answer(**{"yql": ALL, "query": "fox", "ranking": "bm25", **parameters})
    assert caught.value.code == code, caught.value.message
    assert message in caught.value.message


@pytest.mark.parametrize(
    "parameters",
    [
        {"ranking.matching.numThreadsPerSearch": "2"},
        {"ranking.softtimeout.enable": "false"},
        {"presentation.format.tensors": "short"},
        {"trace.level": "3"},
        {"language": "en-US"},
        {"anything.else": "x", "nosuch": "y"},
        {"input.query(nosuch)": "[1,2]"},
        {"queryProfile": "default"},
        {"HITS": "3", "OFFSET": "0"},
        {"count": "3", "start": "0"},
        {"model.sources": "content, content.doc", "model.restrict": "doc"},
    ],
)
def test_parameters_without_effect(five, parameters):
    given = {"yql": ALL, "ranking": "bm25", **parameters}
    assert five.answer(**given).total == 5


def test_no_profile_ranks_by_bm25_and_says_so(five):
    answer = five.answer(query="fox")
    assert answer.hits[0].match_features is None
    assert answer.notes == ["no rank profile is named: ranked by bm25(contents)"]


def test_a_query_without_yql(five):
    answer = five.search.answer(merged({}, [("query", "red fox"), ("ranking", "bm25")]))
    assert [f.document.values["doc_id"] for f in answer.hits][0] == "a" and answer.total == 3


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("order by doc_id desc", ["e", "d", "c", "b", "a"]),
        ("order by token_fingerprint, doc_id desc", ["e", "d", "c", "b", "a"]),
        ("order by doc_id limit 4 offset 2", ["c", "d"]),
    ],
)
def test_order_by(five, order, names):
    answer = five.answer(f"{ALL} {order}", ranking="bm25")
    assert [f.document.values["doc_id"] for f in answer.hits] == names and answer.total == 5


def test_summaries(five):
    def fields(**parameters):
        answer = five.answer(query="stone", tokens="stone", **parameters)
        body = json.loads(dumps(result_json(answer, schema="doc", elapsed_s=0.5)))
        (hit,) = body["root"]["children"]
        return hit

    hit = fields(ranking="cross")
    number = five.package.spec.fingerprint_number
    assert hit["id"] == "id:ranker:doc::e" and hit["source"] == "content"
    assert hit["fields"] == {
        "matchfeatures": hit["fields"]["matchfeatures"],
        "sddocname": "doc",
        "documentid": "id:ranker:doc::e",
        "doc_id": "e",
        "text": "stone",
        "token_fingerprint": number,
        "summaryfeatures": {"logit": hit["relevance"], "vespa.summaryFeatures.cached": 0.0},
    }
    ids = fields(ranking="cross", **{"presentation.summary": "ids"})
    assert set(ids["fields"]) == {"matchfeatures", "sddocname", "doc_id"}
    assert ids["id"].startswith("index:content/0/")
    assert "summaryfeatures" not in fields(ranking="cross_global")["fields"]
    chosen = fields(ranking="cross", yql="select doc_id, title from doc where userQuery()")
    assert chosen["fields"] == {"doc_id": "e"}


def test_a_calibrated_model_shows_its_probability(tmp_path):
    app = make_app(tmp_path / "app", calibration={"slope": 1.5, "intercept": -2.25})
    engine = Engine(Package.open(app), tmp_path / "db")
    try:
        engine.put(FIVE)
        for profile in ("cross", "blend"):
            answer = engine.answer(query="fox dog", ranking=profile, tokens="quick fox dog")
            for found in answer.hits:
                shown = found.summary_features
                odds = 1.5 * shown["logit"] - 2.25
                assert shown["probability"] == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-12)
            body = result_json(answer, schema="doc", elapsed_s=0.5)
            fields = body["root"]["children"][0]["fields"]
            assert set(fields["summaryfeatures"]) == {
                "logit",
                "probability",
                "vespa.summaryFeatures.cached",
            }
    finally:
        engine.close()


def test_the_result_has_the_shape_of_vespas(five):
    answer = five.answer(
        query="fox", ranking="bm25", hits="0", **{"presentation.timing": "true", "trace.level": "1"}
    )
    body = result_json(answer, schema="doc", elapsed_s=0.5)
    assert list(body) == ["trace", "timing", "root"]
    assert body["root"] == {
        "id": "toplevel",
        "relevance": 1.0,
        "fields": {"totalCount": 3},
        "coverage": {
            "coverage": 100,
            "documents": 5,
            "full": True,
            "nodes": 1,
            "results": 1,
            "resultsFull": 1,
        },
    }
    assert body["timing"]["searchtime"] == 0.5
    plain = result_json(five.answer(query="fox", ranking="bm25"), schema="doc", elapsed_s=0.5)
    assert list(plain) == ["root"]


def test_a_query_stops_when_its_time_is_over():
    now = iter([0.0, 1.0, 2.0, 99.0])
    timer = Timer(10.0, clock=lambda: next(now))
    timer.check()
    timer.check()
    with pytest.raises(QueryError, match="after 99000 ms"):
        timer.check()
    profile = Profile(name="cross", phase="second", bm25_weight=0.0, logit_weight=1.0)
    rows = [Matched(n, 1.0, 0.0, 0) for n in range(400)]
    seen = []
    now = iter([0.0, 1.0, 2.0, 99.0])
    with pytest.raises(QueryError) as caught:
        rerank(
            rows,
            profile,
            400,
            lambda chunk: seen.extend(chunk) or [0.0] * len(chunk),
            Timer(10.0, clock=lambda: next(now)),
        )
    assert caught.value.code == 12 and len(seen) == 256


def test_json_bodies_are_flattened():
    body = (
        b'{\'yql\': \'a\nb\', "ranking": {"profile": "x", "features": {"query(q)": [1, 2]}},'
        b' "input": {"query(t)": {"values": [1]}}, "hits": 3, "flag": true, "none": null}'
    )
    assert json_parameters(body) == {
        "yql": "a\nb",
        "ranking.profile": "x",
        "ranking.features.query(q)": [1, 2],
        "input.query(t)": {"values": [1]},
        "hits": 3,
        "flag": True,
        "none": None,
    }
    assert merged({"hits": "3", "query": "a"}, [("HITS", "4")]) == {
        "hits": "4",
        "model.queryString": "a",
    }
    for name in ("input.query(q)", "ranking.features.query(q)", "rankfeature.query(q)"):
        assert canonical(name) == "input.query(q)"


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b'{"yql": ', b"\xff\xfe{", b"[" * 100_000])
def test_bodies_that_are_not_a_json_object(body):
    with pytest.raises(QueryError) as caught:
        json_parameters(body)
    assert caught.value.code == 3
