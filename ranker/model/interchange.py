"""Interchange with transformers and sentence-transformers, both ways.

`open_cross_encoder` makes a checkpoint of an existing cross-encoder, after checking that what
ranker would serve is what the model's own library computes: transformers, or for a modular one
sentence-transformers.  `save_model` writes ours so that
sentence-transformers' `CrossEncoder` loads it and scores equally.

Scores are equal for all pairs that fit the slots, and for truncated pairs whose query fills its
slots exactly.  For others they cannot be: the contract truncates query and document each to its
own slots, since Vespa stores the documents' tokens before it knows a query, while `CrossEncoder`
truncates the longer of the two until the pair fits.  An empty document differs as well:
transformers treats it as missing, and leaves out its separator.
"""

import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranker.artifacts.bundle import Checkpoint
from ranker.contract.encode import Encoder, ModelInputs, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError, ExportError, first_line, require
from ranker.files import read_json, write_json, write_text
from ranker.metrics.blend import UNLEARNED
from ranker.model.base import Base, UnreadableModel, load_weights, open_base, quiet, tensors
from ranker.model.forward import forward_of
from ranker.model.heads.modular import is_modular, read_modules
from ranker.model.heads.similarity import SimilarityHead
from ranker.model.heads.two_labels import is_certain, relevance_labels
from ranker.model.hub import HUB_ID, kept, locate
from ranker.model.provenance import check_cross_encoder, served_provenance

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = [
    "TOLERANCE",
    "is_cross_encoder",
    "open_cross_encoder",
    "open_model",
    "open_origin",
    "save_model",
]

TOLERANCE = 1e-4
"""Largest accepted difference of a logit between ranker's forward and the library's."""

_TRANSFORMER = "sentence_bert_config.json"
IDENTITY = "torch.nn.modules.linear.Identity"
_OURS = [{"idx": 0, "name": "0", "path": "", "type": "ranker.model.heads.pair_scorer.PairScorer"}]
"""modules.json of a head that sentence-transformers computes by ranker's own code."""
SIGMOID = "torch.nn.modules.activation.Sigmoid"
_RISING = {"Identity", "Sigmoid", "Tanh"}
"""Activations that keep the order of the logits, by the last part of their name."""

_WHAT = "cross-encoder"
_HEAD = "ForSequenceClassification"
_NORMALISING = {"do_lower_case", "strip_accents", "tokenize_chinese_chars"}
"""Settings with which a model's own class of tokenizer overrides tokenizer.json."""
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
    """Return whether `source` is a model folder or a hub id, and not a checkpoint of ranker."""
    if source.exists():
        ours = any((source / name).exists() for name in (Checkpoint.MARKER, "spec.json"))
        return (source / "config.json").is_file() and not ours
    return bool(HUB_ID.fullmatch(source.as_posix()))


def open_model(source: str | Path) -> Checkpoint:
    """Open a checkpoint of `ranker train`, or an existing cross-encoder as one.

    Args:
        source: a folder, or a Hugging Face id.

    Raises:
        ArtifactError: it is neither, or a file was changed.
        ExportError: as `open_cross_encoder`.
    """
    path = Path(source)
    if is_cross_encoder(path):
        return open_cross_encoder(source)
    if not path.exists():
        raise ArtifactError(
            f"{source} does not exist; expected the folder of a checkpoint or of a cross-encoder, "
            "or the Hugging Face id of a cross-encoder"
        )
    return Checkpoint.open(path)


def open_cross_encoder(
    source: str | Path,
    *,
    revision: str | None = None,
    query_slots: int = 32,
    document_slots: int = 96,
    text_fields: Sequence[str] = ("title", "text"),
) -> Checkpoint:
    """Return a trained cross-encoder of one score as a checkpoint that can be exported.

    Its `training` holds no training but an `origin`: name, source (the folder or hub id),
    revision, licence, hashes of the files, the activation that its own library applies to the
    logit, and cautions in words; of a head of two labels, not relevant and relevant, also their
    names, as its logit is the difference of theirs.  The blend's weight is 1.0, as none was
    learned.

    Args:
        source: folder of transformers or sentence-transformers (with or without modules.json), or
            a Hugging Face id.
        revision: a commit, branch or tag of a Hugging Face id; the newest commit by default.
        query_slots: positions of the query part.
        document_slots: positions of the document part.
        text_fields: fields of a document, in the order in which the model sees them.

    Raises:
        ExportError: it is not a cross-encoder of one score, or its own library computes something
            other than ranker would serve.
        ArtifactError: its files cannot be read, its head is not among the weights, or it has
            modules that ranker does not compute.
        SpecError: the slots do not fit it, or its files disagree on the padding token.
        MissingExtra: transformers is not installed.
    """
    name, folder = locate(source, revision)
    modular = is_modular(folder)
    _check_configuration(name, _values(folder / "config.json"), modular=modular)
    base = _base(name, folder)
    labels = None if modular else _labels(name, base.config)
    activation = _activation(name, folder, labels)
    tokenizer = _tokenizer(name, base)
    spec = base.spec(
        query_slots=query_slots, document_slots=document_slots, text_fields=text_fields
    )
    if "token_type_ids" not in tokenizer.model_input_names:
        spec = replace(spec, segments=False)  # it has them, but never sees a second one
    _check_vocabulary(name, base.tokenizer_json, spec)
    model = load_weights(folder, own_head=True).eval()
    truth = load_weights(folder, outputs=2, own_head=True).eval() if labels else model
    _check_computation(name, model, truth, spec, base, tokenizer)
    cautions = _cautions(base.config, folder, tokenizer, spec)
    if modular and not _is_checked_by_its_library(name, folder, model, spec, base):
        cautions.append(
            "sentence-transformers 6 is not installed here, so that its own scores were not "
            "compared"
        )
    training = {
        "blend_weight": UNLEARNED,
        "recommended_profile": "cross",
        "uncalibrated": (
            "no probability was learned for this existing cross-encoder; `ranker train DATA "
            "--base MODEL` learns one"
        ),
        "arguments": {"base": name},
        "origin": {
            **served_provenance(name, base),
            "activation": activation,
            **({"labels": labels} if labels else {}),
            "cautions": cautions,
        },
    }
    return Checkpoint(folder, spec, base.tokenizer_json, training)


def open_origin(origin: Mapping[str, Any], source: str | Path, spec: TokenSpec) -> Checkpoint:
    """Return the cross-encoder that a bundle was exported from, if it is the one at `source`.

    Args:
        origin: as the bundle records it.
        source: where to look: a folder, or a Hugging Face id, of which only the user's cache is
            asked, for the recorded revision.
        spec: the bundle's contract.

    Raises:
        ArtifactError: there is no model, or another one.
        RankerError: it is the right one, and cannot be opened; as `open_cross_encoder`.
    """
    folder = kept(str(source), origin["revision"])
    check_cross_encoder(folder, origin)
    return open_cross_encoder(
        folder,
        query_slots=spec.query_slots,
        document_slots=spec.document_slots,
        text_fields=spec.text_fields,
    )


def save_model(model: "PreTrainedModel", base: Base, spec: TokenSpec, folder: Path) -> None:
    """Write weights, configuration and tokenizer as `CrossEncoder(folder)` loads them.

    Its `predict` then gives the logits, as ranker serves them, of at most `spec.length` tokens; of
    a head on similarity with `trust_remote_code=True`, and of texts of any length.
    """
    transformers = require("transformers", extra="train")
    model.config.update({"sentence_transformers": {"activation_fn": IDENTITY}})
    model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # which only their owner could read
        shutil.copymode(folder / "config.json", weights)
    if SimilarityHead.stored(model.config):
        write_json(folder / "modules.json", _OURS)
        # Without this file the library would put a random head on the encoder.
        about = {"model_type": "CrossEncoder", "activation_fn": IDENTITY}
        write_json(folder / "config_sentence_transformers.json", about)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.source)
    tokenizer.model_max_length = spec.length
    names = list(spec.model_inputs)
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    tokenizer.save_pretrained(folder)
    write_text(folder / "tokenizer.json", base.tokenizer_json)
    _use_tokenizer_json(folder / "tokenizer_config.json")


def _use_tokenizer_json(path: Path) -> None:
    """Have tokenizer.json read as it is: a class of the model's own may change what it does."""
    config = {key: value for key, value in _values(path).items() if key not in _NORMALISING}
    write_json(path, config | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _check_configuration(name: str, config: Mapping[str, Any], *, modular: bool) -> None:
    """Raise ExportError for an encoder without a head, or with code of its own."""
    architectures = config.get("architectures") or "none"
    architecture = str(architectures[0] if isinstance(architectures, list) else architectures)
    if not modular and not architecture.endswith(_HEAD):
        raise ExportError(
            f"{name}: expected a cross-encoder (an architecture ...{_HEAD} with one label, or "
            f"modules that end in one score), got {architecture} in config.json, which has no such "
            "head; train one from it: `ranker train --base`"
        )
    if config.get("auto_map"):
        raise ExportError(
            f"{name}: its config.json asks for code of its own (auto_map), which ranker does not "
            "run; name a model of a family that transformers knows"
        )


def _labels(name: str, config: "PretrainedConfig") -> list[str] | None:
    """Return the names of two labels, not relevant and relevant; None for a head of one.

    Raises:
        ExportError: it has several values, of which none is known to be the relevance.
    """
    of_relevance = relevance_labels(config)
    if config.num_labels == 1 or of_relevance:
        return list(of_relevance) if of_relevance else None
    labels = ", ".join(str(label) for label in (config.id2label or {}).values())
    kind = "a regression of several values"
    if config.problem_type != "regression":
        kind = "a classifier"
    raise ExportError(
        f"{name}: expected a head of one label, a relevance score, or of two, such as "
        f"not_relevant and relevant or LABEL_0 and LABEL_1, got {config.num_labels} "
        f"({labels[:80]}): {kind}; name a single-logit cross-encoder, or train one from this: "
        "`ranker train --base`"
    )


def _check_vocabulary(name: str, tokenizer_json: str, spec: TokenSpec) -> None:
    """Raise ExportError for a tokenizer with ids for which the model has no embedding."""
    content = json.loads(tokenizer_json)
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    pieces = (
        vocabulary
        if isinstance(vocabulary, dict)
        else {p: i for i, (p, _) in enumerate(vocabulary)}
    )
    ids = {**pieces, **{token["content"]: token["id"] for token in added}}
    specials = {token["content"] for token in added if token["special"]}  # in no text
    outside = {piece: i for piece, i in ids.items() if i >= spec.vocabulary_size}
    outside = {piece: i for piece, i in outside.items() if piece not in specials}
    if outside:
        piece = min(outside, key=lambda piece: outside[piece])
        raise ExportError(
            f"{name}: its tokenizer makes ids that the model has no embedding for ({len(outside)}, "
            f"the first: {outside[piece]} of {piece!r}; config.json has a vocab_size of "
            f"{spec.vocabulary_size}), so a text with one could not be scored; put the tokenizer "
            "there that it was trained with"
        )


def _cautions(
    config: "PretrainedConfig", folder: Path, tokenizer: "PreTrainedTokenizerFast", spec: TokenSpec
) -> list[str]:
    """Return what may surprise about a model that is served nevertheless, in words."""
    cautions = []
    saved = _values(folder / _TRANSFORMER).get("max_seq_length")
    longest = min(tokenizer.model_max_length, saved if isinstance(saved, int) else spec.length)
    if longest < spec.length:
        cautions.append(
            f"its own library truncates a pair to {longest} tokens and may not have seen longer "
            f"ones in training; the slots hold {spec.length} (--query-slots, --document-slots)"
        )
    if config.problem_type == "regression":
        cautions.append(
            "config.json calls its logit a regression's value; that it is the relevance of a "
            "document to a query, not the estimate of something else, is for you to know"
        )
    labels = relevance_labels(config)
    if labels and not is_certain(labels):
        cautions.append(
            f"config.json calls its two labels {labels[0]} and {labels[1]}; that the second one is "
            "the relevance of a document to a query is for you to know"
        )
    return cautions


def _values(path: Path) -> dict[str, Any]:
    """Return the JSON object in a model's file; an empty one if there is no file.

    Raises:
        ArtifactError: the file is something else.
    """
    value = read_json(path, what=_WHAT) if path.exists() or path.name == "config.json" else {}
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: expected a JSON object, got a {type(value).__name__}")
    return value


def _base(name: str, folder: Path) -> Base:
    """Return the model's configuration and tokenizer, which the library may have to convert.

    Raises:
        ExportError: they cannot be read.
    """
    try:
        return replace(open_base(str(folder)), name=name)
    except UnreadableModel as error:
        advice = (
            "; if its own library can read it, save it with one: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
        raise ExportError(
            f"{name}: {error.reason}{advice if error.lacks_tokenizer else ''}"
        ) from error


def _activation(name: str, folder: Path, labels: Sequence[str] | None) -> str:
    """Return what sentence-transformers applies to the logit, or the two; it looks in this order.

    Raises:
        ExportError: its score is not the logit up to a rising function, or texts are changed
            before they are tokenized.
    """
    config = _values(folder / "config.json")
    saved = _values(folder / "config_sentence_transformers.json")
    modules = _check_modules(name, folder, saved)
    own = config.get("sentence_transformers")
    activation = str(
        (saved.get("activation_fn") if modules else None)
        or (own.get("activation_fn") if isinstance(own, dict) else None)
        or config.get("sbert_ce_default_activation_function")
        or (IDENTITY if labels else SIGMOID)
    )
    rising = _RISING | ({"Softmax"} if labels else set())
    if activation.rsplit(".", 1)[-1] not in rising:
        raise ExportError(
            f"{name}: its scores are {activation} of the logit, which may order documents "
            f"differently from the logit that ranker serves; expected one of "
            f"{', '.join(sorted(rising))}"
        )
    return activation


def _check_modules(name: str, folder: Path, saved: Mapping[str, Any]) -> bool:
    """Raise ExportError for modules that do not end in one score, or that change texts.

    Returns:
        Whether it has a modules.json.
    """
    path = folder / "modules.json"
    modules = read_json(path, what=_WHAT) if path.exists() else []
    rows = [row if isinstance(row, dict) else {"type": row} for row in modules]
    kinds = [(str(row.get("type")).rsplit(".", 1)[-1], row.get("path")) for row in rows]
    if is_modular(folder):
        read_modules(folder)
    elif kinds and kinds != [("Transformer", "")]:
        shown = ", ".join(kind for kind, _ in kinds)
        raise ExportError(
            f"{name}: expected one module, a Transformer next to modules.json, or Transformer, "
            f"Pooling and layers of which the last is a Dense that writes scores, got {shown}; "
            "ranker serves no other scores"
        )
    lower = _values(folder / _TRANSFORMER).get("do_lower_case", False)
    if saved.get("default_prompt_name") or lower:
        raise ExportError(
            f"{name}: it changes texts before it tokenizes them (default_prompt_name "
            f"{saved.get('default_prompt_name')!r}, do_lower_case {lower}), which Vespa would not "
            "do"
        )
    return bool(kinds)


def _tokenizer(name: str, base: Base) -> "PreTrainedTokenizerFast":
    """Return the library's own tokenizer, truncating on the right as the contract does.

    Raises:
        ExportError: it is a slow one, in Python, or cannot be read.
    """
    transformers = require("transformers", extra="train")
    try:
        tokenizer: PreTrainedTokenizerFast = transformers.AutoTokenizer.from_pretrained(
            base.source, trust_remote_code=False
        )
    except Exception as error:  # its files can make the library raise anything
        raise ExportError(
            f"{name}: transformers cannot read its tokenizer (tokenizer.json, "
            f"tokenizer_config.json): {type(error).__name__}: {first_line(error)}"
        ) from error
    if not tokenizer.is_fast:
        raise ExportError(
            f"{name}: expected a tokenizer of the library `tokenizers`, got the slow "
            f"{type(tokenizer).__name__}; save it with a tokenizer.json"
        )
    tokenizer.truncation_side = "right"
    return tokenizer


def _check_computation(
    name: str,
    model: "PreTrainedModel",
    truth: "PreTrainedModel",
    spec: TokenSpec,
    base: Base,
    tokenizer: "PreTrainedTokenizerFast",
) -> None:
    """Compare tokens and logits with those of transformers, on short texts and truncated ones.

    `truth` is the model as transformers loads it, with one label or two.

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
    ours, theirs = _logits(model, truth, inputs, spec)
    if not np.isfinite(theirs).all():
        raise ExportError(
            f"{name}: its logits are {theirs[0]}, no numbers; its weights are damaged"
        )
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:  # also true for NaN, of a forward of ours
        row = int(np.argmax(np.abs(ours - theirs)))
        raise ExportError(
            f"{name}: {type(model).__name__}'s pooling or head is not what ranker computes: logit "
            f"{ours[row]:.6f}, transformers' own {theirs[row]:.6f}, allowed {TOLERANCE:g}"
        )


def _check_tokens(
    name: str,
    encoder: Encoder,
    tokenizer: "PreTrainedTokenizerFast",
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
) -> None:
    """Compare with the library's tokenizer, truncating only the side that the slots truncate."""
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
        actual = {key: ours[key][0].tolist() for key in ("input_ids", "token_type_ids")}
        expected = {"input_ids": theirs["input_ids"], "token_type_ids": actual["token_type_ids"]}
        if spec.segments:
            expected["token_type_ids"] = theirs["token_type_ids"]
        if actual != expected:
            raise ExportError(
                f"{name}: its own tokenizer makes other tokens of {json.dumps(texts)[:80]}: "
                f"expected {_start(expected)}, got {_start(actual)}; the pair's layout in "
                "tokenizer.json is not the one that transformers uses"
            )


def _start(rows: dict[str, list[int]]) -> str:
    return ", ".join(f"{key} {ids[:12]}" for key, ids in rows.items())


def _is_checked_by_its_library(
    name: str, folder: Path, model: "PreTrainedModel", spec: TokenSpec, base: Base
) -> bool:
    """Compare the logits of whole texts with sentence-transformers' own, if it is installed.

    Raises:
        ExportError: it cannot read the model, or the logits differ.
    """
    torch, transformers = require("torch", extra="train"), require("transformers", extra="train")
    try:
        library = importlib.import_module("sentence_transformers").CrossEncoder
    except ImportError:
        return False
    if not issubclass(library, torch.nn.Sequential):  # a release that does not know of modules
        return False
    encoder = Encoder(spec, base.tokenizer_json)
    try:
        with quiet(transformers):
            theirs = library(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
            pairs = _whole_texts(encoder, theirs.max_seq_length)
            scores = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    except Exception as error:  # its files can make the library raise anything
        raise ExportError(
            f"{name}: sentence-transformers cannot read it: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    queries = encoder.queries_ids([query for query, _ in pairs])
    documents = encoder.texts_ids([document for _, document in pairs])
    ours, _ = _logits(model, model, pair_inputs(spec, queries, documents), spec)
    row = int(np.argmax(np.abs(ours - scores)))
    if not abs(float(ours[row] - scores[row])) <= TOLERANCE:
        raise ExportError(
            f"{name}: its modules are not what ranker computes: logit {ours[row]:.6f}, "
            f"sentence-transformers' own {scores[row]:.6f}, allowed {TOLERANCE:g}"
        )
    return True


def _whole_texts(encoder: Encoder, longest: int) -> list[tuple[str, str]]:
    """Return the texts that neither the slots nor a library of `longest` positions truncates."""
    spec = encoder.spec
    tokens = [encoder.count(texts) for texts in _TEXTS]
    return [
        texts
        for texts, (query, document) in zip(_TEXTS, tokens, strict=True)
        if query <= spec.query_tokens
        and document <= spec.document_tokens
        and query + document + 2 + spec.separators <= longest
    ]


def _logits(
    model: "PreTrainedModel", truth: "PreTrainedModel", inputs: ModelInputs, spec: TokenSpec
) -> tuple[Any, Any]:
    """Return the logits [pairs] of ranker's forward as it is exported, and of the library's own."""
    torch = require("torch", extra="train")
    given = tensors(inputs, spec, "cpu")
    with torch.inference_mode():
        labels = truth(**given).logits.numpy()
        theirs = labels[:, 0] if labels.shape[1] == 1 else labels[:, 1] - labels[:, 0]
        forward, _ = forward_of(model, segments=spec.segments, fused=False)
        ours = forward.eval()(**given)[:, 0].numpy()
    return ours, theirs
