"""The lines of a text file or of standard input: decoded and counted, gzip or not."""

import contextlib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ranker.dataset.problems import BadRow, Place, Problems
from ranker.errors import DataError

__all__ = ["STDIN", "Lines", "opened", "reading"]

STDIN = "-"
_GZIP = b"\x1f\x8b"


class Lines:
    r"""The lines of a UTF-8 file with their line ends; only `\n` ends a line.

    A line that is not UTF-8 is noted and yielded with its bad bytes replaced, so that readers of
    rows over several lines keep their place; they leave out the rows that overlap `damaged`.

    Attributes:
        file: name for error messages.
        number: number of the last line, from 1.
        damaged: number of the last line that was not UTF-8, or 0.
    """

    def __init__(self, source: Path | str, problems: Problems) -> None:
        self.file = "<stdin>" if source == STDIN else str(source)
        self.number = 0
        self.damaged = 0
        self._source = source
        self._problems = problems

    def __iter__(self) -> Iterator[str]:
        offset = 0
        with reading(self.file), opened(self._source) as file:
            for raw in file:
                self.number += 1
                yield self._decoded(raw, offset)
                offset += len(raw)

    @property
    def place(self) -> Place:
        """The place of the last line."""
        return Place(self.file, self.number)

    def _decoded(self, raw: bytes, offset: int) -> str:
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            self.damaged = self.number
            reason = (
                f"not UTF-8 (byte 0x{raw[error.start]:02x} at offset {offset + error.start}); "
                "convert the file, for instance with iconv"
            )
            self._problems.add(self.place, BadRow("not UTF-8", reason))
            text = raw.decode(errors="replace")
        return text.removeprefix("\ufeff") if self.number == 1 else text


@contextlib.contextmanager
def reading(file: str) -> Iterator[None]:
    """Turn errors of opening and reading a file into a DataError."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file} is damaged: incomplete gzip data ({error})") from error
    except OSError as error:
        # Arrow's messages span several lines and repeat themselves.
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise DataError(f"cannot read {file}: {reason}") from error


@contextlib.contextmanager
def opened(source: Path | str) -> Iterator[BinaryIO]:
    """Open a file's bytes, unpacked if it starts like gzip; "-" is standard input."""
    if source == STDIN:
        yield sys.stdin.buffer
        return
    with Path(source).open("rb") as file:
        if file.peek(2)[:2] != _GZIP:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, unpacked)))
