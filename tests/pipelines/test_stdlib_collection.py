"""The judged "stdlib" collection: it builds, its judgements are sound, every name is real.

Run: `python -m pytest tests/pipelines/test_stdlib_collection.py`.
"""

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from mypy import api

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "pipelines" / "stdlib_corpus.py"
JUDGED = ROOT / "pipelines" / "stdlib"
SPLITS = ("train", "test")
# (Python, platform) whose library typeshed is asked about; one platform each saves time.
TARGETS = [("3.11", "linux"), ("3.12", "darwin"), ("3.13", "linux"), ("3.14", "darwin")]
# Real only in some of the targets: mypy must complain about each at least once.
CONTROLS = ["itertools.batched", "asyncio.FastChildWatcher", "copy.replace", "os.sched_getaffinity"]


def run_script(
    out: Path, *, judged: Path = JUDGED, seed: str = "0"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--judged", str(judged)]
    env = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def read_qrels() -> dict[str, list[tuple[str, str, int]]]:
    rows = {}
    for split in SPLITS:
        with open(JUDGED / "qrels" / f"{split}.tsv", encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines, delimiter="\t")
            assert next(reader) == ["query-id", "corpus-id", "score"]
            rows[split] = [(query, doc, int(score)) for query, doc, score in reader]
    return rows


def read_queries() -> list[dict[str, str]]:
    text = (JUDGED / "queries.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def judged_ids() -> set[str]:
    return {doc for rows in read_qrels().values() for _, doc, _ in rows}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stdlib_corpus", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stdlib") / "collection"
    result = run_script(out, seed="1")
    assert result.returncode == 0, result.stderr
    assert result.stderr == "" and result.stdout.count("\n") == 1
    return out


@pytest.fixture(scope="module")
def documents(built: Path) -> list[dict[str, str]]:
    lines = (built / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_corpus_is_of_the_expected_size_and_shape(documents: list[dict[str, str]]) -> None:
    assert 4_000 <= len(documents) <= 8_000
    assert all(set(document) == {"_id", "title", "text"} for document in documents)
    assert all(document["_id"] == document["title"] for document in documents)
    assert all(document["text"].strip() for document in documents)
    ids = [document["_id"] for document in documents]
    assert ids == sorted(set(ids))
    assert len({document["text"] for document in documents}) == len(documents)


def test_corpus_uses_the_names_a_programmer_writes(documents: list[dict[str, str]]) -> None:
    ids = {document["_id"] for document in documents}
    written = {"json.dumps", "pathlib.Path.read_text", "asyncio.wait_for", "os.path.join"}
    written |= {"builtins.sorted", "builtins.open", "builtins.OSError", "builtins.property"}
    written |= {"pathlib.PurePath.with_suffix", "asyncio.TaskGroup", "socket.socket.setsockopt"}
    assert written <= ids
    assert not ids & {"asyncio.tasks.wait_for", "builtins.IOError", "posixpath.join"}
    assert not any(part.startswith("_") for name in ids for part in name.split("."))


def test_two_runs_write_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert run_script(again, seed="2").returncode == 0
    names = ["corpus.jsonl", "qrels/test.tsv", "qrels/train.tsv", "queries.jsonl"]
    files = [path for path in again.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(again).as_posix() for path in files) == names
    assert all((again / name).read_bytes() == (built / name).read_bytes() for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_an_older_collection_is_replaced_whole(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "old"
    shutil.copytree(built, out)
    (out / "stale.txt").touch()
    assert run_script(out).returncode == 0
    assert not (out / "stale.txt").exists() and (out / "corpus.jsonl").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_every_judged_document_is_in_the_corpus(documents: list[dict[str, str]]) -> None:
    assert judged_ids() <= {document["_id"] for document in documents}


def test_queries_have_distinct_ids_and_texts() -> None:
    queries = read_queries()
    assert all(set(query) == {"_id", "text"} for query in queries)
    assert len({query["_id"] for query in queries}) == len(queries) >= 80
    assert len({query["text"].strip().lower() for query in queries}) == len(queries)


def test_every_query_is_judged_in_one_split_and_has_an_answer() -> None:
    rows = read_qrels()
    queries = {split: {query for query, _, _ in rows[split]} for split in SPLITS}
    assert not queries["train"] & queries["test"]
    assert queries["train"] | queries["test"] == {query["_id"] for query in read_queries()}
    answered = {query for split in SPLITS for query, _, score in rows[split] if score >= 2}
    assert answered == queries["train"] | queries["test"]
    assert 0.35 <= len(queries["test"]) / len(answered) <= 0.45


def test_judgements_are_graded_and_not_repeated() -> None:
    rows = [row for split in read_qrels().values() for row in split]
    assert {score for _, _, score in rows} == {0, 1, 2, 3}
    pairs = Counter((query, doc) for query, doc, _ in rows)
    assert max(pairs.values()) == 1
    assert min(Counter(query for query, _, _ in rows).values()) >= 10


def test_the_page_about_judging_gives_the_true_counts() -> None:
    rows = read_qrels()
    scores = Counter(score for split in SPLITS for _, _, score in rows[split])
    page = (ROOT / "docs" / "judging.md").read_text(encoding="utf-8")
    for split in SPLITS:
        queries = len({query for query, _, _ in rows[split]})
        by_grade = Counter(score for _, _, score in rows[split])
        cells = [split, queries, len(rows[split]), *(by_grade[grade] for grade in (3, 2, 1, 0))]
        assert "| " + " | ".join(map(str, cells)) + " |" in page
    cells = ["all", len(read_queries()), scores.total(), *(scores[grade] for grade in (3, 2, 1, 0))]
    assert "| " + " | ".join(map(str, cells)) + " |" in page


def reference_file(names: list[str], modules: set[str]) -> str:
    """Return a Python file whose line n, after the imports, is the n-th name as an expression."""
    prefixes = {name: module_of(name, modules) for name in names}
    imports = [f"import {module}" for module in sorted(set(prefixes.values()))]
    return "\n".join([*names, *imports]) + "\n"


def module_of(name: str, modules: set[str]) -> str:
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next(prefix for prefix in prefixes if prefix in modules)


def mypy_complaints(path: Path, python: str, platform: str) -> dict[int, str]:
    """Return line number -> error for a file, as the library of that Python and platform."""
    options = ["--python-version", python, "--platform", platform, "--config-file="]
    options += ["--cache-dir", str(path.parent / "cache"), "--no-error-summary"]
    out, err, _ = api.run([str(path), *options])
    assert err == ""
    found = re.findall(rf"^.*{re.escape(path.name)}:(\d+): error: (.*)$", out, re.MULTILINE)
    assert len(found) == out.count(": error: "), out
    return {int(line): message for line, message in found}


def test_every_judged_object_exists_in_python_3_11_to_3_14(tmp_path: Path) -> None:
    modules = set(load_script().module_names())
    names = [*CONTROLS, *sorted(judged_ids())]
    path = tmp_path / "names.py"
    path.write_text(reference_file(names, modules), encoding="utf-8")
    missing: dict[str, str] = {}
    for python, platform in TARGETS:
        for line, message in mypy_complaints(path, python, platform).items():
            name = names[line - 1] if line <= len(names) else f"import on line {line}"
            missing[name] = f"{python} {platform}: {message}"
    assert sorted(missing) == sorted(CONTROLS), missing


def copy_with_row(folder: Path, row: str) -> Path:
    """Copy the judged part into `folder`, with one more row in qrels/train.tsv."""
    shutil.copytree(JUDGED, folder)
    with open(folder / "qrels" / "train.tsv", "a", encoding="utf-8") as file:
        file.write(row)
    return folder


def test_a_judged_document_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    judged = copy_with_row(tmp_path / "judged", "q001\tpathlib.Path.levitate\t3\n")
    result = run_script(tmp_path / "out", judged=judged)
    assert result.returncode == 1
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert "1 of " in result.stderr and "pathlib.Path.levitate" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["judged"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("precious", encoding="utf-8")
    result = run_script(out)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "choose another --out" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter1.txt"]


def test_judgements_that_cannot_be_read_are_one_clear_error(tmp_path: Path) -> None:
    result = run_script(tmp_path / "out", judged=tmp_path / "nowhere")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "nowhere" in result.stderr
    assert list(tmp_path.iterdir()) == []
