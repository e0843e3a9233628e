"""The ONNX graph of a cross-encoder: made by torch, its padding trimmed, its contract inside.

Two things make it cheap at serve time without changing a logit.  It begins by slicing its inputs
to the longest pair of the batch, because Vespa always passes all slots, padded; and its last layer
is computed for CLS only if the family allows.
"""

import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ranker import __version__
from ranker.contract import vespa_names
from ranker.contract.encode import pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ExportError, first_line, require
from ranker.model.forward import forward_of

if TYPE_CHECKING:
    import onnx
    from transformers import PreTrainedModel

__all__ = ["IR_VERSION", "OPSET", "make_graph", "save_graph"]

OPSET, IR_VERSION = 17, 8
"""Versions of the operators and of the file that every Vespa since 8.100 loads."""


def make_graph(
    model: "PreTrainedModel", spec: TokenSpec, *, opset: int
) -> tuple["onnx.ModelProto", str]:
    """Export a model with one logit.

    Returns:
        The graph, and how its last layer is computed: for CLS only or in full.

    Raises:
        ExportError: torch cannot export the model.
    """
    onnx, torch = require("onnx", extra="export"), require("torch", extra="export")
    module, last_layer = forward_of(model, segments=spec.segments, fused=False)
    probe = pair_inputs(spec, [[5, 6], [7]], [[8, 9, 10], [11]])
    buffer = io.BytesIO()
    try:
        # The exporter warns of what it may get wrong, which the parity check measures.
        with warnings.catch_warnings(action="ignore"):
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                module.eval(),
                tuple(torch.from_numpy(probe[name]) for name in spec.model_inputs),
                buffer,
                input_names=list(spec.model_inputs),
                output_names=[vespa_names.ONNX_OUTPUT],
                dynamic_axes={
                    **{name: {0: "batch", 1: "sequence"} for name in spec.model_inputs},
                    vespa_names.ONNX_OUTPUT: {0: "batch"},
                },
                opset_version=opset,
                dynamo=False,
            )
    except Exception as error:  # the exporter lets any error of the model's code through
        raise ExportError(
            f"torch cannot export {type(model).__name__} to ONNX opset {opset}: {first_line(error)}"
        ) from error
    graph = onnx.load_from_string(buffer.getvalue())
    _trim_padding(graph, spec.model_inputs)
    return graph, last_layer


def save_graph(graph: "onnx.ModelProto", path: Path, spec: TokenSpec) -> None:
    """Check a graph and write it, with the token contract in its metadata."""
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


def _trim_padding(graph: "onnx.ModelProto", names: Sequence[str]) -> None:
    """Add nodes before the graph that slice every input to the longest attention mask.

    `length = max(1, max over the batch of the sum of attention_mask)`; each input becomes
    `input[:, :length]`.  Exact, because masked positions take no part in attention.
    """
    onnx = require("onnx", extra="export")
    helper, tensor = onnx.helper, onnx.TensorProto
    for node in graph.graph.node:
        node.input[:] = [f"{name}_trimmed" if name in names else name for name in node.input]
    constants = {"trim_axis": [1], "trim_zero": [0], "trim_one": [1]}
    nodes = [
        helper.make_node(
            "Constant", [], [name], value=helper.make_tensor(name, tensor.INT64, [1], values)
        )
        for name, values in constants.items()
    ]
    nodes += [
        helper.make_node(
            "ReduceSum", ["attention_mask", "trim_axis"], ["trim_lengths"], keepdims=0
        ),
        helper.make_node("ReduceMax", ["trim_lengths"], ["trim_longest"], keepdims=1),
        helper.make_node("Max", ["trim_longest", "trim_one"], ["trim_length"]),
    ]
    nodes += [
        helper.make_node(
            "Slice", [name, "trim_zero", "trim_length", "trim_axis"], [f"{name}_trimmed"]
        )
        for name in names
    ]
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *rest])
