"""Heads of two labels, not relevant and relevant, served as one logit.

The probability of label 1 is sigmoid(logit 1 - logit 0), so the difference of the two logits orders
documents by it.  It is folded into the last linear layer, whose two rows become their difference.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.errors import ArtifactError, require

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["fold_labels", "is_certain", "relevance_labels"]

_CERTAIN = {(f"{no}relevant", "relevant") for no in ("ir", "non", "not", "un")}
"""Pairs of label names, in small letters only, that say which one is relevant."""
_PLAUSIBLE = {("label0", "label1"), ("false", "true"), ("no", "yes"), ("0", "1")}
"""Pairs that leave it to the user to know that label 1 is relevant."""


def relevance_labels(config: "PretrainedConfig") -> tuple[str, str] | None:
    """Return the names of a sequence classification's two labels if the second is relevant.

    Others, such as sentiments and entailment, give None; so does a configuration that does not
    name a head, since two labels are what transformers assumes.
    """
    architecture = str((config.architectures or [""])[0])
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    of_classes = config.problem_type in (None, "single_label_classification")
    if not architecture.endswith("ForSequenceClassification") or config.num_labels != 2:
        return None
    if not of_classes or _plain(names) not in _CERTAIN | _PLAUSIBLE:
        return None
    return names[0], names[1]


def is_certain(labels: Sequence[str]) -> bool:
    """Return whether the names of two labels themselves say that the second is relevant."""
    return _plain(labels) in _CERTAIN


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    """Return names in small letters, without what separates their words."""
    return tuple("".join(filter(str.isalnum, name.lower())) for name in names)


def fold_labels(model: Any, source: str | Path) -> None:
    """Replace the last linear layer of a head of two labels by one of their difference, in place.

    Raises:
        ArtifactError: the head does not end in such a layer.
    """
    torch = require("torch", extra="train")
    encoder = set(model.base_model.modules())
    last = [
        (name, module)
        for name, module in model.named_modules()
        if module not in encoder
        and isinstance(module, torch.nn.Linear)
        and module.out_features == 2
    ]
    if len(last) != 1:
        raise ArtifactError(
            f"{source}: expected a head that ends in one linear layer of two labels, got "
            f"{len(last)} in {type(model).__name__}; name a single-logit cross-encoder"
        )
    name, layer = last[0]
    folded = torch.nn.Linear(layer.in_features, 1, bias=layer.bias is not None)
    with torch.no_grad():
        folded.weight.copy_(layer.weight[1:] - layer.weight[:1])
        if layer.bias is not None:
            folded.bias.copy_(layer.bias[1:] - layer.bias[:1])
    model.set_submodule(name, folded)
    model.config.num_labels = model.num_labels = 1
