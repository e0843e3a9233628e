"""The leaves of a YQL expression: literals, references to parameters, annotations.

They are read with Vespa's types: a literal of another type than its place takes is refused.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from ranker.engine.errors import bad_query
from ranker.engine.query.grammar import Syntax
from ranker.engine.query.properties import Parameters, text_of

__all__ = [
    "LITERALS",
    "SIGNS",
    "Notes",
    "as_string",
    "bound_of",
    "check_notes",
    "list_items",
    "notes_of",
    "number_of",
    "number_text",
    "path_of",
    "shown",
]

LITERALS = ("string", "integer", "long", "double", "boolean")

SIGNS = {
    **{"eq": "=", "neq": "!=", "lt": "<", "gt": ">", "lteq": "<=", "gteq": ">=", "not": "!"},
    **{"add": "+", "sub": "-", "mult": "*", "div": "/", "mod": "%", "negate": "-"},
}
"""Operator to its sign, for messages."""

Notes = Mapping[str, Any]
"""Annotations: name → string, number, boolean, list or map."""

WITHOUT_EFFECT = frozenset(
    "targetHits totalTargetHits scoreThreshold language locale weight origin label id".split()
)
"""Annotations that change neither matches nor scores here: the embedded engine's weakAnd is
exact, BM25 has no term weights, every term is normalised like the documents' terms."""

_NOTE_TYPES = {
    **dict.fromkeys(("targetHits", "totalTargetHits", "weight"), "integer"),
    **dict.fromkeys(("ranked", "filter", "allowEmpty"), "boolean"),
    **dict.fromkeys(("grammar", "defaultIndex", "language", "label", "bounds"), "string"),
}
_WHOLE = re.compile(r"[+-]?\d+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}
_ITEM = re.compile(r"""\s*(?:'(?P<one>[^']*)'|"(?P<two>[^"]*)"|(?P<bare>[^,'"]*))\s*(?:,|$)""")


def path_of(tree: object) -> str:
    """Return a name with its dots; `*` is a token of its own."""
    return ".".join(map(str, getattr(tree, "children", [tree])))


def shown(tree: Syntax) -> str:
    """Return what a message says of an expression: a leaf as it is, else its operator."""
    if tree.data == "varref":
        return f"@{tree.children[0]}"
    if tree.data == "read_field":
        return path_of(tree.children[0])
    if tree.data in LITERALS:
        return str(tree.children[0])
    return f"'{SIGNS.get(tree.data, tree.data.replace('_', ' '))}'"


def as_string(tree: Syntax, parameters: Parameters) -> str:
    """Read a string literal or a parameter.

    Raises:
        QueryError: code 4, the expression is something else, or the parameter is not set.
    """
    if tree.data == "varref":
        name = str(tree.children[0])
        if name not in parameters:
            raise bad_query(f"YQL: @{name} is not set; add the request parameter '{name}'")
        return text_of(parameters[name])
    if tree.data == "string":
        return _unquoted(str(tree.children[0]))
    raise bad_query(f"YQL: expected a text in quotes or a parameter like @name, got {shown(tree)}")


def number_text(tree: Syntax, parameters: Parameters) -> str:
    """Return the text of a number, or of a string or parameter where a number is compared."""
    if tree.data == "negate":
        return f"-{number_text(tree.children[0], parameters)}"
    if tree.data in ("string", "varref"):
        return as_string(tree, parameters)
    return str(tree.children[0]).rstrip("lL")


def number_of(text: str) -> float:
    """Read a finite number; a whole one is exact and has 64 bits.

    Raises:
        QueryError: code 4, the text is not such a number.
    """
    try:
        number: float = int(text) if _WHOLE.fullmatch(text) else float(text)
    except ValueError:
        number = math.nan
    whole = isinstance(number, int)
    if "_" in text or not (-(2**63) <= number < 2**63 if whole else math.isfinite(number)):
        raise bad_query(f"YQL: expected a number that fits in 64 bits, got {text!r:.80}")
    return number


def bound_of(tree: Syntax) -> float:
    """Read a bound of `range`, which may be infinite.

    Raises:
        QueryError: code 4, the expression is not a number.
    """
    if tree.data == "negate":
        return -bound_of(tree.children[0])
    if tree.data == "read_field" and str(tree.children[0].children[0]) == "Infinity":
        return math.inf
    if tree.data not in ("integer", "long", "double"):
        raise bad_query(f"YQL: expected a number as a bound of range, got {shown(tree)}")
    return number_of(number_text(tree, {}))


def list_items(tree: Syntax, kind: str, parameters: Parameters) -> list[str]:
    """Return what a member of `in (...)` stands for: itself, or the items of a list in `@name`.

    Args:
        tree: the member.
        kind: `id` or `number`, the kind of the field.
        parameters: those of the request.

    Raises:
        QueryError: code 4, the member is of another type than the field.
    """
    if tree.data == "varref":
        items = _split(as_string(tree, parameters))
        if "" in items:
            raise bad_query(f"YQL: the list in {shown(tree)} has an empty item; remove it")
    elif kind == "number" and tree.data not in ("integer", "long"):
        raise bad_query(f"YQL: expected a whole number, got {shown(tree)}")
    else:
        items = [(number_text if kind == "number" else as_string)(tree, parameters)]
    for item in items if kind == "number" else ():
        if not _WHOLE.fullmatch(item):
            raise bad_query(f"YQL: expected a whole number, got {item!r:.80}")
        number_of(item)
    return items


def notes_of(annotation: Syntax) -> dict[str, Any]:
    """Return the settings of an annotation.

    Raises:
        QueryError: code 4, one of them has another type than Vespa takes.
    """
    notes: dict[str, Any] = {}
    for pair in filter(None, annotation.children):
        name, tree = str(pair.children[0]), pair.children[1]
        name = _unquoted(name) if name[0] in "\"'" else name
        if tree.data != _NOTE_TYPES.get(name, tree.data):
            raise bad_query(
                f"YQL: the annotation '{name}' takes a value of type {_NOTE_TYPES[name]}, "
                f"got {shown(tree)}"
            )
        if tree.data == "string":
            notes[name] = _unquoted(str(tree.children[0]))
        elif tree.data == "boolean":
            notes[name] = str(tree.children[0]).lower() == "true"
        else:
            notes[name] = number_of(number_text(tree, {})) if tree.data in LITERALS else tree
    return notes


def check_notes(notes: Notes, *own: str) -> None:
    """Refuse annotations that have a meaning in Vespa and none here.

    Args:
        notes: the annotations.
        own: names that have a meaning here.

    Raises:
        QueryError: code 4, naming such an annotation.
    """
    for name in notes:
        if name not in WITHOUT_EFFECT and name not in own:
            raise bad_query(f"the annotation '{name}' is not supported by the embedded engine")


def _unquoted(text: str) -> str:
    """Return the text of a string literal."""
    if "\\" not in text:
        return text[1:-1]

    def character(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)

    # Two escapes may be the halves of one character.
    plain = _ESCAPE.sub(character, text[1:-1])
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _split(text: str) -> list[str]:
    """Return the items between commas; one in quotes may contain commas."""
    items: list[str] = []
    start = 0
    while start < len(text):
        item = _ITEM.match(text, start)
        if not item:
            raise bad_query(f"YQL: expected a comma after each item of a list, got {text!r:.80}")
        items.append(item["one"] or item["two"] or (item["bare"] or "").strip())
        start = item.end()
    return [*items, ""] if text.rstrip().endswith(",") else items
