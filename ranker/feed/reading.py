"""The documents that `ranker feed` is given: a collection, or Vespa's own document lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranker.dataset import read_corpus
from ranker.dataset.formats.lines import STDIN, Lines
from ranker.dataset.problems import BadRow, Place, Problems, listed_names, parsed, shown, streamed
from ranker.feed.operation import SchemaDocument, Source

__all__ = ["VESPA", "read_documents"]

VESPA = "vespa"
"""The format of `vespa visit` and `vespa feed`: `{"put": ID, "fields": {...}}` on each line."""

_LINES = (".json", ".jsonl", ".ndjson", ".gz")


def read_documents(
    data: str | Path, *, format: str | None = None, skip_bad: bool = False
) -> Iterator[Source]:
    """Read documents as a stream, in memory that does not grow.

    Args:
        data: as for `read_corpus`; or a file of Vespa's own document lines, or "-" with
            `format` VESPA.
        format: a format of `read_corpus`, or VESPA; None to detect it by path and content.
        skip_bad: skip and log malformed rows, instead of an error at the end of the file.

    Raises:
        DataError: as for `read_corpus`.
        UsageError: an unknown format.
    """
    if format == VESPA or (format is None and _is_vespa(data)):
        return streamed(
            lambda problems: parsed(_rows(data, problems), _document, problems),
            skip_bad=skip_bad,
            empty=f"{data}: there are no documents",
        )
    return iter(read_corpus(data, format=format, skip_bad=skip_bad))


def _is_vespa(data: str | Path) -> bool:
    """Return True if the first line is one of Vespa's own."""
    path = Path(data)
    if data == STDIN or path.suffix.lower() not in _LINES or not path.is_file():
        return False
    first = next(iter(Lines(path, Problems(skip=True))), "")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and isinstance(row.get("fields"), dict) and _id_of(row) is not None


def _rows(data: str | Path, problems: Problems) -> Iterator[tuple[Place, str]]:
    lines = Lines(data if data == STDIN else Path(data), problems)
    for line in lines:
        if line.strip() and lines.damaged != lines.number:
            yield lines.place, line


def _document(line: str) -> SchemaDocument:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRow("not JSON", f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise BadRow("no document", f'expected {{"put": ..., "fields": ...}}, got {shown(row)}')
    if "update" in row or "remove" in row:
        raise BadRow("no put", "an update or a remove; send those with `vespa feed`")
    document_id, fields = _id_of(row), row.get("fields")
    if document_id is None or not isinstance(fields, dict):
        raise BadRow("no document", f'expected "put" and "fields" ({listed_names(row)})')
    if lost := sorted({"condition", "create"} & row.keys()):
        raise BadRow(
            "conditional", f"{' and '.join(lost)} would be lost; send it with `vespa feed`"
        )
    return SchemaDocument(document_id, fields)


def _id_of(row: dict[str, Any]) -> str | None:
    """Return the id, under either name that Vespa takes."""
    value = row.get("put", row.get("id"))
    return value if isinstance(value, str) and value.startswith("id:") else None
