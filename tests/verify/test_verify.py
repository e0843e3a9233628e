"""The checks that need no JDK, and how the class path of Vespa's own code is built."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkpoints import checkpoint_of
from engine_support import encoder_of, make_app, tiny_logit, tiny_spec, tokenizer_json
from onnx import TensorProto, helper, numpy_helper
from small_data import write_csv

from ranker.artifacts.bundle import Checkpoint, write_hashes
from ranker.cli import main
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App, query_body
from ranker.contract import vespa_names
from ranker.contract.storage import FLOAT
from ranker.contract.vespa_names import LARGEST_MODEL
from ranker.dataset import Dataset
from ranker.errors import ArtifactError, EndpointError, MissingTool, VerifyError
from ranker.feed import operations
from ranker.package.application import Package, write
from ranker.records import Document, Query
from ranker.verify import CHECKS, CheckResult, verify
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.difference import Tally, compare, id_problems, token_rows
from ranker.verify.parity.engine import EngineBackend, running_engine
from ranker.verify.parity.pairs import (
    NASTY_TEXTS,
    TextPair,
    judged_pairs,
    nasty_pairs,
    special_tokens,
)
from ranker.verify.parity.scored_pairs import EncodedPairs, ScoredPairs, encode_pairs
from ranker.verify.provenance import NotFound, find_checkpoint
from ranker.verify.target import model_problems, runtime_of
from ranker.verify.traffic import SPEC_INPUT, TOKENS_INPUT, body_problems, operation_problems
from ranker.verify.validity import hopeless, timeouts, too_short
from ranker.verify.vespa.build import VESPA_VERSION, class_path, java

FOX = Document("1", "red fox", "jumps over the dog")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path / "app")


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("MAVEN_HOME", raising=False)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """Install shell scripts on PATH; PATH and the cache are the test's own."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("MAVEN_HOME", raising=False)

    def install(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    install("java", "echo 'openjdk version \"17.0.9\" 2023-10-17' >&2")
    return install


def of_name(results: list[CheckResult], name: str) -> CheckResult:
    return next(result for result in results if result.name == name)


# --- the whole command without a JDK -------------------------------------------------------------


def test_without_a_jdk_the_rest_is_checked(app: Path, no_java: None) -> None:
    results = verify(app, pairs=30)
    assert [result.name for result in results] == ["package", "parity", "feed", "queries"]
    assert {result.status for result in results} == {"incomplete"}
    assert all("no JDK" in result.skipped[0] for result in results)
    parity = of_name(results, "parity")
    assert (parity.figures["pairs"], parity.figures["id_mismatches"]) == (30, 0)
    assert (parity.figures["scores_onnx"], parity.figures["scores_vespa"]) == (90, 0)
    assert 60 < parity.figures["scores_engine"] < 90  # some questions have no word
    assert "--checkpoint" in parity.warnings[0]
    assert of_name(results, "feed").figures == {"operations": 30, "read_by_vespa": 0}
    assert of_name(results, "queries").figures["requests"] > 4


def test_without_onnx_and_its_runtime_the_rest_is_checked(
    app: Path, no_java: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    results = verify(app, pairs=5)
    assert {result.status for result in results} == {"incomplete"}
    assert sum("pip install 'ranker[export]'" in line for line in results[0].skipped) == 2
    parity = of_name(results, "parity")
    assert "scores of ONNX Runtime: onnxruntime is not installed" in parity.skipped[0]
    assert parity.figures["scores_engine"] > 0  # a process of its own


def test_strict_makes_what_was_skipped_a_problem(app: Path, no_java: None) -> None:
    (result,) = verify(app, pairs=3, strict=True)  # the later checks are not started
    assert result.status == "failed"
    assert result.problems[0].startswith("not checked: Vespa's own validators: no JDK")


def test_results_are_reported_as_they_are_made_and_are_plain_values(
    app: Path, no_java: None
) -> None:
    reported: list[CheckResult] = []
    results = verify(app, pairs=2, on_check=reported.append)
    assert reported == results
    assert json.loads(json.dumps([result.to_dict() for result in results]))[1]["name"] == "parity"


def test_a_folder_that_is_not_a_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="manifest.json is missing"):
        verify(tmp_path)


def test_a_changed_file_fails_the_first_check_and_ends_it(app: Path, no_java: None) -> None:
    (app / "services.xml").write_text("<services/>")
    results = verify(app)
    assert [result.status for result in results] == ["failed"]
    assert "services.xml was changed" in results[0].problems[0]


# --- the package ---------------------------------------------------------------------------------


def test_a_model_of_another_contract_is_a_problem(app: Path, no_java: None) -> None:
    model = app / "files" / "cross_encoder.onnx"
    loaded = onnx.load(model)
    helper.set_model_props(loaded, {vespa_names.ONNX_FINGERPRINT: "0123456789abc"})
    model.unlink()
    onnx.save(loaded, model)
    write_hashes(app)
    problems = verify(app)[0].problems
    assert any("0123456789abc" in line and "export the model again" in line for line in problems)
    assert any("the manifest names the model" in line for line in problems)


def test_a_tokenizer_of_another_contract_is_a_problem(app: Path, no_java: None) -> None:
    path = app / "files" / "tokenizer.json"
    path.write_text(path.read_text().replace('"fox"', '"box"'))
    write_hashes(app)
    assert "tokenizer.json has the hash" in " ".join(verify(app)[0].problems)


def test_a_models_folder_is_a_problem(app: Path, no_java: None) -> None:
    (app / "models").mkdir()
    assert "belong in files/" in verify(app)[0].problems[0]


def test_a_timeout_that_is_too_short_is_a_warning(app: Path, no_java: None) -> None:
    package = Package.open(app)
    assert [timeout.seconds for timeout in timeouts(package)] == [10.0, 10.0]
    assert too_short(package, 0.09) == []
    ours, profile = too_short(package, 0.11)
    assert ours.startswith("rank profile cross, cross_global, blend: reranking 100 documents of")
    assert "takes 11 s on one thread of this machine (110 ms each)" in ours
    assert "the timeout is 10 s (sent by `ranker query`)" in ours
    assert "the timeout is 10 s (of search/query-profiles/default.xml)" in profile
    assert hopeless(package, 9.9) == []
    assert "no query with the model can succeed" in hopeless(package, 10.1)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.3", 0.3), ("300ms", 0.3), ("2 s", 2.0), ("1ks", 1000.0), ("soon", 0.5), (None, 0.5)],
)
def test_the_timeout_of_the_query_profile(text: str | None, expected: float, app: Path) -> None:
    path = app / "search" / "query-profiles" / "default.xml"
    if text is None:
        path.unlink()
    else:
        path.write_text(path.read_text().replace(">10<", f">{text}<"))
    write_hashes(app)
    timeout = timeouts(Package.open(app))[1]
    assert timeout.seconds == expected
    assert ("Vespa's own" in timeout.source) == (text in ("soon", None))


def test_a_timeout_that_every_query_exceeds_is_a_problem(app: Path, no_java: None) -> None:
    manifest = json.loads((app / "manifest.json").read_text())
    (app / "manifest.json").write_text(json.dumps({**manifest, "timeout_s": 1e-7}))
    write_hashes(app)
    (result,) = verify(app, pairs=1)
    assert "longer than the timeout of 1e-07 s (sent by `ranker query`)" in result.problems[0]
    assert result.figures["rerank_s"] == pytest.approx(result.figures["ms_per_document"] / 10)


@pytest.mark.parametrize(
    ("vespa", "runtime"),
    [("8.100.20", "1.12.1"), ("8.600.35", "1.22.0"), ("8.700.24", "1.23.2"), ("9.1.0", "1.26.0")],
)
def test_the_runtime_of_a_vespa_release(vespa: str, runtime: str) -> None:
    assert runtime_of(vespa).version == runtime


def test_an_unknown_vespa_release_is_an_error() -> None:
    with pytest.raises(VerifyError, match=r"8\.100\.20 is the oldest known release"):
        runtime_of("8.1.1")
    with pytest.raises(VerifyError, match="expected a Vespa version like"):
        runtime_of("newest")


@pytest.mark.parametrize(
    ("opset", "ir", "vespa", "expected"),
    [
        (17, 8, "8.100.20", []),
        (18, 8, "8.100.20", ["opset 18; ONNX Runtime 1.12.1 of Vespa 8.100.20 loads at most 17"]),
        (17, 12, VESPA_VERSION, ["IR version 12; ONNX Runtime 1.23.2"]),
        (24, 13, VESPA_VERSION, ["IR version 13", "opset 24"]),
        (24, 13, "8.738.17", []),
    ],
)
def test_opset_and_ir_against_the_target(
    opset: int, ir: int, vespa: str, expected: list[str], tmp_path: Path
) -> None:
    onnx.save(small_model(opset, ir), tmp_path / "m.onnx")
    problems = model_problems(tmp_path / "m.onnx", vespa)
    assert len(problems) == len(expected)
    assert all(part in line for part, line in zip(expected, problems, strict=True))


def test_weights_outside_the_file_are_a_problem(tmp_path: Path) -> None:
    onnx.save(
        small_model(17, 8),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="weights",
    )
    assert (
        "1 weights are stored outside the model file (first: w)"
        in model_problems(tmp_path / "m.onnx", VESPA_VERSION)[0]
    )


def test_a_file_that_is_too_large_or_not_a_model_is_a_problem(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"no model")
    assert "is not an ONNX model" in model_problems(model, VESPA_VERSION)[0]
    os.truncate(model, LARGEST_MODEL)  # a hole, no bytes on disk
    assert "takes models below 2147483648 bytes" in model_problems(model, VESPA_VERSION)[0]


def small_model(opset: int, ir: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones(64, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "small",
        [value("x", TensorProto.FLOAT, [64])],
        [value("y", TensorProto.FLOAT, [64])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


# --- pairs and their ids -------------------------------------------------------------------------


def test_nasty_pairs_are_equal_for_an_equal_seed_and_contain_every_text() -> None:
    pairs = nasty_pairs(300, specials=["[X]", "[Y]"])
    assert pairs == nasty_pairs(300, specials=["[X]", "[Y]"])
    assert pairs != nasty_pairs(300, specials=["[X]", "[Y]"], seed=1)
    texts = {*NASTY_TEXTS, "[X] [Y]"}
    assert texts <= {pair.query for pair in pairs}
    assert texts <= {pair.document.text for pair in pairs}
    assert len({pair.document.doc_id for pair in pairs}) == 300


def test_the_special_tokens_are_those_of_the_tokenizer() -> None:
    assert special_tokens(tokenizer_json()) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_judged_pairs_come_first_and_random_ones_fill_up() -> None:
    documents = {name: Document(name, "", name) for name in "abcdef"}
    queries = {"q": Query("q", "question"), "r": Query("r", "request")}
    qrels = {"q": {"a": 1, "b": 0}, "r": {"c": 1}}
    dataset = Dataset("d", documents, queries, qrels)
    pairs = judged_pairs(dataset, 40)
    judged = {("question", "a"), ("question", "b"), ("request", "c")}
    assert {(pair.query, pair.document.doc_id) for pair in pairs[:3]} == judged
    assert len(pairs) == 40
    assert len(judged_pairs(dataset, 2)) == 2
    assert judged_pairs(dataset, 40) == pairs


def test_ids_of_any_text_are_valid(app: Path) -> None:
    encoder = encoder_of(app)
    batch = encode_pairs(encoder, nasty_pairs(60))
    assert id_problems(batch, encoder.spec) == []
    assert batch.inputs["input_ids"].shape == (60, 128)


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [
        ([7, 3], [8], "pair 0: the query 'red' has the ids [3]"),
        ([7], [8, 999], "pair 0: the document 'blue' has the ids [999]"),
        ([7, 0, 8], [8], "the ids [0]"),
        ([7] * 31, [8], "31 tokens, more than 30"),
        ([7], [8] * 96, "96 tokens, more than 95"),
    ],
)
def test_ids_that_no_text_may_have(query: list[int], document: list[int], expected: str) -> None:
    spec = tiny_spec()
    pairs = [TextPair("red", Document("1", "", "blue"))]
    batch = EncodedPairs(0, pairs, [query], [document], inputs={}, bm25=np.zeros(1))
    (problem,) = id_problems(batch, spec)
    assert expected in problem


def test_the_first_difference_as_two_rows() -> None:
    words = ["pad", "unk", "[CLS]", "[SEP]", "mask", "red", "green", "a"]

    def spell(ids: list[int]) -> list[str]:
        return [words[i] for i in ids]

    rows = {"ranker": [2, 7, 5, 3, 6, 3], "Vespa": [2, 7, 6, 3, 6, 3]}
    assert token_rows(rows, spell) == (
        "  position  0     1 2     3     4     5\n"
        "  ranker    [CLS] a red   [SEP] green [SEP]\n"
        "  Vespa     [CLS] a green [SEP] green [SEP]\n"
        "                    ^"
    )


def test_rows_of_different_length_and_far_out() -> None:
    ours, theirs = list(range(100, 130)), list(range(100, 129))
    rows = token_rows({"a": ours, "b": theirs}, lambda ids: [str(i) for i in ids]).splitlines()
    assert rows[0].split() == ["position", *(str(i) for i in range(23, 30))]
    assert rows[2].split()[-2:] == ["128", "-"]
    assert rows[3].index("^") == rows[1].index("129")


# --- backends that agree, and backends that do not -----------------------------------------------


def encoded(app: Path, *texts: tuple[str, str]) -> EncodedPairs:
    pairs = [TextPair(q, Document(f"{at}", "", d)) for at, (q, d) in enumerate(texts)]
    return encode_pairs(encoder_of(app), pairs, first=40)


def scored(name: str, *scores: float, **rest: Any) -> ScoredPairs:
    return ScoredPairs(name=name, scores={"cross": np.array(scores)}, **rest)


def test_any_two_backends_are_compared_and_the_two_furthest_apart_are_named(app: Path) -> None:
    batch, tally = encoded(app, ("red", "red fox"), ("dog", "a dog")), Tally()
    near = [scored("ONNX", 1.0, 2.0), scored("torch", 1.00006, 2.0), scored("x", 0.99999, 2.0)]
    compare(batch, near, encoder_of(app), tally)
    assert (tally.problems, tally.difference) == ([], None)
    assert tally.largest == pytest.approx(7e-5)
    compare(batch, [*near, scored("Vespa", 0.99995, 2.0)], encoder_of(app), tally)
    assert tally.problems == [
        "pair 40: profile cross: score 1.000060 in torch, 0.999950 in Vespa (allowed 0.0001)"
    ]
    assert "document  'red fox'" in str(tally.difference)


def test_a_score_that_is_not_a_number_is_a_difference(app: Path) -> None:
    batch, tally = encoded(app, ("red", "red fox"), ("dog", "a dog")), Tally()
    compare(batch, [scored("ONNX", 1, 2), scored("torch", 1, np.nan)], encoder_of(app), tally)
    assert tally.problems[0].startswith("pair 41: profile cross: score nan in torch")
    assert np.isnan(tally.largest)
    figures = CheckResult(name="parity", figures={"largest": tally.largest}).to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False))["figures"] == {"largest": None}


def test_pairs_that_a_backend_did_not_score_are_left_out(app: Path) -> None:
    batch, tally = encoded(app, ("red", "red fox"), ("", "a dog")), Tally()
    wrong = {name: array + [[0], [1]] for name, array in batch.inputs.items()}
    scored_rows = np.array([True, False])
    results = [scored("ONNX", 1, 2), scored("engine (cross)", 1, 9, inputs=wrong, rows=scored_rows)]
    compare(batch, results, encoder_of(app), tally)
    assert (tally.problems, tally.cells) == ([], 3 * 128)
    assert tally.scores == {"ONNX": 2, "engine (cross)": 1}


def test_a_cell_that_differs_is_shown_with_the_texts(app: Path) -> None:
    batch, tally = encoded(app, ("red", "red fox")), Tally()
    wrong = {name: array.copy() for name, array in batch.inputs.items()}
    wrong["attention_mask"][0, 6] = 1
    compare(batch, [scored("torch", 1, inputs=wrong)], encoder_of(app), tally)
    assert tally.problems == ["pair 40: attention_mask differs between ranker and torch"]
    assert tally.id_mismatches == 1
    lines = str(tally.difference).splitlines()
    assert lines[1:3] == ["  query     'red'", "  document  'red fox'"]
    assert [line.split()[0] for line in lines[3:]] == ["position", "ranker", "torch", "^"]


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoint, bundle and app of a two-layer BERT."""
    from ranker.export.to_onnx import export

    folder = tmp_path_factory.mktemp("trained")
    bundle = export(checkpoint_of(tiny_bert, folder / "checkpoint"), folder / "bundle")
    write(bundle, folder / "app")
    return folder


def test_torch_onnx_and_engine_agree(trained: Path) -> None:
    package = Package.open(trained / "app")
    done: list[tuple[int, int]] = []
    result = check_parity(
        package,
        nasty_pairs(60, specials=special_tokens(package.tokenizer_json)),
        vespa=None,
        on_progress=lambda *progress: done.append(progress),
    )
    assert result.problems == () and result.warnings == ()
    assert result.figures["scores_torch"] == result.figures["scores_onnx"] == 180
    assert result.figures["id_mismatches"] == 0
    assert 0 < result.figures["largest_score_difference"] < 1e-4
    assert done == [(60, 60)]


def test_other_weights_and_another_tokenizer_in_torch_are_found(
    trained: Path, tmp_path: Path
) -> None:
    import torch

    from ranker.model.base import load_weights

    package = Package.open(trained / "app")
    model = load_weights(trained / "checkpoint")
    with torch.no_grad():
        model.classifier.bias += 0.001
    shutil.copytree(trained / "checkpoint", tmp_path / "other")
    model.save_pretrained(tmp_path / "other")
    pairs = nasty_pairs(3)
    other = checkpoint_of(tmp_path / "other", tmp_path / "moved")
    result = check_parity(package, pairs, vespa=None, checkpoint=other, engine=False)
    assert "in torch" in result.problems[0] and "in ONNX" in result.problems[0]
    assert result.figures["largest_score_difference"] == pytest.approx(0.002, rel=0.01)  # blend

    path = tmp_path / "other" / "tokenizer.json"
    path.write_text(path.read_text().replace('"##o"', '"##0o"'))
    other = checkpoint_of(tmp_path / "other", tmp_path / "retokenized")
    result = check_parity(package, pairs, vespa=None, checkpoint=other, engine=False)
    assert "token contracts differ" in result.problems[0]
    assert "tokenizer_sha256" in result.problems[0]


def test_the_checkpoint_is_found_only_if_it_is_the_right_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbour = find_checkpoint(Package.open(trained / "app"))
    assert isinstance(neighbour, Checkpoint) and neighbour.path == trained / "checkpoint"

    far = tmp_path / "far" / "app"
    shutil.copytree(trained / "app", far)
    assert find_checkpoint(Package.open(far)) == NotFound()
    monkeypatch.chdir(trained.parent)
    bundle = tmp_path / "near" / "bundle"
    shutil.copytree(trained / "bundle", bundle)
    (far / "package.toml").write_text(f'[package]\nbundle = "{bundle}"\n')
    assert find_checkpoint(Package.open(far)) == NotFound()
    (bundle / "export.toml").write_text(f'[export]\ncheckpoint = "{trained.name}/checkpoint"\n')
    named = find_checkpoint(Package.open(far))
    assert isinstance(named, Checkpoint) and named.path.resolve() == trained / "checkpoint"

    again = tmp_path / "again"
    shutil.copytree(trained, again)
    report = json.loads((again / "checkpoint" / "training.json").read_text())
    report["blend_weight"] = 3.0
    (again / "checkpoint" / "training.json").write_text(json.dumps(report))
    write_hashes(again / "checkpoint")
    assert find_checkpoint(Package.open(again / "app")) == NotFound()


def test_the_engine_reports_what_the_model_received(app: Path) -> None:
    batch = encoded(app, ("red fox", "red fox"), ("red fox", ""), ("", "a dog"), ("dog", "a dog"))
    with running_engine(app) as url:
        backend = EngineBackend(App.open(app), url)
        results = list(backend.score(batch))
        backend.close()
    names = [one.name for one in results]
    assert names[:2] == ["engine (cross)", "engine's summary feature (cross)"]
    assert "engine (cross_global)" in names and "engine (blend)" in names
    for one in results:
        assert one.rows is not None and one.rows.tolist() == [True, True, False, True]
        logits = np.array([tiny_logit([5, 8], [5, 8]), tiny_logit([5, 8], []), 0, 0.8])
        weight, first = (2.0, batch.bm25) if "blend" in one.name else (1.0, 0)
        (scores,) = one.scores.values()
        assert scores[one.rows] == pytest.approx((first + weight * logits)[one.rows], abs=1e-5)
        for name, array in (one.inputs or {}).items():
            assert np.array_equal(array[one.rows], batch.inputs[name][one.rows])


def test_an_engine_with_another_model_differs(app: Path, tmp_path: Path) -> None:
    other = make_app(tmp_path / "other", blend_weight=3.0)
    batch, tally = encoded(app, ("red fox", "red fox")), Tally()
    with running_engine(other) as url:
        backend = EngineBackend(App.open(app), url)
        logits = np.array([tiny_logit([5, 8], [5, 8])])
        ours = ScoredPairs(name="ONNX", scores={"blend": batch.bm25 + 2.0 * logits})
        compare(batch, [ours, *backend.score(batch)], encoder_of(app), tally)
        backend.close()
    assert len(tally.problems) == 1
    assert "profile blend: score" in tally.problems[0]
    assert "in engine (blend)" in tally.problems[0]


def test_a_build_that_fails_is_a_reason_to_skip(
    app: Path, programs: Callable, tmp_path: Path
) -> None:
    programs("mvn", "echo '[ERROR] Unknown host'; exit 1")
    results = verify(app, pairs=2)
    assert [result.status for result in results] == ["incomplete"] * 4
    assert "Vespa's own validators: Maven could not build the class path" in results[0].skipped[0]


def test_an_engine_that_does_not_start_says_why(app: Path, tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="does not serve the package: .*manifest.json"):
        with running_engine(tmp_path):
            pass


def test_the_engine_ends_when_its_parent_is_killed(app: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from ranker.verify.parity.engine import running_engine\n"
        f"with running_engine(Path({str(app)!r})) as url:\n"
        "    print(url, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert [path.name.startswith("ranker-verify-engine-") for path in tmp_path.glob("r*")]
    finally:
        parent.kill()
        parent.communicate()
    end = time.monotonic() + 20
    while time.monotonic() < end and list(tmp_path.glob("ranker-verify-engine-*")):
        time.sleep(0.05)
    assert list(tmp_path.glob("ranker-verify-engine-*")) == []
    with Http(Endpoint.of(url)) as http, pytest.raises(EndpointError, match="nothing answers"):
        http.get("/state/v1/health")


# --- the command ---------------------------------------------------------------------------------


def test_the_command_prints_one_table(
    trained: Path, no_java: None, capsys: pytest.CaptureFixture
) -> None:
    assert main(["verify", str(trained / "app"), "--pairs", "9"]) == 0
    shown = capsys.readouterr().out
    assert [shown.count(f"│ {name} ") for name in CHECKS] == [1, 1, 1, 1]
    assert "id mismatches 0" in shown and "scores torch 27" in shown
    assert "parity: skipped: ids and scores in Vespa's evaluator: no JDK" in shown


def test_the_command_fails_with_the_first_reason_and_one_object(
    app: Path, no_java: None, capsys: pytest.CaptureFixture
) -> None:
    assert main(["verify", str(app), "--pairs", "3", "--strict", "--json"]) == 1
    reported = capsys.readouterr()
    answer = json.loads(reported.out)
    assert answer["error"].startswith("package: not checked: Vespa's own validators: no JDK")
    assert [check["status"] for check in answer["checks"]] == ["failed"]
    assert reported.err.splitlines()[-1] == f"ranker: error: {answer['error']}"
    assert main(["verify", str(app), "--pairs", "3", "--strict"]) == 1
    assert capsys.readouterr().out.count("not started") == 3


def test_texts_of_judged_data_and_another_vespa(
    app: Path, no_java: None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = str(write_csv(tmp_path / "judged.csv"))
    command = ["verify", str(app), "--data", data, "--pairs", "7", "--json"]
    assert main([*command, "--vespa-version", "8.100.20"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["vespa_version"], answer["error"]) == ("8.100.20", None)
    figures = {check["name"]: check["figures"] for check in answer["checks"]}
    assert figures["parity"]["scores_engine"] == 21
    assert main([*command, "--vespa-version", "8.1.1"]) == 1
    assert "8.100.20 is the oldest known release" in capsys.readouterr().err


def test_a_folder_that_is_not_a_checkpoint_is_an_error(
    app: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["verify", str(app), "--checkpoint", str(tmp_path)]) == 1
    assert "is not a checkpoint of `ranker train`" in capsys.readouterr().err


# --- operations and requests ---------------------------------------------------------------------


def test_the_operations_of_feed_pass(app: Path) -> None:
    client = App.open(app)
    ids = client.encoder.document_ids(FOX)
    assert operation_problems(next(operations([FOX], client)), ids, client.manifest) == []


def test_operations_that_vespa_accepts_silently_are_problems(app: Path) -> None:
    client = App.open(app)
    spec = client.manifest.spec
    ids = client.encoder.document_ids(FOX)
    good = next(operations([FOX], client))

    def problems(**fields: object) -> str:
        operation = {**good, "fields": {**good["fields"], **fields}}
        (line,) = operation_problems(operation, ids, client.manifest)
        return line

    assert "has 6 cells, expected 95" in problems(doc_token_ids={"values": ids})
    assert "expected the ids" in problems(doc_token_ids={"values": FLOAT.pack(ids[1:], 95)})
    assert "is missing" in problems(doc_token_ids=None)
    assert spec.fingerprint in problems(token_fingerprint=1)
    assert problems(token_fingerprint=1).startswith("id:ranker:doc::1: token_fingerprint is 1")


def test_requests_that_vespa_accepts_silently_are_problems(app: Path) -> None:
    client = App.open(app)
    good = query_body("red fox", client, profile="cross")
    assert body_problems("red fox", good, client) == []

    def problems(**changes: object) -> str:
        (line,) = body_problems("red fox", {**good, **changes}, client)
        return line

    ids = client.encoder.query_ids("red fox")
    assert "has 2 cells, expected 30" in problems(**{TOKENS_INPUT: ids})
    assert "unknown input input.query(tokens)" in problems(**{"input.query(tokens)": [1]})
    assert "rank with an empty text" in problems(**{TOKENS_INPUT: None})
    assert "is None, expected" in problems(**{SPEC_INPUT: None})
    bm25 = query_body("red fox", client, profile="bm25")
    assert body_problems("red fox", bm25, client) == []


# --- the class path ------------------------------------------------------------------------------

MAVEN = """
echo "$@" >> "$XDG_CACHE_HOME/calls"
/bin/sleep 0.3
/bin/mkdir -p target/jars
echo jar > target/ranker-verify.jar
"""


def test_simultaneous_first_builds_are_one(programs: Callable, tmp_path: Path) -> None:
    programs("mvn", MAVEN)
    paths: list[str] = []
    threads = [
        threading.Thread(target=lambda: paths.append(class_path("8.123.4"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 5
    assert len(set(paths)) == 1
    calls = (tmp_path / "cache" / "calls").read_text().splitlines()
    assert calls == ["-q -B -Dvespa.version=8.123.4 package"]
    jar, jars = paths[0].split(os.pathsep)
    assert Path(jar).read_text() == "jar\n"
    assert Path(jars).parent.is_dir()
    assert Path(jar).is_relative_to(tmp_path / "cache" / "ranker")


def test_first_builds_of_two_processes_are_one(programs: Callable, tmp_path: Path) -> None:
    programs("mvn", MAVEN)
    script = "from ranker.verify import class_path; print(class_path('8.123.4'))"
    command = [sys.executable, "-c", script]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = [process.communicate()[0] for process in started]
    assert paths[0] == paths[1] != ""
    assert len((tmp_path / "cache" / "calls").read_text().splitlines()) == 1
    kept = sorted(path.name for path in (tmp_path / "cache" / "ranker").iterdir())
    assert len(kept) == 2 and kept[1] == f"{kept[0]}.lock"  # the build and its lock, no more


def test_after_the_build_neither_maven_nor_network_is_needed(
    programs: Callable, tmp_path: Path
) -> None:
    programs("mvn", MAVEN)
    first = class_path()
    (tmp_path / "bin" / "mvn").unlink()
    assert class_path() == first
    with pytest.raises(MissingTool, match=r"no Maven: there is no `mvn` on PATH.*install Maven"):
        class_path("8.1.2")


def test_a_build_that_fails_leaves_nothing_and_says_why(programs: Callable, tmp_path: Path) -> None:
    programs("mvn", "echo '[ERROR] Could not resolve container-test'; exit 1")
    with pytest.raises(VerifyError, match="8.700.24: Could not resolve container-test; the first"):
        class_path()
    assert [path.suffix for path in (tmp_path / "cache" / "ranker").iterdir()] == [".lock"]


def test_missing_and_old_java_and_bad_versions(programs: Callable, tmp_path: Path) -> None:
    programs("java", "echo 'java version \"11.0.2\"' >&2")
    with pytest.raises(MissingTool, match="is Java 11; install a JDK of version 17 or newer"):
        java()
    (tmp_path / "bin" / "java").unlink()
    with pytest.raises(MissingTool, match="no JDK: there is no `java` on PATH"):
        class_path()
    programs("java", "echo 'openjdk version \"21\"' >&2")
    with pytest.raises(VerifyError, match="expected a Vespa version like 8.700.24, got '8'"):
        class_path("8")


def test_java_home_goes_before_path(
    programs: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "jdk" / "bin"
    home.mkdir(parents=True)
    (home / "java").write_text("#!/bin/sh\necho 'openjdk version \"25.0.1\"' >&2\n")
    (home / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert java() == home / "java"


def test_the_status_of_a_result() -> None:
    result = CheckResult(name="feed")
    assert result.status == "passed"
    assert dataclasses.replace(result, skipped=("x",)).status == "incomplete"
    assert dataclasses.replace(result, skipped=("x",), problems=("y",)).status == "failed"
