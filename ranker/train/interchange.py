"""Interchange with transformers and sentence-transformers, both ways.

`open_cross_encoder` makes a checkpoint of a cross-encoder that others trained, after checking
that what ranker would serve is what its own libraries compute.  `save_model` writes ours so that
sentence-transformers' `CrossEncoder` loads it and scores equally.

Equal are all pairs that fit the slots, and cut ones whose query fills its slots exactly.  Others
cannot be: the contract cuts query and document each to its own slots, since Vespa stores the
documents' tokens before it knows a query, and `CrossEncoder` cuts the longer of the two until
the pair fits.  An empty document differs, too: transformers takes it for none, and leaves out its
separator.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ranker.bundle import Checkpoint
from ranker.contract import ONNX_INPUTS
from ranker.encode import Encoder, ModelInputs, pair_inputs
from ranker.errors import ExportError, require
from ranker.files import read_json, write_text
from ranker.forward import forward_of
from ranker.model import Base, load_weights, open_base, tensors
from ranker.spec import TokenSpec
from ranker.train.evidence import base_evidence

__all__ = ["TOLERANCE", "is_cross_encoder", "open_cross_encoder", "origin_card", "save_model"]

TOLERANCE = 1e-4
"""Largest difference of a logit between ranker's forward and the library's that is let through."""

_TRANSFORMER = "sentence_bert_config.json"
IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"
_RISING = {"Identity", "Sigmoid", "Tanh"}
"""Activations that keep the order of the logits, by the last part of their name."""

_WHAT = "cross-encoder"
_HEAD = "ForSequenceClassification"
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
_OLD_WEIGHTS = ["pytorch_model*.bin"]
_LONG = " ".join(f"a long text has {number} words and more," for number in range(40))
_TEXTS = [
    ("what is a cross-encoder?", "A model that reads a query and a document together."),
    ("covid-19 vaccine", "Naïve cafés: the 2nd dose (0.5 ml) was given on 2021-03-04."),
    ("東京", "東京は日本の首都です。 Привет, мир."),
    ("a", "b"),
    ("a", _LONG),
    (_LONG, "b"),
]


def is_cross_encoder(source: Path) -> bool:
    """Whether `source` is to be opened here: a model folder or a hub id, no checkpoint of ours."""
    if source.exists():
        ours = any((source / name).exists() for name in (Checkpoint.MARKER, "spec.json"))
        return (source / "config.json").is_file() and not ours
    return bool(_HUB_ID.fullmatch(source.as_posix()))


def open_cross_encoder(
    source: str | Path,
    *,
    query_slots: int = 32,
    document_slots: int = 96,
    text_fields: Sequence[str] = ("title", "text"),
) -> Checkpoint:
    """A trained cross-encoder of one logit as a checkpoint that can be exported.

    Its `training` holds no training but an `origin`: name, revision, licence, hashes of the
    files, and the activation that its own library puts on the logit.  The blend's weight is 1.0,
    since nobody learned one.

    Args:
        source: folder of transformers or sentence-transformers (with or without modules.json), or
            a Hugging Face id.
        query_slots: positions of the query part.
        document_slots: positions of the document part.
        text_fields: fields of a document, in the order in which the model sees them.

    Raises:
        ExportError: it is no cross-encoder of one logit, or its own library computes something
            else than ranker would serve.
        ArtifactError: its weights cannot be read, or its head is not among them.
        TrainError: its configuration or tokenizer cannot be read.
        SpecError: the slots do not fit it.
        MissingExtra: transformers is not installed.
    """
    name, folder = _located(source)
    _check_configuration(name, read_json(folder / "config.json", what=_WHAT))
    base = replace(open_base(str(folder)), name=name)
    if base.config.num_labels != 1:
        labels = ", ".join(str(label) for label in base.config.id2label.values())
        raise ExportError(
            f"{name}: expected a head of one label, a relevance score, got "
            f"{base.config.num_labels} ({labels[:80]}): a classifier; name a cross-encoder of one "
            "logit, or train one from this: `ranker train --base`"
        )
    activation = _activation(name, folder)
    tokenizer = _tokenizer(name, base)
    spec = base.spec(
        query_slots=query_slots, document_slots=document_slots, text_fields=text_fields
    )
    if "token_type_ids" not in tokenizer.model_input_names:
        spec = replace(spec, segments=False)  # it has them, but is never told of a second one
    _check_computation(name, load_weights(folder, own_head=True).eval(), spec, base, tokenizer)
    training = {
        "blend_weight": 1.0,
        "recommended_profile": "cross",
        "arguments": {"base": name},
        "origin": {**_evidence(name, base), "activation": activation},
    }
    return Checkpoint(folder, spec, base.tokenizer_json, training)


def origin_card(origin: Mapping[str, Any], name: str) -> str:
    """The README.md of a bundle whose model others trained: where from, and what is not known.

    Args:
        origin: as `open_cross_encoder` records it.
        name: of the bundle.
    """
    fields = {"license": origin["license"], "pipeline_tag": "text-ranking"}
    if not origin["folder"]:
        fields["base_model"] = origin["name"]
    files = [f"- `{file}`: `{digest}`" for file, digest in sorted(origin["files"].items())]
    revision = f", revision `{origin['revision']}`" if origin["revision"] else ""
    parts = [
        "\n".join(["---", *(f"{key}: {value}" for key, value in fields.items()), "---"]),
        f"# {name}",
        f"The cross-encoder `{origin['name']}`{revision} as ONNX for Vespa, unchanged: others "
        "trained it. Its output is the raw logit; sentence-transformers puts "
        f"`{origin['activation']}` on it.",
        "**Not known to be better than BM25** on your queries: measure it with `ranker evaluate`. "
        "Nobody learned a weight for the blend, so it is 1; `ranker train` learns it.",
        "## Files it was made from (SHA-256)",
        "\n".join(files),
    ]
    return "\n\n".join(parts) + "\n"


def save_model(model: Any, base: Base, spec: TokenSpec, folder: Path) -> None:
    """Write weights, configuration and tokenizer as `CrossEncoder(folder)` loads them.

    Its `predict` then gives the logits, as ranker serves them, of at most `spec.length` tokens.
    """
    transformers = require("transformers", extra="train")
    model.config.sentence_transformers = {"activation_fn": IDENTITY}
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.source)
    tokenizer.model_max_length = spec.length
    names = ONNX_INPUTS if spec.segments else ONNX_INPUTS[:2]
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = list(names)
    tokenizer.save_pretrained(folder)
    write_text(folder / "tokenizer.json", base.tokenizer_json)


def _located(source: str | Path) -> tuple[str, Path]:
    """The model's name, and the folder with its files; a hub id's are brought here.

    Raises:
        ExportError: there is no such folder, and the hub does not have it or cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return path.resolve().name, path
    name = path.as_posix()
    hub = require("huggingface_hub", extra="export")
    try:
        folder = Path(_snapshot(hub, name, _HUB_FILES))
        if not any(folder.glob("*.safetensors")):
            folder = Path(_snapshot(hub, name, [*_HUB_FILES, *_OLD_WEIGHTS]))
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"{name}: expected a folder, or a Hugging Face id that can be reached; {reason}"
        ) from error
    return name, folder


def _snapshot(hub: Any, name: str, patterns: Sequence[str]) -> str:
    """The folder of a hub model's own files, without those below (ONNX and other formats)."""
    folder: str = hub.snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"])
    return folder


def _evidence(name: str, base: Base) -> dict[str, Any]:
    """Name, revision, licence and file hashes; a hub's snapshot folder is named by its commit."""
    evidence = base_evidence(base)
    folder = Path(base.source)
    if folder.name != name and folder.parent.name == "snapshots":
        evidence |= {"folder": False, "revision": folder.name}
    return evidence | {"name": name}


def _check_configuration(name: str, config: Any) -> None:
    """Refuse what is no sequence classification of transformers' own."""
    architectures = config.get("architectures") if isinstance(config, dict) else None
    found = str((architectures or ["none"])[0])
    if not found.endswith(_HEAD):
        raise ExportError(
            f"{name}: expected a cross-encoder (an architecture ...{_HEAD} with one label), got "
            f"{found} in config.json, which has no such head; train one from it: "
            "`ranker train --base`"
        )
    if config.get("auto_map"):
        raise ExportError(
            f"{name}: its config.json asks for code of its own (auto_map), which ranker does not "
            "run; name a model of a family that transformers knows"
        )


def _activation(name: str, folder: Path) -> str:
    """What sentence-transformers puts on the logit, in the order in which it looks for it.

    Raises:
        ExportError: its score is not the logit up to a rising function, or texts are changed
            before they are tokenized.
    """
    config = read_json(folder / "config.json", what=_WHAT)
    modules, saved, transformer = (
        read_json(folder / file, what=_WHAT) if (folder / file).is_file() else {}
        for file in ("modules.json", "config_sentence_transformers.json", _TRANSFORMER)
    )
    _check_modules(name, modules, saved, transformer)
    found = str(
        (saved.get("activation_fn") if modules else None)
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or SIGMOID
    )
    if found.rsplit(".", 1)[-1] not in _RISING:
        raise ExportError(
            f"{name}: its scores are {found} of the logit, which may order documents otherwise "
            f"than the logit that ranker serves; expected one of {', '.join(sorted(_RISING))}"
        )
    return found


def _check_modules(name: str, modules: Any, saved: Any, transformer: Any) -> None:
    """Refuse a sentence-transformers model that is more than the one transformers model."""
    kinds = [(str(row["type"]).rsplit(".", 1)[-1], row["path"]) for row in modules or []]
    if kinds and kinds != [("Transformer", "")]:
        shown = ", ".join(kind for kind, _ in kinds)
        raise ExportError(
            f"{name}: expected one module, a Transformer beside modules.json, got {shown}; ranker "
            "serves a sequence classification's logit and nothing after it"
        )
    if saved.get("default_prompt_name") or transformer.get("do_lower_case"):
        raise ExportError(
            f"{name}: it changes texts before it tokenizes them (default_prompt_name "
            f"{saved.get('default_prompt_name')!r}, do_lower_case "
            f"{transformer.get('do_lower_case', False)}), which Vespa would not do"
        )


def _tokenizer(name: str, base: Base) -> Any:
    """The library's own tokenizer, which cuts on the right as the contract does.

    Raises:
        ExportError: it is a slow one, in Python.
    """
    transformers = require("transformers", extra="train")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.source)
    if not tokenizer.is_fast:
        raise ExportError(
            f"{name}: expected a tokenizer of the library `tokenizers`, got the slow "
            f"{type(tokenizer).__name__}; save it with a tokenizer.json"
        )
    tokenizer.truncation_side = "right"
    return tokenizer


def _check_computation(name: str, model: Any, spec: TokenSpec, base: Base, tokenizer: Any) -> None:
    """The same tokens and logits as transformers', on short texts and on cut ones.

    Raises:
        ExportError: tokens or logits differ.
    """
    encoder = Encoder(spec, base.tokenizer_json)
    queries = encoder.queries_ids([query for query, _ in _TEXTS])
    documents = encoder.texts_ids([document for _, document in _TEXTS])
    _check_tokens(name, encoder, tokenizer, queries, documents)
    longest_query, longest_document = max(queries, key=len), max(documents, key=len)
    inputs = pair_inputs(
        spec, [*queries, longest_query, []], [*documents, longest_document, []], length=spec.length
    )
    ours, theirs = _logits(model, inputs, spec)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:  # also true for NaN
        row = int(np.argmax(np.abs(ours - theirs)))
        raise ExportError(
            f"{name}: {type(model).__name__}'s pooling or head is not what ranker computes: logit "
            f"{ours[row]:.6f}, transformers' own {theirs[row]:.6f}, allowed {TOLERANCE:g}"
        )


def _check_tokens(
    name: str,
    encoder: Encoder,
    tokenizer: Any,
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
) -> None:
    """Compare with the library's tokenizer, told to cut only the side that the slots cut."""
    spec = encoder.spec
    for texts, query, document in zip(_TEXTS, queries, documents, strict=True):
        cut = [
            whole > len(kept)
            for whole, kept in zip(encoder.count(texts), (query, document), strict=True)
        ]
        if all(cut):  # the library cuts one side, or counts both together
            continue
        ours = pair_inputs(spec, [query], [document])
        theirs = tokenizer(
            *texts,
            truncation="only_first" if cut[0] else "only_second",
            max_length=len(query) + len(document) + 2 + spec.separators,
        )
        found = {key: ours[key][0].tolist() for key in ("input_ids", "token_type_ids")}
        expected = {"input_ids": theirs["input_ids"], "token_type_ids": found["token_type_ids"]}
        if spec.segments:
            expected["token_type_ids"] = theirs["token_type_ids"]
        if found != expected:
            raise ExportError(
                f"{name}: its own tokenizer makes other tokens of {json.dumps(texts)[:80]}: "
                f"expected {_start(expected)}, got {_start(found)}; the pair's layout in "
                "tokenizer.json is not the one that transformers uses"
            )


def _start(rows: dict[str, list[int]]) -> str:
    return ", ".join(f"{key} {ids[:12]}" for key, ids in rows.items())


def _logits(model: Any, inputs: ModelInputs, spec: TokenSpec) -> tuple[Any, Any]:
    """Logits [pairs] of ranker's forward as it is exported, and of the library's own."""
    torch = require("torch", extra="train")
    given = tensors(inputs, spec, "cpu")
    with torch.inference_mode():
        theirs = model(**given).logits[:, 0].numpy()
        forward, _ = forward_of(model, segments=spec.segments, fused=False)
        ours = forward.eval()(**given)[:, 0].numpy()
    return ours, theirs
