"""The groups of a result: which documents of a grouping match, and the best score in each group."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ranker.engine.query.grouping import Grouping
from ranker.engine.query.tree import And, Node, Strings
from ranker.engine.rank.matching import Matched, first_phase
from ranker.engine.rank.ranking import Ranked
from ranker.engine.rank.timer import Timer
from ranker.engine.storage.index import Snapshot
from ranker.engine.storage.reader import Reader

__all__ = ["HitGroup", "Member", "find_members", "group_members"]


@dataclass(frozen=True, slots=True)
class Member:
    """A document that matches, and the value that it is grouped by."""

    matched: Matched
    value: str


@dataclass(frozen=True, slots=True)
class HitGroup:
    """Documents with the same value: their number, and the best of their scores."""

    value: str
    count: int
    relevance: float


def find_members(
    tree: Node, grouping: Grouping, snapshot: Snapshot, reader: Reader, timer: Timer
) -> list[Member]:
    """Return the documents that match and have one of the grouping's values, best first.

    Raises:
        QueryError: code 12, the query has timed out.
    """
    # The attribute is matched in any case, as in a query; the groups are of exact values.
    folded = frozenset(value.lower() for value in grouping.values)
    narrow = And((tree, Strings(grouping.field, folded)))
    _, total = snapshot.search(narrow, 1)
    matched = first_phase(narrow, snapshot, reader, needed=total, timer=timer).matched
    rows = reader.ranked([document.row for document in matched])
    values = {row: ranked.attributes[grouping.field] for row, ranked in rows.items()}
    return [
        Member(document, value)
        for document in matched
        if (value := values.get(document.row)) in grouping.values
    ]


def group_members(
    members: Sequence[Member], ranked: Iterable[Ranked], grouping: Grouping
) -> list[HitGroup]:
    """Return the groups, best first.

    Args:
        members: the documents in them.
        ranked: final scores, at least of these documents.
        grouping: says how many groups are wanted.
    """
    relevance = {document.matched.row: document.relevance for document in ranked}
    by_value: dict[str, list[float]] = {}
    for member in members:
        by_value.setdefault(member.value, []).append(relevance[member.matched.row])
    groups = [HitGroup(value, len(scores), max(scores)) for value, scores in by_value.items()]
    groups.sort(key=lambda group: (-group.relevance, group.value))
    return groups[: grouping.most]
