"""The exported graph: nodes that trim its padding."""

from collections.abc import Sequence
from typing import Any

from ranker.errors import require

__all__ = ["trim_padding"]


def trim_padding(graph: Any, names: Sequence[str]) -> None:
    """Put nodes before the graph that slice every input to the longest attention mask.

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
