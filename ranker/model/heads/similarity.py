"""The head on similarity: a cross-encoder that starts as the sentence encoder it is made from.

A sentence encoder with mean pooling already knows which texts are alike, and a new head on CLS
throws that away.  Here the logit is

    scale * cos(mean of the query's positions, mean of the document's positions)

over the last layer of the pair.  The document gets a CLS and positions of its own, and `opening`
is added to the attention logits between the two texts in every layer and head.  With an opening
of minus infinity that is exactly the cosine of the two texts encoded apart; -5 leaves a sentence
encoder's ranking as it is and lets training open the attention between them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError, require
from ranker.files import read_json

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PretrainedConfig

__all__ = [
    "OFFSET_POSITIONS",
    "ArrangedPairs",
    "HeadChoice",
    "SimilarityHead",
    "is_sentence_encoder",
    "sentence_encoder_files",
    "similarity_model",
    "takes_similarity",
]

OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text"}
)
"""Families whose position ids begin after the padding id."""
_FAMILIES = frozenset(
    {"bert", "camembert", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta"}
)
"""Families that take position ids and a bias for each pair of positions."""
HeadChoice = Literal["auto", "similarity", "cls"]
"""Which head to train: on similarity, on CLS, or the one that suits the base model."""
_MODULES = "modules.json"
_KEY = "similarity_head"
_BLOCKED = -1e4
"""Added to the attention logits of padding: no share is left, in half precision as well."""


@dataclass(frozen=True, kw_only=True)
class SimilarityHead:
    """What the head needs besides the encoder; kept in the encoder's config.json.

    Attributes:
        cls_id: special id that the document's part begins with.
        sep_id: special id that ends the query's part.
        separators: separators between query and document in the model's inputs.
        scale: factor of the cosine.
        opening: added to the attention logits between the two texts.
    """

    cls_id: int
    sep_id: int
    separators: int
    scale: float = 20.0
    opening: float = -5.0

    @classmethod
    def of(cls, spec: TokenSpec) -> "SimilarityHead":
        """Return the head for pairs of this contract."""
        return cls(cls_id=spec.cls_id, sep_id=spec.sep_id, separators=spec.separators)

    @classmethod
    def stored(cls, config: "PretrainedConfig") -> "SimilarityHead | None":
        """Return the head that a configuration holds, if there is one.

        Raises:
            ArtifactError: it is not one.
        """
        return cls.of_values(vars(config))

    @classmethod
    def of_values(cls, config: Mapping[str, Any]) -> "SimilarityHead | None":
        """Return the head in the content of a config.json, if there is one.

        Raises:
            ArtifactError: it is not one.
        """
        values = config.get(_KEY)
        if values is None:
            return None
        kinds = {
            field.name: (int, float) if field.type is float else (int,) for field in fields(cls)
        }
        if (
            not isinstance(values, dict)
            or values.keys() != kinds.keys()
            or any(type(values[name]) not in kind for name, kind in kinds.items())
            or values["separators"] not in (1, 2)
        ):
            raise ArtifactError(
                f"config.json: expected a {_KEY} with numbers for {', '.join(kinds)}, "
                f"got {values!r}"
            )
        return cls(**values)

    def store(self, config: "PretrainedConfig") -> None:
        """Put the head into a configuration, to be saved with it."""
        config.update({_KEY: asdict(self)})


class ArrangedPairs(NamedTuple):
    """Pairs as the encoder computes them.

    Attributes:
        ids: token ids [pairs, positions].
        positions: position ids of the same shape.
        bias: what is added to the attention logits [pairs, 1, positions, positions].
        query: the positions whose mean is the query's vector [pairs, positions], 1.0 or 0.0.
        document: likewise of the document.
    """

    ids: "Tensor"
    positions: "Tensor"
    bias: "Tensor"
    query: "Tensor"
    document: "Tensor"


def takes_similarity(config: "PretrainedConfig") -> bool:
    """Return whether an encoder of this family can have the head."""
    return config.model_type in _FAMILIES


def is_sentence_encoder(folder: Path) -> bool:
    """Return whether a model says that it is a sentence encoder with mean pooling.

    That is what sentence-transformers writes to modules.json: a Transformer, a Pooling, and at
    most a Normalize.

    Raises:
        ArtifactError: a file cannot be read.
    """
    return bool(sentence_encoder_files(folder))


def sentence_encoder_files(folder: Path) -> list[str]:
    """Return the files that say so, by their path in the folder; none for another model.

    Raises:
        ArtifactError: one of them cannot be read.
    """
    if not (folder / _MODULES).is_file():
        return []
    rows = _read(folder / _MODULES, list, "a list of modules")
    kinds = [str(row.get("type")).rsplit(".", 1)[-1] for row in rows if isinstance(row, dict)]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return []
    name = f"{rows[1].get('path')}/config.json"
    if not (folder / name).is_file():
        return []
    return [_MODULES, name] if _is_mean(_read(folder / name, dict, "an object")) else []


def _read(path: Path, kind: type, words: str) -> Any:
    """Return the content of a JSON file that holds a value of this kind."""
    content = read_json(path, what="sentence encoder")
    if not isinstance(content, kind):
        raise ArtifactError(f"{path}: expected {words}, got {type(content).__name__}")
    return content


def _is_mean(pooling: Mapping[str, Any]) -> bool:
    """Return whether a Pooling takes the mean; its older files have a switch for each mode."""
    if "pooling_mode" in pooling:
        return pooling["pooling_mode"] in ("mean", ["mean"])
    modes = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on]
    return modes == ["pooling_mode_mean_tokens"]


def similarity_model(encoder: Any, head: SimilarityHead) -> "Module":
    """Return a module `(input_ids, attention_mask) -> an output with logits [pairs, 1]`.

    It has the attributes `config`, `base_model` and `base_model_prefix` and the method
    `save_pretrained` of transformers' models.  The mask of a row is a run of ones, then zeros.

    Args:
        encoder: a transformers encoder without a head; it becomes part of the module.
        head: what turns it into a cross-encoder.
    """
    torch = require("torch", extra="train")
    outputs = require("transformers.modeling_outputs", extra="train")
    head.store(encoder.config)
    offset = encoder.config.model_type in OFFSET_POSITIONS
    first = int(encoder.config.pad_token_id) + 1 if offset else 0
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # never read, and a weight without a gradient stops several GPUs

    class SimilarityModel(torch.nn.Module):  # type: ignore[misc, name-defined]
        base_model_prefix = "encoder"

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.config, self.head = encoder, encoder.config, head

        @property
        def base_model(self) -> Any:
            return encoder

        def save_pretrained(self, folder: Path) -> None:
            encoder.save_pretrained(folder)

        def forward(self, input_ids: "Tensor", attention_mask: "Tensor") -> Any:
            pairs = self.arrange(input_ids, attention_mask)
            bias = pairs.bias
            if torch.is_autocast_enabled(bias.device.type):
                bias = bias.to(torch.get_autocast_dtype(bias.device.type))
            hidden = self.encoder(
                input_ids=pairs.ids,
                attention_mask=_of_each_kind(torch, encoder.config, bias),
                position_ids=pairs.positions,
            ).last_hidden_state
            return outputs.SequenceClassifierOutput(logits=self.score(hidden, pairs))

        def arrange(self, input_ids: "Tensor", attention_mask: "Tensor") -> ArrangedPairs:
            return _arrange(torch, head, input_ids, attention_mask, first=first)

        def score(self, hidden: "Tensor", pairs: ArrangedPairs) -> "Tensor":
            return _score(torch, head, hidden, pairs)

    return SimilarityModel()


def _arrange(
    torch: ModuleType,
    head: SimilarityHead,
    input_ids: "Tensor",
    attention_mask: "Tensor",
    *,
    first: int,
) -> ArrangedPairs:
    """Tell query and document apart, and give the document a CLS of its own.

    Position ids begin with `first`.
    """
    ids, always = input_ids, torch.ones_like(attention_mask[:, :1])
    # A row of padding alone is computed as if it had one position.
    mask = torch.cat([always, attention_mask[:, 1:]], 1)
    ends = (ids == head.sep_id).to(torch.int64)
    query_length = ((ends.cumsum(1) - ends) == 0).to(torch.int64).sum(1, keepdim=True)
    earlier = later = ids
    if head.separators == 1:  # of two, the second is where the CLS goes
        column = torch.zeros_like(ids[:, :1])
        earlier, later = torch.cat([ids, column], 1), torch.cat([column, ids], 1)
        mask = torch.cat([always, mask], 1)
    place = torch.arange(mask.shape[1], device=ids.device).unsqueeze(0)
    is_query = place < query_length
    is_cls = place == query_length
    arranged = torch.where(is_query, earlier, later)
    arranged = torch.where(is_cls, torch.full_like(arranged, head.cls_id), arranged)
    across = (is_query.unsqueeze(2) != is_query.unsqueeze(1)).float()
    blocked = (1.0 - mask.float()).unsqueeze(1) * _BLOCKED
    return ArrangedPairs(
        ids=arranged,
        positions=torch.where(is_query, place, place - query_length) + first,
        bias=(across * head.opening + blocked).unsqueeze(1),
        query=is_query.float() * mask,
        document=(~is_query).float() * mask,
    )


def _score(
    torch: ModuleType, head: SimilarityHead, hidden: "Tensor", pairs: ArrangedPairs
) -> "Tensor":
    """Return the logits [pairs, 1] of the last layer [pairs, positions, width]."""
    # In single precision: half of a hundred logits in bfloat16 would be ties.
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.float()
        query, document = (
            (hidden * part.unsqueeze(2)).sum(1) / part.sum(1, keepdim=True).clamp(min=1)
            for part in (pairs.query, pairs.document)
        )
        cosine = torch.nn.functional.cosine_similarity(query, document, dim=1)
        logits: Tensor = head.scale * cosine.unsqueeze(1)
        return logits


def _of_each_kind(torch: ModuleType, config: "PretrainedConfig", bias: "Tensor") -> Any:
    """Return the bias as an encoder takes it; one with sliding windows takes a second one."""
    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return bias
    place = torch.arange(bias.shape[-1], device=bias.device)
    outside = (place.unsqueeze(0) - place.unsqueeze(1)).abs() > config.sliding_window
    windowed = bias + outside.to(bias.dtype) * _BLOCKED
    return {"full_attention": bias, "sliding_attention": windowed}
