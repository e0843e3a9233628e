"""The leaves of a YQL expression: literals, references to parameters, annotations.

They are read with Vespa's types: a literal of another type than its place wants is refused in the
words of the Java cast that fails there.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from ranker.engine.errors import bad_query, bad_yql

__all__ = [
    "Notes",
    "as_string",
    "bound_of",
    "check_notes",
    "is_number",
    "list_items",
    "notes_of",
    "number_of",
    "number_words",
    "operator_name",
    "parameter",
    "unquoted",
]

Notes = Mapping[str, Any]
"""Annotations: name → string, number, boolean, list or map."""

WITHOUT_EFFECT = frozenset(
    "targetHits totalTargetHits scoreThreshold language locale weight origin label id".split()
)
"""Annotations that change neither matches nor scores here: the embedded engine's weakAnd is
exact, BM25 has no term weights, every term is normalised like the documents' terms."""

_NOTE_TYPES = {
    **dict.fromkeys(("targetHits", "totalTargetHits", "weight"), "Integer"),
    **dict.fromkeys(("ranked", "filter", "allowEmpty"), "Boolean"),
    **dict.fromkeys(("grammar", "defaultIndex", "language", "label", "bounds"), "String"),
}
_JAVA = {
    "string": "java.lang.String",
    "integer": "java.lang.Integer",
    "long": "java.lang.Long",
    "double": "java.lang.Double",
    "boolean": "java.lang.Boolean",
}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}
_ITEM = re.compile(r"""\s*(?:'(?P<one>[^']*)'|"(?P<two>[^"]*)"|(?P<bare>[^,'"]*))\s*(?:,|$)""")


def operator_name(tree: Any) -> str:
    """Vespa's name of an expression's operator."""
    if tree.data in _JAVA:
        return "LITERAL"
    if tree.data == "read_field" and len(tree.children[0].children) > 1:
        return "PROPREF"
    return str(tree.data).upper()


def parameter(tree: Any, parameters: Mapping[str, str]) -> str:
    """The parameter that `@name` names.

    Raises:
        QueryError: code 4, the request has none of that name.
    """
    name = str(tree.children[0])
    if name not in parameters:
        raise bad_yql(f"Input '{name}' is not set")
    return parameters[name]


def as_string(tree: Any, parameters: Mapping[str, str], expected: str) -> str:
    """A string literal or a parameter.

    Args:
        tree: the expression.
        parameters: those of the request.
        expected: the operators that may be here, for the words of an error.

    Raises:
        QueryError: code 4, it is something else.
    """
    if tree.data == "varref":
        return parameter(tree, parameters)
    if tree.data == "string":
        return unquoted(str(tree.children[0]))
    if tree.data in _JAVA:
        raise bad_yql(f"Cannot cast {_JAVA[tree.data]} to java.lang.String")
    raise bad_yql(f"Expected {expected}, got {operator_name(tree)}.")


def unquoted(text: str) -> str:
    """The text of a string literal."""
    if "\\" not in text:
        return text[1:-1]
    plain = _ESCAPE.sub(_unescaped, text[1:-1])
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(found: re.Match[str]) -> str:
    escape = found[1]
    return chr(int(escape[1:], 16)) if len(escape) == 5 else _ESCAPED.get(escape, escape)


def number_words(tree: Any, parameters: Mapping[str, str]) -> str:
    """The text of a number, a string or a parameter where a number is compared."""
    if tree.data == "negate":
        return f"-{number_words(tree.children[0], parameters)}"
    if tree.data in ("string", "varref"):
        return as_string(tree, parameters, "LITERAL")
    return str(tree.children[0]).rstrip("lL")


def is_number(text: str) -> bool:
    """Whether `number_of` takes it."""
    try:
        number = float(text)
        whole = int(text) if re.fullmatch(r"[+-]?\d+", text) else 0
    except ValueError:
        return False
    return math.isfinite(number) and "_" not in text and -(2**63) <= whole < 2**63


def number_of(text: str) -> float:
    """A finite number; a whole one is exact, and a Java long.

    Raises:
        QueryError: code 4, it is none.
    """
    if not is_number(text):
        raise bad_yql(f'For input string: "{text}"')
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def bound_of(tree: Any) -> float:
    """A bound of `range`, which may be infinite.

    Raises:
        QueryError: code 4, it is no number.
    """
    if tree.data == "negate":
        return -bound_of(tree.children[0])
    if tree.data == "read_field" and str(tree.children[0].children[0]) == "Infinity":
        return math.inf
    if tree.data in ("string", "boolean"):
        raise bad_yql(f"Cannot cast {_JAVA[tree.data]} to java.lang.Number")
    if tree.data not in _JAVA:
        shown = tree.children[0] if tree.data == "varref" else operator_name(tree)
        raise bad_yql(f"Expected a numerical argument to range but got '{shown}'")
    return number_of(number_words(tree, {}))


def list_items(tree: Any, kind: str, parameters: Mapping[str, str]) -> list[str]:
    """What a member of `in (...)` stands for: itself, or the items of the list that `@name` has.

    Args:
        tree: the member.
        kind: `string` or `number`, of the field.
        parameters: those of the request.

    Raises:
        QueryError: code 4, it is of another type than the field.
    """
    if tree.data == "varref":
        return [_item(item, kind) for item in _split(parameter(tree, parameters))]
    if kind == "string":
        return [as_string(tree, parameters, "LITERAL")]
    if tree.data == "double":
        raise bad_yql("Cannot cast java.lang.Double to java.lang.Long")
    if tree.data not in ("integer", "long"):
        raise bad_yql(f"Cannot cast {_JAVA[tree.data]} to java.lang.Number")
    text = number_words(tree, parameters)
    number_of(text)
    return [text]


def _split(text: str) -> list[str]:
    """The items between commas; one in quotes may have commas of its own."""
    items: list[str] = []
    at = 0
    while at < len(text):
        found = _ITEM.match(text, at)
        if not found:
            raise bad_yql(f"Expected a comma or the end after an item in '{text}', position {at}")
        items.append(found["one"] or found["two"] or (found["bare"] or "").strip())
        at = found.end()
    return [*items, ""] if text.rstrip().endswith(",") else items


def _item(text: str, kind: str) -> str:
    if not text:
        raise bad_query("The word of a word item cannot be empty")
    if kind == "number" and not (re.fullmatch(r"[+-]?\d+", text) and is_number(text)):
        raise bad_yql(f"Expected an integer, but got {text}")
    return text


def notes_of(annotation: Any) -> dict[str, Any]:
    """The settings of an annotation.

    Raises:
        QueryError: code 4, one is of another type than Vespa wants.
    """
    notes = {}
    for pair in annotation.children:
        if pair is not None:
            name, tree = str(pair.children[0]), pair.children[1]
            name = unquoted(name) if name[0] in "\"'" else name
            wanted = _NOTE_TYPES.get(name)
            got = _JAVA.get(tree.data, "com.yahoo.search.yql.OperatorNode")
            if wanted and got != f"java.lang.{wanted}":
                raise bad_yql(f"Expected java.lang.{wanted} for annotation '{name}', got {got}.")
            notes[name] = _setting(tree)
    return notes


def _setting(tree: Any) -> Any:
    if tree.data == "string":
        return unquoted(str(tree.children[0]))
    if tree.data == "boolean":
        return str(tree.children[0]).lower() == "true"
    return number_of(number_words(tree, {})) if tree.data in _JAVA else tree


def check_notes(notes: Notes, *own: str) -> None:
    """Refuse annotations that mean something in Vespa and nothing here.

    Args:
        notes: the annotations.
        own: names that mean something here.

    Raises:
        QueryError: code 4, names one.
    """
    for name in notes:
        if name not in WITHOUT_EFFECT and name not in own:
            raise bad_yql(f"The annotation '{name}' is not supported by the embedded engine")
