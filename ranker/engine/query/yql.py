"""YQL: a text becomes a `Statement` with a query tree.

The grammar is in `grammar`, the meaning here.  Whatever Vespa supports and this engine does not is
refused by name.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ranker.engine.errors import QueryError, bad_query
from ranker.engine.query.fields import (
    DEFAULT_FIELD,
    SEARCHABLE,
    SORTABLE,
    field_words,
    searched_field,
)
from ranker.engine.query.grammar import Syntax, parse
from ranker.engine.query.grouping import Grouping, parse_grouping
from ranker.engine.query.operands import (
    LITERALS,
    SIGNS,
    Notes,
    as_string,
    bound_of,
    check_notes,
    list_items,
    notes_of,
    number_of,
    number_text,
    path_of,
    shown,
)
from ranker.engine.query.properties import Parameters
from ranker.engine.query.tree import (
    And,
    AndNot,
    Everything,
    Node,
    Nothing,
    Or,
    Phrase,
    Range,
    Rank,
    Strings,
)
from ranker.engine.query.userquery import TYPES, parse_user_query
from ranker.lexical.terms import terms

__all__ = ["Context", "Statement", "check_source", "parse_yql", "user_query"]

_CALLS = "userQuery userInput weakAnd rank nonEmpty range".split()
_CALLS_OF_VESPA = (
    "wand weightedSet dotProduct geoBoundingBox geoLocation nearestNeighbor predicate".split()
)
_WORDS = ["phrase", "text"]
_WORDS_OF_VESPA = "equiv near onear sameElement uri fuzzy".split()
"""What Vespa also knows, and is not supported here."""

_UNSCORED = ("ranked", "filter")
"""Annotations without an effect on what never counts for the score."""

_BOUNDS = ("closed", "open", "leftOpen", "rightOpen")
_FLIPPED = {"eq": "eq", "lt": "gt", "gt": "lt", "lteq": "gteq", "gteq": "lteq"}
_VALUES = (*LITERALS, "varref", "negate")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a statement takes from the rest of the request.

    Attributes:
        parameters: all parameters, for `@name`.
        query: the user's query, for `userQuery()`.
        type: its grammar.
        default: the field that it searches.
        sources: the names that a query may give to what it searches.
    """

    parameters: Parameters
    query: str
    type: str
    default: str
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A query as YQL states it.

    Attributes:
        tree: what matches; None where the query has no word.
        fields: the summary fields that were asked for, None for all.
        order: attributes to sort by, with True for descending; empty for relevance.
        hits, offset, timeout_s, grouping: None where the statement does not state them.
    """

    tree: Node | None
    fields: tuple[str, ...] | None = None
    order: tuple[tuple[str, bool], ...] = ()
    hits: int | None = None
    offset: int | None = None
    timeout_s: float | None = None
    grouping: Grouping | None = None


def parse_yql(text: str, context: Context) -> Statement:
    """Return the statement of a YQL text.

    Raises:
        QueryError: code 4, the text is not YQL or asks for something unsupported.
    """
    return _Build(context).statement({child.data: child for child in parse(text).children})


def user_query(context: Context) -> Node | None:
    """Return the tree of the request's `query` parameter.

    Raises:
        QueryError: the query names a field that cannot be searched.
    """
    return parse_user_query(
        context.query, context.type, default=context.default, fields=SEARCHABLE, words=field_words
    )


def check_source(name: str, sources: tuple[str, ...]) -> None:
    """Refuse another source than the known ones.

    Raises:
        QueryError: code 4.
    """
    if name not in sources:
        raise bad_query(f"unknown source '{name}'; expected one of {', '.join(sources)}")


class _Build:
    """Syntax tree to statement."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._non_empty = False  # True within nonEmpty(...), where every part must have a word

    def statement(self, parts: dict[str, Syntax]) -> Statement:
        """Return the whole statement; `parts` are its clauses by name."""
        tree = self.node(parts["where"].children[0])
        grouping = None
        if "grouping" in parts:
            text = str(parts["grouping"].children[0])
            grouping = parse_grouping(text, self.context.parameters)
        offset, limit, timeout = (_clause(parts, name) for name in ("offset", "limit", "timeout"))
        for source in map(path_of, parts["sources"].children):
            if source != "*":
                check_source(source, self.context.sources)
        order = tuple(map(_sort_key, parts["order"].children)) if "order" in parts else ()
        if timeout is not None and not 0 <= timeout < 10**9:
            raise QueryError(17, f"YQL: expected a timeout from 0 to 999999999 ms, got {timeout}")
        fields = tuple(map(path_of, parts["fields"].children))
        return Statement(
            tree=tree,
            fields=None if fields == ("*",) else fields,
            order=order,
            # Vespa's limit counts from the first hit, its hits from the offset.
            hits=None if limit is None else limit - (offset or 0),
            offset=0 if offset is None and limit is not None else offset,
            timeout_s=None if timeout is None else timeout / 1000,
            grouping=grouping,
        )

    def node(self, tree: Syntax, notes: Notes | None = None) -> Node | None:
        """Return the query tree of an expression; None where its text has no word."""
        node = self._node(tree, notes or {})
        if node is None and self._non_empty:
            raise bad_query("YQL: a part of nonEmpty(...) has no word")
        return node

    def _node(self, tree: Syntax, notes: Notes) -> Node | None:
        match tree.data:
            case "annotated":
                return self.node(tree.children[1], {**notes, **notes_of(tree.children[0])})
            # A part without a word drops out of the query, as in Vespa.
            case "or":
                return _joined(Or, [self.node(child) for child in tree.children])
            case "and":
                return self._and(tree.children)
            case "not":
                return self._and([tree])
            case "boolean":
                return Everything() if str(tree.children[0]).lower() == "true" else Nothing()
            case "contains":
                left, word = tree.children
                return self._contains(left, word, notes)
            case "eq" | "lt" | "gt" | "lteq" | "gteq":
                check_notes(notes, *_UNSCORED)
                return self._compare(tree)
            case "in":
                check_notes(notes, *_UNSCORED)
                return self._in(tree.children[0], tree.children[1:])
            case "call":
                return self._call(path_of(tree.children[0]), _arguments(tree), notes)
            case "matches":
                raise bad_query("'matches' is not supported by the embedded engine")
        raise bad_query(f"YQL: expected a condition such as FIELD contains WORD, got {shown(tree)}")

    def _and(self, children: Sequence[Syntax]) -> Node | None:
        positive = [self.node(child) for child in children if child.data != "not"]
        negative = [self.node(child.children[0]) for child in children if child.data == "not"]
        excluded = tuple(node for node in negative if node)
        first = _joined(And, positive) or (Everything() if negative else None)
        return AndNot(first or Everything(), excluded) if excluded else first

    def _call(self, name: str, arguments: list[Syntax], notes: Notes) -> Node | None:
        match name:
            case "userQuery":
                return user_query(self.context)
            case "userInput":
                return self._user_input(arguments, notes)
            case "weakAnd":
                check_notes(notes)
                # Exact, so it is an `or`: Vespa's skips documents that cannot reach the top.
                return _joined(Or, [self.node(argument) for argument in arguments])
            case "rank":
                nodes = [node for node in map(self.node, arguments) if node]
                return Rank(nodes[0], tuple(nodes[1:])) if nodes else None
            case "nonEmpty":
                _check_count(name, 1, arguments)
                outer, self._non_empty = self._non_empty, True
                node = self.node(arguments[0])
                self._non_empty = outer
                return node
            case "range":
                _check_count(name, 3, arguments)
                return self._range(*arguments, notes=notes)
        raise _unknown(name, _CALLS, _CALLS_OF_VESPA)

    def _user_input(self, arguments: list[Syntax], notes: Notes) -> Node | None:
        if not arguments:
            raise bad_query("YQL: userInput needs an argument, as userInput(@name)")
        text = as_string(arguments[0], self.context.parameters)
        check_notes(notes, "defaultIndex", "grammar", "allowEmpty", *_UNSCORED)
        grammar, default = notes.get("grammar", "weakAnd"), notes.get("defaultIndex", DEFAULT_FIELD)
        if grammar not in TYPES:
            raise bad_query(f"YQL: expected a grammar of {', '.join(TYPES)}, got '{grammar}'")
        searched_field(default)
        words = functools.partial(field_words, ranked=_is_ranked(notes))
        node = parse_user_query(text, grammar, default=default, fields=SEARCHABLE, words=words)
        if node is None and not notes.get("allowEmpty"):
            raise bad_query(
                f"YQL: userInput got {text!r:.80}, which has no word; {{allowEmpty:true}} allows it"
            )
        return node

    def _contains(self, left: Syntax, word: Syntax, notes: Notes) -> Node | None:
        name = _field_name(left)
        field = searched_field(name)
        while word.data == "annotated":
            notes = {**notes, **notes_of(word.children[0])}
            word = word.children[1]
        check_notes(notes, *_UNSCORED)
        ranked = _is_ranked(notes)
        if word.data == "call":
            function, arguments = path_of(word.children[0]), _arguments(word)
            return self._contains_call(name, function, arguments, ranked)
        text = as_string(word, self.context.parameters)
        _check_words([text])
        if field.indexed and not terms(text):
            return Nothing()  # Vespa looks for the signs themselves, which no document has
        return field_words(name, text, True, ranked=ranked)

    def _contains_call(
        self, name: str, function: str, arguments: list[Syntax], ranked: bool
    ) -> Node | None:
        if function not in _WORDS:
            raise _unknown(function, _WORDS, _WORDS_OF_VESPA)
        field = searched_field(name)
        if not field.indexed:
            raise bad_query(f"'{name} contains {function}' is not supported by the embedded engine")
        if function == "text" and not arguments:
            raise bad_query("YQL: text needs an argument, as text(@name)")
        texts = [as_string(argument, self.context.parameters) for argument in arguments]
        if function == "text":
            words = functools.partial(field_words, ranked=ranked)
            return parse_user_query(
                texts[0], "tokenize", default=name, fields=SEARCHABLE, words=words
            )
        _check_words(texts)
        parts = [terms(text) for text in texts]
        if not all(parts):
            return Nothing()  # as above
        return Phrase(field.name, tuple(itertools.chain(*parts)), ranked) if parts else None

    def _compare(self, tree: Syntax) -> Node:
        sign, (left, right) = str(tree.data), tree.children
        if left.data in _VALUES and right.data == "read_field":
            sign, left, right = _FLIPPED[sign], right, left
        if left.data != "read_field" or right.data not in _VALUES:
            raise bad_query(
                f"YQL: expected a field and a value around '{SIGNS[sign]}', got "
                f"{shown(left)} and {shown(right)}"
            )
        name = _field_name(left)
        field = searched_field(name)
        text = number_text(right, self.context.parameters)
        number = 0.0 if right.data == "boolean" else number_of(text)
        if field.kind != "number" or right.data == "boolean":
            raise bad_query(
                f"'{name} {SIGNS[sign]} {text}' is not supported by the embedded engine"
            )
        # The field holds whole numbers only, so a fraction moves the bound to the next one.
        up, down = math.ceil(number), math.floor(number)
        match sign:
            case "eq":
                return Range(name, up, down) if up == down else Nothing()
            case "lt":
                return Range(name, None, up - 1)
            case "lteq":
                return Range(name, None, down)
            case "gt":
                return Range(name, down + 1, None)
        return Range(name, up, None)

    def _range(self, left: Syntax, *bounds: Syntax, notes: Notes) -> Node:
        name = _field_name(left)
        low, high = map(bound_of, bounds)
        if searched_field(name).kind != "number":
            raise bad_query(f"range on '{name}' is not supported by the embedded engine")
        check_notes(notes, "bounds", *_UNSCORED)
        kind = notes.get("bounds", "closed")
        if kind not in _BOUNDS:
            raise bad_query(f"YQL: expected bounds of {', '.join(_BOUNDS)}, got '{kind}'")
        if "bounds" not in notes:  # Vespa turns them round where they are the wrong way
            low, high = min(low, high), max(low, high)
        open_low, open_high = kind in ("open", "leftOpen"), kind in ("open", "rightOpen")
        return Range(
            name,
            None if math.isinf(low) else math.floor(low) + 1 if open_low else math.ceil(low),
            None if math.isinf(high) else math.ceil(high) - 1 if open_high else math.floor(high),
        )

    def _in(self, left: Syntax, members: Sequence[Syntax]) -> Node:
        name = _field_name(left)
        field = searched_field(name)
        if field.indexed:
            raise bad_query(
                f"'in' on the index field '{name}' is not supported by the embedded engine"
            )
        lists = [list_items(member, field.kind, self.context.parameters) for member in members]
        items = list(itertools.chain(*lists))
        if not items:
            return Nothing()
        if field.kind == "string":
            return Strings(name, frozenset(item.lower() for item in items))
        return Or(tuple(Range(name, number, number) for number in map(int, items)))


def _sort_key(sort: Syntax) -> tuple[str, bool]:
    """Return an attribute, and True for descending."""
    path, *direction = sort.children
    if path.data == "annotation":
        raise bad_query("annotations in 'order by' are not supported by the embedded engine")
    name = path_of(path)
    if name not in SORTABLE:
        expected = " or ".join(SORTABLE)
        raise bad_query(f"YQL: expected order by {expected}, got '{name}'", in_cluster=True)
    return name, bool(direction) and str(direction[0]).lower() == "desc"


def _field_name(tree: Syntax) -> str:
    """Return the field left of an operator; as in Vespa, its name may be in quotes.

    Raises:
        QueryError: code 4, the expression is not a name.
    """
    if tree.data == "read_field":
        return path_of(tree.children[0])
    if tree.data in LITERALS:
        return number_text(tree, {})
    raise bad_query(f"YQL: expected a field, got {shown(tree)}")


def _arguments(call: Syntax) -> list[Syntax]:
    return [argument for argument in call.children[1:] if argument is not None]


def _check_count(name: str, count: int, arguments: list[Syntax]) -> None:
    if len(arguments) != count:
        raise bad_query(f"YQL: {name} takes {count} arguments, got {len(arguments)}")


def _check_words(texts: Sequence[str]) -> None:
    if "" in texts:
        raise bad_query("YQL: expected a word after contains, got an empty text")


def _unknown(name: str, known: list[str], known_by_vespa: list[str]) -> QueryError:
    if name in known_by_vespa:
        return bad_query(f"'{name}' is not supported by the embedded engine")
    return bad_query(f"YQL: unknown function '{name}'; expected one of {', '.join(known)}")


def _joined(kind: type[And] | type[Or], nodes: list[Node | None]) -> Node | None:
    present = [node for node in nodes if node is not None]
    return kind(tuple(present)) if len(present) > 1 else present[0] if present else None


def _clause(parts: dict[str, Syntax], name: str) -> int | None:
    """Return the number of a clause, None without the clause."""
    if name not in parts:
        return None
    number = number_of(str(parts[name].children[0]))
    if not -(2**31) <= number < 2**31:
        raise bad_query(f"YQL: expected a {name} of 32 bits, got {number}")
    return int(number)


def _is_ranked(notes: Notes) -> bool:
    return notes.get("ranked", True) is not False and notes.get("filter", False) is not True
