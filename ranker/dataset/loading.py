"""From what a user names to a Dataset or a stream of documents."""

from collections.abc import Iterator
from pathlib import Path

from ranker.dataset.collection import Dataset, DatasetBuilder
from ranker.dataset.formats.beir import BeirFolder
from ranker.dataset.formats.file import CorpusFile
from ranker.dataset.formats.irds import IrDataset, looks_like_id
from ranker.dataset.formats.lines import STDIN
from ranker.dataset.formats.parts import file_format
from ranker.dataset.formats.source import Source
from ranker.dataset.formats.trec import TrecFolder
from ranker.dataset.problems import Problems, streamed
from ranker.errors import DataError, MissingExtra, UsageError
from ranker.records import Document

__all__ = ["FORMATS", "default_split", "judged_source", "load", "read_corpus", "split_names"]

FORMATS = ("beir", "csv", "ir_datasets", "jsonl", "parquet", "trec", "tsv")
_FOLDERS: dict[str, type[BeirFolder] | type[TrecFolder]] = {"beir": BeirFolder, "trec": TrecFolder}
_CATALOGUE = "ir_datasets:"


def load(
    data: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read judged data of any form into memory.

    Args:
        data: BEIR or TREC folder, CSV, TSV, JSON lines or parquet file with the columns
            `query,title,label` (and, where there are any, `text,query_id,doc_id` and a teacher's
            `teacher_score`), or an id of `ir_datasets`.
        format: one of FORMATS; None to tell by path and content.
        split: one of `split_names(data)`; None for all together.
        skip_bad: leave bad rows out, log, count and list them, instead of an error.

    Raises:
        DataError: names file, line and reason of the bad rows, or says what is missing.
        MissingExtra: an `ir_datasets` id without that library.
        UsageError: an unknown format.
    """
    source = judged_source(data, format=format, split=split)
    problems = Problems(skip=skip_bad)
    ledger = DatasetBuilder()
    source.fill(ledger, split=split, problems=problems)
    problems.warn()
    return ledger.dataset(name=source.name, split=split, problems=problems)


def judged_source(
    data: str | Path, *, format: str | None = None, split: str | None = None
) -> Source:
    """What `load` reads from, not read yet; the arguments are those of `load`.

    Raises:
        DataError: there is no judged data, or no such split.
        UsageError: an unknown format.
    """
    source = _source(data, format, judged=True)
    if split is not None and split not in source.splits():
        raise DataError(_no_split(data, split, source.splits()))
    return source


def read_corpus(
    source: str | Path, *, format: str | None = None, skip_bad: bool = False
) -> Iterator[Document]:
    """Read the documents of any form as a stream, in memory that does not grow.

    Of judged rows the ids are kept, to give each document once; in a bare corpus an id that
    comes twice is not noticed (`load` does).

    Args:
        source: as for `load`, or a bare corpus: a file with an id (`_id`, `doc_id`, `docno`,
            `id`), a title and a text (`text`, `body`, `contents`, `abstract`) in each row, a
            file of TREC documents, or "-" for JSON lines from standard input.
        format: one of FORMATS; None to tell by path and content.
        skip_bad: leave bad rows out and log them, instead of an error at the end of the file.

    Raises:
        DataError: as for `load`; documents before the first bad row were given.
        MissingExtra: an `ir_datasets` id without that library.
        UsageError: an unknown format.
    """
    corpus = _source(source, format, judged=False)
    empty = f"{corpus.name}: the corpus is empty"
    return streamed(corpus.documents, skip_bad=skip_bad, empty=empty)


def split_names(data: str | Path, *, format: str | None = None) -> tuple[str, ...]:
    """The names of the splits; none where the form has no splits.

    Raises:
        DataError: there is no judged data.
        UsageError: an unknown format.
    """
    return _source(data, format, judged=True).splits()


def default_split(data: str | Path, preferred: str, *, format: str | None = None) -> str | None:
    """Return the split to read where none is named: the preferred one, or None for all of them.

    Raises:
        DataError: there is no judged data.
    """
    return preferred if preferred in split_names(data, format=format) else None


def _source(data: str | Path, format: str | None, *, judged: bool) -> Source:
    if format is not None and format not in FORMATS:
        raise UsageError(f"format {format!r} is unknown; expected one of {', '.join(FORMATS)}")
    name, path = str(data), Path(data)
    if format == "ir_datasets" or name.startswith(_CATALOGUE):
        return IrDataset(name.removeprefix(_CATALOGUE))
    if path.is_dir():
        return _folder(path, format, judged=judged)
    if name != STDIN and not path.exists():
        return _absent(name)
    if judged and name == STDIN:
        raise DataError("judged data cannot be read from standard input; name a file or folder")
    if format == "beir":
        raise DataError(f"{path} is a file; format beir is a folder")
    return CorpusFile(STDIN if name == STDIN else path, format or file_format(data))


def _folder(path: Path, format: str | None, *, judged: bool) -> Source:
    if format is not None and format not in _FOLDERS:
        raise DataError(f"{path} is a folder; format {format} is a file")
    lacking = []
    for name, kind in _FOLDERS.items():
        if format in (None, name):
            folder = kind(path)
            missing = folder.missing(judged=judged)
            if not missing:
                return folder
            lacking.append(f"a {kind.LOOKED_FOR} lacks {', '.join(missing)}")
    what = "judged data" if judged else "corpus"
    raise DataError(f"no {what} in {path}: {'; '.join(lacking)}; {_holding(path)}")


def _holding(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"it holds {', '.join(names[:8])}{more}"


def _absent(name: str) -> Source:
    """The catalogue's dataset of that name, when there is no such path.

    Raises:
        DataError: there is none.
    """
    reason = ""
    if looks_like_id(name):
        try:
            if IrDataset(name).known():
                return IrDataset(name)
            reason = ", and no dataset of ir_datasets has that id"
        except MissingExtra as error:
            reason = f" (were it an id of ir_datasets: {error})"
    raise DataError(f"{name}: no such file or folder{reason}")


def _no_split(data: str | Path, split: str, known: tuple[str, ...]) -> str:
    if known:
        return f"{data} has no split {split!r}; it has {', '.join(known)}"
    return f"{data} has no splits; leave the split {split!r} out"
