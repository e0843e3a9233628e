"""YQL: text to a `Statement` with a query tree.

The grammar is in `grammar`, the meaning here.  What Vespa knows and this engine does not is
refused by name; messages are Vespa's where it refuses too.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker.contract import vespa_names
from ranker.engine.errors import QueryError, bad_in_cluster, bad_query, bad_yql
from ranker.engine.query.fields import SEARCHABLE, SORTABLE, field_words, kind_of
from ranker.engine.query.grammar import parse
from ranker.engine.query.grouping import Grouping, parse_grouping
from ranker.engine.query.operands import (
    Notes,
    as_string,
    bound_of,
    check_notes,
    is_number,
    list_items,
    notes_of,
    number_of,
    number_words,
    operator_name,
)
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

__all__ = ["Context", "Statement", "parse_yql", "user_query"]

_CALLS = (
    "userQuery, range, wand, weightedSet, dotProduct, geoBoundingBox, geoLocation, "
    "nearestNeighbor, predicate, rank, weakAnd, userInput or nonEmpty"
)
_OPERATORS = "AND, OR, EQ, LT, GT, LTEQ, GTEQ, CONTAINS, MATCHES, CALL, LITERAL, NOT or IN"
_WORDS = "equiv, near, onear, phrase, sameElement, text, uri or fuzzy"
_UNSCORED = ("ranked", "filter")
"""Annotations without an effect on what never counts for the score."""

_FLIPPED = {"eq": "eq", "lt": "gt", "gt": "lt", "lteq": "gteq", "gteq": "lteq"}
_SIGNS = {"eq": "=", "lt": "<", "gt": ">", "lteq": "<=", "gteq": ">="}
_VALUES = ("string", "integer", "long", "double", "boolean", "varref", "negate")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a statement takes from the rest of the request.

    Attributes:
        parameters: all parameters, for `@name`.
        query: the user's query, for `userQuery()`.
        type: its grammar.
        default: the field that it searches.
        schema: name of the schema.
        cluster: name of the content cluster.
    """

    parameters: Mapping[str, str]
    query: str
    type: str
    default: str
    schema: str
    cluster: str


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A query as YQL says it.

    Attributes:
        tree: what matches; None where the query has no word.
        fields: the summary fields that were asked for, None for all.
        order: attributes to sort by, with True for descending; empty for relevance.
        hits, offset, timeout_s, grouping: None where the statement does not say.
    """

    tree: Node | None
    fields: tuple[str, ...] | None = None
    order: tuple[tuple[str, bool], ...] = ()
    hits: int | None = None
    offset: int | None = None
    timeout_s: float | None = None
    grouping: Grouping | None = None


def parse_yql(text: str, context: Context) -> Statement:
    """The statement of a YQL text.

    Raises:
        QueryError: code 4, it is not YQL or asks for what is not supported.
    """
    parsed = parse(text)
    return _Build(context).statement({child.data: child for child in parsed.children})


def user_query(context: Context) -> Node | None:
    """The tree of the request's `query` parameter.

    Raises:
        QueryError: it names a field that cannot be searched.
    """
    return parse_user_query(
        context.query, context.type, default=context.default, fields=SEARCHABLE, words=field_words
    )


class _Build:
    """Syntax tree to statement."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._non_empty = False  # whether within nonEmpty(...), where every part must have a word

    def statement(self, parts: dict[str, Any]) -> Statement:
        """The whole statement; `parts` are its clauses by name."""
        if "where" not in parts:
            raise bad_yql("Expected operator FILTER, got SCAN.")
        if "sources" not in parts:
            raise bad_yql("Argument 0 of FILTER must not be null")
        tree = self.node(parts["where"].children[0])
        grouping = self._grouping(parts.get("grouping"))
        offset, limit, timeout = (_clause(parts, name) for name in ("offset", "limit", "timeout"))
        self._check_sources(parts["sources"])
        named = [_path(path) for path in parts["fields"].children]
        return Statement(
            tree=tree,
            fields=None if named == ["*"] else tuple(named),
            order=self._order(parts.get("order")),
            # Vespa's limit counts from the first hit, its hits from the offset.
            hits=None if limit is None else limit - (offset or 0),
            offset=0 if offset is None and limit is not None else offset,
            timeout_s=None if timeout is None else _seconds(timeout),
            grouping=grouping,
        )

    def node(self, tree: Any, notes: Notes | None = None) -> Node | None:
        """The query tree of an expression; None where its text has no word."""
        node = self._node(tree, notes or {})
        if node is None and self._non_empty:
            raise bad_yql("Got NullItem inside nonEmpty().")
        return node

    def _node(self, tree: Any, notes: Notes) -> Node | None:
        match tree.data:
            case "annotated":
                return self.node(tree.children[1], {**notes, **notes_of(tree.children[0])})
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
                return self._call(_path(tree.children[0]), _arguments(tree), notes)
            case "matches":
                raise bad_yql("'matches' is not supported by the embedded engine")
            case "string" | "integer" | "long" | "double":
                shown = number_words(tree, self.context.parameters)
                raise bad_yql(f"Expected LITERAL, got {shown}.")
        raise bad_yql(f"Expected {_OPERATORS}, got {operator_name(tree)}.")

    def _and(self, children: Any) -> Node | None:
        positive = [self.node(child) for child in children if child.data != "not"]
        negative = [self.node(child.children[0]) for child in children if child.data == "not"]
        excluded = tuple(node for node in negative if node)
        first = _joined(And, positive) or (Everything() if negative else None)
        return AndNot(first or Everything(), excluded) if excluded else first

    def _call(self, name: str, arguments: list[Any], notes: Notes) -> Node | None:
        match name:
            case "userQuery":
                return user_query(self.context)
            case "userInput":
                return self._user_input(arguments, notes)
            case "weakAnd":
                check_notes(notes)
                return _joined(Or, [self.node(argument) for argument in arguments])
            case "rank":
                found = [node for node in map(self.node, arguments) if node]
                return Rank(found[0], tuple(found[1:])) if found else None
            case "nonEmpty":
                return self._with_words(*_exactly(1, arguments))
            case "range":
                return self._range(arguments, notes)
        if f" {name}," in f" {_CALLS},".replace(" or ", ", "):
            raise bad_yql(f"'{name}' is not supported by the embedded engine")
        raise bad_yql(f"Expected {_CALLS}, got {name}.")

    def _with_words(self, argument: Any) -> Node | None:
        outer, self._non_empty = self._non_empty, True
        node = self.node(argument)
        self._non_empty = outer
        return node

    def _user_input(self, arguments: list[Any], notes: Notes) -> Node | None:
        if not arguments:
            raise bad_yql("userInput needs an argument, as userInput(@name)")
        text = as_string(arguments[0], self.context.parameters, "LITERAL or VARREF")
        check_notes(notes, "defaultIndex", "grammar", "allowEmpty", *_UNSCORED)
        grammar = notes.get("grammar", "weakAnd")
        _check_grammar(grammar)
        default = notes.get("defaultIndex", "default")
        kind_of(default)
        words = functools.partial(field_words, ranked=_is_ranked(notes))
        node = parse_user_query(text, grammar, default=default, fields=SEARCHABLE, words=words)
        if node is None and not notes.get("allowEmpty"):
            raise bad_yql(f"Parsing '{text}' only resulted in NullItem.")
        return node

    def _contains(self, left: Any, word: Any, notes: Notes) -> Node | None:
        field = _field(left)
        kind = kind_of(field)
        if word.data == "annotated":
            notes = {**notes, **notes_of(word.children[0])}
            return self._contains(left, word.children[1], notes)
        check_notes(notes, *_UNSCORED)
        ranked = _is_ranked(notes)
        if word.data == "call":
            name = _path(word.children[0])
            return self._contains_call(field, name, _arguments(word), ranked)
        text = as_string(word, self.context.parameters, "CALL or LITERAL")
        if not text:
            raise bad_yql("The word of a word item cannot be empty")
        if kind == "text" and not terms(text):
            return Nothing()  # Vespa looks for the signs themselves, which no document has
        return field_words(field, text, True, ranked=ranked)

    def _contains_call(
        self, field: str, name: str, arguments: list[Any], ranked: bool
    ) -> Node | None:
        if f" {name}," not in f" {_WORDS},".replace(" or ", ", "):
            raise bad_yql(f"Expected {_WORDS}, got {name}.")
        if name not in ("phrase", "text") or kind_of(field) != "text":
            raise bad_yql(f"'{field} contains {name}' is not supported by the embedded engine")
        if name == "text" and not arguments:
            raise bad_yql("text needs an argument, as text(@name)")
        texts = [as_string(a, self.context.parameters, "LITERAL or VARREF") for a in arguments]
        if name == "text":
            words = functools.partial(field_words, ranked=ranked)
            return parse_user_query(
                texts[0], "tokenize", default=field, fields=SEARCHABLE, words=words
            )
        if "" in texts:
            raise bad_yql("The word of a word item cannot be empty")
        found = [terms(text) for text in texts]
        if not all(found):
            return Nothing()  # as above
        own = vespa_names.CONTENTS if field == "default" else field
        return Phrase(own, tuple(itertools.chain(*found)), ranked) if found else None

    def _compare(self, tree: Any) -> Node:
        sign, (left, right) = str(tree.data), tree.children
        if left.data in _VALUES and right.data == "read_field":
            sign, left, right = _FLIPPED[sign], right, left
        if left.data != "read_field" or right.data not in _VALUES:
            got = f"{operator_name(tree.children[0])} and {operator_name(tree.children[1])}"
            raise bad_yql(f"Expected LITERAL/NEGATE and READ_FIELD/PROPREF, got {got}.")
        field = _field(left)
        kind = kind_of(field)
        text = number_words(right, self.context.parameters)
        if right.data != "boolean" and not is_number(text):
            raise bad_yql(
                _no_number(text, sign)
                if right.data in ("string", "varref", "negate")
                else f'For input string: "{text}"'
            )
        if kind != "number" or right.data == "boolean":
            raise bad_yql(
                f"'{_SIGNS[sign]}' on '{field}' is not supported by the embedded engine "
                f"(got {text})"
            )
        return _number_range(field, sign, number_of(text))

    def _range(self, arguments: list[Any], notes: Notes) -> Node:
        left, *bounds = _exactly(3, arguments)
        field = _field(left)
        low, high = map(bound_of, bounds)
        if kind_of(field) != "number":
            raise bad_yql(f"range on '{field}' is not supported by the embedded engine")
        check_notes(notes, "bounds", *_UNSCORED)
        kind = notes.get("bounds", "closed")
        if kind not in ("open", "leftOpen", "rightOpen", "closed"):
            raise bad_yql(f"Expected open, leftOpen or rightOpen, got {kind}.")
        if "bounds" not in notes:  # Vespa turns them round where they are the wrong way
            low, high = min(low, high), max(low, high)
        open_low, open_high = kind in ("open", "leftOpen"), kind in ("open", "rightOpen")
        return Range(
            field,
            None if math.isinf(low) else math.floor(low) + 1 if open_low else math.ceil(low),
            None if math.isinf(high) else math.ceil(high) - 1 if open_high else math.floor(high),
        )

    def _in(self, left: Any, members: Any) -> Node:
        field = _field(left)
        kind = kind_of(field)
        if kind == "text":
            raise bad_yql(
                f"'in' on the index field '{field}' is not supported by the embedded engine"
            )
        lists = [list_items(member, kind, self.context.parameters) for member in members]
        items = list(itertools.chain(*lists))
        if not items:
            return Nothing()
        if kind == "string":
            return Strings(field, frozenset(item.lower() for item in items))
        return Or(tuple(Range(field, number, number) for number in map(int, items)))

    def _order(self, clause: Any) -> tuple[tuple[str, bool], ...]:
        order = []
        for sort in clause.children if clause else ():
            path, *rest = sort.children
            if path.data == "annotation":
                raise bad_yql("annotations in 'order by' are not supported by the embedded engine")
            name = _path(path)
            if name not in SORTABLE:
                raise bad_in_cluster(
                    f"Cluster '{self.context.cluster}' has no sortable attribute named '{name}'"
                )
            order.append((name, bool(rest) and str(rest[0]).lower() == "desc"))
        return tuple(order)

    def _grouping(self, clause: Any) -> Grouping | None:
        return parse_grouping(str(clause.children[0]), self.context.parameters) if clause else None

    def _check_sources(self, clause: Any) -> None:
        known = (self.context.cluster, f"{self.context.cluster}.{self.context.schema}")
        for source in clause.children:
            name = _path(source)
            if name not in ("*", self.context.schema, *known):
                raise bad_query(
                    f"Could not resolve source ref '{name}'. "
                    f"Valid source refs are {', '.join(known)}."
                )


def _path(tree: Any) -> str:
    """A name with its points; `*` is a token of its own."""
    return ".".join(map(str, getattr(tree, "children", [tree])))


def _field(tree: Any) -> str:
    """The field that stands left of an operator; Vespa takes its name in quotes too.

    Raises:
        QueryError: code 4, it is something else.
    """
    if tree.data == "read_field":
        return _path(tree.children[0])
    if tree.data in ("string", "integer", "long", "double", "boolean"):
        return number_words(tree, {})
    raise bad_yql(f"Expected READ_FIELD or PROPREF, got {operator_name(tree)}.")


def _arguments(call: Any) -> list[Any]:
    return [argument for argument in call.children[1:] if argument is not None]


def _exactly(count: int, arguments: list[Any]) -> list[Any]:
    if len(arguments) != count:
        raise bad_yql(f"Expected {count} arguments, got {len(arguments)}.")
    return arguments


def _joined(kind: type[And] | type[Or], nodes: list[Node | None]) -> Node | None:
    found = [node for node in nodes if node is not None]
    return kind(tuple(found)) if len(found) > 1 else found[0] if found else None


def _clause(parts: dict[str, Any], name: str) -> int | None:
    if name not in parts:
        return None
    text = str(parts[name].children[0])
    if not -(2**31) <= int(text) < 2**31:
        raise bad_yql(f'For input string: "{text}"')
    return int(text)


def _seconds(milliseconds: int) -> float:
    if not 0 <= milliseconds < 10**9:
        raise QueryError(
            17,
            "Illegal YQL query: 'timeout' must be positive and smaller than 1000000000 ms but was "
            f"{milliseconds}",
        )
    return milliseconds / 1000


def _check_grammar(name: str) -> None:
    if name in TYPES:
        return
    if name in ("adv", "programmatic", "select", "yql"):
        raise bad_yql(f"Query type '{name}' is not supported by the embedded engine")
    raise bad_yql(f"No query type '{name}'")


def _is_ranked(notes: Notes) -> bool:
    return notes.get("ranked", True) is not False and notes.get("filter", False) is not True


def _number_range(field: str, sign: str, number: float) -> Node:
    up, down = math.ceil(number), math.floor(number)
    match sign:
        case "eq":
            return Range(field, up, down) if up == down else Nothing()
        case "lt":
            return Range(field, None, up - 1)
        case "lteq":
            return Range(field, None, down)
        case "gt":
            return Range(field, down + 1, None)
    return Range(field, up, None)


def _no_number(text: str, sign: str) -> str:
    shown = {"eq": text, "lteq": f"[;{text}]", "gteq": f"[{text};]"}.get(sign)
    return (
        f"'{shown or _SIGNS[sign] + text}' is not an int item expression: Expected NUMBER, "
        "'<'NUMBER, '>'NUMBER or ('['|'<')NUMBER;NUMBER(;NUMBER)?(']'|'>'): "
        f'For input string: "{text}"'
    )
