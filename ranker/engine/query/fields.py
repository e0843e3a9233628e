"""The schema as a query sees it: which fields can be searched, and how their text becomes nodes."""

import re

from ranker.contract import vespa_names
from ranker.contract.fields import FIELDS, Field
from ranker.engine.errors import QueryError, bad_query
from ranker.engine.query.tree import And, Node, Nothing, Phrase, Range, Strings
from ranker.lexical.terms import terms

__all__ = ["DEFAULT_FIELD", "SEARCHABLE", "SORTABLE", "field_words", "searched_field"]

DEFAULT_FIELD = "default"
"""The name of the fieldset that is searched where a query names no field: `contents` alone."""

_FIELDS = {field.name: field for field in FIELDS}
_FIELDS[DEFAULT_FIELD] = _FIELDS[vespa_names.CONTENTS]

SEARCHABLE = frozenset(_FIELDS)
"""Names that a query may put before a colon."""

_SUMMARY_ONLY = {field.name for field in FIELDS if not (field.indexed or field.attribute)}

SORTABLE = tuple(field.name for field in FIELDS if field.attribute and field.kind != "tokens")

_INTEGER = re.compile(r"[+-]?\d+")
_SIGNED = re.compile(r"-\d+")
_INTERVAL = re.compile(r"([\[<])(-?\d*);(-?\d*)([\]>])")


def searched_field(name: str) -> Field:
    """Return the field that is searched under a name: one with an index, an id or a number.

    Raises:
        QueryError: code 4 for an unknown field or one that cannot be searched, 17 for a tensor.
    """
    field = _FIELDS.get(name)
    if field is None:
        known = ", ".join([field.name for field in FIELDS if field.indexed] + [*SORTABLE])
        raise bad_query(f"unknown field '{name}'; expected one of {known}")
    if field.kind == "tokens":
        raise QueryError(17, f"the field '{name}' is a tensor, in which no words can be searched")
    if name in _SUMMARY_ONLY:
        raise bad_query(
            f"the field '{name}' is not indexed; search '{vespa_names.CONTENTS}', which includes it"
        )
    return field


def field_words(name: str, text: str, quoted: bool, *, ranked: bool = True) -> Node | None:
    """Return the node of a field's text in the simple query language.

    Args:
        name: a name in `SEARCHABLE`.
        text: a word, several words joined by signs, or the text between quotes.
        quoted: True if the words of an index field must follow each other.
        ranked: True if they count for the score.

    Returns:
        None where the text has no word.
    """
    if name in _SUMMARY_ONLY:
        return Nothing()  # as in Vespa, where a typed query may name it and finds nothing there
    field = searched_field(name)
    if field.kind == "string":
        return Strings(name, frozenset({text.lower()})) if text else None
    if field.kind == "number":
        return _number_range(name, text)
    if not quoted and _SIGNED.fullmatch(text):
        return Phrase(field.name, (text,), ranked)  # a number with its sign: never an index term
    words = terms(text)
    if not words:
        return None
    if quoted:
        return Phrase(field.name, tuple(words), ranked)
    parts = tuple(Phrase(field.name, (word,), ranked) for word in words)
    return parts[0] if len(parts) == 1 else And(parts)


def _number_range(field: str, text: str) -> Node:
    """Read `5`, `<5`, `>5`, `[1;5]` or `<1;5>`; anything else matches nothing."""
    if _INTEGER.fullmatch(text):
        return Range(field, int(text), int(text))
    if text[:1] == ">" and _INTEGER.fullmatch(text[1:]):
        return Range(field, int(text[1:]) + 1, None)
    if text[:1] == "<" and _INTEGER.fullmatch(text[1:]):
        return Range(field, None, int(text[1:]) - 1)
    interval = _INTERVAL.fullmatch(text)
    if not interval:
        return Nothing()
    low = int(interval[2]) + (interval[1] == "<") if interval[2] else None
    high = int(interval[3]) - (interval[4] == ">") if interval[3] else None
    return Range(field, low, high)
