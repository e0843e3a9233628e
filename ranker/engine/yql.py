"""YQL: text to a `Statement` with a query tree.

The grammar is in `grammar`, the meaning here.  What Vespa knows and this engine does not is
refused by name; messages are Vespa's where it refuses too.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranker import contract
from ranker.engine.faults import bad_query, bad_yql
from ranker.engine.fields import SEARCHABLE, SORTABLE, field_words, kind_of
from ranker.engine.grammar import parse
from ranker.engine.tree import (
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
from ranker.engine.userquery import TYPES, parse_user_query
from ranker.lexical import terms

__all__ = ["Context", "Statement", "parse_yql", "user_query"]

_CALLS = (
    "userQuery, range, wand, weightedSet, dotProduct, geoBoundingBox, geoLocation, "
    "nearestNeighbor, predicate, rank, weakAnd, userInput or nonEmpty"
)
_WITHOUT_EFFECT = frozenset(
    "targetHits totalTargetHits scoreThreshold language locale weight origin label id".split()
)
"""Annotations that change neither matches nor scores here: the embedded engine's weakAnd is
exact, BM25 has no term weights, every term is normalised like the documents' terms."""


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
        hits, offset, timeout_s: None where the statement does not say.
    """

    tree: Node | None
    fields: tuple[str, ...] | None = None
    order: tuple[tuple[str, bool], ...] = ()
    hits: int | None = None
    offset: int | None = None
    timeout_s: float | None = None


def parse_yql(text: str, context: Context) -> Statement:
    """The statement of a YQL text.

    Raises:
        QueryFault: code 4, it is not YQL or asks for what is not supported.
    """
    parsed = parse(text)
    return _Build(context).statement({child.data: child for child in parsed.children})


def user_query(context: Context) -> Node | None:
    """The tree of the request's `query` parameter.

    Raises:
        QueryFault: it names a field that cannot be searched.
    """
    return parse_user_query(
        context.query, context.type, default=context.default, fields=SEARCHABLE, words=field_words
    )


class _Build:
    """Syntax tree to statement."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def statement(self, parts: dict[str, Any]) -> Statement:
        """The whole statement; `parts` are its clauses by name, the expression by its own."""
        if "grouping" in parts:
            raise bad_yql("Grouping is not supported by the embedded engine")
        self._check_sources(parts["sources"])
        named = [str(name) for name in parts["fields"].children]
        clauses = ("fields", "sources", "order", "limit", "offset", "timeout")
        (expression,) = [part for name, part in parts.items() if name not in clauses]
        offset = _clause(parts, "offset")
        limit = _clause(parts, "limit")
        timeout = _clause(parts, "timeout")
        return Statement(
            tree=self.node(expression),
            fields=None if named == ["*"] else tuple(named),
            order=self._order(parts.get("order")),
            # Vespa's limit counts from the first hit, its hits from the offset.
            hits=None if limit is None else limit - (offset or 0),
            offset=0 if offset is None and limit is not None else offset,
            timeout_s=None if timeout is None else timeout / 1000,
        )

    def node(self, tree: Any, notes: Mapping[str, Any] | None = None) -> Node | None:
        """The query tree of an expression; None where its text has no word."""
        notes = notes or {}
        match tree.data:
            case "annotated":
                return self.node(tree.children[1], {**notes, **self._notes(tree.children[0])})
            case "either":
                return _joined(Or, [self.node(child) for child in tree.children])
            case "both":
                return self._both(tree.children)
            case "negation":
                inner = self.node(tree.children[0])
                return AndNot(Everything(), (inner,)) if inner else None
            case "everything":
                return Everything()
            case "nothing":
                return Nothing()
            case "contains":
                return self._contains(str(tree.children[0]), tree.children[1], notes)
            case "compare":
                return self._compare(*tree.children)
            case "one_of":
                return self._one_of(str(tree.children[0]), tree.children[1:])
            case "matches":
                raise bad_yql("'matches' is not supported by the embedded engine")
        return self._call(str(tree.children[0]), tree.children[1:], notes)

    def _both(self, children: Any) -> Node | None:
        positive = [self.node(child) for child in children if child.data != "negation"]
        negative = [self.node(c.children[0]) for c in children if c.data == "negation"]
        excluded = tuple(node for node in negative if node)
        first = _joined(And, positive)
        return AndNot(first or Everything(), excluded) if excluded else first

    def _call(self, name: str, arguments: Any, notes: Mapping[str, Any]) -> Node | None:
        arguments = [argument for argument in arguments if argument is not None]
        match name:
            case "userQuery":
                return user_query(self.context)
            case "userInput":
                return self._user_input(arguments, notes)
            case "weakAnd":
                _check_notes(notes)
                return _joined(Or, [self._operand(name, argument) for argument in arguments])
            case "rank":
                nodes = [self._operand(name, argument) for argument in arguments]
                found = [node for node in nodes if node]
                return Rank(found[0], tuple(found[1:])) if found else None
            case "nonEmpty":
                node = self._operand(name, arguments[0]) if arguments else None
                if node is None:
                    raise bad_yql("nonEmpty: the expression has no word")
                return node
            case "range":
                return self._range(arguments, notes)
        if f" {name}," in f" {_CALLS},":
            raise bad_yql(f"'{name}' is not supported by the embedded engine")
        raise bad_yql(f"Expected {_CALLS}, got {name}.")

    def _operand(self, name: str, argument: Any) -> Node | None:
        if argument.data in ("string", "number", "reference", "name", "map"):
            raise bad_yql(f"Expected expressions in {name}(...), got {argument.data}")
        return self.node(argument)

    def _user_input(self, arguments: Any, notes: Mapping[str, Any]) -> Node | None:
        if not arguments:
            raise bad_yql("userInput needs an argument, as userInput(@name)")
        text = self._text(arguments[0])
        own = {"defaultIndex", "grammar", "allowEmpty", "ranked", "filter"}
        _check_notes({key: value for key, value in notes.items() if key not in own})
        grammar = str(notes.get("grammar", "weakAnd"))
        _check_grammar(grammar)
        default = str(notes.get("defaultIndex", "default"))
        kind_of(default)
        words = functools.partial(field_words, ranked=_is_ranked(notes))
        node = parse_user_query(text, grammar, default=default, fields=SEARCHABLE, words=words)
        if node is None and not notes.get("allowEmpty"):
            raise bad_yql(f"Parsing '{text}' only resulted in NullItem.")
        return node

    def _contains(self, field: str, word: Any, notes: Mapping[str, Any]) -> Node | None:
        kind = kind_of(field)
        if word.data == "annotated":
            return self._contains(
                field, word.children[1], {**notes, **self._notes(word.children[0])}
            )
        _check_notes({key: v for key, v in notes.items() if key not in ("ranked", "filter")})
        ranked = _is_ranked(notes)
        if word.data == "function":
            return self._contains_function(field, word, ranked)
        if word.data == "number":
            raise bad_yql("Cannot cast java.lang.Integer to java.lang.String")
        text = self._text(word)
        if not text:
            raise bad_yql("The word of a word item cannot be empty")
        if kind == "text" and not terms(text):
            return Nothing()  # Vespa looks for the signs themselves, which no document has
        return field_words(field, text, True, ranked=ranked)

    def _contains_function(self, field: str, word: Any, ranked: bool) -> Node | None:
        name = str(word.children[0])
        arguments = [argument for argument in word.children[1:] if argument is not None]
        if name not in ("phrase", "text") or kind_of(field) != "text":
            raise bad_yql(f"'{field} contains {name}' is not supported by the embedded engine")
        if name == "text":
            words = functools.partial(field_words, ranked=ranked)
            text = self._text(arguments[0]) if arguments else ""
            return parse_user_query(text, "tokenize", default=field, fields=SEARCHABLE, words=words)
        found = [term for argument in arguments for term in terms(self._text(argument))]
        own = contract.CONTENTS if field == "default" else field
        return Phrase(own, tuple(found), ranked) if found else None

    def _compare(self, field: Any, sign: Any, value: Any) -> Node:
        kind = kind_of(str(field))
        if str(sign) == "!=":
            raise bad_yql(
                "Expected AND, OR, EQ, LT, GT, LTEQ, GTEQ, CONTAINS, MATCHES, CALL, LITERAL, NOT "
                "or IN, got NEQ."
            )
        text = self._text(value)
        if kind == "string" and str(sign) == "=":
            return Strings(str(field), frozenset({text.lower()}))
        if kind != "number":
            raise bad_yql(f"'{sign}' on '{field}' is not supported by the embedded engine")
        number = _number(text)
        up, down = math.ceil(number), math.floor(number)
        match str(sign):
            case "=":
                return Range(str(field), up, down) if up == down else Nothing()
            case "<":
                return Range(str(field), None, up - 1)
            case "<=":
                return Range(str(field), None, down)
            case ">":
                return Range(str(field), down + 1, None)
        return Range(str(field), up, None)

    def _range(self, arguments: Any, notes: Mapping[str, Any]) -> Node:
        if len(arguments) != 3:
            raise bad_yql(f"Expected 3 arguments, got {len(arguments)}.")
        field = str(arguments[0].children[0])
        if arguments[0].data != "name" or kind_of(field) != "number":
            raise bad_yql(f"range on '{field}' is not supported by the embedded engine")
        _check_notes({key: value for key, value in notes.items() if key != "bounds"})
        bounds = str(notes.get("bounds", "closed"))
        low, high = (float(self._text(value).rstrip("L")) for value in arguments[1:])
        open_low = bounds in ("open", "leftOpen")
        open_high = bounds in ("open", "rightOpen")
        return Range(
            field,
            None if math.isinf(low) else math.floor(low) + 1 if open_low else math.ceil(low),
            None if math.isinf(high) else math.ceil(high) - 1 if open_high else math.floor(high),
        )

    def _one_of(self, field: str, values: Any) -> Node:
        kind = kind_of(field)
        items: list[str] = []
        for value in values:
            if value is not None:
                text = self._text(value)
                several = value.data == "reference"
                items += [part.strip() for part in text.split(",")] if several else [text]
        if kind == "string":
            return Strings(field, frozenset(item.lower() for item in items))
        if kind == "number":
            numbers = [int(_number(item)) for item in items]
            return Or(tuple(Range(field, number, number) for number in numbers))
        raise bad_yql(f"'in' on the index field '{field}' is not supported by the embedded engine")

    def _order(self, clause: Any) -> tuple[tuple[str, bool], ...]:
        order = []
        for sort in clause.children if clause else ():
            *annotations, last = sort.children
            if any(getattr(part, "data", "") == "annotation" for part in annotations):
                raise bad_yql("annotations in 'order by' are not supported by the embedded engine")
            name, *direction = [str(part) for part in sort.children if part is not None]
            if name not in SORTABLE:
                raise bad_query(
                    f"Cluster '{self.context.cluster}' has no sortable attribute named '{name}'"
                )
            order.append((name, bool(direction) and direction[0].lower() == "desc"))
        return tuple(order)

    def _check_sources(self, clause: Any) -> None:
        known = (self.context.cluster, f"{self.context.cluster}.{self.context.schema}")
        for source in clause.children:
            name = "*" if str(source) == "*" else ".".join(map(str, source.children))
            if name not in ("*", self.context.schema, *known):
                raise bad_query(
                    f"Could not resolve source ref '{name}'. "
                    f"Valid source refs are {', '.join(known)}."
                )

    def _notes(self, annotation: Any) -> dict[str, Any]:
        notes = {}
        for pair in annotation.children:
            if pair is not None:
                key = _unquoted(str(pair.children[0]))
                notes[key] = self._setting(pair.children[1])
        return notes

    def _setting(self, value: Any) -> Any:
        if value.data == "truth":
            return str(value.children[0]).lower() == "true"
        return value if value.data == "annotation" else self._text(value)

    def _text(self, value: Any) -> str:
        """A literal or the parameter that `@name` names, as text."""
        text = str(value.children[0])
        if value.data == "string":
            return _unquoted(text)
        if value.data == "reference":
            if text not in self.context.parameters:
                raise bad_yql(f"Input '{text}' is not set")
            return self.context.parameters[text]
        if value.data == "number":
            return text
        raise bad_yql(f"Expected a string or @name, got {value.data}")


def _joined(kind: type[And] | type[Or], nodes: list[Node | None]) -> Node | None:
    found = [node for node in nodes if node is not None]
    return kind(tuple(found)) if len(found) > 1 else found[0] if found else None


def _clause(parts: dict[str, Any], name: str) -> int | None:
    return int(str(parts[name].children[0]).rstrip("L")) if name in parts else None


def _check_notes(notes: Mapping[str, Any]) -> None:
    for name in notes:
        if name not in _WITHOUT_EFFECT:
            raise bad_yql(f"The annotation '{name}' is not supported by the embedded engine")


def _check_grammar(name: str) -> None:
    if name in TYPES:
        return
    if name in ("adv", "programmatic", "select", "yql"):
        raise bad_yql(f"Query type '{name}' is not supported by the embedded engine")
    raise bad_yql(f"No query type '{name}'")


def _is_ranked(notes: Mapping[str, Any]) -> bool:
    return notes.get("ranked", True) is not False and notes.get("filter", False) is not True


def _number(text: str) -> float:
    try:
        number = float(text.rstrip("L"))
        whole = int(text.rstrip("L")) if "." not in text and "e" not in text.lower() else 0
    except ValueError as error:
        raise bad_yql(f'For input string: "{text}"') from error
    if not math.isfinite(number) or not -(2**63) <= whole < 2**63:
        raise bad_yql(f'For input string: "{text}"')
    return whole or number


def _unquoted(text: str) -> str:
    if text[:1] not in "\"'":
        return text
    inner = text[1:-1]
    return inner.replace('\\"', '"').replace("\\'", "'").replace("\\n", "\n").replace("\\\\", "\\")
