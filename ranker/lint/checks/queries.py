"""Repeated queries: within the judged ones, and on both sides of a split."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ranker.lexical.near_duplicates import normalized, query_families
from ranker.lint.finding import Example, Finding, Kind, clip, first
from ranker.lint.inspection import Inspection, part, plural

__all__ = ["KINDS", "find", "split_pairs"]

REPEATED = Kind(
    "repeated-queries",
    "near-duplicate queries",
    "They are one question in nearly the same words, so their figures repeat each other and "
    "intervals come out too narrow. (Two with opposite meanings count as well: a model that has "
    "seen the one has nearly seen the other.)",
    "Nothing, if that is how people ask: the splits and folds of ranker keep them on one side. "
    "Otherwise keep one of each group.",
)
ACROSS = Kind(
    "queries-across-splits",
    "queries of one split that recur in another in nearly the same words",
    "Part of the second split was memorized while training on the first, so its figures are too "
    "high.",
    "Move every group to one side, or evaluate by cross-validation, which keeps them together; at "
    "least mention it next to the figures.",
)
NESTED = Kind(
    "nested-splits",
    "a split whose judgements are all in another split",
    "The two are versions of the same judgements and cannot serve as training and test data; "
    "without --split they are merged.",
    "Choose the one you mean with --split.",
)
CONTRADICTING = Kind(
    "contradicting-repeats",
    "the same query under two ids with different grades for a document",
    "The model is taught that a document does and does not answer the same question.",
    "Decide on one grade, and give the same question one id.",
)

KINDS = (ACROSS, CONTRADICTING, NESTED, REPEATED)

MOST = 50_000
Group = Sequence[str]


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about queries that resemble each other."""
    yield from _nested(inspection)
    yield from _contradicting(inspection)
    collection = inspection.collection
    checked = set(collection.qrels).union(*collection.splits.values())
    if len(checked) > MOST:
        inspection.skip("near-duplicate queries", f"{len(checked):,} queries", (ACROSS, REPEATED))
        return
    texts = {query_id: inspection.text(query_id) for query_id in checked}
    groups = query_families(texts)
    yield from _across(inspection, groups)
    yield from _repeated(inspection, groups)


def split_pairs(inspection: Inspection) -> list[tuple[str, str]]:
    """Return pairs of splits of which neither contains the other, the one to train on first."""
    splits = inspection.collection.splits
    names = sorted(
        filter(splits.get, splits), key=lambda name: (not name.startswith("train"), name)
    )
    return [
        (one, other)
        for one, other in itertools.combinations(names, 2)
        if not _is_within(inspection, one, other) and not _is_within(inspection, other, one)
    ]


def _is_within(inspection: Inspection, inner: str, outer: str) -> bool:
    splits = inspection.collection.splits
    whole = splits[outer]
    return all(grades.keys() <= whole.get(q, {}).keys() for q, grades in splits[inner].items())


def _nested(inspection: Inspection) -> Iterator[Finding]:
    splits = inspection.collection.splits
    nested = [
        (inner, outer)
        for inner, outer in itertools.permutations(sorted(filter(splits.get, splits)), 2)
        if _is_within(inspection, inner, outer)
        and (inner > outer or not _is_within(inspection, outer, inner))
    ]
    if nested:
        inner, outer = nested[0]
        trained_on = any(outer.startswith("train") for _, outer in nested)
        yield NESTED.finding(
            "warning" if trained_on else "note",
            f"every judgement of {inner} is also in {outer}",
            count=len(nested),
            total=0,
            unit="splits",
            examples=[
                Example((), clip(f"{inner} is a part of {outer}")) for inner, outer in nested
            ],
        )


def _across(inspection: Inspection, groups: Sequence[Group]) -> Iterator[Finding]:
    splits = inspection.collection.splits
    pairs = split_pairs(inspection)
    torn: dict[tuple[str, ...], None] = {}
    hit: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        for one, other in pairs:
            left = [query_id for query_id in group if query_id in splits[one]]
            right = [query_id for query_id in group if query_id in splits[other]]
            if left and right:
                torn[tuple(group)] = None
                hit[other] |= set(right)
    if not torn:
        return
    worst = max(hit, key=lambda name: len(hit[name]))
    yield ACROSS.finding(
        "warning",
        f"{part(len(hit[worst]), len(splits[worst]))} queries of {worst} recur in another "
        "split in nearly the same words",
        count=len(hit[worst]),
        total=len(splits[worst]),
        unit="queries",
        examples=first((_example(inspection, group) for group in torn), inspection.examples),
        figures={"groups": len(torn), **{name: len(ids) for name, ids in hit.items()}},
    )


def _repeated(inspection: Inspection, groups: Sequence[Group]) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    own = [[query_id for query_id in group if query_id in qrels] for group in groups]
    own = [group for group in own if len(group) > 1]
    if own:
        count = sum(map(len, own))
        yield REPEATED.finding(
            "note",
            f"{part(count, len(qrels))} judged queries are near-duplicates, in "
            f"{plural(len(own), 'group')}",
            count=count,
            total=len(qrels),
            unit="queries",
            examples=first((_example(inspection, group) for group in own), inspection.examples),
            figures={"groups": len(own)},
        )


def _contradicting(inspection: Inspection) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    same: dict[str, list[str]] = defaultdict(list)
    for query_id in qrels:
        same[normalized(inspection.text(query_id))].append(query_id)
    contradictions = [
        (one, other, doc_id)
        for group in same.values()
        for one, other in itertools.combinations(group, 2)
        for doc_id in qrels[one].keys() & qrels[other].keys()
        if (qrels[one][doc_id] >= inspection.min_grade)
        != (qrels[other][doc_id] >= inspection.min_grade)
    ]
    if contradictions:
        yield CONTRADICTING.finding(
            "warning",
            f"{plural(len(contradictions), 'document')} graded differently for one query under two "
            "ids",
            count=len(contradictions),
            total=0,
            unit="documents",
            examples=[
                Example(
                    (one, other, doc_id),
                    f"{clip(inspection.text(one), 80)}: {doc_id} is graded {qrels[one][doc_id]} "
                    f"for {one} and {qrels[other][doc_id]} for {other}",
                )
                for one, other, doc_id in sorted(contradictions)[: inspection.examples]
            ],
        )


def _example(inspection: Inspection, group: Group) -> Example:
    splits = inspection.collection.splits
    parts = []
    for query_id in group[:3]:
        inside = [name for name in splits if query_id in splits[name]]
        where = f" ({', '.join(inside)})" if inside else ""
        parts.append(f"{clip(inspection.text(query_id), 110)}{where}")
    return Example(tuple(group), " | ".join(parts), inspection.collection.query_place(group[0]))
