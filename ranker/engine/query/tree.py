"""The query tree: which documents match, and which of their terms count for the score.

`match` is exact and looks at one document; the index finds candidates with the same tree.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = [
    "And",
    "AndNot",
    "Everything",
    "Leaf",
    "Node",
    "Nothing",
    "Or",
    "Phrase",
    "Rank",
    "Range",
    "Strings",
    "View",
    "leaves",
    "match",
]


class View(Protocol):
    """The part of a document that matching reads."""

    @property
    def terms(self) -> Mapping[str, str]:
        """The index terms of each text field, as `terms_text` writes them."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The value of each attribute, None where not set."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Terms of a text field one after the other; with one term, a word.

    Attributes:
        field: the text field.
        terms: index terms, at least one.
        ranked: True if it counts for the score.
    """

    field: str
    terms: tuple[str, ...]
    ranked: bool = True

    def occurrences(self, view: View) -> int:
        """Return the number of occurrences in the document's field."""
        text, needle = view.terms[self.field], f" {'  '.join(self.terms)} "
        if len(self.terms) == 1:
            return text.count(needle)
        count, position = 0, text.find(needle)
        while position >= 0:  # occurrences may overlap: "a a" is twice in "a a a"
            count, position = count + 1, text.find(needle, position + 1)
        return count


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two bounds, both included; None means unbounded."""

    field: str
    low: int | None = None
    high: int | None = None

    def holds(self, view: View) -> bool:
        """Return True if the document's value is in the range; an unset one is in none."""
        value = view.attributes[self.field]
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True, slots=True)
class Strings:
    """A string attribute with one of some values, regardless of case, as in Vespa by default."""

    field: str
    values: frozenset[str]

    def holds(self, view: View) -> bool:
        """Return True if the document has one of the values."""
        value = view.attributes[self.field]
        return value is not None and value.lower() in self.values


@dataclass(frozen=True, slots=True)
class Everything:
    """`true`."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """`false`."""


@dataclass(frozen=True, slots=True)
class And:
    """All children."""

    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one child; `or` and `weakAnd`, whose exact form it is."""

    children: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class AndNot:
    """The first, and none of the others."""

    positive: "Node"
    negatives: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Rank:
    """The first child decides; the others only count for the score."""

    first: "Node"
    others: tuple["Node", ...] = field(default=())


Leaf = Phrase | Range | Strings | Everything | Nothing
Node = Leaf | And | Or | AndNot | Rank


def leaves(node: Node) -> Iterator[Phrase]:
    """Yield the words and phrases that may count for the score."""
    match node:
        case Phrase():
            if node.ranked:
                yield node
        case And(children) | Or(children):
            for child in children:
                yield from leaves(child)
        case AndNot(positive, _):
            yield from leaves(positive)
        case Rank(first, others):
            for child in (first, *others):
                yield from leaves(child)


def match(node: Node, view: View) -> list[tuple[Phrase, int]] | None:
    """Return the words and phrases that count for this document, with their occurrences.

    A word counts only where the part of the query around it holds: in `(a and b) or c` the `a`
    of a document without `b` does not.

    Returns:
        None where the document does not match.
    """
    match node:
        case Phrase():
            count = node.occurrences(view)
            return None if not count else [(node, count)] if node.ranked else []
        case Range() | Strings():
            return [] if node.holds(view) else None
        case Everything():
            return []
        case Nothing():
            return None
        case And(children):
            return _all(children, view)
        case Or(children):
            return _any(children, view)
        case AndNot(positive, negatives):
            excluded = any(match(child, view) is not None for child in negatives)
            return None if excluded else match(positive, view)
        case Rank(first, others):
            counted = match(first, view)
            return None if counted is None else counted + (_any(others, view) or [])


def _all(children: tuple[Node, ...], view: View) -> list[tuple[Phrase, int]] | None:
    counted: list[tuple[Phrase, int]] = []
    for child in children:
        part = match(child, view)
        if part is None:
            return None
        counted += part
    return counted


def _any(children: tuple[Node, ...], view: View) -> list[tuple[Phrase, int]] | None:
    parts = [part for child in children if (part := match(child, view)) is not None]
    return [leaf for part in parts for leaf in part] if parts else None
