r"""The one grouping that is supported here: which of some documents match.

    all(group(doc_id) filter(regex("^(?:a|b)$", doc_id)) each(output(count())))

pyvespa's `VespaMatchEvaluator` sends it, to measure the recall of matching alone.
"""

import re
from dataclasses import dataclass

from ranker.contract import vespa_names
from ranker.engine.errors import QueryError, bad_query, illegal_query
from ranker.engine.query.grammar import parser
from ranker.engine.query.properties import Parameters, text_of, whole
from ranker.errors import require

__all__ = ["Grouping", "parse_grouping"]

MAX_GROUPS = 10
"""Vespa's own default; -1 means unlimited."""

GRAMMAR = r"""
start: "all" "(" "group" "(" NAME ")" filter _each ")" ";"?
_each: "each" "(" "output" "(" "count" "(" ")" ")" ")"
filter: "filter" "(" "regex" "(" STRING "," NAME ")" ")"
NAME: /[A-Za-z_]\w*/
STRING: /"(?:[^"\\]|\\.)*"/s
%ignore /\s+/
"""

_PATTERN = re.compile(r"\^(?:\(\?:(?P<several>.*)\)|(?P<one>(?:[^\\|]|\\.)*))\$", re.DOTALL)
_LITERAL = re.compile(r"(?:[^\\.^$*+?()\[\]{}|]|\\\W)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups by the value of a string attribute.

    Attributes:
        field: the attribute.
        values: the values whose groups are wanted.
        most: the number of groups to return, best first; None for all.
    """

    field: str
    values: frozenset[str]
    most: int | None


def parse_grouping(text: str, parameters: Parameters) -> Grouping:
    """Return the grouping of the text after YQL's `|`.

    Raises:
        QueryError: code 4 for another grouping, 17 for another field, 3 for an illegal number of
            groups.
    """
    lark = require("lark", extra="engine")
    try:
        field, condition = parser(GRAMMAR).parse(text.strip()).children
    except lark.exceptions.LarkError as error:
        raise _refusal() from error
    pattern, filtered = map(str, condition.children)
    for name in (str(field), filtered):
        if name != vespa_names.ID:
            raise QueryError(17, f"expected a grouping by '{vespa_names.ID}', got '{name}'")
    most = whole(parameters.get("grouping.defaultMaxGroups", MAX_GROUPS))
    if most is None or most < -1:
        got = text_of(parameters["grouping.defaultMaxGroups"])
        raise illegal_query(
            f"'grouping.defaultMaxGroups': expected a number or -1, got {got!r:.80}"
        )
    return Grouping(str(field), _values(pattern), None if most == -1 else most)


def _values(pattern: str) -> frozenset[str]:
    """Return the texts that an alternation of escaped texts fits; refuse another expression."""
    pattern = re.sub(r"\\(.)", r"\1", pattern[1:-1], flags=re.DOTALL)
    alternation = _PATTERN.fullmatch(pattern)
    if not alternation:
        raise _refusal()
    several = alternation["several"]
    whole = alternation["one"] if several is None else several
    texts = re.findall(r"(?:[^\\|]|\\.)+", whole, re.DOTALL)
    if "|".join(texts) != whole or not all(_LITERAL.fullmatch(text) for text in texts):
        raise _refusal()
    return frozenset(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) for text in texts)


def _refusal() -> QueryError:
    field = vespa_names.ID
    return bad_query(
        "this grouping is not supported by the embedded engine; expected "
        f'all(group({field}) filter(regex("^(?:a|b)$", {field})) each(output(count())))'
    )
