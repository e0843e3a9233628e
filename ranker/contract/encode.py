"""Text to token ids: the only Python that places CLS, SEP and padding.

Query and document are tokenized separately, without special tokens, and truncated to their slots;
the pair is assembled from ids, here for training and for the embedded engine, in Vespa by the rank
profile.  What Vespa does with the stored ids is in Vespa's `TokenTransformer`: it counts cells
above 0 as tokens, so no id inside a text may be 0.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from ranker.contract.spec import TokenSpec
from ranker.errors import SpecError, SpecMismatch
from ranker.records import Document

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Encoder",
    "ModelInputs",
    "SanitizedText",
    "TokenizerFile",
    "document_text",
    "join_texts",
    "pair_inputs",
    "sanitize_text",
    "spec_of_tokenizer",
]

ModelInputs = dict[str, "npt.NDArray[np.int64]"]
"""input_ids, attention_mask, token_type_ids, each [pairs, positions]."""

_NO_TEXT = "\x00"
_PLANE_ENDS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_ILLEGAL = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufdd0-\ufddf{_PLANE_ENDS}]")


class SanitizedText(str):
    """A text that `sanitize_text` returned, so that it is never searched a second time."""

    __slots__ = ()


def sanitize_text(text: str) -> SanitizedText:
    """Replace every code point that Vespa refuses by a space.

    The list is that of `com.yahoo.text.Text`: control characters other than tab and line ends,
    surrogates, U+FDD0 to U+FDDF and the last two code points of every plane.
    """
    if isinstance(text, SanitizedText):
        return text
    if text.replace("\n", " ").isprintable():  # ten times faster, and true of nearly all text
        return SanitizedText(text)
    return SanitizedText(_ILLEGAL.sub(" ", text))


def document_text(document: Document, spec: TokenSpec) -> str:
    """Join the text fields of a document by spaces to the text that the model sees.

    Raises:
        SpecError: the spec names a field that a Document does not have.
    """
    try:
        parts = [getattr(document, name) for name in spec.text_fields]
    except AttributeError as error:
        raise SpecError(
            f"text_fields {list(spec.text_fields)}: a document has title and text only"
        ) from error
    return join_texts(parts)


def join_texts(parts: Sequence[str]) -> str:
    """Join texts by spaces, without empty ones; sanitized texts give a sanitized one."""
    words = [part for part in parts if part]
    joined = " ".join(words)
    return SanitizedText(joined) if all(isinstance(w, SanitizedText) for w in words) else joined


class TokenizerFile:
    """The content of a `tokenizer.json`, parsed once, without its padding and truncation.

    The contract sets padding and truncation itself, and libraries write them into the file when a
    tokenizer is merely used.

    Raises:
        SpecError: the content is not a tokenizer.
    """

    def __init__(self, tokenizer_json: str) -> None:
        try:
            content = json.loads(tokenizer_json)
            self._content = {
                key: content[key] for key in content if key not in ("padding", "truncation")
            }
        except (ValueError, TypeError, KeyError) as error:
            raise SpecError(f"tokenizer.json is not a tokenizer: {error}") from error

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the content, regardless of its layout."""
        return hashlib.sha256(json.dumps(self._content, sort_keys=True).encode()).hexdigest()

    def pad_id(self, padding: Mapping[str, str | int]) -> int:
        """Return the id of the padding token.

        Args:
            padding: what other files of the model call it, by their name: its text, or an id,
                which counts only where no text is known.  Without one it has a usual name.

        Raises:
            SpecError: there is none, or two files disagree.
        """
        added = {str(t["content"]): int(t["id"]) for t in self._content["added_tokens"]}
        named = {file: token for file, token in padding.items() if isinstance(token, str)}
        lacking = sorted(set(named.values()) - self._ids.keys())
        if lacking or len({self._ids[token] for token in named.values()}) > 1:
            said = ", ".join(f"{file} {token!r}" for file, token in named.items())
            trouble = f"tokenizer.json has no {lacking[0]!r}" if lacking else "they disagree"
            raise SpecError(f"the padding token is {said}: {trouble}; correct these files")
        usual = [name for name in ("[PAD]", "<pad>", "<|padding|>") if name in added]
        for token in (*named.values(), *usual):
            return self._ids[token]
        for id_ in padding.values():
            return int(id_)
        raise SpecError(
            f"the tokenizer has no padding token; its added tokens: {sorted(added)[:10]}"
        )

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        """The ids of the vocabulary's pieces and of the added tokens."""
        vocabulary = self._content["model"]["vocab"]
        if not isinstance(vocabulary, dict):
            vocabulary = {piece: id_ for id_, (piece, _) in enumerate(vocabulary)}
        added = {str(token["content"]): int(token["id"]) for token in self._content["added_tokens"]}
        return {**vocabulary, **added}

    def load(self) -> Tokenizer:
        """Return a tokenizer in which no text is a special token.

        `encode_special_tokens` alone is not enough: a Unigram model (XLM-R, DeBERTa-v3) has `</s>`
        as a piece of its vocabulary and finds it in a text.  So the special tokens get names that
        no text has: they begin with U+0000, which `sanitize_text` removes.
        """
        try:
            tokenizer = Tokenizer.from_str(json.dumps(self._without_special_names()))
        except Exception as error:  # the Rust library raises a bare Exception
            raise SpecError(f"tokenizer.json is not a tokenizer: {error}") from error
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _without_special_names(self) -> dict[str, Any]:
        model = self._content["model"]
        unknown = model.get("unk_token")  # named in the model by its text, so it keeps it
        names = {
            str(token["content"]): _NO_TEXT + str(token["content"])
            for token in self._content["added_tokens"]
            if token["special"] and token["content"] != unknown
        }
        added = [
            {**token, "content": names.get(token["content"], token["content"])}
            for token in self._content["added_tokens"]
        ]
        vocabulary: Any = model["vocab"]
        if isinstance(vocabulary, dict):
            vocabulary = {names.get(piece, piece): id_ for piece, id_ in vocabulary.items()}
        else:
            vocabulary = [[names.get(piece, piece), score] for piece, score in vocabulary]
        return {**self._content, "added_tokens": added, "model": {**model, "vocab": vocabulary}}


def spec_of_tokenizer(
    tokenizer_json: str,
    *,
    vocabulary_size: int,
    max_positions: int,
    segments: bool,
    query_slots: int = 32,
    document_slots: int = 96,
    text_fields: Sequence[str] = ("title", "text"),
    padding: Mapping[str, str | int] | None = None,
) -> TokenSpec:
    """Read the pair layout off the tokenizer's own pair encoding.

    Args:
        tokenizer_json: content of `tokenizer.json`.
        vocabulary_size: rows of the model's embedding.
        max_positions: longest sequence that the model takes.
        segments: True if the model has an embedding for a second segment.
        query_slots: positions of the query part.
        document_slots: positions of the document part.
        text_fields: fields of a document that are tokenized.
        padding: what other files of the model call the padding token, as `TokenizerFile.pad_id`.

    Raises:
        SpecError: the layout is not `CLS a SEP [SEP] b SEP`, the sizes are impossible, or the
            padding token is not certain.
    """
    file = TokenizerFile(tokenizer_json)
    pair = file.load().encode("a", "b")
    # A tokenizer that finds no token in a text leaves it out of the pair.
    first = pair.sequence_ids.index(0) if 0 in pair.sequence_ids else 0
    second = pair.sequence_ids.index(1) if 1 in pair.sequence_ids else len(pair.ids)
    specials: dict[str, list[int]] = {"before": [], "between": [], "after": []}
    for position, (id_, text) in enumerate(zip(pair.ids, pair.sequence_ids, strict=True)):
        if text is None:
            place = "before" if position < first else "between" if position < second else "after"
            specials[place].append(id_)
    before, between, after = specials.values()
    if len(before) != 1 or len(after) != 1 or between not in (after, after * 2):
        raise SpecError(
            "expected a tokenizer with pairs of the form CLS a SEP [SEP] b SEP, "
            f"got the ids {before} a {between} b {after}"
        )
    return TokenSpec(
        query_slots=query_slots,
        document_slots=document_slots,
        cls_id=before[0],
        sep_id=after[0],
        pad_id=file.pad_id(padding or {}),
        separators=len(between),
        segments=segments,
        vocabulary_size=vocabulary_size,
        max_positions=max_positions,
        text_fields=tuple(text_fields),
        tokenizer_sha256=file.sha256,
    )


class Encoder:
    """Texts to ids under one contract.

    Args:
        spec: the contract.
        tokenizer_json: content of `tokenizer.json`.

    Raises:
        SpecMismatch: the tokenizer is not the one of the contract.
    """

    def __init__(self, spec: TokenSpec, tokenizer_json: str) -> None:
        file = TokenizerFile(tokenizer_json)
        if file.sha256 != spec.tokenizer_sha256:
            raise SpecMismatch(
                f"tokenizer.json has the hash {file.sha256[:13]}, the token contract "
                f"{spec.fingerprint} was made for {spec.tokenizer_sha256[:13]}; "
                "use the tokenizer of the same bundle"
            )
        self.spec = spec
        self._tokenizer = file.load()

    def query_ids(self, text: str) -> list[int]:
        """Return the ids of one query, at most `spec.query_tokens`, without special tokens."""
        return self.queries_ids([text])[0]

    def queries_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many queries, through the tokenizer's batch call."""
        return self._truncated(texts, self.spec.query_tokens)

    def document_ids(self, document: Document) -> list[int]:
        """Return the ids of one document, at most `spec.document_tokens`, no special ones."""
        return self.documents_ids([document])[0]

    def documents_ids(self, documents: Iterable[Document]) -> list[list[int]]:
        """Return the ids of many documents, through the tokenizer's batch call."""
        return self.texts_ids([document_text(document, self.spec) for document in documents])

    def texts_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many document texts."""
        return self._truncated(texts, self.spec.document_tokens)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation."""
        return [len(ids) for ids in self._encode(texts)]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the vocabulary's spelling of ids, for people to read."""
        pieces = [self._tokenizer.id_to_token(id_) or f"<{id_}>" for id_ in ids]
        return [piece.removeprefix(_NO_TEXT) for piece in pieces]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [sanitize_text(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _truncated(self, texts: Sequence[str], most: int) -> list[list[int]]:
        rows = self._encode(texts)
        # An id 0 inside a text would end it early in Vespa, so it is left out everywhere.
        return [[i for i in ids if i][:most] if 0 in ids else ids[:most] for ids in rows]


def pair_inputs(
    spec: TokenSpec,
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
    *,
    length: int | None = None,
) -> ModelInputs:
    """Assemble the model inputs of query-document pairs, row by row.

    Args:
        spec: the contract.
        queries: ids of each pair's query.
        documents: ids of each pair's document.
        length: positions of a row; the longest pair's by default.

    Returns:
        Three int64 arrays [pairs, length].  Positions past `length` are cut off as Vespa does it,
        which loses the closing SEP first.
    """
    import numpy as np  # 170 ms, which a client that sends a query does not spend

    width = length
    if width is None:
        specials = spec.separators + 2
        pairs = zip(queries, documents, strict=True)
        width = max((len(query) + len(document) + specials for query, document in pairs), default=0)
    input_ids = np.full((len(queries), width), spec.pad_id, dtype=np.int64)
    mask = np.zeros((len(queries), width), dtype=np.int64)
    segments = np.zeros((len(queries), width), dtype=np.int64)
    for row, (query, document) in enumerate(zip(queries, documents, strict=True)):
        first = [spec.cls_id, *query, *[spec.sep_id] * spec.separators]
        ids = [*first, *document, spec.sep_id]
        kept = min(len(ids), width)
        input_ids[row, :kept] = ids[:kept]
        mask[row, :kept] = 1
        segments[row, len(first) : kept] = int(spec.segments)
    return {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": segments}
