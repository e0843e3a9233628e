"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) by peft, merged before a save.

All linear layers of the encoder get one; the head, which is new, is trained whole.
"""

from typing import TYPE_CHECKING

from ranker.errors import require

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["add_lora", "merge_lora"]


def add_lora(model: "PreTrainedModel", rank: int) -> None:
    """Add adapters of this rank to a sequence-classification model; only they and the head learn.

    Their output is scaled by alpha / rank = 2.

    Raises:
        MissingExtra: peft is not installed.
    """
    torch = require("torch", extra="train")
    peft = require("peft", extra="lora")
    prefix = f"{model.base_model_prefix}."
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(prefix) and "pooler" not in name
    ]
    head = [p for name, p in model.named_parameters() if _is_head(name, prefix)]
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers)
    peft.inject_adapter_in_model(config, model)
    for parameter in head:
        parameter.requires_grad = True


def merge_lora(model: "PreTrainedModel") -> None:
    """Merge the adapters into the weights and remove them: the model is an ordinary one again."""
    layers = require("peft.tuners.tuners_utils", extra="lora")
    for name, module in list(model.named_modules()):
        if isinstance(module, layers.BaseTunerLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())


def _is_head(name: str, prefix: str) -> bool:
    return not name.startswith(prefix) or ".pooler." in name
