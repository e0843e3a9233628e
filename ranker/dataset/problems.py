"""Bad rows: what is wrong with them and where, reported for a whole file at once."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from ranker.errors import DataError

__all__ = ["BadRow", "Place", "Problems", "listed_names", "parsed", "shown", "streamed"]

logger = logging.getLogger(__name__)

IN_ERROR = 10
IN_LIST = 20
GIVE_UP = 1000
"""Bad rows after which a strict reader stops: the file is not what it was thought to be."""

Raw = TypeVar("Raw")
Item = TypeVar("Item")


class BadRow(Exception):
    """A row that cannot be used.

    Attributes:
        kind: sort of error, for counting.
        reason: what was expected and what was found, in one line.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Place(NamedTuple):
    """A line of a text file, or a row of a table without lines, counted from 1."""

    file: str
    number: int
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


class Problems:
    """The bad rows met while reading: errors of a strict reader, or a list of skipped rows.

    Args:
        skip: leave bad rows out, count and list them.
    """

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.total = 0
        self._first: list[tuple[Place, str]] = []
        self._kinds: dict[str, tuple[int, str]] = {}

    @property
    def fatal(self) -> bool:
        """True if reading will end in an error."""
        return bool(self.total) and not self.skip

    def add(self, place: Place, bad: BadRow) -> None:
        """Note a bad row.

        Raises:
            DataError: there are too many for further reading to make sense.
        """
        self.total += 1
        if len(self._first) < IN_LIST:
            self._first.append((place, bad.reason))
        count, first = self._kinds.get(bad.kind, (0, f"{place}: {bad.reason}"))
        self._kinds[bad.kind] = (count + 1, first)
        if not self.skip and self.total >= GIVE_UP:
            raise self._error("at least ")

    def check(self) -> None:
        """End a strict reading that met a bad row.

        Raises:
            DataError: names the first ten with file, line and reason, and counts the rest.
        """
        if self.fatal:
            raise self._error()

    def warn(self) -> None:
        """Log the number of rows that were left out, one warning for each kind."""
        for kind, (count, first) in self._kinds.items():
            logger.warning("bad rows left out (%s): %d, the first: %s", kind, count, first)

    def listed(self) -> tuple[str, ...]:
        """Return the first twenty bad rows with place and reason, and the number of the others."""
        rows = [f"{place}: {reason}" for place, reason in self._first]
        if self.total > len(rows):
            rows.append(f"and {self.total - len(rows)} more ({self.total} in all)")
        return tuple(rows)

    def _error(self, at_least: str = "") -> DataError:
        by_reason: dict[tuple[str, str], list[Place]] = {}
        for place, reason in self._first[:IN_ERROR]:
            by_reason.setdefault((place.file, reason), []).append(place)
        parts = []
        last = ""
        for (file, reason), places in by_reason.items():
            parts.append(f"{'' if file == last else f'{file}, '}{_numbers(places)}: {reason}")
            last = file
        if self.total > IN_ERROR:
            parts.append(f"and {at_least}{self.total - IN_ERROR} more")
        return DataError(f"{'; '.join(parts)} (--skip-bad leaves such rows out and lists them)")


def parsed(
    rows: Iterable[tuple[Place, Raw]], parse: Callable[[Raw], Item], problems: Problems
) -> Iterator[tuple[Place, Item]]:
    """Yield the rows that `parse` can read, and note the others."""
    for place, row in rows:
        try:
            item = parse(row)
        except BadRow as bad:
            problems.add(place, bad)
        else:
            yield place, item


def streamed(
    read: Callable[[Problems], Iterable[tuple[Place, Item]]], *, skip_bad: bool, empty: str
) -> Iterator[Item]:
    """Yield the items of `read`, for a strict reader up to the first bad row; then check.

    Raises:
        DataError: a strict reader met a bad row; or there was no item, with the message `empty`.
    """
    problems, count = Problems(skip=skip_bad), 0
    for _, item in read(problems):
        if not problems.fatal:
            count += 1
            yield item
    problems.check()
    problems.warn()
    for line in problems.listed():
        logger.warning("left out: %s", line)
    if not count:
        raise DataError(f"{empty} ({problems.total} bad rows)")


def shown(value: object) -> str:
    """Return a value for an error message: on one line, truncated to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed_names(names: Iterable[str]) -> str:
    """Return the names of columns or keys for an error message: on one line, the first dozen."""
    first = [name if name.isprintable() and len(name) <= 60 else shown(name) for name in names]
    more = f" and {len(first) - 12} more" if len(first) > 12 else ""
    return f"found: {', '.join(first[:12]) or 'none'}{more}"


def _numbers(places: list[Place]) -> str:
    plural = "s" if len(places) > 1 else ""
    return f"{places[0].unit}{plural} {', '.join(str(place.number) for place in places)}"
