"""One file: judged rows as CSV, TSV, JSON lines or parquet, or a bare corpus."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranker.dataset.collection import DatasetBuilder
from ranker.dataset.fields import Judgement, judgement_of
from ranker.dataset.formats.lines import STDIN
from ranker.dataset.formats.parts import TREC, file_format, read_documents
from ranker.dataset.formats.source import Source
from ranker.dataset.formats.tables import open_table
from ranker.dataset.problems import Place, Problems, parsed
from ranker.errors import DataError
from ranker.records import Document

__all__ = ["CorpusFile"]


@dataclass(frozen=True)
class CorpusFile(Source):
    """One file or standard input: judged rows, which hold their texts, or a bare corpus."""

    path: Path | str
    format: str

    FORMATS = ("csv", "jsonl", "parquet", TREC, "tsv")
    KIND = "file"

    @classmethod
    def refusal(cls, data: str, *, format: str | None, judged: bool) -> str | None:
        """Return why a file is not judged data or a corpus, as far as its name and start tell."""
        if judged and data == STDIN:
            return "judged data cannot be read from standard input; name a file or folder"
        if format is None:
            try:
                file_format(data)
            except DataError as error:
                return str(error)
        return None

    @classmethod
    def open(cls, data: str, *, format: str | None) -> "CorpusFile":
        """Return the file as a source; its format is detected if none is given."""
        return cls(data if data == STDIN else Path(data), format or file_format(data))

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return Path(Path(self.path).name.removesuffix(".gz")).stem

    def files(self, split: str | None) -> list[Path]:
        """Return the file."""
        return [Path(self.path)]

    def documents(self, problems: Problems) -> Iterator[tuple[Place, Document]]:
        """Read the documents of the file; of judged rows, each document once."""
        return read_documents(self.path, self.format, problems)

    def add_texts(self, builder: DatasetBuilder, problems: Problems) -> None:
        """Add nothing: every judged row holds its own texts."""

    def add_judgements(
        self, builder: DatasetBuilder, *, split: str | None, problems: Problems
    ) -> None:
        """Add the judged rows with their documents and queries.

        Raises:
            DataError: the file holds no judgements or cannot be read, or a strict reader met a
                bad row.
        """
        if self.format == TREC:
            raise DataError(
                f"{self.path}: a file of TREC documents has no judgements; name the folder that "
                "holds topics, qrels and documents"
            )
        table = open_table(self.path, format=self.format, problems=problems)
        table.require(("query",), ("title", "text"), ("label",))
        rows: Iterator[tuple[Place, Judgement]] = parsed(table.rows, judgement_of, problems)
        builder.gather(rows, builder.add_judgement, problems)
