"""Documents that are copies of each other, and their effect on judgements and splits."""

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
    "Copies displace each other in the ranking, and a judgement of one says nothing about the "
    "others.",
    "Keep one document of each group and move the judgements of the others to it.",
)
NEAR = Kind(
    "near-duplicate-documents",
    "documents that differ in a few words (Jaccard index of word 3-grams at least 0.8)",
    "Like copies, they crowd the top of the ranking and are rarely all judged.",
    "Check whether they are versions of one document, and keep the one that people want.",
)
APART = Kind(
    "copies-graded-apart",
    "copies of one document of which one is judged an answer and another is not",
    "The model is taught that the same text does and does not answer a question.",
    "Give the copies the same grade, or keep one of them.",
)
UNJUDGED = Kind(
    "unjudged-copies",
    "answers with an unjudged copy",
    "The copy counts as wrong wherever it is retrieved, and may be sampled as a negative.",
    "Give the copy the grade of its original, or remove it from the corpus.",
)
ANSWERS = Kind(
    "answers-across-splits",
    "documents that are answers in more than one split",
    "A model can learn that a document is a good answer regardless of the query; results on the "
    "second split then say less about new documents.",
    "Often unavoidable in a small corpus: mention it next to the figures, or split by document.",
)

KINDS = (APART, UNJUDGED, EQUAL, NEAR, ANSWERS)

MANY = 0.05
"""Share of the corpus from which copies are a warning."""
RARE = 0.005
"""Share of the answers below which contradictions change nothing."""
SHARED = 0.3
"""Share of a split's answers from which shared answers are a note."""

Group = Sequence[str]


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about documents that resemble each other."""
    if inspection.too_large:
        inspection.skip(
            "copies of documents",
            f"quick run, {len(inspection.collection.documents):,} documents",
            KINDS,
        )
        return
    corpus = inspection.collection.documents
    copies = document_copies((doc_id, contents(document)) for doc_id, document in corpus.items())
    family = {doc_id: group for group in copies.families for doc_id in group}
    yield from _judged(inspection, family)
    yield from _groups(inspection, copies)
    yield from _answers_across(inspection, family)


def _groups(inspection: Inspection, copies: Copies) -> Iterator[Finding]:
    equal = {tuple(group) for group in copies.equal}
    near = [group for group in copies.families if tuple(group) not in equal]
    total = len(inspection.collection.documents)
    for kind, groups, verb in (
        (EQUAL, copies.equal, "have the same words as another document"),
        (NEAR, near, "are nearly the same as another document"),
    ):
        if groups:
            count = sum(map(len, groups))
            yield kind.finding(
                "warning" if count >= MANY * total else "note",
                f"{part(count, total)} documents {verb}",
                count=count,
                total=total,
                unit="documents",
                examples=first(
                    (_example(inspection, group) for group in groups), inspection.examples
                ),
                figures={"groups": len(groups), "largest": max(map(len, groups))},
            )


def _judged(inspection: Inspection, family: Mapping[str, Group]) -> Iterator[Finding]:
    """Find answers whose copies have another grade, or none."""
    qrels = inspection.collection.qrels
    apart, unjudged, answers = {}, {}, 0
    for query_id, grades in qrels.items():
        for doc_id in inspection.answers(query_id):
            answers += 1
            copied = [other for other in family.get(doc_id, ()) if other != doc_id]
            if wrong := [
                copy
                for copy in copied
                if grades.get(copy, inspection.min_grade) < inspection.min_grade
            ]:
                apart[query_id, doc_id] = wrong[0]
            elif missing := [copy for copy in copied if copy not in grades]:
                unjudged[query_id, doc_id] = missing[0]
    for kind, pairs, what in (
        (APART, apart, "a copy that is judged not relevant"),
        (UNJUDGED, unjudged, "an unjudged copy"),
    ):
        if pairs:
            yield kind.finding(
                "warning" if kind is APART and len(pairs) >= RARE * answers else "note",
                f"{part(len(pairs), answers)} answers have {what}",
                count=len(pairs),
                total=answers,
                unit="answers",
                examples=[
                    _pair(inspection, query_id, doc_id, other)
                    for (query_id, doc_id), other in list(pairs.items())[: inspection.examples]
                ],
            )


def _answers_across(inspection: Inspection, family: Mapping[str, Group]) -> Iterator[Finding]:
    """Find the pair of splits that shares the largest part of its answers."""
    shared = []
    for one, other in split_pairs(inspection):
        seen = {family.get(doc_id, (doc_id,))[0] for doc_id in _answers_of(inspection, one)}
        measured = _answers_of(inspection, other)
        again = [doc_id for doc_id in measured if family.get(doc_id, (doc_id,))[0] in seen]
        shared.append((len(again) / max(len(measured), 1), one, other, again, len(measured)))
    share, one, other, again, total = max(shared, default=(0.0, "", "", [], 0))
    if share >= SHARED:
        yield ANSWERS.finding(
            "note",
            f"{part(len(again), total)} answers of {other} are also answers in {one}",
            count=len(again),
            total=total,
            unit="documents",
            examples=first(map(inspection.document_example, again), inspection.examples),
        )


def _answers_of(inspection: Inspection, split: str) -> list[str]:
    """Return the documents that answer a query of a split, each once."""
    qrels = inspection.collection.splits[split]
    answers = {
        doc_id: None
        for grades in qrels.values()
        for doc_id, grade in grades.items()
        if grade >= inspection.min_grade
    }
    return list(answers)


def _pair(inspection: Inspection, query_id: str, doc_id: str, other: str) -> Example:
    grade = inspection.collection.qrels[query_id].get(other)
    judgement = "not judged" if grade is None else f"graded {grade}"
    document = inspection.collection.documents[doc_id]
    text = f"{clip(inspection.text(query_id), 60)}: {clip(headline(document), 80)}"
    ids = (query_id, doc_id, other)
    return Example(ids, f"{text} — the copy {other} is {judgement}")


def _example(inspection: Inspection, group: Group) -> Example:
    documents = inspection.collection.documents
    starts = [clip(headline(documents[doc_id]), 70) for doc_id in group[:2]]
    more = f" (and {plural(len(group) - 2, 'more copy', 'more copies')})" if len(group) > 2 else ""
    text = " | ".join(dict.fromkeys(starts)) + more
    return Example(tuple(group[:10]), text, inspection.collection.document_place(group[0]))
