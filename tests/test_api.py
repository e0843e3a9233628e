"""The Python front door: the whole way in a few calls, and what importing it costs."""

import subprocess
import sys
from pathlib import Path

import pytest
from engine_support import free_port
from small_data import write_csv

import ranker
from ranker.errors import DataError, UsageError

SMALL = {"epochs": 1, "negatives": 3, "held_out": 0.3, "precision": "fp32"}


def test_the_whole_way(tiny_bert: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "judged.csv")
    checkpoint = ranker.train(data, tmp_path / "checkpoint", base=str(tiny_bert), **SMALL)
    bundle = ranker.export(checkpoint, tmp_path / "bundle")
    package = ranker.package(bundle, str(tmp_path / "app"))
    assert all(len(repr(made)) < 700 for made in (checkpoint, bundle, package, ranker.load(data)))
    with ranker.deploy(package, data=tmp_path / "db", port=free_port()) as deployment:
        with ranker.Client(deployment.url) as client:
            assert ranker.feed(data, client).ok == len(ranker.load(data).documents)
            assert client.search("red fox", profile="cross").hits
            evaluation = ranker.evaluate(data, client, tmp_path / "evaluation")
        page = ranker.report([evaluation, checkpoint, bundle], tmp_path / "report.html")
        process = deployment.process
    assert process is not None and process.poll() is not None, "it ends with the block"
    assert evaluation.profiles == ["bm25", "cross", "blend"]
    assert "cross" in page.read_text(encoding="utf-8")
    assert checkpoint.training["source"]["data"] == str(data)


def test_data_may_be_loaded_already(tiny_bert: Path, tmp_path: Path) -> None:
    data = ranker.load(write_csv(tmp_path / "judged.csv"))
    checkpoint = ranker.train(data, tmp_path / "checkpoint", base=str(tiny_bert), **SMALL)
    assert checkpoint.training["source"] is None
    assert checkpoint.training["data"]["sha256"] == data.sha256


def test_an_unknown_option_is_named_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option epoch; it has: .*epochs"):
        ranker.train(write_csv(tmp_path / "judged.csv"), tmp_path / "checkpoint", epoch=3)
    assert not (tmp_path / "checkpoint").exists()


def test_missing_data_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        ranker.load(tmp_path / "nothing")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("first", ["import ranker.train.run", "from ranker import train"])
def test_a_function_and_a_folder_share_a_name(first: str) -> None:
    code = f"{first}\nimport ranker\nfrom ranker.train import run\nprint(type(ranker.train), run)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<class 'function'> <module 'ranker.train.run'")


def test_the_public_names_are_listed_and_documented() -> None:
    assert set(ranker.__all__) <= set(dir(ranker))
    for name in set(ranker.__all__) - {"__version__"}:
        assert getattr(ranker, name).__doc__, name


def test_importing_reads_none_of_the_folders() -> None:
    """A light import: no folder of the package, so none of the libraries that they need."""
    code = "import sys, ranker; print(*(m for m in sys.modules if m.startswith('ranker.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"ranker.errors", "ranker.records"}


def test_one_or_several_and_paths_for_strings(tiny_bert: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "judged.csv")
    ranker.train(data, tmp_path / "checkpoint", base=tiny_bert, **SMALL)
    page = ranker.report(tmp_path / "checkpoint", tmp_path / "report.html")
    assert page.read_text() == ranker.report([str(tmp_path / "checkpoint")], page).read_text()


def test_values_of_another_type_are_refused(tmp_path: Path) -> None:
    data, out = write_csv(tmp_path / "judged.csv"), tmp_path / "checkpoint"
    with pytest.raises(UsageError, match="epochs must be a whole number, got 1.5; cv must be a wh"):
        ranker.train(data, out, epochs=1.5, cv="2")
    with pytest.raises(UsageError, match="pretrain must be True or False, got 'no'"):
        ranker.train(data, out, pretrain="no")


def test_a_public_name_cannot_be_overwritten_in_silence() -> None:
    with pytest.raises(AttributeError, match="ranker.train is read-only; set ranker.api.train"):
        ranker.train = None  # type: ignore[assignment]
