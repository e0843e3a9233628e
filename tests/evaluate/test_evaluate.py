"""Evaluations against hand-computed figures, and everything that must be rejected."""

import csv
import json
import math
import sys
import threading

import ir_measures
import pytest
from evaluate_support import DOCUMENTS, QRELS, QUERIES, Endpoint, bm25_answering, dataset
from ir_measures import AP, RR, nDCG

from ranker.errors import (
    ArtifactError,
    DataError,
    EndpointError,
    EvaluationError,
    MissingExtra,
    ResponseError,
    SpecMismatch,
    UsageError,
)
from ranker.evaluate import Evaluation, evaluate
from ranker.records import Document, Query


def run(tmp_path, answering=None, *, profiles=("bm25", "blend"), data=None, **options):
    endpoint = Endpoint(answering or bm25_answering())
    out = tmp_path / "evaluation"
    return evaluate(data or dataset(), endpoint, profiles=profiles, out=out, **options), endpoint


def read_run(path):
    rows = [line.split(" ") for line in path.read_text().splitlines()]
    assert all(len(row) == 6 for row in rows)
    return rows


def by_table(table):
    """The same ranking for every profile: query text to document ids, best first."""
    return lambda text, profile: [
        (doc_id, 10.0 - rank) for rank, doc_id in enumerate(table.get(text, []))
    ]


# Figures


def test_figures_by_hand(tmp_path):
    texts = {query_id: query.text for query_id, query in QUERIES.items()}
    answering = by_table({texts["q1"]: ["d4", "d1"], texts["q2"]: ["d3", "d5", "d2"],
                          texts["q3"]: ["d1"]})  # fmt: skip
    evaluation, _ = run(tmp_path, answering, profiles=["cross"])
    log2 = math.log2
    assert evaluation.per_query("cross", "nDCG@10") == pytest.approx(
        {
            "q1": (3 / log2(3)) / 3,
            "q2": (2 + 3 / log2(3)) / (3 + 2 / log2(3)),  # the gain is the grade: trec_eval
            "q3": 0.0,
            "q4": 0.0,
        }
    )
    assert evaluation.per_query("cross", "RR") == {"q1": 0.5, "q2": 1.0, "q3": 0.0, "q4": 0.0}
    assert evaluation.per_query("cross", "AP") == {"q1": 0.5, "q2": 1.0, "q3": 0.0, "q4": 0.0}
    assert evaluation.per_query("cross", "P@10")["q2"] == pytest.approx(0.2)
    assert evaluation.mean("cross", "R@100") == pytest.approx(0.5)
    judged = evaluation.per_query("cross", "Judged@10")
    assert judged == pytest.approx({"q1": 1.0, "q2": 2 / 3, "q3": 0.0, "q4": 0.0})


def test_run_files_measured_by_ir_measures_give_the_same_figures(tmp_path):
    evaluation, _ = run(tmp_path)
    qrels = [ir_measures.Qrel(q, d, r) for q, row in QRELS.items() for d, r in row.items()]
    for profile in ("bm25", "blend"):
        file = ir_measures.read_trec_run(str(evaluation.run(profile)))
        truth = ir_measures.calc_aggregate([nDCG @ 10, AP, RR], qrels, list(file))
        for measure, value in truth.items():
            assert evaluation.mean(profile, str(measure)) == pytest.approx(value)
    assert evaluation.mean("blend", "nDCG@10") != evaluation.mean("bm25", "nDCG@10")


def test_the_first_profile_or_bm25_is_the_baseline(tmp_path):
    evaluation, _ = run(tmp_path, profiles=["blend", "bm25", "cross"])
    assert evaluation.baseline == "bm25"
    assert [c["profile"] for c in evaluation.comparisons] == ["blend", "cross"]
    blend, cross = evaluation.comparisons
    bm25 = evaluation.mean("bm25", "nDCG@10")
    assert blend["mean_difference"] == pytest.approx(evaluation.mean("blend", "nDCG@10") - bm25)
    # d5 holds a word of q1 and of q2: moving it up spoils the one and helps the other.
    assert (blend["wins"], blend["ties"], blend["losses"]) == (1, 2, 1)
    assert (cross["mean_difference"], cross["p"], cross["p_holm"]) == (0.0, 1.0, 1.0)
    other, _ = run(tmp_path, profiles=["blend", "cross"])
    assert other.baseline == "blend"
    third, _ = run(tmp_path, profiles=["bm25", "cross"], baseline="cross")
    assert third.baseline == "cross"


def test_one_profile_has_nothing_to_compare_with(tmp_path):
    evaluation, _ = run(tmp_path, profiles=["cross"])
    assert evaluation.comparisons == []


def test_intervals_contain_the_mean(tmp_path):
    evaluation, _ = run(tmp_path)
    figures = evaluation.figures["profiles"]["bm25"]
    for measure in evaluation.measures:
        low, high = figures["interval"][measure]
        assert low <= figures["mean"][measure] <= high


def test_a_query_without_hits_counts_zero_and_is_reported(tmp_path):
    evaluation, _ = run(tmp_path)
    assert evaluation.per_query("bm25", "nDCG@10")["q4"] == 0.0
    assert evaluation.figures["profiles"]["bm25"]["queries_without_hits"] == ["q4"]


def test_hits_that_are_not_in_the_dataset_are_counted(tmp_path):
    answering = by_table({"copy file": ["d2", "stranger"], "read a file line by line": ["other"]})
    evaluation, _ = run(tmp_path, answering)
    assert evaluation.figures["profiles"]["bm25"]["unknown_hits"] == 2
    assert evaluation.figures["profiles"]["bm25"]["hits"] == 3
    assert evaluation.hits()["documents"]["stranger"] is None


def test_data_model_and_arguments_are_saved(tmp_path):
    data = dataset()
    evaluation, endpoint = run(tmp_path, measures=["RR", "nDCG@10"], hits=7)
    figures = evaluation.figures
    assert figures["dataset"] == {
        "name": "tiny",
        "split": "test",
        "sha256": data.sha256,
        "documents": 5,
        "queries": 4,
        "queries_without_relevant": 0,
        "bad_rows_left_out": 0,
        "judgements": 7,
        "judgements_by_grade": {"0": 2, "1": 2, "2": 1, "3": 2},
    }
    assert figures["fingerprint"] == endpoint.app.manifest.spec.fingerprint
    assert figures["model_sha256"] == "f" * 64
    assert figures["endpoint"] == "http://127.0.0.1:8080"
    assert figures["recommended_profile"] == "blend"
    assert figures["profile_definitions"]["blend"]["logit_weight"] == 2.0
    assert figures["arguments"] == {
        "profiles": ["bm25", "blend"],
        "hits": 7,
        "measures": ["RR", "nDCG@10"],
        "concurrency": 1,
        "baseline": "bm25",
    }
    assert figures["comparisons"][0]["measure"] == "RR"
    assert "gain is the grade" in figures["gain"]


# Files


def test_run_file(tmp_path):
    evaluation, _ = run(tmp_path, lambda *_: [("d1", 0.1 + 0.2), ("d2", 1 / 3)])
    first = read_run(evaluation.run("blend"))[:2]
    assert first == [
        ["q1", "Q0", "d2", "1", "0.3333333333333333", "ranker-blend"],
        ["q1", "Q0", "d1", "2", "0.30000000000000004", "ranker-blend"],
    ]


def test_trec_eval_finds_the_figures_in_the_run_file_where_scores_are_equal(tmp_path):
    # Equal as float32, in which trec_eval compares; P@1 tells which one it put first.
    answering = lambda *_: [("d1", 1 + 1e-10), ("d3", 1.0), ("d2", 1.0)]  # noqa: E731
    evaluation, _ = run(tmp_path, answering, measures=["P@1", "Judged@1"])
    rows = read_run(evaluation.run("bm25"))
    orders = {tuple(row[2] for row in rows if row[0] == query_id) for query_id in QRELS}
    assert len(orders) > 1  # not the same order everywhere, as by document id
    qrels = [ir_measures.Qrel(q, d, r) for q, row in QRELS.items() for d, r in row.items()]
    file = list(ir_measures.read_trec_run(str(evaluation.run("bm25"))))
    truth = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.P @ 1], qrels, file)}
    assert truth == evaluation.per_query("bm25", "P@1")


def test_latencies(tmp_path):
    evaluation, _ = run(tmp_path)
    with (evaluation.path / "latency.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    # The endpoint's n-th call takes n ms; calls 1 and 2 warm up.
    assert {float(row["latency_ms"]) for row in rows} == set(range(3, 11))
    assert {row["server_ms"] for row in rows} == {"2.000"}
    # bm25 has the turns 3, 6, 7, 10.
    assert evaluation.latencies_ms()["bm25"] == [3, 6, 7, 10]
    assert evaluation.figures["profiles"]["bm25"]["latency_ms"] == pytest.approx(
        {"p50": 6.5, "p90": 9.1, "p95": 9.55, "p99": 9.91, "mean": 6.5, "max": 10.0}
    )


def test_a_server_that_reports_no_time(tmp_path):
    endpoint = Endpoint(bm25_answering(), server_s=None)
    evaluation = evaluate(dataset(), endpoint, profiles=["bm25"], out=tmp_path / "e")
    assert evaluation.figures["profiles"]["bm25"]["server_ms"] is None
    assert (evaluation.path / "latency.csv").read_text().splitlines()[1].endswith(",")


def test_hits_to_show(tmp_path):
    long = Document("d9", "Long \x00title", "file word\n" * 100)
    data = dataset(documents={**DOCUMENTS, "d9": long})
    evaluation, _ = run(tmp_path, bm25_answering(data.documents), data=data)
    hits = evaluation.hits()
    assert hits["queries"]["q1"]["text"] == "read a file line by line"
    best = hits["queries"]["q1"]["profiles"]["bm25"][0]
    assert (best["doc_id"], best["relevance"]) == ("d1", 3)
    assert best["score"] > 0
    assert hits["queries"]["q3"]["profiles"]["bm25"][-1]["relevance"] is None
    shown = hits["documents"]["d9"]
    assert shown["title"] == "Long  title"
    assert shown["excerpt"].endswith("file word…")
    assert len(shown["excerpt"]) <= 301
    assert hits["documents"]["d1"]["excerpt"] == DOCUMENTS["d1"].text


def test_at_most_ten_hits_are_shown(tmp_path):
    documents = {f"n{at}": Document(f"n{at}", "", "copy file") for at in range(30)}
    data = dataset(documents={**DOCUMENTS, **documents})
    evaluation, _ = run(tmp_path, bm25_answering(data.documents), data=data)
    assert len(evaluation.hits()["queries"]["q3"]["profiles"]["bm25"]) == 10
    assert len([row for row in read_run(evaluation.run("bm25")) if row[0] == "q3"]) == 32


# Searching


def test_profiles_take_turns_after_one_warm_up_each(tmp_path):
    seen = []
    _, endpoint = run(tmp_path, hits=3, on_progress=lambda done, total: seen.append((done, total)))
    texts = [query.text for query in QUERIES.values()]
    order = ["bm25", "blend", "bm25", "blend", "blend", "bm25", "bm25", "blend", "blend", "bm25"]
    assert [call[1] for call in endpoint.calls] == order
    assert [call[0] for call in endpoint.calls[:2]] == [texts[0]] * 2
    assert [call[0] for call in endpoint.calls[2:]] == [text for text in texts for _ in "ab"]
    assert {call[2:] for call in endpoint.calls} == {(3, "ids")}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_concurrent_queries_give_the_same_figures(tmp_path):
    one, _ = run(tmp_path)
    expected = {name: one.run(name).read_text() for name in one.profiles}
    barrier = threading.Barrier(2, timeout=5)
    answering, warm = bm25_answering(), []

    def answer(text, profile):
        warm.append(text)
        if len(warm) > 2:
            barrier.wait()  # holds unless two searches are under way at once
        return answering(text, profile)

    other, _ = run(tmp_path, answer, concurrency=2)
    assert {name: other.run(name).read_text() for name in other.profiles} == expected
    assert other.figures["profiles"]["bm25"]["mean"] == one.figures["profiles"]["bm25"]["mean"]


def test_the_timeout_is_sent_with_every_search(tmp_path):
    _, endpoint = run(tmp_path, timeout_s=30.0)
    assert endpoint.timeouts == {30.0}


# Refusals


def failing(bad, error):
    good = bm25_answering()

    def answer(text, profile):
        if (text, profile) in bad:
            raise error
        return good(text, profile)

    return answer


def test_failed_queries_are_an_error_and_nothing_is_written(tmp_path):
    bad = {("copy file", "blend"), ("read a file line by line", "blend")}
    error = ResponseError("504: timeout,\n degraded coverage", status=504)
    with pytest.raises(EvaluationError) as caught:
        run(tmp_path, failing(bad, error))
    assert str(caught.value) == (
        "2 of 4 queries failed; no figures, nothing was written: "
        "q1 (blend): 504: timeout, degraded coverage; q3 (blend): 504: timeout, degraded coverage"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_the_client_rejects_is_listed(tmp_path):
    error = UsageError("the question holds no word to search for: '???'")
    with pytest.raises(EvaluationError, match=r"1 of 4 queries failed.*q1 \(bm25\): the question"):
        run(tmp_path, failing({("read a file line by line", "bm25")}, error))


@pytest.mark.parametrize("library", ["scipy", "ir_measures"])
def test_a_missing_library_is_reported_before_the_search(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    endpoint = Endpoint(bm25_answering())
    with pytest.raises(MissingExtra, match=rf"{library} is not installed.*ranker\[evaluate\]"):
        evaluate(dataset(), endpoint, profiles=["bm25"], out=tmp_path / "e")
    assert endpoint.calls == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_evaluation_stops_when_every_search_fails(tmp_path, concurrency):
    queries = {f"q{at}": Query(f"q{at}", f"file {at}") for at in range(200)}
    data = dataset(queries=queries, qrels={query_id: {"d1": 1} for query_id in queries})
    error = ResponseError("500: broken", status=500)
    endpoint = Endpoint(failing({(q.text, "bm25") for q in queries.values()}, error))
    with pytest.raises(
        EvaluationError, match=r"20 of 200 queries failed, stopped after 20;.*15 more"
    ):
        evaluate(data, endpoint, profiles=["bm25"], out=tmp_path / "e", concurrency=concurrency)
    assert len(endpoint.calls) < 60


def test_an_endpoint_that_cannot_be_reached_is_reported_at_once(tmp_path):
    def refuse(text, profile):
        raise EndpointError("nothing answers at http://127.0.0.1:1")

    endpoint = Endpoint(refuse)
    with pytest.raises(EndpointError, match="nothing answers"):
        evaluate(dataset(), endpoint, profiles=["bm25"], out=tmp_path / "e")
    assert len(endpoint.calls) == 1


def test_a_mismatch_of_contracts_is_reported_as_such(tmp_path):
    def refuse(text, profile):
        raise SpecMismatch("documents were fed without tokens")

    with pytest.raises(SpecMismatch):
        run(tmp_path, refuse)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("hits", "reason"),
    [
        ([("d1", 1.0), ("d1", 0.5)], "expected every document once, got 2 hits of 1 documents"),
        ([("d1", math.nan)], "document d1 has the score nan"),
        ([("d1", math.inf)], "document d1 has the score inf"),
        ([("d1", -1e300)], r"document d1 has the score -1e\+300"),
    ],
)
def test_hits_that_are_not_a_ranking_are_rejected(tmp_path, hits, reason):
    with pytest.raises(EvaluationError, match=rf"q1 \(bm25\): {reason}"):
        run(tmp_path, lambda *_: hits)


def test_an_empty_endpoint_has_no_figures(tmp_path):
    with pytest.raises(EvaluationError, match="none of 4 queries found a document at http"):
        run(tmp_path, lambda *_: [])


def test_another_collection_has_no_figures(tmp_path):
    with pytest.raises(EvaluationError, match=r"none of the documents .* in tiny .*stranger"):
        run(tmp_path, lambda *_: [("stranger", 1.0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profiles": []}, r"expected one or more different profiles, got \[\]"),
        ({"profiles": ["bm25", "bm25"]}, "different profiles"),
        ({"profiles": ["nope"]}, "unknown rank profile 'nope'; the application has: bm25, cross"),
        ({"measures": []}, "different measures"),
        ({"measures": ["RR", "RR"]}, "different measures"),
        ({"hits": 0}, "hits must be at least 1, got 0"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"baseline": "cross"}, "the baseline 'cross' is not among the profiles"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        run(tmp_path, **options)


@pytest.mark.parametrize("measure", ["nDGC@10", "P@0", "P", "RR(foo=1)", "nDCG@x", "alpha_nDCG@5"])
def test_an_unknown_measure_is_reported_before_the_search(tmp_path, measure):
    endpoint = Endpoint(bm25_answering())
    with pytest.raises(DataError, match="unknown measure '"):
        evaluate(
            dataset(), endpoint, profiles=["bm25"], out=tmp_path / "e", measures=["RR", measure]
        )
    assert endpoint.calls == []


def test_nothing_judged(tmp_path):
    with pytest.raises(DataError, match="no judged queries"):
        run(tmp_path, data=dataset(qrels={}, queries={}))


def test_a_users_folder_is_never_touched(tmp_path):
    out = tmp_path / "evaluation"
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    endpoint = Endpoint(bm25_answering())
    with pytest.raises(ArtifactError, match="holds other files"):
        evaluate(dataset(), endpoint, profiles=["bm25"], out=out)
    assert endpoint.calls == []
    assert (out / "thesis.tex").read_text() == "years"


def test_an_older_evaluation_is_replaced_completely(tmp_path):
    first, _ = run(tmp_path, profiles=["bm25", "cross"])
    assert first.run("cross").exists()
    second, _ = run(tmp_path, profiles=["bm25"])
    assert second.path == first.path
    assert not first.run("cross").exists()


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupt(text, profile):
        if text == "copy file":
            raise KeyboardInterrupt
        return [("d1", 1.0)]

    for concurrency in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupt, concurrency=concurrency)
    assert list(tmp_path.iterdir()) == []


# Reading


def test_open_rejects_what_is_not_an_evaluation(tmp_path):
    with pytest.raises(ArtifactError, match="is not a evaluation|evaluation.json is missing"):
        Evaluation.open(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(ArtifactError, match="expected format 1, got 0"):
        Evaluation.open(tmp_path)
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(ArtifactError, match="expected format 1, got None"):
        Evaluation.open(tmp_path)


def test_open_rejects_changed_figures(tmp_path):
    evaluation, _ = run(tmp_path)
    assert Evaluation.open(evaluation.path) == evaluation
    better = {**evaluation.figures, "dataset": {}}
    (evaluation.path / "evaluation.json").write_text(json.dumps(better))
    with pytest.raises(ArtifactError, match=r"evaluation.json was changed .* ranker evaluate$"):
        Evaluation.open(evaluation.path)


def test_a_password_in_the_address_is_not_saved(tmp_path):
    endpoint = Endpoint(bm25_answering(), url="https://me:secret@search.example:8443/vespa")
    evaluation = evaluate(dataset(), endpoint, profiles=["bm25"], out=tmp_path / "e")
    assert evaluation.figures["endpoint"] == "https://search.example:8443/vespa"
    written = [path.read_text() for path in evaluation.path.iterdir()]
    assert not any("secret" in text for text in written)


def test_damaged_latencies(tmp_path):
    evaluation, _ = run(tmp_path)
    path = evaluation.path / "latency.csv"
    path.write_text("query_id,profile,latency_ms,server_ms\nq1,bm25,fast,\n")
    with pytest.raises(ArtifactError, match=r"latency.csv is missing or damaged \(could not"):
        evaluation.latencies_ms()
    path.unlink()
    with pytest.raises(ArtifactError, match=r"latency.csv is missing or damaged"):
        evaluation.latencies_ms()
