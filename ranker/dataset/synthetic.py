"""Queries that a program wrote for documents, brought as a file of `query, doc_id`.

Such queries are many and some are useless, so they are filtered as in Promptagator (round-trip
consistency; Dai et al. 2022, arXiv:2209.11755), with BM25 as the retriever: a query is kept if its
own document is among the best that it finds.
"""

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.dataset.collection import Dataset
from ranker.dataset.fields import Row, written_query_of
from ranker.dataset.formats.lines import reading
from ranker.dataset.formats.parts import TREC, file_format
from ranker.dataset.formats.tables import Table, open_table
from ranker.dataset.problems import Place, Problems, parsed
from ranker.errors import DataError
from ranker.files import sha256
from ranker.lexical.bm25 import FirstPhase
from ranker.lexical.near_duplicates import near_copies
from ranker.records import Document, Query

__all__ = ["SyntheticQueries", "check_synthetic", "load_synthetic", "synthetic_sha256"]

Written = tuple[str, str]
"""A query's text and the id of the document that it was written for."""

_BARE = ("first", "second")
TOLD = 1000
"""Queries between two words on progress."""


@dataclass(frozen=True)
class SyntheticQueries:
    """What is left of a file of synthetic queries.

    Attributes:
        judged: the kept queries, with their own documents as the only answers, and the corpus.
        file: name of the file.
        sha256: of its bytes.
        rank: how far down its own document may be for a query.
        rows: of the file.
        kept: pairs of a query and its document that are learned from.
        dropped: how many rows were not kept, by reason: `repeated`, `unknown_document` (not in
            the corpus), `judged` (asks what a judged query asks), `rank` (not among the best
            documents of BM25).
    """

    judged: Dataset
    file: str
    sha256: str
    rank: int
    rows: int
    kept: int
    dropped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """What training.json says of them."""
        return {name: value for name, value in vars(self).items() if name != "judged"}


def load_synthetic(
    path: Path,
    documents: dict[str, Document],
    first_phase: FirstPhase,
    *,
    rank: int,
    judged: Collection[str] = (),
    tell: Callable[[int, int], None] = lambda *_: None,
) -> SyntheticQueries:
    """Read a file and keep the queries whose own document is among the best `rank` of BM25.

    A TSV of two columns may come without a header, then in either order: the id is the cell of
    the first row that has no blank.  "query: " in front of a query, which some retrievers want, is
    taken away.

    Args:
        path: CSV, TSV, JSON lines or parquet with `query` and `doc_id`.
        documents: the corpus.
        first_phase: BM25 over it.
        rank: how far down the own document may be.
        judged: texts of the judged queries.  What is learned before the folds and before the
            held-out queries must not be a near-duplicate of one of them.
        tell: told how many queries are looked at, and of how many.

    Raises:
        DataError: names file, line and reason of rows that cannot be used; or no query is left.
    """
    written = _read(path)
    different = dict.fromkeys(written)
    known = [pair for pair in different if pair[1] in documents]
    copies = near_copies({query for query, _ in known}, judged)
    others = [pair for pair in known if pair[0] not in copies]
    found = _finding(others, first_phase, rank, tell)
    dropped = {
        "repeated": len(written) - len(different),
        "unknown_document": len(different) - len(known),
        "judged": len(known) - len(others),
        "rank": len(others) - sum(map(len, found.values())),
    }
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DataError(
            f"{path}: none of its {len(written)} queries is left ({reasons}); expected ids of the "
            "corpus, and queries that find their own document (a larger --synthetic-rank than "
            f"{rank} keeps more)"
        )
    queries = {f"synthetic-{n}": Query(f"synthetic-{n}", text) for n, text in enumerate(found, 1)}
    qrels = {id_: dict.fromkeys(sorted(found[queries[id_].text]), 1) for id_ in queries}
    dataset = Dataset("synthetic queries", documents, queries, qrels)
    kept = sum(map(len, qrels.values()))
    digest = synthetic_sha256(path)
    return SyntheticQueries(dataset, path.name, digest, rank, len(written), kept, dropped)


def synthetic_sha256(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    with reading(str(path)):
        return sha256(path)


def check_synthetic(path: Path, expected: str) -> None:
    """Compare a file with the one that a training read.

    Raises:
        DataError: it is gone or another one.
    """
    found = synthetic_sha256(path)
    if found != expected:
        raise DataError(
            f"{path} is not what the training read: sha256 {found[:13]}, expected {expected[:13]}"
        )


def _read(path: Path) -> list[Written]:
    """Query and document id of each row."""
    format = file_format(path)
    if format == TREC:
        raise DataError(f"{path}: expected CSV, TSV, JSON lines or parquet with query and doc_id")
    problems = Problems(skip=False)
    table = open_table(path, format=format, problems=problems, bare={2: _BARE})
    if table.columns == _BARE:
        rows = _named(table)
    else:
        table.require(("query",), ("doc_id",))
        rows = table.rows
    found = [written for _, written in parsed(rows, written_query_of, problems)]
    problems.check()
    if not found:
        raise DataError(f"no queries in {path}")
    return found


def _finding(
    known: list[Written], first_phase: FirstPhase, rank: int, tell: Callable[[int, int], None]
) -> dict[str, set[str]]:
    """The queries that find documents they were written for, with these."""
    asked: dict[str, set[str]] = {}
    for query, doc_id in known:
        asked.setdefault(query, set()).add(doc_id)
    found: dict[str, set[str]] = {}
    for number, (query, own) in enumerate(asked.items(), 1):
        if best := own & {doc_id for doc_id, _ in first_phase.search(query, rank)}:
            found[query] = best
        if number % TOLD == 0 or number == len(asked):
            tell(number, len(asked))
    return found


def _named(table: Table) -> Iterator[tuple[Place, Row]]:
    """The rows of a file without a header, with the names of its columns."""
    first = next(table.rows, None)
    if first is None:
        return
    blank = [" " in first[1][name].strip() for name in _BARE]
    names = ("doc_id", "query") if blank == [False, True] else ("query", "doc_id")
    for place, row in itertools.chain([first], table.rows):
        yield place, dict(zip(names, (row[name] for name in _BARE), strict=True))
