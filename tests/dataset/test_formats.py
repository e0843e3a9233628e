"""Every format of judged data is one source in one tuple: a new one is read, linted and listed."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ranker.cli import main
from ranker.dataset import formats, load, read_corpus, split_names
from ranker.dataset.formats import SOURCES, format_names
from ranker.dataset.formats.source import Parts
from ranker.dataset.problems import Place
from ranker.errors import DataError, UsageError
from ranker.lint import lint, read_collection
from ranker.records import Document, Qrel, Query

TOY = """\
d d1 red fox
d d2 blue dog
q q1 red
q q2 blue
r q1 d1 1
r q1 d2 0
r q2 d9 1
"""


@dataclass(frozen=True)
class ToyFile(Parts):
    """Lines of documents (d), queries (q) and judgements (r) in one file *.toy."""

    path: Path

    FORMATS = ("toy",)
    KIND = "file"

    @classmethod
    def refusal(cls, data, *, format, judged):
        return None if data.endswith(".toy") or format else "expected a file *.toy"

    @classmethod
    def open(cls, data, *, format):
        return cls(Path(data))

    @property
    def name(self):
        return self.path.stem

    def files(self, split):
        return [self.path]

    def documents(self, problems):
        for place, (doc_id, text) in self._lines("d"):
            yield place, Document(doc_id, "", text)

    def queries(self, problems):
        for place, (query_id, text) in self._lines("q"):
            yield place, Query(query_id, text)

    def qrels(self, split, problems):
        for place, (query_id, rest) in self._lines("r"):
            doc_id, grade = rest.split()
            yield place, Qrel(query_id, doc_id, int(grade))

    def _lines(self, sign):
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            if line.startswith(sign):
                yield Place(str(self.path), number), line[2:].split(" ", 1)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A file of a format that is added to the tuple, and to nothing else."""
    monkeypatch.setattr(formats, "SOURCES", (ToyFile, *SOURCES))
    path = tmp_path / "small.toy"
    path.write_text(TOY)
    return path


def test_a_new_format_is_loaded_and_streamed(toy) -> None:
    with pytest.raises(DataError, match="small.toy, line 7: document 'd9' is judged but not in"):
        load(toy)
    data = load(toy, skip_bad=True)
    assert (data.name, data.qrels) == ("small", {"q1": {"d1": 1, "d2": 0}})
    assert [document.doc_id for document in read_corpus(toy)] == ["d1", "d2"]
    assert split_names(toy) == ()
    other = toy.with_suffix(".other")
    other.write_text(TOY)
    assert load(other, format="toy", skip_bad=True).qrels == data.qrels
    with pytest.raises(DataError, match=r"expected a file \*.toy; cannot detect the format of"):
        load(other)


def test_a_new_format_is_linted_with_places(toy) -> None:
    report = lint(read_collection(toy))
    assert report.finding("missing-documents").examples[0].place == f"{toy}:7"
    assert report.finding("queries-without-judgements").examples[0].ids == ("q2",)
    assert report.data["judgements"] == 2


def test_a_new_format_is_listed_by_every_verb_and_every_error(toy, capsys, monkeypatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 300)  # so that no list is wrapped
    assert "toy" in format_names()
    for verb in ("lint", "train", "export", "evaluate", "feed"):
        assert main([verb, "--help"]) == 0
        shown = "".join(capsys.readouterr().out.split())
        assert "|".join(format_names()) in shown, verb
    with pytest.raises(UsageError, match="format 'none' is unknown; expected one of .* toy,"):
        load(toy, format="none")
    with pytest.raises(DataError, match="is a folder; format toy is a file"):
        load(toy.parent, format="toy")


def test_without_the_entry_there_is_no_such_format(tmp_path) -> None:
    assert "toy" not in format_names()
    (tmp_path / "small.toy").write_text(TOY)
    with pytest.raises(DataError, match="cannot detect the format"):
        load(tmp_path / "small.toy")
