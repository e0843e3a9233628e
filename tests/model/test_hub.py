"""Which files of a hub model are fetched."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import filter_repo_objects

from ranker.model.hub import fetch

WANTED = {
    "config.json",
    "tokenizer.json",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "modules.json",
    "README.md",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "3_LayerNorm/config.json",
}
WEIGHTS = {"model-00001-of-00002.safetensors", "2_Dense/model.safetensors"}
OTHERS = {
    ".gitattributes",
    "onnx/model.onnx",
    "onnx/config.json",
    "openvino/openvino_model.json",
    "coreml/float32_model.mlpackage/Manifest.json",
    "checkpoint-500/model.safetensors",
    "checkpoint-500/config.json",
    "2024-05-01/model.safetensors",
    "10_epochs/model.safetensors",
    "2_Dense/onnx/config.json",
    "pytorch_model.bin",
    "tf_model.h5",
}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub of one model, with the hub client's own filter in place of a download."""

    def download(name: str, *, allow_patterns: Any, ignore_patterns: Any, **_: Any) -> str:
        files = sorted(WANTED | WEIGHTS | OTHERS)
        for file in filter_repo_objects(
            files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        ):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return tmp_path


@pytest.mark.parametrize("weights", [True, False])
def test_a_model_is_fetched_with_its_modules_and_without_other_folders(
    weights: bool, folder: Path
) -> None:
    fetch("someone/modular", weights=weights)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == WANTED | (WEIGHTS if weights else set())
