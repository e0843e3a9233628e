"""Small modular cross-encoders, made and saved by sentence-transformers itself."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from cross_encoders import change
from families import make_family
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

from ranker.contract.vespa_names import ONNX_INPUTS

WIDTH = 32
"""Hidden size of the families."""


def ettin_head() -> list[torch.nn.Module]:
    """The head of the Ettin rerankers, after the pooling."""
    return [
        Dense(WIDTH, WIDTH, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(WIDTH),
        score(),
    ]


def score(width: int = WIDTH, *, bias: bool = True, outputs: int = 1) -> Dense:
    identity = torch.nn.Identity()
    return Dense(
        width, outputs, bias=bias, activation_function=identity, module_output_name="scores"
    )


def make_modular(
    family: str, pooling: str, folder: Path, head: Sequence[torch.nn.Module] | None = None
) -> Path:
    """Write a cross-encoder of random weights with this head and return its folder."""
    base = make_family(family, folder.parent / f"{folder.name}-base")
    if family == "bert":  # as of published ones, its tokenizer marks the second segment
        change(base, "tokenizer_config.json", model_input_names=list(ONNX_INPUTS))
    transformers.AutoModel.from_pretrained(base).save_pretrained(base)
    torch.manual_seed(11)
    layers = ettin_head() if head is None else head
    modules = [Transformer(str(base)), Pooling(WIDTH, pooling), *layers]
    model = CrossEncoder(modules=modules, activation_fn=torch.nn.Identity(), device="cpu")
    with torch.no_grad():  # larger weights, so that a wrong layer shows in the logit
        for layer in modules[2:]:
            for name, parameter in layer.named_parameters():
                parameter.mul_(4) if parameter.dim() > 1 else parameter.add_(len(name) / 20)
    model.save_pretrained(str(folder))
    shutil.rmtree(base)
    return folder
