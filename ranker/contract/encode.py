"""Text to token ids: the only Python that places CLS, SEP and padding.

Query and document are tokenized apart, without special tokens, and cut to their slots; the pair
is put together from ids, here for training and for the embedded engine, in Vespa by the rank
profile.  What Vespa does with the stored ids is in Vespa's `TokenTransformer`: it counts cells
above 0 as tokens, so no id inside a text may be 0.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
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
    "document_text",
    "sanitize_text",
    "pair_inputs",
    "spec_of_tokenizer",
    "zero_pad",
    "tokenizer_sha256",
]

ModelInputs = dict[str, "npt.NDArray[np.int64]"]
"""input_ids, attention_mask, token_type_ids, each [pairs, positions]."""

_NO_TEXT = "\x00"
_PLANE_ENDS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_ILLEGAL = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufdd0-\ufddf{_PLANE_ENDS}]")


def sanitize_text(text: str) -> str:
    """The text with every code point that Vespa refuses replaced by a blank.

    The list is that of `com.yahoo.text.Text`: control characters other than tab and line ends,
    surrogates, U+FDD0 to U+FDDF and the last two code points of every plane.
    """
    if text.replace("\n", " ").isprintable():  # ten times faster, and true of nearly all text
        return text
    return _ILLEGAL.sub(" ", text)


def document_text(document: Document, spec: TokenSpec) -> str:
    """The text of a document that the model sees: its text fields joined by one blank.

    Raises:
        SpecError: the spec names a field that a Document does not have.
    """
    try:
        parts = [getattr(document, name) for name in spec.text_fields]
    except AttributeError as error:
        raise SpecError(
            f"text_fields {list(spec.text_fields)}: a document has title and text only"
        ) from error
    return " ".join(part for part in parts if part)


def tokenizer_sha256(tokenizer_json: str) -> str:
    """Hash of a tokenizer's content, whatever its layout, padding and truncation.

    Padding and truncation are left out: the contract sets its own, and libraries write them
    into the file when a tokenizer is merely used.
    """
    content = _tokenizer_content(tokenizer_json)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def spec_of_tokenizer(
    tokenizer_json: str,
    *,
    vocabulary_size: int,
    max_positions: int,
    segments: bool,
    query_slots: int = 32,
    document_slots: int = 96,
    text_fields: Sequence[str] = ("title", "text"),
) -> TokenSpec:
    """Read the pair layout off the tokenizer's own pair encoding.

    Args:
        tokenizer_json: content of `tokenizer.json`.
        vocabulary_size: rows of the model's embedding.
        max_positions: longest sequence that the model takes.
        segments: whether the model has an embedding for a second segment.
        query_slots: positions of the query part.
        document_slots: positions of the document part.
        text_fields: fields of a document that are tokenized.

    Raises:
        SpecError: the layout is not `CLS a SEP [SEP] b SEP`, or the sizes are impossible.
    """
    tokenizer = _tokenizer(tokenizer_json)
    pair = tokenizer.encode("a", "b")
    specials = [
        [
            id_
            for id_, place in zip(pair.ids, _places(pair.sequence_ids), strict=True)
            if place == at
        ]
        for at in ("before", "between", "after")
    ]
    before, between, after = specials
    if len(before) != 1 or len(after) != 1 or between not in ([after[0]], [after[0]] * 2):
        raise SpecError(
            "expected a tokenizer with pairs of the form CLS a SEP [SEP] b SEP, "
            f"got the ids {before} a {between} b {after}"
        )
    return TokenSpec(
        query_slots=query_slots,
        document_slots=document_slots,
        cls_id=before[0],
        sep_id=after[0],
        pad_id=_pad_id(tokenizer_json),
        separators=len(between),
        segments=segments,
        vocabulary_size=vocabulary_size,
        max_positions=max_positions,
        text_fields=tuple(text_fields),
        tokenizer_sha256=tokenizer_sha256(tokenizer_json),
    )


def zero_pad(ids: Sequence[int], cells: int) -> list[int]:
    """Ids as they lie in a tensor of `cells` cells: zero-padded on the right.

    Zero is the padding of storage, whatever the model's own pad id: Vespa counts cells above 0.
    """
    return [*ids, *[0] * (cells - len(ids))]


class Encoder:
    """Texts to ids under one contract.

    Args:
        spec: the contract.
        tokenizer_json: content of `tokenizer.json`.

    Raises:
        SpecMismatch: the tokenizer is not the one of the contract.
    """

    def __init__(self, spec: TokenSpec, tokenizer_json: str) -> None:
        found = tokenizer_sha256(tokenizer_json)
        if found != spec.tokenizer_sha256:
            raise SpecMismatch(
                f"tokenizer.json has the hash {found[:13]}, the token contract "
                f"{spec.fingerprint} was made for {spec.tokenizer_sha256[:13]}; "
                "use the tokenizer of the same bundle"
            )
        self.spec = spec
        self._tokenizer = _tokenizer(tokenizer_json)

    def query_ids(self, text: str) -> list[int]:
        """Ids of one query, at most `spec.query_tokens`, without special tokens."""
        return self._cut([text], self.spec.query_tokens)[0]

    def queries_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many queries, through the tokenizer's batch call."""
        return self._cut(texts, self.spec.query_tokens)

    def document_ids(self, document: Document) -> list[int]:
        """Ids of one document, at most `spec.document_tokens`, without special tokens."""
        return self.texts_ids([document_text(document, self.spec)])[0]

    def documents_ids(self, documents: Iterable[Document]) -> list[list[int]]:
        """Ids of many documents, through the tokenizer's batch call."""
        return self.texts_ids([document_text(document, self.spec) for document in documents])

    def texts_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many document texts."""
        return self._cut(texts, self.spec.document_tokens)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut."""
        return [len(ids) for ids in self._encode(texts)]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's spelling of ids, for people to read."""
        found = [self._tokenizer.id_to_token(id_) or f"<{id_}>" for id_ in ids]
        return [piece.removeprefix(_NO_TEXT) for piece in found]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [sanitize_text(text) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _cut(self, texts: Sequence[str], most: int) -> list[list[int]]:
        rows = self._encode(texts)
        # An id 0 inside a text would end it early in Vespa, so it is left out, here and there.
        return [[i for i in ids if i][:most] if 0 in ids else ids[:most] for ids in rows]


def pair_inputs(
    spec: TokenSpec,
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
    *,
    length: int | None = None,
) -> ModelInputs:
    """Model inputs of query-document pairs, row by row.

    Args:
        spec: the contract.
        queries: ids of each pair's query.
        documents: ids of each pair's document.
        length: positions of a row; the longest pair's by default.

    Returns:
        Three int64 arrays [pairs, length].  Positions past `length` are cut as Vespa cuts them,
        which loses the closing SEP first.
    """
    import numpy as np  # 170 ms, which a client that sends a query does not spend

    rows = [_pair(spec, query, doc) for query, doc in zip(queries, documents, strict=True)]
    width = length if length is not None else max((len(ids) for ids, _ in rows), default=0)
    input_ids = np.full((len(rows), width), spec.pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    segments = np.zeros((len(rows), width), dtype=np.int64)
    for row, (ids, second) in enumerate(rows):
        kept = min(len(ids), width)
        input_ids[row, :kept] = ids[:kept]
        mask[row, :kept] = 1
        segments[row, second:kept] = int(spec.segments)
    return {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": segments}


def _pair(spec: TokenSpec, query: Sequence[int], document: Sequence[int]) -> tuple[list[int], int]:
    """Ids of one pair, and where its second segment begins."""
    first = [spec.cls_id, *query, *[spec.sep_id] * spec.separators]
    return [*first, *document, spec.sep_id], len(first)


def _places(sequence_ids: Sequence[int | None]) -> list[str]:
    """Where each position of a pair lies: in a text, or before, between or after the texts."""
    first_b = sequence_ids.index(1) if 1 in sequence_ids else len(sequence_ids)
    first_a = sequence_ids.index(0) if 0 in sequence_ids else 0
    return [
        "text" if at is not None
        else "before" if position < first_a
        else "between" if position < first_b
        else "after"
        for position, at in enumerate(sequence_ids)
    ]  # fmt: skip


def _tokenizer_content(tokenizer_json: str) -> dict[str, Any]:
    try:
        content = json.loads(tokenizer_json)
        return {key: content[key] for key in content if key not in ("padding", "truncation")}
    except (ValueError, TypeError, KeyError) as error:
        raise SpecError(f"tokenizer.json is not a tokenizer: {error}") from error


def _tokenizer(tokenizer_json: str) -> Tokenizer:
    """The tokenizer without padding and truncation, in which no text is a special token.

    `encode_special_tokens` alone is not enough: a Unigram model (XLM-R, DeBERTa-v3) has `</s>` as
    a piece of its vocabulary and finds it in a text.  So the special tokens get names that no
    text has: they begin with U+0000, which `sanitize_text` removes.
    """
    content = _tokenizer_content(tokenizer_json)
    try:
        _rename_specials(content)
        tokenizer = Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the Rust library raises a bare Exception
        raise SpecError(f"tokenizer.json is not a tokenizer: {error}") from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def _rename_specials(content: dict[str, Any]) -> None:
    model = content["model"]
    unknown = model.get("unk_token")  # named in the model by its text, so it keeps it
    names = {
        str(token["content"]): _NO_TEXT + str(token["content"])
        for token in content["added_tokens"]
        if token["special"] and token["content"] != unknown
    }
    for token in content["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): id_ for piece, id_ in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]


def _pad_id(tokenizer_json: str) -> int:
    """Id of the padding token, by the name that it has in every supported family."""
    added = {str(t["content"]): int(t["id"]) for t in json.loads(tokenizer_json)["added_tokens"]}
    for name in ("[PAD]", "<pad>", "<|padding|>"):
        if name in added:
            return added[name]
    raise SpecError(f"the tokenizer has no padding token; its added tokens: {sorted(added)[:10]}")
