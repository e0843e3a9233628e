"""CSV, TSV, JSON lines and parquet as a stream of rows with their places."""

import csv
import itertools
import json
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ranker.dataset.fields import KNOWN, Row, either
from ranker.dataset.formats.lines import STDIN, Lines, reading
from ranker.dataset.problems import BadRow, Place, Problems, listed_names, shown
from ranker.errors import DataError, require

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

__all__ = ["Table", "open_table"]

logger = logging.getLogger(__name__)

Record = tuple[int, list[str] | None]
"""First line and cells; None if the cells cannot be read."""

_FIELD_LIMIT = 2**31 - 1
_BATCH = 1024


@dataclass(frozen=True)
class Table:
    """An open table.

    Attributes:
        file: name for error messages.
        columns: those of the header, or of the first row if there is no header (JSON lines).
        header: True if every row has these columns.
        rows: place and cells of each row; they can be read once.
    """

    file: str
    columns: tuple[str, ...]
    header: bool
    rows: Iterator[tuple[Place, Row]]

    def require(self, *columns: Sequence[str]) -> None:
        """Check that the header has a name of each group.

        Raises:
            DataError: names what is missing and what is present.
        """
        missing = [names for names in columns if not set(names) & set(self.columns)]
        if self.header and missing:
            named = ", ".join(f"no column {either(names)}" for names in missing)
            raise DataError(f"{self.file}: {named} ({listed_names(self.columns)})")


def open_table(
    source: Path | str,
    *,
    format: str,
    problems: Problems,
    bare: Mapping[int, tuple[str, ...]] | None = None,
) -> Table:
    """Open a file, or standard input ("-") except for parquet.

    Args:
        source: the file.
        format: csv, tsv, jsonl or parquet.
        problems: notes the rows that cannot be read.
        bare: names of the columns of a file without a header, by the number of columns.

    Raises:
        DataError: the file is missing, empty, damaged, or its header cannot be read.
    """
    if format == "parquet":
        return _parquet(source, problems)
    lines = Lines(source, problems)
    if format == "jsonl":
        return _jsonl(lines, problems)
    records = _csv_records if format == "csv" else _tsv_records
    return _delimited(records(lines, problems), lines.file, problems, bare or {})


def _delimited(
    records: Iterator[Record],
    file: str,
    problems: Problems,
    bare: Mapping[int, tuple[str, ...]],
) -> Table:
    first = next(records, None)
    if first is None:
        raise DataError(f"{file} is empty")
    line, cells = first
    if cells is None:
        raise DataError(f"{file}: the header in line {line} cannot be read; expected UTF-8 names")
    columns = tuple(cell.strip() for cell in cells)
    if len(columns) in bare and not KNOWN & set(columns):
        logger.warning(
            "%s: the first line is read as a row, not as a header: %s",
            file,
            shown(", ".join(columns)),
        )
        columns = bare[len(columns)]
        records = itertools.chain([first], records)
    if repeated := {name for name in columns if name in KNOWN and columns.count(name) > 1}:
        raise DataError(f"{file}: the header names {', '.join(sorted(repeated))} twice")
    return Table(file, columns, True, _rows(records, columns, file, problems))


def _rows(
    records: Iterator[Record], columns: tuple[str, ...], file: str, problems: Problems
) -> Iterator[tuple[Place, Row]]:
    for line, cells in records:
        if cells is None:
            continue
        if len(cells) != len(columns):
            reason = f"expected {len(columns)} columns, got {len(cells)}"
            problems.add(Place(file, line), BadRow("wrong number of columns", reason))
            continue
        yield Place(file, line), dict(zip(columns, cells, strict=True))


def _csv_records(lines: Lines, problems: Problems) -> Iterator[Record]:
    # The limit of the library (128 KiB a field, for the whole process) is too low for documents.
    csv.field_size_limit(_FIELD_LIMIT)
    source = _Rereadable(lines)
    # Strict: otherwise an unclosed quote silently swallows the rest of the file.
    reader = csv.reader(source, strict=True)
    while True:
        source.taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            start = source.taken[0].number
            problems.add(Place(lines.file, start), BadRow("not CSV", f"not CSV ({error})"))
            yield start, None
            source.go_back()
            reader = csv.reader(source, strict=True)
        else:
            if cells:
                damaged = any(line.damaged for line in source.taken)
                yield source.taken[0].number, None if damaged else cells


class _Line(NamedTuple):
    number: int
    text: str
    damaged: bool


class _Rereadable:
    """Lines for a reader of records, which can read the lines of a broken record again.

    An unclosed quote takes the lines up to the next quote, or to the end, into its record, but
    they are rows of their own.

    Attributes:
        taken: the lines since it was last cleared.
    """

    def __init__(self, lines: Lines) -> None:
        self.taken: list[_Line] = []
        self._lines, self._coming = lines, iter(lines)
        self._again: deque[_Line] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
        else:
            text = next(self._coming)
            number = self._lines.number
            line = _Line(number, text, self._lines.damaged == number)
        self.taken.append(line)
        return line.text

    def go_back(self) -> None:
        """Continue after the first line that was taken."""
        self._again.extendleft(reversed(self.taken[1:]))


def _tsv_records(lines: Lines, problems: Problems) -> Iterator[Record]:
    for line in lines:
        text = line.rstrip("\r\n")
        if text:
            cells = None if lines.damaged == lines.number else text.split("\t")
            yield lines.number, cells and [_unquoted(cell) for cell in cells]


def _unquoted(cell: str) -> str:
    """Return a cell without the quotes that spreadsheets and pandas put around it."""
    inner = cell[1:-1]
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"')


def _jsonl(lines: Lines, problems: Problems) -> Table:
    rows = _json_rows(lines, problems)
    first = next(rows, None)
    if first is None:
        problems.check()
        raise DataError(f"{lines.file} is empty")
    return Table(lines.file, tuple(first[1]), False, itertools.chain([first], rows))


def _json_rows(lines: Lines, problems: Problems) -> Iterator[tuple[Place, Row]]:
    for line in lines:
        if lines.damaged == lines.number or not line.strip():
            continue
        try:
            yield lines.place, _json_object(line)
        except BadRow as bad:
            problems.add(lines.place, bad)


def _json_object(line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        reason = f"not JSON ({error.msg} in column {error.colno}); expected one object per line"
        raise BadRow("not JSON", reason) from error
    except (RecursionError, ValueError) as error:
        raise BadRow("not JSON", f"JSON that cannot be read ({error})") from error
    if not isinstance(row, dict):
        raise BadRow("not JSON", f"expected one JSON object per line, got a {type(row).__name__}")
    return row


def _parquet(source: Path | str, problems: Problems) -> Table:
    if source == STDIN:
        raise DataError("parquet cannot be read from standard input; name a file")
    pyarrow = require("pyarrow", extra="parquet")
    parquet = require("pyarrow.parquet", extra="parquet")
    file = str(source)
    try:
        with reading(file):
            # A buffer keeps memory constant even if one row group is the whole file.
            table = parquet.ParquetFile(source, buffer_size=1 << 20)
    except pyarrow.ArrowException as error:
        raise DataError(f"{file} is not parquet ({str(error).splitlines()[0]})") from error
    columns = tuple(map(str, table.schema_arrow.names))
    if not table.metadata.num_rows:
        raise DataError(f"{file} is empty: no rows")
    return Table(file, columns, True, _parquet_rows(table, file, problems))


def _parquet_rows(
    table: "ParquetFile", file: str, problems: Problems
) -> Iterator[tuple[Place, Row]]:
    wanted = [name for name in table.schema_arrow.names if name in KNOWN]
    start = 1
    with table, reading(file):
        for batch in table.iter_batches(batch_size=_BATCH, columns=wanted):
            yield from _batch_rows(batch, file, start, problems)
            start += batch.num_rows


def _batch_rows(
    batch: "RecordBatch", file: str, start: int, problems: Problems
) -> Iterator[tuple[Place, Row]]:
    try:
        for number, row in enumerate(batch.to_pylist(), start):
            yield Place(file, number, "row"), row
    except UnicodeDecodeError as error:
        if batch.num_rows > 1:
            for row in range(batch.num_rows):
                yield from _batch_rows(batch.slice(row, 1), file, start + row, problems)
        else:
            bad = BadRow("not UTF-8", f"not UTF-8 ({error.reason} at byte {error.start} of a cell)")
            problems.add(Place(file, start, "row"), bad)
