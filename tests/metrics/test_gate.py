"""The ship gate: what it says of runs whose figures are known, and what export makes of it."""

import logging
import re
from pathlib import Path

import pytest
from checkpoints import checkpoint_of

from ranker.artifacts.bundle import Checkpoint, write_hashes
from ranker.cli import main
from ranker.errors import ExportError
from ranker.export.to_onnx import export
from ranker.files import read_json, write_json
from ranker.metrics.gate import StageRuns, caution, decide, shortfall, unknown, verdict_of
from ranker.metrics.significance import compare_all, is_better, queries_needed

FIRST, SECOND = {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 2.0}
"""The answer `a` on rank 1 (nDCG 1) and on rank 2 (nDCG 1 / log2 3 = 0.6309)."""


def qrels(queries: int) -> dict[str, dict[str, int]]:
    return {f"q{n}": {"a": 1} for n in range(queries)}


def run(queries: int, right: int) -> dict[str, dict[str, float]]:
    """The answer is on top for the first `right` queries."""
    return {f"q{n}": FIRST if n < right else SECOND for n in range(queries)}


def judged(queries: int, *, cross: int, blend: int, bm25: int, **before: int) -> dict:
    """The verdict where the stages before the judged one blend as well as they rank alone."""
    stages = [
        StageRuns(name, run(queries, count), run(queries, count)) for name, count in before.items()
    ]
    learned = StageRuns("judged", run(queries, cross), run(queries, blend))
    return decide(qrels(queries), run(queries, bm25), [*stages, learned])


def test_a_cross_encoder_that_wins_every_query_passes() -> None:
    gate = judged(10, bm25=0, base=0, cross=10, blend=0)
    assert (gate["verdict"], gate["recommended_profile"]) == ("passed", "cross")
    rows = {(row["baseline"], row["profile"]): row for row in gate["comparisons"]}
    assert set(rows) == {(b, p) for b in ("bm25", "base") for p in ("cross", "blend")}
    won = rows["bm25", "cross"]
    # By hand: 2 of 1024 sign patterns are as far out; six tests, the smallest p times six.
    assert won["p"] == 2 / 1024 and won["p_holm"] == pytest.approx(12 / 1024)
    assert won["mean_difference"] == pytest.approx(1 - 0.63093, abs=1e-5)
    assert (won["wins"], won["queries"]) == (10, 10)
    assert rows["bm25", "blend"]["p_holm"] == 1
    assert gate["runs"]["bm25"]["mean"] == pytest.approx(0.63093, abs=1e-5)


def test_of_equals_the_blend_is_recommended_and_of_unequals_the_better() -> None:
    assert judged(12, bm25=0, base=0, cross=12, blend=12)["recommended_profile"] == "blend"
    assert judged(12, bm25=0, base=0, cross=12, blend=11)["recommended_profile"] == "cross"
    assert judged(12, bm25=0, base=0, cross=9, blend=11)["recommended_profile"] == "blend"


def test_a_better_blend_passes_although_the_cross_encoder_is_worse() -> None:
    gate = judged(12, bm25=6, base=0, cross=0, blend=12)
    # 6 wins of 6: p = 2/64, and Holm makes 0.0625 of it: not enough.
    assert (gate["verdict"], gate["recommended_profile"]) == ("not_better", "bm25")
    gate = judged(40, bm25=20, base=0, cross=0, blend=40)
    assert (gate["verdict"], gate["recommended_profile"]) == ("passed", "blend")


def test_five_queries_cannot_show_anything() -> None:
    gate = judged(5, bm25=0, base=0, cross=5, blend=5)
    assert gate["verdict"] == "not_better"  # the smallest possible p is 2 / 32
    assert gate["recommended_profile"] == "bm25"


def test_better_than_the_base_is_not_enough() -> None:
    gate = judged(40, bm25=30, base=0, cross=30, blend=30)
    assert gate["verdict"] == "not_better"
    assert all(is_better(row) for row in gate["comparisons"] if row["baseline"] == "base")


def test_the_stages_have_their_effects_measured_apart() -> None:
    gate = judged(20, bm25=0, base=0, pretrained=10, cross=20, blend=20)
    effects = {(row["baseline"], row["profile"]): row for row in gate["effects"]}
    assert set(effects) == {("base", "pretrained"), ("pretrained", "judged")}
    assert effects["base", "pretrained"]["wins"] == effects["pretrained", "judged"]["wins"] == 10
    assert judged(20, bm25=0, base=0, cross=20, blend=20)["effects"] == []


@pytest.mark.parametrize(
    "right, stage",
    [
        ({"base": 12, "pretrained": 8, "cross": 10, "blend": 11}, "base"),
        ({"base": 8, "pretrained": 12, "cross": 10, "blend": 11}, "pretrained"),
        ({"base": 8, "pretrained": 10, "cross": 9, "blend": 12}, "judged"),
        ({"base": 12, "pretrained": 12, "cross": 12, "blend": 12}, "base"),
    ],
)
def test_the_stage_with_the_best_mean_ships(right: dict[str, int], stage: str) -> None:
    gate = judged(20, bm25=0, **right)
    assert gate["stage"] == stage
    best = right.get(stage, right["cross"])
    mean = (best + (20 - best) * 0.63093) / 20
    assert gate["runs"]["cross"]["mean"] == pytest.approx(mean, abs=1e-5)
    assert gate["runs"]["cross"] == gate["runs"][stage]
    assert {row["baseline"] for row in gate["comparisons"]} == (
        {"bm25"} if stage == "base" else {"bm25", "base"}
    )


def test_the_choice_of_a_stage_is_paid_for() -> None:
    """The more stages to choose from, the more tests to correct for."""
    few = judged(10, bm25=4, base=4, cross=10, blend=10)
    many = judged(10, bm25=4, base=4, pretrained=4, synthetic=4, cross=10, blend=10)
    p = [gate["comparisons"][0]["p_holm"] for gate in (few, many)]
    # By hand: 2 of 64 sign patterns, times 6 and 10 tests.
    assert p == [pytest.approx(12 / 64), pytest.approx(20 / 64)]


def test_the_shortfall_says_by_how_much_and_what_helps() -> None:
    gate = judged(20, bm25=10, base=0, cross=4, blend=12)
    said = shortfall(gate)
    assert "20 queries" in said and "(nDCG@10 0.8155)" in said
    assert re.search(r"blend \+0\.0369 \[\+0\.0000, \+0\.\d{4}\], p 0\.500", said)
    # Holm by hand: 2/4096 (blend, base), 2/64 (cross, bm25) times 3, 2/16 times 2, 2/4.
    assert re.search(r"cross -0\.1107 \[-0\.\d{4}, -0\.\d{4}\], p 0\.094", said)
    assert f"about {gate['queries_needed']['blend']:,} queries" in said
    assert gate["queries_needed"]["cross"] is None
    assert "--pretrain" in said and "the blend instead" in said
    pretrained = judged(20, bm25=10, base=0, pretrained=0, cross=4, blend=4)
    assert "--pretrain" not in shortfall(pretrained) and "no gain yet" in shortfall(pretrained)


def test_queries_needed_by_hand() -> None:
    # Mean 0.05, standard deviation 0.2 (n - 1): ((1.9600 + 0.8416) * 0.2 / 0.05)^2 = 125.6
    spread = 0.2 * (49 / 50) ** 0.5
    b = {f"q{n}": 0.05 + (spread if n % 2 else -spread) for n in range(50)}
    a = dict.fromkeys(b, 0.0)
    assert queries_needed(a, b) == 126
    # Two tests: 2.2414 in place of 1.9600, so 152.1.
    assert queries_needed(a, b, tests=2) == 153
    assert queries_needed(b, a) is None
    assert queries_needed(a, a) is None
    # A difference without any spread still needs enough queries for 2 / 2**n to be small.
    assert queries_needed({"q": 0.0}, {"q": 0.1}) == 6
    assert queries_needed({"q": 0.0}, {"q": 0.1}, tests=4) == 8


def test_compared_together_they_are_corrected_together() -> None:
    values = {"a": {f"q{n}": 0.0 for n in range(8)}, "b": {f"q{n}": 1.0 for n in range(8)}}
    rows = compare_all(values, [("a", "b"), ("b", "a"), ("a", "a")], measure="m")
    assert [row["p_holm"] for row in rows] == pytest.approx([6 / 256, 6 / 256, 1])
    assert [is_better(row) for row in rows] == [True, False, False]
    assert [(row["baseline"], row["profile"], row["measure"]) for row in rows][1] == ("b", "a", "m")


def with_report(checkpoint: Checkpoint, **more: object) -> Checkpoint:
    """The checkpoint with more in its training report."""
    path = checkpoint.path / Checkpoint.MARKER
    write_json(path, {**read_json(path, what="checkpoint"), **more})
    write_hashes(checkpoint.path)
    return Checkpoint.open(checkpoint.path)


@pytest.fixture
def checkpoint(tiny_bert: Path, tmp_path: Path) -> Checkpoint:
    return checkpoint_of(tiny_bert, tmp_path / "checkpoint")


def test_a_model_that_is_not_better_is_refused_without_force(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    gate = judged(20, bm25=10, base=0, cross=4, blend=12)
    checkpoint = with_report(checkpoint, gate=gate, recommended_profile="bm25")
    with pytest.raises(ExportError, match=r"neither blend nor cross .* 20 queries .* --force"):
        export(checkpoint, tmp_path / "bundle")
    command = ["export", str(checkpoint.path), "--out", str(tmp_path / "bundle")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "blend +0.0369" in error and "What usually helps" in error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert main([*command, "--force", "--json"]) == 0
    assert '"verdict": "not_better", "forced": true' in capsys.readouterr().out
    bundle = read_json(tmp_path / "bundle/bundle.json", what="bundle")
    assert bundle["forced"] and bundle["verdict"] == "not_better"


def test_a_model_that_passed_needs_no_force(checkpoint: Checkpoint, tmp_path: Path) -> None:
    gate = judged(20, bm25=0, base=0, cross=20, blend=20)
    bundle = export(with_report(checkpoint, gate=gate), tmp_path / "bundle", force=True)
    assert (bundle.verdict, bundle.forced) == ("passed", False)


def test_without_cross_validation_export_warns_and_goes_on(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = {"queries": 10, "bm25": 0.41, "cross": 0.3, "blend": 0.44}
    checkpoint = with_report(checkpoint, gate=unknown(10), held_out=held_out)
    with caplog.at_level(logging.WARNING, logger="ranker.export.relevance"):
        bundle = export(checkpoint, tmp_path / "bundle")
    said = caplog.text
    assert "10 held-out queries (nDCG@10 bm25 0.4100, cross 0.3000, blend 0.4400)" in said
    assert "--cv 5" in said
    assert (bundle.verdict, bundle.forced) == ("unknown", False)


def test_a_report_older_than_the_gate_is_unknown() -> None:
    assert verdict_of({}) == "unknown"
    assert "--cv 5" in caution({})
