"""Checkpoint to bundle: an ONNX model that Vespa loads, proven equal to the trained one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ranker import __version__
from ranker.artifacts.bundle import Bundle, Checkpoint, write_hashes
from ranker.contract import vespa_names
from ranker.contract.encode import ModelInputs, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ExportError, first_line, require
from ranker.export.graph import IR_VERSION, OPSET, make_graph, save_graph
from ranker.export.score import open_session
from ranker.export.tasks import EXPORTS
from ranker.files import check_replaceable, new_folder, write_json, write_text
from ranker.model.base import load_weights, tensors
from ranker.model.card import card, origin_card
from ranker.model.task import task_of

if TYPE_CHECKING:
    import onnxruntime
    import torch

__all__ = ["TOLERANCE", "export", "parity", "probe_pairs"]

TOLERANCE = 1e-4
"""Largest accepted difference of an output between torch and ONNX Runtime."""

BATCH = 32
"""Pairs that torch computes at once."""

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
        checkpoint: a trained model, or an existing cross-encoder (`ranker.model.interchange`).
        out: the bundle's folder.
        pairs: token ids of real query-document pairs to check with; synthetic ones are always
            added.
        opset: version of the ONNX operator set.
        force: also export a model that is not better than BM25; the bundle records it.

    Raises:
        ExportError: the model is not better than BM25, cannot be exported, or is not equal to
            torch.
        ArtifactError: `out` holds something else, or the weights have no head.
    """
    check_replaceable(out, Bundle.MARKER)
    task = task_of(checkpoint.training)
    forced = EXPORTS[task.name].pass_gate(checkpoint, force=force)
    model = load_weights(checkpoint.path, outputs=task.outputs, own_head=True).eval()
    _require_small(model)
    with new_folder(out, replace_marker=Bundle.MARKER) as folder:
        graph, last_layer = make_graph(model, checkpoint.spec, opset=opset)
        save_graph(graph, folder / "model.onnx", checkpoint.spec)
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
    """Return synthetic pairs of every length, the edge cases first: empty sides, full sides."""
    random = np.random.default_rng(seed)
    specials = {0, spec.cls_id, spec.sep_id, spec.pad_id}
    ids = np.array([i for i in range(min(spec.vocabulary_size, 50_000)) if i not in specials])

    def side(length: int) -> list[int]:
        return [int(i) for i in random.choice(ids, length)]

    full_query, full_document = spec.query_tokens, spec.document_tokens
    lengths = [(0, 0), (0, full_document), (full_query, 0), (full_query, full_document), (1, 1)]
    while len(lengths) < count:
        lengths.append(
            (int(random.integers(0, full_query + 1)), int(random.integers(0, full_document + 1)))
        )
    return [(side(query), side(document)) for query, document in lengths]


def parity(
    model: "torch.nn.Module", onnx_file: Path, spec: TokenSpec, pairs: Sequence[Pair]
) -> dict[str, Any]:
    """Compare torch and ONNX Runtime, as Vespa calls it (padded, one pair) and in batches.

    Returns:
        The number of pairs, the tolerance, and the largest difference of each kind of call.

    Raises:
        ExportError: an output differs by more than `TOLERANCE`, or is not a number.
    """
    session = open_session(onnx_file, threads=1)
    queries, documents = [list(q) for q, _ in pairs], [list(d) for _, d in pairs]
    padded = pair_inputs(spec, queries, documents, length=spec.length)
    truth = _torch_outputs(model, padded, spec)
    batched = _onnx_outputs(session, padded)
    single = np.concatenate(
        [
            _onnx_outputs(session, {name: array[[row]] for name, array in padded.items()})
            for row in range(len(pairs))
        ]
    )
    differences = {
        "batch": float(np.abs(batched - truth).max()),
        "one_pair": float(np.abs(single - truth).max()),
        "all_zero_mask": _zero_mask_difference(model, session, spec),
    }
    worst = max(differences, key=lambda name: (np.isnan(differences[name]), differences[name]))
    if not differences[worst] <= TOLERANCE:  # also true for NaN
        row = int(np.argmax(np.abs(single - truth).max(axis=1)))
        raise ExportError(
            f"the exported model differs from the trained one by {differences[worst]:.2g} "
            f"({worst}; allowed {TOLERANCE:g}); worst pair: {len(queries[row])} query and "
            f"{len(documents[row])} document tokens, torch {_shown(truth[row])}, "
            f"ONNX {_shown(single[row])}"
        )
    return {"pairs": len(pairs), "tolerance": TOLERANCE, "largest_difference": differences}


def _zero_mask_difference(
    model: "torch.nn.Module", session: "onnxruntime.InferenceSession", spec: TokenSpec
) -> float:
    """Compare a row without any token, as Vespa's probe sends it, with one padding token."""
    zeros = pair_inputs(spec, [[]], [[]], length=spec.length)
    zeros = {name: np.zeros_like(array) for name, array in zeros.items()}
    one = {name: array[:, :1] for name, array in zeros.items()}
    one["attention_mask"] = np.ones_like(one["attention_mask"])
    return float(np.abs(_onnx_outputs(session, zeros) - _torch_outputs(model, one, spec)).max())


def _torch_outputs(
    model: "torch.nn.Module", inputs: ModelInputs, spec: TokenSpec
) -> npt.NDArray[np.float32]:
    torch = require("torch", extra="export")
    with torch.inference_mode():
        rows = []
        for start in range(0, len(inputs["input_ids"]), BATCH):
            part = {name: array[start : start + BATCH] for name, array in inputs.items()}
            rows.append(model(**tensors(part, spec, "cpu")).logits.float().numpy())
    return np.concatenate(rows)


def _onnx_outputs(
    session: "onnxruntime.InferenceSession", inputs: ModelInputs
) -> npt.NDArray[np.float32]:
    feeds = {given.name: inputs[given.name] for given in session.get_inputs()}
    try:
        outputs: npt.NDArray[np.float32] = session.run(None, feeds)[0]
    except Exception as error:  # ONNX Runtime's own classes
        raise ExportError(
            f"ONNX Runtime cannot compute the exported model, so it cannot be served: "
            f"{first_line(error)}"
        ) from error
    return outputs


def _shown(outputs: npt.NDArray[np.float32]) -> str:
    return " ".join(f"{value:.6f}" for value in outputs)


def _require_small(model: "torch.nn.Module") -> None:
    """Refuse a model whose weights alone are too large, before anything is computed.

    Raises:
        ExportError: it is; the message says how large.
    """
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size >= vespa_names.LARGEST_MODEL:
        raise ExportError(
            f"{type(model).__name__} has {size / 1e9:.1f} GB of weights in fp32; ONNX and Vespa "
            f"take models below {vespa_names.LARGEST_MODEL / 1e9:.1f} GB: name a smaller "
            "cross-encoder, or train one with this as its --teacher"
        )


def _about(checkpoint: Checkpoint, *, forced: bool) -> dict[str, Any]:
    training, task = checkpoint.training, task_of(checkpoint.training)
    origin = training.get("origin")
    return {
        "task": task.name,
        **EXPORTS[task.name].about(training),
        "forced": forced,
        "base": training["arguments"]["base"],
        "ranker_version": __version__,
        "origin": origin,
        "training": training if origin is None else None,
    }
