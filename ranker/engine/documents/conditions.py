"""Document selections as conditions: `doc.title == "x" and doc.token_fingerprint > 5`.

The part of Vespa's selection language that compares this schema's fields and the document's id,
with `and`, `or`, `not` and parentheses; also the `selection` of a visit.  Anything else is refused.

A comparison is true, false or invalid, as on Vespa's content nodes (`document/select/value.cpp`):
ordering a field that is not set is invalid, and so is any comparison of a text with a number.
A document is selected where the whole is true; `not` of invalid is invalid.
"""

import fnmatch
import functools
import operator
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.errors import DocumentError
from ranker.errors import require

if TYPE_CHECKING:
    from lark import Lark, Tree

__all__ = ["Condition", "parse_condition"]

Condition = Callable[[StoredDocument], bool]
"""Says of a document if it is selected."""

Truth = bool | None
"""True, False, or None for invalid."""

Value = Any
"""What a condition compares: a text, a number, None where not set, or `_INVALID`."""

DEEPEST = 100
"""Most levels of parentheses and `not`, each of which is a nested call here."""

GRAMMAR = r"""
?start: either
?either: both ("or"i both)*            -> either
?both: negation ("and"i negation)*     -> both
?negation: "not"i negation             -> negation
         | "(" either ")"              -> parenthesis
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
    """Compile the text of a condition.

    Raises:
        DocumentError: 400, the text is not in the part of the language that is known here.
    """
    lark = require("lark", extra="engine")
    try:
        truth = _Compiler(document_type).truth(_parser().parse(text), 0)
    except lark.exceptions.UnexpectedInput as error:
        rest = text[error.pos_in_stream :]
        raise _error(text, document_type, f"not understood from {rest!r:.40} on") from error
    except ValueError as error:
        raise _error(text, document_type, str(error)) from error
    return lambda document: truth(document) is True


@functools.cache
def _parser() -> "Lark":
    parser: Lark = require("lark", extra="engine").Lark(GRAMMAR, parser="lalr")
    return parser


def _error(text: str, document_type: str, reason: str) -> DocumentError:
    return DocumentError(
        400,
        f"condition {text!r:.200}: {reason}; the embedded engine knows {document_type}.FIELD, id, "
        "id.namespace, id.type, id.specific, id.user, id.group, lowercase(), the comparisons == != "
        "< <= > >= =, and, or, not and parentheses",
    )


class _Compiler:
    """Makes functions of syntax trees."""

    def __init__(self, document_type: str) -> None:
        self.document_type = document_type

    def truth(self, tree: "Tree[Any]", depth: int) -> Callable[[StoredDocument], Truth]:
        """Compile a node that is true, false or invalid.

        Raises:
            ValueError: a literal is out of range, a name is unknown, or the nesting is too deep.
        """
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        match tree.data:
            case "either" | "both":
                parts = [self.truth(child, depth + 1) for child in tree.children]
                combine = _any if tree.data == "either" else _all
                return lambda document: combine([part(document) for part in parts])
            case "parenthesis":
                return self.truth(tree.children[0], depth + 1)
            case "negation":
                part = self.truth(tree.children[0], depth + 1)
                return lambda document: _not(part(document))
            case "comparison":
                left, sign, right = tree.children
                first, second = self.value(left), self.value(right)
                compare = _OPERATORS[str(sign)]
                return lambda document: compare(first(document), second(document))
            case "is_set":
                value = self._field(*map(str, tree.children))
                return lambda document: value(document) is not None
            case "of_type":
                self._check_type(str(tree.children[0]))
        verdict = tree.data != "never"
        return lambda document: verdict

    def value(self, tree: "Tree[Any]") -> Callable[[StoredDocument], Value]:
        """Compile an operand of a comparison."""
        leaves = [str(child) for child in tree.children]
        constant: Value = None
        match tree.data:
            case "document_id":
                return lambda document: document.document_id
            case "part_of_id":
                return _part_of_id(leaves[0].lower())
            case "field":
                return self._field(*leaves)
            case "lower_field":
                field = self._field(*leaves)
                return lambda document: _lower(field(document))
            case "number":
                constant = _number(leaves[0])
            case "string":
                constant = _unquoted(leaves[0])
        return lambda document: constant

    def _field(self, document_type: str, name: str) -> Callable[[StoredDocument], Value]:
        self._check_type(document_type)
        field = DOCUMENT_FIELDS.get(name)
        if field is None:
            raise ValueError(f"the document type {document_type} has no field {name!r}")
        if field.vespa_type == "tensor":
            raise ValueError(f"cannot compare {name}, which is a tensor")
        return lambda document: document.values[name]

    def _check_type(self, document_type: str) -> None:
        if document_type != self.document_type:
            raise ValueError(f"no document type {document_type!r}; expected {self.document_type}")


def _any(parts: list[Truth]) -> Truth:
    return True if True in parts else None if None in parts else False


def _all(parts: list[Truth]) -> Truth:
    return False if False in parts else None if None in parts else True


def _not(part: Truth) -> Truth:
    return None if part is None else not part


def _comparable(a: Value, b: Value) -> bool:
    """Say whether both are texts or both are numbers."""
    return any(isinstance(a, kind) and isinstance(b, kind) for kind in (str, int | float))


def _equal(a: Value, b: Value) -> Truth:
    # `field == null` asks if the field is unset, which is neither invalid nor a comparison.
    if None in (a, b) and _INVALID not in (a, b):
        return a is b
    return a == b if _comparable(a, b) else None


def _ordered(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], Truth]:
    return lambda a, b: compare(a, b) if _comparable(a, b) else None


def _like(a: Value, b: Value) -> Truth:
    """Compare with `=`: `*` is any text and `?` any character of a string on the right."""
    if not isinstance(b, str):
        return _equal(a, b)
    # fnmatch does not backtrack out of a `*`, so a hostile pattern costs no exponential time.
    return fnmatch.fnmatchcase(a, b.replace("[", "[[]")) if isinstance(a, str) else None


_OPERATORS: dict[str, Callable[[Value, Value], Truth]] = {
    "==": _equal,
    "!=": lambda a, b: _not(_equal(a, b)),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "=": _like,
}


def _part_of_id(name: str) -> Callable[[StoredDocument], Value]:
    """Compile `id.namespace` and the like; a user or group that the id lacks is invalid.

    Raises:
        ValueError: an id has no such part.
    """
    # Not with DocumentId.parse: the document API also stores ids with a negative number or an empty
    # namespace, which that refuses.
    places = {"scheme": 0, "namespace": 1, "type": 2, "specific": 4}
    if name in places:
        place = places[name]
        return lambda document: document.document_id.split(":", 4)[place]
    if name not in ("user", "group"):
        raise ValueError(f"id.{name} is not supported")
    key = "n" if name == "user" else "g"

    def part(document: StoredDocument) -> Value:
        found, _, value = document.document_id.split(":", 4)[3].partition("=")
        if found != key:
            return _INVALID
        return int(value) if key == "n" else value

    return part


def _lower(value: Value) -> Value:
    return value.lower() if isinstance(value, str) else _INVALID


def _number(text: str) -> int | float:
    if text[:2].lower() == "0x":
        return int(text, 16)
    if "." in text:
        return float(text)
    if not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{text} does not fit into 64 bits")
    return int(text)


def _unquoted(text: str) -> str:
    """Return the text of a string literal.

    Raises:
        ValueError: a backslash stands before a character that it cannot escape.
    """
    quote = text[0]

    def character(escape: re.Match[str]) -> str:
        escaped = escape[1]
        if len(escaped) == 3:
            return chr(int(escaped[1:], 16))
        if escaped in ("\\", quote):
            return escaped
        if escaped not in _ESCAPED:
            raise ValueError(f"\\{escaped} has no meaning in a string")
        return _ESCAPED[escaped]

    return _ESCAPE.sub(character, text[1:-1])
