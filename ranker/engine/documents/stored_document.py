"""A document as the engine stores it: fields, tokens, index terms; and how JSON becomes one."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker.contract import vespa_names
from ranker.contract.encode import sanitize_text
from ranker.contract.spec import TokenSpec
from ranker.engine.documents.tensors import TensorError, document_cells, render
from ranker.lexical.terms import terms

__all__ = [
    "FIELDS",
    "StoredDocument",
    "check_text",
    "field_value",
    "make_entry",
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
    """A stored document.

    Attributes:
        doc_id, title, text: None where not set; an empty string counts as not set, as in Vespa.
        token_fingerprint: the contract of the tokens, None where not set.
        tokens: ids without the zeros at the end, 2 or 4 bytes each, None where not set.
        terms: index terms of title and text, each between blanks (see `terms_text`).
        title_length, contents_length: number of terms.
    """

    doc_id: str | None
    title: str | None
    text: str | None
    token_fingerprint: int | None
    tokens: bytes | None
    terms: str
    title_length: int
    contents_length: int

    def values(self) -> dict[str, Any]:
        """Field name to value, as `make_entry` takes them."""
        return {
            vespa_names.ID: self.doc_id,
            vespa_names.TITLE: self.title,
            vespa_names.TEXT: self.text,
            vespa_names.TOKEN_FINGERPRINT: self.token_fingerprint,
            vespa_names.DOC_TOKEN_IDS: self.tokens,
        }


def make_entry(values: Mapping[str, Any]) -> StoredDocument:
    """The entry of parsed field values (`field_value`)."""
    title, text = values.get(vespa_names.TITLE), values.get(vespa_names.TEXT)
    title_terms = _index_terms(title)
    all_terms = title_terms + _index_terms(text)
    return StoredDocument(
        doc_id=values.get(vespa_names.ID) or None,
        title=title or None,
        text=text or None,
        token_fingerprint=values.get(vespa_names.TOKEN_FINGERPRINT),
        tokens=values.get(vespa_names.DOC_TOKEN_IDS),
        terms=terms_text(all_terms),
        title_length=len(title_terms),
        contents_length=len(all_terms),
    )


def terms_text(terms_: list[str]) -> str:
    """Terms as one string in which ` term ` occurs exactly as often as the term does."""
    return f" {'  '.join(terms_)} " if terms_ else ""


def field_value(name: str, value: Any, spec: TokenSpec) -> Any:
    """A field's JSON value as it is stored; None for null.

    Args:
        name: a field of `FIELDS`.
        value: what JSON holds.
        spec: the contract.

    Raises:
        ValueError: with the words of Vespa's JSON reader.
    """
    if value is None:
        return None
    kind = FIELDS[name]
    if kind == "string":
        return _string(value)
    if kind == "long":
        return _spec_number(_long(value), spec)
    return _tokens(value, spec)


def check_text(text: str) -> None:
    """Refuse code points that Vespa refuses in strings.

    Raises:
        ValueError: names the first one.
    """
    clean = sanitize_text(text)
    if clean != text:
        bad = next(old for old, new in zip(text, clean, strict=True) if old != new)
        raise ValueError(f"The string field value contains illegal code point 0x{ord(bad):X}")


def token_ids(tokens: bytes | None, spec: TokenSpec) -> list[int]:
    """The ids that Vespa's token functions would use: as many cells as there are above 0."""
    cells = array(_code(spec), tokens or b"").tolist()
    return cells if 0 not in cells else cells[: sum(cell > 0 for cell in cells)]


def token_cells(tokens: bytes, spec: TokenSpec) -> list[float]:
    """All cells of the tensor, the zeros at its end too."""
    cells = array(_code(spec), tokens)
    return [*map(float, cells), *[0.0] * (spec.document_tokens - len(cells))]


def rendered_fields(entry: StoredDocument, spec: TokenSpec) -> dict[str, Any]:
    """The set fields as the document API returns them."""
    fields = {name: value for name, value in entry.values().items() if value is not None}
    if entry.tokens is not None:
        cells = array(_code(spec), entry.tokens)
        fields[vespa_names.DOC_TOKEN_IDS] = render(cells, spec.document_tokens)
    return fields


def _index_terms(text: str | None) -> list[str]:
    found = terms(text) if text else []
    if text and len(text) > LONGEST_TERM:
        found = [term for term in found if len(term) <= LONGEST_TERM]
    return found


def _code(spec: TokenSpec) -> str:
    """Array code of an id: 2 bytes where the vocabulary fits."""
    return "H" if spec.vocabulary_size <= 2**16 else "I"


def _string(value: Any) -> str:
    """Numbers and booleans become their text, as in Vespa."""
    if isinstance(value, dict | list):
        got = "an array" if isinstance(value, list) else "an object"
        raise ValueError(f"Expected a com.yahoo.document.datatypes.StringFieldValue but got {got}")
    text = value if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    check_text(text)
    return text


def _long(value: Any) -> int:
    text = str(value)
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if isinstance(value, dict | list):
        got = "an array" if isinstance(value, list) else "an object"
        raise ValueError(f"Expected a com.yahoo.document.datatypes.LongFieldValue but got {got}")
    if isinstance(value, bool) or not -(2**63) <= number < 2**63:
        raise ValueError(f'For input string: "{text.lower() if isinstance(value, bool) else text}"')
    return number


def _spec_number(number: int, spec: TokenSpec) -> int:
    if number != spec.fingerprint_number:
        raise ValueError(
            f"the document was tokenized under the token contract {number}, this application has "
            f"{spec.fingerprint_number} ({spec.fingerprint}); tokenize it with the tokenizer of "
            "this application's package"
        )
    return number


def _tokens(value: Any, spec: TokenSpec) -> bytes:
    cells = document_cells(value, spec.document_tokens)
    used = len(cells)
    while used and not cells[used - 1]:
        used -= 1
    cells = cells[:used]
    try:
        packed = array(_code(spec), map(int, cells))
    except OverflowError:
        packed = array(_code(spec))
    if packed.tolist() != cells or max(packed, default=0) >= spec.vocabulary_size:
        bad = next(c for c in cells if c != int(c) or not 0 <= c < spec.vocabulary_size)
        raise TensorError(
            f"{bad:g} is not a token id: expected whole numbers from 0 to "
            f"{spec.vocabulary_size - 1}"
        )
    return packed.tobytes()
