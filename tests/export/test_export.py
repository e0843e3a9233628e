import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from checkpoints import checkpoint_of
from families import FAMILIES, make_family

from ranker.artifacts.bundle import Bundle, Checkpoint, write_hashes
from ranker.artifacts.calibration import Calibration
from ranker.contract import vespa_names
from ranker.contract.encode import Encoder, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError, ExportError, SpecMismatch
from ranker.export import to_onnx
from ranker.export.reranker import Reranker
from ranker.export.score import Scorer, open_session
from ranker.export.to_onnx import TOLERANCE, export, parity, probe_pairs
from ranker.files import write_json
from ranker.model.base import load_weights, tensors


@pytest.fixture(scope="module")
def checkpoint(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return checkpoint_of(tiny_bert, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(checkpoint, tmp_path_factory.mktemp("bundles") / "bundle")


def torch_logits(model: torch.nn.Module, spec: TokenSpec, pairs: list) -> np.ndarray:
    with torch.inference_mode():
        rows = [
            model(**tensors(pair_inputs(spec, [q], [d]), spec, "cpu")).logits.item()
            for q, d in pairs
        ]
    return np.array(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_torch(family: str, tmp_path: Path) -> None:
    model = make_family(family, tmp_path / "model")
    bundle = export(checkpoint_of(model, tmp_path / "checkpoint"), tmp_path / "bundle")
    pairs = probe_pairs(bundle.spec, count=30, seed=5)
    expected = torch_logits(load_weights(model).eval(), bundle.spec, pairs)
    session = open_session(bundle.model, threads=1)
    inputs = pair_inputs(
        bundle.spec, [q for q, _ in pairs], [d for _, d in pairs], length=bundle.spec.length
    )
    feeds = {given.name: inputs[given.name] for given in session.get_inputs()}
    assert np.abs(session.run(None, feeds)[0][:, 0] - expected).max() < TOLERANCE
    assert expected.std() > 1e-3


def test_the_file_is_what_vespa_loads(bundle: Bundle) -> None:
    graph = onnx.load(bundle.model, load_external_data=False)
    assert graph.ir_version == 8
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.graph.input, *graph.graph.output]
    }
    assert dims == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
        "token_type_ids": ["batch", "sequence"],
        "logits": ["batch", 1],
    }
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.graph.initializer)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata[vespa_names.ONNX_FINGERPRINT] == bundle.spec.fingerprint
    assert TokenSpec.from_dict(json.loads(metadata[vespa_names.ONNX_SPEC])) == bundle.spec


def test_padding_costs_nothing_and_changes_nothing(bundle: Bundle) -> None:
    """The graph cuts its inputs itself: the same logit, bit for bit, however far it is padded."""
    session = open_session(bundle.model, threads=1)
    short = pair_inputs(bundle.spec, [[201, 202]], [[203, 204, 205]])
    padded = pair_inputs(bundle.spec, [[201, 202]], [[203, 204, 205]], length=128)
    assert session.run(None, short)[0] == session.run(None, padded)[0]


def test_the_check_is_saved(bundle: Bundle) -> None:
    check = json.loads((bundle.path / "parity.json").read_text())
    assert check["pairs"] >= 64 and check["opset"] == 17 and check["last_layer"] == "cls"
    assert set(check["largest_difference"]) == {"batch", "one_pair", "all_zero_mask"}
    assert bundle.blend_weight == 2.0 and bundle.recommended_profile == "blend"


def test_a_calibration_goes_with_the_model(tiny_bert: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tiny_bert, tmp_path / "checkpoint")
    known = {"slope": 1.5, "intercept": -4.25}
    report = checkpoint.training | {"calibration": {**known, "brier": 0.1}, "uncalibrated": None}
    write_json(checkpoint.path / "training.json", report)
    write_hashes(checkpoint.path)
    made = export(Checkpoint.open(checkpoint.path), tmp_path / "bundle")
    assert made.calibration == Calibration(**known) and made.about["calibration"] == known
    assert made.uncalibrated is None
    pairs = [("red fox", "a fox"), ("read a file", "reading")]
    expected = 1 / (1 + np.exp(-(1.5 * Reranker(made).score(pairs).astype(float) - 4.25)))
    for source in (made, checkpoint.path):
        np.testing.assert_allclose(Reranker(source).probabilities(pairs), expected, atol=1e-4)


def test_a_bundle_says_why_it_is_uncalibrated(bundle: Bundle) -> None:
    assert bundle.calibration is None
    assert bundle.uncalibrated == "it was made by a version of ranker without calibration"


def test_a_model_that_is_not_equal_is_refused(checkpoint: Checkpoint, bundle: Bundle) -> None:
    other = load_weights(checkpoint.path).eval()
    with torch.no_grad():
        other.classifier.bias += 0.01
    with pytest.raises(ExportError, match=r"differs from the trained one by 0\.01"):
        parity(other, bundle.model, bundle.spec, probe_pairs(bundle.spec))
    with torch.no_grad():
        other.classifier.bias.fill_(float("nan"))
    with pytest.raises(ExportError, match="differs"):
        parity(other, bundle.model, bundle.spec, probe_pairs(bundle.spec))


def test_a_row_without_any_token_must_have_a_number(
    checkpoint: Checkpoint, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mean over no token would not be: NaN is larger than any other difference."""
    model = load_weights(checkpoint.path).eval()
    monkeypatch.setattr(to_onnx, "_zero_mask_difference", lambda *_: float("nan"))
    with pytest.raises(ExportError, match=r"differs from the trained one by nan \(all_zero_mask"):
        parity(model, bundle.model, bundle.spec, probe_pairs(bundle.spec))


def test_nothing_half_written_stays_after_a_refusal(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot export .* opset 99"):
        export(checkpoint, tmp_path / "bundle", opset=99)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_found(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bundle = export(checkpoint, tmp_path / "bundle")
    with bundle.model.open("r+b") as file:
        file.seek(1000)
        file.write(b"x")
    with pytest.raises(ArtifactError, match=r"model\.onnx was changed after it was made"):
        Bundle.open(bundle.path)
    bundle.model.unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        Bundle.open(bundle.path)


def test_probe_pairs_begin_with_the_edge_cases(bundle: Bundle) -> None:
    sizes = [(len(q), len(d)) for q, d in probe_pairs(bundle.spec)]
    assert sizes[:4] == [(0, 0), (0, 95), (30, 0), (30, 95)] and len(sizes) == 64


def test_scorer_equals_torch_in_the_order_given(checkpoint: Checkpoint, bundle: Bundle) -> None:
    encoder = Encoder(bundle.spec, bundle.tokenizer_json)
    query = encoder.query_ids("quick brown fox")
    documents = [ids for _, ids in probe_pairs(bundle.spec, count=70, seed=9)]
    model = load_weights(checkpoint.path).eval()
    expected = torch_logits(model, bundle.spec, [(query, ids) for ids in documents])
    for threads in (1, 2):
        scorer = Scorer(bundle.model, bundle.spec, threads=threads)
        assert np.abs(scorer.logits(query, documents) - expected).max() < TOLERANCE
        assert scorer.logits(query, []).shape == (0,)
        scorer.close()


def test_scorer_refuses_another_contract_and_what_is_no_model(
    bundle: Bundle, tmp_path: Path
) -> None:
    other = TokenSpec.from_dict({**bundle.spec.to_dict(), "document_slots": 64})
    with pytest.raises(SpecMismatch, match="export the model again"):
        Scorer(bundle.model, other)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="cannot be loaded by ONNX Runtime"):
        Scorer(tmp_path / "model.onnx", bundle.spec)
