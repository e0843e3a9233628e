import xml.etree.ElementTree
from pathlib import Path

import pytest
from engine_support import make_app, tiny_spec

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import default_profiles
from ranker.contract import vespa_names
from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError, UsageError
from ranker.package.application import (
    DEFAULT_SPEC,
    Package,
    default_texts,
    differences,
    render,
    write_default,
)

ROOT = Path(__file__).parents[2]


def texts(**changes: object) -> dict[str, str]:
    spec = TokenSpec.from_dict({**DEFAULT_SPEC.to_dict(), **changes})
    return render(spec, default_profiles(1.5))


def test_the_committed_application_is_what_the_code_writes() -> None:
    committed = {p for p in (ROOT / "vespa_app").rglob("*") if p.is_file()}
    expected = default_texts()
    assert differences(ROOT / "vespa_app", expected) == []
    assert committed == {ROOT / "vespa_app" / name for name in expected}


def test_differences_are_named(tmp_path: Path) -> None:
    write_default(tmp_path)
    expected = default_texts()
    assert differences(tmp_path, expected) == []
    (tmp_path / "services.xml").write_text("<services/>")
    (tmp_path / "schemas/doc.sd").unlink()
    found = differences(tmp_path, expected)
    assert len(found) == 2
    assert any("services.xml differs" in line for line in found)
    assert any("doc.sd is missing" in line for line in found)


def test_sizes_follow_the_contract_everywhere() -> None:
    made = texts(query_slots=20, document_slots=50)
    assert "tensor<float>(d0[49])" in made["schemas/doc.sd"]
    assert "tensor<float>(d0[18])" in made["schemas/doc/cross.profile"]
    assert "tokenInputIds(70, " in made["schemas/doc/cross.profile"]
    assert "d0[18]" in made["search/query-profiles/types/root.xml"]
    assert not any("128" in text or "d0[95]" in text or "d0[30]" in text for text in made.values())


def test_a_profile_file_begins_with_its_name() -> None:
    """Vespa's parser refuses anything before it, a comment as well."""
    for name, text in texts().items():
        if name.endswith(".profile"):
            assert text.startswith(f"rank-profile {Path(name).stem} ")


def test_blend_and_timeout() -> None:
    made = texts()
    assert "bm25(contents) + 1.5 * logit" in made["schemas/doc/blend.profile"]
    assert '<field name="timeout">10</field>' in made["search/query-profiles/default.xml"]
    for name, text in made.items():
        if name.endswith(".xml"):
            xml.etree.ElementTree.fromstring(text.encode())


def test_other_families_get_explicit_tensors() -> None:
    made = texts(cls_id=0, sep_id=2, pad_id=1, separators=2, segments=False)
    profile = made["schemas/doc/cross.profile"]
    assert "tokenInputIds" not in profile and "token_type_ids" not in profile
    assert "if (d1 <= query_length + 2, 2," in profile
    assert "tensor<float>(d0[94])" in made["schemas/doc.sd"]


def test_round_trip_and_damage(tmp_path: Path) -> None:
    app = make_app(tmp_path / "app")
    package = Package.open(app)
    assert package.spec == tiny_spec()
    assert Manifest.from_dict(package.manifest.to_dict()) == package.manifest
    assert package.encoder().query_ids("red fox")
    (app / "schemas/doc.sd").write_text("schema doc {}")
    with pytest.raises(ArtifactError, match=r"doc\.sd was changed after it was made"):
        Package.open(app)


def test_a_client_does_not_read_the_model(tmp_path: Path) -> None:
    app = make_app(tmp_path / "app")
    (app / "files/cross_encoder.onnx").unlink()
    assert Package.open(app, model=False).spec == tiny_spec()
    with pytest.raises(ArtifactError, match=r"cross_encoder\.onnx is missing"):
        Package.open(app)


def test_unknown_profile_names_the_known(tmp_path: Path) -> None:
    manifest = Package.open(make_app(tmp_path / "app")).manifest
    with pytest.raises(UsageError, match="it|has: bm25, cross, cross_global, blend"):
        manifest.profile("colbert")
    assert not manifest.profile(vespa_names.BM25).needs_tokens
    assert manifest.profile(vespa_names.BLEND).needs_tokens


@pytest.mark.parametrize("values", [None, {}, {"application": "x"}])
def test_what_is_not_a_manifest_is_refused(values: object) -> None:
    with pytest.raises(ArtifactError, match="not a manifest"):
        Manifest.from_dict(values)


@pytest.mark.parametrize("name", ["My-App", "", "x" * 21, "9bad", "ü"])
def test_application_names_that_vespa_refuses(name: str) -> None:
    with pytest.raises(UsageError, match="an application's name has at most 20 lower-case"):
        default_texts(name)


def test_a_folder_that_is_not_a_package(tmp_path: Path) -> None:
    message = r"is not an application package of .*: manifest\.json is missing"
    with pytest.raises(ArtifactError, match=message):
        Package.open(tmp_path)
