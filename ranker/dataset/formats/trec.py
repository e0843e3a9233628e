"""The TREC folder: topics, qrels and documents, known by the words in their names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.dataset.formats.lines import reading
from ranker.dataset.formats.parts import file_format, read_documents, read_queries
from ranker.dataset.formats.source import Parts, by_split, files_of_split, qrels_of
from ranker.dataset.problems import Place, Problems
from ranker.records import Document, Qrel, Query

__all__ = ["TrecFolder"]

_TOPICS = (("topics", "topic"), ("queries",), ("query",))
_QRELS = (("qrels", "qrel"),)
_DOCUMENTS = (("docs", "documents"), ("corpus", "collection"), ("doc", "document"))
_EXTENSIONS = {"gz", "qrel", "qrels", "trec", "tsv", "txt"}


@dataclass(frozen=True)
class TrecFolder(Parts):
    """Topics, qrels and documents, found by the words in their names.

    `topics*` (or queries), `qrels*` (one per split, also in a folder `qrels`), and `docs*`,
    `documents*`, `corpus*` or `collection*` (one file, or a folder of files).
    """

    path: Path

    LOOKED_FOR = "TREC folder (files named topics*, qrels*, docs*)"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def missing(self, *, judged: bool) -> list[str]:
        """Files that a judged collection, or a bare corpus, would need."""
        found = self._found(_DOCUMENTS)
        lacking = [] if len(found) == 1 else [_one_of("documents", found)]
        if judged and not self._found(_TOPICS):
            lacking.append("topics")
        if judged and not self._qrels():
            lacking.append("qrels")
        return lacking

    def splits(self) -> tuple[str, ...]:
        """What the names of the qrels files say beside "qrels"; none for a single file."""
        qrels = self._qrels()
        return tuple(sorted(qrels)) if len(qrels) > 1 else ()

    def files(self, split: str | None) -> list[Path]:
        """Documents, topics, and the judgements of the split."""
        documents = _files_below(self._found(_DOCUMENTS)[0])
        return [*documents, *self._found(_TOPICS), *files_of_split(self._qrels(), split)]

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """The documents of the one file, or of all files of the folder in order of name."""
        for file in _files_below(self._found(_DOCUMENTS)[0]):
            yield from read_documents(file, file_format(file), problems)

    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """The topics of all topics files."""
        for file in self._found(_TOPICS):
            yield from read_queries(file, problems)

    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """The rows of one qrels file, or of all."""
        return qrels_of(self._qrels(), split, problems)

    def _found(self, groups: tuple[tuple[str, ...], ...]) -> list[Path]:
        """What is called by a word of the first group that occurs."""
        for words in groups:
            named = [path for path in _visible(self.path) if set(words) & set(_words(path))]
            if named:
                return named
        return []

    def _qrels(self) -> dict[str, Path]:
        files = [file for path in self._found(_QRELS) for file in _files_below(path)]
        return by_split((_split_name(file), file) for file in files)


def _split_name(file: Path) -> str:
    words = [word for word in _words(file) if word not in _EXTENSIONS]
    return "-".join(words) or "qrels"


def _words(path: Path) -> list[str]:
    return re.split(r"[._-]+", path.name.lower())


def _visible(folder: Path) -> list[Path]:
    with reading(str(folder)):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files_below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for inner in _visible(path) for file in _files_below(inner)]


def _one_of(what: str, found: list[Path]) -> str:
    if not found:
        return what
    return f"one place for {what} instead of {', '.join(path.name for path in found)}"
