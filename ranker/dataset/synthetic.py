"""Queries that a program wrote for documents, read from a file of `query, doc_id`.

Many of them are useless, so they are filtered as in Promptagator (round-trip consistency; Dai et
al. 2022, arXiv:2209.11755), with BM25 as the retriever: a query is kept if BM25 ranks its source
document among the best.
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
"""A query's text and the id of its source document."""

_BARE = ("first", "second")
REPORTED = 1000
"""Queries between two reports of progress."""


@dataclass(frozen=True)
class SyntheticQueries:
    """The usable part of a file of synthetic queries.

    Attributes:
        judged: the kept queries with their source documents as the only answers, and the corpus.
        file: name of the file.
        sha256: hash of its bytes.
        rank: lowest rank of the source document at which a query is kept.
        rows: number of rows in the file.
        kept: number of pairs of a query and its source document that are learned from.
        dropped: number of rows that were not kept, by reason: `repeated`, `unknown_document` (not
            in the corpus), `judged` (near-duplicates of judged queries), `rank` (BM25 does not
            rank the source document high enough).
    """

    judged: Dataset
    file: str
    sha256: str
    rank: int
    rows: int
    kept: int
    dropped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return what training.json says about them."""
        return {name: value for name, value in vars(self).items() if name != "judged"}


def load_synthetic(
    path: Path,
    documents: dict[str, Document],
    first_phase: FirstPhase,
    *,
    rank: int,
    judged: Collection[str] = (),
    report: Callable[[int, int], None] = lambda *_: None,
) -> SyntheticQueries:
    """Read a file and keep the queries whose source document is among the best `rank` of BM25.

    A TSV of two columns may lack a header, and then have them in either order: the id is the cell
    of the first row without a space.  The prefix "query: ", which some retrievers need, is removed.

    Args:
        path: CSV, TSV, JSON lines or parquet with the columns `query` and `doc_id`.
        documents: the corpus.
        first_phase: BM25 over it.
        rank: lowest rank of the source document.
        judged: texts of the judged queries.  Their near-duplicates are dropped: synthetic queries
            are learned before any query is held out.
        report: called with the number of queries that were searched, and of all.

    Raises:
        DataError: names file, line and reason of bad rows, or no query is left.
    """
    written = _read(path)
    different = dict.fromkeys(written)
    known = [pair for pair in different if pair[1] in documents]
    copies = near_copies({query for query, _ in known}, judged)
    others = [pair for pair in known if pair[0] not in copies]
    kept = _consistent(others, first_phase, rank, report)
    dropped = {
        "repeated": len(written) - len(different),
        "unknown_document": len(different) - len(known),
        "judged": len(known) - len(others),
        "rank": len(others) - sum(map(len, kept.values())),
    }
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DataError(
            f"{path}: none of its {len(written)} queries is left ({reasons}); expected ids of the "
            "corpus, and queries for which BM25 finds the source document (a --synthetic-rank "
            f"above {rank} keeps more)"
        )
    queries = {f"synthetic-{n}": Query(f"synthetic-{n}", text) for n, text in enumerate(kept, 1)}
    qrels = {id_: dict.fromkeys(sorted(kept[queries[id_].text]), 1) for id_ in queries}
    dataset = Dataset("synthetic queries", documents, queries, qrels)
    pairs = sum(map(len, qrels.values()))
    digest = synthetic_sha256(path)
    return SyntheticQueries(dataset, path.name, digest, rank, len(written), pairs, dropped)


def synthetic_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file.

    Raises:
        DataError: it cannot be read.
    """
    with reading(str(path)):
        return sha256(path)


def check_synthetic(path: Path, expected: str) -> None:
    """Check that a file is the one that a training read.

    Raises:
        DataError: it is missing or differs.
    """
    digest = synthetic_sha256(path)
    if digest != expected:
        raise DataError(
            f"{path} is not what the training read: sha256 {digest[:13]}, expected {expected[:13]}"
        )


def _read(path: Path) -> list[Written]:
    """Return query and document id of each row."""
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
    written = [pair for _, pair in parsed(rows, written_query_of, problems)]
    problems.check()
    if not written:
        raise DataError(f"no queries in {path}")
    return written


def _consistent(
    known: list[Written],
    first_phase: FirstPhase,
    rank: int,
    report: Callable[[int, int], None],
) -> dict[str, set[str]]:
    """Return the queries for which BM25 finds source documents, with these."""
    sources: dict[str, set[str]] = {}
    for query, doc_id in known:
        sources.setdefault(query, set()).add(doc_id)
    kept: dict[str, set[str]] = {}
    for number, (query, own) in enumerate(sources.items(), 1):
        if best := own & {doc_id for doc_id, _ in first_phase.search(query, rank)}:
            kept[query] = best
        if number % REPORTED == 0 or number == len(sources):
            report(number, len(sources))
    return kept


def _named(table: Table) -> Iterator[tuple[Place, Row]]:
    """Yield the rows of a file without a header, with the names of its columns."""
    first = next(table.rows, None)
    if first is None:
        return
    has_space = [" " in str(first[1][name]).strip() for name in _BARE]
    names = ("doc_id", "query") if has_space == [False, True] else ("query", "doc_id")
    for place, row in itertools.chain([first], table.rows):
        yield place, dict(zip(names, (row[name] for name in _BARE), strict=True))
