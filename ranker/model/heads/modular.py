"""Cross-encoders that sentence-transformers saves as modules: an encoder, its pooling, a head.

modules.json names a Transformer, a Pooling (of CLS, or the mean) and layers (Dense, LayerNorm), of
which the last is a Dense that writes one score.  The Ettin rerankers are saved so.  Each module
has a folder of its own, such as 2_Dense; the Transformer's files are next to modules.json.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ranker.errors import ArtifactError, first_line, require
from ranker.files import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

__all__ = ["Modules", "add_head", "is_modular", "module_files", "read_modules"]

_MODULES = "modules.json"
_SETTINGS = "config.json"
_WEIGHTS = "model.safetensors"
_TRANSFORMER = "sentence_bert_config.json"
_WHAT = "cross-encoder"
_SCORES = "scores"
_EMBEDDING = "sentence_embedding"
_FOLDER = re.compile(r"[0-9]_\w+")
"""Folders of modules, of which `ranker.model.hub` fetches the same ones."""
_POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Settings of a Pooling before sentence-transformers 5.4, each true or false."""
_LAST_HIDDEN_STATES: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "processing_kwargs": {},
}
"""Settings of a Transformer with which it computes the encoder's last hidden states."""


@dataclass(frozen=True)
class _Layer:
    """A layer of the head.

    Attributes:
        row: its row of modules.json.
        settings: its config.json.
    """

    row: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The kind of layer: Dense or LayerNorm."""
        return _kind(self.row)


@dataclass(frozen=True)
class Modules:
    """What modules.json and the modules' own settings say.

    Attributes:
        folder: where they are.
        rows: the rows of modules.json.
        pooling: "cls" or "mean".
        pooling_settings: config.json of the Pooling.
        layers: what follows it.
    """

    folder: Path
    rows: tuple[Mapping[str, Any], ...]
    pooling: str
    pooling_settings: Mapping[str, Any]
    layers: tuple[_Layer, ...]


def is_modular(folder: Path) -> bool:
    """Return whether a folder's last module is a Dense that writes scores."""
    rows = _rows(folder)
    if len(rows) < 2 or _kind(rows[-1]) != "Dense":
        return False
    return _settings(folder, rows[-1]).get("module_output_name") == _SCORES


def module_files(folder: Path) -> list[str]:
    """Return the files of the modules of a modular cross-encoder, by their path in its folder.

    They are those that `read_modules` and `add_head` read; none for another model.
    """
    if not is_modular(folder):
        return []
    files = (_SETTINGS, _WEIGHTS)
    modules = [f"{row.get('path')}/{name}" for row in _rows(folder)[1:] for name in files]
    names = [_MODULES, _TRANSFORMER, *modules]
    return [name for name in names if (folder / name).is_file()]


def read_modules(folder: Path) -> Modules:
    """Read the modules of a folder that `is_modular`.

    Raises:
        ArtifactError: a module is another one or has other settings than ranker computes, or its
            files cannot be read.
    """
    rows = _rows(folder)
    kinds = [_kind(row) for row in rows]
    known = kinds[:2] == ["Transformer", "Pooling"] and set(kinds[2:]) <= {"Dense", "LayerNorm"}
    own = [str(row.get("type")) for row in rows if not _is_library(row)]
    if not known or own:
        raise ArtifactError(
            f"{folder / _MODULES}: expected the modules Transformer, Pooling and then Dense and "
            f"LayerNorm of sentence-transformers, got {', '.join(own or kinds)}; ranker does not "
            "compute others, nor code of a model's own"
        )
    for row in rows[1:]:
        if not _FOLDER.fullmatch(str(row.get("path"))):
            raise ArtifactError(
                f"{folder / _MODULES}: expected a {_kind(row)} in a folder such as "
                f"2_{_kind(row)}, got the path {row.get('path')!r}"
            )
    _check_transformer(folder, rows[0])
    pooling = _settings(folder, rows[1])
    layers = tuple(_Layer(row, _settings(folder, row)) for row in rows[2:])
    for layer in layers:
        _check_layer(folder, layer, last=layer is layers[-1])
    return Modules(folder, tuple(rows), _pooling(folder, rows[1], pooling), pooling, layers)


def add_head(encoder: Any, modules: Modules) -> Any:
    """Return the model of an encoder and the head in its modules' files.

    Its forward takes input_ids and attention_mask [pairs, tokens], and token_type_ids where the
    encoder does, and returns an object with `logits` [pairs, 1].

    Raises:
        ArtifactError: the weights of the head cannot be read, or do not fit.
    """
    torch = require("torch", extra="train")
    layers = []
    width = encoder.config.hidden_size
    for layer in modules.layers:
        module, width = _built(torch, modules.folder, layer, width)
        layers.append(module)
    return _model(torch, encoder, torch.nn.Sequential(*layers), modules)


def _model(torch: ModuleType, encoder: Any, layers: "Module", modules: Modules) -> Any:
    outputs = require("transformers.modeling_outputs", extra="train")

    class ModularCrossEncoder(torch.nn.Module):  # type: ignore[misc, name-defined]
        base_model_prefix = "encoder"

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.config, self.layers = encoder, encoder.config, layers

        @property
        def base_model(self) -> Any:
            return self.encoder

        @property
        def cls_head(self) -> "Module | None":
            """The head, if it reads nothing but CLS [pairs, width]."""
            return self.layers if modules.pooling == "cls" else None

        def forward(
            self, input_ids: "Tensor", attention_mask: "Tensor", **segments: "Tensor"
        ) -> Any:
            hidden = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask, **segments
            ).last_hidden_state
            if not torch.is_autocast_enabled(hidden.device.type):
                return self._scored(hidden, attention_mask)
            with torch.autocast(hidden.device.type, enabled=False):  # see `forward.py`
                return self._scored(hidden.float(), attention_mask)

        def _scored(self, hidden: "Tensor", mask: "Tensor") -> Any:
            if modules.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                weights = mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
            return outputs.SequenceClassifierOutput(logits=self.layers(pooled))

        def save_pretrained(self, folder: Path) -> None:
            """Write the model as `CrossEncoder(folder)` loads it, without its tokenizer."""
            self.encoder.save_pretrained(folder)
            _save_modules(folder, modules, self.layers)

    return ModularCrossEncoder()


def _save_modules(folder: Path, modules: Modules, layers: Any) -> None:
    torch_files = require("safetensors.torch", extra="train")
    write_json(folder / _MODULES, list(modules.rows))
    write_json(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder"})
    settings = [modules.pooling_settings, *(layer.settings for layer in modules.layers)]
    for row, values in zip(modules.rows[1:], settings, strict=True):
        (folder / row["path"]).mkdir(exist_ok=True)
        write_json(folder / row["path"] / _SETTINGS, dict(values))
    for layer, module in zip(modules.layers, layers, strict=True):
        state = {name: value.contiguous() for name, value in module.state_dict().items()}
        torch_files.save_file(state, folder / layer.row["path"] / _WEIGHTS)


def _built(torch: ModuleType, folder: Path, layer: _Layer, width: int) -> "tuple[Module, int]":
    """Return a layer with its weights, whose names are sentence-transformers', and its width."""
    settings, nn = layer.settings, torch.nn
    path = folder / layer.row["path"] / _WEIGHTS
    try:
        parts: dict[str, Any] = {}
        if layer.kind == "LayerNorm":
            given = after = int(settings["dimension"])
            parts["norm"] = nn.LayerNorm(after)
        else:
            given, after = int(settings["in_features"]), int(settings["out_features"])
            parts["linear"] = nn.Linear(given, after, bias=bool(settings.get("bias", True)))
            parts["activation_function"] = _activation(nn, path, settings)
        if given != width:
            raise ValueError(f"it takes {given} values, what is before it gives {width}")
        module = nn.Sequential(OrderedDict(parts))
        weights = require("safetensors.torch", extra="train").load_file(path)
        shapes = [
            {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            for tensors in (module.state_dict(), weights)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(f"expected the weights {shapes[0]}, got {shapes[1]}")
        module.load_state_dict(weights)
    except ArtifactError:
        raise
    except Exception as error:  # safetensors and torch raise errors of their own
        raise ArtifactError(
            f"the layer {path.parent} cannot be read: {type(error).__name__}: {first_line(error)}"
        ) from error
    return module, after


def _activation(nn: ModuleType, path: Path, settings: Mapping[str, Any]) -> "Module":
    """Return a layer's activation; without one, sentence-transformers takes Tanh.

    Raises:
        ArtifactError: it is not one of torch's own, or needs arguments, which are not saved.
    """
    named = str(settings.get("activation_function", "torch.nn.Tanh"))
    package, _, name = named.rpartition(".")
    found = getattr(nn, name, None)
    home = getattr(found, "__module__", "")
    if found is not nn.Identity and home != "torch.nn.modules.activation":
        found = None
    try:
        if found is None or package not in (home, "torch.nn"):
            raise TypeError("it is not an activation of torch.nn")
        activation: Module = found()
    except TypeError as error:
        raise ArtifactError(
            f"{path.parent / _SETTINGS}: expected an activation of torch.nn without arguments, "
            f"such as torch.nn.modules.activation.GELU, got {named}: {first_line(error)}"
        ) from error
    return activation


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of modules.json; none if there is no such list of rows."""
    path = folder / _MODULES
    value = read_json(path, what=_WHAT) if path.is_file() else []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return []
    return value


def _kind(row: Mapping[str, Any]) -> str:
    return str(row.get("type")).rsplit(".", 1)[-1]


def _is_library(row: Mapping[str, Any]) -> bool:
    return str(row.get("type")).startswith("sentence_transformers.")


def _settings(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a module's config.json; an empty one where there is none.

    Raises:
        ArtifactError: it is not a JSON object.
    """
    file = folder / str(row.get("path")) / _SETTINGS
    value = read_json(file, what=_WHAT) if file.is_file() else {}
    if not isinstance(value, dict):
        raise ArtifactError(f"{file}: expected a JSON object, got a {type(value).__name__}")
    return value


def _check_transformer(folder: Path, row: Mapping[str, Any]) -> None:
    """Raise ArtifactError for a Transformer that is elsewhere, or computes something else."""
    file = folder / _TRANSFORMER
    settings = read_json(file, what=_WHAT) if file.is_file() else {}
    if row.get("path") != "":
        raise ArtifactError(
            f"{folder / _MODULES}: expected the Transformer's files next to it, got the path "
            f"{row.get('path')!r}"
        )
    for key, expected in _LAST_HIDDEN_STATES.items():
        actual = settings.get(key, expected)
        if actual != expected:
            raise ArtifactError(
                f"{file}: expected a Transformer of a text's last hidden states ({key} "
                f"{expected!r}), got {key} {actual!r}"
            )


def _pooling(folder: Path, row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the mode of a Pooling.

    Raises:
        ArtifactError: it is neither CLS nor mean.
    """
    older = [mode for key, mode in _POOLING_MODES.items() if settings.get(key)]
    modes = settings.get("pooling_mode", older or "mean")
    if isinstance(modes, list) and len(modes) == 1:
        modes = modes[0]
    if modes not in ("cls", "mean"):
        raise ArtifactError(
            f"{folder / str(row['path']) / _SETTINGS}: expected the pooling mode cls or mean, got "
            f"{modes}"
        )
    return str(modes)


def _check_layer(folder: Path, layer: _Layer, *, last: bool) -> None:
    """Raise ArtifactError for a layer that is not computed from the one before it."""
    if layer.kind != "Dense":
        return
    settings = layer.settings
    given = settings.get("module_input_name", _EMBEDDING)
    written = settings.get("module_output_name") or given
    file = folder / layer.row["path"] / _SETTINGS
    if (given, written) != (_EMBEDDING, _SCORES if last else _EMBEDDING):
        raise ArtifactError(
            f"{file}: expected a Dense from {_EMBEDDING} to {_SCORES if last else _EMBEDDING}, got "
            f"one from {given} to {written}"
        )
    if settings.get("use_residual"):
        raise ArtifactError(f"{file}: expected a Dense without a residual, got use_residual true")
    if last and settings.get("out_features") != 1:
        raise ArtifactError(
            f"{file}: expected a last Dense of one output, the score, got "
            f"{settings.get('out_features')}; name a single-logit cross-encoder"
        )
