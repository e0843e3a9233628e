"""The formats of judged data, a module each.

`SOURCES` is the one list of them: detection tries them in this order, and `--format`, its help,
`load`, `read_corpus` and the linter know no others.
"""

from ranker.dataset.formats.beir import BeirFolder
from ranker.dataset.formats.file import CorpusFile
from ranker.dataset.formats.irds import IrDataset
from ranker.dataset.formats.source import Source
from ranker.dataset.formats.trec import TrecFolder

__all__ = ["SOURCES", "format_names"]

SOURCES: tuple[type[Source], ...] = (BeirFolder, TrecFolder, CorpusFile, IrDataset)


def format_names() -> tuple[str, ...]:
    """Return the name of every format, sorted."""
    return tuple(sorted({name for source in SOURCES for name in source.FORMATS}))
