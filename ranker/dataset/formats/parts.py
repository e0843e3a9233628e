"""One file of a collection (documents, queries or qrels) as records with their places."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from ranker.dataset.fields import (
    DOCUMENT_IDS,
    QUERY_IDS,
    QUERY_TEXTS,
    TEXTS,
    document_of,
    grade_of,
    identifier,
    judgement_of,
    other_content,
    query_of,
)
from ranker.dataset.formats.lines import STDIN, Lines, opened, reading
from ranker.dataset.formats.sgml import blocks, document_of_block, query_of_block
from ranker.dataset.formats.tables import Table, open_table
from ranker.dataset.problems import BadRow, Place, Problems, parsed, shown
from ranker.errors import DataError
from ranker.records import Document, Qrel, Query

__all__ = ["TREC", "file_format", "is_judged", "read_documents", "read_qrels", "read_queries"]

TREC = "trec"
Item = TypeVar("Item")

_SUFFIXES = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".sgml": TREC,
    ".tab": "tsv",
    ".trec": TREC,
    ".tsv": "tsv",
    ".xml": TREC,
}
_BARE_DOCUMENTS = {2: ("doc_id", "text"), 3: ("doc_id", "title", "text")}
_BARE_QUERIES = {2: ("query_id", "text")}
_GRADE_HEADERS = {"grade", "judgement", "judgment", "label", "rel", "relevance", "score"}


def file_format(source: Path | str) -> str:
    """Return csv, tsv, jsonl, parquet or trec, by the file's suffix or else by how it begins.

    Raises:
        DataError: neither is known.
    """
    if source == STDIN:
        return "jsonl"
    path = Path(source)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return _SUFFIXES.get(suffix) or _sniffed(path)


def _sniffed(path: Path) -> str:
    with reading(str(path)), opened(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    head = start.splitlines()[0] if start else b""
    signs = {
        "parquet": head.startswith(b"PAR1"),
        "jsonl": head.startswith(b"{"),
        TREC: head.startswith(b"<"),
        "tsv": b"\t" in head,
        "csv": b"," in head and b"\t" not in head,
    }
    for format, sign in signs.items():
        if sign:
            return format
    raise DataError(
        f"cannot detect the format of {path}: looked for PAR1 (parquet), {{ (JSON lines), "
        f"< (TREC), tabs (TSV) and commas (CSV), found {shown(head.decode(errors='replace'))}; "
        "name it with --format"
    )


def is_judged(table: Table) -> bool:
    """Return True if the rows are judgements rather than documents."""
    return {"query", "label"} <= set(table.columns)


def read_documents(
    source: Path | str, format: str, problems: Problems
) -> Iterator[tuple[Place, Document]]:
    """Read the documents of a file as a stream; of judged rows, each document once.

    Raises:
        DataError: the file cannot be read as a corpus.
    """
    yield from _some(_documents(source, format, problems), source, "documents", problems)


def _documents(
    source: Path | str, format: str, problems: Problems
) -> Iterator[tuple[Place, Document]]:
    if format == TREC:
        documents = blocks(Lines(source, problems), "doc", problems)
        return parsed(documents, document_of_block, problems)
    table = open_table(source, format=format, problems=problems, bare=_BARE_DOCUMENTS)
    if is_judged(table):
        return _judged_documents(table, problems)
    table.require(DOCUMENT_IDS, (*TEXTS, "title"))
    return parsed(table.rows, document_of, problems)


def _judged_documents(table: Table, problems: Problems) -> Iterator[tuple[Place, Document]]:
    seen: dict[str, int] = {}
    for place, row in parsed(table.rows, judgement_of, problems):
        doc_id, content = row.document.doc_id, hash(row.document)
        if doc_id not in seen:
            seen[doc_id] = content
            yield place, row.document
        elif seen[doc_id] != content:
            problems.add(place, other_content(doc_id))


def read_queries(path: Path, problems: Problems) -> Iterator[tuple[Place, Query]]:
    """Read the queries of a topics file: TREC SGML or XML, JSON lines, TSV with or without header.

    Raises:
        DataError: the file cannot be read as queries.
    """
    yield from _some(_queries(path, file_format(path), problems), path, "queries", problems)


def _queries(path: Path, format: str, problems: Problems) -> Iterator[tuple[Place, Query]]:
    if format == TREC:
        topics = blocks(Lines(path, problems), "top|topic", problems)
        return parsed(topics, query_of_block, problems)
    table = open_table(path, format=format, problems=problems, bare=_BARE_QUERIES)
    table.require(QUERY_IDS, QUERY_TEXTS)
    return parsed(table.rows, query_of, problems)


def read_qrels(path: Path, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
    """Read judgements: `query document grade` or TREC's `query iteration document grade`.

    A first line whose last column is named score, label or the like is a header.

    Raises:
        DataError: the file is missing, empty or damaged.
    """
    rows = _qrel_rows(Lines(path, problems))
    yield from _some(parsed(rows, _qrel_of, problems), path, "judgements", problems)


def _qrel_rows(lines: Lines) -> Iterator[tuple[Place, list[str]]]:
    for line in lines:
        cells = line.split()
        header = lines.number == 1 and cells and cells[-1].lower() in _GRADE_HEADERS
        if cells and not header and lines.damaged != lines.number:
            yield lines.place, cells


def _qrel_of(cells: list[str]) -> Qrel:
    if len(cells) not in (3, 4):
        expected = "expected query, document, grade or query, 0, document, grade"
        raise BadRow("wrong number of columns", f"{expected}; got {shown(' '.join(cells))}")
    query_id, doc_id = identifier(cells[0], "query id"), identifier(cells[-2], "document id")
    return Qrel(query_id, doc_id, grade_of(cells[-1]))


def _some(
    items: Iterator[tuple[Place, Item]], file: Path | str, what: str, problems: Problems
) -> Iterator[tuple[Place, Item]]:
    """Yield the items, of which there must be one unless all rows were bad."""
    before = problems.total
    first = next(items, None)
    if first is not None:
        yield first
        yield from items
    elif problems.total == before:
        raise DataError(f"no {what} in {'<stdin>' if file == STDIN else file}")
