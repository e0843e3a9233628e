"""The groups of a result: which documents of a grouping match, and what their best score is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ranker.engine.query.grouping import Grouping
from ranker.engine.query.tree import And, Node, Strings
from ranker.engine.rank.matching import Matched, first_phase
from ranker.engine.rank.ranking import Ranked
from ranker.engine.rank.timer import Timer
from ranker.engine.storage.index import Snapshot
from ranker.engine.storage.store import Reader

__all__ = ["Group", "Member", "groups_of", "members"]


@dataclass(frozen=True, slots=True)
class Member:
    """A document that matches, and the value that it is grouped by."""

    matched: Matched
    value: str


@dataclass(frozen=True, slots=True)
class Group:
    """Documents with the same value: how many, and the best score of one of them."""

    value: str
    count: int
    relevance: float


def members(
    tree: Node, grouping: Grouping, snapshot: Snapshot, reader: Reader, timer: Timer
) -> list[Member]:
    """The documents that match and have one of the grouping's values, best first.

    Raises:
        QueryError: code 12, the time is over.
    """
    # The attribute is matched in any case, as in a query; the groups are of exact values.
    folded = frozenset(value.lower() for value in grouping.values)
    narrow = And((tree, Strings(grouping.field, folded)))
    _, total = snapshot.search(narrow, 1)
    found = first_phase(narrow, snapshot, reader, needed=total, timer=timer).matched
    values = {row: one.doc_id for row, one in reader.ranked([one.row for one in found]).items()}
    return [
        Member(one, value) for one in found if (value := values.get(one.row)) in grouping.values
    ]


def groups_of(found: Sequence[Member], ranked: Iterable[Ranked], grouping: Grouping) -> list[Group]:
    """The groups, best first.

    Args:
        found: the documents in them.
        ranked: final scores, of these documents at least.
        grouping: says how many groups are wanted.
    """
    scores = {one.matched.row: one.relevance for one in ranked}
    by_value: dict[str, list[float]] = {}
    for member in found:
        by_value.setdefault(member.value, []).append(scores[member.matched.row])
    groups = [Group(value, len(scored), max(scored)) for value, scored in by_value.items()]
    groups.sort(key=lambda group: (-group.relevance, group.value))
    return groups[: grouping.most]
