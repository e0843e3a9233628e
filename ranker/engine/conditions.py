"""Document selections: `doc.title == "x" and doc.token_spec > 5`, as test-and-set conditions.

The part of Vespa's selection language that compares this schema's fields, with `and`, `or`, `not`
and parentheses; also the `selection` of a visit.  Anything else is refused.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

from ranker import contract
from ranker.engine.entry import FIELDS, Entry
from ranker.engine.faults import DocumentFault
from ranker.errors import require

__all__ = ["Condition", "parse_condition"]

Condition = Callable[[str, Entry], bool]
"""Whether a document (its id, its entry) is selected."""

GRAMMAR = r"""
?start: either
?either: both ("or"i both)*            -> either
?both: negation ("and"i negation)*     -> both
?negation: "not"i negation             -> negation
         | "(" either ")"
         | "true"i                     -> always
         | "false"i                    -> never
         | operand OPERATOR operand    -> comparison
         | NAME                        -> of_type
?operand: NAME "." NAME                -> field
        | "id"                         -> document_id
        | STRING                       -> string
        | NUMBER                       -> number
        | "null"i                      -> null
OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">"
NAME: /[A-Za-z_]\w*/i
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/
NUMBER: /[+-]?\d+(\.\d+)?([eE][+-]?\d+)?/
%ignore /\s+/
"""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@functools.lru_cache(maxsize=256)
def parse_condition(text: str, document_type: str) -> Condition:
    """The condition of a text.

    Raises:
        DocumentFault: 400, the text is not in the part of the language that is known here.
    """
    lark = require("lark", extra="engine")
    try:
        return _Build(document_type).build(_parser().parse(text))
    except lark.exceptions.LarkError as error:
        reason = str(error).splitlines()[0]
        raise DocumentFault(
            400,
            f"Failed to parse condition '{text}': {reason}; the embedded engine knows "
            f"{document_type}.FIELD == != < <= > >= VALUE, id, and, or, not and parentheses",
        ) from error


@functools.cache
def _parser() -> Any:
    return require("lark", extra="engine").Lark(GRAMMAR, parser="lalr")


class _Build:
    """Syntax tree to function."""

    def __init__(self, document_type: str) -> None:
        self.document_type = document_type

    def build(self, tree: Any) -> Condition:
        """The condition of a node."""
        if tree.data in ("either", "both"):
            parts = [self.build(child) for child in tree.children]
            combine = any if tree.data == "either" else all
            return lambda id_, entry: combine(part(id_, entry) for part in parts)
        if tree.data == "negation":
            inner = self.build(tree.children[0])
            return lambda id_, entry: not inner(id_, entry)
        if tree.data == "comparison":
            return self._comparison(*tree.children)
        if tree.data == "of_type":
            self._check_type(str(tree.children[0]))
        verdict = tree.data != "never"
        return lambda id_, entry: verdict

    def _comparison(self, left: Any, sign: Any, right: Any) -> Condition:
        first, second = self._operand(left), self._operand(right)
        compare = _OPERATORS[str(sign)]

        def condition(id_: str, entry: Entry) -> bool:
            a, b = first(id_, entry), second(id_, entry)
            if compare in (operator.eq, operator.ne):
                return compare(a, b)
            # An order between a number and a text, or with a field that is not set, never holds.
            comparable = isinstance(a, str) == isinstance(b, str) and None not in (a, b)
            return comparable and compare(a, b)

        return condition

    def _operand(self, tree: Any) -> Callable[[str, Entry], Any]:
        if tree.data == "document_id":
            return lambda id_, entry: id_
        if tree.data == "field":
            return self._field(*map(str, tree.children))
        value: Any = None
        if tree.data == "number":
            value = float(tree.children[0])
        elif tree.data == "string":
            text = str(tree.children[0])[1:-1]
            value = text.replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")
        return lambda id_, entry: value

    def _field(self, document_type: str, name: str) -> Callable[[str, Entry], Any]:
        self._check_type(document_type)
        if name not in FIELDS or name == contract.DOC_TOKEN_IDS:
            known = ", ".join(field for field in FIELDS if field != contract.DOC_TOKEN_IDS)
            raise DocumentFault(
                400, f"Cannot compare '{document_type}.{name}' in a condition: known are {known}"
            )
        return lambda id_, entry: getattr(entry, name)

    def _check_type(self, document_type: str) -> None:
        if document_type != self.document_type:
            raise DocumentFault(400, f"Document type '{document_type}' not found")
