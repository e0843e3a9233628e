"""The examples run as they are documented."""

import subprocess
import sys
from pathlib import Path

from engine_support import make_app, make_bundle, running_engine
from plugin_support import application, digest
from small_data import write_csv

import ranker

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: str, *arguments: object, folder: Path, typed: str = "") -> str:
    """Run an example in a folder and return what it prints."""
    command = [sys.executable, EXAMPLES / script, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, input=typed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tried_here() -> None:
    tried = Path(__file__).read_text(encoding="utf-8")
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert len(scripts) == 3 and all(f'"{name}"' in tried for name in scripts)


def test_rerank_a_list(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    typed = "a blue house\nthe red fox\n\na red tree\n"
    lines = run("rerank_list.py", "bundle", "red fox", folder=tmp_path, typed=typed).splitlines()
    assert len(lines) == 3 and lines[0].endswith("the red fox")


def test_evaluate_two_profiles(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "judged.csv")
    with running_engine(make_app(tmp_path / "app"), tmp_path / "db") as url:
        with ranker.Client(url) as client:
            ranker.feed(data, client)
        out = run("evaluate_profiles.py", data, url, "bm25", "blend", folder=tmp_path)
    assert out.count("nDCG@10") == 2 and "difference   " in out
    assert (tmp_path / "report.html").is_file()


def test_add_to_an_application(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    folder = application("shop", tmp_path)
    before = digest(folder)
    arguments = ("bundle", folder.name, "product", "title,description")
    script = "add_to_application.py"
    shown = run(script, *arguments, folder=tmp_path, typed="n\n")
    assert "+        field" in shown
    assert digest(folder) == before
    assert "product.sd" in run(script, *arguments, folder=tmp_path, typed="y\n")
    assert digest(folder) != before
