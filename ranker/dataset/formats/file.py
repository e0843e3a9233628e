"""One file: judged rows as CSV, TSV, JSON lines or parquet, or a bare corpus."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.dataset.collection import DatasetBuilder
from ranker.dataset.fields import Judgement, judgement_of
from ranker.dataset.formats.parts import TREC, read_documents
from ranker.dataset.formats.source import Source
from ranker.dataset.formats.tables import open_table
from ranker.dataset.problems import Place, Problems, gather, parsed
from ranker.errors import DataError
from ranker.records import Document

__all__ = ["CorpusFile"]


@dataclass(frozen=True)
class CorpusFile(Source):
    """One file: judged rows (CSV, TSV, JSON lines, parquet), or a bare corpus."""

    path: Path | str
    format: str

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return Path(Path(self.path).name.removesuffix(".gz")).stem

    def splits(self) -> tuple[str, ...]:
        """None: a file is one split."""
        return ()

    def files(self, split: str | None) -> list[Path]:
        """The file."""
        return [Path(self.path)]

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """The documents of the file; of judged rows, each once."""
        return read_documents(self.path, self.format, problems)

    def fill(self, ledger: DatasetBuilder, *, split: str | None, problems: Problems) -> None:
        """Enter the judged rows."""
        gather(self.judgements(problems), ledger.add_judgement, problems)

    def judgements(self, problems: Problems) -> Iterator[tuple[Place, Judgement]]:
        """The judged rows as a stream.

        Raises:
            DataError: the file holds no judgements, or cannot be read.
        """
        if self.format == TREC:
            raise DataError(
                f"{self.path}: a file of TREC documents has no judgements; name the folder that "
                "holds topics, qrels and documents"
            )
        table = open_table(self.path, format=self.format, problems=problems)
        table.require(("query",), ("title", "text"), ("label",))
        return parsed(table.rows, judgement_of, problems)
