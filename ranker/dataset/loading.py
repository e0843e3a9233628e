"""From what a user names to a Dataset, or to a stream of documents."""

from collections.abc import Iterator
from pathlib import Path

from ranker.dataset import formats
from ranker.dataset.collection import Dataset, DatasetBuilder
from ranker.dataset.formats.lines import STDIN
from ranker.dataset.formats.source import Kind, Source
from ranker.dataset.problems import Problems, streamed
from ranker.errors import DataError, UsageError
from ranker.records import Document

__all__ = ["default_split", "judged_source", "load", "read_corpus", "split_names"]


def load(
    data: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Read judged data of any format into memory.

    Args:
        data: BEIR or TREC folder, CSV, TSV, JSON lines or parquet file with the columns
            `query,title,label` (and, where there are any, `text,query_id,doc_id` and a teacher's
            `teacher_score`), or an id of `ir_datasets`.
        format: one of `formats.format_names()`; None to detect it by path and content.
        split: one of `split_names(data)`; None for all together.
        skip_bad: leave bad rows out, log, count and list them, instead of raising an error.

    Raises:
        DataError: names file, line and reason of the bad rows, or what is missing.
        MissingExtra: an `ir_datasets` id without that library.
        UsageError: an unknown format.
    """
    source = judged_source(data, format=format, split=split)
    problems = Problems(skip=skip_bad)
    builder = DatasetBuilder()
    source.add_texts(builder, problems)
    source.add_judgements(builder, split=split, problems=problems)
    problems.warn()
    return builder.dataset(name=source.name, split=split, problems=problems)


def judged_source(
    data: str | Path, *, format: str | None = None, split: str | None = None
) -> Source:
    """Return what `load` reads from, without reading it; the arguments are those of `load`.

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
    """Read the documents of any format as a stream, in constant memory.

    The ids of judged rows are kept, to yield each document once; in a bare corpus a repeated id
    is not noticed (`load` does).

    Args:
        source: as for `load`, or a bare corpus: a file with an id (`_id`, `doc_id`, `docno`,
            `id`), a title and a text (`text`, `body`, `contents`, `abstract`) in each row, a
            file of TREC documents, or "-" for JSON lines from standard input.
        format: one of `formats.format_names()`; None to detect it by path and content.
        skip_bad: leave bad rows out and log them, instead of raising an error at the end of the
            file.

    Raises:
        DataError: as for `load`; documents before the first bad row were yielded.
        MissingExtra: an `ir_datasets` id without that library.
        UsageError: an unknown format.
    """
    corpus = _source(source, format, judged=False)
    empty = f"{corpus.name}: the corpus is empty"
    return streamed(corpus.documents, skip_bad=skip_bad, empty=empty)


def split_names(data: str | Path, *, format: str | None = None) -> tuple[str, ...]:
    """Return the names of the splits, none if the format has no splits.

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
    """Return the first source of `SOURCES` that can read the data."""
    if format is not None and format not in formats.format_names():
        known = ", ".join(formats.format_names())
        raise UsageError(f"format {format!r} is unknown; expected one of {known}")
    name = str(data)
    kind = _kind(name)
    sources = [source for source in formats.SOURCES if format in (None, *source.FORMATS)]
    # A path is looked up as an id only where the format says so.
    suited = [cls for cls in sources if cls.KIND == kind or (format and cls.KIND == "id")]
    if not suited and kind != "id":
        raise DataError(f"{name} is a {kind}; format {format} is a {sources[0].KIND}")
    refusals = []
    for source in suited:
        refusal = source.refusal(name, format=format, judged=judged)
        if refusal is None:
            return source.open(name, format=format)
        refusals.append(refusal)
    if kind == "id":
        raise DataError(f"{name}: no such file or folder{''.join(refusals)}")
    if kind == "file":
        raise DataError("; ".join(refusals))
    what = "judged data" if judged else "corpus"
    raise DataError(f"no {what} in {name}: {'; '.join(refusals)}; {_content(Path(name))}")


def _kind(name: str) -> Kind:
    path = Path(name)
    if path.is_dir():
        return "folder"
    return "file" if name == STDIN or path.exists() else "id"


def _content(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"it holds {', '.join(names[:8])}{more}"


def _no_split(data: str | Path, split: str, known: tuple[str, ...]) -> str:
    if known:
        return f"{data} has no split {split!r}; it has {', '.join(known)}"
    return f"{data} has no splits; leave the split {split!r} out"
