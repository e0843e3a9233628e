"""The page for readers and screen readers, and with hostile documents."""

import json
import re
import sys
from collections import Counter

import pytest
from evaluate_support import DOCUMENTS, QRELS, QUERIES, Endpoint, bm25_answering, dataset, manifest
from page_reader import EVIL, read

from ranker.artifacts.bundle import write_hashes
from ranker.errors import ArtifactError, MissingExtra, UsageError
from ranker.evaluate import evaluate
from ranker.files import sha256, write_json, write_text
from ranker.records import Document, Query
from ranker.report import page

TRAINING = {
    "arguments": {"base": "tiny-base", "epochs": 3, "seed": 0},
    "blend_weight": 2.0,
    "recommended_profile": "blend",
    "held_out": {"queries": 16, "bm25": 0.41, "cross": 0.4, "blend": 0.45},
    "held_out_query_ids": ["h1"],
    "history": [
        {"stage": "judged", "step": step, "loss": 2 / step, "seconds": 1.0}
        for step in range(1, 30)
    ],
    "evaluations": [{"stage": "judged", "step": 29, "ndcg@10": 0.45}],
    "documents_by_source": {"judged": {"judged": 12, "bm25": 40}},
    "data": {
        "name": "tiny", "split": "train", "sha256": "a" * 64,
        "queries": 80, "judgements": 200, "documents": 5,
    },
    "calibration": None,
    "uncalibrated": "12 relevant documents of 9 queries are too few",
    "seconds": 90.0,
    "ranker_version": "0.1.0",
}  # fmt: skip


CALIBRATION = {
    "slope": 1.5, "intercept": -4.25, "min_grade": 1, "queries": 80, "pairs": 1000, "relevant": 60,
    "base_rate": 0.06, "brier": 0.0412, "base_rate_brier": 0.0564, "log_loss": 0.15,
    "base_rate_log_loss": 0.23,
    "reliability": [
        {"predicted": n / 20, "relevant": n / 25, "pairs": 100} for n in range(10)
    ],
    "thresholds": [
        {"probability": 0.5, "precision": 0.625, "pairs": 1600, "queries": 0.4},
        {"probability": 0.9, "precision": None, "pairs": 0, "queries": 0.0},
    ],
}  # fmt: skip


@pytest.fixture
def evaluation(tmp_path):
    endpoint = Endpoint(bm25_answering())
    return evaluate(
        dataset(), endpoint, profiles=["bm25", "cross", "blend"], out=tmp_path / "evaluation"
    )


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_text(folder / "tokenizer.json", "{}")
    write_json(folder / "spec.json", manifest().spec.to_dict())
    write_json(folder / "training.json", TRAINING)
    write_hashes(folder)
    return folder


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_text(folder / "model.onnx", "weights")
    write_text(folder / "tokenizer.json", "{}")
    write_json(folder / "spec.json", manifest().spec.to_dict())
    largest = {"batch": 1.4e-6, "one_pair": 2.5e-6, "all_zero_mask": 0.0}
    parity = {"pairs": 64, "tolerance": 1e-4, "largest_difference": largest, "opset": 17}
    write_json(folder / "parity.json", parity)
    about = {"blend_weight": 2.0, "recommended_profile": "blend", "training": TRAINING}
    write_json(folder / "bundle.json", about)
    write_hashes(folder)
    return folder


def evaluated_bundle(tmp_path, bundle):
    """Evaluate the model of the bundle."""
    endpoint = Endpoint(bm25_answering())
    known = {**endpoint.app.manifest.to_dict(), "model_sha256": sha256(bundle / "model.onnx")}
    changed = type(endpoint.app)(type(endpoint.app.manifest).from_dict(known))
    endpoint = Endpoint(bm25_answering(), app=changed)
    return evaluate(dataset(), endpoint, profiles=["bm25", "blend"], out=tmp_path / "own").path


def test_the_page_shows_what_was_measured(tmp_path, evaluation):
    shown = read(page([evaluation.path], tmp_path / "report.html"))
    said = shown.words()
    assert "No profile is better than bm25 on these queries: cross" not in said
    for profile in evaluation.profiles:
        for measure in evaluation.measures:
            assert f"{evaluation.mean(profile, measure):.3f}" in said
    for fact in (
        "tiny, split test", "7 (2 × 0, 2 × 1, 1 × 2, 2 × 3)", "the gain is the grade itself",
        "32 + 96 = 128 slots (30 query and 95 document tokens)", "f" * 64,
        evaluation.figures["fingerprint"], "10,000 resamples", "Holm's correction for 2",
        "bm25 + 2 · logit, second phase, best 100", "A hole, that is an unjudged document",
        "bm25 found nothing for 1 query", "one query at a time", dataset().sha256,
        "ranker evaluate tiny --app APP --url http://127.0.0.1:8080 --split test "
        "--profile bm25 --profile cross --profile blend --hits 100",
    ):  # fmt: skip
        assert fact in said


def test_the_headline_is_the_title_and_the_heading(tmp_path, evaluation):
    text = page([evaluation.path], tmp_path / "report.html").read_text()
    title = re.search(r"<title>(.*?)</title>", text)[1]
    assert re.search(r"<h1>(.*?)\.</h1>", text)[1] == title
    assert title.startswith("No profile is better than bm25: cross scores the same on 4 queries")


def test_queries_that_moved_most_are_shown_with_their_documents(tmp_path, evaluation):
    text = page([evaluation.path], tmp_path / "report.html").read_text()
    # cross equals bm25 here, so it comes closest and nothing changed.
    assert "cross is not better on any query." in text
    only = evaluate(
        dataset(), Endpoint(bm25_answering()), profiles=["bm25", "blend"], out=tmp_path / "two"
    )
    shown = read(page([only.path], tmp_path / "two.html"))
    said = shown.words().partition("What changed")[2].partition("All queries")[0]
    won, _, lost = said.partition("Where blend loses most")
    assert QUERIES["q2"].text in won
    assert QUERIES["q1"].text not in won
    assert QUERIES["q1"].text in lost
    assert QUERIES["q2"].text not in lost
    assert "grade 3 Scheduler" in said
    assert "bm25: rank" in said
    assert DOCUMENTS["d3"].text in said


@pytest.mark.parametrize("where", ["title", "text", "query", "name", "doc_id"])
def test_hostile_text_is_harmless(tmp_path, where):
    evil = EVIL if where != "doc_id" else EVIL.replace(" ", "_")
    documents, qrels, queries = dict(DOCUMENTS), dict(QRELS), dict(QUERIES)
    if where in ("title", "text"):
        values = {"doc_id": "d5", "title": "Run every", "text": "Run a function", where: evil}
        documents["d5"] = Document(**{**values, where: f"run every function {evil}"})
    if where == "query":
        queries["q2"] = Query("q2", f"run every function {evil}")
    if where == "doc_id":
        documents[evil] = Document(evil, "", "run every function")
    data = dataset(
        documents=documents, queries=queries, qrels=qrels, name=evil if where == "name" else "x"
    )
    endpoint = Endpoint(bm25_answering(documents))
    shown = evaluate(data, endpoint, profiles=["bm25", "blend"], out=tmp_path / "e")
    out = page([shown.path], tmp_path / "report.html")
    parsed = read(out)
    assert parsed.all("script") == []
    assert parsed.all("img") == []
    assert not any(key.startswith("on") for _, attrs in parsed.tags for key in attrs)
    said = parsed.words()
    assert "alert(" in said  # shown as text, not dropped
    assert "{{7*5801}}" in said
    assert "40607" not in said


def test_the_page_loads_nothing_from_the_network(tmp_path, evaluation, checkpoint, bundle):
    out = page([evaluation.path, checkpoint, bundle], tmp_path / "report.html")
    text, shown = out.read_text(), read(out)
    for _, attributes in shown.tags:
        for key in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            assert attributes.get(key, "#").startswith(("#", "data:,"))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert not re.search(r"url\(|@import|@font-face|expression", style)
    policy = [a for a in shown.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_the_page_is_accessible_to_screen_readers(tmp_path, evaluation, checkpoint, bundle):
    shown = read(page([evaluation.path, checkpoint, bundle], tmp_path / "report.html"))
    assert shown.all("html")[0]["lang"] == "en"
    assert shown.all("meta")[1] == {
        "name": "viewport", "content": "width=device-width, initial-scale=1",
    }  # fmt: skip
    assert len(shown.all("table")) == len(shown.all("caption")) == 6
    assert len(shown.all("main")) == len(shown.all("h1")) == 1
    for picture in shown.all("svg"):
        assert picture["role"] == "img"
        assert picture["aria-labelledby"]
    assert len(shown.all("svg")) == 3
    assert all(cell.get("scope") in ("row", "col") for cell in shown.all("th"))
    ids = Counter(attributes["id"] for _, attributes in shown.tags if "id" in attributes)
    assert max(ids.values()) == 1
    wanted = [
        ident
        for _, attributes in shown.tags
        for ident in attributes.get("aria-labelledby", "").split()
    ]
    assert set(wanted) <= set(ids)
    anchors = {attributes["href"] for attributes in shown.all("a")}
    assert anchors == {"#evaluation-1", "#training-1", "#bundle-1"}
    assert {anchor[1:] for anchor in anchors} <= set(ids)
    levels = [int(tag[1]) for tag, _ in shown.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    # What scrolls sideways can be reached with the keyboard.
    regions = [a for a in shown.all("div") if a.get("role") == "region"]
    assert len(regions) == 6
    assert all(region["tabindex"] == "0" for region in regions)


def test_training_and_bundle_alone(tmp_path, checkpoint, bundle):
    said = read(page([checkpoint], tmp_path / "a.html")).words()
    assert "Training recommends blend: +0.040 nDCG@10 over bm25 on 16 queries" in said
    assert "bm25 + 2 · logit, weight from these queries" in said
    assert "tiny, split train: 80 queries, 200 judgements, 5 documents" in said
    assert "judged: 40 bm25, 12 judged" in said
    assert "1.5 min" in said
    both = read(page([checkpoint, bundle], tmp_path / "b.html")).words()
    assert both.count("Mean nDCG@10 on 16 queries held out of training") == 1
    assert (
        "The exported model equals the trained one on 64 pairs: largest difference of a logit "
        "2.5e-06, allowed 0.0001" in both
    )
    assert sha256(bundle / "model.onnx") in both


def test_the_page_shows_what_the_probabilities_are_worth(tmp_path, checkpoint):
    write_json(checkpoint / "training.json", TRAINING | {"calibration": CALIBRATION})
    write_hashes(checkpoint)
    written = page([checkpoint], tmp_path / "a.html")
    said = read(written).words()
    assert "sigmoid(1.5 · logit - 4.25)" in said
    assert "Brier score 0.0412, of the base rate alone 0.0564" in said
    assert "60 of 1,000 reranked documents are judged relevant" in said
    assert "0.5 0.625 1,600 40 %" in said and "0.9 – 0 0 %" in said
    assert "100 pairs: probability 0.450, relevant 0.360" in written.read_text()


def test_the_page_says_why_a_model_is_uncalibrated(tmp_path, checkpoint, bundle):
    reason = "uncalibrated: 12 relevant documents of 9 queries are too few"
    shown = page([checkpoint], tmp_path / "a.html")
    assert reason in read(shown).words() and "Brier" not in shown.read_text()
    old = read(page([bundle], tmp_path / "b.html")).words()
    assert "uncalibrated: it was made by a version of ranker without calibration" in old


def test_an_evaluation_is_matched_with_the_bundle_of_its_model(tmp_path, evaluation, bundle):
    own = evaluated_bundle(tmp_path, bundle)
    said = read(page([own, bundle], tmp_path / "own.html")).words()
    assert "chosen on 16 queries held out of training" in said
    assert "not in any of the bundles" not in said
    said = read(page([evaluation.path, bundle], tmp_path / "other.html")).words()
    assert "chosen on unknown queries" in said
    assert "The model measured in evaluation (sha256 fffffffffffff) is not in any of the" in said


def test_a_single_checkpoint_of_the_same_contract_is_accepted(tmp_path, evaluation, checkpoint):
    said = read(page([evaluation.path, checkpoint], tmp_path / "own.html")).words()
    assert "chosen on 16 queries held out of training" in said


def test_several_evaluations_and_one_profile(tmp_path, evaluation):
    alone = evaluate(
        dataset(split=None), Endpoint(bm25_answering()), profiles=["bm25"], out=tmp_path / "alone"
    )
    shown = read(page([evaluation.path, alone.path], tmp_path / "report.html"))
    said = shown.words()
    assert "bm25 reaches nDCG@10" in said
    assert "none: there is only one profile" in said
    ids = Counter(attributes["id"] for _, attributes in shown.tags if "id" in attributes)
    assert max(ids.values()) == 1
    assert {"evaluation-1", "evaluation-2"} <= set(ids)


def test_the_json_says_the_same(tmp_path, evaluation, checkpoint, bundle):
    page([evaluation.path, checkpoint, bundle], tmp_path / "report.html")
    shown = json.loads((tmp_path / "report.json").read_text())
    first = shown["evaluations"][0]
    assert first["headline"].startswith("No profile is better than bm25")
    assert first["profiles"]["blend"]["mean"] == evaluation.figures["profiles"]["blend"]["mean"]
    assert first["comparisons"] == evaluation.comparisons
    assert first["cautions"][0] == "bm25 found nothing for 1 query; each counts 0."
    assert shown["trainings"][0]["held_out"] == TRAINING["held_out"]
    assert shown["bundles"][0]["model_sha256"] == sha256(bundle / "model.onnx")
    assert shown["bundles"][0]["parity"]["pairs"] == 64


def test_a_page_is_replaced(tmp_path, evaluation, checkpoint):
    out = tmp_path / "new folder" / "report.html"
    assert page([evaluation.path], out) == out
    page([checkpoint], out)
    assert "Training recommends" in out.read_text()
    assert [path.name for path in sorted(out.parent.iterdir())] == ["report.html", "report.json"]


def test_control_characters_and_surrogates_do_not_reach_the_page(tmp_path, checkpoint):
    path = checkpoint / "training.json"
    path.write_text(json.dumps({**TRAINING, "arguments": {"base": "a\x00b\ud800c"}}))
    write_hashes(checkpoint)
    text = page([checkpoint], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Training of a b c" in text


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda root: ([], root / "r.html"), UsageError, "expected at least one folder"),
        (lambda root: ([root], root / "r.json"), UsageError, r"ends in \.html, got .*r\.json"),
        (lambda root: ([root / "no"], root / "r.html"), ArtifactError, "there is no folder"),
        (
            lambda root: ([root], root / "r.html"),
            ArtifactError,
            r"expected an evaluation \(evaluation.json\), a checkpoint \(training.json\) or a bund",
        ),
    ],
)
def test_what_cannot_be_reported(tmp_path, make, error, message):
    folders, out = make(tmp_path)
    with pytest.raises(error, match=message):
        page(folders, out)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_same_name_is_reported(tmp_path, evaluation):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ArtifactError, match="a folder of that name exists"):
        page([evaluation.path], tmp_path / "report.html")


def test_a_page_whose_json_would_replace_another_file(tmp_path, evaluation):
    before = (evaluation.path / "evaluation.json").read_bytes()
    with pytest.raises(ArtifactError, match=r"would replace .*evaluation\.json; give the page"):
        page([evaluation.path], evaluation.path / "evaluation.html")
    assert (evaluation.path / "evaluation.json").read_bytes() == before


def test_a_changed_bundle_is_rejected(tmp_path, bundle):
    (bundle / "parity.json").write_text("{}")
    with pytest.raises(ArtifactError, match="parity.json was changed after it was made"):
        page([bundle], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, evaluation, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library} is not installed.*ranker\[evaluate\]"):
        page([evaluation.path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
