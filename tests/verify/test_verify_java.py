"""The checks with Vespa's own code: need a JDK, and Maven with a network for the first build."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from checkpoints import checkpoint_of
from engine_support import make_app, make_bundle, tiny_logit
from families import FAMILIES, make_family
from figures import record
from plugin_support import application

from ranker.artifacts.bundle import Checkpoint, write_hashes
from ranker.client.search import App
from ranker.contract import vespa_names
from ranker.contract.encode import pair_inputs
from ranker.contract.storage import FLOAT
from ranker.errors import VerifyError
from ranker.export.to_onnx import export
from ranker.feed import operations
from ranker.model.base import load_weights
from ranker.package.application import Package, write
from ranker.package.into import install
from ranker.records import Document
from ranker.verify import CheckResult, VespaProcess, container, verify, working_copy
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.difference import TOLERANCE
from ranker.verify.parity.pairs import nasty_pairs, special_tokens
from ranker.verify.traffic import check_feed, check_queries, operation_problems
from ranker.verify.validity import check_package
from ranker.verify.vespa.build import java
from ranker.verify.vespa.process import OpenPackage

pytestmark = pytest.mark.java

VERSION = "8.700.24"
FOX = Document("1", "red fox", "jumps over the dog")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("verify") / "app")


@pytest.fixture(scope="module")
def copy(app: Path) -> Iterator[Path]:
    with working_copy(app) as folder:
        yield folder


@pytest.fixture
def changed(app: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the package and edit a file and its hash."""

    def change(name: str, old: str, new: str) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(app, folder)
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
        write_hashes(folder)
        return folder

    return change


# --- Vespa's process -----------------------------------------------------------------------------


def test_our_package_is_valid(vespa_process: VespaProcess, app: Path, copy: Path) -> None:
    validation = vespa_process.validate(copy)
    assert validation.errors == ()
    assert all("vespa-verify-ranksetup-bin" in warning for warning in validation.warnings)
    result = check_package(
        [Package.open(app)], vespa=OpenPackage(vespa_process, copy), version=VERSION
    )
    assert result.status == "passed"


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("schemas/doc.sd", "type long", "type longer", "Failed to parse schema|longer"),
        ("schemas/doc/cross.profile", "expression: logit\n", "expression: logit +\n", "logit +"),
        ("schemas/doc/cross.profile", "{d0:0,d1:0}", "{d0:0}", "must produce a double|tensor"),
        ("schemas/doc/cross.profile", "files/cross", "files/other", "files/other_encoder.onnx"),
        ("services.xml", "<search/>", "<searching/>", "searching"),
        ("schemas/doc/bm25.profile", "rank-profile", "# first\nrank-profile", "rank-profile"),
    ],
)
def test_errors_are_in_vespas_words(
    name: str,
    old: str,
    new: str,
    words: str,
    vespa_process: VespaProcess,
    changed: Callable[..., Path],
) -> None:
    folder = changed(name, old, new)
    with working_copy(folder) as copy:
        result = check_package(
            [Package.open(folder)], vespa=OpenPackage(vespa_process, copy), version=VERSION
        )
    assert result.status == "failed"
    (problem,) = result.problems
    assert problem.startswith("Vespa: ")
    assert any(word in problem for word in words.split("|")), problem


def test_vespas_evaluator_computes_what_is_known_by_hand(
    vespa_process: VespaProcess, copy: Path
) -> None:
    query, document = [7, 8], [8, 9, 8]
    binding = {
        "query(query_token_ids)": FLOAT.pack(query, 30),
        "attribute(doc_token_ids)": FLOAT.pack(document, 95),
        "bm25(contents)": 2.5,
    }
    names = [*vespa_names.ONNX_INPUTS, "logit", "secondphase"]
    (row,) = vespa_process.evaluate(copy, profile="blend", functions=names, bindings=[binding])
    spec = Package.open(copy, model=False).spec
    ours = pair_inputs(spec, [query], [document], length=128)
    for name, theirs in zip(vespa_names.ONNX_INPUTS, row, strict=False):
        assert np.array_equal(ours[name][0], theirs)
    logit = tiny_logit(query, document)
    assert row[3] == pytest.approx([logit], abs=1e-6)
    assert row[4] == pytest.approx([2.5 + 2.0 * logit], abs=1e-5)


def test_the_probability_of_a_calibrated_package(
    vespa_process: VespaProcess, tmp_path: Path
) -> None:
    known = {"slope": 1.2e-05, "intercept": -4.25}
    for number, slope in enumerate((1.5, 1.2e-05)):  # the second is written with an exponent
        app = make_app(tmp_path / f"app{number}", calibration={**known, "slope": slope})
        query, document = [7, 8], [8, 9, 8]
        binding = {
            "query(query_token_ids)": FLOAT.pack(query, 30),
            "attribute(doc_token_ids)": FLOAT.pack(document, 95),
            "bm25(contents)": 2.5,
        }
        with working_copy(app) as folder:
            assert vespa_process.validate(folder).errors == ()
            for profile in ("cross", "blend", "cross_global"):
                ((probability,),) = vespa_process.evaluate(
                    folder, profile=profile, functions=["probability"], bindings=[binding]
                )
                odds = slope * tiny_logit(query, document) - 4.25
                assert probability == pytest.approx([1 / (1 + np.exp(-odds))], abs=1e-6)


@pytest.mark.parametrize(
    ("profile", "function", "cells", "words"),
    [
        ("crossed", "logit", 30, "No model named 'crossed'"),
        ("cross", "logits", 30, "logits"),
        ("cross", "logit", 29, "expected 30 values for tensor<float>(d0[30]), got 29"),
    ],
)
def test_an_invalid_request_is_an_error_and_the_process_continues(
    profile: str, function: str, cells: int, words: str, vespa_process: VespaProcess, copy: Path
) -> None:
    binding = {
        "query(query_token_ids)": [1] * cells,
        "attribute(doc_token_ids)": [1] * 95,
    }
    with pytest.raises(VerifyError) as caught:
        vespa_process.evaluate(copy, profile=profile, functions=[function], bindings=[binding])
    assert words in str(caught.value)
    assert vespa_process.validate(copy).errors == ()


def test_a_process_that_died_says_so(vespa_process: VespaProcess) -> None:
    with VespaProcess() as other:
        other._process.kill()
        other._process.wait()
        with pytest.raises(VerifyError, match="Vespa's process exited during validate"):
            other.validate(Path("x"))
    with pytest.raises(VerifyError, match="already closed"):
        other.validate(Path("x"))


def test_a_working_copy_leaves_the_package_as_it_is(vespa_process: VespaProcess, app: Path) -> None:
    before = sorted(path.name for path in app.rglob("*"))
    with working_copy(app) as copy:
        vespa_process.validate(copy)
        assert (copy / "models.generated").exists() or (copy / "files").exists()
    assert sorted(path.name for path in app.rglob("*")) == before
    assert not copy.exists()
    Package.open(app)


# --- parity --------------------------------------------------------------------------------------


def test_ids_and_scores_are_equal_on_nasty_texts(
    vespa_process: VespaProcess, app: Path, copy: Path
) -> None:
    package = Package.open(app)
    pairs = nasty_pairs(80, specials=special_tokens(package.tokenizer_json))
    result = check_parity(package, pairs, vespa=OpenPackage(vespa_process, copy))
    assert result.status == "passed", result.difference
    engine = result.figures["scores_engine"]
    assert result.figures["scores_vespa"] == 80 * 3 and 160 < engine < 240
    assert result.figures["cells"] == (80 * 3 + engine) * 3 * 128
    assert result.figures["id_mismatches"] == 0
    assert result.figures["largest_score_difference"] <= TOLERANCE


def test_another_separator_in_a_profile_is_shown_as_two_rows(
    vespa_process: VespaProcess, app: Path, changed: Callable[..., Path]
) -> None:
    package = Package.open(app)
    # The tiny vocabulary's [CLS] and [SEP] are 2 and 3, so its functions are written out.
    sep = f"query_length + 1, {package.spec.sep_id}"
    folder = changed("schemas/doc/cross.profile", sep, "query_length + 1, 4")
    with working_copy(folder) as copy:
        opened = OpenPackage(vespa_process, copy)
        result = check_parity(package, nasty_pairs(3), vespa=opened, engine=False)
    assert result.figures["id_mismatches"] == 2 * 3  # cross and blend inherit it, not cross_global
    assert result.problems[0] == "pair 0: input_ids differs between ranker and Vespa (cross)"
    assert result.difference is not None
    lines = [line.split() for line in result.difference.splitlines()]
    assert lines[1][:2] == ["query", "''"]
    assert lines[4][:3] == ["ranker", "[CLS]", "[SEP]"]
    assert lines[5][:4] == ["Vespa", "(cross)", "[CLS]", "[MASK]"]
    assert lines[6] == ["^"]


def test_another_weight_in_a_profile_is_a_difference(
    vespa_process: VespaProcess, app: Path, changed: Callable[..., Path]
) -> None:
    folder = changed("schemas/doc/blend.profile", "2 * logit", "2.5 * logit")
    with working_copy(folder) as copy:
        pairs = nasty_pairs(4)
        opened = OpenPackage(vespa_process, copy)
        result = check_parity(Package.open(app), pairs, vespa=opened, engine=False)
    assert result.figures["id_mismatches"] == 0
    assert result.figures["largest_score_difference"] > TOLERANCE
    assert all(": profile blend: score" in line for line in result.problems)
    assert "in ONNX" in result.problems[0] and "in Vespa (blend)" in result.problems[0]


@pytest.fixture(scope="module")
def families() -> Iterator[list[CheckResult]]:
    """Collect the results of the families for one line of figures."""
    results: list[CheckResult] = []
    yield results
    if results:
        record(
            "parity of five families",
            f"{parity_text(results)} ({', '.join(FAMILIES[: len(results)])}; random weights)",
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_equal_in_torch_onnx_engine_and_vespa(
    family: str, vespa_process: VespaProcess, families: list[CheckResult], tmp_path: Path
) -> None:
    package, checkpoint = packaged(make_family(family, tmp_path / "model"), tmp_path)
    with working_copy(package.path) as copy:
        pairs = nasty_pairs(40, specials=special_tokens(package.tokenizer_json))
        opened = OpenPackage(vespa_process, copy)
        assert check_package([package], vespa=opened, version=VERSION).problems == ()
        result = check_parity(package, pairs, vespa=opened, checkpoint=checkpoint)
    assert result.status == "passed", result.difference
    assert result.figures["profiles"] == 3
    assert result.figures["scores_torch"] == result.figures["scores_vespa"] == 120
    assert result.figures["scores_engine"] > 60
    families.append(result)


def test_ten_thousand_random_pairs_are_equal_in_torch_onnx_engine_and_vespa(
    tiny_bert: Path, vespa_process: VespaProcess, tmp_path: Path
) -> None:
    result = parity(tiny_bert, tmp_path, vespa_process, pairs=10_000)
    assert result.problems == (), result.difference
    assert result.figures["scores_torch"] == result.figures["scores_vespa"] == 30_000
    assert result.figures["scores_engine"] > 20_000
    record("parity, random pairs", f"{parity_text([result])} (two-layer BERT, random weights)")


def test_the_real_minilm_is_equal_in_torch_onnx_engine_and_vespa(
    minilm: Path, vespa_process: VespaProcess, tmp_path: Path
) -> None:
    import torch

    model = load_weights(minilm)
    torch.manual_seed(7)
    with torch.no_grad():  # as large as a trained head's, so that a wrong token shows
        model.classifier.weight.normal_()
    model.save_pretrained(tmp_path / "model")
    shutil.copy(minilm / "tokenizer.json", tmp_path / "model")
    result = parity(tmp_path / "model", tmp_path, vespa_process, pairs=200)
    assert result.problems == (), result.difference
    assert result.figures["scores_torch"] == result.figures["scores_vespa"] == 600
    record("parity, MiniLM", f"{parity_text([result])} (all-MiniLM-L6-v2, random head)")


def packaged(model: Path, folder: Path) -> tuple[Package, Checkpoint]:
    """Package an untrained model; return its checkpoint also."""
    checkpoint = checkpoint_of(model, folder / "checkpoint")
    return write(export(checkpoint, folder / "bundle"), folder / "app"), checkpoint


def parity(model: Path, folder: Path, vespa_process: VespaProcess, *, pairs: int) -> CheckResult:
    """Check the package of an untrained model on this number of pairs."""
    package, checkpoint = packaged(model, folder)
    texts = nasty_pairs(pairs, specials=special_tokens(package.tokenizer_json))
    with working_copy(package.path) as copy:
        return check_parity(
            package, texts, vespa=OpenPackage(vespa_process, copy), checkpoint=checkpoint
        )


def parity_text(results: Sequence[CheckResult]) -> str:
    """Describe the figures of parity checks."""
    total = {name: sum(r.figures[name] for r in results) for name in results[0].figures}
    largest = max(result.figures["largest_score_difference"] for result in results)
    return (
        f"{total['pairs']:,} pairs x 3 rank profiles in torch, ONNX, engine and Vespa: "
        f"{total['id_mismatches']} id mismatches in {total['cells']:,} cells, largest score "
        f"difference {largest:.1e} of {total['scores_vespa']:,} scores in Vespa, "
        f"{total['scores_engine']:,} in the engine"
    )


# --- feed and queries ----------------------------------------------------------------------------


def test_the_operations_of_feed_are_read_as_intended(
    vespa_process: VespaProcess, app: Path, copy: Path
) -> None:
    documents = [pair.document for pair in nasty_pairs(60)]
    result = check_feed(App.open(app), documents, vespa=OpenPackage(vespa_process, copy))
    assert result.problems == ()
    assert result.figures == {"operations": 60, "read_by_vespa": 60}


def test_what_vespas_reader_rejects_and_what_it_accepts(
    vespa_process: VespaProcess, app: Path, copy: Path
) -> None:
    client = App.open(app)
    ids = client.encoder.document_ids(FOX)
    good = next(operations([FOX], client))

    def read(**fields: object) -> tuple[str | None, dict[str, list[float]]]:
        operation = {**good, "fields": {**good["fields"], **fields}}
        (answer,) = vespa_process.feed(copy, [operation])
        return answer.error, answer.cells

    assert read() == (None, {"doc_token_ids": FLOAT.pack(ids, 95)})
    assert "Field 'nothing' is not defined" in str(read(nothing=1)[0])
    assert "illegal code point 0x1" in str(read(text="a\x01")[0])
    assert "id:ranker:doc::1" in str(read(token_fingerprint="x")[0])
    assert read(doc_token_ids={"values": [1] * 96})[0] is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"doc_token_ids": {"values": [7, 8]}},
            "has 2 cells, expected 95; Vespa silently fills up",
        ),
        ({"doc_token_ids": None}, "is missing; Vespa would rank with an empty text"),
        ({"doc_token_ids": {"values": [-7] * 95}}, "expected the ids"),
        ({"doc_token_ids": {"values": [0.5] * 95}}, "expected the ids"),
        ({"doc_token_ids": {"values": [10**6] * 95}}, "expected the ids"),
        ({"token_fingerprint": None}, "token_fingerprint is None, expected"),
        ({"token_fingerprint": 7}, "token_fingerprint is 7, expected"),
    ],
)
def test_errors_that_vespas_reader_accepts_are_found_by_us(
    fields: dict[str, object], words: str, vespa_process: VespaProcess, app: Path, copy: Path
) -> None:
    client = App.open(app)
    ids = client.encoder.document_ids(FOX)
    good = next(operations([FOX], client))
    trap = {**good, "fields": {**good["fields"], **fields}}
    (answer,) = vespa_process.feed(copy, [trap])
    assert answer.error is None
    (problem,) = operation_problems(trap, ids, client.manifest)
    assert words in problem


@pytest.fixture(scope="module")
def url(
    vespa_process: VespaProcess, app: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A container of a package that declares the input token_fingerprint twice."""
    folder = tmp_path_factory.mktemp("twice") / "app"
    shutil.copytree(app, folder)
    path = folder / "search" / "query-profiles" / "types" / "root.xml"
    field = '<field name="ranking.features.query(token_fingerprint)" type="double" />'
    lines = [
        line for line in path.read_text().splitlines() if "query(token_fingerprint)" not in line
    ]
    path.write_text("\n".join([*lines[:-1], field, lines[-1]]))
    with container(folder) as url:
        yield url


def test_what_the_real_container_rejects_is_a_problem(app: Path, url: str) -> None:
    client = App.open(app)
    problems = check_queries(client, ["red fox"], url=url).problems
    assert [problem.split(",")[0] for problem in problems] == [
        "profile cross",
        "profile cross_global",
        "profile blend",
    ]
    assert (
        "code 3 (Illegal query): Could not set 'ranking.features.query(token_fingerprint)'"
        in problems[0]
    )


def test_an_unknown_profile_in_the_real_container(app: Path, url: str) -> None:
    client = App.open(app)
    profile = dataclasses.replace(client.manifest.profile("bm25"), name="bm25x")
    manifest = dataclasses.replace(
        client.manifest, profiles=(profile,), recommended_profile="bm25x"
    )
    (problem,) = check_queries(App(manifest, client.encoder), ["red fox"], url=url).problems
    assert "code 4" in problem
    assert "does not contain requested rank profile 'bm25x'" in problem


def test_after_the_build_it_works_without_maven_and_network(
    vespa_process: VespaProcess, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = java().parent.parent  # of the process above
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.delenv("MAVEN_HOME", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with VespaProcess() as other:
        assert other.validate(copy).errors == ()


def test_errors_name_the_package_and_not_the_working_copy(
    vespa_process: VespaProcess, changed: Callable[..., Path]
) -> None:
    folder = changed("services.xml", "<search/>", "<search/><!-- -->")
    (folder / "models").mkdir()
    (folder / "models" / "bad.onnx").write_text("no model")
    with working_copy(folder) as copy:
        result = check_package(
            [Package.open(folder)], vespa=OpenPackage(vespa_process, copy), version=VERSION
        )
    assert "belong in files/" in result.problems[0]
    assert f"Could not import ONNX model from '{folder}/models/bad.onnx'" in result.problems[1]


def test_a_long_message_of_a_parser_is_shortened_and_keeps_file_and_line(
    vespa_process: VespaProcess, changed: Callable[..., Path]
) -> None:
    folder = changed("schemas/doc/bm25.profile", "first-phase", "first_phase")
    with working_copy(folder) as copy:
        result = check_package(
            [Package.open(folder)], vespa=OpenPackage(vespa_process, copy), version=VERSION
        )
    assert result.problems == (
        "Vespa: Could not parse schema file 'doc.sd': Failed parsing rank-profile from "
        '\'bm25.profile\': Encountered " <IDENTIFIER> "first_phase"" at line 3, column 5. '
        "At position: first_phase { ^",
    )


def test_the_whole_command(app: Path, vespa_process: VespaProcess) -> None:
    reported: list[tuple[str, int, int]] = []
    results = verify(app, pairs=40, strict=True, on_progress=lambda *args: reported.append(args))
    assert [(result.name, result.problems) for result in results] == [
        (name, ()) for name in ("package", "parity", "feed", "queries")
    ]
    figures = {result.name: result.figures for result in results}
    assert figures["parity"]["pairs"] == figures["feed"]["read_by_vespa"] == 40
    assert figures["queries"]["requests"] > 80
    assert figures["queries"]["answered_by_vespa"] == figures["queries"]["requests"]
    for name in ("parity", "feed", "queries"):
        done = [(done, total) for what, done, total in reported if what == name]
        assert done[-1][0] == done[-1][1] > 0
    warned = [line for line in results[0].warnings if "C++" not in line]
    record("package", f"valid for Vespa {VERSION}: 0 errors, {len(warned)} warnings")
    record("feed", f"{figures['feed']['read_by_vespa']} operations read by Vespa as intended")
    record(
        "queries", f"{figures['queries']['requests']} requests accepted by Vespa's real container"
    )


def test_several_models_in_an_existing_application(
    vespa_process: VespaProcess, tmp_path: Path
) -> None:
    app = application("library", tmp_path)
    schema, fields = "book", ["title", "abstract"]
    first = make_bundle(tmp_path / "first")
    second = make_bundle(tmp_path / "second", query_slots=20, document_slots=50)
    install(first, app, schema=schema, text_fields=fields).apply()
    install(second, app, schema=schema, text_fields=fields[1:], name="small").apply()
    results = verify(app, pairs=20)
    assert [(result.name, result.problems, result.skipped) for result in results] == [
        (name, (), ())
        for name in (
            "package",
            *("parity (ranker)", "parity (small)", "feed (ranker)", "feed (small)"),
            *("queries (ranker)", "queries (small)"),
        )
    ]
    parity, small = results[1], results[2]
    assert parity.figures["scores_vespa"] == small.figures["scores_vespa"] == 60
    assert small.figures["cells"] == 20 * 3 * 3 * 70
    assert "not compared with the embedded engine" in " ".join(parity.warnings)
