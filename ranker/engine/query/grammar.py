"""The grammar of YQL, and the words of a syntax error.

Expressions are read whole, with Vespa's precedences and its names for the operators; what of them
means something here is for `yql` to say, so that an expression with no meaning is refused by the
name of its operator and never read as another one.
"""

import functools
from typing import Any

from ranker.engine.errors import bad_yql
from ranker.errors import require

__all__ = ["parse"]

GRAMMAR = r"""
start: _SELECT fields sources? where? order? limit? offset? timeout? grouping? ";"?
fields: STAR | path ("," path)*
sources: _FROM (path | _SOURCES STAR | _SOURCES path ("," path)*)
where: _WHERE expr
order: _ORDER sort ("," sort)*
sort: annotation? path DIRECTION?
limit: _LIMIT INTEGER
offset: _OFFSET INTEGER
timeout: _TIMEOUT INTEGER
grouping: "|" /.+/s

?expr: either
     | annotation either                     -> annotated
     | map
     | _NULL                                 -> null
?either: both | both (_OR both)+             -> or
?both: equality | equality (_AND equality)+  -> and
?equality: relational
         | relational "=" relational         -> eq
         | relational "!=" relational        -> neq
         | relational _CONTAINS relational   -> contains
         | relational _MATCHES relational    -> matches
         | relational _LIKE relational       -> like
         | relational _NOT _MATCHES relational -> not_matches
         | relational _NOT _LIKE relational  -> not_like
         | relational _IN _literals          -> in
         | relational _NOT _IN _literals     -> not_in
         | relational _IS _NULL              -> is_null
         | relational _IS _NOT _NULL         -> is_not_null
_literals: "(" literal ("," literal)* ")"
?relational: additive
           | additive "<" additive           -> lt
           | additive ">" additive           -> gt
           | additive "<=" additive          -> lteq
           | additive ">=" additive          -> gteq
?additive: product
         | product "+" additive              -> add
         | product "-" additive              -> sub
?product: unary
        | unary "*" product                  -> mult
        | unary "/" product                  -> div
        | unary "%" product                  -> mod
?unary: primary
      | "!" primary                          -> not
      | "-" primary                          -> negate
?primary: "(" expr ")"
        | path "(" [expr ("," expr)*] ")"    -> call
        | path                               -> read_field
        | literal
?literal: STRING -> string | LONG -> long | INTEGER -> integer | FLOAT -> double
        | TRUTH -> boolean | "@" NAME -> varref
annotation: _map | "[" _map "]"
map: _map
_map: "{" [pair ("," pair)*] "}"
pair: (NAME | STRING) ":" setting
?setting: literal | map | list
list: "[" [setting ("," setting)*] "]"
path: NAME ("." NAME)*

_ORDER.3: "order by"i
DIRECTION.2: /(asc|desc)(?![A-Za-z0-9_-])/i
STAR: "*"
TRUTH.2: /(true|false)(?![A-Za-z0-9_-])/i
NAME: /(?!(from|and|or|in|contains|timeout|as|asc)(?![A-Za-z0-9_-]))[A-Za-z_][A-Za-z0-9_-]*/i
FLOAT.3: /-?([0-9]+\.[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)/
LONG.2: /-?[0-9]+L/i
INTEGER: /-?[0-9]+/
STRING: "\"" (_ESCAPE | /[^"\\]/s)* "\"" | "'" (_ESCAPE | /[^'\\]/s)* "'"
_ESCAPE: /\\([btnfr"'\\\/]|u[0-9a-fA-F]{4})/
%ignore /[ \t\r\n]+/
%ignore /(\/\/|#)[^\r\n]*/
%ignore /\/\*.*?\*\//s
"""

KEYWORDS = (
    "select from sources where limit offset timeout or and not in is null contains matches like"
)
GRAMMAR += "\n".join(f"_{word.upper()}.2: /{word}(?![A-Za-z0-9_-])/i" for word in KEYWORDS.split())


REMEMBERED = 4096
"""Longest statement that is kept with its tree: most clients repeat a short one."""


def parse(text: str) -> Any:
    """Lark's tree of a YQL statement, which must not be changed.

    Raises:
        QueryError: code 4, it is not YQL.
    """
    return _remembered(text) if len(text) <= REMEMBERED else _parsed(text)


@functools.lru_cache(maxsize=256)
def _remembered(text: str) -> Any:
    return _parsed(text)


def _parsed(text: str) -> Any:
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
