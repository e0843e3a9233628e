"""A rank profile is stated once: its text, the engine's ranking and verify's scores follow."""

import math
from pathlib import Path

import numpy as np
import pytest
from engine_support import make_bundle
from plugin_support import application

from ranker.artifacts.calibration import Calibration
from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile, default_profiles
from ranker.errors import ArtifactError, UsageError
from ranker.package import application as packages
from ranker.package.into import install, ranking
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.pairs import nasty_pairs

NEW = Profile(
    name="blend_global",
    phase="global",
    bm25_weight=0.5,
    logit_weight=3.0,
    rerank_count=7,
    inherits="cross_global",
)


@pytest.mark.parametrize(
    ("bm25", "logit", "expression"),
    [
        (1.0, 0.0, "bm25(a) + bm25(b)"),
        (0.0, 1.0, "logit"),
        (1.0, 2.0, "bm25(a) + bm25(b) + 2 * logit"),
        (0.5, 1 / 3, "0.5 * (bm25(a) + bm25(b)) + 0.3333333333333333 * logit"),
        (0.0, 0.0, "0"),
    ],
)
def test_the_score_is_that_of_the_expression(bm25: float, logit: float, expression: str) -> None:
    profile = Profile(name="p", phase="second", bm25_weight=bm25, logit_weight=logit)
    assert profile.expression("bm25(a) + bm25(b)") == expression
    known = {"a": 1.25, "b": 2.5, "logit": -3.0}
    value = eval(expression, {"bm25": known.get, "a": "a", "b": "b", "logit": known["logit"]})
    assert profile.score(3.75, -3.0) == value
    assert profile.score(np.array([3.75]), np.array([-3.0])).tolist() == [value]


def test_a_logit_that_is_not_used_may_be_absent() -> None:
    assert default_profiles(2.0)[0].score(1.5, float("nan")) == 1.5


def test_a_new_profile_is_packaged_served_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profiles(weight: float) -> tuple[Profile, ...]:
        return (*default_profiles(weight), NEW)

    for module in (packages, ranking):
        monkeypatch.setattr(module, "default_profiles", profiles)
    bundle = make_bundle(tmp_path / "bundle")
    package = packages.write(bundle, tmp_path / "app")
    assert package.manifest.profile("blend_global") == NEW
    text = (tmp_path / "app/schemas/doc/blend_global.profile").read_text()
    assert text.startswith("rank-profile blend_global inherits cross_global {")
    assert "global-phase {\n        rerank-count: 7\n" in text
    assert "expression: 0.5 * bm25(contents) + 3 * logit\n" in text
    assert "onnx-model" not in text, "inherited"

    shop = application("shop", tmp_path)
    plan = install(bundle, shop, schema="product", text_fields=["title", "description"])
    plan.apply()
    assert plan.installation.manifest.profile("ranker_blend_global").rerank_count == 7
    text = (shop / "schemas/product/ranker_blend_global.profile").read_text()
    assert "expression: 0.5 * (bm25(title) + bm25(description)) + 3 * logit\n" in text

    assert NEW.score(np.array([4.0]), np.array([2.0])).tolist() == [8.0]
    result = check_parity(package, nasty_pairs(40), vespa=None)
    assert result.problems == ()
    assert result.figures["profiles"] == 4 and result.figures["scores_engine"] > 0


def test_the_count_of_a_profile_is_in_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tuple(
        Profile(**{**vars(profile), "rerank_count": 11 + number})
        for number, profile in enumerate(default_profiles(1.0))
    )
    monkeypatch.setattr(packages, "default_profiles", lambda weight: own)
    texts = packages.default_texts()
    assert "rerank-count" not in texts["schemas/doc/bm25.profile"]
    for number, name in enumerate(("cross", "cross_global", "blend"), start=1):
        assert f"rerank-count: {11 + number}\n" in texts[f"schemas/doc/{name}.profile"]


@pytest.mark.parametrize(
    ("slope", "intercept", "expression"),
    [
        (1.5, -4.25, "sigmoid(1.5 * logit - 4.25)"),
        (0.000012, 3.0, "sigmoid(1.2e-05 * logit + 3.0)"),
        (2.0, 0.0, "sigmoid(2.0 * logit + 0.0)"),
    ],
)
def test_the_probability_is_that_of_the_expression(
    slope: float, intercept: float, expression: str
) -> None:
    calibration = Calibration(slope=slope, intercept=intercept)
    assert calibration.expression == expression
    for logit in (-3.0, 0.0, 2.5):
        names = {"logit": logit, "sigmoid": lambda x: 1 / (1 + math.exp(-x))}
        assert calibration.probability(logit) == pytest.approx(eval(expression, names), rel=1e-12)


def test_a_probability_never_overflows() -> None:
    calibration = Calibration(slope=1.0, intercept=0.0)
    assert calibration.probability(1e6) == 1.0
    assert calibration.probability(-1e6) == 0.0
    assert math.isnan(calibration.probability(math.nan))


@pytest.mark.parametrize(
    "values",
    [
        {"slope": 0.0, "intercept": 1.0},
        {"slope": -1.0, "intercept": 1.0},
        {"slope": math.inf, "intercept": 1.0},
        {"slope": "1", "intercept": 1.0},
        {"slope": 1.0},
        [1.0, 2.0],
    ],
)
def test_calibrations_that_cannot_be(values: object, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"bundle\.json.*calibration"):
        make_bundle(tmp_path / "bundle", calibration=values)
    manifest = packages.write(make_bundle(tmp_path / "good"), tmp_path / "app").manifest.to_dict()
    with pytest.raises(ArtifactError, match="not a manifest of ranker"):
        Manifest.from_dict({**manifest, "calibration": values})


def test_the_profiles_of_a_calibrated_model_have_its_probability(tmp_path: Path) -> None:
    known = {"slope": 1.5, "intercept": -4.25}
    bundle = make_bundle(tmp_path / "bundle", calibration=known)
    package = packages.write(bundle, tmp_path / "app")
    assert package.manifest.calibration == Calibration(**known)
    assert package.manifest.uncalibrated is None
    function = (
        "    function probability() {\n        expression: sigmoid(1.5 * logit - 4.25)\n    }\n"
    )
    texts = {path.stem: path.read_text() for path in (tmp_path / "app/schemas/doc").iterdir()}
    assert {name for name in texts if function in texts[name]} == {"cross", "cross_global"}
    assert "    summary-features: logit probability\n" in texts["cross"]
    assert not any("summary-features" in text for name, text in texts.items() if name != "cross")

    shop = application("shop", tmp_path)
    plan = install(bundle, shop, schema="product", text_fields=["title", "description"])
    plan.apply()
    assert plan.installation.manifest.calibration == Calibration(**known)
    added = (shop / "schemas/product/ranker_cross.profile").read_text()
    assert function in added and "summary-features" not in added


def test_an_uncalibrated_model_has_none_and_a_reason(tmp_path: Path) -> None:
    package = packages.write(make_bundle(tmp_path / "bundle"), tmp_path / "app")
    assert package.manifest.calibration is None and package.manifest.uncalibrated == "too few"
    text = (tmp_path / "app/schemas/doc/cross.profile").read_text()
    assert "probability" not in text and "    summary-features: logit\n" in text


def test_a_function_of_the_applications_own_is_in_the_way(tmp_path: Path) -> None:
    shop = application("shop", tmp_path)
    function = "function probability() { expression: 1 }"
    own = f"rank-profile own {{ {function} first-phase {{ expression: probability }} }}"
    (shop / "schemas/product").mkdir(exist_ok=True)
    (shop / "schemas/product/own.profile").write_text(own)
    options = {"schema": "product", "text_fields": ["title", "description"], "inherits": "own"}
    install(make_bundle(tmp_path / "without"), shop, **options)
    bundle = make_bundle(tmp_path / "bundle", calibration={"slope": 1.0, "intercept": 0.0})
    with pytest.raises(UsageError, match="names that the model needs: probability"):
        install(bundle, shop, **options)
