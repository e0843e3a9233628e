"""Reranking in this process: the same scores from a bundle, a checkpoint or a folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from engine_support import make_bundle
from families import make_family

import ranker
from ranker.errors import RankerError, UsageError
from ranker.records import Document

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "東京は日本の首都です。",
    "a [SEP] b",
    "",
    "Reading a file line by line " * 40,
]
QUERY = "what does the fox do?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder as another library would have left it."""
    return make_family("roberta", tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranker.export(model, tmp_path_factory.mktemp("exported") / "bundle").path


def test_a_bundle_scores_as_the_model_it_was_exported_from(model: Path, exported: Path) -> None:
    pairs = [(QUERY, text) for text in TEXTS] + [("a", "b")]
    torch, onnx = ranker.Reranker(model).score(pairs), ranker.Reranker(exported).score(pairs)
    assert torch.shape == (6,) and len(set(torch.round(4))) == 6
    np.testing.assert_allclose(onnx, torch, atol=1e-4)


def test_transformers_computes_the_same_scores(model: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    pairs = [(QUERY, TEXTS[0]), ("a", "The dog.")]
    for pair, score in zip(pairs, ranker.Reranker(model).score(pairs), strict=True):
        logit = network(**tokenizer(*pair, return_tensors="pt")).logits.item()
        assert score == pytest.approx(logit, abs=1e-4)


def test_the_best_come_first_with_their_places(exported: Path) -> None:
    reranker = ranker.Reranker(exported)
    ranked = reranker.rank(QUERY, TEXTS)
    scores = reranker.score([(QUERY, text) for text in TEXTS])
    assert [row.index for row in ranked] == list(np.argsort(-scores))
    assert all(row.text == TEXTS[row.index] for row in ranked)
    assert [row.score for row in ranked] == pytest.approx(sorted(scores, reverse=True))
    assert reranker.rank(QUERY, TEXTS, top_k=2) == ranked[:2]


def test_the_probabilities_of_a_calibrated_bundle(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", calibration={"slope": 2.0, "intercept": -3.0})
    pairs = [("red fox", "red fox"), ("red", "a red fox"), ("red", "tree")]
    reranker = ranker.Reranker(bundle)
    expected = 1 / (1 + np.exp(-(2.0 * reranker.score(pairs).astype(float) - 3.0)))
    np.testing.assert_allclose(reranker.probabilities(pairs), expected, rtol=1e-9)
    assert reranker.probabilities([]).shape == (0,)


def test_a_model_without_calibration_has_no_probabilities(model: Path, exported: Path) -> None:
    for source in (model, exported):
        with pytest.raises(UsageError, match="no probability was learned for this existing"):
            ranker.Reranker(source).probabilities([(QUERY, TEXTS[0])])


def test_a_document_is_scored_as_title_and_text(exported: Path) -> None:
    reranker = ranker.Reranker(exported)
    (ranked,) = reranker.rank(QUERY, [Document("d1", "The quick", "brown fox")])
    assert ranked.text == "The quick brown fox"
    assert ranked.score == pytest.approx(float(reranker.score([(QUERY, ranked.text)])[0]))


def test_equal_scores_keep_the_order_that_was_given(exported: Path) -> None:
    ranked = ranker.Reranker(exported).rank(QUERY, ["the fox"] * 3)
    assert [row.index for row in ranked] == [0, 1, 2]


def test_no_text_is_no_result(exported: Path) -> None:
    assert ranker.Reranker(exported).rank(QUERY, []) == []


def test_what_cannot_be_used_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="top_k of 1 or more, got 0"):
        ranker.Reranker(exported).rank(QUERY, TEXTS, top_k=0)
    with pytest.raises(RankerError, match="nothing-here"):
        ranker.Reranker(tmp_path / "nothing-here")


def test_what_is_not_a_text_is_refused(exported: Path) -> None:
    reranker = ranker.Reranker(exported)
    with pytest.raises(UsageError, match="expected a string or a Document, got NoneType"):
        reranker.rank(QUERY, [None])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="expected a list of texts, got a single string"):
        reranker.rank(QUERY, "abc")


def test_threads_share_a_reranker(model: Path) -> None:
    reranker = ranker.Reranker(model)
    pairs = [(QUERY, text) for text in TEXTS]
    alone = ranker.Reranker(model).score(pairs)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: reranker.score(pairs), range(24)):
            np.testing.assert_allclose(scores, alone, atol=1e-5)
