"""The schema as a query sees it: which fields can be searched and how their text becomes nodes."""

import re

from ranker.contract import vespa_names
from ranker.engine.errors import QueryError, bad_yql
from ranker.engine.query.tree import And, Node, Nothing, Phrase, Range, Strings
from ranker.lexical.terms import terms

__all__ = ["SEARCHABLE", "SORTABLE", "field_words", "kind_of", "number_range"]

KINDS = {
    "default": "text",
    vespa_names.CONTENTS: "text",
    vespa_names.TITLE: "text",
    vespa_names.ID: "string",
    vespa_names.TOKEN_FINGERPRINT: "number",
}
SEARCHABLE = frozenset({*KINDS, vespa_names.TEXT, vespa_names.DOC_TOKEN_IDS})
"""Names that a query may put before a colon."""

SORTABLE = (vespa_names.ID, vespa_names.TOKEN_FINGERPRINT)
"""The attributes."""

_INTEGER = re.compile(r"[+-]?\d+")
_SIGNED = re.compile(r"-\d+")
_INTERVAL = re.compile(r"([\[<])(-?\d*);(-?\d*)([\]>])")


def kind_of(field: str) -> str:
    """`text`, `string` or `number`.

    Raises:
        QueryError: code 4, there is no such field, or it cannot be searched; 17, it is a tensor.
    """
    if field in KINDS:
        return KINDS[field]
    if field == vespa_names.TEXT:
        raise bad_yql(
            f"Cannot search for terms in '{field}': it is in the summary only; search 'contents'"
        )
    if field == vespa_names.DOC_TOKEN_IDS:
        raise QueryError(17, f"Cannot search for terms in '{field}': It is a tensor field")
    raise bad_yql(f"Field '{field}' does not exist.")


def field_words(field: str, text: str, quoted: bool, *, ranked: bool = True) -> Node | None:
    """The node of a field's text in the simple query language.

    Args:
        field: any searchable field.
        text: a word, several words joined by signs, or what stood between quotes.
        quoted: whether the words of an index field must follow each other.
        ranked: whether they count for the score.

    Returns:
        None where the text has no word.
    """
    if field == vespa_names.TEXT:
        return Nothing()  # as in Vespa, where a typed query may name it and finds nothing there
    kind = kind_of(field)
    if kind == "string":
        return Strings(field, frozenset({text.lower()})) if text else None
    if kind == "number":
        return number_range(field, text)
    name = vespa_names.CONTENTS if field == "default" else field
    if not quoted and _SIGNED.fullmatch(text):
        return Phrase(name, (text,), ranked)  # a number with its sign, which no index term has
    found = terms(text)
    if not found:
        return None
    if quoted:
        return Phrase(name, tuple(found), ranked)
    parts = tuple(Phrase(name, (term,), ranked) for term in found)
    return parts[0] if len(parts) == 1 else And(parts)


def number_range(field: str, text: str) -> Node:
    """`5`, `<5`, `>5`, `[1;5]`, `<1;5>` on a number; a text that is no number matches nothing."""
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
