"""The computation of a cross-encoder, for training and export: outputs [pairs, outputs] only.

For encoders built like BERT (BERT, RoBERTa, XLM-R, ELECTRA, CamemBERT) the layers are written
out, the last one for CLS only.  That is exact, since a head on CLS reads nothing else, and saves
most of a layer; with attention dropout off, a training step took 0.95 s where the library's own
forward took 1.35 s (2.58 s with attention dropout): 48 pairs of 64 tokens, bfloat16, 2 cores.
Other families are computed by the library itself.
"""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ranker.errors import require

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

__all__ = ["forward_of"]

Attend: TypeAlias = "Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]"
"""Attention of query, key and value [pairs, heads, tokens, width]; mask [pairs, 1, 1, tokens]."""

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
    head = _cls_head(model) if _built_like_bert(model) else None
    if head is not None:
        module = _bert_like(
            torch, model, head, segments=segments, fused=fused, checkpointing=checkpointing
        )
        return module, "cls"
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


def _bert_like(
    torch: ModuleType,
    model: "PreTrainedModel",
    head: "Callable[[Tensor], Tensor]",
    *,
    segments: bool,
    fused: bool,
    checkpointing: bool,
) -> "Module":
    base: Any = model.base_model
    attend = _fused_attention if fused else _plain_attention
    again = require("torch.utils.checkpoint", extra="train").checkpoint

    class BertLike(torch.nn.Module):  # type: ignore[misc, name-defined]
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
            if hasattr(base, "embeddings_project"):
                hidden = base.embeddings_project(hidden)
            layers = list(base.encoder.layer)
            for layer in layers[:-1]:
                hidden = self._compute(layer, hidden, hidden, attention_mask)
            cls = self._compute(layers[-1], hidden[:, :1], hidden, attention_mask)
            if not torch.is_autocast_enabled(cls.device.type):
                return head(cls)
            # In single precision: half of a hundred logits in bfloat16 would be ties.
            with torch.autocast(cls.device.type, enabled=False):
                return head(cls.float())

        def _compute(
            self, layer: _EncoderLayer, asking: "Tensor", hidden: "Tensor", mask: "Tensor"
        ) -> "Tensor":
            if not (checkpointing and self.training):
                return _layer(layer, asking, hidden, mask, attend)
            computed: Tensor = again(
                _layer, layer, asking, hidden, mask, attend, use_reentrant=False
            )
            return computed

    return BertLike()


def _layer(
    layer: _EncoderLayer, asking: "Tensor", hidden: "Tensor", mask: "Tensor", attend: Attend
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
        mask[:, None, None, :],
    )
    mixed = mixed.transpose(1, 2).reshape(asking.shape[0], asking.shape[1], -1)
    attended = layer.attention.output(mixed, asking)
    return layer.output(layer.intermediate(attended), attended)


def _fused_attention(query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor") -> "Tensor":
    # On a CPU its gradient takes eight times that of plain products, a fifth of a training step.
    if query.requires_grad and query.device.type == "cpu":
        return _plain_attention(query, key, value, mask)
    functional = require("torch.nn.functional", extra="train")
    mixed: Tensor = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask.bool()
    )
    return mixed


def _plain_attention(query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor") -> "Tensor":
    scores: Tensor = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    scores = scores + (1.0 - mask.to(scores.dtype)) * -1e9
    return scores.softmax(dim=-1) @ value


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
