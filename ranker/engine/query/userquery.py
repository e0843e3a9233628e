r"""The simple query language of `userQuery()` and `userInput()`: `+a -b "c d" title:e (f g)`.

The meaning of each sign was observed in the trace of Vespa's container (8.700.24): words joined by
anything but white space (`covid-19`, `foo.bar`) must all occur, `+` has no meaning in a weakAnd, a
`-` before a number is part of the number, `*` and `!` weights are dropped.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ranker.engine.query.tree import And, AndNot, Everything, Node, Or, Rank

__all__ = ["TYPES", "Words", "parse_user_query"]

TYPES = ("weakAnd", "all", "any", "web", "phrase", "tokenize", "linguistics", "raw")
"""The supported grammars; Vespa also has `adv`, `programmatic`, `select` and `yql`."""

Words = Callable[[str, str, bool], Node | None]
"""Makes a node of a field's name, a text, and True for a quoted text; None without a word."""

_TOKEN = re.compile(
    r'(?P<number>-\d+(?![^\s"()]))|(?P<sign>[-+]+(?=[\w"(]))|(?P<part>[()]|"[^"]*"?)'
    r'|(?P<weight>!\d*)|(?P<word>[^\s"()!]+)'
)
_SIGNS = frozenset("+-")

_FIELD = re.compile(r"(\w+):(.*)", re.DOTALL)


@dataclass
class _Group:
    """The items between two parentheses, or of the whole query."""

    items: list[Node] = field(default_factory=list)
    required: list[Node] = field(default_factory=list)
    excluded: list[Node] = field(default_factory=list)


def parse_user_query(
    text: str, type_: str, *, default: str, fields: frozenset[str], words: Words
) -> Node | None:
    """Return the tree of a query as a person types it.

    Args:
        text: the query.
        type_: one of `TYPES`.
        default: the field that is searched where the query names none.
        fields: names that may precede a colon; any other name is an ordinary word.
        words: makes a node of a field's text.

    Returns:
        None where the query has no word.
    """
    if type_ in ("tokenize", "linguistics", "raw", "phrase"):
        return _plain(text, type_, default, words)
    parser = _Parser(text, type_, default, fields, words)
    return parser.combine(parser.group(depth=0), depth=0)


def _plain(text: str, type_: str, default: str, words: Words) -> Node | None:
    """Return the node of all words, for the grammars without signs."""
    if type_ == "phrase":
        return words(default, text, True)
    node = words(default, text.lstrip("-"), False)
    return Or(node.children) if isinstance(node, And) and type_ != "raw" else node


def _tokens(text: str) -> list[str]:
    """Return the tokens without weights, and without signs that stand alone."""
    tokens = (token for token in _TOKEN.finditer(text) if token.lastgroup != "weight")
    return [t[0] for t in tokens if t.lastgroup == "sign" or not _SIGNS.issuperset(t[0])]


class _Parser:
    def __init__(
        self, text: str, type_: str, default: str, fields: frozenset[str], words: Words
    ) -> None:
        self.type = type_
        self.default = default
        self.fields = fields
        self.words = words
        self.tokens = _tokens(text)
        self.next = 0

    def group(self, depth: int) -> _Group:
        """Read the items up to the closing parenthesis."""
        group = _Group()
        while token := self._take():
            if token == ")":
                if depth:
                    break
                continue
            sign = ""
            if _SIGNS.issuperset(token):
                sign, token = token[-1], self._take()
                if not token:
                    break
            node = self._item(token, depth)
            if node is not None:
                {"-": group.excluded, "+": group.required}.get(sign, group.items).append(node)
        return group

    def _take(self) -> str:
        """Return the next token; an empty one at the end."""
        self.next += 1
        return self.tokens[self.next - 1] if self.next <= len(self.tokens) else ""

    def combine(self, group: _Group, depth: int) -> Node | None:
        """Return the node of a group."""
        positive = self._positive(group, depth)
        if not group.excluded:
            return positive
        return AndNot(positive or Everything(), tuple(group.excluded))

    def _positive(self, group: _Group, depth: int) -> Node | None:
        conjunctive = self.type == "web" or (self.type == "all" and not depth)
        # In an `any` query, only the words with a plus decide; the others add to the score.
        if self.type == "any" and group.required:
            return Rank(_joined(And, group.required), tuple(group.items))
        items = group.required + group.items
        return _joined(And if conjunctive else Or, items) if items else None

    def _item(self, token: str, depth: int) -> Node | None:
        if token == "(":
            return self.combine(self.group(depth + 1), depth + 1)
        if token.startswith('"'):
            return self.words(self.default, token.strip('"'), True)
        named = _FIELD.fullmatch(token)
        if not named or named[1] not in self.fields:
            return self.words(self.default, token, False)
        if named[2]:
            return self.words(named[1], named[2], False)
        following = self._take()
        if following == "(":  # in Vespa the field is that of the first word only
            return self.words(named[1], self._take(), False)
        if following.startswith('"'):
            return self.words(named[1], following.strip('"'), True)
        self.next -= 1
        return None


def _joined(kind: type[And] | type[Or], items: list[Node]) -> Node:
    """Return one node of many; a lone one stays as it is, and an Or in an Or is the same Or."""
    if len(items) == 1:
        return items[0]
    if kind is Or:
        flat = [i for item in items for i in (item.children if isinstance(item, Or) else (item,))]
        return Or(tuple(flat))
    return And(tuple(items))
