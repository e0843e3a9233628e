"""The one supported grouping: which of some documents match, as pyvespa's evaluator asks."""

import json

import pytest
from local_engine import Engine
from vespa.evaluation import VespaMatchEvaluator

from ranker.engine.errors import QueryError
from ranker.engine.http.render import dumps, result_json
from ranker.engine.query.grouping import parse_grouping
from ranker.package.application import Package
from ranker.records import Document

TYPED = "select * from doc where userQuery()"
NASTY = ["d-1", "a.b", "x y", "é|z", "q\\w", "(p)", "a|b", "$^", "ü", "A", "tab\tx", "{1}", "a*+?"]


def grouped(yql, ids):
    """Return the statement that pyvespa makes of a query, to group by these ids."""
    return VespaMatchEvaluator.create_grouping_filter(yql, "doc_id", ids)


@pytest.mark.parametrize("ids", [["a"], ["a", "b"], NASTY, *([name] for name in NASTY)])
def test_pyvespas_pattern_is_its_ids(ids):
    grouping = parse_grouping(grouped("", ids).partition("|")[2], {})
    assert grouping.values == set(ids) and grouping.most == 10


@pytest.mark.parametrize(
    "text",
    [
        "all(group(doc_id) each(output(count())))",
        'all(group(doc_id) filter(regex("a.*", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^a.$", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^a|b$", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^(?:a(b)|c)$", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^(?:a)|(?:b)$", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^a\\\\d$", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^(?:a\\\\)$", doc_id)) each(output(count())))',
        'all(group(doc_id) filter(regex("^a$", doc_id)) max(5) each(output(count())))',
        'all(group(doc_id) filter(regex("^a$", doc_id)) each(output(summary())))',
        "bogus(",
        "",
    ],
)
def test_other_groupings_are_refused(text):
    with pytest.raises(QueryError) as caught:
        parse_grouping(text, {})
    assert caught.value.code == 4
    assert (
        "this grouping is not supported by the embedded engine; expected all("
        in caught.value.message
    )


def test_a_grouping_by_another_field_is_a_bad_request():
    text = 'all(group(title) filter(regex("^a$", title)) each(output(count())))'
    with pytest.raises(QueryError, match="expected a grouping by 'doc_id', got 'title'") as caught:
        parse_grouping(text, {})
    assert caught.value.code == 17


@pytest.mark.parametrize("most", ["x", "", "-2", "99999999999", 1.5, True, None])
def test_an_illegal_number_of_groups(most):
    with pytest.raises(QueryError, match="'grouping.defaultMaxGroups': expected") as caught:
        parse_grouping(grouped("", ["a"]).partition("|")[2], {"grouping.defaultMaxGroups": most})
    assert caught.value.code == 3


@pytest.fixture(scope="module")
def engine(package, tmp_path_factory):
    engine = Engine(Package.open(package), tmp_path_factory.mktemp("grouping") / "data")
    engine.put(Document(f"d{n}", "", f"fox {'dog ' * n}") for n in range(30))
    engine.put([Document("D3", "", "fox cat"), Document("none", "", "cat")])
    yield engine
    engine.close()


def answered(engine, ids, **parameters):
    """Return an answer's groups (value, count, relevance) and its hits (id to relevance)."""
    answer = engine.answer(grouped(TYPED, ids), query="fox", **parameters)
    body = json.loads(dumps(result_json(answer, schema="doc", elapsed_s=0.1)))
    root, *hits = body["root"]["children"]
    assert (root["id"], root["continuation"]) == ("group:root:0", {"this": ""})
    (listed,) = root.get("children", [{"children": [], "label": "doc_id"}])
    assert listed["label"] == "doc_id"
    for group in listed["children"]:
        assert group["id"] == f"group:string:{group['value']}"
    groups = [
        (group["value"], group["fields"]["count()"], group["relevance"])
        for group in listed["children"]
    ]
    return groups, {hit["fields"]["doc_id"]: hit["relevance"] for hit in hits}


def test_groups_have_the_scores_of_their_documents(engine):
    wanted = ["d0", "d3", "d29", "none", "nosuch"]
    for parameters in (
        {"ranking": "bm25"},
        {"ranking": "cross", "tokens": "dog", "ranking.rerankCount": "5"},
        {"ranking": "cross_global", "tokens": "dog", "ranking.globalPhase.rerankCount": "5"},
        {"ranking": "blend", "tokens": "dog"},
    ):
        _, scores = answered(engine, wanted, hits="100", **parameters)
        groups, page = answered(engine, wanted, hits="2", **parameters)
        assert len(scores) == 31 and list(page) == list(scores)[:2]
        expected = sorted((-scores[name], name) for name in wanted[:3])
        assert groups == [(name, 1, pytest.approx(-score)) for score, name in expected]


def test_groups_without_a_rank(engine):
    groups, hits = answered(engine, ["d3", "d0"], ranking="unranked")
    assert groups == [("d0", 1, 0.0), ("d3", 1, 0.0)]
    assert len(hits) == 10 and set(hits.values()) == {0.0}


def test_the_number_of_groups(engine):
    wanted = [f"d{n}" for n in range(15)]
    for most, count in (("10", 10), ("3", 3), ("-1", 15)):
        more = {"grouping.defaultMaxGroups": most, "ranking": "bm25"}
        groups, _ = answered(engine, wanted, **more)
        assert [name for name, _, _ in groups] == wanted[:count]  # the shortest ones are best
    assert len(answered(engine, wanted, ranking="bm25")[0]) == 10


def test_no_group_matches(engine):
    assert answered(engine, ["none"], ranking="bm25")[0] == []


def test_groups_of_a_sorted_result(engine):
    order = f"{TYPED} order by doc_id limit 3"
    answer = engine.answer(grouped(order, ["d5"]), query="fox", ranking="bm25")
    assert [group.value for group in answer.groups] == ["d5"]
    assert [hit.document.values["doc_id"] for hit in answer.hits] == ["d0", "d1", "d10"]
