"""The words of the model card on what a score means."""

import pytest

from ranker.model.relevance_card import summary, worth

TRAINING = {
    "gate": {"verdict": "unknown", "queries": 40},
    "recommended_profile": "blend",
    "blend_weight": 2.0,
    "held_out": {"queries": 40, "bm25": 0.4, "cross": 0.41, "blend": 0.45},
    "cv": None,
    "calibration": {
        "slope": 1.5,
        "intercept": -4.25,
        "min_grade": 2,
        "pairs": 4000,
        "relevant": 120,
        "brier": 0.0212,
        "base_rate_brier": 0.0291,
        "thresholds": [
            {"probability": 0.5, "precision": 0.625, "pairs": 1600, "queries": 0.4},
            {"probability": 0.9, "precision": None, "pairs": 0, "queries": 0.0},
        ],
    },
    "uncalibrated": None,
}


def test_a_calibration_is_stated_with_its_worth() -> None:
    text = "\n".join(worth(TRAINING, forced=False))
    assert "(grade 2 or higher) with the probability `sigmoid(1.5 * logit - 4.25)`" in text
    assert "learned on the queries held out: 4,000 pairs, 120 of them relevant" in text
    assert "Brier score 0.0212 on queries outside the fit, of the base rate alone 0.0291" in text
    assert "| 0.5 | 0.625 | 1,600 | 40 % |" in text and "| 0.9 | - | 0 | 0 % |" in text


def test_a_missing_calibration_is_stated_with_its_reason() -> None:
    none = {**TRAINING, "calibration": None, "uncalibrated": "12 pairs are too few"}
    assert "**Uncalibrated**: 12 pairs are too few." in "\n".join(worth(none, forced=False))


@pytest.mark.parametrize(
    "gate, words",
    [
        ({"stage": "base"}, "not trained further, since ranker 0.1 found no gain on 9 judged"),
        ({"stage": "judged"}, "fine-tuned by ranker 0.1 on 9 judged"),
        ({}, "fine-tuned by ranker 0.1 on 9 judged"),
    ],
)
def test_the_card_says_whether_the_model_was_trained(gate: dict, words: str) -> None:
    training = {
        "base": {"name": "some/base", "folder": False},
        "data": {"queries": 9, "name": "d"},
        "ranker_version": "0.1",
        "gate": gate,
    }
    assert words in summary(training)[0]
