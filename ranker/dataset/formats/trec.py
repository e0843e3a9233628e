"""The TREC folder: topics, qrels and documents, recognized by the words in their names."""

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

    FORMATS = ("trec",)
    KIND = "folder"

    @classmethod
    def refusal(cls, data: str, *, format: str | None, judged: bool) -> str | None:
        """Return which files a judged collection, or a bare corpus, would need."""
        folder = cls(Path(data))
        documents = folder._named(_DOCUMENTS)
        missing = []
        if len(documents) > 1:
            names = ", ".join(path.name for path in documents)
            missing.append(f"one place for documents instead of {names}")
        elif not documents:
            missing.append("documents")
        if judged and not folder._named(_TOPICS):
            missing.append("topics")
        if judged and not folder._qrels():
            missing.append("qrels")
        looked_for = "a TREC folder (files named topics*, qrels*, docs*)"
        return f"{looked_for} lacks {', '.join(missing)}" if missing else None

    @classmethod
    def open(cls, data: str, *, format: str | None) -> "TrecFolder":
        """Return the folder as a source."""
        return cls(Path(data))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def splits(self) -> tuple[str, ...]:
        """Return what the names of the qrels files say after "qrels", nothing for a single file."""
        qrels = self._qrels()
        return tuple(sorted(qrels)) if len(qrels) > 1 else ()

    def files(self, split: str | None) -> list[Path]:
        """Return documents, topics, and the judgements of the split."""
        documents = _files_below(self._named(_DOCUMENTS)[0])
        return [*documents, *self._named(_TOPICS), *files_of_split(self._qrels(), split)]

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """Read the one file of documents, or all files of the folder in order of name."""
        for file in _files_below(self._named(_DOCUMENTS)[0]):
            yield from read_documents(file, file_format(file), problems)

    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """Read all topics files."""
        for file in self._named(_TOPICS):
            yield from read_queries(file, problems)

    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """Read one qrels file, or all of them."""
        return qrels_of(self._qrels(), split, problems)

    def _named(self, groups: tuple[tuple[str, ...], ...]) -> list[Path]:
        """Return the paths that are named by a word of the first group that occurs."""
        for words in groups:
            named = [path for path in _visible(self.path) if set(words) & set(_words(path))]
            if named:
                return named
        return []

    def _qrels(self) -> dict[str, Path]:
        files = [file for path in self._named(_QRELS) for file in _files_below(path)]
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
