"""Document selections as conditions: `doc.title == "x" and doc.token_fingerprint > 5`.

The part of Vespa's selection language that compares this schema's fields and the document's id,
with `and`, `or`, `not` and parentheses; also the `selection` of a visit.  Anything else is refused.

A comparison is true, false or invalid, as on Vespa's content nodes (`document/select/value.cpp`):
an order with a field that is not set is invalid, and so is any comparison of a text with a number.
A document is selected where the whole is true; `not` of invalid is invalid.
"""

import functools
import operator
import re
from collections.abc import Callable
from typing import Any

from ranker.contract import vespa_names
from ranker.engine.documents.stored_document import FIELDS, StoredDocument
from ranker.engine.errors import DocumentError
from ranker.errors import require

__all__ = ["Condition", "parse_condition"]

Condition = Callable[[str, StoredDocument], bool]
"""Whether a document (its id, its entry) is selected."""

Truth = bool | None
"""True, False, or None for invalid."""

DEEPEST = 100
"""Levels of parentheses and `not`, which are levels of calls here."""

GRAMMAR = r"""
?start: either
?either: both ("or"i both)*            -> either
?both: negation ("and"i negation)*     -> both
?negation: "not"i negation             -> negation
         | "(" either ")"              -> inner
         | "true"i                     -> always
         | "false"i                    -> never
         | operand OPERATOR operand    -> comparison
         | NAME                        -> of_type
         | NAME "." NAME               -> is_set
?operand: NAME "." NAME                -> field
        | NAME "." NAME "." "lowercase" "(" ")" -> lower_field
        | "id"i                        -> document_id
        | "id"i "." NAME               -> part_of_id
        | STRING                       -> string
        | NUMBER                       -> number
        | "null"i                      -> null
OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">" | "="
NAME: /[A-Za-z_]\w*/i
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
NUMBER: /0x[0-9a-f]{1,16}|[+-]?\d+(\.\d*([eE][+-]?\d+)?)?/i
%ignore /\s+/
"""

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {"t": "\t", "n": "\n", "f": "\f", "r": "\r"}

_INVALID = object()
"""The value of an operand that a document cannot have, such as the user of an id without one."""


@functools.lru_cache(maxsize=256)
def parse_condition(text: str, document_type: str) -> Condition:
    """The condition of a text.

    Raises:
        DocumentError: 400, the text is not in the part of the language that is known here.
    """
    lark = require("lark", extra="engine")
    try:
        truth = _Build(document_type).build(_parser().parse(text), 0)
    except lark.exceptions.LarkError as error:
        raise _refusal(text, document_type, str(error).splitlines()[0]) from error
    except ValueError as error:
        raise _refusal(text, document_type, str(error)) from error
    return lambda id_, entry: truth(id_, entry) is True


@functools.cache
def _parser() -> Any:
    return require("lark", extra="engine").Lark(GRAMMAR, parser="lalr")


def _refusal(text: str, document_type: str, reason: str) -> DocumentError:
    return DocumentError(
        400,
        f"Failed to parse condition '{text}': {reason}; the embedded engine knows "
        f"{document_type}.FIELD == != < <= > >= = VALUE, id, id.namespace, id.type, id.specific, "
        "id.user, id.group, lowercase(), and, or, not and parentheses",
    )


class _Build:
    """Syntax tree to function."""

    def __init__(self, document_type: str) -> None:
        self.document_type = document_type

    def build(self, tree: Any, depth: int) -> Callable[[str, StoredDocument], Truth]:
        """The truth of a node.

        Raises:
            ValueError: a literal cannot be, or the nesting is too deep.
            DocumentError: there is no such field or document type.
        """
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        match tree.data:
            case "either" | "both":
                parts = [self.build(child, depth + 1) for child in tree.children]
                combine = _any if tree.data == "either" else _all
                return lambda id_, entry: combine([part(id_, entry) for part in parts])
            case "inner":
                return self.build(tree.children[0], depth + 1)
            case "negation":
                inner = self.build(tree.children[0], depth + 1)
                return lambda id_, entry: _not(inner(id_, entry))
            case "comparison":
                return self._comparison(*tree.children)
            case "is_set":
                value = self._field(*map(str, tree.children))
                return lambda id_, entry: value(id_, entry) is not None
            case "of_type":
                self._check_type(str(tree.children[0]))
        verdict = tree.data != "never"
        return lambda id_, entry: verdict

    def _comparison(
        self, left: Any, sign: Any, right: Any
    ) -> Callable[[str, StoredDocument], Truth]:
        first, second = self._operand(left), self._operand(right)
        compare = _OPERATORS[str(sign)]
        return lambda id_, entry: compare(first(id_, entry), second(id_, entry))

    def _operand(self, tree: Any) -> Callable[[str, StoredDocument], Any]:
        match tree.data:
            case "document_id":
                return lambda id_, entry: id_
            case "part_of_id":
                return _part_of_id(str(tree.children[0]))
            case "field":
                return self._field(*map(str, tree.children))
            case "lower_field":
                value = self._field(*map(str, tree.children))
                return lambda id_, entry: _lower(value(id_, entry))
        constant: Any = None
        if tree.data == "number":
            constant = _number(str(tree.children[0]))
        elif tree.data == "string":
            constant = _unquoted(str(tree.children[0]))
        return lambda id_, entry: constant

    def _field(self, document_type: str, name: str) -> Callable[[str, StoredDocument], Any]:
        self._check_type(document_type)
        if name not in FIELDS:
            raise DocumentError(
                400, f"Field '{name}' not found in document type '{self.document_type}'"
            )
        if name == vespa_names.DOC_TOKEN_IDS:
            raise DocumentError(
                400, f"Cannot compare '{document_type}.{name}' in a condition: it is a tensor"
            )
        return lambda id_, entry: getattr(entry, name)

    def _check_type(self, document_type: str) -> None:
        if document_type != self.document_type:
            raise DocumentError(400, f"Document type '{document_type}' not found")


def _any(parts: list[Truth]) -> Truth:
    return True if True in parts else None if None in parts else False


def _all(parts: list[Truth]) -> Truth:
    return False if False in parts else None if None in parts else True


def _not(part: Truth) -> Truth:
    return None if part is None else not part


def _comparable(a: Any, b: Any) -> bool:
    """Whether both are texts or both are numbers."""
    return any(isinstance(a, kind) and isinstance(b, kind) for kind in (str, int | float))


def _equal(a: Any, b: Any) -> Truth:
    if None in (a, b) and _INVALID not in (a, b):
        return a is b
    return a == b if _comparable(a, b) else None


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Truth]:
    return lambda a, b: compare(a, b) if _comparable(a, b) else None


def _like(a: Any, b: Any) -> Truth:
    """`=`: `*` is any text and `?` any character of a string on the right; else it is `==`."""
    if not isinstance(b, str):
        return _equal(a, b)
    return _fits(a, b) if isinstance(a, str) else None


def _fits(text: str, pattern: str) -> bool:
    """Whether a text is as a pattern says, without the backtracking of a regular expression."""
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


_OPERATORS: dict[str, Callable[[Any, Any], Truth]] = {
    "==": _equal,
    "!=": lambda a, b: _not(_equal(a, b)),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "=": _like,
}


def _part_of_id(name: str) -> Callable[[str, StoredDocument], Any]:
    """`id.namespace`, `id.user` and so on; the user and the group are invalid where there is none.

    Raises:
        ValueError: it is none of them.
    """
    places = {"scheme": 0, "namespace": 1, "type": 2, "specific": 4}
    if name.lower() in places:
        place = places[name.lower()]
        return lambda id_, entry: id_.split(":", 4)[place]
    if name.lower() not in ("user", "group"):
        raise ValueError(f"id.{name} is not supported")
    prefix = "n=" if name.lower() == "user" else "g="

    def part(id_: str, entry: StoredDocument) -> Any:
        location = id_.split(":", 4)[3]
        if not location.startswith(prefix):
            return _INVALID
        return int(location[2:]) if prefix == "n=" else location[2:]

    return part


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else _INVALID


def _number(text: str) -> int | float:
    if text[:2].lower() == "0x":
        return int(text, 16)
    if "." in text:
        return float(text)
    if not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"Not a valid signed 64-bit integer: {text}")
    return int(text)


def _unquoted(text: str) -> str:
    """The text of a string literal.

    Raises:
        ValueError: a backslash before what it has no meaning for.
    """
    quote = text[0]

    def character(escape: re.Match[str]) -> str:
        sign = escape[1]
        if len(sign) == 3:
            return chr(int(sign[1:], 16))
        if sign in ("\\", quote):
            return sign
        if sign not in _ESCAPED:
            raise ValueError(f"\\{sign} has no meaning in a string")
        return _ESCAPED[sign]

    return _ESCAPE.sub(character, text[1:-1])
