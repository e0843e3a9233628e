"""pyvespa, unchanged, against a running engine: every call that an application makes."""

import asyncio
import json
import random

import httpx
import pytest
from clients_support import counted, documents, ledger_of, vespa_of
from engine_support import put_fields, query_inputs
from requests.exceptions import HTTPError
from vespa.evaluation import VespaEvaluator, VespaMatchEvaluator
from vespa.exceptions import VespaError

from ranker.client.search import App, Client, query_body
from ranker.dataset import Dataset
from ranker.evaluate import evaluate
from ranker.metrics.measures import aggregate, ordered
from ranker.records import Document, Query

DOCUMENTS = documents(300, seed=7)
PLACE = {"schema": "doc", "namespace": "ranker"}
ALL = "select * from doc where true"


ledger, count = ledger_of("pyvespa")


@pytest.fixture(scope="module")
def app(ledger, url):
    return ledger.watched(vespa_of(url))


class Outcomes:
    """A callback of pyvespa's feed functions: what became of each document."""

    def __init__(self):
        self.statuses = {}
        self.messages = {}

    def __call__(self, response, id_):
        self.statuses[id_] = response.status_code
        self.messages[id_] = response.json.get("message", "")


@pytest.fixture(scope="module")
def fed(app, encoder):
    """Feed `DOCUMENTS` with pyvespa's synchronous client."""
    outcomes = Outcomes()
    batch = [{"id": d.doc_id, "fields": put_fields(d, encoder)} for d in DOCUMENTS]
    app.feed_iterable(batch, callback=outcomes, **PLACE)
    assert outcomes.statuses == {d.doc_id: 200 for d in DOCUMENTS}
    return app


def found(app, yql, **parameters):
    """Return the ids of the documents that a query finds."""
    answer = app.query(body={"yql": yql, "hits": 400, **parameters})
    return {hit["fields"]["doc_id"] for hit in answer.hits}


def fields_of(app, name, namespace="ranker"):
    return app.get_data(schema="doc", namespace=namespace, data_id=name).json.get("fields")


# --- is it there? --------------------------------------------------------------------------------


def test_the_application_is_up(app, url):
    app.wait_for_application_up(max_wait=10)
    assert app.get_application_status().status_code == 200
    # The package serves no stateless models, and Vespa's container has no such page then.
    assert app.get_model_endpoint()["status_code"] == 404


# --- one document --------------------------------------------------------------------------------


def test_one_document_from_put_to_removal(app, encoder):
    fields = put_fields(DOCUMENTS[1], encoder)
    place = {"schema": "doc", "data_id": "a/b c", "namespace": "other"}
    assert app.feed_data_point(fields=fields, **place).json == {
        "id": "id:other:doc::a/b c",
        "pathId": "/document/v1/other/doc/docid/a/b%20c",
    }
    got = app.get_data(**place).json["fields"]
    assert got["title"] == DOCUMENTS[1].title
    assert got["doc_token_ids"]["values"] == fields["doc_token_ids"]["values"]
    assert app.get_data(**place, fieldSet="doc:title").json["fields"] == {"title": got["title"]}
    assert app.update_data(fields={"title": "green"}, **place).status_code == 200
    assert app.get_data(**place).json["fields"]["title"] == "green"
    assert app.delete_data(**place).status_code == 200
    assert app.delete_data(**place).status_code == 200
    assert app.get_data(**place).status_code == 404
    with pytest.raises(HTTPError, match="HTTP 404"):
        app.get_data(**place, raise_on_not_found=True)


def test_a_document_in_a_group(app):
    place = {"schema": "doc", "data_id": "x", "namespace": "grouped", "groupname": "g 1"}
    put = app.feed_data_point(fields={"title": "pear"}, **place)
    assert put.json["id"] == "id:grouped:doc:g=g 1:x"
    assert app.get_data(**place).json["fields"] == {"title": "pear"}
    assert app.update_data(fields={"title": "plum"}, **place).status_code == 200
    assert app.delete_data(**place).status_code == 200


def test_refusals_come_with_the_message_of_the_engine(app):
    place = {**PLACE, "data_id": "refused"}
    for call, words in (
        (lambda: app.feed_data_point(fields={"nosuch": 1}, **place), "doc has no field 'nosuch'"),
        (lambda: app.feed_data_point(fields={"title": [1]}, **place), "expected a string, got [1]"),
        (
            lambda: app.update_data(fields={"nosuch": 1}, **place),
            "field 'nosuch': expected one of the fields",
        ),
        (lambda: app.delete_data(condition="doc.title ==", **place), "not understood from"),
        (lambda: app.query(yql="nonsense"), "YQL: unexpected 'nonsense' in line 1"),
        (lambda: app.query(yql=ALL, ranking="nosuch"), "has no rank profile 'nosuch'"),
    ):
        with pytest.raises(VespaError) as caught:
            call()
        assert words in str(caught.value)
    assert app.get_data(**place).status_code == 404


def test_conditions(app):
    place = {**PLACE, "data_id": "conditional"}
    app.feed_data_point(fields={"title": "red"}, **place)
    for call in (
        lambda: app.update_data(fields={"title": "x"}, condition='doc.title == "y"', **place),
        lambda: app.feed_data_point(fields={"title": "x"}, condition="doc.text", **place),
        lambda: app.delete_data(condition='id.namespace == "other"', **place),
    ):
        with pytest.raises(VespaError, match="the condition does not hold"):
            call()
    assert fields_of(app, "conditional") == {"title": "red"}
    fits = 'doc.title = "r?*" and not doc.text and id.specific == "conditional"'
    assert app.update_data(fields={"title": "x"}, condition=fits, **place).status_code == 200
    assert app.delete_data(condition='doc.title == "x"', **place).status_code == 200


# --- updates -------------------------------------------------------------------------------------


def cell(at, value):
    return {"address": {"d0": str(at)}, "value": value}


def test_assigned_and_cleared_fields(app, encoder):
    place = {**PLACE, "data_id": "changed"}
    fields = put_fields(Document("changed", "red fox", "green dog"), encoder)
    app.feed_data_point(fields=fields, **place)
    app.update_data(fields={"title": "blue cat", "text": None}, **place)
    got = fields_of(app, "changed")
    assert got["title"] == "blue cat" and "text" not in got
    # The words of the index follow, and those of the old fields are gone.
    in_it = 'select * from doc where doc_id contains "changed" and contents contains '
    assert found(app, in_it + '"cat"') == {"changed"} and not found(app, in_it + '"dog"')
    app.update_data(fields={"doc_token_ids": None, "token_fingerprint": None}, **place)
    assert set(fields_of(app, "changed")) == {"doc_id", "title"}
    app.delete_data(**place)


def test_an_update_creates_a_document_only_if_allowed(app):
    place = {**PLACE, "data_id": "created"}
    assert app.update_data(fields={"title": "x"}, **place).status_code == 200
    assert app.get_data(**place).status_code == 404
    assert app.update_data(fields={"title": "x"}, create=True, **place).status_code == 200
    assert fields_of(app, "created") == {"title": "x"}
    app.delete_data(**place)


@pytest.mark.parametrize(
    ("operation", "cells", "after"),
    [
        ("replace", [cell(1, 9)], [5, 9, 7]),
        ("replace", [cell(0, 8), cell(3, "6")], [8, 6, 7, 6]),
        ("replace", {"1": 9, "3": 8}, [5, 9, 7, 8]),
        ("replace", [], [5, 6, 7]),
        ("add", [cell(1, 9)], [5, 15, 7]),
        ("add", [cell(2, -7)], [5, 6, 0]),
        ("multiply", [cell(2, 3)], [5, 6, 21]),
        ("multiply", [cell(9, 3)], [5, 6, 7]),
    ],
)
def test_modified_tokens(app, encoder, operation, cells, after):
    """The results are those of Vespa's own `DocumentUpdate.applyTo` (8.700.24)."""
    place = {**PLACE, "data_id": "modified"}
    number = encoder.spec.fingerprint_number
    tokens = {"values": [5, 6, 7] + [0] * 92}
    app.feed_data_point(fields={"doc_token_ids": tokens, "token_fingerprint": number}, **place)
    change = {"doc_token_ids": {"modify": {"operation": operation, "cells": cells}}}
    app.update_data(fields=change, auto_assign=False, **place)
    values = fields_of(app, "modified")["doc_token_ids"]["values"]
    assert values == after + [0] * (95 - len(after))


def test_a_missing_tensor_is_not_modified(app):
    place = {**PLACE, "data_id": "bare"}
    app.feed_data_point(fields={"title": "x"}, **place)
    change = {"doc_token_ids": {"modify": {"operation": "add", "cells": [cell(1, 9)]}}}
    assert app.update_data(fields=change, auto_assign=False, **place).status_code == 200
    assert fields_of(app, "bare") == {"title": "x"}


def test_arithmetic_ends_in_the_same_contract_or_is_refused(app, encoder):
    number = encoder.spec.fingerprint_number
    place = {**PLACE, "data_id": "counted"}
    app.feed_data_point(fields={"token_fingerprint": number}, **place)

    def changed(change):
        app.update_data(fields={"token_fingerprint": change}, auto_assign=False, **place)
        return fields_of(app, "counted")["token_fingerprint"]

    assert changed({"increment": 0}) == number
    assert changed({"increment": 3, "decrement": 3}) == number
    assert changed({"multiply": 1, "divide": 1}) == number
    assert changed({"decrement": number, "increment": str(number)}) == number
    for change in ({"increment": 1}, {"multiply": 0}, {"divide": 0}, {"assign": 5}):
        with pytest.raises(VespaError, match="tokenized under the token contract"):
            changed(change)
    assert fields_of(app, "counted") == {"token_fingerprint": number}


# --- many documents ------------------------------------------------------------------------------


def test_feeding_updates_and_removals(app, encoder):
    names = [f"many{n}" for n in range(60)]
    puts, updates, removals = Outcomes(), Outcomes(), Outcomes()
    batch = [{"id": name, "fields": {"doc_id": name, "title": "pear"}} for name in names]
    batch.append({"id": "bad", "fields": {"nosuch": 1}})
    app.feed_iterable(batch, callback=puts, max_workers=4, max_connections=4, **PLACE)
    assert puts.statuses == {**dict.fromkeys(names, 200), "bad": 400}
    assert "doc has no field 'nosuch'" in puts.messages["bad"]
    changes = [{"id": name, "fields": {"title": "plum"}} for name in names[:40]]
    app.feed_iterable(changes, operation_type="update", callback=updates, **PLACE)
    gone = [{"id": name} for name in names[30:]]
    app.feed_async_iterable(gone, operation_type="delete", callback=removals, **PLACE)
    assert set(updates.statuses.values()) | set(removals.statuses.values()) == {200}
    assert len(updates.statuses) == 40 and len(removals.statuses) == 30
    plums = 'select * from doc where title contains "plum" and doc_id in (@names)'
    assert found(app, plums, names=",".join(names)) == set(names[:30])
    app.feed_iterable([{"id": n} for n in names], operation_type="delete", **PLACE)


def test_feeding_asynchronously(app, encoder):
    names = [f"async{n}" for n in range(500)]
    puts, updates, removals = Outcomes(), Outcomes(), Outcomes()
    batch = [{"id": name, "fields": {"doc_id": name, "title": "world"}} for name in names]
    app.feed_async_iterable(
        [*batch, {"id": "bad", "fields": {"title": {}}}], callback=puts, **PLACE
    )
    assert puts.statuses == {**dict.fromkeys(names, 200), "bad": 400}
    changes = [{"id": name, "fields": {"text": "tree"}} for name in names[::2]]
    app.feed_async_iterable(changes, operation_type="update", callback=updates, **PLACE)
    both = 'select * from doc where title contains "world" and contents contains "tree"'
    answer = app.query(yql=f'{both} and doc_id in ("async4", "async5")')
    assert [hit["fields"]["doc_id"] for hit in answer.hits] == ["async4"]
    app.feed_async_iterable(
        [{"id": n} for n in names], operation_type="delete", callback=removals, **PLACE
    )
    assert not found(app, both)


def test_an_asynchronous_session(app, ledger, url):
    async def session():
        async with vespa_of(url).asyncio(connections=2) as plain:
            client = ledger.watched(plain)
            place = {**PLACE, "data_id": "session"}
            put = await client.feed_data_point(fields={"title": "x"}, **place)
            changed = await client.update_data(fields={"title": "pear"}, create=True, **place)
            got = await client.get_data(**place)
            refused = await client.update_data(
                fields={"title": {"increment": 1}}, auto_assign=False, **place
            )
            answer = await client.query(body={"yql": ALL, "hits": 0})
            removed = await client.delete_data(**place)
            missing = await client.get_data(**place)
        assert got.json["fields"] == {"title": "pear"} and answer.number_documents_retrieved
        assert "has no 'increment'; expected assign" in refused.json["message"]
        return [one.status_code for one in (put, changed, got, refused, removed, missing)]

    assert asyncio.run(session()) == [200, 200, 200, 500, 200, 404]


# --- visits --------------------------------------------------------------------------------------


def visited(app, **options):
    """Return the ids of a visit's documents, slice after slice, and the number of pages."""
    options = {"content_cluster_name": "content", **options}
    pages = [page for part in app.visit(**options) for page in part]
    return [one["id"] for page in pages for one in page.documents], len(pages)


def test_visits(fed):
    everything = sorted(f"id:ranker:doc::{d.doc_id}" for d in DOCUMENTS)
    for slices in (1, 3):
        ids, pages = visited(fed, slices=slices, wanted_document_count=40, **PLACE, selection=DS)
        assert sorted(ids) == everything and pages >= 300 / 40
    parts = [visited(fed, slices=4, slice_id=n, **PLACE, selection=DS)[0] for n in range(4)]
    assert sorted(sum(parts, [])) == everything and all(parts)
    # Without a schema: everything of the cluster.
    ids, _ = visited(fed, selection=f"{DS} and id.namespace == 'ranker'")
    assert sorted(ids) == everything
    chosen = [d for d in DOCUMENTS if d.title and "fox" in d.title]
    ids, _ = visited(fed, selection=f'{DS} and doc.title = "*fox*"', **PLACE)
    assert sorted(ids) == sorted(f"id:ranker:doc::{d.doc_id}" for d in chosen)
    (part,) = fed.visit(
        content_cluster_name="content",
        **PLACE,
        selection="doc.doc_id == 'd1'",
        fieldSet="doc:title",
    )
    (page,) = part
    assert page.number_documents_retrieved == 1 and page.continuation is None
    assert page.documents[0]["fields"] == {"title": DOCUMENTS[1].title}


DS = 'doc.doc_id = "d*"'
"""Selects `DOCUMENTS` among the documents of other tests."""


def test_visits_that_are_refused(fed):
    for options, words in (
        ({"selection": "doc.title =="}, "not understood from"),
        ({"selection": "doc.nosuch == 1"}, "the document type doc has no field 'nosuch'"),
        ({"content_cluster_name": "nosuch"}, "no content cluster 'nosuch', only 'content'"),
        ({"wanted_document_count": 0}, "'wantedDocumentCount': expected at least 1, got 0"),
    ):
        with pytest.raises(VespaError) as caught:
            visited(fed, **{**PLACE, **options})
        assert words in str(caught.value)


def test_all_documents_are_deleted(fed, url):
    batch = [{"id": str(n), "fields": {"doc_id": f"w{n}", "title": "world"}} for n in range(1500)]
    fed.feed_async_iterable(batch, schema="doc", namespace="wiped")
    kept = len(visited(fed, selection="true", **PLACE)[0])
    world = 'select * from doc where title contains "world" and doc_id in ("w7", "w1499")'
    assert found(fed, world) == {"w7", "w1499"}
    with pytest.raises(VespaError, match="no content cluster 'nosuch'"):
        fed.delete_all_docs(content_cluster_name="nosuch", schema="doc", namespace="wiped")
    fed.delete_all_docs(content_cluster_name="content", schema="doc", namespace="wiped", slices=2)
    assert visited(fed, selection="true", schema="doc", namespace="wiped")[0] == []
    assert found(fed, world) == set()
    assert len(visited(fed, selection="true", **PLACE)[0]) == kept


def test_removing_and_updating_by_selection(url):
    """pyvespa itself has one call for this only, to delete all documents."""
    path = "/document/v1/sweep/doc/docid/"
    chosen = {"cluster": "content", "selection": 'doc.title == "red"'}
    with httpx.Client(base_url=url, timeout=30) as client:
        for n in range(8):
            fields = {"doc_id": f"s{n}", "title": "red" if n % 2 else "blue"}
            assert client.post(f"{path}{n}", json={"fields": fields}).status_code == 200
        change = {"fields": {"text": {"assign": "tree"}}}
        done = client.put(path, params=chosen, json=change)
        assert done.json() == {"pathId": path, "documentCount": 4}
        texts = [client.get(f"{path}{n}").json()["fields"].get("text") for n in range(8)]
        assert texts == [None, "tree"] * 4
        token = {"doc_token_ids": {"assign": {"values": [5] * 95}}}
        failed = client.put(path, params=chosen, json={"fields": token})
        assert failed.status_code == 500 and "without token_fingerprint" in failed.json()["message"]
        nothing = client.delete(path, params={**chosen, "bucketSpace": "global"})
        assert nothing.json() == {"pathId": path, "documentCount": 0}
        done = client.delete(path, params=chosen)
        assert done.json() == {"pathId": path, "documentCount": 4}
        assert [client.get(f"{path}{n}").status_code for n in range(8)] == [200, 404] * 4
        client.delete(path, params={"cluster": "content", "selection": "true"})
        for method, where, parameters, message in (
            (
                "DELETE",
                path,
                {"cluster": "content"},
                f"expected the parameter 'selection' at '{path}'",
            ),
            (
                "DELETE",
                path,
                {"selection": "true"},
                f"expected the parameter 'cluster' at '{path}'",
            ),
            (
                "PUT",
                path,
                {"cluster": "content"},
                f"expected the parameter 'selection' at '{path}'",
            ),
            ("POST", path, chosen, "copying is not supported by the embedded engine"),
            (
                "DELETE",
                path,
                {**chosen, "fieldSet": "[id]"},
                "'fieldSet' has no meaning for many documents",
            ),
            (
                "DELETE",
                path,
                {**chosen, "timeChunk": "x"},
                "'timeChunk': expected a duration like 5, 5s or 300ms, got 'x'",
            ),
        ):
            refused = client.request(method, where, params=parameters, content=b'{"fields":{}}')
            assert refused.status_code == 400
            assert refused.json()["message"].startswith(message)
        assert client.put("/document/v1/", params=chosen).status_code == 405


# --- queries -------------------------------------------------------------------------------------


def test_queries(fed, encoder):
    inputs = {k[6:]: v for k, v in query_inputs("green fox", encoder).items()}
    body = {"yql": "select * from doc where userQuery()", "query": "green fox", "input": inputs}
    answer = fed.query(body={**body, "ranking": "cross", "hits": 3})
    assert answer.is_successful() and answer.number_documents_retrieved > 100
    assert answer.number_documents_indexed >= 300
    scores = [hit["relevance"] for hit in answer.hits]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    profiled = fed.query(body={**body, "ranking": "blend"}, profile=True)
    assert profiled.json["timing"]["searchtime"] >= 0 and "trace" in profiled.json
    lines = "".join(fed.query(body={"yql": ALL, "hits": 2}, streaming=True))
    assert len(json.loads(lines)["root"]["children"]) == 2
    with pytest.raises(VespaError, match="streaming.groupname"):
        fed.query(yql=ALL, groupname="g")


def test_many_queries(fed):
    bodies = [{"yql": ALL, "hits": n} for n in range(1, 25)]
    for answers in (fed.query_many(bodies), asyncio.run(fed.query_many_async(bodies))):
        assert [len(one.hits) for one in answers] == list(range(1, 25))
    answers = fed.query_many([bodies[0], {"yql": "nonsense"}])
    assert [one.status_code for one in answers] == [200, 400]


# --- pyvespa's own measures ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged():
    """Make queries of two or three words, with grades that do not depend on the ranks."""
    pick = random.Random(11)
    queries = {}
    qrels = {}
    for n in range(30):
        words = pick.sample("red green blue fox dog cat tree river".split(), k=pick.randint(2, 3))
        queries[f"q{n}"] = Query(f"q{n}", " ".join(words))
        qrels[f"q{n}"] = {d.doc_id: pick.randint(0, 3) for d in pick.sample(DOCUMENTS, 25)}
    kept = {d.doc_id: d for d in DOCUMENTS}
    return Dataset("judged", kept, queries, qrels, split=None)


@pytest.fixture(scope="module")
def evaluation(fed, judged, package, url, tmp_path_factory):
    """Evaluate with our own client and our own measures."""
    with Client(url, App.open(package)) as client:
        return evaluate(
            judged,
            client,
            profiles=["bm25", "cross", "blend"],
            measures=MEASURES,
            out=tmp_path_factory.mktemp("figures") / "evaluation",
        )


def run_of(evaluation, profile):
    """Return (document, score) pairs by query, in the order that was measured."""
    found = {}
    for line in evaluation.run(profile).read_text().splitlines():
        query_id, _, doc_id, _, score, _ = line.split()
        found.setdefault(query_id, []).append((doc_id, float(score)))
    return found


class Observed(VespaEvaluator):
    """pyvespa's evaluator; it keeps the hits that it measured."""

    def _compute_metrics(self, queries_result_list):
        self.seen = dict(zip(self.queries_ids, queries_result_list, strict=True))
        return super()._compute_metrics(queries_result_list)


def measured(ledger, app, judged, package, relevant, profile):
    """Return the measures of `VespaEvaluator`, and the order in which it saw the hits."""
    ours = App.open(package)

    def body(text: str, top_k: int) -> dict:
        return query_body(text, ours, profile=profile, hits=top_k)

    texts = {query.query_id: query.text for query in judged.queries.values()}
    evaluator = Observed(texts, relevant, body, app, id_field="doc_id")
    return counted(ledger, evaluator.run)(), evaluator.seen


MEASURES = ["nDCG@10", "RR@10", "R@10", "P@10", "Success@10", "AP@100"]
PYVESPAS = ["mrr@10", "recall@10", "precision@10", "accuracy@10", "map@100"]


@pytest.mark.parametrize("profile", ["bm25", "cross", "blend"])
def test_pyvespas_measures_are_ours(ledger, fed, url, judged, evaluation, package, profile):
    # pyvespa takes grades up to 1 only; nDCG is the same on any scale.
    graded = {q: {d: g / 3 for d, g in row.items() if g} for q, row in judged.qrels.items()}
    binary = {q: {d for d, grade in row.items() if grade} for q, row in judged.qrels.items()}
    arguments = (ledger, vespa_of(url), judged, package)
    theirs, seen = measured(*arguments, graded, profile)
    sets, _ = measured(*arguments, binary, profile)
    # The same hits, but for the order of equal scores: pyvespa leaves it to the server.
    measured_here = run_of(evaluation, profile)
    for query_id, hits in measured_here.items():
        assert [d for d, _ in ordered(query_id, dict(seen[query_id]))] == [d for d, _ in hits]
    # Measured by our library on the order that pyvespa saw, everything is equal.
    run = {q: {d: -float(at) for at, (d, _) in enumerate(hits)} for q, hits in seen.items()}
    ours = aggregate(judged.qrels, run, MEASURES)
    assert theirs["ndcg@10"] == pytest.approx(ours["nDCG@10"], abs=1e-9)
    for name, measure in zip(PYVESPAS, MEASURES[1:], strict=True):
        assert sets[name] == pytest.approx(ours[measure], abs=1e-9), name
    # And so are the figures of `ranker evaluate` itself, where no tie is among the best ten.
    top = {q: [d for d, _ in hits[:10]] for q, hits in seen.items()}
    clear = [q for q, hits in measured_here.items() if [d for d, _ in hits[:10]] == top[q]]
    assert len(clear) >= 5
    for measure in MEASURES[:-1]:
        values = evaluation.per_query(profile, measure)
        expected = aggregate({q: judged.qrels[q] for q in clear}, run, [measure])[measure]
        assert sum(values[q] for q in clear) / len(clear) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("ranking", [{}, {"ranking": "bm25"}, {"ranking": "blend"}])
def test_pyvespas_match_recall_is_that_of_all_matches(ledger, fed, url, judged, encoder, ranking):
    texts = {query.query_id: query.text for query in judged.queries.values()}
    relevant = {q: {d for d, grade in row.items() if grade} for q, row in judged.qrels.items()}

    def body(text: str, top_k: int) -> dict:
        yql = "select * from doc where userQuery()"
        inputs = query_inputs(text, encoder) if "blend" in ranking.values() else {}
        return {"yql": yql, "query": text, "hits": top_k, **inputs, **ranking}

    expected = {
        query_id: {
            document.doc_id
            for document in DOCUMENTS
            if set(text.split()) & set(f"{document.title} {document.text}".split())
        }
        for query_id, text in texts.items()
    }
    assert any(relevant[q] - expected[q] for q in texts)  # there is something to miss
    evaluator = VespaMatchEvaluator(texts, relevant, body, vespa_of(url), id_field="doc_id")
    figures = counted(ledger, evaluator.run)()
    matched = {q: relevant[q] & expected[q] for q in texts}
    recalls = [len(matched[q]) / len(relevant[q]) for q in texts]
    assert figures["total_matched_relevant"] == sum(map(len, matched.values()))
    assert figures["avg_recall_per_query"] == pytest.approx(sum(recalls) / len(recalls))
    # `ours` counts all matches, as many as pyvespa's `totalCount` says.
    run = {q: dict.fromkeys(ids, 1.0) for q, ids in expected.items()}
    ours = aggregate(judged.qrels, run, ["R@1000"])["R@1000"]
    assert figures["avg_recall_per_query"] == pytest.approx(ours)
    sizes = [len(ids) for ids in expected.values()]
    assert figures["avg_matched_per_query"] == pytest.approx(sum(sizes) / len(sizes))
