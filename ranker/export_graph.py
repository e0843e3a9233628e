"""The exported graph: a module that torch can trace, and the nodes that trim its padding."""

from collections.abc import Sequence
from typing import Any

from ranker.errors import require

__all__ = ["exportable", "trim_padding"]


def exportable(model: Any, *, segments: bool) -> tuple[Any, str]:
    """A module with positional inputs and logits [batch, 1] as its one output.

    For encoders built like BERT (BERT, RoBERTa, XLM-R, ELECTRA ...) the layers are written out,
    the last one for CLS only, which is exact: a head on CLS reads nothing else.  Other families
    are traced as they are.

    Returns:
        The module, and "cls" or "full" for its last layer.
    """
    torch = require("torch", extra="export")
    if _built_like_bert(model):
        return _BertLike(torch, model, segments=segments), "cls"
    model.set_attn_implementation("eager")
    return _Plain(torch, model, segments=segments), "full"


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


def _built_like_bert(model: Any) -> bool:
    base = model.base_model
    layers = getattr(getattr(base, "encoder", None), "layer", None)
    if not layers or not hasattr(base, "embeddings") or not hasattr(model, "classifier"):
        return False
    parts = ("attention", "intermediate", "output")
    self_attention = getattr(getattr(layers[0], "attention", None), "self", None)
    plain = all(hasattr(self_attention, name) for name in ("query", "key", "value"))
    known = model.config.model_type in {"bert", "roberta", "xlm-roberta", "electra", "camembert"}
    relative = getattr(model.config, "position_embedding_type", "absolute") != "absolute"
    return known and plain and not relative and all(hasattr(layers[0], part) for part in parts)


def _BertLike(torch: Any, model: Any, *, segments: bool) -> Any:  # noqa: N802 - makes a class
    """BERT's layers written out, so that the last one can be computed for CLS only."""
    base = model.base_model
    heads = model.config.num_attention_heads

    class BertLike(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            kinds = {"token_type_ids": token_type_ids} if segments else {}
            hidden = base.embeddings(input_ids=input_ids, **kinds)
            if hasattr(base, "embeddings_project"):
                hidden = base.embeddings_project(hidden)
            hidden_mask = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * -1e9
            layers = list(base.encoder.layer)
            for layer in layers[:-1]:
                hidden = _layer(torch, layer, hidden, hidden, hidden_mask, heads)
            hidden = _layer(torch, layers[-1], hidden[:, :1], hidden, hidden_mask, heads)
            pooler = getattr(base, "pooler", None)
            return model.classifier(pooler(hidden) if pooler is not None else hidden)

    return BertLike().eval()


def _layer(torch: Any, layer: Any, asking: Any, hidden: Any, mask: Any, heads: int) -> Any:
    """One encoder layer for the positions `asking` [batch, some, width] over all of `hidden`."""
    attention = layer.attention.self

    def split(states: Any) -> Any:
        return states.view(states.shape[0], states.shape[1], heads, -1).transpose(1, 2)

    query = split(attention.query(asking))
    key, value = split(attention.key(hidden)), split(attention.value(hidden))
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + mask
    mixed = (torch.softmax(scores, dim=-1) @ value).transpose(1, 2)
    mixed = mixed.reshape(asking.shape[0], asking.shape[1], -1)
    attended = layer.attention.output(mixed, asking)
    return layer.output(layer.intermediate(attended), attended)


def _Plain(torch: Any, model: Any, *, segments: bool) -> Any:  # noqa: N802 - makes a class
    """The model as it is, with named arguments: by position they could bind in another order."""

    class Plain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            kinds = {"token_type_ids": token_type_ids} if segments else {}
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **kinds).logits

    return Plain().eval()
