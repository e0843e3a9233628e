"""The cross-encoder: a pretrained encoder with a head, its tokenizer and its contract."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ranker.contract.encode import ModelInputs, pair_inputs, spec_of_tokenizer
from ranker.contract.spec import TokenSpec
from ranker.errors import (
    ArtifactError,
    SpecError,
    TrainError,
    UsageError,
    first_line,
    require,
)
from ranker.files import read_json
from ranker.model.heads.modular import add_head, is_modular, read_modules
from ranker.model.heads.similarity import (
    OFFSET_POSITIONS,
    HeadChoice,
    SimilarityHead,
    is_sentence_encoder,
    similarity_model,
    takes_similarity,
)
from ranker.model.heads.two_labels import fold_labels, relevance_labels
from ranker.model.hub import DEFAULT_BASE, fetch, packaged

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch.nn import Module
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = [
    "Base",
    "UnreadableModel",
    "device_of",
    "freeze",
    "load_weights",
    "open_base",
    "predict",
    "quiet",
    "tensors",
]

TokenIds: TypeAlias = "Sequence[int] | npt.NDArray[np.integer[Any]]"

_CROSS_ENCODER = "ForSequenceClassification"


class UnreadableModel(TrainError):
    """A model of which the configuration or the tokenizer cannot be read.

    Attributes:
        reason: what was expected and what came, without the model's name.
        lacks_tokenizer: whether there is no tokenizer.json and none can be made.
    """

    def __init__(self, name: str, reason: str, *, lacks_tokenizer: bool = False) -> None:
        super().__init__(f"base model {name!r}: {reason}")
        self.reason = reason
        self.lacks_tokenizer = lacks_tokenizer


@dataclass(frozen=True)
class Base:
    """A pretrained model that training can start from.

    Attributes:
        name: what the user asked for.
        source: folder that transformers loads.
        tokenizer_json: content of the tokenizer.
        config: transformers' configuration.
        head: the head that it has or gets: `similarity` (`ranker.model.heads.similarity`), or
            `cls` for any other.
    """

    name: str
    source: str
    tokenizer_json: str
    config: Any
    head: Literal["similarity", "cls"] = "cls"

    def spec(
        self,
        *,
        query_slots: int,
        document_slots: int,
        text_fields: Sequence[str] = ("title", "text"),
    ) -> TokenSpec:
        """Return the token contract of this model with these sizes.

        Raises:
            SpecError: the sizes do not fit the model.
        """
        try:
            return self._spec(query_slots, document_slots, text_fields)
        except SpecError as error:
            raise SpecError(f"base model {self.name!r}: {error}") from error

    def similarity(self, spec: TokenSpec) -> SimilarityHead | None:
        """Return the head on similarity for pairs of this contract, if the model has that head."""
        return SimilarityHead.of(spec) if self.head == "similarity" else None

    def _spec(self, query_slots: int, document_slots: int, text_fields: Sequence[str]) -> TokenSpec:
        config = self.config
        positions = int(getattr(config, "max_position_embeddings", 0) or 2**20)
        counted_from_padding = config.model_type in OFFSET_POSITIONS
        if counted_from_padding:
            positions -= int(config.pad_token_id) + 1
        spec = spec_of_tokenizer(
            self.tokenizer_json,
            vocabulary_size=int(config.vocab_size),
            max_positions=positions,
            # A sentence encoder was trained on single texts, without a second segment.
            segments=self.head == "cls" and int(getattr(config, "type_vocab_size", 0) or 0) > 1,
            query_slots=query_slots,
            document_slots=document_slots,
            text_fields=text_fields,
            padding=_padding(Path(self.source)),
        )
        # Elsewhere the model never sees which id its masked positions have.
        if counted_from_padding and spec.pad_id != config.pad_token_id:
            raise SpecError(
                f"its tokenizer pads with the id {spec.pad_id}, config.json has the pad_token_id "
                f"{config.pad_token_id}, from which this family ({config.model_type}) counts its "
                "positions; correct the wrong one"
            )
        return spec


def open_base(base: str, *, head: HeadChoice = "auto", weights: bool = True) -> Base:
    """Find a base model: the packaged MiniLM, a folder, or a Hugging Face id.

    Args:
        base: which.
        head: the head to train; `auto` keeps one that the model has, gives a sentence encoder with
            mean pooling the head on similarity, and every other encoder one on CLS.
        weights: whether to fetch the weights of an id as well.

    Raises:
        UnreadableModel: it cannot be reached, or has no tokenizer.
        UsageError: it cannot have this head.
        MissingExtra: transformers is not installed.
    """
    transformers = require("transformers", extra="train")
    source = str(packaged()) if base == DEFAULT_BASE else base
    try:
        with quiet(transformers):
            if not Path(source).exists():
                source = str(fetch(base, weights=weights))
            config = transformers.AutoConfig.from_pretrained(source)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise UnreadableModel(
            base,
            "expected a folder with config.json or a Hugging Face id that can be reached; "
            f"{first_line(error)}",
        ) from error
    tokenizer_json = _tokenizer_json(transformers, base, source, config)
    return Base(base, source, tokenizer_json, config, _head(base, Path(source), config, head))


def _head(
    name: str, source: Path, config: "PretrainedConfig", wanted: HeadChoice
) -> Literal["similarity", "cls"]:
    """Return the head that a model has or gets."""
    if SimilarityHead.stored(config):
        if wanted == "cls":
            raise UsageError(
                f"base model {name!r} already has a similarity head; leave --head at auto, or "
                "start from the encoder that it was trained from"
            )
        return "similarity"
    if wanted == "similarity" and not takes_similarity(config):
        raise UsageError(
            f"base model {name!r}: the {config.model_type} family cannot have a head on "
            "similarity, which needs attention that takes a bias between the two texts; "
            "use --head cls"
        )
    if wanted != "auto":
        return wanted
    if (config.architectures or [""])[0].endswith(_CROSS_ENCODER) or not takes_similarity(config):
        return "cls"
    return "similarity" if is_sentence_encoder(source) else "cls"


def load_weights(
    source: str | Path,
    *,
    outputs: int = 1,
    dropout: float | None = None,
    similarity: SimilarityHead | None = None,
    own_head: bool = False,
) -> Any:
    """Load an encoder with its head; the head is new where the source has none of that size.

    A head of two labels, not relevant and relevant, counts as one of a single output: it becomes
    the difference of their logits.  The head of a modular cross-encoder of sentence-transformers
    is that of its modules.  The model is `Any` since methods of the library's classes, such as
    `eval`, have no types.

    Args:
        source: folder or hub id.
        outputs: number of values in the head.
        dropout: of the hidden states and the head, with none in attention, where it halves the
            speed of a CPU; None leaves what the source says.
        similarity: the head on similarity to give to an encoder, whose head is then left out; one
            that the source has stays as it is.
        own_head: refuse a source without such a head.

    Raises:
        ArtifactError: the weights cannot be read, are not those of the configuration, or lack the
            head that must be theirs.
    """
    similarity = _stored_similarity(source) or similarity
    if similarity:
        encoder, loaded = _load(source, "AutoModel", dropout=dropout)
        _require_encoder(encoder, loaded, source, prefix="")
        return similarity_model(encoder, similarity)
    if outputs == 1 and is_modular(Path(source)):
        modules = read_modules(Path(source))
        encoder, loaded = _load(source, "AutoModel", dropout=dropout)
        _require_encoder(encoder, loaded, source, prefix="")
        return add_head(encoder, modules)
    classifier = "AutoModelForSequenceClassification"
    if outputs == 1 and _has_relevance_labels(source):
        model, loaded = _load(source, classifier, outputs=2, dropout=dropout)
        if own_head or not _lacking(loaded):
            _require_encoder(model, loaded, source, prefix=f"{model.base_model_prefix}.")
            _require_head(loaded, source, outputs=2)
            fold_labels(model, source)
            return model
    model, loaded = _load(source, classifier, outputs=outputs, dropout=dropout)
    _require_encoder(model, loaded, source, prefix=f"{model.base_model_prefix}.")
    if own_head:
        _require_head(loaded, source, outputs)
    return model


def _stored_similarity(source: str | Path) -> SimilarityHead | None:
    """Return the head on similarity of a checkpoint, if it has one.

    Raises:
        ArtifactError: its configuration cannot be read.
    """
    path = Path(source) / "config.json"
    values = read_json(path, what="model") if path.is_file() else {}
    return SimilarityHead.of_values(values) if isinstance(values, dict) else None


def _load(
    source: str | Path, kind: str, *, outputs: int | None = None, dropout: float | None
) -> tuple[Any, dict[str, Any]]:
    """Return a model of one of transformers' automatic classes, and what it says of its loading.

    Raises:
        ArtifactError: the weights cannot be read.
    """
    transformers = require("transformers", extra="train")
    labels = {} if outputs is None else {"num_labels": outputs}
    try:
        with quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(str(source), **labels)
            if dropout is not None:
                _set_dropout(config, dropout)
            model, loaded = getattr(transformers, kind).from_pretrained(
                str(source),
                config=config,
                dtype="float32",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported in our own words below
            )
    except Exception as error:  # safetensors and torch raise errors of their own
        raise ArtifactError(
            f"the weights of {source} cannot be read: {first_line(error)}"
        ) from error
    return model, loaded


def _require_encoder(
    model: "PreTrainedModel", loaded: dict[str, Any], source: str | Path, *, prefix: str
) -> None:
    """Raise ArtifactError for weights that leave a part of the encoder random.

    The names of the encoder's weights begin with `prefix`.
    """
    other = {
        key: f"{tuple(actual)}, expected {tuple(wanted)}"
        for key, actual, wanted in loaded["mismatched_keys"]
    }
    shapes = {**dict.fromkeys(loaded["missing_keys"], "missing"), **other}
    wrong = sorted(key for key in shapes if key.startswith(prefix) and ".pooler." not in f".{key}")
    if wrong:
        raise ArtifactError(
            f"the weights of {source} do not fit its config.json ({model.config.model_type}): "
            f"{len(wrong)} of the encoder's are missing or of another shape, the first: "
            f"{wrong[0]} ({shapes[wrong[0]]}); name a base model whose files belong together"
        )


def _require_head(loaded: dict[str, Any], source: str | Path, outputs: int) -> None:
    """Raise ArtifactError for weights without a head of this size."""
    lacking = _lacking(loaded)
    if lacking:
        shapes = {key: f"{tuple(actual)}" for key, actual, _ in loaded["mismatched_keys"]}
        logits = "single-logit cross-encoder" if outputs == 1 else f"model of {outputs} logits"
        raise ArtifactError(
            f"{source} is not a {logits}: {lacking[0]} is {shapes.get(lacking[0], 'missing')} in "
            "its weights; a plain encoder or a head of another size cannot be used"
        )


def _lacking(loaded: dict[str, Any]) -> list[str]:
    """Return the weights that are missing or of another shape."""
    return sorted({*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])})


def _set_dropout(config: "PretrainedConfig", dropout: float) -> None:
    for name, value in vars(config).items():
        if "dropout" in name and (value is None or isinstance(value, float)):
            setattr(config, name, 0.0 if "att" in name else dropout)


def freeze(model: "PreTrainedModel", what: str) -> None:
    """Keep the weights of the encoder ("base") or of its embeddings as they are.

    Raises:
        TrainError: the model has no such part.
    """
    base = model.base_model
    part = {"base": base, "embeddings": getattr(base, "embeddings", None)}.get(what)
    if part is None:
        raise TrainError(f"{type(model).__name__} has no part {what!r} to freeze")
    for parameter in part.parameters():
        parameter.requires_grad = False


def device_of(model: "Module") -> "device":
    """Return the device of the model's weights."""
    return next(model.parameters()).device


def predict(
    forward: "Module",
    spec: TokenSpec,
    queries_ids: Sequence[TokenIds],
    documents_ids: Sequence[TokenIds],
    *,
    batch: int = 32,
    precision: str = "fp32",
    report: Callable[[int, int], None] = lambda *_: None,
) -> npt.NDArray[np.float32]:
    """Return the outputs [pairs, outputs] of a module of `forward_of`, in batches of like length.

    `report` receives the number of pairs that are done, and of all pairs.
    """
    torch = require("torch", extra="train")
    order = np.argsort([len(q) + len(d) for q, d in zip(queries_ids, documents_ids, strict=True)])
    outputs: npt.NDArray[np.float32] | None = None
    was_training = forward.training
    forward.eval()
    device = device_of(forward)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    cast = torch.autocast(device.type, kind or torch.bfloat16, enabled=kind is not None)
    with torch.inference_mode(), cast:
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            inputs = pair_inputs(
                spec,
                [_plain(queries_ids[row]) for row in rows],
                [_plain(documents_ids[row]) for row in rows],
            )
            batch_outputs = forward(**tensors(inputs, spec, device)).float().cpu().numpy()
            if outputs is None:
                outputs = np.zeros((len(order), batch_outputs.shape[1]), dtype=np.float32)
            outputs[rows] = batch_outputs
            report(min(start + batch, len(order)), len(order))
    forward.train(was_training)
    return np.zeros((0, 1), dtype=np.float32) if outputs is None else outputs


def _plain(ids: TokenIds) -> Sequence[int]:
    """Return ids as Python's integers, which are assembled much faster than numpy's."""
    return ids.tolist() if isinstance(ids, np.ndarray) else ids


def tensors(inputs: ModelInputs, spec: TokenSpec, device: "device | str") -> "dict[str, Tensor]":
    """Return model inputs as tensors on a device, without segments for a model that has none."""
    torch = require("torch", extra="train")
    return {
        name: torch.from_numpy(array).to(device)
        for name, array in inputs.items()
        if spec.segments or name != "token_type_ids"
    }


def _has_relevance_labels(source: str | Path) -> bool:
    transformers = require("transformers", extra="train")
    try:
        config = transformers.AutoConfig.from_pretrained(str(source))
    except Exception:  # as `_load` reports it
        return False
    return relevance_labels(config) is not None


def _padding(folder: Path) -> dict[str, str | int]:
    """Return what a model's files call its padding token: its text, or in config.json its id."""
    said: dict[str, str | int] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json", "config.json"):
        path = folder / name
        values = read_json(path, what="base model") if path.is_file() else {}
        if not isinstance(values, dict):
            continue  # which transformers reports
        token = values.get("pad_token_id" if name == "config.json" else "pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) or (isinstance(token, int) and token >= 0):
            said[name] = token
    return said


def _tokenizer_json(
    transformers: ModuleType, base: str, source: str, config: "PretrainedConfig"
) -> str:
    path = Path(source) / "tokenizer.json"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    try:
        with quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        # Without any file transformers makes an empty tokenizer of the model's class.
        if len(tokenizer) * 2 < config.vocab_size:
            raise ValueError(f"{len(tokenizer)} tokens for a model of {config.vocab_size}")
        return str(tokenizer.backend_tokenizer.to_str())
    except (OSError, ValueError, AttributeError, ImportError, TypeError) as error:
        raise UnreadableModel(
            base,
            "it has no tokenizer that `tokenizers` can read (no tokenizer.json): "
            f"{first_line(error)}",
            lacks_tokenizer=True,
        ) from error


@contextlib.contextmanager
def quiet(transformers: ModuleType) -> Iterator[None]:
    """Silence the progress bars and load reports of transformers, which would break our own."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
