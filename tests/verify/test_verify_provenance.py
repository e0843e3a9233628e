"""An existing cross-encoder is compared with torch if it is still there and unchanged."""

import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from families import FAMILIES, make_family

from ranker.artifacts.bundle import Bundle, write_hashes
from ranker.cli import main
from ranker.export.to_onnx import export
from ranker.model.interchange import open_cross_encoder
from ranker.package.application import Package, write
from ranker.verify import CheckResult
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.pairs import nasty_pairs, special_tokens
from ranker.verify.provenance import named_checkpoint

COMMITS = ("0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cross-encoder in models/, and its bundle and app in made/."""
    folder = tmp_path_factory.mktemp("exported")
    make_family("bert", folder / "models" / "tiny")
    package_of(folder / "models" / "tiny", folder / "made")
    return folder


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Path:
    """As `exported`, but in a folder that the test may change."""
    shutil.copytree(exported / "models", tmp_path / "models")
    package_of(tmp_path / "models" / "tiny", tmp_path / "made")
    return tmp_path


def package_of(source: str | Path, made: Path, **slots: int) -> Package:
    return write(export(open_cross_encoder(source, **slots), made / "bundle"), made / "app")


def parity_of(app: Path) -> CheckResult:
    package = Package.open(app)
    pairs = nasty_pairs(40, specials=special_tokens(package.tokenizer_json))
    return check_parity(package, pairs, vespa=None, engine=False)


def other_weights(folder: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias += 0.1
    model.save_pretrained(folder)


def hub_of(folder: Path, models: list[Path]) -> Path:
    """Make the hub's cache with revisions of one model, the last of them as `main`."""
    repository = folder / "hub" / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    for commit, model in zip(COMMITS, models, strict=False):
        shutil.copytree(model, repository / "snapshots" / commit, dirs_exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return folder / "hub"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_compared_with_torch(family: str, tmp_path: Path) -> None:
    source = make_family(family, tmp_path / "models" / family)
    package_of(source, tmp_path / "made", query_slots=24, document_slots=90)
    result = parity_of(tmp_path / "made" / "app")
    assert (result.problems, result.warnings) == ((), ())
    assert result.figures["scores_torch"] == result.figures["scores_onnx"] == 120
    assert 0 < result.figures["largest_score_difference"] < 1e-4


def test_the_command_compares_with_the_folder_that_export_was_given(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It is exported by a relative path, and verified from another working directory."""
    monkeypatch.setenv("PATH", str(own / "nothing"))  # no JDK
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.chdir(own / "models")
    made = own / "by-command"
    assert main(["export", "tiny", "--out", str(made / "bundle")]) == 0
    assert main(["package", str(made / "bundle"), "--out", str(made / "app")]) == 0
    assert Bundle.open(made / "bundle").about["origin"]["source"] == str(own / "models" / "tiny")
    monkeypatch.chdir(made)
    capsys.readouterr()
    command = ["verify", "app", "--pairs", "9", "--json"]
    assert main(command) == 0
    parity = json.loads(capsys.readouterr().out)["checks"][1]
    assert (parity["warnings"], parity["figures"]["scores_torch"]) == ([], 27)

    shutil.rmtree(own / "models")
    assert main(command) == 0
    parity = json.loads(capsys.readouterr().out)["checks"][1]
    assert parity["warnings"] == [
        "not compared with torch: the cross-encoder that the bundle was exported from is gone: "
        f"there is no folder {own / 'models' / 'tiny'}; name it with --checkpoint"
    ]
    assert parity["figures"]["scores_torch"] == 0
    assert parity["figures"]["scores_onnx"] == 27 and parity["figures"]["scores_engine"] > 0


@pytest.mark.parametrize("change", ["weights", "config", "newer weights", "no tokenizer"])
def test_another_model_under_the_same_path_is_not_compared(change: str, own: Path) -> None:
    model = own / "models" / "tiny"
    if change == "newer weights":  # which transformers reads in place of the old ones
        old = transformers.AutoModelForSequenceClassification.from_pretrained(model).state_dict()
        torch.save(old, model / "pytorch_model.bin")
        (model / "model.safetensors").rename(own / "kept")
        package_of(model, own / "made")
        assert parity_of(own / "made" / "app").figures["scores_torch"] == 120
        shutil.copy(own / "kept", model / "model.safetensors")
    elif change == "weights":
        other_weights(model)
    elif change == "config":
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    else:
        (model / "tokenizer.json").unlink()
    file = {"config": "config.json", "no tokenizer": "tokenizer.json"}
    result = parity_of(own / "made" / "app")
    (warning,) = result.warnings
    assert warning.startswith(
        f"not compared with torch: {model} is not the cross-encoder that the bundle was exported "
        f"from: {file.get(change, 'model.safetensors')} has the sha256 "
    )
    assert warning.endswith("; name it with --checkpoint")
    assert (result.problems, result.figures["scores_torch"]) == ((), 0)
    assert result.figures["scores_onnx"] == 120


def test_files_that_are_not_read_do_not_matter(own: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "README.md", "optimizer.pt"):
        (own / "models" / "tiny" / name).write_bytes(b"other weights")
    assert parity_of(own / "made" / "app").figures["scores_torch"] == 120


def test_a_model_that_moved_next_to_its_bundle_is_found(own: Path) -> None:
    (own / "models" / "tiny").rename(own / "made" / "renamed")
    result = parity_of(own / "made" / "app")
    assert (result.warnings, result.figures["scores_torch"]) == ((), 120)


def test_a_hub_id_is_compared_in_the_revision_that_was_exported(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own layout on disk, as after downloads; no network is used."""
    first, second = own / "models" / "tiny", own / "second"
    shutil.copytree(first, second)
    other_weights(second)
    hub = hub_of(own, [first])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    package_of("someone/tiny", own / "made")
    origin = Bundle.open(own / "made" / "bundle").about["origin"]
    assert (origin["source"], origin["revision"]) == ("someone/tiny", COMMITS[0])
    hub_of(own, [first, second])  # main is another model now
    result = parity_of(own / "made" / "app")
    assert (result.problems, result.warnings) == ((), ())
    assert result.figures["scores_torch"] == 120

    package = Package.open(own / "made" / "app")
    named = named_checkpoint(Path("someone/tiny"), package)
    assert named.path.name == COMMITS[0]
    snapshot = hub / "models--someone--tiny" / "snapshots" / COMMITS[0]
    by_path = open_cross_encoder(snapshot).training["origin"]
    assert (by_path["name"], by_path["source"]) == ("someone/tiny", "someone/tiny")
    assert (by_path["folder"], by_path["revision"]) == (False, COMMITS[0])

    shutil.rmtree(snapshot)
    (warning,) = parity_of(own / "made" / "app").warnings
    assert f"revision {COMMITS[0]} of someone/tiny is not in the Hugging Face cache" in warning


def test_a_cross_encoder_named_on_the_command_line_is_compared(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(own / "nothing"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    moved = (own / "models").rename(own / "elsewhere") / "tiny"
    command = ["verify", str(own / "made" / "app"), "--pairs", "3", "--json", "--checkpoint"]
    assert main([*command, str(moved)]) == 0
    assert json.loads(capsys.readouterr().out)["checks"][1]["figures"]["scores_torch"] == 9
    other_weights(moved)
    assert main([*command, str(moved)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "score" in error and "in torch" in error and "in ONNX" in error


def test_without_transformers_the_comparison_is_skipped(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = parity_of(exported / "made" / "app")
    assert "ids and scores of the checkpoint in torch: transformers is not" in result.skipped[0]
    assert (result.problems, result.warnings) == ((), ())


def test_a_bundle_without_a_source_is_searched_for_by_the_saved_options(own: Path) -> None:
    """Older versions saved the path in the options only."""
    bundle = own / "made" / "bundle"
    about = json.loads((bundle / "bundle.json").read_text())
    del about["origin"]["source"]
    (bundle / "bundle.json").write_text(json.dumps(about))
    write_hashes(bundle)
    (warning,) = parity_of(own / "made" / "app").warnings
    assert warning == "not compared with torch: there is no checkpoint; name it with --checkpoint"
    (bundle / "export.toml").write_text(f'[export]\ncheckpoint = "{own}/models/tiny"\n')
    assert parity_of(own / "made" / "app").figures["scores_torch"] == 120
