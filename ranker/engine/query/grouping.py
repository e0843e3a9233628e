r"""The one grouping that is known here: which of some documents match.

    all(group(doc_id) filter(regex("^(?:a|b)$", doc_id)) each(output(count())))

It is what pyvespa's `VespaMatchEvaluator` asks, whose recall is that of the matching alone.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker.contract import vespa_names
from ranker.engine.errors import QueryError, bad_yql, illegal_query
from ranker.errors import require

__all__ = ["Grouping", "parse_grouping"]

MAX_GROUPS = "10"
"""Vespa's own default; -1 is no limit."""

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
        values: the values of the groups that are wanted.
        most: how many groups are returned, the best first; None for all.
    """

    field: str
    values: frozenset[str]
    most: int | None


def parse_grouping(text: str, parameters: Mapping[str, str]) -> Grouping:
    """The grouping of the text after YQL's `|`.

    Raises:
        QueryError: code 4, it is another one; 3 or 17, it cannot be.
    """
    lark = require("lark", extra="engine")
    try:
        field, condition = _parser().parse(text.strip()).children
    except lark.exceptions.LarkError as error:
        raise _refusal() from error
    pattern, filtered = map(str, condition.children)
    for name in (str(field), filtered):
        if name != vespa_names.ID:
            raise QueryError(
                17,
                f"Invalid request: Grouping request references attribute '{name}' which cannot be "
                f"grouped by in the embedded engine; '{vespa_names.ID}' can",
            )
    most = parameters.get("grouping.defaultMaxGroups", MAX_GROUPS)
    if not re.fullmatch(r"-1|\d{1,9}", most):
        raise illegal_query(
            f"Could not set 'grouping.defaultMaxGroups' to '{most}': "
            f"'{most}' is not a valid integer"
        )
    return Grouping(str(field), _values(pattern), None if most == "-1" else int(most))


def _values(pattern: str) -> frozenset[str]:
    """The texts that an alternation of escaped texts fits; another expression is refused."""
    pattern = re.sub(r"\\(.)", r"\1", pattern[1:-1], flags=re.DOTALL)
    found = _PATTERN.fullmatch(pattern)
    if not found:
        raise _refusal()
    whole = found["one"] if found["several"] is None else found["several"]
    texts = re.findall(r"(?:[^\\|]|\\.)+", whole, re.DOTALL)
    if "|".join(texts) != whole or not all(_LITERAL.fullmatch(text) for text in texts):
        raise _refusal()
    return frozenset(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) for text in texts)


def _refusal() -> QueryError:
    field = vespa_names.ID
    return bad_yql(
        "Grouping is not supported by the embedded engine, but for "
        f'all(group({field}) filter(regex("^(?:a|b)$", {field})) each(output(count())))'
    )


@functools.cache
def _parser() -> Any:
    return require("lark", extra="engine").Lark(GRAMMAR, parser="lalr")
