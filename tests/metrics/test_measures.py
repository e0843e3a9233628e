import math

import numpy as np
import pytest
import pytrec_eval

from ranker.errors import DataError
from ranker.metrics.measures import aggregate, ndcg_at_10, ordered, per_query, ranked, trec_run

QRELS = {"q1": {"a": 3, "b": 1, "c": 0}, "q2": {"d": 1}}
RUN = {"q1": {"b": 9.0, "x": 8.0, "a": 7.0}}


def test_by_hand_with_the_grade_as_gain() -> None:
    """trec_eval's nDCG: the gain is the grade itself; a query without hits counts 0."""
    dcg = 1 / math.log2(2) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    values = per_query(QRELS, RUN, ["nDCG@10", "RR", "P@10", "Judged@10"])
    assert values["nDCG@10"] == pytest.approx({"q1": dcg / ideal, "q2": 0})
    assert values["RR"] == {"q1": 1, "q2": 0}
    assert values["P@10"] == pytest.approx({"q1": 0.2, "q2": 0})
    assert values["Judged@10"]["q1"] == pytest.approx(2 / 3)
    assert aggregate(QRELS, RUN, ["nDCG@10"])["nDCG@10"] == pytest.approx(dcg / ideal / 2)
    assert ndcg_at_10(QRELS, RUN) == pytest.approx(dcg / ideal / 2)


def test_unknown_measures_and_no_queries_are_errors() -> None:
    with pytest.raises(DataError, match="unknown measure 'nDCG@ten'"):
        per_query(QRELS, RUN, ["nDCG@ten"])
    with pytest.raises(DataError, match="no judged queries"):
        ndcg_at_10({}, {})


def test_two_names_of_one_measure_are_rejected() -> None:
    """The values of one of them would be lost."""
    with pytest.raises(DataError, match="'AP' and 'MAP' are the same measure; name it once"):
        per_query(QRELS, RUN, ["nDCG@10", "AP", "MAP"])


def test_what_a_measure_cannot_compute_is_reported() -> None:
    qrels = {"q": {"a": 1}}
    assert per_query(qrels, {"q": {"a": 1.0, "b": 0.5}}, ["Accuracy"])["Accuracy"] == {"q": 1.0}
    with pytest.raises(DataError, match="one of the measures Accuracy cannot be computed here"):
        per_query(qrels, {"q": {"a": 1.0}}, ["Accuracy"])


def test_query_ids_need_not_be_numbers() -> None:
    """gdeval, which computes ERR, accepts no others."""
    values = per_query(QRELS, RUN, ["ERR@10"])["ERR@10"]
    assert values.keys() == QRELS.keys() and values["q2"] == 0 < values["q1"] < 1


def test_the_order_of_ties_does_not_depend_on_grades() -> None:
    """Ids often reveal the grade: if answers are listed first, theirs are the lowest."""
    documents = [f"d{n:03}" for n in range(20)]
    qrels = {f"q{n}": {doc: int(doc < "d010") for doc in documents} for n in range(200)}
    tied = {query_id: dict.fromkeys(documents, 1.0) for query_id in qrels}
    backwards = {query_id: dict(reversed(row.items())) for query_id, row in tied.items()}
    assert ndcg_at_10(qrels, tied) == ndcg_at_10(qrels, backwards)
    draw = np.random.default_rng(0)
    noise = {query_id: dict(zip(documents, draw.random(20), strict=True)) for query_id in qrels}
    assert ndcg_at_10(qrels, tied) == pytest.approx(ndcg_at_10(qrels, noise), abs=0.03)
    assert ndcg_at_10(qrels, tied) == pytest.approx(0.5, abs=0.03)


def test_trec_eval_finds_our_figures_in_our_run_files() -> None:
    """It reads scores, not ranks, so equal ones are lowered to the next float32."""
    scores = [2.0, 2.0, np.nextafter(np.float32(2), np.float32(0)), 1.0, 1.0, 0.0, 0.0, -1.0, -1.0]
    row = {f"d{n}": float(score) for n, score in enumerate(scores)}
    run = {f"q{n}": row for n in range(30)}
    qrels = {query_id: {"d1": 1, "d4": 2, "d7": 1} for query_id in run}
    lines = [line.split() for line in trec_run(ranked(run), tag="t").splitlines()]
    read: dict[str, dict[str, float]] = {}
    for query_id, _, doc_id, _, score, _ in lines:
        read.setdefault(query_id, {})[doc_id] = float(score)
    for query_id, there in read.items():
        assert list(there) == [doc_id for doc_id, _ in ordered(query_id, row)]
        assert all(there[doc_id] == pytest.approx(row[doc_id], abs=1e-6) for doc_id in row)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10"}).evaluate(read)
    ours = per_query(qrels, run, ["nDCG@10"])["nDCG@10"]
    assert {id_: row["ndcg_cut_10"] for id_, row in theirs.items()} == pytest.approx(ours)
