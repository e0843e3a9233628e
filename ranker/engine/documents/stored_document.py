"""A document as the engine stores it, and how JSON values become its fields."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.contract.encode import sanitize_text
from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.contract.spec import TokenSpec
from ranker.engine.documents.tensors import JsonValue, TensorError, document_cells, render
from ranker.lexical.terms import terms

__all__ = [
    "StoredDocument",
    "StoredValue",
    "field_value",
    "rendered_fields",
    "terms_text",
    "token_cells",
    "token_ids",
]

LONGEST_TERM = 1000
"""Characters of the longest term that is indexed, as Vespa's `max-token-length`."""


StoredValue = Any
"""A field's value in the store: a str, an int or bytes by its type, None where not set."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A stored document: its fields and its index terms.

    Attributes:
        document_id: Vespa's whole id, as `id:NAMESPACE:SCHEMA::ID`.
        values: value of every field of `DOCUMENT_FIELDS`, None where not set; an empty string
            counts as not set, as in Vespa.  Token ids are bytes, without the zeros at the end.
        title_terms, text_terms: index terms as `terms_text` writes them; one after the other they
            are the terms of the field `contents`.
        title_length, contents_length: number of terms.
    """

    document_id: str
    values: dict[str, StoredValue]
    title_terms: str
    text_terms: str
    title_length: int
    contents_length: int

    @classmethod
    def from_values(cls, document_id: str, values: Mapping[str, StoredValue]) -> "StoredDocument":
        """Make the document of values that `field_value` has read."""
        title_terms = _index_terms(values.get(vespa_names.TITLE))
        text_terms = _index_terms(values.get(vespa_names.TEXT))
        stored = {name: values.get(name) for name in DOCUMENT_FIELDS}
        return cls(
            document_id=document_id,
            values={name: None if value == "" else value for name, value in stored.items()},
            title_terms=terms_text(title_terms),
            text_terms=terms_text(text_terms),
            title_length=len(title_terms),
            contents_length=len(title_terms) + len(text_terms),
        )


def terms_text(terms_: list[str]) -> str:
    """Join terms to a string in which ` term ` occurs exactly as often as the term does."""
    return f" {'  '.join(terms_)} " if terms_ else ""


def field_value(name: str, value: JsonValue, manifest: Manifest) -> StoredValue:
    """Read a field's JSON value; null gives None.

    Args:
        name: a field of `DOCUMENT_FIELDS`.
        value: the value in the JSON.
        manifest: the application's, for the form and the contract of its token ids.

    Returns:
        The value as it is stored.

    Raises:
        ValueError: the value cannot be one of the field's type.
    """
    if value is None:
        return None
    match DOCUMENT_FIELDS[name].vespa_type:
        case "string":
            return _string(value)
        case "tensor":
            return _tokens(value, manifest)
    number = _long(value)
    if name == vespa_names.TOKEN_FINGERPRINT:
        _check_fingerprint(number, manifest.spec)
    return number


def token_ids(tokens: bytes | None, spec: TokenSpec) -> list[int]:
    """Return the ids that Vespa's token functions would use: as many cells as are above 0."""
    cells = array(_code(spec), tokens or b"").tolist()
    # Vespa counts the cells above 0 and takes that many from the start, zeros included.
    return cells if 0 not in cells else cells[: sum(cell > 0 for cell in cells)]


def token_cells(tokens: bytes, manifest: Manifest) -> list[float]:
    """Return all cells of the field's tensor."""
    ids = array(_code(manifest.spec), tokens)
    return list(map(float, manifest.storage.pack(ids, manifest.spec.document_tokens)))


def rendered_fields(document: StoredDocument, manifest: Manifest) -> dict[str, Any]:
    """Return the fields that are set, as the document API writes them."""
    fields = {name: value for name, value in document.values.items() if value is not None}
    if (tokens := fields.get(vespa_names.DOC_TOKEN_IDS)) is not None:
        cells = token_cells(tokens, manifest)
        fields[vespa_names.DOC_TOKEN_IDS] = render(cells, manifest.token_type)
    return fields


def _index_terms(text: str | None) -> list[str]:
    if not text:
        return []
    every = terms(text)
    # Feeding passes here: a short text cannot hold a term that is too long.
    if len(text) <= LONGEST_TERM:
        return every
    return [term for term in every if len(term) <= LONGEST_TERM]


def _code(spec: TokenSpec) -> str:
    """Return the array code of an id: 2 bytes where the vocabulary fits."""
    return "H" if spec.vocabulary_size <= 2**16 else "I"


def _string(value: JsonValue) -> str:
    """Return a text that Vespa stores; numbers and booleans become their text, as in Vespa."""
    if isinstance(value, dict | list):
        raise ValueError(f"expected a string, got {value!r:.60}")
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    clean = sanitize_text(value)
    if clean != value:
        bad = next(old for old, new in zip(value, clean, strict=True) if old != new)
        raise ValueError(f"the string contains the illegal code point 0x{ord(bad):X}")
    return value


def _long(value: JsonValue) -> int:
    try:
        number = int(str(value))  # Vespa also reads numbers that are written as strings
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"expected a whole number of 64 bits, got {value!r:.40}")
    return number


def _check_fingerprint(number: int, spec: TokenSpec) -> None:
    if number != spec.fingerprint_number:
        raise ValueError(
            f"the document was tokenized under the token contract {number}, this application has "
            f"{spec.fingerprint_number} ({spec.fingerprint}); tokenize it with the tokenizer of "
            "this application's package"
        )


def _tokens(value: JsonValue, manifest: Manifest) -> bytes:
    """Return the ids of a tensor in 2 or 4 bytes each, without the zeros at the end."""
    spec = manifest.spec
    cells = document_cells(value, manifest.token_type)
    ids = manifest.storage.unpack(cells, spec.document_tokens)
    if max(ids) >= spec.vocabulary_size:
        raise TensorError(
            f"{max(ids)} is not a token id: expected whole numbers from 0 to "
            f"{spec.vocabulary_size - 1}"
        )
    packed = array(_code(spec), ids)
    raw = packed.tobytes()
    # The last id may end with a zero byte, so the length is rounded up to whole ids.
    used = len(raw.rstrip(b"\0"))
    return raw[: used + -used % packed.itemsize]
