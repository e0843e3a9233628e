"""The verifier's own half: what it tells without a JDK, and how it gets its judge."""

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_support import encoder_of, make_app, tiny_spec, tokenizer_json
from onnx import TensorProto, helper, numpy_helper

from ranker import contract
from ranker.bundle import seal
from ranker.client import App, query_body
from ranker.dataset import Dataset
from ranker.encode import stored
from ranker.errors import ArtifactError, MissingTool, VerifyError
from ranker.feed import put_operation
from ranker.records import Document, Query
from ranker.verify import CheckResult, verify
from ranker.verify.build import VESPA_VERSION, class_path, java
from ranker.verify.pairs import NASTY_TEXTS, TextPair, judged_pairs, nasty_pairs, special_tokens
from ranker.verify.parity import Encoded, encode_pairs, id_problems, token_rows
from ranker.verify.target import LARGEST_FILE, model_problems, runtime_of
from ranker.verify.traffic import SPEC_INPUT, TOKENS_INPUT, body_problems, operation_problems

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
    """Puts a shell script of this name on PATH; PATH and the cache are the test's own."""
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


def test_without_a_jdk_python_checks_what_it_can(app: Path, no_java: None) -> None:
    results = verify(app, pairs=30)
    assert [result.name for result in results] == ["package", "parity", "feed", "queries"]
    assert {result.status for result in results} == {"incomplete"}
    assert all("no JDK" in result.skipped[0] for result in results)
    assert of_name(results, "parity").figures["pairs"] == 30
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
    assert "scores of the model" in of_name(results, "parity").skipped[0]


def test_strict_makes_what_was_skipped_a_problem(app: Path, no_java: None) -> None:
    results = verify(app, pairs=3, strict=True)
    assert results[0].status == "failed"
    assert results[0].problems[0].startswith("not checked: Vespa's own validators: no JDK")


def test_results_are_told_as_they_come_and_are_plain_values(app: Path, no_java: None) -> None:
    told: list[CheckResult] = []
    results = verify(app, pairs=2, on_check=told.append)
    assert told == results
    assert json.loads(json.dumps([result.to_dict() for result in results]))[1]["name"] == "parity"


def test_a_folder_that_is_no_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="manifest.json is missing"):
        verify(tmp_path)


def test_a_changed_file_fails_the_first_check_and_ends_it(app: Path, no_java: None) -> None:
    (app / "services.xml").write_text("<services/>")
    results = verify(app)
    assert [result.status for result in results] == ["failed"]
    assert "services.xml was changed" in results[0].problems[0]


# --- the package ---------------------------------------------------------------------------------


def test_a_model_of_another_contract_is_refused(app: Path, no_java: None) -> None:
    model = app / "files" / "cross_encoder.onnx"
    loaded = onnx.load(model)
    helper.set_model_props(loaded, {contract.ONNX_FINGERPRINT: "0123456789abc"})
    model.unlink()
    onnx.save(loaded, model)
    seal(app)
    problems = verify(app)[0].problems
    assert any("0123456789abc" in line and "export the model again" in line for line in problems)
    assert any("manifest.json names the model" in line for line in problems)


def test_a_tokenizer_of_another_contract_is_refused(app: Path, no_java: None) -> None:
    path = app / "files" / "tokenizer.json"
    path.write_text(path.read_text().replace('"fox"', '"box"'))
    seal(app)
    assert "tokenizer.json has the hash" in " ".join(verify(app)[0].problems)


def test_a_models_folder_is_refused(app: Path, no_java: None) -> None:
    (app / "models").mkdir()
    assert "belong in files/" in verify(app)[0].problems[0]


def test_a_timeout_that_is_too_short_is_a_warning(app: Path, no_java: None) -> None:
    manifest = json.loads((app / "manifest.json").read_text())
    (app / "manifest.json").write_text(json.dumps({**manifest, "timeout_s": 1e-6}))
    seal(app)
    result = verify(app, pairs=1)[0]
    assert not result.problems
    assert "reranking 100 long documents takes" in result.warnings[0]


@pytest.mark.parametrize(
    ("vespa", "runtime"),
    [("8.100.20", "1.12.1"), ("8.600.35", "1.22.0"), ("8.700.24", "1.23.2"), ("9.1.0", "1.26.0")],
)
def test_the_runtime_of_a_vespa_release(vespa: str, runtime: str) -> None:
    assert runtime_of(vespa).version == runtime


def test_an_unknown_vespa_release_is_an_error() -> None:
    with pytest.raises(VerifyError, match=r"8\.100\.20 is the oldest known"):
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


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    onnx.save(
        small_model(17, 8),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="weights",
    )
    assert (
        "1 weights lie outside the model file (first: w)"
        in model_problems(tmp_path / "m.onnx", VESPA_VERSION)[0]
    )


def test_a_file_that_is_too_large_or_no_model_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"no model")
    assert "is not an ONNX model" in model_problems(model, VESPA_VERSION)[0]
    os.truncate(model, LARGEST_FILE)  # a hole, no bytes on disk
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


def test_nasty_pairs_are_equal_for_an_equal_seed_and_hold_every_text() -> None:
    pairs = nasty_pairs(300, specials=["[X]", "[Y]"])
    assert pairs == nasty_pairs(300, specials=["[X]", "[Y]"])
    assert pairs != nasty_pairs(300, specials=["[X]", "[Y]"], seed=1)
    texts = {*NASTY_TEXTS, "[X] [Y]"}
    assert texts <= {pair.query for pair in pairs}
    assert texts <= {pair.document.text for pair in pairs}
    assert len({pair.document.doc_id for pair in pairs}) == 300


def test_the_special_tokens_are_read_off_the_tokenizer() -> None:
    assert special_tokens(tokenizer_json()) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_judged_pairs_come_first_and_random_ones_fill_up() -> None:
    documents = {name: Document(name, "", name) for name in "abcdef"}
    queries = {"q": Query("q", "question"), "r": Query("r", "request")}
    qrels = {"q": {"a": 1, "b": 0}, "r": {"c": 1}}
    dataset = Dataset("d", documents, queries, qrels, None, "")
    pairs = judged_pairs(dataset, 40)
    judged = {("question", "a"), ("question", "b"), ("request", "c")}
    assert {(pair.query, pair.document.doc_id) for pair in pairs[:3]} == judged
    assert len(pairs) == 40
    assert len(judged_pairs(dataset, 2)) == 2
    assert judged_pairs(dataset, 40) == pairs


def test_good_ids_are_no_problem_whatever_the_text(app: Path) -> None:
    encoder = encoder_of(app)
    encoded = encode_pairs(encoder, nasty_pairs(60))
    assert id_problems(encoded, encoder.spec) == []
    assert encoded.inputs["input_ids"].shape == (60, 128)


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
    encoded = Encoded(pairs, [query], [document], {}, bm25=None)  # type: ignore[arg-type]
    (problem,) = id_problems(encoded, spec)
    assert expected in problem


def test_the_first_difference_as_two_rows() -> None:
    words = ["pad", "unk", "[CLS]", "[SEP]", "mask", "red", "green", "a"]

    def spell(ids: list[int]) -> list[str]:
        return [words[i] for i in ids]

    assert token_rows([2, 7, 5, 3, 6, 3], [2, 7, 6, 3, 6, 3], spell) == (
        "  position  0     1 2     3     4     5\n"
        "  ranker    [CLS] a red   [SEP] green [SEP]\n"
        "  Vespa     [CLS] a green [SEP] green [SEP]\n"
        "                    ^"
    )


def test_rows_of_different_length_and_far_out() -> None:
    ours, theirs = list(range(100, 130)), list(range(100, 129))
    rows = token_rows(ours, theirs, lambda ids: [str(i) for i in ids]).splitlines()
    assert rows[0].split() == ["position", *(str(i) for i in range(23, 30))]
    assert rows[2].split()[-2:] == ["128", "-"]
    assert rows[3].index("^") == rows[1].index("129")


# --- operations and requests ---------------------------------------------------------------------


def test_operations_as_the_feeder_makes_them_pass(app: Path) -> None:
    client = App.open(app)
    ids = client.encoder.document_ids(FOX)
    assert operation_problems(put_operation(FOX, ids, client.manifest), ids, client.manifest) == []


def test_what_vespa_takes_in_silence_from_a_feeder_is_caught(app: Path) -> None:
    client = App.open(app)
    spec = client.manifest.spec
    ids = client.encoder.document_ids(FOX)
    good = put_operation(FOX, ids, client.manifest)

    def problems(**fields: object) -> str:
        operation = {**good, "fields": {**good["fields"], **fields}}
        (line,) = operation_problems(operation, ids, client.manifest)
        return line

    assert "has 6 cells, expected 95" in problems(doc_token_ids={"values": ids})
    assert "expected the ids" in problems(doc_token_ids={"values": stored(ids[1:], 95)})
    assert "is missing" in problems(doc_token_ids=None)
    assert spec.fingerprint in problems(token_spec=1)
    assert problems(token_spec=1).startswith("id:ranker:doc::1: token_spec is 1")


def test_what_vespa_takes_in_silence_from_a_client_is_caught(app: Path) -> None:
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


# --- the judge's class path ----------------------------------------------------------------------

MAVEN = """
echo "$@" >> "$XDG_CACHE_HOME/calls"
/bin/sleep 0.3
/bin/mkdir -p target/jars
echo jar > target/judge.jar
"""


def test_many_first_builds_at_once_are_one(programs: Callable, tmp_path: Path) -> None:
    programs("mvn", MAVEN)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(class_path("8.123.4"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert len(set(found)) == 1
    calls = (tmp_path / "cache" / "calls").read_text().splitlines()
    assert calls == ["-q -B -Dvespa.version=8.123.4 package"]
    jar, jars = found[0].split(os.pathsep)
    assert Path(jar).read_text() == "jar\n"
    assert Path(jars).parent.is_dir()
    assert Path(jar).is_relative_to(tmp_path / "cache" / "ranker")


def test_once_built_neither_maven_nor_network_is_needed(programs: Callable, tmp_path: Path) -> None:
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
