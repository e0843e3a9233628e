"""A document as the engine stores it, and how JSON values become its fields."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker.contract import vespa_names
from ranker.contract.encode import sanitize_text
from ranker.contract.spec import TokenSpec
from ranker.engine.documents.tensors import TensorError, document_cells, render, type_name
from ranker.lexical.terms import terms

__all__ = [
    "FIELDS",
    "StoredDocument",
    "field_type",
    "field_value",
    "rendered_fields",
    "terms_text",
    "token_cells",
    "token_ids",
]

LONGEST_TERM = 1000
"""Characters of the longest term that is indexed, as Vespa's `max-token-length`."""

_STRINGS = (vespa_names.ID, vespa_names.TITLE, vespa_names.TEXT)
FIELDS = {
    **{name: "string" for name in _STRINGS},
    vespa_names.DOC_TOKEN_IDS: "tensor",
    vespa_names.TOKEN_FINGERPRINT: "long",
}
"""The document's fields in the schema, and their types."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A stored document: its fields and its index terms.

    Attributes:
        doc_id, title, text: None where not set; an empty string counts as not set, as in Vespa.
        token_fingerprint: the contract of the tokens, None where not set.
        tokens: ids without the zeros at the end, 2 or 4 bytes each, None where not set.
        title_terms, text_terms: index terms as `terms_text` writes them; one after the other they
            are the terms of the field `contents`.
        title_length, contents_length: number of terms.
    """

    doc_id: str | None
    title: str | None
    text: str | None
    token_fingerprint: int | None
    tokens: bytes | None
    title_terms: str
    text_terms: str
    title_length: int
    contents_length: int

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "StoredDocument":
        """Make the document of values that `field_value` has read."""
        title, text = values.get(vespa_names.TITLE), values.get(vespa_names.TEXT)
        title_terms, text_terms = _index_terms(title), _index_terms(text)
        return cls(
            doc_id=values.get(vespa_names.ID) or None,
            title=title or None,
            text=text or None,
            token_fingerprint=values.get(vespa_names.TOKEN_FINGERPRINT),
            tokens=values.get(vespa_names.DOC_TOKEN_IDS),
            title_terms=terms_text(title_terms),
            text_terms=terms_text(text_terms),
            title_length=len(title_terms),
            contents_length=len(title_terms) + len(text_terms),
        )

    def values(self) -> dict[str, Any]:
        """Return field name to value, as `from_values` takes them."""
        return {
            vespa_names.ID: self.doc_id,
            vespa_names.TITLE: self.title,
            vespa_names.TEXT: self.text,
            vespa_names.TOKEN_FINGERPRINT: self.token_fingerprint,
            vespa_names.DOC_TOKEN_IDS: self.tokens,
        }


def terms_text(terms_: list[str]) -> str:
    """Join terms to a string in which ` term ` occurs exactly as often as the term does."""
    return f" {'  '.join(terms_)} " if terms_ else ""


def field_type(name: str, spec: TokenSpec) -> str:
    """Return the type of a field as the schema writes it."""
    return type_name(spec.document_tokens) if FIELDS[name] == "tensor" else FIELDS[name]


def field_value(name: str, value: Any, spec: TokenSpec) -> Any:
    """Read a field's JSON value; null gives None.

    Args:
        name: a field of `FIELDS`.
        value: the value in the JSON.
        spec: the contract.

    Returns:
        The value as it is stored.

    Raises:
        ValueError: the value cannot be one of the field's type.
    """
    if value is None:
        return None
    kind = FIELDS[name]
    if kind == "string":
        return _string(value)
    if kind == "long":
        return _fingerprint(value, spec)
    return _tokens(value, spec)


def token_ids(tokens: bytes | None, spec: TokenSpec) -> list[int]:
    """Return the ids that Vespa's token functions would use: as many cells as are above 0."""
    cells = array(_code(spec), tokens or b"").tolist()
    return cells if 0 not in cells else cells[: sum(cell > 0 for cell in cells)]


def token_cells(tokens: bytes, spec: TokenSpec) -> list[float]:
    """Return all cells of the tensor, including the zeros at its end."""
    cells = array(_code(spec), tokens)
    return [*map(float, cells), *[0.0] * (spec.document_tokens - len(cells))]


def rendered_fields(document: StoredDocument, spec: TokenSpec) -> dict[str, Any]:
    """Return the fields that are set, as the document API writes them."""
    fields = {name: value for name, value in document.values().items() if value is not None}
    if document.tokens is not None:
        cells = array(_code(spec), document.tokens)
        fields[vespa_names.DOC_TOKEN_IDS] = render(cells, spec.document_tokens)
    return fields


def _index_terms(text: str | None) -> list[str]:
    found = terms(text) if text else []
    if text and len(text) > LONGEST_TERM:
        found = [term for term in found if len(term) <= LONGEST_TERM]
    return found


def _code(spec: TokenSpec) -> str:
    """Return the array code of an id: 2 bytes where the vocabulary fits."""
    return "H" if spec.vocabulary_size <= 2**16 else "I"


def _string(value: Any) -> str:
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


def _fingerprint(value: Any, spec: TokenSpec) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"expected a whole number of 64 bits, got {value!r:.40}")
    if number != spec.fingerprint_number:
        raise ValueError(
            f"the document was tokenized under the token contract {number}, this application has "
            f"{spec.fingerprint_number} ({spec.fingerprint}); tokenize it with the tokenizer of "
            "this application's package"
        )
    return number


def _tokens(value: Any, spec: TokenSpec) -> bytes:
    cells = document_cells(value, spec.document_tokens)
    ids = list(map(int, cells))
    if ids != cells or min(ids) < 0 or max(ids) >= spec.vocabulary_size:
        bad = next(c for c in cells if c != int(c) or not 0 <= c < spec.vocabulary_size)
        raise TensorError(
            f"{bad:g} is not a token id: expected whole numbers from 0 to "
            f"{spec.vocabulary_size - 1}"
        )
    packed = array(_code(spec), ids)
    used = len(packed.tobytes().rstrip(b"\0"))
    return packed[: -(-used // packed.itemsize)].tobytes()
