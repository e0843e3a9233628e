"""What every format of judged data is: a source that claims a path, lists splits and is read.

To add a format, write a `Source` in a module of its own and list it in `formats.SOURCES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

from ranker.dataset.collection import DatasetBuilder
from ranker.dataset.formats.parts import read_qrels
from ranker.dataset.problems import Place, Problems
from ranker.errors import DataError
from ranker.records import Document, Qrel, Query

__all__ = ["Kind", "Parts", "Source", "by_split", "files_of_split", "qrels_of"]

Kind = Literal["file", "folder", "id"]


class Source(ABC):
    """Judged data of one format at one place, read again each time it is asked for.

    Attributes:
        FORMATS: the names of the format, as `--format` takes them.
        KIND: what the format is stored in; an id names data that is not a path.
        LISTS_UNJUDGED: True if queries without a judgement are listed as well.
    """

    FORMATS: ClassVar[tuple[str, ...]]
    KIND: ClassVar[Kind]
    LISTS_UNJUDGED: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def refusal(cls, data: str, *, format: str | None, judged: bool) -> str | None:
        """Return why `data` cannot be read in this format, or None if it can.

        Args:
            data: what the user named; for a folder or a file, it exists.
            format: the format that the user named, one of `FORMATS`; None to detect it.
            judged: expect queries and judgements, not only a corpus.
        """

    @classmethod
    @abstractmethod
    def open(cls, data: str, *, format: str | None) -> "Source":
        """Return the source of data that is not refused."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the collection, for reports."""

    @abstractmethod
    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """Read the corpus as a stream."""

    @abstractmethod
    def add_judgements(
        self, builder: DatasetBuilder, *, split: str | None, problems: Problems
    ) -> None:
        """Add the judgements of one of `splits()`, or of all of them.

        Raises:
            DataError: a file cannot be used, or a strict reader met a bad row.
        """

    @abstractmethod
    def add_texts(self, builder: DatasetBuilder, problems: Problems) -> None:
        """Add the documents and queries that the format keeps apart from the judgements.

        Raises:
            DataError: a file cannot be used, or a strict reader met a bad row.
        """

    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """Read the queries that the format keeps apart from the judgements."""
        yield from ()

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, none if the format has no splits."""
        return ()

    def files(self, split: str | None) -> list[Path]:
        """Return the files that hold the texts and a split's judgements, none for a library's."""
        return []


class Parts(Source):
    """A format that keeps documents, queries and judgements apart."""

    LISTS_UNJUDGED = True

    @abstractmethod
    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """Read all queries."""

    @abstractmethod
    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """Read the judgements of a split, or all of them."""

    def add_texts(self, builder: DatasetBuilder, problems: Problems) -> None:
        """Add documents and queries, which judgements then name."""
        builder.gather(self.documents(problems), builder.add_document, problems)
        builder.gather(self.queries(problems), builder.add_query, problems)

    def add_judgements(
        self, builder: DatasetBuilder, *, split: str | None, problems: Problems
    ) -> None:
        """Add the rows of `qrels`."""
        builder.gather(self.qrels(split, problems), builder.add_qrel, problems)


def qrels_of(
    files: dict[str, Path], split: str | None, problems: Problems
) -> Iterator[tuple[Place, Qrel]]:
    """Read the judgements of one split's file, or of all files."""
    for file in files_of_split(files, split):
        yield from read_qrels(file, problems)


def files_of_split(files: dict[str, Path], split: str | None) -> list[Path]:
    """Return one split's file with judgements, or all files."""
    return [files[name] for name in (sorted(files) if split is None else [split])]


def by_split(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Return files with judgements by the name of their split.

    Raises:
        DataError: two files have the same name.
    """
    files: dict[str, Path] = {}
    for name, file in sorted(named):
        if name in files:
            raise DataError(f"two files with judgements for {name}: {files[name]} and {file}")
        files[name] = file
    return files
