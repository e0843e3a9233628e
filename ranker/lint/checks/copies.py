"""Documents that are copies of each other, and what that does to judgements and splits."""

from collections.abc import Iterator, Mapping, Sequence

from ranker.lexical.bm25 import contents
from ranker.lexical.near_duplicates import Copies, document_copies
from ranker.lint.checks.queries import split_pairs
from ranker.lint.finding import Example, Finding, Kind, clip, first
from ranker.lint.inspection import Inspection, headline, part, plural

__all__ = ["KINDS", "find"]

EQUAL = Kind(
    "duplicate-documents",
    "documents with the same words under different ids",
    "Copies take each other's place in the ranking, and a judgement of one says nothing of the "
    "others.",
    "Keep one of each group and move the judgements of the others to it.",
)
NEAR = Kind(
    "near-duplicate-documents",
    "documents that differ in a few words (Jaccard index of word 3-grams at least 0.8)",
    "As for copies: they crowd the top of the ranking, and are rarely all judged.",
    "Look whether they are versions of one document; keep the one that people want.",
)
APART = Kind(
    "copies-graded-apart",
    "copies of one document, one judged an answer and one not",
    "The model is told that one text answers a question and does not.",
    "Give the copies the same grade, or keep one of them.",
)
UNJUDGED = Kind(
    "unjudged-copies",
    "answers with a copy that nobody judged",
    "The copy counts as wrong where it is found, and may be drawn as a wrong answer to learn from.",
    "Give the copy the grade of its original, or leave it out of the corpus.",
)
ANSWERS = Kind(
    "answers-across-splits",
    "answers to queries of one split that are answers in another split, too",
    "A model can learn that a document is a good answer whatever is asked; what is measured on the "
    "second split then holds less for new documents.",
    "Often it cannot be helped in a small corpus; say so beside the figures, or split by document.",
)

KINDS = (APART, UNJUDGED, EQUAL, NEAR, ANSWERS)

MANY = 0.05
"""From this share of the corpus on, copies are worth a warning."""
RARE = 0.005
"""Contradictions below this share of the answers change nothing."""
SHARED = 0.3
"""From this share of a split's answers on, sharing them is worth a note."""

Group = Sequence[str]


def find(inspection: Inspection) -> Iterator[Finding]:
    """Findings about documents that resemble each other."""
    if inspection.too_large:
        inspection.skip(
            "copies of documents",
            f"quick run, {len(inspection.collection.documents):,} documents",
            KINDS,
        )
        return
    corpus = inspection.collection.documents
    found = document_copies((doc_id, contents(document)) for doc_id, document in corpus.items())
    family = {doc_id: group for group in found.families for doc_id in group}
    yield from _judged(inspection, family)
    yield from _groups(inspection, found)
    yield from _answers_across(inspection, family)


def _groups(inspection: Inspection, found: Copies) -> Iterator[Finding]:
    equal = {tuple(group) for group in found.equal}
    near = [group for group in found.families if tuple(group) not in equal]
    total = len(inspection.collection.documents)
    for kind, groups, said in (
        (EQUAL, found.equal, "have the same words as another one"),
        (NEAR, near, "are nearly the same as another one"),
    ):
        if groups:
            count = sum(map(len, groups))
            yield kind.found(
                "warning" if count >= MANY * total else "note",
                f"{part(count, total)} documents {said}",
                count=count,
                total=total,
                unit="documents",
                examples=first((_example(inspection, it) for it in groups), inspection.examples),
                figures={"groups": len(groups), "largest": max(map(len, groups))},
            )


def _judged(inspection: Inspection, family: Mapping[str, Group]) -> Iterator[Finding]:
    """Answers whose copies have another grade, or none."""
    qrels = inspection.collection.qrels
    apart, unjudged, answers = {}, {}, 0
    for query_id, grades in qrels.items():
        for doc_id in inspection.answers(query_id):
            answers += 1
            copied = [other for other in family.get(doc_id, ()) if other != doc_id]
            if wrong := [
                it for it in copied if grades.get(it, inspection.min_grade) < inspection.min_grade
            ]:
                apart[query_id, doc_id] = wrong[0]
            elif blank := [it for it in copied if it not in grades]:
                unjudged[query_id, doc_id] = blank[0]
    for kind, pairs, said in (
        (APART, apart, "a copy that is judged not relevant"),
        (UNJUDGED, unjudged, "a copy that nobody judged"),
    ):
        if pairs:
            yield kind.found(
                "warning" if kind is APART and len(pairs) >= RARE * answers else "note",
                f"{part(len(pairs), answers)} answers have {said}",
                count=len(pairs),
                total=answers,
                unit="answers",
                examples=[
                    _pair(inspection, query_id, doc_id, other)
                    for (query_id, doc_id), other in list(pairs.items())[: inspection.examples]
                ],
            )


def _answers_across(inspection: Inspection, family: Mapping[str, Group]) -> Iterator[Finding]:
    """The pair of splits that shares most of its answers."""
    shared = []
    for one, other in split_pairs(inspection):
        seen = {family.get(doc_id, (doc_id,))[0] for doc_id in _answers_of(inspection, one)}
        measured = _answers_of(inspection, other)
        again = [doc_id for doc_id in measured if family.get(doc_id, (doc_id,))[0] in seen]
        shared.append((len(again) / max(len(measured), 1), one, other, again, len(measured)))
    share, one, other, again, total = max(shared, default=(0.0, "", "", [], 0))
    if share >= SHARED:
        yield ANSWERS.found(
            "note",
            f"{part(len(again), total)} answers of {other} are answers in {one}, too",
            count=len(again),
            total=total,
            unit="documents",
            examples=first(map(inspection.document_example, again), inspection.examples),
        )


def _answers_of(inspection: Inspection, split: str) -> list[str]:
    """Documents that answer a query of a split, each once."""
    qrels = inspection.collection.splits[split]
    found = {
        doc_id: None
        for grades in qrels.values()
        for doc_id, grade in grades.items()
        if grade >= inspection.min_grade
    }
    return list(found)


def _pair(inspection: Inspection, query_id: str, doc_id: str, other: str) -> Example:
    grade = inspection.collection.qrels[query_id].get(other)
    said = "not judged" if grade is None else f"graded {grade}"
    document = inspection.collection.documents[doc_id]
    text = f"{clip(inspection.text(query_id), 60)}: {clip(headline(document), 80)}"
    ids = (query_id, doc_id, other)
    return Example(ids, f"{text} — the copy {other} is {said}")


def _example(inspection: Inspection, group: Group) -> Example:
    documents = inspection.collection.documents
    begins = [clip(headline(documents[doc_id]), 70) for doc_id in group[:2]]
    more = f" (and {plural(len(group) - 2, 'more copy', 'more copies')})" if len(group) > 2 else ""
    text = " | ".join(dict.fromkeys(begins)) + more
    return Example(tuple(group[:10]), text, inspection.collection.document_place(group[0]))
