"""The BEIR folder: corpus, queries, and one file of judgements per split."""

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

    LOOKED_FOR = "BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv)"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def missing(self, *, judged: bool) -> list[str]:
        """Files that a judged collection, or a bare corpus, would need."""
        files = ["corpus.jsonl", "queries.jsonl"] if judged else ["corpus.jsonl"]
        lacking = [file for file in files if _plain_or_gz(self.path / file) is None]
        return lacking if self.splits() or not judged else [*lacking, "qrels/*.tsv"]

    def splits(self) -> tuple[str, ...]:
        """The names of the files in `qrels`."""
        return tuple(sorted(self._qrels()))

    def files(self, split: str | None) -> list[Path]:
        """Corpus, queries, and the judgements of the split."""
        corpus, queries = self._file("corpus.jsonl"), self._file("queries.jsonl")
        return [corpus, queries, *files_of_split(self._qrels(), split)]

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """The rows of corpus.jsonl."""
        return read_documents(self._file("corpus.jsonl"), "jsonl", problems)

    def queries(self, problems: Problems) -> Iterator[tuple[Place, Query]]:
        """The rows of queries.jsonl."""
        return read_queries(self._file("queries.jsonl"), problems)

    def qrels(self, split: str | None, problems: Problems) -> Iterator[tuple[Place, Qrel]]:
        """The rows of one file in `qrels`, or of all."""
        return qrels_of(self._qrels(), split, problems)

    def _file(self, name: str) -> Path:
        return _plain_or_gz(self.path / name) or self.path / name

    def _qrels(self) -> dict[str, Path]:
        files = [*self.path.glob("qrels/*.tsv"), *self.path.glob("qrels/*.tsv.gz")]
        return by_split((re.sub(r"\.tsv(\.gz)?$", "", file.name), file) for file in files)


def _plain_or_gz(path: Path) -> Path | None:
    packed = path.with_name(f"{path.name}.gz")
    return next((file for file in (path, packed) if file.is_file()), None)
