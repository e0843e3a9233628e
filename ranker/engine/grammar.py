"""The grammar of YQL, as far as the engine understands it, and the words of a syntax error."""

import functools
from typing import Any

from ranker.engine.faults import bad_yql
from ranker.errors import require

__all__ = ["parse"]

GRAMMAR = r"""
start: "select"i fields "from"i sources "where"i expr order? limit? offset? timeout? grouping? ";"?
fields: STAR | NAME ("," NAME)*
sources: "sources"i? (STAR | source ("," source)*)
source: NAME ("." NAME)*
order: "order"i "by"i sort ("," sort)*
sort: annotation? NAME DIRECTION?
limit: "limit"i INTEGER
offset: "offset"i INTEGER
timeout: "timeout"i INTEGER
grouping: "|" /.+/s

?expr: both ("or"i both)*             -> either
?both: unit ("and"i unit)*            -> both
?unit: "(" expr ")"
     | annotation unit                -> annotated
     | "!" unit                       -> negation
     | "true"i                        -> everything
     | "false"i                       -> nothing
     | NAME "(" [argument ("," argument)*] ")"   -> call
     | NAME "contains"i word          -> contains
     | NAME "matches"i word           -> matches
     | NAME SIGN value                -> compare
     | NAME "in"i "(" [value ("," value)*] ")"   -> one_of
?word: "(" word ")"
     | annotation word                -> annotated
     | NAME "(" [argument ("," argument)*] ")"   -> function
     | value
?argument: expr | value | NAME        -> name
         | MAP                        -> map
?value: STRING -> string | FLOAT -> number | INTEGER -> number | INFINITE -> number
      | "@" NAME -> reference
annotation: "{" [pair ("," pair)*] "}" | "[" "{" [pair ("," pair)*] "}" "]"
pair: (NAME | STRING) ":" setting
?setting: STRING -> string | FLOAT -> number | INTEGER -> number | TRUTH -> truth
        | "@" NAME -> reference | annotation

DIRECTION: "asc"i | "desc"i
SIGN: "<=" | ">=" | "!=" | "<" | ">" | "="
STAR: "*"
MAP: /\{\s*"[^{}]*\}/
TRUTH.2: /(true|false)\b/i
INFINITE.2: /-?Infinity\b/
NAME: /[A-Za-z_][\w]*/i
FLOAT: /[+-]?\d+\.\d+([eE][+-]?\d+)?/
INTEGER: /[+-]?\d+L?/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
%ignore /\s+/
"""


def parse(text: str) -> Any:
    """Lark's tree of a YQL statement.

    Raises:
        QueryFault: code 4, it is not YQL.
    """
    lark = require("lark", extra="engine")
    try:
        return _parser().parse(text)
    except lark.exceptions.LarkError as error:
        raise bad_yql(_where(error)) from error


@functools.cache
def _parser() -> Any:
    return require("lark", extra="engine").Lark(GRAMMAR, parser="lalr")


def _where(error: Any) -> str:
    """Place and token, as Vespa's parser words them."""
    token = getattr(error, "token", None)
    line, column = getattr(error, "line", 1), getattr(error, "column", 1)
    if token is not None and token.type == "$END":
        return "query:L1 mismatched input '<EOF>': the statement is not complete"
    shown = token if token is not None else getattr(error, "char", "")
    return f"query:L{line}:{max(column - 1, 0)} mismatched input '{shown}'"
