"""Checkpoint to bundle: an ONNX model that Vespa loads, proven equal to the trained one.

Three things make the graph cheap at serve time without changing a logit.  It begins by cutting
its inputs to the longest pair of the batch (Vespa always hands over all slots, padded); its last
layer is computed for CLS only where the family allows; and it is one file of opset 17 and IR 8,
which every Vespa since 8.100 loads.
"""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker import __version__
from ranker.artifacts.bundle import Bundle, Checkpoint, write_hashes
from ranker.contract import vespa_names
from ranker.contract.encode import ModelInputs, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ExportError, first_line, require
from ranker.export.graph import trim_padding
from ranker.export.score import open_session
from ranker.files import check_replaceable, new_folder, write_json, write_text
from ranker.metrics.gate import caution, shortfall, verdict_of
from ranker.model.base import load_weights, tensors
from ranker.model.card import card, origin_card
from ranker.model.forward import forward_of

__all__ = ["IR_VERSION", "OPSET", "TOLERANCE", "export", "parity", "probe_pairs"]

logger = logging.getLogger(__name__)

OPSET = 17
IR_VERSION = 8
TOLERANCE = 1e-4
"""Largest difference of a logit between torch and ONNX Runtime that is let through."""

Pair = tuple[Sequence[int], Sequence[int]]


def export(
    checkpoint: Checkpoint,
    out: Path,
    *,
    pairs: Sequence[Pair] = (),
    opset: int = OPSET,
    force: bool = False,
) -> Bundle:
    """Write the bundle of a checkpoint, if it passed the ship gate or has no verdict.

    Args:
        checkpoint: what training left, or a cross-encoder that others trained
            (`ranker.model.interchange`).
        out: the bundle's folder.
        pairs: token ids of real query-document pairs to check with; made-up ones are always
            added.
        opset: version of the ONNX operator set.
        force: export a model that is not better than BM25, too; the bundle says so.

    Raises:
        ExportError: the model is not better than BM25, cannot be exported, or is not equal to
            torch.
        ArtifactError: `out` holds something else, or the weights have no head.
    """
    check_replaceable(out, Bundle.MARKER)
    forced = _pass_gate(checkpoint, force=force)
    model = load_weights(checkpoint.path, own_head=True).eval()
    _require_small(model)
    with new_folder(out, replace_marker=Bundle.MARKER) as folder:
        graph, last_layer = _graph(model, checkpoint.spec, opset=opset)
        _save(graph, folder / "model.onnx", checkpoint.spec)
        all_pairs = [*probe_pairs(checkpoint.spec), *pairs]
        check = parity(model, folder / "model.onnx", checkpoint.spec, all_pairs)
        check.update(opset=opset, ir_version=IR_VERSION, last_layer=last_layer)
        write_json(folder / "parity.json", check)
        write_json(folder / "spec.json", checkpoint.spec.to_dict())
        write_text(folder / "tokenizer.json", checkpoint.tokenizer_json)
        write_json(folder / Bundle.MARKER, _about(checkpoint, forced=forced))
        if "versions" in checkpoint.training:  # else it is older than the model card
            write_text(
                folder / Bundle.CARD, card(checkpoint.training, name=out.name, forced=forced)
            )
        elif "origin" in checkpoint.training:
            write_text(folder / Bundle.CARD, origin_card(checkpoint.training["origin"], out.name))
        write_hashes(folder)
    return Bundle.open(out)


def probe_pairs(spec: TokenSpec, *, count: int = 64, seed: int = 0) -> list[Pair]:
    """Made-up pairs of every length, the edge cases first: empty sides, both sides full."""
    draw = np.random.default_rng(seed)
    specials = {0, spec.cls_id, spec.sep_id, spec.pad_id}
    ids = np.array([i for i in range(min(spec.vocabulary_size, 50_000)) if i not in specials])

    def side(length: int) -> list[int]:
        return [int(i) for i in draw.choice(ids, length)]

    full_query, full_document = spec.query_tokens, spec.document_tokens
    lengths = [(0, 0), (0, full_document), (full_query, 0), (full_query, full_document), (1, 1)]
    while len(lengths) < count:
        lengths.append(
            (int(draw.integers(0, full_query + 1)), int(draw.integers(0, full_document + 1)))
        )
    return [(side(query), side(document)) for query, document in lengths]


def parity(model: Any, onnx_file: Path, spec: TokenSpec, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Compare torch and ONNX Runtime, as Vespa calls it (padded, one pair) and in batches.

    Raises:
        ExportError: a logit differs by more than `TOLERANCE`, or is not a number.
    """
    session = open_session(onnx_file, threads=1)
    queries, documents = [list(q) for q, _ in pairs], [list(d) for _, d in pairs]
    padded = pair_inputs(spec, queries, documents, length=spec.length)
    truth = _torch_logits(model, padded, spec)
    batched = _onnx_logits(session, padded)
    single = np.concatenate(
        [
            _onnx_logits(session, {k: v[at : at + 1] for k, v in padded.items()})
            for at in range(len(pairs))
        ]
    )
    differences = {
        "batch": float(np.abs(batched - truth).max()),
        "one_pair": float(np.abs(single - truth).max()),
        "all_zero_mask": _zero_mask_difference(model, session, spec),
    }
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= TOLERANCE:  # also true for NaN
        row = int(np.argmax(np.abs(single - truth)))
        raise ExportError(
            f"the exported model differs from the trained one by {differences[worst]:.2g} "
            f"({worst}; allowed {TOLERANCE:g}); worst pair: {len(queries[row])} query and "
            f"{len(documents[row])} document tokens, torch {truth[row]:.6f}, "
            f"ONNX {single[row]:.6f}"
        )
    return {"pairs": len(pairs), "tolerance": TOLERANCE, "largest_difference": differences}


def _zero_mask_difference(model: Any, session: Any, spec: TokenSpec) -> float:
    """A row without any token, as an engine's probe sends it: computed as one padding token."""
    zeros = pair_inputs(spec, [[]], [[]], length=spec.length)
    zeros = {name: np.zeros_like(array) for name, array in zeros.items()}
    one = {name: array[:, :1] for name, array in zeros.items()}
    one["attention_mask"] = np.ones_like(one["attention_mask"])
    return float(np.abs(_onnx_logits(session, zeros) - _torch_logits(model, one, spec)).max())


def _torch_logits(model: Any, inputs: ModelInputs, spec: TokenSpec) -> npt.NDArray[np.float32]:
    torch = require("torch", extra="export")
    with torch.inference_mode():
        rows = []
        for at in range(0, len(inputs["input_ids"]), 32):
            part = {name: array[at : at + 32] for name, array in inputs.items()}
            rows.append(model(**tensors(part, spec, "cpu")).logits[:, 0].float().numpy())
    return np.concatenate(rows)


def _onnx_logits(session: Any, inputs: ModelInputs) -> npt.NDArray[np.float32]:
    feeds = {given.name: inputs[given.name] for given in session.get_inputs()}
    try:
        logits: npt.NDArray[np.float32] = session.run(None, feeds)[0][:, 0]
    except Exception as error:  # ONNX Runtime's own classes
        raise ExportError(
            f"ONNX Runtime cannot compute the exported model, so it cannot be served: "
            f"{first_line(error)}"
        ) from error
    return logits


def _pass_gate(checkpoint: Checkpoint, *, force: bool) -> bool:
    """Whether the export is forced.

    Raises:
        ExportError: the model is not better than BM25 and nobody forces it out.
    """
    verdict = verdict_of(checkpoint.training)
    if "origin" in checkpoint.training:
        origin = checkpoint.training["origin"]
        cautions = [f"{origin['name']}: {line}" for line in origin["cautions"]]
        for line in (_untrained(origin), *cautions):
            logger.warning("%s", line)
        return False
    if verdict == "unknown":
        logger.warning("%s", caution(checkpoint.training))
    if verdict != "not_better":
        return False
    if not force:
        raise ExportError(
            f"{checkpoint.path} is not exported: {shortfall(checkpoint.training['gate'])}; "
            "--force exports it all the same"
        )
    logger.warning("exported by force: %s", shortfall(checkpoint.training["gate"]))
    return True


def _require_small(model: Any) -> None:
    """Refuse a model whose weights alone are too large, before anything is computed.

    Raises:
        ExportError: says how large it is.
    """
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size >= vespa_names.LARGEST_MODEL:
        raise ExportError(
            f"{type(model).__name__} has {size / 1e9:.1f} GB of weights in fp32; ONNX and Vespa "
            f"take models below {vespa_names.LARGEST_MODEL / 1e9:.1f} GB: name a smaller "
            "cross-encoder, or train one with this as its --teacher"
        )


def _untrained(origin: Mapping[str, Any]) -> str:
    """What is not known of a cross-encoder that others trained, and how to know it."""
    return (
        f"{origin['name']} was not trained by ranker: the blend's weight is 1.0, not learned, so "
        "the recommended profile is cross, and whether it is better than BM25 is not known; "
        "`ranker evaluate` measures it, `ranker train --base` learns from judged queries, and the "
        "weight with it"
    )


def _about(checkpoint: Checkpoint, *, forced: bool) -> dict[str, Any]:
    training = checkpoint.training
    origin = training.get("origin")
    return {
        "blend_weight": training["blend_weight"],
        "recommended_profile": training["recommended_profile"],
        "verdict": verdict_of(training),
        "forced": forced,
        "base": training["arguments"]["base"],
        "ranker_version": __version__,
        "origin": origin,
        "training": training if origin is None else None,
    }


def _graph(model: Any, spec: TokenSpec, *, opset: int) -> tuple[Any, str]:
    """The ONNX graph, and whether its last layer is computed for CLS only or in full."""
    onnx = require("onnx", extra="export")
    module, last_layer = forward_of(model, segments=spec.segments, fused=False)
    names = list(vespa_names.ONNX_INPUTS if spec.segments else vespa_names.ONNX_INPUTS[:2])
    probe = pair_inputs(spec, [[5, 6], [7]], [[8, 9, 10], [11]])
    buffer = io.BytesIO()
    torch = require("torch", extra="export")
    try:
        with _quiet():
            torch.onnx.export(
                module.eval(),
                tuple(torch.from_numpy(probe[name]) for name in names),
                buffer,
                input_names=names,
                output_names=[vespa_names.ONNX_OUTPUT],
                dynamic_axes={
                    **{name: {0: "batch", 1: "sequence"} for name in names},
                    vespa_names.ONNX_OUTPUT: {0: "batch"},
                },
                opset_version=opset,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises whatever the model's code raises
        raise ExportError(
            f"torch cannot export {type(model).__name__} to ONNX opset {opset}: {first_line(error)}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    trim_padding(graph, names)
    return graph, last_layer


def _save(graph: Any, path: Path, spec: TokenSpec) -> None:
    onnx = require("onnx", extra="export")
    graph.ir_version = IR_VERSION
    graph.producer_name, graph.producer_version = "ranker", __version__
    for key, value in (
        (vespa_names.ONNX_FINGERPRINT, spec.fingerprint),
        (vespa_names.ONNX_SPEC, spec.to_json()),
    ):
        graph.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def _quiet() -> Any:
    """No warnings of the exporter: what it may get wrong is measured right after."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    return warnings.catch_warnings(action="ignore")
