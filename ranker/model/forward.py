"""The computation of a cross-encoder, for training and export: outputs [pairs, outputs] only.

For encoders built like BERT (BERT, RoBERTa, XLM-R, ELECTRA, CamemBERT) the layers are written
out, for a head on CLS the last one for CLS only.  That is exact, since such a head reads nothing
else, and saves most of a layer; with attention dropout off, a training step took 0.95 s where the
library's own forward took 1.35 s (2.58 s with attention dropout): 48 pairs of 64 tokens, bfloat16,
2 cores.  Other families are computed by the library itself.
"""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ranker.errors import require
from ranker.model.heads.similarity import SimilarityHead

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

__all__ = ["forward_of"]

Attend: TypeAlias = "Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]"
"""Attention of query, key and value [pairs, heads, tokens, width], with a bias that is added to
their products [pairs, 1, 1 or tokens, tokens]."""
Layers: TypeAlias = "Callable[[Tensor, Tensor, slice], Tensor]"
"""All layers of an encoder, of embeddings [pairs, tokens, width] and a bias as above; of the last
layer only the positions of the slice are computed."""

FAMILIES = {"bert", "camembert", "electra", "roberta", "xlm-roberta"}


class _EncoderLayer(Protocol):
    """A layer of an encoder built like BERT, as far as it is used here."""

    attention: Any  # with `self` and `output`; each family has a class of its own
    intermediate: "Callable[[Tensor], Tensor]"
    output: "Callable[[Tensor, Tensor], Tensor]"


def forward_of(
    model: "PreTrainedModel", *, segments: bool, fused: bool, checkpointing: bool = False
) -> "tuple[Module, str]":
    """Return a module `(input_ids, attention_mask[, token_type_ids]) -> outputs [pairs, outputs]`.

    It shares the model's weights.

    Args:
        model: a transformers model for sequence classification.
        segments: whether it takes token_type_ids.
        fused: use torch's fused attention, which is fast, instead of plain products, which export
            well.
        checkpointing: in training, compute each layer's activations again for the gradient
            instead of keeping them (Chen et al. 2016, arXiv:1604.06174).

    Returns:
        The module, and "cls" or "full": for which positions its last layer is computed.
    """
    torch = require("torch", extra="train")
    if _built_like_bert(model):
        layers = _bert_layers(model, fused=fused, checkpointing=checkpointing)
        if SimilarityHead.stored(model.config):
            return _similarity(torch, model, layers), "full"
        head = _cls_head(model)
        if head is not None:
            return _on_cls(torch, model, layers, head, segments=segments), "cls"
    encoder: Any = model.base_model
    if checkpointing:
        # The second name is that of the first releases of transformers 5; later ones warn of it.
        renamed = getattr(encoder, "activation_checkpointing_enable", None)
        (renamed or encoder.gradient_checkpointing_enable)({"use_reentrant": False})
    encoder.set_attn_implementation("sdpa" if fused and encoder._supports_sdpa else "eager")
    return _plain(torch, model, segments=segments), "full"


def _built_like_bert(model: "PreTrainedModel") -> bool:
    config, base = model.config, model.base_model
    layers = getattr(getattr(base, "encoder", None), "layer", None)
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    if config.model_type not in FAMILIES or not layers or not absolute:
        return False
    attention = getattr(layers[0].attention, "self", None)
    return all(hasattr(attention, name) for name in ("query", "key", "value"))


def _cls_head(model: Any) -> "Callable[[Tensor], Tensor] | None":
    """Return the function of CLS [pairs, 1, width] that a head is; None if it reads more."""
    if hasattr(model, "cls_head"):
        own = model.cls_head
        return None if own is None else lambda cls: own(cls[:, 0])
    pooler = getattr(model.base_model, "pooler", None)
    return lambda cls: model.classifier(cls if pooler is None else pooler(cls))


def _bert_layers(model: "PreTrainedModel", *, fused: bool, checkpointing: bool) -> Layers:
    """Return a function that computes all layers of an encoder built like BERT."""
    base: Any = model.base_model
    attend = _fused_attention if fused else _plain_attention
    again = require("torch.utils.checkpoint", extra="train").checkpoint

    def compute(
        layer: _EncoderLayer, asking: "Tensor", hidden: "Tensor", bias: "Tensor"
    ) -> "Tensor":
        if not (checkpointing and model.training):
            return _layer(layer, asking, hidden, bias, attend)
        computed: Tensor = again(_layer, layer, asking, hidden, bias, attend, use_reentrant=False)
        return computed

    def layers(hidden: "Tensor", bias: "Tensor", last: slice) -> "Tensor":
        if hasattr(base, "embeddings_project"):
            hidden = base.embeddings_project(hidden)
        every = list(base.encoder.layer)
        for layer in every[:-1]:
            hidden = compute(layer, hidden, hidden, bias)
        return compute(every[-1], hidden[:, last], hidden, bias)

    return layers


def _on_cls(
    torch: ModuleType,
    model: "PreTrainedModel",
    layers: Layers,
    head: "Callable[[Tensor], Tensor]",
    *,
    segments: bool,
) -> "Module":
    """Compute an encoder built like BERT with a head on CLS."""
    base: Any = model.base_model

    class OnCls(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: "Tensor",
            attention_mask: "Tensor",
            token_type_ids: "Tensor | None" = None,
        ) -> "Tensor":
            kinds = {"token_type_ids": token_type_ids} if segments else {}
            hidden = base.embeddings(input_ids=input_ids, **kinds)
            bias = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * -1e9
            cls = layers(hidden, bias, slice(1))
            if not torch.is_autocast_enabled(cls.device.type):
                return head(cls)
            # In single precision: half of a hundred logits in bfloat16 would be ties.
            with torch.autocast(cls.device.type, enabled=False):
                return head(cls.float())

    return OnCls()


def _similarity(torch: ModuleType, model: Any, layers: Layers) -> "Module":
    """Compute an encoder built like BERT with the head on similarity."""
    base = model.base_model

    class Similarity(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: "Tensor", attention_mask: "Tensor") -> "Tensor":
            pairs = model.arrange(input_ids, attention_mask)
            hidden = base.embeddings(input_ids=pairs.ids, position_ids=pairs.positions)
            logits: Tensor = model.score(layers(hidden, pairs.bias, slice(None)), pairs)
            return logits

    return Similarity()


def _layer(
    layer: _EncoderLayer, asking: "Tensor", hidden: "Tensor", bias: "Tensor", attend: Attend
) -> "Tensor":
    """Compute one encoder layer for the positions `asking` [pairs, some, width] of `hidden`."""
    attention = layer.attention.self
    heads = attention.num_attention_heads

    def split(states: "Tensor") -> "Tensor":
        return states.view(states.shape[0], states.shape[1], heads, -1).transpose(1, 2)

    mixed = attend(
        split(attention.query(asking)),
        split(attention.key(hidden)),
        split(attention.value(hidden)),
        bias,
    )
    mixed = mixed.transpose(1, 2).reshape(asking.shape[0], asking.shape[1], -1)
    attended = layer.attention.output(mixed, asking)
    return layer.output(layer.intermediate(attended), attended)


def _fused_attention(query: "Tensor", key: "Tensor", value: "Tensor", bias: "Tensor") -> "Tensor":
    # On a CPU its gradient takes eight times that of plain products, a fifth of a training step.
    if query.requires_grad and query.device.type == "cpu":
        return _plain_attention(query, key, value, bias)
    functional = require("torch.nn.functional", extra="train")
    mixed: Tensor = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=bias.to(query.dtype)
    )
    return mixed


def _plain_attention(query: "Tensor", key: "Tensor", value: "Tensor", bias: "Tensor") -> "Tensor":
    scores: Tensor = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    return (scores + bias.to(scores.dtype)).softmax(dim=-1) @ value


def _plain(torch: ModuleType, model: "PreTrainedModel", *, segments: bool) -> "Module":
    """Call the model with named arguments: by position they could bind in another order."""

    class Plain(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: "Tensor",
            attention_mask: "Tensor",
            token_type_ids: "Tensor | None" = None,
        ) -> "Tensor":
            kinds = {"token_type_ids": token_type_ids} if segments else {}
            # CLS always counts, so that a mean over a row without any token, such as Vespa's probe,
            # is a number.
            mask = torch.cat([torch.ones_like(attention_mask[:, :1]), attention_mask[:, 1:]], dim=1)
            result = self.model(input_ids=input_ids, attention_mask=mask, **kinds)
            logits: Tensor = result.logits
            return logits

    return Plain()
