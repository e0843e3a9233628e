"""Vespa's own code as judge.  Needs a JDK, and Maven with a network for the very first build."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_support import make_app, tiny_logit

from ranker import contract
from ranker.bundle import seal
from ranker.client import App
from ranker.encode import pair_inputs, stored
from ranker.errors import MissingTool, VerifyError
from ranker.feed import put_operation
from ranker.package import Package
from ranker.records import Document
from ranker.verify import Judge, container, verify, working_copy
from ranker.verify.court import Bench, Court
from ranker.verify.pairs import nasty_pairs, special_tokens
from ranker.verify.parity import TOLERANCE, check_parity
from ranker.verify.traffic import check_feed, check_queries
from ranker.verify.validity import check_package

pytestmark = pytest.mark.java

VERSION = "8.700.24"
FOX = Document("1", "red fox", "jumps over the dog")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    try:
        judge = Judge()
    except MissingTool as error:
        pytest.skip(str(error))
    with judge:
        yield judge


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("verify") / "app")


@pytest.fixture(scope="module")
def copy(app: Path) -> Iterator[Path]:
    with working_copy(app) as folder:
        yield folder


@pytest.fixture
def changed(app: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the package with an edited file, its hashes made to fit."""

    def change(name: str, old: str, new: str) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(app, folder)
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
        seal(folder)
        return folder

    return change


def court_of(judge: Judge, folder: Path) -> Court:
    return Court(Bench(judge, folder))


# --- the judge -----------------------------------------------------------------------------------


def test_a_package_of_ours_is_valid(judge: Judge, app: Path, copy: Path) -> None:
    validation = judge.validate(copy)
    assert validation.errors == ()
    assert all("vespa-verify-ranksetup-bin" in warning for warning in validation.warnings)
    result = check_package(Package.open(app), court=court_of(judge, copy), version=VERSION)
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
def test_errors_come_in_vespas_words(
    name: str, old: str, new: str, words: str, judge: Judge, changed: Callable[..., Path]
) -> None:
    folder = changed(name, old, new)
    with working_copy(folder) as copy:
        result = check_package(Package.open(folder), court=court_of(judge, copy), version=VERSION)
    assert result.status == "failed"
    (problem,) = result.problems
    assert problem.startswith("Vespa: ")
    assert any(word in problem for word in words.split("|")), problem


def test_vespas_evaluator_computes_what_is_known_by_hand(judge: Judge, copy: Path) -> None:
    query, document = [7, 8], [8, 9, 8]
    binding = {
        "query(query_token_ids)": stored(query, 30),
        "attribute(doc_token_ids)": stored(document, 95),
        "bm25(contents)": 2.5,
    }
    names = [*contract.ONNX_INPUTS, "logit", "secondphase"]
    (row,) = judge.evaluate(copy, profile="blend", functions=names, bindings=[binding])
    spec = Package.open(copy, model=False).spec
    ours = pair_inputs(spec, [query], [document], length=128)
    for name, theirs in zip(contract.ONNX_INPUTS, row, strict=False):
        assert np.array_equal(ours[name][0], theirs)
    logit = tiny_logit(query, document)
    assert row[3] == pytest.approx([logit], abs=1e-6)
    assert row[4] == pytest.approx([2.5 + 2.0 * logit], abs=1e-5)


@pytest.mark.parametrize(
    ("profile", "function", "cells", "words"),
    [
        ("crossed", "logit", 30, "No model named 'crossed'"),
        ("cross", "logits", 30, "logits"),
        ("cross", "logit", 29, "expected 30 values for tensor<float>(d0[30]), got 29"),
    ],
)
def test_a_question_that_makes_no_sense_is_an_error_and_the_judge_lives_on(
    profile: str, function: str, cells: int, words: str, judge: Judge, copy: Path
) -> None:
    binding = {
        "query(query_token_ids)": [1] * cells,
        "attribute(doc_token_ids)": [1] * 95,
    }
    with pytest.raises(VerifyError) as caught:
        judge.evaluate(copy, profile=profile, functions=[function], bindings=[binding])
    assert words in str(caught.value)
    assert judge.validate(copy).errors == ()


def test_a_judge_that_died_says_so(judge: Judge) -> None:
    with Judge() as other:
        other._process.kill()
        other._process.wait()
        with pytest.raises(VerifyError, match="the judge stopped at validate"):
            other.validate(Path("x"))
    with pytest.raises(VerifyError, match="closed already"):
        other.validate(Path("x"))


def test_a_working_copy_leaves_the_package_as_it_is(judge: Judge, app: Path) -> None:
    before = sorted(path.name for path in app.rglob("*"))
    with working_copy(app) as copy:
        judge.validate(copy)
        assert (copy / "models.generated").exists() or (copy / "files").exists()
    assert sorted(path.name for path in app.rglob("*")) == before
    assert not copy.exists()
    Package.open(app)


# --- parity --------------------------------------------------------------------------------------


def test_ids_and_scores_are_equal_on_nasty_texts(judge: Judge, app: Path, copy: Path) -> None:
    package = Package.open(app)
    pairs = nasty_pairs(80, specials=special_tokens(package.tokenizer_json))
    result = check_parity(package, pairs, court=court_of(judge, copy))
    assert result.status == "passed", result.difference
    assert result.figures["cells"] == 80 * 3 * 3 * 128
    assert result.figures["id_mismatches"] == 0
    assert result.figures["largest_score_difference"] <= TOLERANCE


def test_another_separator_in_a_profile_is_shown_as_two_rows(
    judge: Judge, app: Path, changed: Callable[..., Path]
) -> None:
    package = Package.open(app)
    # The tiny vocabulary's [CLS] and [SEP] are 2 and 3, so its functions are written out.
    sep = f"query_length + 1, {package.spec.sep_id}"
    folder = changed("schemas/doc/cross.profile", sep, "query_length + 1, 4")
    with working_copy(folder) as copy:
        result = check_parity(package, nasty_pairs(3), court=court_of(judge, copy))
    assert result.figures["id_mismatches"] == 2 * 3  # cross and blend inherit it, not cross_global
    assert result.problems[0] == "profile cross, pair 0: input_ids differs"
    assert result.difference is not None
    lines = [line.split() for line in result.difference.splitlines()]
    assert lines[1][:2] == ["query", "''"]
    assert lines[4][:3] == ["ranker", "[CLS]", "[SEP]"]
    assert lines[5][:3] == ["Vespa", "[CLS]", "[MASK]"]
    assert lines[6] == ["^"]


def test_another_weight_in_a_profile_is_a_difference(
    judge: Judge, app: Path, changed: Callable[..., Path]
) -> None:
    folder = changed("schemas/doc/blend.profile", "2 * logit", "2.5 * logit")
    with working_copy(folder) as copy:
        pairs = nasty_pairs(4)
        result = check_parity(Package.open(app), pairs, court=court_of(judge, copy))
    assert result.figures["id_mismatches"] == 0
    assert result.figures["largest_score_difference"] > TOLERANCE
    assert all(line.startswith("profile blend, pair") for line in result.problems)
    assert "in Python" in result.problems[0]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"])
def test_every_family_is_equal_in_vespa(family: str, judge: Judge, tmp_path: Path) -> None:
    from families import make_family
    from test_export import checkpoint_of

    from ranker.export import export
    from ranker.package import write

    model = make_family(family, tmp_path / "model")
    bundle = export(checkpoint_of(model, tmp_path / "checkpoint"), tmp_path / "bundle")
    package = write(bundle, tmp_path / "app")
    with working_copy(package.path) as copy:
        pairs = nasty_pairs(40, specials=special_tokens(package.tokenizer_json))
        court = court_of(judge, copy)
        assert check_package(package, court=court, version=VERSION).problems == ()
        result = check_parity(package, pairs, court=court)
    assert result.status == "passed", result.difference
    assert result.figures["profiles"] == 3


# --- feed and queries ----------------------------------------------------------------------------


def test_the_feeders_operations_are_read_as_meant(judge: Judge, app: Path, copy: Path) -> None:
    documents = [pair.document for pair in nasty_pairs(60)]
    result = check_feed(App.open(app), documents, court=court_of(judge, copy))
    assert result.problems == ()
    assert result.figures == {"operations": 60, "read_by_vespa": 60}


def test_what_vespas_reader_refuses_and_what_it_takes(judge: Judge, app: Path, copy: Path) -> None:
    client = App.open(app)
    ids = client.encoder.document_ids(FOX)
    good = put_operation(FOX, ids, client.manifest)

    def read(**fields: object) -> tuple[str | None, dict[str, int]]:
        operation = {**good, "fields": {**good["fields"], **fields}}
        (answer,) = judge.feed(copy, [operation])
        return answer.error, answer.cells

    assert read() == (None, {"doc_token_ids": 6})
    # Too few cells are filled up without a word: the reason for our own check.
    assert read(doc_token_ids={"values": ids[:2]}) == (None, {"doc_token_ids": 2})
    assert "Field 'nothing' is not defined" in str(read(nothing=1)[0])
    assert "illegal code point 0x1" in str(read(text="a\x01")[0])
    assert "id:ranker:doc::1" in str(read(token_spec="x")[0])
    assert read(doc_token_ids={"values": [1] * 96})[0] is not None


@pytest.fixture(scope="module")
def url(judge: Judge, app: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container of a package that declares the input token_spec twice, as ours once did."""
    folder = tmp_path_factory.mktemp("twice") / "app"
    shutil.copytree(app, folder)
    path = folder / "search" / "query-profiles" / "types" / "root.xml"
    field = '<field name="ranking.features.query(token_spec)" type="double" />'
    lines = [line for line in path.read_text().splitlines() if "query(token_spec)" not in line]
    path.write_text("\n".join([*lines[:-1], field, lines[-1]]))
    with container(folder) as url:
        yield url


def test_what_the_real_front_door_refuses_is_a_problem(app: Path, url: str) -> None:
    client = App.open(app)
    problems = check_queries(client, ["red fox"], url=url).problems
    assert [problem.split(",")[0] for problem in problems] == [
        "profile cross",
        "profile cross_global",
        "profile blend",
    ]
    assert "code 3 (Illegal query): Could not set 'ranking.features.query(token_sp" in problems[0]


def test_an_unknown_profile_at_the_real_front_door(app: Path, url: str) -> None:
    client = App.open(app)
    profile = dataclasses.replace(client.manifest.profile("bm25"), name="bm25x")
    manifest = dataclasses.replace(
        client.manifest, profiles=(profile,), recommended_profile="bm25x"
    )
    (problem,) = check_queries(App(manifest, client.encoder), ["red fox"], url=url).problems
    assert "code 4" in problem
    assert "does not contain requested rank profile 'bm25x'" in problem


def test_the_whole_command(app: Path, judge: Judge) -> None:
    results = verify(app, pairs=40, strict=True)
    assert [(result.name, result.problems) for result in results] == [
        (name, ()) for name in ("package", "parity", "feed", "queries")
    ]
    figures = {result.name: result.figures for result in results}
    assert figures["parity"]["pairs"] == figures["feed"]["read_by_vespa"] == 40
    assert figures["queries"]["requests"] > 80
