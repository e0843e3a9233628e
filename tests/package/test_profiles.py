"""A rank profile is stated once: its text, the engine's ranking and verify's scores follow."""

from pathlib import Path

import numpy as np
import pytest
from engine_support import make_bundle
from plugin_support import application

from ranker.artifacts.profile import Profile, default_profiles
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
