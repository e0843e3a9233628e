"""All checks over one collection."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ranker.contract.encode import Encoder
from ranker.errors import DataError
from ranker.lint.checks import (
    copies,
    encoding,
    first_phase,
    judgements,
    queries,
    rows,
    slots,
    texts,
)
from ranker.lint.collection import Collection
from ranker.lint.finding import Finding, Kind, LintReport, sorted_findings
from ranker.lint.inspection import Inspection

__all__ = ["CHECKS", "KINDS", "lint"]


class Check(NamedTuple):
    """The checks of one module."""

    about: str
    kinds: tuple[Kind, ...]
    find: Callable[[Inspection], Iterator[Finding]]


CHECKS = (
    Check("rows", rows.KINDS, rows.find),
    Check("judgements", judgements.KINDS, judgements.find),
    Check("queries", queries.KINDS, queries.find),
    Check("texts", texts.KINDS, texts.find),
    Check("encoding", encoding.KINDS, encoding.find),
    Check("copies", copies.KINDS, copies.find),
    Check("first phase", first_phase.KINDS, first_phase.find),
    Check("slots", slots.KINDS, slots.find),
)

KINDS = tuple(kind for check in CHECKS for kind in check.kinds)
"""Every kind of finding."""

OnCheck = Callable[[str, int, int], object]
"""Called before each check with its name, the number of checks done, and of all checks."""


def _silent(about: str, done: int, total: int) -> None:
    """Report nothing."""


def lint(
    collection: Collection,
    *,
    min_grade: int = 1,
    encoder: Encoder | None = None,
    no_encoder: str = "no base model was given",
    examples: int = 5,
    quick: bool = False,
    on_check: OnCheck = _silent,
) -> LintReport:
    """Check judged data for problems.

    Args:
        collection: result of `read_collection` or `collection_of`.
        min_grade: minimum grade of an answer.
        encoder: finds texts that the slots truncate; without it, that check is skipped.
        no_encoder: why there is no encoder, for the report.
        examples: maximum number of examples of a finding.
        quick: skip copies of documents and BM25 in a corpus of more than 20,000 documents.
        on_check: reports progress before each check.

    Raises:
        DataError: there is no judgement, not even an unusable one.
    """
    started = time.monotonic()
    inspection = Inspection(
        collection,
        min_grade=min_grade,
        examples=examples,
        quick=quick,
        encoder=encoder,
        no_encoder=no_encoder,
    )
    # Without a usable judgement only the rows can be checked, and they say why.
    checks = CHECKS if collection.qrels else CHECKS[:1]
    findings: list[Finding] = []
    for done, check in enumerate(checks):
        on_check(check.about, done, len(checks))
        findings += check.find(inspection)
    if not collection.qrels and not findings:
        raise DataError(f"{collection.name}: there is no judgement")
    if not collection.qrels:
        inspection.skip(
            "everything but the rows", "no judgement can be used", KINDS[len(rows.KINDS) :]
        )
    reported = {finding.id for finding in findings}
    reported |= {kind_id for skipped in inspection.skipped for kind_id in skipped.kinds}
    return LintReport(
        data=_data(collection),
        findings=sorted_findings(findings),
        clean=tuple(kind for kind in KINDS if kind.id not in reported),
        skipped=tuple(inspection.skipped),
        figures=inspection.figures,
        seconds=time.monotonic() - started,
    )


def _data(collection: Collection) -> dict[str, object]:
    return {
        "name": collection.name,
        "split": collection.split,
        "splits": {name: len(qrels) for name, qrels in collection.splits.items()},
        "documents": len(collection.documents),
        "queries": len(collection.qrels),
        "judgements": sum(map(len, collection.qrels.values())),
    }
