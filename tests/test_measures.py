import math

import pytest

from ranker.errors import DataError
from ranker.measures import aggregate, ndcg_at_10, per_query

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


def test_two_names_of_one_measure_are_refused() -> None:
    """The values of one of them would be lost."""
    with pytest.raises(DataError, match="'AP' and 'MAP' are one measure; name it once"):
        per_query(QRELS, RUN, ["nDCG@10", "AP", "MAP"])


def test_what_a_measure_cannot_compute_is_told() -> None:
    qrels = {"q": {"a": 1}}
    assert per_query(qrels, {"q": {"a": 1.0, "b": 0.5}}, ["Accuracy"])["Accuracy"] == {"q": 1.0}
    with pytest.raises(DataError, match="one of the measures Accuracy cannot be computed here"):
        per_query(qrels, {"q": {"a": 1.0}}, ["Accuracy"])


def test_query_ids_need_not_be_numbers() -> None:
    """gdeval, which computes ERR, takes no others."""
    values = per_query(QRELS, RUN, ["ERR@10"])["ERR@10"]
    assert values.keys() == QRELS.keys() and values["q2"] == 0 < values["q1"] < 1
