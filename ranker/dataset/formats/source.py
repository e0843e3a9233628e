"""The shape that every form of judged data has: splits, a stream of documents, a way in."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from ranker.dataset.collection import DatasetBuilder
from ranker.dataset.formats.parts import read_qrels
from ranker.dataset.problems import Place, Problems, gather
from ranker.errors import DataError
from ranker.records import Document, Qrel, Query

__all__ = ["Parts", "Source", "by_split", "files_of_split", "qrels_of"]


class Source(ABC):
    """Judged data of one form at one place."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for reports."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The names of the splits; none where the form has no splits."""

    def files(self, split: str | None) -> list[Path]:
        """The files that `fill` reads; none where they are a library's."""
        return []

    @abstractmethod
    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """The corpus as a stream."""

    @abstractmethod
    def fill(self, ledger: DatasetBuilder, *, split: str | None, problems: Problems) -> None:
        """Enter everything into the ledger; `split` is one of `splits()` or None for all.

        Raises:
            DataError: a file cannot be used, or a strict reader met a bad row.
        """


class Parts(Source):
    """A form that keeps documents, queries and judgements apart."""

    @abstractmethod
    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """All queries."""

    @abstractmethod
    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """The judgements of a split, or of all."""

    def fill(self, ledger: DatasetBuilder, *, split: str | None, problems: Problems) -> None:
        """Documents first, then queries, then the judgements that name them."""
        gather(self.documents(problems), ledger.add_document, problems)
        gather(self.queries(problems), ledger.add_query, problems)
        gather(self.qrels(split, problems), ledger.add_qrel, problems)


def qrels_of(
    files: dict[str, Path], split: str | None, problems: Problems
) -> Iterator[tuple[Place, Qrel]]:
    """The judgements of one split's file, or of all files."""
    for file in files_of_split(files, split):
        yield from read_qrels(file, problems)


def files_of_split(files: dict[str, Path], split: str | None) -> list[Path]:
    """One split's file with judgements, or all files."""
    return [files[name] for name in (sorted(files) if split is None else [split])]


def by_split(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files with judgements by the name of their split.

    Raises:
        DataError: two files have the same name.
    """
    files: dict[str, Path] = {}
    for name, file in sorted(named):
        if name in files:
            raise DataError(f"two files with judgements for {name}: {files[name]} and {file}")
        files[name] = file
    return files
