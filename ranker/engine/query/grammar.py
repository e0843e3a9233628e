"""The grammar of YQL.

Expressions are read whole, with Vespa's precedences; `yql` decides which of them have a meaning
here, so that an expression without one is refused by its operator and never read as another one.
"""

import functools
from typing import Any, Protocol

from ranker.engine.errors import bad_query
from ranker.errors import require

__all__ = ["Syntax", "parse", "parser"]


class Syntax(Protocol):
    """A node of the syntax tree: the rule's name, and nodes or tokens below it."""

    @property
    def data(self) -> str:
        """The rule's name."""

    @property
    def children(self) -> list[Any]:
        """The parts, in the order of the text; None where an optional part is missing."""


GRAMMAR = r"""
start: _SELECT fields sources where order? limit? offset? timeout? grouping? ";"?
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

# A keyword ends only where a name would: `andtrue` is a name.
KEYWORDS = (
    "select from sources where limit offset timeout or and not in is null contains matches like"
)
GRAMMAR += "\n".join(f"_{word.upper()}.2: /{word}(?![A-Za-z0-9_-])/i" for word in KEYWORDS.split())

REMEMBERED = 4096
"""Characters of the longest statement whose tree is kept: most clients repeat a short one."""


def parse(text: str) -> Syntax:
    """Parse a YQL statement; the tree must not be changed.

    Raises:
        QueryError: code 4, the text is not YQL.
    """
    return (_parse if len(text) <= REMEMBERED else _parse.__wrapped__)(text)


@functools.lru_cache(maxsize=256)
def _parse(text: str) -> Syntax:
    lark = require("lark", extra="engine")
    try:
        tree: Syntax = parser(GRAMMAR).parse(text)
    except lark.exceptions.UnexpectedInput as error:
        token = getattr(error, "token", None)
        if token is not None and token.type == "$END":
            raise bad_query("YQL: the statement is incomplete") from error
        raise bad_query(
            f"YQL: unexpected {str(token or error.char)!r} in line {error.line}, "
            f"column {error.column}"
        ) from error
    return tree


@functools.cache
def parser(grammar: str) -> Any:
    """Return lark's parser of a grammar, made once."""
    return require("lark", extra="engine").Lark(grammar, parser="lalr")
