"""The BEIR folder: corpus, queries, and one file of judgements for each split."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.dataset.formats.parts import read_documents, read_queries
from ranker.dataset.formats.source import Parts, by_split, files_of_split, qrels_of
from ranker.dataset.problems import Place, Problems
from ranker.records import Document, Qrel, Query

__all__ = ["BeirFolder"]


@dataclass(frozen=True)
class BeirFolder(Parts):
    """`corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`, each also with `.gz`."""

    path: Path

    FORMATS = ("beir",)
    KIND = "folder"

    @classmethod
    def refusal(cls, data: str, *, format: str | None, judged: bool) -> str | None:
        """Return which files a judged collection, or a bare corpus, would need."""
        folder = cls(Path(data))
        needed = ["corpus.jsonl", "queries.jsonl"] if judged else ["corpus.jsonl"]
        missing = [file for file in needed if _plain_or_gz(folder.path / file) is None]
        if judged and not folder.splits():
            missing.append("qrels/*.tsv")
        looked_for = "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv)"
        return f"{looked_for} lacks {', '.join(missing)}" if missing else None

    @classmethod
    def open(cls, data: str, *, format: str | None) -> "BeirFolder":
        """Return the folder as a source."""
        return cls(Path(data))

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def splits(self) -> tuple[str, ...]:
        """Return the names of the files in `qrels`."""
        return tuple(sorted(self._qrels()))

    def files(self, split: str | None) -> list[Path]:
        """Return corpus, queries, and the judgements of the split."""
        corpus, queries = self._file("corpus.jsonl"), self._file("queries.jsonl")
        return [corpus, queries, *files_of_split(self._qrels(), split)]

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """Read corpus.jsonl."""
        return read_documents(self._file("corpus.jsonl"), "jsonl", problems)

    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """Read queries.jsonl."""
        return read_queries(self._file("queries.jsonl"), problems)

    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """Read one file in `qrels`, or all of them."""
        return qrels_of(self._qrels(), split, problems)

    def _file(self, name: str) -> Path:
        return _plain_or_gz(self.path / name) or self.path / name

    def _qrels(self) -> dict[str, Path]:
        files = [*self.path.glob("qrels/*.tsv"), *self.path.glob("qrels/*.tsv.gz")]
        return by_split((re.sub(r"\.tsv(\.gz)?$", "", file.name), file) for file in files)


def _plain_or_gz(path: Path) -> Path | None:
    packed = path.with_name(f"{path.name}.gz")
    return next((file for file in (path, packed) if file.is_file()), None)
