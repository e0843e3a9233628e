"""The sentences of the page: they claim only what the figures support."""

import pytest
from evaluate_support import dataset, evaluation, manifest

from ranker.report import numbers, relevance, words


@pytest.mark.parametrize(
    ("comparisons", "sentence"),
    [
        (
            [("blend", 0.0521, 0.0104, 0.0901, 0.004), ("cross", -0.01, -0.05, 0.02, 0.6)],
            "blend beats bm25 by +0.052 nDCG@10 (95 % CI +0.010…+0.090, 38 queries)",
        ),
        (
            [("blend", 0.012, -0.01, 0.03, 0.3)],
            "No profile is reliably better than bm25 on these queries: blend comes closest with "
            "+0.012 nDCG@10 (95 % CI −0.010…+0.030, 38 queries); the difference is within noise",
        ),
        (  # the interval alone is not proof where several profiles were tried
            [("blend", 0.03, 0.001, 0.06, 0.09), ("cross", 0.01, -0.01, 0.03, 0.3)],
            "No profile is reliably better than bm25 on these queries: blend comes closest with "
            "+0.030 nDCG@10 (95 % CI +0.001…+0.060, 38 queries); corrected for 2 comparisons, "
            "that is not significant (p 0.090)",
        ),
        (
            [("cross", -0.08, -0.12, -0.04, 0.001), ("blend", -0.02, -0.03, -0.01, 0.002)],
            "No profile is better than bm25 on these queries: blend comes closest with −0.020 "
            "nDCG@10 (95 % CI −0.030…−0.010, 38 queries); that is significantly worse",
        ),
        (
            [("blend", -0.001, -0.02, 0.018, 0.9)],
            "No profile is better than bm25 on these queries: blend comes closest with −0.001 "
            "nDCG@10 (95 % CI −0.020…+0.018, 38 queries); the difference is within noise",
        ),
        (
            [("cross", 0.0, 0.0, 0.0, 1.0)],
            "No profile is better than bm25: cross scores the same on 38 queries",
        ),
    ],
)
def test_headline(comparisons, sentence):
    assert words.headline(evaluation(*comparisons)) == sentence


def test_headline_of_one_profile():
    alone = evaluation(profiles=["bm25"])
    assert words.headline(alone) == (
        "bm25 reaches nDCG@10 0.400 on 38 queries; no other profile was evaluated"
    )


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.01, 0.02, 0.049, "better"),
        (0.01, 0.02, 0.05, "uncertain"),
        (-0.02, -0.01, 0.001, "worse"),
        (-0.02, -0.01, 0.2, "uncertain"),
        (0.0, 0.02, 0.001, "noise"),
        (-0.01, 0.02, 0.001, "noise"),
    ],
)
def test_verdict_needs_interval_and_test(low, high, p, said):
    assert words.verdict({"interval": [low, high], "p_holm": p}) == said


def test_a_profile_that_is_better_comes_before_one_that_may_be():
    measured = evaluation(
        ("cross", 0.0447, -0.03, 0.13, 0.3), ("blend", 0.0347, 0.02, 0.045, 0.001)
    )
    assert words.headline(measured).startswith("blend beats bm25 by +0.035")


TRAINING = {
    "recommended_profile": "blend",
    "held_out": {"queries": 16, "bm25": 0.41, "cross": 0.4, "blend": 0.45},
    "held_out_query_ids": ["q9"],
    "data": {"name": "tiny"},
}


def test_recommendation_says_how_it_was_chosen_and_if_it_is_the_best():
    good = evaluation(("blend", 0.05, 0.01, 0.09, 0.01))
    assert words.recommendation(good, TRAINING) == (
        "The application recommends blend, chosen on 16 queries held out of training, not on "
        "those of this page (nDCG@10 there: bm25 0.410, cross 0.400, blend 0.450). It also "
        "has the highest nDCG@10 here."
    )
    bad = evaluation(("blend", -0.05, -0.09, -0.01, 0.01))
    assert words.recommendation(bad, None) == (
        "The application recommends blend, chosen on unknown queries (add the folder of the "
        "checkpoint to the report). Here bm25 has a higher nDCG@10."
    )
    same_queries = {**TRAINING, "held_out_query_ids": ["q1"]}
    assert "not on those of this page" not in words.recommendation(good, same_queries)
    absent = evaluation(("cross", 0.05, 0.01, 0.09, 0.01))
    assert words.recommendation(absent, None).endswith("It was not evaluated here.")


def test_training_headline():
    assert relevance.headline(TRAINING) == (
        "Training recommends blend: +0.040 nDCG@10 over bm25 on 16 queries held out of training"
    )
    plain = {**TRAINING, "recommended_profile": "bm25", "held_out": {"queries": 1, "bm25": 0.4}}
    assert relevance.headline(plain) == (
        "Training recommends bm25: no trained profile was better on 1 query held out"
    )


def test_a_cross_validated_training_is_described_as_one():
    training = {
        **TRAINING,
        "held_out_query_ids": [],
        "learned_query_ids": ["q1", "q9"],
        "cv": {"fold_of_query": {"q1": 1, "q9": 2}},
    }
    assert (
        "by a model, and blended with a weight, trained without it"
        in relevance.held_out(training)["note"]
    )
    assert "with the weight that the other queries choose" in relevance.held_out(TRAINING)["note"]
    assert relevance.headline(training) == (
        "Training recommends blend: +0.040 nDCG@10 over bm25 on 16 queries, each ranked by a model "
        "that did not see it"
    )
    plain = {**training, "recommended_profile": "bm25"}
    assert "no trained profile was reliably better on 16 queries" in relevance.headline(plain)
    good = evaluation(("blend", 0.05, 0.01, 0.09, 0.01))
    assert words.recommendation(good, training).startswith(
        "The application recommends blend, chosen by cross-validation on 16 queries (nDCG@10 there"
    )
    (sentence,) = words.cautions(good, training)
    assert sentence.startswith("Training used the judgements of some of these queries")


def test_no_cautions_without_a_reason():
    assert words.cautions(evaluation(("blend", 0.05, 0.01, 0.09, 0.01)), TRAINING) == []


@pytest.mark.parametrize(
    ("held_out", "learned", "start"),
    [
        (["q1"], ["q2"], "Training used the judgements of some of these queries"),
        (["q9"], ["q1", "q2"], "Training used the judgements of some of these queries"),
        (["q1", "q2", "q3"], ["q9"], "These queries were held out of training, but"),
    ],
)
def test_queries_that_training_used_are_reported(held_out, learned, start):
    training = {**TRAINING, "held_out_query_ids": held_out, "learned_query_ids": learned}
    sentences = words.cautions(evaluation(("blend", 0.05, 0.01, 0.09, 0.01)), training)
    assert len(sentences) == 1
    assert sentences[0].startswith(start)
    renamed = {**training, "data": {**training["data"], "name": "the same elsewhere"}}
    renamed["data"]["sha256"] = dataset().sha256
    assert words.cautions(evaluation(("blend", 0.05, 0.01, 0.09, 0.01)), renamed) == sentences
    other = {**training, "data": {"name": "another collection"}}
    assert words.cautions(evaluation(("blend", 0.05, 0.01, 0.09, 0.01)), other) == []


def test_cautions_about_holes_and_hits():
    figures = {
        "blend": {
            "mean": {"nDCG@10": 0.5, "Judged@10": 0.6},
            "hits": 200, "unknown_hits": 3, "queries_without_hits": ["q1", "q2"],
        },
        "bm25": {"queries_without_hits": ["q1"]},
    }  # fmt: skip
    measured = evaluation(("blend", 0.1, 0.01, 0.2, 0.01), figures=figures)
    measured.figures["dataset"]["queries_without_relevant"] = 1
    measured.figures["arguments"]["hits"] = 5
    sentences = words.cautions(measured, None)
    assert sentences == [
        "Many retrieved documents are unjudged: Judged@10 is blend 0.600, but bm25 0.800. "
        "Unjudged documents count as not relevant, so the true figures of the former may be "
        "higher.",
        "bm25 found nothing for 1 query; each counts 0.",
        "blend found nothing for 2 queries; each counts 0.",
        "3 hits of blend (1.5 %) are documents that are not in the dataset; they count as not "
        "relevant.",
        "1 query without any relevant document counted 0 for every profile.",
        "nDCG@10, Judged@10 covered only 5 hits, since no more were requested.",
    ]


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("bm25", "bm25"),
        ("cross", "logit, second phase, best 100"),
        ("cross_global", "logit, global phase, best 100"),
        ("blend", "bm25 + 2 · logit, second phase, best 100"),
    ],
)
def test_formula(profile, text):
    definition = vars(manifest().profile(profile))
    assert words.formula(definition) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05249, "+0.052"), (-0.1, "−0.100"), (0.0, "0.000"), (-0.0001, "0.000"), (0.0005, "0.001")],
)
def test_signed(value, text):
    assert numbers.signed(value).removeprefix("+") == text.removeprefix("+")
    assert numbers.signed(value).startswith("+") == (value >= 0.0005)


@pytest.mark.parametrize(
    ("value", "text"), [(0.00009, "< 0.001"), (0.001, "0.001"), (0.0494, "0.049"), (1.0, "1.000")]
)
def test_p_value(value, text):
    assert numbers.p_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.99, "9.99"), (12.34, "12.3"), (310.4, "310")]
)
def test_milliseconds(value, text):
    assert numbers.milliseconds(value) == text
