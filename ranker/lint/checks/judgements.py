"""What annotators left: queries with one grade only, skew, unjudged queries."""

from collections import Counter
from collections.abc import Iterator

from ranker.lint.finding import Example, Finding, Kind, clip, first
from ranker.lint.inspection import Inspection, headline, part, percent, plural

__all__ = ["KINDS", "find"]

UNJUDGED = Kind(
    "queries-without-judgements",
    "queries without a judgement",
    "They are used neither in training nor in evaluation.",
    "Judge them, or leave them: they do no harm.",
)
NO_ANSWER = Kind(
    "queries-without-answer",
    "judged queries without a relevant document",
    "Nothing can be learned from them, and every ranking scores 0 on them, which lowers every "
    "mean and widens every interval.",
    "Look for an answer (other words, deeper in the ranking), or leave the queries out. Check "
    "--min-grade, the minimum grade of an answer.",
)
ONLY_ANSWERS = Kind(
    "queries-with-only-answers",
    "judged queries whose judged documents are all relevant",
    "Negatives are then guessed: training takes unjudged documents that BM25 ranks high, and some "
    "of them are answers.",
    "Judge some documents that look right but are not, ideally the top 10 of the current engine, "
    "or train with a guard against false negatives.",
)
SKEW = Kind(
    "label-skew",
    "grades that are nearly all the same",
    "With hardly any judged document on one side the judgements say little about the order.",
    "Judge documents from the top of the current engine's ranking, where both sorts occur.",
)
UNEVEN = Kind(
    "uneven-judgements",
    "a few queries that hold most of the answers",
    "Training makes one group for each answer, so these few queries dominate it.",
    "Spread the next judgements over the other queries.",
)
ODD_GRADES = Kind(
    "odd-grades",
    "grades above 10",
    "The gain of nDCG is the grade itself (as in trec_eval), so one document with a high grade "
    "outweighs all others.",
    "Map the labels to a few grades, usually 0 to 3.",
)

KINDS = (NO_ANSWER, ODD_GRADES, SKEW, UNEVEN, ONLY_ANSWERS, UNJUDGED)

HIGHEST_GRADE = 10
SKEWED = (0.01, 0.95)
FEWEST_JUDGED = 100
HEAVY_SHARE = 0.5
FEWEST_QUERIES = 20


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about the judgements as a whole."""
    grades = Counter(
        grade for row in inspection.collection.qrels.values() for grade in row.values()
    )
    inspection.figures["grades"] = {str(grade): grades[grade] for grade in sorted(grades)}
    inspection.figures["min_grade"] = inspection.min_grade
    yield from _no_answer(inspection)
    yield from _odd_grades(inspection, grades)
    yield from _skew(inspection, grades)
    yield from _uneven(inspection)
    yield from _only_answers(inspection)
    yield from _unjudged(inspection)


def _no_answer(inspection: Inspection) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    without = [query_id for query_id in qrels if not inspection.answers(query_id)]
    if without:
        yield NO_ANSWER.finding(
            "warning",
            f"{part(len(without), len(qrels))} judged queries have no answer "
            f"(no grade of {inspection.min_grade} or higher)",
            count=len(without),
            total=len(qrels),
            unit="queries",
            examples=first(map(inspection.query_example, without), inspection.examples),
        )


def _odd_grades(inspection: Inspection, grades: Counter[int]) -> Iterator[Finding]:
    odd = sum(count for grade, count in grades.items() if grade > HIGHEST_GRADE)
    if odd:
        pairs = (
            _pair(inspection, query_id, doc_id, f"grade {grade}")
            for query_id, row in inspection.collection.qrels.items()
            for doc_id, grade in row.items()
            if grade > HIGHEST_GRADE
        )
        yield ODD_GRADES.finding(
            "warning",
            f"{plural(odd, 'judgement')} above {HIGHEST_GRADE}, the highest {max(grades):,}",
            count=odd,
            total=grades.total(),
            unit="judgements",
            examples=first(pairs, inspection.examples),
        )


def _skew(inspection: Inspection, grades: Counter[int]) -> Iterator[Finding]:
    total, negatives = grades.total(), inspection.judged_negatives
    share = 1 - negatives / total if total else 0.0
    if total < FEWEST_JUDGED or not negatives or SKEWED[0] <= share <= SKEWED[1]:
        return
    rare = min(negatives, total - negatives)
    yield SKEW.finding(
        "warning",
        f"{percent(share)} of the judged documents are relevant",
        count=rare,
        total=total,
        unit="judgements",
        figures={"relevant": share},
    )


def _uneven(inspection: Inspection) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    answers = sorted(
        ((len(inspection.answers(query_id)), query_id) for query_id in qrels), reverse=True
    )
    total, top = sum(count for count, _ in answers), len(answers) // 10
    held = sum(count for count, _ in answers[:top])
    if len(answers) < FEWEST_QUERIES or held < HEAVY_SHARE * total or not held:
        return
    yield UNEVEN.finding(
        "note",
        f"a tenth of the queries ({top}) has {percent(held / total)} of the answers",
        count=held,
        total=total,
        unit="answers",
        examples=[
            inspection.query_example(query_id, plural(count, "answer"))
            for count, query_id in answers[: inspection.examples]
        ],
    )


def _only_answers(inspection: Inspection) -> Iterator[Finding]:
    qrels = inspection.collection.qrels
    only = [query_id for query_id in qrels if not inspection.others(query_id)]
    if not only:
        return
    title = f"{part(len(only), len(qrels))} judged queries have only relevant judged documents"
    if len(only) == len(qrels):
        title = "only answers are judged: no document is judged not relevant"
    yield ONLY_ANSWERS.finding(
        "note",
        title,
        count=len(only),
        total=len(qrels),
        unit="queries",
        examples=[]
        if len(only) == len(qrels)
        else first(map(inspection.query_example, only), inspection.examples),
    )


def _unjudged(inspection: Inspection) -> Iterator[Finding]:
    collection = inspection.collection
    if not collection.has_all_queries:
        return
    judged = set(collection.qrels).union(*collection.splits.values())
    unjudged = [query_id for query_id in collection.queries if query_id not in judged]
    if unjudged:
        yield UNJUDGED.finding(
            "note",
            f"{part(len(unjudged), len(collection.queries))} queries are not judged",
            count=len(unjudged),
            total=len(collection.queries),
            unit="queries",
            examples=first(map(inspection.query_example, unjudged), inspection.examples),
        )


def _pair(inspection: Inspection, query_id: str, doc_id: str, note: str) -> Example:
    document = inspection.collection.documents[doc_id]
    text = f"{note}: {clip(inspection.text(query_id), 60)} / {clip(headline(document), 80)}"
    return Example((query_id, doc_id), text)
