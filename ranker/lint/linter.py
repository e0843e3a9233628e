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
    """One module's checks."""

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
"""Every kind of finding that there is."""

OnCheck = Callable[[str, int, int], object]
"""Called with what is looked at next, how many checks are done and how many there are."""


def _silent(about: str, done: int, total: int) -> None:
    """Tell nobody."""


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
    """Look for everything that makes judged data worth less than it seems.

    Args:
        collection: of `read_collection` or `collection_of`.
        min_grade: lowest grade of an answer.
        encoder: for the texts that the slots cut; without one that is left out.
        no_encoder: why there is none, for the report.
        examples: most examples of a finding.
        quick: leave out copies of documents and BM25 in a corpus of more than 20,000 documents.
        on_check: told before each check.

    Raises:
        DataError: there is not one judgement that can be used.
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
    # Without a usable judgement only the rows can be told about, and they say why.
    checks = CHECKS if collection.qrels else CHECKS[:1]
    findings: list[Finding] = []
    for done, check in enumerate(checks):
        on_check(check.about, done, len(checks))
        findings += check.find(inspection)
    if not collection.qrels and not findings:
        raise DataError(f"{collection.name}: not a single judgement")
    if not collection.qrels:
        inspection.skip(
            "everything but the rows", "no judgement can be used", KINDS[len(rows.KINDS) :]
        )
    told = {finding.id for finding in findings}
    told |= {kind_id for skipped in inspection.skipped for kind_id in skipped.kinds}
    return LintReport(
        data=_data(collection),
        findings=sorted_findings(findings),
        clean=tuple(kind for kind in KINDS if kind.id not in told),
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
